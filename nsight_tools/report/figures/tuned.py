"""The way of a tuning, from first to last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nsight_tools import units
from nsight_tools.errors import NothingToShow
from nsight_tools.report import tuned
from nsight_tools.report.figures.style import Drawing, colour, legend, name, plots, scale_of, styled, tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nsight_tools.tune.judging import Times
    from nsight_tools.tune.ledger import Ledger
    from nsight_tools.tune.promises import Promise

_ROW = 0.34
"""Inches a step."""
_NAME = 26
"""Characters of a change, beside the plot; the table has all."""


@styled
def way(ledger: Ledger) -> Drawing:
    """A waterfall: the time of an input (or of the median inference) at the start, after each step, and at the end.

    Raises NothingToShow where no step was judged.
    """
    judged = [line for line in tuned.lines(ledger) if ledger.of_goal(line.step) is not None]
    if not judged:
        raise NothingToShow("no step was measured")
    start = tuned.start_ns(ledger)
    rows = len(judged) + 2
    figure, (axes,) = plots([_ROW * rows], title=False)
    axes.barh(0, start, height=0.62, color=colour("before"))
    level, titles = start, ["start"]
    for at, line in enumerate(judged, 1):
        times = ledger.of_goal(line.step)
        assert times is not None
        level = _step(axes, line, times, level, at)
        titles.append(name(f"{at}. {line.title}", _NAME))
    axes.barh(rows - 1, level, height=0.62, color=colour("before"))
    axes.set_yticks(range(rows), [*titles, "end"])
    axes.set_ylim(rows - 0.5, -0.5)
    factor, unit = scale_of(start)
    axes.set_xlim(0, 1.25 * start)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / factor:,.10g}")
    axes.set_xlabel(f"{unit}: {tuned.WHAT[ledger.goal]} so long")
    legend(
        figure,
        [
            ("before", "start and end"),
            Patch(color=colour("after"), alpha=0.55, linewidth=0, label="saved"),
            Line2D([], [], color=colour("text"), linewidth=1.2, label="interval of what came"),
            Line2D([], [], color=colour("alarm"), marker="D", markersize=4, linewidth=1.0, label="promised"),
        ],
    )
    return figure


def _step(axes: Axes, line: tuned.Line, times: Times, level: float, at: int) -> float:
    """Draw a step in its row, from the time before it; the time behind it."""
    after = level * (1 + times.share)
    if line.step.kept:
        # Pale, so that the lines across it are seen on any page.
        (bar,) = axes.barh(at, level - after, left=after, height=0.62, color=colour("after"), alpha=0.55, linewidth=0)
        tip(bar, f"{name(line.title, 200)}: {units.duration(level)} → {units.duration(after)}")
    else:
        axes.plot([level, level], [at - 0.31, at + 0.31], color=colour("muted"), linewidth=1.6)
    axes.plot([level * (1 + times.low), level * (1 + times.high)], [at, at], color=colour("text"), linewidth=1.2)
    if line.step.promise is not None:
        _promised(axes, line.step.promise, level, at)
    right_of_bar = max(level, level * (1 + times.high))
    axes.annotate(
        line.outcome,
        (right_of_bar, at),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=colour("muted"),
    )
    return after if line.step.kept else level


def _promised(axes: Axes, promise: Promise, level: float, at: int) -> None:
    """What was promised, as a share of what it is a part of, laid off from the time before."""
    if not promise.of_ns or promise.point_ns is None or promise.low_ns is None or promise.high_ns is None:
        return
    low, point, high = (
        level * (1 - saved_ns / promise.of_ns) for saved_ns in (promise.low_ns, promise.point_ns, promise.high_ns)
    )
    height = at - 0.2
    axes.plot([max(high, 0.0), low], [height, height], color=colour("alarm"), linewidth=1.0)
    axes.plot([max(point, 0.0)], [height], "D", color=colour("alarm"), markersize=4)
