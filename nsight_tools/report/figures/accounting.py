"""Where the time of inferences goes: one inference as a bar, and all of them side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from nsight_tools import units
from nsight_tools.errors import NothingToShow
from nsight_tools.report.content import BUCKETS, tail
from nsight_tools.report.figures.data import Shown
from nsight_tools.report.figures.style import (
    Drawing,
    colour,
    duration_axis,
    legend,
    of_trace,
    plots,
    time_axis,
    tip,
)
from nsight_tools.worth import Pricing
from nsight_tools.worth.accounting import without_profiler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from nsight_tools.columns import Ints
    from nsight_tools.report.figures.data import Floats
    from nsight_tools.trace import Trace

ROLES = {
    "compute": "compute",
    "exposed_communication": "communication",
    "exposed_h2d": "h2d",
    "exposed_d2h": "d2h",
    "exposed_other_copy": "copy",
    "accelerator": "accelerator",
    "other_work": "other",
    "launch": "launch",
    "sync": "sync",
    "host": "host",
    "unattributed": "unknown",
}
"""The colour of each bucket."""
VISIBLE = 0.002
"""The share of an axis from which on a part can be seen, and is named."""
BARS = 400
"""Inferences that the strip shows one by one."""


@of_trace
def inference_accounting(trace: Trace) -> Drawing:
    """An inference near the median and the 99th-percentile one as stacked bars, from the buckets of `inferences`.

    They are two real inferences, so that the parts sum to the whole exactly; medians of the buckets would not.
    Where tracing lengthened the first, a bar between them is the same without the profiler (`worth`).

    Raises NothingToShow without inferences.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.inference_accounting(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("inference_accounting.png")
    """
    shown, buckets = Shown.of(trace), _buckets(trace)
    bars: list[Bar] = []
    last = tail(len(shown.by_wall))
    for label, row in (("near the median", shown.typical), (last, shown.p99)):
        assert row is not None, "there are inferences"
        parts = {bucket: float(times[row]) for bucket, times in buckets.items()}
        bars.append(Bar(f"{label}, no. {row}", parts, units.duration(shown.wall[row])))
        if label != last:
            bars += _untraced(trace, parts)
    figure, (axes,) = plots([0.42 * len(bars) + 0.05], title=False)
    longest = max(sum(bar.parts.values()) for bar in bars)
    time_axis(axes, 0, int(longest * 1.1), "of the inference, added up by kind: not in the order of time")
    for at, bar in enumerate(bars):
        draw_bar(axes, at, bar, longest)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars], color=colour("text"))
    axes.set_ylim(len(bars) - 0.5, -0.5)
    used = [bucket for bucket in BUCKETS if any(bar.parts[bucket] > VISIBLE * longest for bar in bars)]
    legend(figure, [(ROLES[bucket], SHORT[bucket]) for bucket in used])
    return figure


@dataclass(frozen=True)
class Bar:
    """A stacked bar: its label, nanoseconds by bucket, and what is written at its end."""

    label: str
    parts: Mapping[str, float]
    said: str


def _untraced(trace: Trace, parts: Mapping[str, float]) -> list[Bar]:
    """The same inference without the profiler; nothing where that makes no difference."""
    traced = {name: np.array([round(parts[name])]) for name in ("launch", "host", "sync")}
    cases = without_profiler(Pricing.of(trace), {**traced, "wall": np.array([round(sum(parts.values()))])})
    if not cases or cases[1].wall[0] > 0.99 * sum(parts.values()):
        return []
    host = {name: float(getattr(cases[1], name)[0]) for name in traced}
    return [Bar("without the profiler", {**parts, **host}, units.duration(cases[1].wall[0]))]


def draw_bar(axes: Axes, at: int, bar: Bar, longest: float) -> None:
    """The bar at this height of the axes; `longest` is the longest one that is drawn."""
    left, whole = 0.0, sum(bar.parts.values())
    for bucket, width in bar.parts.items():
        (drawn,) = axes.barh(at, width, 0.66, left, color=colour(ROLES[bucket]), linewidth=0)
        if width:
            tip(drawn, f"{BUCKETS[bucket]}: {units.duration(width)}, {units.share(width / whole)}")
        if width > 0.075 * longest:
            ink = colour("paper" if bucket in {"compute", "exposed_d2h", "other_work", "launch"} else "ink")
            axes.text(left + width / 2, at, units.duration(width), ha="center", va="center", color=ink, fontsize=8.5)
        left += width
    axes.text(left + 0.006 * longest, at, bar.said, va="center", fontweight="bold")


SHORT = {
    "compute": "compute",
    "exposed_communication": "communication",
    "exposed_h2d": "copy to GPU",
    "exposed_d2h": "copy to host",
    "exposed_other_copy": "other copy",
    "accelerator": "on the DLA",
    "other_work": "other work first",
    "launch": "no work: launch calls",
    "sync": "no work: host waiting",
    "host": "no work: between calls",
    "unattributed": "unattributed",
}
"""The buckets in the fewest words; without work for the GPU in those of the host."""


@of_trace
def inferences_over_time(trace: Trace) -> Drawing:
    """Every inference as a stacked bar, in order of start.

    With more than `BARS`, each bar is the slowest of so many neighbours, so that none that is slow is left out; the
    line is then the median of the same neighbours. Bars far beyond the others are cut and say their length.

    Raises NothingToShow without inferences.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.inferences_over_time(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("inferences_over_time.png")
    """
    shown, buckets = Shown.of(trace), _buckets(trace)
    wall = shown.wall
    group = -(-len(wall) // BARS)
    first = np.arange(0, len(wall), group)
    slowest = np.array([at + int(np.argmax(wall[at : at + group])) for at in first.tolist()], np.int64)
    figure, (axes,) = plots([1.7], title=False)
    top = _ceiling(wall[slowest])
    edges = np.append(first, len(wall)) - 0.5
    base: Floats = np.zeros(len(slowest))
    used = []
    for bucket in BUCKETS:
        time = buckets[bucket][slowest]
        if time.any():
            used += [bucket] if time.max() > VISIBLE * top else []
            axes.stairs(base + time, edges, baseline=base, fill=True, color=colour(ROLES[bucket]), linewidth=0)
            base = base + time
    duration_axis(axes, top, "time")
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    lo, hi = shown.span
    axes.set_xlabel(
        f"number of the inference, in order of start ({units.moment(lo)} to {units.moment(hi)} on the timeline)"
    )
    if group > 1:
        medians = np.array([np.median(wall[at : at + group]) for at in first.tolist()])
        axes.stairs(medians, edges, baseline=None, color=colour("text"), linewidth=0.8)
        figure.note = f"Each bar is the slowest of {group} inferences in a row; the line is their median."
    _cut(axes, wall[slowest], (edges[:-1] + edges[1:]) / 2, top)
    legend(figure, [(ROLES[bucket], SHORT[bucket]) for bucket in used])
    return figure


def _ceiling(wall: Ints) -> float:
    """The top of the axis: the slowest, unless it is so far off that nothing else could be read beside it."""
    slowest, most = float(wall.max()), 4 * float(np.quantile(wall, 0.9))
    return 1.06 * (min(slowest, most))


def _cut(axes: Axes, wall: Ints, middle: Any, top: float) -> None:
    beyond = np.flatnonzero(wall > top)
    if not beyond.size:
        return
    axes.plot(middle[beyond], np.full(beyond.size, top * 0.97), "^", color=colour("text"), markersize=4, clip_on=False)
    worst = int(beyond[np.argmax(wall[beyond])])
    more = f", and {beyond.size - 1} more cut" if beyond.size > 1 else ""
    right = worst < len(wall) / 2
    axes.annotate(
        f"{units.duration(float(wall[worst]))}{more}",
        (middle[worst], top * 0.97),
        xytext=(6 if right else -6, -2),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        bbox={"facecolor": colour("paper"), "edgecolor": "none", "pad": 1.0},
    )


def _buckets(trace: Trace) -> dict[str, Ints]:
    if not len((shown := Shown.of(trace)).wall):
        raise NothingToShow(
            "no inferences were found in this trace: neither NVTX ranges, nor TensorRT's enqueues, nor CUDA graphs"
        )
    return shown.buckets
