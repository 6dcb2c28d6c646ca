"""Two traces side by side: each function takes a `Comparison`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nsight_tools import units
from nsight_tools.comparison.result import Change
from nsight_tools.errors import NothingToShow
from nsight_tools.report import compared
from nsight_tools.report.content import BUCKETS
from nsight_tools.report.figures.accounting import ROLES, SHORT, VISIBLE, Bar, draw_bar
from nsight_tools.report.figures.style import (
    Drawing,
    colour,
    legend,
    name,
    of_comparison,
    plots,
    scale_of,
    time_axis,
    tip,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from nsight_tools.comparison import Comparison, Difference
    from nsight_tools.report.figures.data import Floats

Line = Literal["solid"] | tuple[float, tuple[float, float]]
SIDES: tuple[tuple[str, str, Line], ...] = (("BEFORE", "before", (0.0, (4.0, 1.5))), ("AFTER", "after", "solid"))
"""What each side is called, its colour, and its line: told apart without colours, too."""
MEANING = {Change.LESS: "after", Change.MORE: "alarm"}
"""The colour of a difference beyond noise; all others are muted."""
STEPS = 1_000
"""Points of a distribution; those of a longer run are quantiles of it."""
GROUPS = 200
"""Points of a run over time; each is as many neighbours as there have to be."""
MINUS = "\N{MINUS SIGN}"
NAME = 100
"""Characters of a layer's or kernel's name."""
TAIL = 0.995
"""The share of a run that its distribution always shows."""


@of_comparison
def compared_walls(comparison: Comparison) -> Drawing:
    """The distribution of the wall time of inferences before and after, as the share that took no longer.

    The lines stand at the typical inferences, the dots at the medians. The band around AFTER's line is the interval of
    the difference, put where BEFORE's typical inference is: where it covers BEFORE's line the difference is within
    chance. They are untraced where both sides were measured so, else as traced: what that leaves open is not drawn.

    Raises NothingToShow where a side has no inferences.

    Example:
        >>> from nsight_tools import compare, figures
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> figure = figures.compared_walls(both)
        >>> figure.savefig("compared_walls.png")
    """
    walls = _walls(comparison)
    figure, (axes,) = plots([2.0], title=False)
    low = min(float(wall.min()) for wall in walls)
    # A tail beyond three times what nearly all take would leave no room for them.
    usual = max(float(np.quantile(wall, TAIL, method="lower")) for wall in walls)
    high = min(max(float(wall.max()) for wall in walls), low + 1.25 * (usual - low) or low + 1)
    room = max(0.03 * (high - low), 1.0)
    for (_, role, line), times in zip(SIDES, walls, strict=True):
        share, value = _distribution(times)
        axes.plot(value, share, color=colour(role), linestyle=line, linewidth=1.6, drawstyle="steps-post")
        axes.plot([np.median(times)], [0.5], "o", color=colour(role), markersize=5)
    wall, known = compared.drawn_wall(comparison)
    if wall is not None:
        _typical(axes, wall)
    _span_axis(axes, low - room, high + room, f"of an inference, {known}")
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("took no longer")
    axes.grid(axis="y")
    _sides_legend(figure, walls)
    if beyond := int(sum((wall > high + room).sum() for wall in walls)):
        figure.note = f"Slower inferences beyond the right edge: {beyond:,}."
    return figure


@of_comparison
def compared_over_time(comparison: Comparison) -> Drawing:
    """Inferences before and after in order of time, each run from its begin to its end.

    Lines are medians of neighbours, the areas around them span from the fastest to the slowest of these.

    Raises NothingToShow where a side has no inferences.

    Example:
        >>> from nsight_tools import compare, figures
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> figure = figures.compared_over_time(both)
        >>> figure.savefig("compared_over_time.png")
    """
    walls = _walls(comparison)
    figure, (axes,) = plots([1.7], title=False)
    lowest, highest = [], []
    for (_, role, line), wall in zip(SIDES, walls, strict=True):
        edges = np.linspace(0, wall.size, min(GROUPS, wall.size) + 1).astype(np.int64)
        parts = [wall[begin:other] for begin, other in pairwise(edges.tolist())]
        median, least, most = (np.array([take(times) for times in parts]) for take in (np.median, np.min, np.max))
        middle = (edges[:-1] + edges[1:]) / 2 / wall.size
        if wall.size > GROUPS:
            axes.fill_between(middle, least, most, color=colour(role), alpha=0.22, linewidth=0)
        axes.plot(middle, median, color=colour(role), linestyle=line, linewidth=1.3)
        lowest.append(float(least.min()))
        highest.append(min(float(most.max()), 3 * float(np.quantile(wall, TAIL, method="lower"))))
    low, high = min(lowest), max(highest)
    room = max(0.06 * (high - low), 1.0)
    bottom = 0.0 if low < 0.5 * high else low - room
    _up_axis(axes, bottom, high + room)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    axes.set_xlabel(f"of the run, {compared.drawn_wall(comparison)[1]}, by inferences in order of time")
    _sides_legend(figure, walls)
    figure.note = _notes_over_time(walls, bottom, high + room)
    return figure


def _notes_over_time(walls: Sequence[Floats], bottom: float, top: float) -> str:
    spans = {label: -(-wall.size // GROUPS) for (label, _, _), wall in zip(SIDES, walls, strict=True)}
    notes = [
        f"{label}'s area spans {span:,} inferences in a row at a time." for label, span in spans.items() if span > 1
    ]
    notes += ["The time does not begin at 0."] if bottom else []
    if cut := int(sum((wall > top).sum() for wall in walls)):
        notes.append(f"Slower inferences above the upper edge: {cut:,}.")
    return " ".join(notes)


@of_comparison
def compared_buckets(comparison: Comparison) -> Drawing:
    """The typical inference before and after as stacked bars, and what each part of it changed by, with its interval.

    Both are as traced, and sum to the traced wall. Differences within noise are grey.

    Raises NothingToShow without inferences on both sides.

    Example:
        >>> from nsight_tools import compare, figures
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> figure = figures.compared_buckets(both)
        >>> figure.savefig("compared_buckets.png")
    """
    shown = compared.shown(comparison.buckets)
    if not shown:
        raise NothingToShow("there are no inferences on both sides whose parts could be told apart")
    figure, (bars, axes) = plots([0.84 + 0.05, 0.27 * (len(shown) + 1)], title=False, gap=0.75, shared=False)
    sides = [{bucket.name: float(getattr(bucket, side) or 0) for bucket in shown} for side in ("before", "after")]
    longest = max(*(sum(parts.values()) for parts in sides), 1.0)
    time_axis(bars, 0, int(longest * 1.1), "of the typical inference, as traced")
    for at, parts in enumerate(sides):
        ordered = {bucket: parts[bucket] for bucket in BUCKETS if bucket in parts}
        draw_bar(bars, at, Bar(SIDES[at][0], ordered, units.duration(sum(parts.values()))), longest)
    bars.set_yticks([0, 1], [label for label, _, _ in SIDES], color=colour("text"))
    bars.set_ylim(1.5, -0.5)
    rows = [*((SHORT[bucket.name], bucket) for bucket in shown)]
    if comparison.traced_wall is not None:
        rows.append(("all of it", comparison.traced_wall))
    _forest(axes, rows, "after less before")
    used = [bucket.name for bucket in shown if max(parts[bucket.name] for parts in sides) > VISIBLE * longest]
    legend(figure, [(ROLES[bucket], SHORT[bucket]) for bucket in BUCKETS if bucket in used])
    return figure


@of_comparison
def compared_parts(comparison: Comparison, parts: str = "kernels") -> Drawing:
    """The `layers` or `kernels` that changed most beyond noise, each with its difference and the interval of it.

    Raises NothingToShow where none changed.

    Example:
        >>> from nsight_tools import compare, figures
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> figure = figures.compared_parts(both, "kernels")
        >>> figure.savefig("compared_parts.png")
    """
    differences = comparison.layers if parts == "layers" else comparison.kernels
    if not differences:
        raise NothingToShow(f"no {parts} are known on both sides")
    chosen = compared.changed(differences)[: compared.ROWS_SHOWN]
    if not chosen:
        raise NothingToShow(f"none of {len(differences):,} {parts} changed beyond noise")
    figure, (axes,) = plots([0.44 * len(chosen)], legend=False, title=False)
    what = "after less before, of an inference" if comparison.wall is not None else "after less before, of one call"
    _forest(axes, [("", difference) for difference in chosen], what, below=0.2)
    for at, difference in enumerate(chosen):
        label = axes.text(
            0.004, at - 0.27, name(difference.name, NAME), va="center", transform=axes.get_yaxis_transform()
        )
        label.set_bbox({"facecolor": colour("paper"), "edgecolor": "none", "pad": 1.0})
    return figure


def _walls(comparison: Comparison) -> tuple[Floats, Floats]:
    walls = comparison.before.walls, comparison.after.walls
    if empty := [label for (label, _, _), wall in zip(SIDES, walls, strict=True) if not wall.size]:
        raise NothingToShow(f"{' and '.join(empty)} {'has' if len(empty) == 1 else 'have'} no inferences")
    return walls


def _distribution(wall: Floats) -> tuple[Floats, Floats]:
    """Shares of the run, and the time that so many of its inferences took at most."""
    ordered = np.sort(wall)
    if ordered.size > STEPS:
        share = np.linspace(0, 1, STEPS + 1)
        return share, np.quantile(ordered, share)
    share = np.arange(ordered.size + 1) / ordered.size
    return share, np.append(ordered[:1], ordered)


def _typical(axes: Axes, wall: Difference) -> None:
    for (_, role, line), value in zip(SIDES, (wall.before, wall.after), strict=True):
        if value is not None:
            axes.axvline(value, color=colour(role), linestyle=line, linewidth=0.9)
    if wall.before is not None and wall.low is not None and wall.high is not None:
        axes.axvspan(wall.before + wall.low, wall.before + wall.high, color=colour("after"), alpha=0.18, linewidth=0)


def _sides_legend(figure: Drawing, walls: Sequence[Floats]) -> None:
    entries = [
        Line2D([], [], color=colour(role), linestyle=line, label=f"{label}, {wall.size:,} inferences")
        for (label, role, line), wall in zip(SIDES, walls, strict=True)
    ]
    legend(figure, entries)


def _ticks(low: float, high: float, factor: float, most: int) -> list[float]:
    values = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low / factor, high / factor)
    return [float(value) * factor for value in values if low <= value * factor <= high]


def _span_axis(axes: Axes, low: float, high: float, label: str) -> None:
    """An x axis of durations that need not begin at 0."""
    factor, unit = scale_of(high)
    axes.set_xlim(low, high)
    axes.set_xticks(_ticks(low, high, factor, 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / factor:,.10g}"))
    axes.set_xlabel(f"{unit} {label}")


def _up_axis(axes: Axes, low: float, high: float) -> None:
    """A y axis of durations that need not begin at 0."""
    factor, unit = scale_of(high)
    axes.set_ylim(low, high)
    axes.set_yticks(_ticks(low, high, factor, 4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / factor:,.10g}"))
    axes.set_ylabel(f"time ({unit})")
    axes.grid(axis="y")


def _forest(axes: Axes, rows: Sequence[tuple[str, Difference]], label: str, below: float = 0.0) -> None:
    """A row for each difference: a bar from 0, its interval as a line, and in words what it is.

    Bars are so much thinner and lower that `below` of a row is left for something above them.
    """
    ends = [difference.difference or 0.0 for _, difference in rows]
    ends += [bound for _, difference in rows for bound in (difference.low, difference.high) if bound is not None]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    width = max(high - low, 1.0)
    # What a row says stands right of its bar and interval.
    left, right = low - 0.03 * width, high + 0.42 * width
    for row, (title, difference) in enumerate(rows):
        role, at = MEANING.get(difference.change, "unknown"), row + below
        length = difference.difference or 0.0
        (bar,) = axes.barh(at, length, 0.62 - 1.2 * below, color=colour(role), alpha=0.55, linewidth=0)
        sides = " → ".join(units.quantity(value, difference.unit) for value in (difference.before, difference.after))
        tip(bar, f"{title or name(difference.name, NAME)}: {sides}")
        if difference.low is not None and difference.high is not None:
            axes.plot(
                [difference.low, difference.high], [at, at], color=colour(role), linewidth=2, solid_capstyle="butt"
            )
            axes.plot([difference.low, difference.high], [at, at], "|", color=colour(role), markersize=7)
        reach = max(difference.difference or 0.0, difference.high or 0.0, 0.0)
        noise = difference.change not in MEANING
        words = (
            f"{compared.CHANGES[difference.change]}: {compared.change(difference)}"
            if noise
            else compared.change(difference)
        )
        axes.text(reach + 0.012 * width, at, words, va="center", color=colour("muted" if noise else "text"))
    axes.axvline(0, color=colour("text"), linewidth=0.8)
    factor, unit = scale_of(max(abs(low), abs(high)))
    axes.set_xlim(left, right)
    axes.set_xticks(_ticks(left, high + 0.05 * width, factor, 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / factor:+,.10g}".replace("-", MINUS) if x else "0"))
    axes.set_xlabel(f"{unit} {label}")
    axes.set_yticks(range(len(rows)), [text for text, _ in rows], color=colour("text"))
    axes.set_ylim(len(rows) - 0.5, -0.5)
