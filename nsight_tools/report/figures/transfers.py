"""Copies: how fast each was against what the link carries, and what ran beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from nsight_tools import units
from nsight_tools.columns import ints, words
from nsight_tools.errors import NothingToShow
from nsight_tools.hardware import LANE_BYTES_PER_S
from nsight_tools.report.figures.data import COLUMNS, Shown
from nsight_tools.report.figures.lanes import Lane, draw
from nsight_tools.report.figures.style import Drawing, colour, legend, of_trace, plots, since, time_axis, tip
from nsight_tools.run import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.findings import Finding
    from nsight_tools.report.figures.data import Floats
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

DIRECTIONS = {"h2d": "to the GPU", "d2h": "to the host"}
ROWS = 120
"""Rows of the raster in which copies that fall on one another are one mark."""


@of_trace
def transfers(trace: Trace, finding: Finding | None = None) -> Drawing:
    """The rate of each copy between host and GPU over time, and below it one inference with its copies and kernels.

    Filled marks are pinned memory, hollow ones pageable; the dashed line is the most that the link carries.
    The inference is that of the worst place that `finding` points to, else one near the median.

    Raises NothingToShow where nothing is copied between host and GPU.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.transfers(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("transfers.png")
    """
    shown = Shown.of(trace)
    work = shown.work[shown.work.kind.among(*DIRECTIONS)]
    lo, hi = shown.span
    work = work[(work.end > lo) & (work.start < hi)]
    if not len(work):
        raise NothingToShow("nothing is copied between host and GPU in this trace")
    figure, (above, below) = plots([1.7, 0.95], gap=0.8, title=False, shared=False)
    entries = _rates(above, trace, work, lo, hi, figure)
    time_axis(above, lo, hi, since(lo))
    begin, end, what = shown.around(finding)
    here = shown.work[(shown.work.end > begin) & (shown.work.start < end)]
    lanes = [Lane(label) for label in ("kernels", "copies to the GPU", "copies to the host")]
    for lane, role, chosen in zip(
        lanes, ("compute", *DIRECTIONS), (here.computes, *(here.kind.among(kind) for kind in DIRECTIONS)), strict=True
    ):
        lane.add(role, here.start[chosen], here.end[chosen])
    draw(below, lanes, begin, end)
    below.set_title(what)
    time_axis(below, begin, end, since(begin))
    legend(figure, [("compute", "kernels"), *entries])
    return figure


def _rates(axes: Axes, trace: Trace, work: Work, lo: int, hi: int, figure: Drawing) -> list[Artist]:
    """Each copy as a mark; what to put into the legend."""
    table = trace.table("memory_ops", ["size_bytes", "src_memory", "dst_memory"])
    up = work.kind.among("h2d")
    src, dst = (words(table[name]) for name in ("src_memory", "dst_memory"))
    pageable = np.where(up, src[work.row].among("pageable"), dst[work.row].among("pageable"))
    rate = ints(table["size_bytes"])[work.row] / np.maximum(work.end - work.start, 1)
    peak, known_by = _peak(trace, int(work.device[0]))
    top = 1.12 * max(float(rate.max()), peak or 0.0)
    entries: list[Artist] = []
    left_out = 0
    for kind, direction in DIRECTIONS.items():
        for hollow in (False, True):
            chosen = (up == (kind == "h2d")) & (pageable == hollow)
            if not chosen.any():
                continue
            rows = _distinct(work.start, rate, chosen, lo, hi, top)
            left_out += int(chosen.sum()) - len(rows)
            look = _look(kind, hollow=hollow, many=len(work) >= 400)
            memory = "pageable" if hollow else "pinned"
            low, median, high = (units.rate(1e9 * each) for each in np.percentile(rate[chosen], [0, 50, 100]))
            (marks,) = axes.plot(work.start[rows], rate[rows], **look)
            tip(
                marks,
                f"{units.plural(int(chosen.sum()), 'copy', 'copies')} {direction}, {memory} memory: {low} to {high}, "
                f"median {median}",
            )
            entries.append(Line2D([], [], **look, label=f"{direction}, {memory} memory"))
    if peak:
        _line_at(axes, peak, known_by)
    axes.set_ylim(0, top)
    axes.set_ylabel("rate (GB/s)")
    axes.grid(axis="y")
    figure.note = "Small copies are bound by latency, not by the link: a low rate of theirs says nothing."
    if left_out:
        figure.note += f" {left_out:,} marks that would fall on another one are left out."
    return entries


def _look(kind: str, *, hollow: bool, many: bool) -> dict[str, Any]:
    """How the marks of copies in one direction look."""
    return {
        "linestyle": "none",
        "marker": "v" if kind == "d2h" else "^",
        "markersize": 3.0 if many else 4.5,
        "markeredgecolor": colour(kind),
        "markerfacecolor": "none" if hollow else colour(kind),
        "markeredgewidth": 0.9,
    }


def _line_at(axes: Axes, peak: float, known_by: str) -> None:
    """The most that the link carries."""
    axes.axhline(peak, color=colour("muted"), linestyle=(0, (5, 3)), linewidth=1.0)
    axes.annotate(
        known_by,
        (1.0, peak),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=colour("muted"),
        fontsize=8.5,
    )


def _distinct(time: Ints, rate: Floats, chosen: Bools, lo: int, hi: int, top: float) -> Ints:
    """One of the copies in each cell of a raster, so that every place that has a mark keeps one."""
    rows = np.flatnonzero(chosen)
    column = ((time[rows] - lo) * (COLUMNS - 1)) // max(hi - lo, 1)
    cell = column * ROWS + np.minimum(rate[rows] / max(top, 1e-9) * ROWS, ROWS - 1).astype(np.int64)
    return rows[np.unique(cell, return_index=True)[1]]


def _peak(trace: Trace, device: int) -> tuple[float | None, str]:
    """What the link carries in one direction, GB/s, and how that is known; the best sample, links train down idle."""
    table = trace.table("telemetry", ["device", "pcie_generation", "pcie_width"])
    sampled = [
        (LANE_BYTES_PER_S[row["pcie_generation"]] * row["pcie_width"], row["pcie_generation"], row["pcie_width"])
        for row in table.group_by(["device", "pcie_generation", "pcie_width"]).aggregate([]).to_pylist()
        if row["device"] == device and row["pcie_generation"] in LANE_BYTES_PER_S and row["pcie_width"]
    ]
    if sampled:
        peak, generation, width = max(sampled)
        return peak / 1e9, f"the link, PCIe {generation}.0 x{width}: {units.rate(peak)} in one direction"
    newest = Run.of(trace).gpus.of(device).newest_link
    if newest is None:
        return None, ""
    peak = 16 * LANE_BYTES_PER_S[newest]
    known_by = f"PCIe {newest}.0 x16, the best link of this GPU: {units.rate(peak)}; its link was not recorded"
    return peak / 1e9, known_by
