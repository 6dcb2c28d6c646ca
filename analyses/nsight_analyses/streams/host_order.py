"""The order in which host threads launch: what they wait for between streams, and whether they take turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.run import Run
    from nsight_tools.run.work import Work

HANDOVER_NS = 20_000
"""A thread that waits for a lock goes on this soon after it is free: waking it takes some 5 to 10 µs."""
TURNS_SHARE = 0.05
"""Threads launch one at a time where less than this share of their launch phases is spent together."""
PHASES = 3
"""Fewer launch phases of a thread may alternate with another's by chance."""


@dataclass(frozen=True)
class HostWaits:
    """Synchronizations between launches for different streams: the time in which a stream runs, and their names."""

    time: Intervals
    calls: dict[str, int]


def host_waits(run: Run, work: Work) -> HostWaits:
    """Where a thread waits after it launched for one stream, before it launches for another."""
    calls = run.calls
    rows = np.flatnonzero(work.call_start >= 0)
    thread = joint_key(work.pid[rows], work.tid[rows])
    syncs = np.flatnonzero(calls.kind == CallKind.SYNC)
    waiter = joint_key(calls.pid[syncs], calls.tid[syncs])
    between = np.zeros(syncs.size, np.bool_)
    for key in np.unique(waiter):
        launched = rows[thread == key]
        launched = launched[np.argsort(work.call_start[launched], kind="stable")]
        waits = np.flatnonzero(waiter == key)
        after = np.searchsorted(work.call_start[launched], calls.start[syncs[waits]])
        inner = (after > 0) & (after < launched.size)
        at = after[inner]
        between[waits[inner]] = work.stream[launched[at - 1]] != work.stream[launched[at]]
    chosen = calls[syncs[between]]
    time = Intervals.union(chosen.start, chosen.end).intersection(work.busy())
    return HostWaits(time, chosen.name.counts())


@dataclass(frozen=True)
class Turns:
    """Threads that launch one after the other though each is ready."""

    threads: int
    overlap: float
    handovers: float
    held: Intervals
    """Time in which a thread is ready to launch and another's launch phase goes on."""
    to_gain: int


def launch_turns(run: Run, work: Work) -> Turns | None:
    """Whether threads take turns at launching; None where they do not, or it cannot be told.

    A launch phase is what lies between the first and the last launch call of an inference. The thread is ready between
    its phases, but for its synchronizations.
    """
    start, end, thread = _phases(work)
    threads, count = np.unique(thread, return_counts=True)
    if threads.size < 2 or count.min() < PHASES:
        return None
    total, union = int((end - start).sum()), Intervals.union(start, end).total
    overlap = (total - union) / max(union, 1)
    if overlap >= TURNS_SHARE:
        return None
    calls = run.calls
    caller = joint_key(calls.pid, calls.tid)
    handovers, held, longest = 0, [], 0
    for key in threads:
        mine, others = thread == key, thread != key
        waits = calls[(caller == key) & (calls.kind == CallKind.SYNC)]
        phases = Intervals.union(start[mine], end[mine])
        longest = max(longest, phases.total)
        ready = phases.gaps().subtract(Intervals.union(waits.start, waits.end))
        held.append(ready.intersection(Intervals.union(start[others], end[others])))
        freed = np.sort(end[others])
        since = freed[np.maximum(np.searchsorted(freed, start[mine], side="right") - 1, 0)]
        soon = (start[mine] >= since) & (start[mine] - since <= HANDOVER_NS)
        handovers += int((soon & held[-1].contains(since - 1)).sum())
    share = handovers / thread.size
    if share < 0.5:
        return None
    waited = Intervals.any_of(held)
    return Turns(threads.size, overlap, share, waited, union - longest)


def _phases(work: Work) -> tuple[Ints, Ints, Ints]:
    rows = np.flatnonzero(work.computes & (work.inference >= 0) & (work.call_start >= 0))
    place = work.inference[rows]
    size = int(place.max(initial=-1)) + 1
    start = np.full(size, np.iinfo(np.int64).max)
    end, thread = np.zeros(size, np.int64), np.full(size, -1)
    np.minimum.at(start, place, work.call_start[rows])
    np.maximum.at(end, place, work.call_end[rows])
    thread[place] = joint_key(work.pid[rows], work.tid[rows])
    launched = thread >= 0
    return start[launched], end[launched], thread[launched]
