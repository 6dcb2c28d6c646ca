"""Settings of a sweep by throughput and p99."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nsight_tools import units
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.style import (
    RIGHT,
    WIDTH,
    Drawing,
    colour,
    duration_axis,
    fitted,
    legend,
    name,
    plots,
    styled,
    tip,
)

if TYPE_CHECKING:
    from nsight_tools.report.swept import Swept

LABELLED = 6
"""Settings of the front that are named in the figure; the table has all."""
_ROOM = 1.08
_ROOM_FOR_NAMES = 1.45
"""Throughput that the figure has room for, of the most: to the right of the front lies no setting, but its names."""
_SMALL, _BESIDE = 8.0, 9.0
"""Of the names' letters, and from a mark to its name; in points."""


@styled
def settings_front(sweep: Swept) -> Drawing:
    """Every setting by its throughput (x) and its p99 (y), with the front, its knee, and the limit asked for.

    Raises NothingToShow where nothing was measured.
    """
    if not sweep.points:
        raise NothingToShow("no setting was measured")
    front, knee = sweep.front, sweep.knee
    figure, (axes,) = plots([3.4], title=False)
    others = [point for point in sweep.points if point not in front]
    for group, role, size in ((others, "muted", 5), (front, "after", 6)):
        for point in group:
            rate, tail = point.middle.throughput_per_s, point.middle.p99_ns
            (mark,) = axes.plot([rate], [tail], "o", color=colour(role), markersize=size)
            tip(mark, f"{name(point.setting, 200)}: {units.number(rate)} inputs/s, p99 {units.duration(tail)}")
    axes.plot(
        [point.middle.throughput_per_s for point in front],
        [point.middle.p99_ns for point in front],
        color=colour("after"),
        linewidth=1.4,
    )
    entries = [
        Line2D([], [], color=colour("after"), marker="o", markersize=6, label="front"),
        Line2D([], [], color=colour("muted"), marker="o", markersize=5, linestyle="none", label="other settings"),
    ]
    if knee is not None:
        where = ([knee.middle.throughput_per_s], [knee.middle.p99_ns])
        ring: Any = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot(*where, color=colour("alarm"), **ring)
        entries.append(Line2D([], [], color=colour("alarm"), label="knee", **ring | {"markersize": 8}))
    if sweep.limit_ns is not None:
        axes.axhline(sweep.limit_ns, color=colour("alarm"), linestyle=(0, (4.0, 2.0)), linewidth=1.0)
        entries.append(Line2D([], [], color=colour("alarm"), linestyle=(0, (4.0, 2.0)), label="limit"))
    longest = max([point.middle.p99_ns for point in sweep.points] + ([sweep.limit_ns] if sweep.limit_ns else []))
    most = max(point.middle.throughput_per_s for point in sweep.points)
    duration_axis(axes, _ROOM * longest, "p99")
    axes.set_xlim(0, _ROOM_FOR_NAMES * most)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axes.set_xlabel("inputs a second")
    across = 72 * WIDTH * axes.get_position().width
    for point in front[-LABELLED:]:
        rate = point.middle.throughput_per_s
        room = across * (1 - rate / (_ROOM_FOR_NAMES * most)) + 72 * RIGHT - _BESIDE
        axes.annotate(
            fitted(partial(name, point.setting), 48, room, _SMALL),
            (rate, point.middle.p99_ns),
            xytext=(_BESIDE, -3),
            textcoords="offset points",
            va="top",
            fontsize=_SMALL,
            color=colour("muted"),
        )
    legend(figure, entries)
    return figure
