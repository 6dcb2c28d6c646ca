"""Which requests of a trace stand for all: steady ones of the population that most belong to, that follow each other.

What is steady and of one population the model of the run says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.run import Run

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace

MOST = 24
"""Requests that are looked at: of so many a median is known to a quarter of their spread, and a replay takes 15 ms."""
FEWEST = 5
"""Requests of which a median says something about a loop."""


@dataclass(frozen=True)
class Requests:
    """The requests of one population on one thread, in order: columns of shape (n,)."""

    number: Ints
    start: Ints
    end: Ints
    begin: Ints
    until: Ints
    """The range on the host, where `start` and `end` span the GPU's work as well."""
    pid: int
    tid: int
    threads: int
    """Threads that had requests of this population, of its process, on its GPU, or that communicate with others."""
    follows: Bools
    """Whether the request before it on its thread is of the population, too, and the program did not pause since."""
    period: float
    """From one completion to the next (`Flow.period_ns`); 0 of too few."""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def wall(self) -> float:
        """Median latency as traced, ns."""
        return float(np.median(self.end - self.start))

    def __getitem__(self, rows: slice) -> Requests:
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return replace(self, **columns, follows=self.follows[rows])


_COLUMNS = ("number", "start", "end", "begin", "until")


def requests_of(trace: Trace) -> Requests | None:
    """The judged requests of the thread that has most of them; None without any."""
    run = Run.of(trace)
    all_of = run.requests
    counted = all_of.judged & all_of.worked
    if not counted.any():
        return None
    threads, counts = np.unique(all_of.thread[counted], return_counts=True)
    thread = threads[np.argmax(counts)]
    (rows,) = np.nonzero(all_of.worked & (all_of.thread == thread))
    rows = rows[np.argsort(all_of.range_start[rows], kind="stable")]
    mine = all_of.judged[rows]
    follows = np.append(False, mine[:-1])
    rows, follows = rows[mine], follows[mine]
    pid, tid = int(all_of.pid[rows[0]]), int(all_of.tid[rows[0]])
    if (turns := run.flow.turns.get((pid, tid))) is not None:
        follows &= ~np.isin(rows, turns.rows[turns.paused])
    at_once = counted & ((all_of.pid == pid) | np.isin(all_of.device, all_of.device[rows]) | bool(run.ranks))
    return Requests(
        rows,
        all_of.start[rows],
        all_of.end[rows],
        all_of.range_start[rows],
        all_of.range_end[rows],
        pid,
        tid,
        len(np.unique(all_of.thread[at_once])),
        follows,
        float(run.flow.period_ns) if at_once.sum() >= FEWEST else 0.0,
    )


def sampled(requests: Requests, until: int) -> Requests:
    """The longest run of requests that follow each other and end before `until`, at most MOST from its middle."""
    breaks = np.flatnonzero(~requests.follows)
    edges = np.unique(np.concatenate([[0], breaks, [int(np.searchsorted(requests.until, until))]]))
    edges = edges[edges <= int(np.searchsorted(requests.until, until))]
    if len(edges) < 2:
        return requests[:0]
    longest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[longest]), int(edges[longest + 1])
    spare = max(last - first - MOST, 0) // 2
    return requests[first + spare : min(first + spare + MOST, last)]
