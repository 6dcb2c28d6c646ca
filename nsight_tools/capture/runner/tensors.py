"""Types, sizes and contents of an engine's inputs and outputs, as bytes: NumPy lacks some of TensorRT's types."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .outcome import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Generator = np.random.Generator

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """A TensorRT data type: its name in results, its bits, and NumPy's name where NumPy has it."""

    name: str
    bits: int
    numpy: str | None = None


KINDS = {
    "FLOAT": Kind("float32", 32, "float32"),
    "HALF": Kind("float16", 16, "float16"),
    "BF16": Kind("bfloat16", 16),
    "INT8": Kind("int8", 8, "int8"),
    "UINT8": Kind("uint8", 8, "uint8"),
    "INT32": Kind("int32", 32, "int32"),
    "INT64": Kind("int64", 64, "int64"),
    "BOOL": Kind("bool", 8, "bool"),
    "FP8": Kind("float8_e4m3", 8),
    "E8M0": Kind("float8_e8m0", 8),
    "INT4": Kind("int4", 4),
    "FP4": Kind("float4_e2m1", 4),
}
"""By the name of `tensorrt.DataType`'s member."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the engine; `shape` has -1 where it is dynamic.

    `vector_dimension` is padded to whole multiples of `vector_width` elements in formats such as CHW32; -1 for none.
    """

    name: str
    is_input: bool
    shape: Shape
    kind: Kind
    on_host: bool
    vector_dimension: int = -1
    vector_width: int = 1

    @property
    def dynamic(self) -> bool:
        return any(extent < 0 for extent in self.shape)

    def elements(self, shape: Shape) -> int:
        """How many elements a buffer holds, padding included."""
        extents = list(shape)
        if 0 <= self.vector_dimension < len(extents) and self.vector_width > 1:
            extents[self.vector_dimension] = -(-extents[self.vector_dimension] // self.vector_width) * self.vector_width
        return math.prod(extents)

    def size_bytes(self, shape: Shape) -> int:
        return (self.elements(shape) * self.kind.bits + 7) // 8

    def as_json(self, shape: Shape) -> dict[str, Any]:
        return {"name": self.name, "shape": list(shape), "dtype": self.kind.name}


def kind_of(dtype: Any, name: str) -> Kind:
    """The kind of a `tensorrt.DataType`."""
    try:
        return KINDS[dtype.name]
    except KeyError:
        raise Failure(
            f"tensor {name} has data type {dtype.name}, which is not known here", where=name, hint="report this"
        ) from None


def random_bytes(kind: Kind, elements: int, generator: Generator) -> Bytes:
    """Random contents of a buffer: finite numbers, and never zero (zeros draw less power and skew what is measured).

    Floats lie within ±1, as trtexec's; 32- and 64-bit integers within 1 to 127, since they are indices more often than
    not, and trtexec's negative ones would read in front of a table.
    """

    def integers(low: int, high: int, dtype: str = "uint8") -> Any:
        return generator.integers(low, high, elements, dtype=dtype, endpoint=True)

    name = kind.name
    if name in {"float32", "float16", "bfloat16"}:
        sign = integers(0, 1).astype(np.float32) * 2 - 1
        values = sign * generator.uniform(2.0**-10, 1.0, elements).astype(np.float32)
        drawn = (values.view(np.uint32) >> 16).astype(np.uint16) if name == "bfloat16" else values.astype(kind.numpy)
    elif name in {"int32", "int64"}:
        drawn = integers(1, 127, name)
    elif name == "int8":
        drawn = (integers(1, 127) | integers(0, 1) << 7).view(np.int8)  # bit patterns; none is 0
    elif name == "uint8":
        drawn = integers(1, 255)
    elif name == "bool":
        drawn = integers(0, 1)
        drawn[:1] = 1
    elif name == "float8_e4m3":
        drawn = integers(0x01, 0x38) | integers(0, 1) << 7  # up to 1.0; NaN is 0x7F
    elif name == "float8_e8m0":
        drawn = integers(120, 127)  # 2 ** (x - 127); NaN is 0xFF
    else:  # two in a byte; every nibble but 0 (and, for floats, -0) is a finite number
        low, high = integers(1, 7), integers(1, 7)
        drawn = (low | high << 4)[: (elements + 1) // 2]
    return np.ascontiguousarray(drawn).view(np.uint8)


def load_bytes(tensor: Tensor, shape: Shape, path: Path) -> Bytes:
    """Contents of an input from a file: raw bytes, or .npy of the tensor's own type and number of elements."""
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if tensor.kind.numpy and array.dtype != np.dtype(tensor.kind.numpy):
                raise Failure(
                    f"holds {array.dtype}, but input {tensor.name} is {tensor.kind.name}",
                    where=str(path),
                    hint=f"save array.astype('{tensor.kind.numpy}')",
                )
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        else:
            content = np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Failure(f"cannot be read as input {tensor.name}: {reason}", where=str(path)) from error
    expected = tensor.size_bytes(shape)
    if content.size != expected:
        raise Failure(
            f"holds {content.size} bytes, but input {tensor.name} takes {expected}: {list(shape)} of "
            f"{tensor.kind.name}",
            where=str(path),
            hint="give --shapes that fit the file, or a file that fits the shapes",
        )
    return content


def contents(tensor: Tensor, shape: Shape, path: Path | None, generator: Generator) -> Bytes:
    """What an input is filled with: the file, or random numbers of its type."""
    if path is not None:
        return load_bytes(tensor, shape, path)
    return random_bytes(tensor.kind, tensor.elements(shape), generator)
