"""One inference by layer, and kernels by the size of their grids."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools import units
from nsight_tools.columns import ints, words
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.data import Shown
from nsight_tools.report.figures.lanes import Lane, draw
from nsight_tools.report.figures.streams import POOLED
from nsight_tools.report.figures.style import (
    Drawing,
    colour,
    duration_axis,
    legend,
    of_trace,
    plots,
    since,
    time_axis,
)
from nsight_tools.run import Run
from nsight_tools.run.engine import COPY_NODE, REFORMATS
from nsight_tools.timeline.attribution import Words
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.findings import Finding
    from nsight_tools.report.figures.data import Floats
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

LANES = 9
"""Kinds of layers with a lane of their own; the others share one."""
_GRAPH = "whole CUDA graph"


@of_trace
def inference_layers(trace: Trace) -> Drawing:
    """One inference on the GPU: a lane for each type of layer, for copies, and for the gaps in which it is idle.

    Where no layers are known, a lane for each kernel. Beside each lane stands its time in this inference.
    The inference is one near the median: layers cost what they cost in every inference.

    Raises NothingToShow where no kernels were recorded.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.inference_layers(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("inference_layers.png")
    """
    shown = Shown.of(trace)
    lo, hi, what = shown.around(None)
    work = shown.work
    row = shown.inference_of(lo, hi)
    rows = np.flatnonzero((work.inference == row) if row is not None else (work.end > lo) & (work.start < hi))
    here, layer = work[rows], words(trace.table("launches", ["layer"])["layer"])[rows]
    if not here.computes.any():
        raise NothingToShow("no kernels were recorded, of which layers could be shown")
    lo, hi = max(lo, int(here.start.min())), min(hi, int(here.end.max()))
    kinds, types = _types(trace, here, layer)
    order = sorted(kinds, key=lambda kind: -int((here.end - here.start)[types == kinds[kind]].sum()))
    first, rest = order[:LANES], order[LANES:]
    lanes = [_lane(kind, here, types == kinds[kind], "h2d" if kind in REFORMATS else "compute") for kind in first]
    if rest:
        lanes.append(_lane(f"{len(rest)} other kinds", here, np.isin(types, [kinds[k] for k in rest]), "other"))
    copies = ~here.computes
    if copies.any():
        lanes.append(_lane("copies and sets", here, copies, "copy"))
    gaps = Intervals.union(here.start, here.end).complement(lo, hi)
    lanes.append(Lane("no traced work", total=_said(gaps.total, len(gaps))).add("alarm", gaps.start, gaps.end))
    figure, (axes,) = plots([0.27 * len(lanes) + 0.1])
    axes.set_position(_narrower(axes.get_position().bounds))
    pooled = draw(axes, lanes, lo, hi, letters=32)
    axes.set_title(
        f"{what}: its work on the GPU, by type of layer"
        if _layered(here, layer)
        else f"{what}, by kernel: no layers are known"
    )
    time_axis(axes, lo, hi, since(lo))
    entries = [
        ("compute", "layers" if _layered(here, layer) else "kernels"),
        ("h2d", "layers that only convert tensors"),
        ("copy", "copies"),
        ("alarm", "gaps"),
    ]
    used = {span[0] for lane in lanes for span in lane.spans}
    legend(figure, [entry for entry in entries if entry[0] in used])
    figure.note = POOLED if pooled else ""
    return figure


def _narrower(place: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Room for the lanes' times on the right, and for longer labels on the left."""
    return place[0] + 0.07, place[1], place[2] - 0.18, place[3]


def _layered(here: Work, layer: Words) -> bool:
    return bool((layer.codes >= 0)[here.computes].mean() > 0.5)


def _types(trace: Trace, here: Work, layer: Words) -> tuple[dict[str, int], Ints]:
    """What each kernel is a lane of: its layer's type, or its own name where layers are unknown; and -1 for copies."""
    kernel, graph = here.kind.among("kernel"), here.kind.among("graph")
    if _layered(here, layer):
        named = layer
        type_of = {row["name"]: row["type"] for row in trace.table("layers", ["name", "type"]).to_pylist()}
        labels = [type_of.get(name) or _by_name(name) for name in named.dictionary]
    else:
        short = words(trace.table("kernels", ["short_name"])["short_name"])
        named = Words(np.append(short.codes, -1)[np.where(kernel, here.row, -1)], short.dictionary)
        labels = list(named.dictionary)
    labels += [_GRAPH, _by_name("")]
    codes = np.where(graph, len(labels) - 2, np.where(named.codes < 0, len(labels) - 1, named.codes))
    kinds = {labels[code]: 0 for code in np.unique(codes[here.computes]).tolist()}
    kinds = {label: number for number, label in enumerate(kinds)}
    number_of = np.array([kinds.get(label, -1) for label in labels], np.int64)
    return kinds, np.where(here.computes, number_of[codes], -1)


def _by_name(layer: str) -> str:
    """The type of a layer that only its name tells of."""
    if not layer:
        return "no layer known"
    if layer.startswith(COPY_NODE):
        return "Reformat"
    return "{ForeignNode}" if layer.startswith("{ForeignNode") else "layers of unknown type"


def _lane(label: str, here: Work, chosen: Bools, role: str) -> Lane:
    mine = here[chosen]
    return Lane(label, total=_said(int((mine.end - mine.start).sum()), len(mine))).add(role, mine.start, mine.end)


def _said(time: int, count: int) -> str:
    return f"{units.duration(time)} in {count:,}"


@of_trace
def grids(trace: Trace, finding: Finding | None = None) -> Drawing:  # noqa: ARG001 (as all figures of findings)
    """Kernel time by the number of blocks in the grid, against the number of SMs: what cannot fill the GPU.

    Raises NothingToShow without kernels, or where the GPU's number of SMs is unknown.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.grids(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figure.savefig("grids.png")
    """
    table = trace.table("kernels", ["start_ns", "end_ns", "device", "grid_x", "grid_y", "grid_z"])
    sms = {device: gpu.sm_count for device, gpu in Run.of(trace).gpus.facts.items() if gpu.sm_count}
    if not table.num_rows or not sms:
        raise NothingToShow("no kernels were recorded" if sms else "the number of SMs of this GPU is not in the report")
    blocks = np.prod([np.maximum(ints(table[f"grid_{axis}"]), 1) for axis in "xyz"], axis=0)
    duration = ints(table["end_ns"]) - ints(table["start_ns"])
    count = sms.get(int(ints(table["device"])[0])) or next(iter(sms.values()))
    edges = halvings(count, int(blocks.max()))
    time = np.histogram(blocks, edges, weights=duration)[0]
    figure, (axes,) = plots([1.5], legend=False)
    axes.bar(
        np.arange(len(time)),
        time,
        0.86,
        color=[colour("h2d") if end <= count / 2 else colour("compute") for end in edges[1:]],
        linewidth=0,
    )
    duration_axis(axes, 1.15 * float(time.max()), "kernel time, all")
    full = float(np.searchsorted(edges, count)) - 0.5
    axes.axvline(full, color=colour("text"), linestyle=(0, (5, 3)), linewidth=1.0)
    axes.annotate(
        f"{count} SMs: fewer blocks leave some idle",
        (full, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )
    least = [math.ceil(edge) for edge in edges[:-1]]
    axes.set_xticks(
        np.arange(len(time)), [f"{blocks:,}" if blocks < 10_000 else f"{blocks / 1000:,.0f} k" for blocks in least]
    )
    axes.set_xlim(-0.6, len(time) - 0.4)
    axes.set_xlabel("blocks in the grid, at least (each bar up to the next label)")
    return figure


def halvings(sms: int, most: int) -> Floats:
    """The number of SMs, its halves down to one block, and its doubles up to `most` blocks."""
    down = math.ceil(math.log2(sms))
    up = max(math.floor(math.log2(most / sms)), -1) + 1
    edges: Floats = np.maximum(sms * 2.0 ** np.arange(-down, up + 1), 1.0)
    return edges
