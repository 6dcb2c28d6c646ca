"""The engine as its list of layers has it: what each layer is, and which tensors go from one to the next."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import words
from nsight_tools.timeline.intervals import pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsight_tools.run import Run
    from nsight_tools.trace import Trace

NOTHING = "NoOp"
"""The type of layers that launch nothing: another layer reads or writes the tensor as it should lie."""
REFORMATS = frozenset({"Reformat", NOTHING, "MyelinReformat"})
"""Layer types that only change how a tensor lies in memory, or its datatype."""
COPY_NODE = "Reformatting CopyNode"
"""How the names of such layers begin."""
REGION = re.compile(r"\{ForeignNode\[(.*)\]\}", re.DOTALL)
"""How a region is named: layers that TensorRT's compiler, Myelin, made one node of, `{ForeignNode[first...last]}`."""
_MATRIX = re.compile(r"conv|gemm|matmul|matrixmultiply|fullyconnected|fully_connected", re.IGNORECASE)
"""Layer types that multiply matrices: CaskConvolution, CaskGemmConvolution, CaskDeconvolutionV2, CaskConvActPool, gemm,
fusedConvActConv, MatrixMultiply, CaskGemmMatrixMultiply, CublasLtMatrixMultiply, FullyConnected …"""
_CONSTANT = "Constant"
_QUANTIZES = frozenset({"Scale", "Quantize", "Dequantize"})
_FLOATS = frozenset({"FP32", "FP16", "BF16"})
_NARROW = frozenset({"INT8", "FP8", "INT4", "FP4"})


@dataclass(frozen=True)
class Tensor:
    """What a layer reads or writes; None for what the engine's list does not tell."""

    name: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    format: str | None = None


def tensors(rows: Iterable[Mapping[str, Any]] | None) -> tuple[Tensor, ...]:
    """A layer's `inputs` or `outputs`, as a row of `layers` has them."""
    return tuple(
        Tensor(row["name"], None if row["shape"] is None else tuple(row["shape"]), row["dtype"], row["format"])
        for row in rows or ()
    )


@dataclass(frozen=True)
class Layer:
    """A layer of the engine; `type` is empty, `inputs` and `outputs` are without members where not recorded."""

    name: str
    type: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    groups: int = 1
    tactic: str = ""

    @property
    def reformats(self) -> bool:
        """Whether it only changes a tensor's datatype or layout."""
        return self.type in REFORMATS or self.name.startswith(COPY_NODE)

    @property
    def quantizes(self) -> bool:
        """Whether it only goes from floats to a quantized datatype, or back: Q or DQ that no layer took in."""
        read, written = ({tensor.dtype for tensor in side[:1]} for side in (self.inputs, self.outputs))
        sides = (read, written), (written, read)
        return self.type in _QUANTIZES and any(side & _NARROW and other & _FLOATS for side, other in sides)

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or a matrix multiplication."""
        return bool(_MATRIX.search(self.type))

    @property
    def convolves(self) -> bool:
        return "conv" in self.type.lower()

    @property
    def dtype(self) -> str:
        """Datatype of what it works on: of its first input; empty where unknown."""
        return str((self.inputs[0].dtype if self.inputs else None) or "")

    @property
    def writes(self) -> str:
        """Datatype of its first output; empty where unknown."""
        return str((self.outputs[0].dtype if self.outputs else None) or "")

    def floats(self) -> bool:
        """Whether it writes floating-point numbers of 16 or 32 bits."""
        return any(tensor.dtype in _FLOATS for tensor in self.outputs)


def engine_layers(trace: Trace) -> dict[str, Layer]:
    """The layers of the engine by name, in the engine's order."""
    columns = ["name", "type", "inputs", "outputs", "attributes", "tactic"]
    return {
        row["name"]: Layer(
            row["name"],
            row["type"] or "",
            tensors(row["inputs"]),
            tensors(row["outputs"]),
            _groups(row["attributes"]),
            row["tactic"] or "",
        )
        for row in trace.table("layers", columns).to_pylist()
    }


def _groups(attributes: str | None) -> int:
    groups = json.loads(attributes).get("Groups") if attributes else None
    return groups if isinstance(groups, int) else 1


@dataclass(frozen=True)
class Edge:
    """A tensor that one layer writes and another reads, by their places in the engine's list."""

    source: int
    target: int
    tensor: Tensor


class Engine:
    """The layers that compute or move something, and the tensors between them; the engine's constants are left out."""

    def __init__(self, trace: Trace) -> None:
        every = engine_layers(trace).values()
        self.layers: tuple[Layer, ...] = tuple(layer for layer in every if layer.type != _CONSTANT)
        self._constants = {tensor.name for layer in every if layer.type == _CONSTANT for tensor in layer.outputs}

    @classmethod
    def of(cls, trace: Trace) -> Engine:
        """The engine of `trace`, for as long as somebody holds it."""
        return trace.once(cls)

    @cached_property
    def _writers(self) -> dict[str, list[int]]:
        """The places of the layers that write a tensor, by its name."""
        writers: dict[str, list[int]] = {}
        for place, layer in enumerate(self.layers):
            for tensor in layer.outputs:
                writers.setdefault(tensor.name, []).append(place)
        return writers

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every tensor from each of its writers to each of its readers; a pair of layers once.

        Several layers write one tensor where each fills its part of it: a concatenation that costs nothing. A tensor
        that is written behind its reader in the list goes back, and is left out: these edges have no circles.
        """
        edges = (
            Edge(source, target, tensor)
            for target, layer in enumerate(self.layers)
            for tensor in layer.inputs
            for source in self._writers.get(tensor.name, ())
            if source < target
        )
        by_ends: dict[tuple[int, int], Edge] = {}
        for edge in edges:
            by_ends.setdefault((edge.source, edge.target), edge)
        return tuple(by_ends.values())

    @cached_property
    def inputs(self) -> tuple[tuple[Tensor, tuple[int, ...]], ...]:
        """What no layer writes: each tensor with the places of the layers that read it."""
        readers: dict[str, tuple[Tensor, list[int]]] = {}
        for place, layer in enumerate(self.layers):
            for tensor in layer.inputs:
                if tensor.name not in self._writers and tensor.name not in self._constants:
                    readers.setdefault(tensor.name, (tensor, []))[1].append(place)
        return tuple((tensor, tuple(dict.fromkeys(places))) for tensor, places in readers.values())

    @cached_property
    def outputs(self) -> tuple[tuple[Tensor, tuple[int, ...]], ...]:
        """What no layer reads: each tensor with the places of the layers that write it."""
        read = {tensor.name for layer in self.layers for tensor in layer.inputs}
        named = {tensor.name: tensor for layer in self.layers for tensor in layer.outputs}
        return tuple((named[name], tuple(places)) for name, places in self._writers.items() if name not in read)


def time_by_layer(run: Run) -> dict[str, int]:
    """Nanoseconds of the kernels of judged requests by layer, summed; those of no known layer as ""."""
    layer = words(run.trace.table("launches", ["layer"])["layer"])
    sums = np.zeros(len(layer.dictionary) + 1, np.int64)
    for rows in pieces(len(run.work)):
        work = run.work[rows]
        chosen = np.flatnonzero(work.computes & run.judges(work.inference))
        np.add.at(sums, layer.codes[rows][chosen], (work.end - work.start)[chosen])
    names = [*layer.dictionary, ""]
    return {names[code]: int(sums[code]) for code in np.flatnonzero(sums).tolist()}
