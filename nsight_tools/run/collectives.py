"""Communication between GPUs: how long it takes each of them, what of it nothing hides, and what is waiting for a peer.

A collective ends on all ranks at once, and a rank that comes early waits inside of its kernel, which looks like work.
So a collective takes from when its last rank has begun; where clocks of ranks cannot be compared, as in a report for
each, what its shortest kernel takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import words
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.columns import Ints
    from nsight_tools.run.gpus import Gpus
    from nsight_tools.run.recorded import Recorded
    from nsight_tools.timeline.intervals import IntArray

ALIKE = 0.9
"""Share of the requests of two ranks that have to hold as many collectives, for the ranks to be of one group."""


@dataclass(frozen=True)
class Rank:
    """What one process communicates on one GPU: its collectives in order of start, shape (n,), and sums of them.

    `request` is the place of each one's request among those that communicate, `place` its own place in that; without
    requests both count through. `time` and `exposed` are nanoseconds in which any runs, and in which no kernel of that
    GPU computes meanwhile, of the window; `other` is the time of its other kernels, and `kernels` that of each name.
    `requests` are how many are judged, and `each`, `each_exposed` and `each_other` the medians of one.
    """

    pid: int
    device: int
    start: Ints
    end: Ints
    request: IntArray
    place: IntArray
    requests: int
    time: int
    exposed: int
    other: int
    each: int
    each_exposed: int
    each_other: int
    kernels: Mapping[str, int]

    @property
    def duration(self) -> Ints:
        return self.end - self.start

    def key(self) -> Ints:
        """One number for each collective: its request, and its place in it."""
        return (self.request.astype(np.int64) << 32) + self.place


def ranks(run: Recorded, gpus: Gpus) -> tuple[Rank, ...]:
    """Every process and GPU that communicates, in order; none where nothing does."""
    work = run.work
    rows = np.flatnonzero(work.communicates & run.judged_work)
    ranks_of = []
    for pid, device in np.unique(np.stack([work.pid[rows], work.device[rows]]), axis=1).T.tolist() if rows.size else ():
        mine = rows[(work.pid[rows] == pid) & (work.device[rows] == device)]
        start, end, inference = work.start[mine], work.end[mine], work.inference[mine]
        # Among all that communicate there: ranks need not have as much warm-up, and may be threads of one process.
        all_of = work.inference[work.communicates & (work.pid == pid) & (work.device == device)]
        theirs = np.unique(all_of[all_of >= 0])
        theirs = theirs[run.requests.counted[theirs]]
        request = np.searchsorted(theirs, inference) if run.count else np.zeros(mine.size, np.int64)
        first = np.searchsorted(request, request, side="left") if np.all(np.diff(request) >= 0) else None
        if first is None:  # requests that overlap: in their order
            order = np.argsort(request, kind="stable")
            start, end, request = start[order], end[order], request[order]
            first = np.searchsorted(request, request, side="left")
        window = gpus.window(device)
        line = Intervals.union(start, end).intersection(window)
        computing = gpus.computing(device).intersection(window)
        exposed = line.subtract(computing)
        judged = theirs[run.requests.judged[theirs]]
        spans = run.requests.start[judged], run.requests.end[judged]
        sums = (spans_of.coverage(*spans) for spans_of in (line, exposed, computing))
        each, each_exposed, each_other = (round(float(np.median(times))) if judged.size else 0 for times in sums)
        ranks_of.append(
            Rank(
                pid,
                device,
                start,
                end,
                request,
                np.arange(mine.size) - first,
                judged.size,
                line.total,
                exposed.total,
                computing.total,
                each,
                each_exposed,
                each_other,
                _by_name(run, pid, device),
            )
        )
    return tuple(ranks_of)


def _by_name(run: Recorded, pid: int, device: int) -> dict[str, int]:
    """What the judged kernels of each name take on a GPU, those that communicate left out; nanoseconds."""
    work = run.work
    rows = np.flatnonzero(work.kind.among("kernel") & run.judged_work & (work.pid == pid) & (work.device == device))
    name = words(run.trace.table("kernels", ["short_name"])["short_name"])
    codes = name.codes[work.row[rows]]
    sums = np.bincount(codes[codes >= 0], (work.end - work.start)[rows][codes >= 0], len(name.dictionary))
    return {name.dictionary[code]: int(sums[code]) for code in np.flatnonzero(sums).tolist()}


@dataclass(frozen=True)
class Waiting:
    """What of a rank's communication is waiting for a peer, nanoseconds over all its requests, and of one (median)."""

    total: int
    each: int
    transfer: int
    """What is left of the communication of one request, median."""


def waiting(group: Sequence[Rank], *, one_clock: bool) -> tuple[Waiting, ...] | None:
    """What each rank waits for its peers; None where their collectives cannot be matched.

    The i-th collective of the k-th request is the same one on all ranks. With `one_clock`, as in one report, a rank
    waits from its own start to the last one's; else what its kernel takes longer than the shortest.
    """
    if len(group) < 2:
        return None
    keys = [rank.key() for rank in group]
    common = keys[0]
    for other in keys[1:]:
        common = np.intersect1d(common, other)
    if common.size < ALIKE * max(key.size for key in keys):
        return None
    at = [np.searchsorted(key, common) for key in keys]
    start = np.stack([rank.start[rows] for rank, rows in zip(group, at, strict=True)])
    length = np.stack([rank.duration[rows] for rank, rows in zip(group, at, strict=True)])
    waited = start.max(axis=0) - start if one_clock else length - length.min(axis=0)
    waited = np.minimum(waited, length)
    request = common >> 32
    waits = []
    for waited_ns, mine in zip(waited, length, strict=True):
        sums, whole = np.bincount(request, waited_ns), np.bincount(request, mine)
        there = np.unique(request)
        waits.append(
            Waiting(
                int(waited_ns.sum()),
                round(float(np.median(sums[there]))),
                round(float(np.median((whole - sums)[there]))),
            )
        )
    return tuple(waits)
