"""What the layer rules share: the kernels of inferences by layer and name, and what the engine says of a layer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.errors import CouldNotRun

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.measured import Measured
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

REFORMATS = frozenset({"Reformat", "NoOp"})
COPY_NODE = "Reformatting CopyNode"
_MATRIX = re.compile(r"conv|gemm|matmul|matrixmultiply|fullyconnected|fully_connected", re.IGNORECASE)
"""Layer types that multiply matrices: CaskConvolution, CaskGemmConvolution, CaskDeconvolutionV2, CaskConvActPool, gemm,
fusedConvActConv, MatrixMultiply, CaskGemmMatrixMultiply, CublasLtMatrixMultiply, FullyConnected …"""
_FLOATS = frozenset({"FP32", "FP16", "BF16"})


@dataclass(frozen=True)
class Layer:
    """A layer of the engine; `type` is empty, `inputs` and `outputs` are without members where not recorded."""

    name: str
    type: str = ""
    inputs: tuple[dict[str, Any], ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    groups: int = 1
    tactic: str = ""

    @property
    def reformats(self) -> bool:
        """Whether it only changes a tensor's datatype or layout."""
        return self.type in REFORMATS or self.name.startswith(COPY_NODE)

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
        return str((self.inputs[0]["dtype"] if self.inputs else None) or "")

    def floats(self) -> bool:
        """Whether it writes floating-point numbers of 16 or 32 bits."""
        return any(tensor["dtype"] in _FLOATS for tensor in self.outputs)


def engine_layers(trace: Trace) -> dict[str, Layer]:
    """The layers of the engine by name, in the engine's order."""
    columns = ["name", "type", "inputs", "outputs", "attributes", "tactic"]
    return {
        row["name"]: Layer(
            row["name"],
            row["type"] or "",
            tuple(row["inputs"] or ()),
            tuple(row["outputs"] or ()),
            _groups(row["attributes"]),
            row["tactic"] or "",
        )
        for row in trace.table("layers", columns).to_pylist()
    }


def _groups(attributes: str | None) -> int:
    groups = json.loads(attributes).get("Groups") if attributes else None
    return groups if isinstance(groups, int) else 1


@dataclass(frozen=True)
class Kernels:
    """Kernels of the inferences in order of start (all kernels where there are no inferences), with their layers.

    All have the shape (kernels,); `time` is in nanoseconds.
    """

    time: Ints
    device: Ints
    stream: Ints
    inference: Ints
    name: Words
    layer: Words

    @classmethod
    def of(cls, measured: Measured) -> Kernels:
        """Raises CouldNotRun where none ran."""
        work = measured.work
        chosen = work.kind.among("kernel")
        if measured.inferences:
            chosen &= work.inference >= 0
        if not chosen.any():
            raise CouldNotRun("no kernel was recorded" + (" for any inference" if measured.inferences else ""))
        layer = words(measured.trace.table("launches", ["layer"])["layer"])
        name = words(measured.trace.table("kernels", ["name"])["name"])
        rows = np.flatnonzero(chosen)
        return cls(
            work.end[rows] - work.start[rows],
            work.device[rows],
            work.stream[rows],
            work.inference[rows],
            name[work.row[rows]],
            layer[rows],
        )

    def __getitem__(self, chosen: Any) -> Kernels:
        return Kernels(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def by_layer(self) -> dict[str, dict[str, int]]:
        """Nanoseconds by layer, in it by kernel; the layer is "" where a kernel has none."""
        width = len(self.name.dictionary) + 1
        key = (self.layer.codes.astype(np.int64) + 1) * width + self.name.codes
        total = np.bincount(key, weights=self.time)  # exact: sums stay below 2**53 ns
        pairs = np.flatnonzero(np.bincount(key))
        found: dict[str, dict[str, int]] = {}
        for pair, time in zip(pairs.tolist(), total[pairs].astype(np.int64).tolist(), strict=True):
            layer, name = divmod(pair, width)
            found.setdefault(self.layer.dictionary[layer - 1] if layer else "", {})[self.name.dictionary[name]] = time
        return found


def device_majors(measured: Measured, kernels: Kernels) -> list[int]:
    """Major compute capabilities of the GPUs that ran these kernels, where known."""
    gpus = measured.trace.table("gpus", ["device", "compute_major"])
    ran = np.isin(ints(gpus["device"]), kernels.device)
    return [major for major in ints(gpus["compute_major"])[ran].tolist() if major >= 0]
