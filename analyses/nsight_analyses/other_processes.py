"""Time in which somebody else's work has the GPU: this process' is submitted, and does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.metrics import Metrics
from nsight_tools.columns import ints
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.run import Run

LONG_NS = 500_000
"""Submitted work starts within 5 to 20 µs (hundreds for a large graph); GPUs are time-sliced in steps of 1 to 2 ms."""
FOREIGN = 50.0
"""Percent: a GPU that is active for more than half of a gap works for somebody else; an idle one shows a few."""


def gaps_with_work(run: Run, device: int, sampled: bool) -> Intervals:
    """Long times in which work for a GPU is submitted and nothing traced runs there.

    Where no metrics say who works there, nor on any other GPU: it may be what the work depends on.
    """
    work = run.work
    running = run.gpus.busy(device) if sampled else work.busy()
    # While nothing runs nothing starts either: a long idle stretch that work waits in has one that waits for all of it.
    long = (work.device == device) & (work.call_end >= 0) & (work.start - work.call_end > LONG_NS)
    rows = np.flatnonzero(long)
    waits = Intervals.union(work.call_end[rows], work.start[rows]).subtract(running)
    overhead = run.trace.table("profiler_overhead", ["start_ns", "end_ns"])
    waits = waits.subtract(Intervals.union(ints(overhead["start_ns"]), ints(overhead["end_ns"])))
    waits = waits.intersection(run.window)
    enough = waits.end - waits.start > LONG_NS
    return Intervals(waits.start[enough], waits.end[enough])


def taken_by_others(gaps: Intervals, metrics: Metrics, device: int) -> Intervals:
    """The gaps in which the GPU is active on average; those without a sample are not counted."""
    time, value = metrics.active(device)
    total = np.append(0, np.cumsum(value))
    first, last = np.searchsorted(time, gaps.start), np.searchsorted(time, gaps.end)
    busy = total[last] - total[first] > FOREIGN * np.maximum(last - first, 1)
    return Intervals(gaps.start[busy], gaps.end[busy])


def waiting_gaps(run: Run) -> Intervals:
    """Long times in which submitted work waits while somebody else has its GPU; none without GPU metrics."""
    metrics = Metrics.of(run.trace)
    found = [
        taken_by_others(gaps_with_work(run, gpu, sampled=True), metrics, gpu)
        for gpu in run.gpus.devices
        if metrics.sampled(gpu)
    ]
    return Intervals.any_of(found)
