"""Lanes of a timeline: boxes where there is room for them, and how busy each column is where there is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from nsight_tools import units
from nsight_tools.report.figures.data import COLUMNS, occupancy
from nsight_tools.report.figures.style import colour, name, tip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.axes import Axes

    from nsight_tools.columns import Ints
    from nsight_tools.report.figures.data import Floats

BOXES = 800
"""Boxes that one lane shows one by one; with more, most would be narrower than a pixel."""

SINGLE = 40
"""Boxes of one kind in a lane that are told one by one where one points at them; of more, what they are together."""

VISIBLE = 0.001
"""The share of the time shown from which on a box can be seen."""


@dataclass
class Lane:
    """One lane: its label, what runs in it as (role, starts, ends, share of its height), what its right end says."""

    label: str
    spans: list[tuple[str, Ints, Ints, float]] = field(default_factory=list)
    total: str = ""
    height: float = 0.62

    def add(self, role: str, start: Ints, end: Ints, height: float = 1.0) -> Lane:
        """Put boxes into the lane, over those that it has; of its height, or a part of it."""
        if len(start):
            self.spans.append((role, start, end, height))
        return self


def draw(
    axes: Axes, lanes: Sequence[Lane], lo: int, hi: int, entries: Iterable[tuple[str, str]] = (), *, letters: int = 22
) -> bool:
    """Draw the lanes from above to below over `[lo, hi)`, labels of so many letters at most.

    Where one points at a box, the page says what it is, by the legend's `entries`, and how long it takes.
    Returns whether any had to be drawn as shares of columns.
    """
    pooled, said = False, dict(entries)
    for row, lane in enumerate(lanes):
        spans = [
            (role, np.maximum(start[inside], lo), np.minimum(end[inside], hi), height)
            for role, start, end, height in lane.spans
            for inside in ((end > lo) & (start < hi),)
        ]
        if sum(len(start) for _, start, *_ in spans) > BOXES:
            pooled = True
            _pooled(axes, row, lane.height, spans, lo, hi)
            spans = []
        for role, start, end, height in spans:
            half = height * lane.height / 2
            what = ", ".join(filter(None, (name(lane.label), said.get(role))))
            for some, text in _told(start, end, lo):
                count = np.ones(len(start[some]))
                boxes(
                    axes,
                    start[some],
                    end[some],
                    (row - half) * count,
                    (row + half) * count,
                    role,
                    said=f"{what}: {text}",
                )
        if lane.total:
            axes.annotate(
                lane.total,
                (1.0, row),
                xycoords=axes.get_yaxis_transform(),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=colour("muted"),
                fontsize=8.5,
                annotation_clip=False,
            )
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_yticks(range(len(lanes)), [name(lane.label, letters) for lane in lanes], color=colour("text"))
    return pooled


def _told(start: Ints, end: Ints, lo: int) -> Iterator[tuple[slice, str]]:
    """Boxes that are drawn as one, and what is said of them."""
    if len(start) > SINGLE:
        took = end - start
        total, longest = units.duration(int(took.sum())), units.duration(int(took.max()))
        yield slice(None), f"{len(start):,} pieces, {total} together, the longest {longest}"
        return
    for at, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        yield slice(at, at + 1), f"{units.duration(ends - begins)}, from {units.duration(begins - lo)} on"


def _pooled(
    axes: Axes, row: int, height: float, spans: Sequence[tuple[str, Ints, Ints, float]], lo: int, hi: int
) -> None:
    """The share of each column's time that each role takes, one on the other."""
    bottom: Floats = np.full(COLUMNS, row + height / 2)
    for role, start, end, share_of_row in spans:
        share, edges = occupancy(start, end, lo, hi)
        top = np.maximum(bottom - share * height * share_of_row, row - height / 2)  # roles may run at once
        boxes(axes, edges[:-1], edges[1:], top, bottom, role)
        bottom = top


def boxes(
    axes: Axes,
    left: object,
    right: object,
    top: object,
    bottom: object,
    role: str,
    *,
    alpha: float = 1.0,
    said: str = "",
) -> None:
    """Rectangles as one path; none is so narrow that it does not show. `said` is what one reads who points at them."""
    x0, x1, y0, y1 = (np.asarray(edge, np.float64) for edge in (left, right, top, bottom))
    shown = y1 != y0
    x0, x1, y0, y1 = x0[shown], x1[shown], y0[shown], y1[shown]
    if not x0.size:
        return
    corners = np.stack([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], x0.size)
    patch = PathPatch(Path(corners, codes), facecolor=colour(role), edgecolor=colour(role), linewidth=0.25, alpha=alpha)
    axes.add_patch(patch)
    if said:
        tip(patch, said)
