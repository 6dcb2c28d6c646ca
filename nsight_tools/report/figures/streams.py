"""Streams and host threads side by side: who runs, who waits, for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from nsight_tools import units
from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import CallKind, call_kinds
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.data import Shown, roles
from nsight_tools.report.figures.lanes import VISIBLE, Lane, draw
from nsight_tools.report.figures.style import Drawing, colour, legend, of_trace, plots, since, time_axis, tip
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nsight_tools.findings import Finding
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

LANES = 12
"""Streams that one figure shows: those that are busiest in its window."""
POOLED = (
    "Where a lane has more pieces than the figure has room for, its height is the share of the time that it is busy."
)


@of_trace
def streams(trace: Trace, finding: Finding | None = None) -> Drawing:
    """A lane for each stream in the worst window of `finding`: what runs, and where launched work waits for the others.

    Work waits from the return of its call to its start while its stream runs nothing and another one does.
    The window is two inferences' length around the worst place; without one, around a median inference.

    Raises NothingToShow where no GPU work was recorded.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.streams(open_trace("sample_traces/classifier_streams.capture"))
        >>> figure.savefig("streams.png")
    """
    shown = Shown.of(trace)
    if not len(shown.work):
        raise NothingToShow("no GPU work was recorded")
    lo, hi, what = _wide(shown, finding)
    here = shown.work[(shown.work.end > lo) & (shown.work.start < hi)]
    lanes, more = _of_streams(here, lo, hi)
    lanes.append(_idle(here, lo, hi))
    figure, (axes,) = plots([0.3 * len(lanes) + 0.15])
    waiting = ("alarm", "launched, and waiting for another stream")
    pooled = draw(axes, lanes, lo, hi, [*_entries(here), waiting])
    axes.set_title(what)
    time_axis(axes, lo, hi, since(lo))
    waits = any(
        (np.minimum(end, hi) - np.maximum(start, lo)).max() > VISIBLE * (hi - lo)
        for lane in lanes
        for role, start, end, _ in lane.spans
        if role == "alarm"
    )
    legend(figure, [*_entries(here), *([waiting] if waits else [])])
    figure.note = " ".join(text for text in (more, POOLED if pooled else "") if text)
    return figure


def _wide(shown: Shown, finding: Finding | None) -> tuple[int, int, str]:
    lo, hi, what = shown.around(finding)
    if not len(shown.wall):
        return lo, hi, what
    first, last = shown.span
    room = (hi - lo) // 2
    return max(first, lo - room), min(last, hi + room), f"{what}, and as much around it"


def _of_streams(here: Work, lo: int, hi: int) -> tuple[list[Lane], str]:
    """A lane for each of the busiest streams, with its waits; and a word on those left out."""
    which = np.unique(joint_key(here.pid, here.stream), return_inverse=True)[1]
    which = np.unique(joint_key(here.device, which), return_inverse=True)[1]
    first = np.unique(which, return_index=True)[1]
    distinct = list(zip(here.device[first].tolist(), here.stream[first].tolist(), strict=True))
    busy = np.bincount(which, here.end - here.start)
    kept = np.sort(np.argsort(-busy, kind="stable")[:LANES])
    several = len(np.unique(here.device)) > 1
    lanes = []
    for number in kept.tolist():
        mine, others = here[which == number], here[(which != number) & (here.device == distinct[number][0])]
        label = f"stream {distinct[number][1]}" + (f", GPU {distinct[number][0]}" if several else "")
        own = Intervals.union(mine.start, mine.end)
        known = mine.call_end > 0
        waits = Intervals.union(mine.call_end[known], mine.start[known]).subtract(own)
        waits = waits.intersection(Intervals.union(others.start, others.end)).clip(lo, hi)
        lane = Lane(label).add("alarm", waits.start, waits.end, 0.3)
        for role, chosen in roles(mine):
            lane.add(role, mine.start[chosen], mine.end[chosen])
        lanes.append(lane)
    left = len(distinct) - len(kept)
    return lanes, f"The {LANES} busiest of {len(distinct)} streams in this window." if left > 0 else ""


def _idle(here: Work, lo: int, hi: int) -> Lane:
    idle = Intervals.union(here.start, here.end).complement(lo, hi)
    return Lane("no traced work", height=0.3).add("unknown", idle.start, idle.end)


def _entries(here: Work) -> list[tuple[str, str]]:
    labels = {
        "compute": "kernels",
        "communication": "communication",
        "h2d": "copy to GPU",
        "d2h": "copy to host",
        "copy": "other copies, sets",
    }
    return [(role, labels[role]) for role, chosen in roles(here) if chosen.any()]


_CALLS = (
    ("launch", "launch calls", (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH)),
    ("copy", "copy calls", (CallKind.COPY,)),
    ("sync", "synchronizations", (CallKind.SYNC,)),
    ("host", "other CUDA calls", (CallKind.OTHER,)),
)


@of_trace
def launches(trace: Trace, finding: Finding | None = None) -> Drawing:
    """Host against GPU in one inference: API calls of its thread, the GPU's work, and how much work is queued.

    The queue counts pieces of work whose call has returned and that have not started: where it is at 0 or 1, the GPU
    runs out of work and waits for the host. The inference is that of the worst place that `finding` points to.

    Raises NothingToShow where neither GPU work nor API calls were recorded.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.launches(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("launches.png")
    """
    shown = Shown.of(trace)
    lo, hi, what = shown.around(finding)
    work = shown.work[(shown.work.end > lo) & (shown.work.start < hi)]
    lanes = [*_of_threads(trace, work, lo, hi)]
    if not lanes and not len(work):
        raise NothingToShow("neither API calls nor GPU work were recorded")
    gpu = Lane("GPU")
    for role, chosen in roles(work):
        gpu.add(role, work.start[chosen], work.end[chosen])
    lanes += [gpu, _idle(work, lo, hi)] if len(work) else []
    queued = len(work) and (work.call_end > 0).any()
    figure, axes = plots([0.34 * len(lanes) + 0.15, *([0.85] if queued else [])])
    calls = [(role, label) for role, label, _ in _CALLS if any(role == s[0] for lane in lanes[:-2] for s in lane.spans)]
    entries = [*calls, *(entry for entry in _entries(work) if entry[0] not in {r for r, _ in calls})]
    pooled = draw(axes[0], lanes, lo, hi, entries)
    axes[0].set_title(what)
    if queued:
        _queue(axes[1], work, lo, hi)
    time_axis(axes[-1], lo, hi, since(lo))
    legend(figure, entries)
    figure.note = POOLED if pooled else ""
    return figure


def _of_threads(trace: Trace, work: Work, lo: int, hi: int) -> list[Lane]:
    """A lane of API calls for each thread that launched this work, the busiest four."""
    table = trace.table("api_calls", ["start_ns", "end_ns", "tid", "does"])
    start, end = ints(table["start_ns"]), ints(table["end_ns"])
    inside = np.flatnonzero((end > lo) & (start < hi))
    start, end, tid = start[inside], end[inside], ints(table["tid"])[inside]
    does = words(table["does"])
    kind = np.append(call_kinds(does.dictionary), CallKind.OTHER)[does.codes[inside]]
    ours = np.isin(tid, np.unique(work.tid)) if len(work) else np.ones(len(tid), np.bool_)
    lanes = []
    threads, count = np.unique(tid[ours], return_counts=True)
    for thread in threads[np.argsort(-count, kind="stable")][:4].tolist():
        mine = tid == thread
        lane = Lane("host thread" if len(threads) == 1 else f"host thread {thread}")
        for role, _, kinds in _CALLS:
            chosen = mine & np.isin(kind, kinds)
            lane.add(role, start[chosen], end[chosen])
        lanes.append(lane)
    return lanes


def _queue(axes: Axes, work: Work, lo: int, hi: int) -> None:
    known = work.call_end > 0
    submitted, started = work.call_end[known], work.start[known]
    waits = started > submitted
    time = np.concatenate([submitted[waits], started[waits]])
    order = np.argsort(time, kind="stable")
    depth = np.cumsum(np.where(order < waits.sum(), 1, -1))
    time = time[order]
    edges = np.concatenate([[lo], np.clip(time, lo, hi), [hi]])
    values = np.concatenate([[0], depth])
    if len(values) > 4000:  # the most in each column
        column = np.minimum((edges[:-1] - lo) * 1400 // max(hi - lo, 1), 1399)
        first = np.flatnonzero(np.append(True, column[1:] != column[:-1]))
        values, edges = np.maximum.reduceat(values, first), np.append(edges[:-1][first], hi)
    depth_of = axes.stairs(values, edges, fill=True, color=colour("launch"), alpha=0.75, linewidth=0)
    axes.set_ylim(0, max(4.0, 1.1 * float(values.max(initial=0))))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel("queued")
    axes.grid(axis="y")
    median = float(np.median((started - submitted)[waits])) if waits.any() else 0.0
    axes.set_title(f"Work launched and not started; it waits for {units.duration(median)} (median)")
    tip(depth_of, f"at most {int(values.max(initial=0)):,} pieces are launched and not started")
