"""Layers of the engine that could be one kernel: pointwise and shape layers in a row."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.layers.layer_times import Kernels, of_inferences
from nsight_analyses.layers.tensorrt import EAGER_RUN, no_layers
from nsight_analyses.measure import EXAMPLES
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.columns import words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import Layer, engine_layers
from nsight_tools.run.limits import needed_bytes
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import windows
from nsight_tools.units import duration, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Ints
    from nsight_tools.trace import Trace

UNFUSED_SHARE = 0.03
"""NVIDIA's bar for shape and cast layers that are worth a look."""
UNFUSED_WARNING = 0.1
"""Of the inference time; the bar of the other rules whose bound is not generous."""
SHORT_NS = 5_000
"""NVIDIA's skill for layer profiles counts layers under 5 µs: what they take is mostly launch and memory latency."""
POINTWISE_TYPES = frozenset(
    {"PointWise", "PointWiseV2", "ElementWise", "Scale", "Activation", "Unary", "ParametricReLU", "Select"}
    | {"Cast", "Identity", "Quantize", "Dequantize"}
    | {"Shuffle", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Fill"}
)
"""Layer types of TensorRT 8 to 10 that compute each output element from few inputs, or only move elements."""
_POINTWISE_KERNEL = re.compile(
    r"generatedNativePointwise|cuEltwise::|cuScale::|cuActivation|elementwise", re.IGNORECASE
)


class Part(Enum):
    """What a layer does to a run of pointwise layers: belongs to it, stands within it, or ends it."""

    MEMBER = 1
    REFORMAT = 2
    END = 3


@dataclass(frozen=True)
class Row:
    """Pointwise layers one after the other: their places in an inference's sequence, and the reformats within.

    `behind_matrix` is whether it reads what a convolution or a matrix multiplication wrote, which could take it in.
    """

    places: tuple[int, ...]
    reformats: int
    behind_matrix: bool


@analysis(
    "FUS003",
    needs={"kernels", "nvtx_ranges"},
    topic="unfused layers",
    bucket=COMPUTE,
    picture="layers",
    warns_from=UNFUSED_WARNING,
)
def unfused_pointwise_layers(trace: Trace) -> Iterator[Finding]:
    """Pointwise or shape layers run one after the other, as a kernel each.

    Measures: the layers of each inference in the order in which their kernels start on a stream. Layers of a pointwise
    or shape type (`layers.type`: PointWise, ElementWise, Scale, Activation, Shuffle, …; where the type is not recorded,
    those whose kernels' names all say so) of which each reads what one before it in the row wrote are a run; reformat
    layers may stand within it, and are not counted. The bound is, for each run of at least two layers, the sum of its
    layers' kernel times less the longest: a fused kernel still makes one trip through memory and is launched once. From
    3 % of the kernel time of all layers on, NVIDIA's bar for shape and cast layers, and 2.5 % of the inference time; a
    warning where it is 10 % of that. Layers under 5 µs are counted apart (NVIDIA looks at engines with 20 of them or
    more that take 20 %), but long ones gain from fusion too, and are not left out.

    Why it matters: each of them reads its input from memory and writes its output there, to do next to nothing between;
    when it is short, the launch costs as much as the work.

    Remedy: TensorRT fuses such layers itself unless something keeps it from doing so: precisions that are set layer by
    layer, an output of the network in between, a plugin, dynamic shapes that it cannot relate, or a low
    `--builderOptimizationLevel`. Remove the obstacle, simplify the graph (constant folding), or write one plugin for
    the run. NVIDIA's TensorRT Best Practices, "Layer Fusion" and "Pointwise Fusion".

    Blind spots: without the tensors of the layers, two neighbours on a stream may be independent: medium confidence. A
    pointwise layer that stands alone behind a convolution is not counted, though it could have been fused into that
    one. Layers inside of a CUDA graph that was captured before the collection are seen by a layer pass or the engine's
    list of layers only.
    """
    run = Run.of(trace)
    kernels = Kernels.of(run)
    if not (kernels.layer.codes >= 0).all():
        kernels = kernels[kernels.layer.codes >= 0]
    if not len(kernels.layer):
        why = "no kernel of an inference lies inside of a TensorRT layer's range"
        raise no_layers(trace, CouldNotRun(why, hint=EAGER_RUN))
    engine, total = engine_layers(trace), int(kernels.time.sum())
    unfused = _Unfused(run, kernels, engine)
    if unfused.lost < max(UNFUSED_SHARE * total, NOISE_SHARE * run.window_ns) or not unfused.runs:
        return
    count = max(run.count, 1)
    yield Finding(
        "FUS003",
        Severity.WARNING,
        Confidence.HIGH if unfused.certain else Confidence.MEDIUM,
        f"{unfused.layers / count:.0f} pointwise or shape layers an inference run in {unfused.runs / count:.0f} rows, "
        f"a kernel each; in one kernel a row they would take {share(unfused.lost / total)} of the kernel time less",
        _why(unfused, count),
        "do not pin the precision of single layers within such a row, mark no output in it, and build with the default "
        "builder optimization level or a higher one; otherwise simplify the graph or write a plugin for the row",
        act="let TensorRT fuse pointwise layers",
        evidence=(
            Evidence("kernel time of the rows", unfused.time, "ns"),
            Evidence("of it saved by a kernel of its own for each row", unfused.lost, "ns"),
            Evidence(
                "layers in the rows", unfused.layers, "count", detail=f"{unfused.layers / count:.0f} an inference"
            ),
            Evidence(
                f"of them shorter than {duration(SHORT_NS)}",
                unfused.short,
                "count",
                detail=f"{duration(unfused.short_time)}, {share(unfused.short_time / total)} of the kernel time",
            ),
            Evidence("reformats within the rows", unfused.reformats, "count"),
            *(
                Evidence("row", time, "ns", detail=f"{', '.join(names)}{_between(engine, needed_bytes(trace), names)}")
                for names, time in unfused.worst(EXAMPLES)
            ),
        ),
        loss=Loss(
            unfused.most,
            unfused.lost / run.window_ns,
            "kernel time of each row, less its longest layer where no convolution or multiplication could take it in",
        ),
    )


def _between(engine: dict[str, Layer], needed: dict[str, int], names: tuple[str, ...]) -> str:
    """What a row reads and writes between its layers, which one kernel would keep to itself; nothing where unknown."""
    if not all(name in needed for name in names):
        return ""
    written = {tensor.name for name in names for tensor in engine[name].outputs}
    inner = {tensor.name for name in names for tensor in engine[name].inputs if tensor.name in written}
    return f": they read and write {size(sum(needed[name] for name in names))}, {len(inner)} tensors only between them"


def _why(unfused: _Unfused, count: int) -> str:
    if unfused.reformats:
        return (
            f"{unfused.reformats / count:.0f} reformats an inference stand within the rows: layers that do not agree "
            "on datatype or layout are not fused"
        )
    return "what kept TensorRT from fusing them is not in the trace"


class _Unfused:
    """Runs of pointwise layers, summed over all inferences."""

    def __init__(self, run: Run, kernels: Kernels, engine: dict[str, Layer]) -> None:
        self.engine, self.names = engine, kernels.layer.dictionary
        self.lost = self.most = self.time = self.layers = self.short = self.short_time = self.runs = self.reformats = 0
        self.certain = True
        self._by_run: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._written_from = {
            layer.outputs[0].name: layer.inputs[0].name
            for layer in engine.values()
            if layer.reformats and len(layer.inputs) == len(layer.outputs) == 1
        }
        self._of_matrices = {
            self._source(tensor.name) for layer in engine.values() if layer.multiplies for tensor in layer.outputs
        }
        self._parts = self._all_parts(kernels)
        rows: dict[bytes, list[Row]] = {}
        for codes, times in _sequences(run):
            sequence = codes.tobytes()
            if sequence not in rows:
                rows[sequence] = list(self._find(codes))
            for row in rows[sequence]:
                self._add(row, codes, times)

    def worst(self, number: int) -> list[tuple[tuple[str, ...], int]]:
        """Runs with the most time: the names of their layers, and their kernel time."""
        return sorted(self._by_run.items(), key=lambda item: -item[1])[:number]

    def _all_parts(self, kernels: Kernels) -> dict[int, Part]:
        parts: dict[int, Part] = {}
        typed = all(self.engine.get(name, Layer(name)).type for name in self.names)
        by_name = {} if typed else kernels.by_layer()
        for code, name in enumerate(self.names):
            layer = self.engine.get(name, Layer(name))
            unknown = not layer.type and all(_POINTWISE_KERNEL.search(kernel) for kernel in by_name.get(name, {"": 0}))
            member = layer.type in POINTWISE_TYPES or unknown
            parts[code] = Part.REFORMAT if layer.reformats else Part.MEMBER if member else Part.END
        return parts

    def _find(self, codes: Ints) -> Iterator[Row]:
        """The runs of one sequence of layers."""
        places: list[int] = []
        written: set[str] = set()
        reformats = waiting = 0
        behind = False
        for place, code in enumerate([*codes.tolist(), -1]):
            part = self._parts.get(code, Part.END)
            if part is Part.REFORMAT:
                waiting += 1
                continue
            layer = self.engine.get(self.names[code], Layer("")) if code >= 0 else Layer("")
            follows = part is Part.MEMBER and places and self._reads(layer, written)
            if not follows:
                if len(places) > 1:
                    yield Row(tuple(places), reformats, behind)
                places, written, reformats = [], set(), 0
                behind = any(self._source(tensor.name) in self._of_matrices for tensor in layer.inputs)
            if part is Part.MEMBER:
                reformats += waiting if follows else 0
                places.append(place)
                written |= {self._source(tensor.name) for tensor in layer.outputs}
            waiting = 0

    def _reads(self, layer: Layer, written: set[str]) -> bool:
        if not (layer.inputs and written):
            self.certain = False
            return True
        return any(self._source(tensor.name) in written for tensor in layer.inputs)

    def _source(self, tensor: str) -> str:
        """The tensor that reformats made this one from."""
        for _ in range(len(self._written_from)):
            if tensor not in self._written_from:
                break
            tensor = self._written_from[tensor]
        return tensor

    def _add(self, row: Row, codes: Ints, times: Ints) -> None:
        part = times[:, row.places]
        short = part < SHORT_NS
        self.time += int(part.sum())
        saved = int(part.sum() - part.max(axis=1).sum())
        self.lost += saved
        self.most += int(part.sum()) if row.behind_matrix else saved
        self.layers += part.size
        self.short += int(short.sum())
        self.short_time += int(part[short].sum())
        self.runs += len(part)
        self.reformats += row.reformats * len(part)
        self._by_run[tuple(self.names[codes[place]] for place in row.places)] += int(part.sum())


def _sequences(run: Run) -> Iterator[tuple[Ints, Ints]]:
    """The sequences of layers that inferences ran on a stream, with the times of their layers, piece by piece.

    The times have the shape (inferences that ran it so, layers). Kernels of one layer in a row are one place.
    """
    work, codes = run.work, words(run.trace.table("launches", ["layer"])["layer"]).codes
    rows = np.flatnonzero(of_inferences(run, work) & (codes >= 0)).astype(np.int32)
    lanes = joint_key(work.inference[rows], work.stream[rows])
    if (lanes[1:] < lanes[:-1]).any():  # inferences or streams interleave
        order = np.argsort(lanes, kind="stable")
        rows, lanes = rows[order], lanes[order]
    for piece in windows(lanes):
        row, lane = rows[piece], lanes[piece]
        yield from _distinct(lane, codes[row].astype(np.int64), work.end[row] - work.start[row])


def _distinct(lane: Ints, layer: Ints, time: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The different sequences of these lanes, each with the times of its layers."""
    first = np.append(True, (lane[1:] != lane[:-1]) | (layer[1:] != layer[:-1]))
    at = np.flatnonzero(first)
    lane, layer, time = lane[at], layer[at], np.add.reduceat(time, at)
    bounds = np.append(np.flatnonzero(np.append(True, lane[1:] != lane[:-1])), len(lane)).tolist()
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for begin, end in pairwise(bounds):
        same[layer[begin:end].tobytes()].append(begin)
    for sequence, begins in same.items():
        codes = np.frombuffer(sequence, np.int64)
        yield codes, time[np.array(begins)[:, None] + np.arange(len(codes))]
