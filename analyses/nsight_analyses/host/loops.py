"""The steady state of threads that make inferences: from the second to the end of the last, without pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run import Run
    from nsight_tools.run.calls import HostCalls

PAUSE = 10
"""A gap this many times longer than a thread's median inference and median gap together is a pause between runs."""


def ranges_of(run: Run) -> Iterator[tuple[tuple[int, int], Ints, Ints]]:
    """Start and end on the host of each thread's inferences, in order: ranges, or launches of graphs."""
    table = run.trace.table("inferences", ["range_start_ns", "range_end_ns", "pid", "tid"])
    start, end, pid, tid = (ints(table[name]) for name in table.column_names)
    for one in np.unique(np.stack([pid, tid])[:, tid >= 0], axis=1).T:
        rows = np.flatnonzero((pid == one[0]) & (tid == one[1]))
        order = rows[np.argsort(start[rows], kind="stable")]
        yield (int(one[0]), int(one[1])), start[order], np.maximum.accumulate(end[order])


def pauses_of(start: Ints, end: Ints) -> Bools:
    """Which of the gaps behind all inferences but the last are pauses between runs."""
    gap = np.maximum(start[1:] - end[:-1], 0)
    long: Bools = gap > PAUSE * (np.median(gap) + np.median(end - start))
    return long


def steady_loops(run: Run) -> dict[tuple[int, int], Intervals]:
    """For each thread (pid, tid) that makes inferences, its time from the second to the end of the last, no pauses."""
    loops = {}
    for thread, start, end in ranges_of(run):
        if len(start) < 2:
            continue
        pause = pauses_of(start, end)
        pauses = Intervals.union(end[:-1][pause], start[1:][pause])
        loops[thread] = Intervals.union([start[1]], [end[-1]]).subtract(pauses)
    return loops


def within(loops: dict[tuple[int, int], Intervals], calls: HostCalls) -> HostCalls:
    """Calls of threads in their steady state."""
    keep = np.zeros(len(calls.start), np.bool_)
    for (pid, tid), line in loops.items():
        keep |= (calls.pid == pid) & (calls.tid == tid) & line.contains(calls.start)
    return calls[keep]


def outermost(calls: HostCalls) -> HostCalls:
    """Calls that do not lie inside of another of these on their thread (cudaMalloc calls cuMemAlloc)."""
    keep = np.ones(len(calls.start), np.bool_)
    for pid, tid in np.unique(np.stack([calls.pid, calls.tid]), axis=1).T:
        rows = np.flatnonzero((calls.pid == pid) & (calls.tid == tid))
        reach = np.maximum.accumulate(calls.end[rows])
        keep[rows[1:]] = calls.start[rows[1:]] >= reach[:-1]
    return calls[keep]
