"""Values of options as trtexec writes them, read into JSON values; `ValueError` says what is wrong with one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reader = Callable[[str], object]

T = TypeVar("T")

TYPES = {
    "fp32": "FLOAT",
    "fp16": "HALF",
    "bf16": "BF16",
    "fp8": "FP8",
    "fp4": "FP4",
    "int8": "INT8",
    "int4": "INT4",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}
"""Members of `tensorrt.DataType` by trtexec's names."""

FORMATS = {
    "chw": "LINEAR",
    **{name: name.upper() for name in ("chw2", "chw4", "chw16", "chw32", "cdhw32")},
    **{name: name.upper() for name in ("hwc", "hwc8", "hwc16", "dhwc", "dhwc8", "dla_linear", "dla_hwc4")},
}
"""Members of `tensorrt.TensorFormat` by trtexec's names."""

POOLS = {
    "workspace": "WORKSPACE",
    "dlaSRAM": "DLA_MANAGED_SRAM",
    "dlaLocalDRAM": "DLA_LOCAL_DRAM",
    "dlaGlobalDRAM": "DLA_GLOBAL_DRAM",
    "tacticSharedMem": "TACTIC_SHARED_MEMORY",
}
"""Members of `tensorrt.MemoryPoolType` by trtexec's names."""

_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
WEIGHTS_ALL, WEIGHTS_AUTOMATIC = -2, -1
"""Budgets of weight streaming that are no size: nothing is streamed, and TensorRT decides."""


def pairs(spec: str) -> list[tuple[str, str]]:
    """`name:value,…`; a name may hold colons, as TensorRT's do, and stand in single quotes."""
    read = []
    for text in filter(None, spec.split(",")):
        name, colon, value = text.rpartition(":")
        if not (name and colon and value):
            raise ValueError(f"{text}: give it as name:value")
        read.append((name.strip("'"), value))
    return read


def shapes(spec: str) -> dict[str, list[int]]:
    """`input:1x3x224x224,…`; a name may hold one `*`, and `input:scalar` has no dimensions."""
    by_name: dict[str, list[int]] = {}
    for name, value in pairs(spec):
        sizes = [] if value == "scalar" else value.split("x")
        if not all(size.isdecimal() for size in sizes):
            raise ValueError(f"{name}:{value}: give sizes as 1x3x224x224")
        by_name[_pattern(name)] = [int(size) for size in sizes]
    return by_name


def _pattern(name: str) -> str:
    if name.count("*") > 1:
        raise ValueError(f"{name}: a name holds at most one *")
    return name


def io_formats(spec: str) -> list[list[str]]:
    """`fp16:chw+hwc8,…`: for each tensor its type, and the formats that it may have."""
    tensors = []
    for text in spec.split(","):
        dtype, _, formats = text.partition(":")
        tensors.append(
            [_one_of(TYPES, dtype, "type"), *(_one_of(FORMATS, name, "format") for name in formats.split("+"))]
        )
    return tensors


def layer_types(spec: str) -> dict[str, str]:
    """`layer:fp16,…`; a name may hold one `*`."""
    by_name = {}
    for name, dtype in pairs(spec):
        by_name[_pattern(name)] = _one_of(TYPES, dtype, "type")
    return by_name


def pools(spec: str) -> dict[str, int]:
    """`workspace:1024,dlaSRAM:512K,…` in bytes; MiB where no unit is given."""
    return {_one_of(POOLS, name, "memory pool"): size(value, unit="M") for name, value in pairs(spec)}


def size(text: str, *, unit: str = "B") -> int:
    """Bytes of `512K`, in powers of 1024; in `unit` where it names none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([BKMG]?)", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text}: give a size as 512, 512K, 64M or 2G")
    return int(float(match[1]) * _UNITS[(match[2] or unit).upper()])


def budget(text: str) -> int | str:
    """Of weight streaming: -2, -1, a size, or `50%` of what can be streamed."""
    if text in {str(WEIGHTS_ALL), str(WEIGHTS_AUTOMATIC)}:
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?%", text):
        if float(text[:-1]) > 100:
            raise ValueError(f"{text}: is more than all")
        return text
    return size(text)


def sparsity(text: str) -> str:
    """`disable` or `enable`."""
    if text == "force":
        raise ValueError("force overwrites the model's weights: prune the model instead (polygraphy surgeon prune)")
    return _one_of(("disable", "enable"), text, "sparsity")


def tactic_sources(text: str) -> int | list[str]:
    """`+CUBLAS,-CUDNN`, or TensorRT's bits as a number."""
    if text.isdecimal():
        return int(text)
    given = re.sub(r"CUBLASLT\b", "CUBLAS_LT", text.upper()).split(",")
    if not all(re.fullmatch(r"[+-]\w+", name) for name in given):
        raise ValueError(f"{text}: give names with + or -, as -CUDNN,+CUBLAS, or a number of bits")
    return given


def number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= (int(text) if high is None else high):
            raise ValueError(
                f"{text}: give a whole number " + (f"from {low}" + ("" if high is None else f" to {high}"))
            )
        return int(text)

    return read


def choice(*names: str) -> Callable[[str], str]:
    """A reader of one of these words."""
    return lambda text: _one_of(names, text, "value")


def path(text: str) -> str:
    """A file or folder, whichever folder the reader is in."""
    return str(Path(text).absolute())


def library(text: str) -> str:
    """A plugin library: a file, or a name that the system's loader looks for."""
    return path(text) if "/" in text or Path(text).exists() else text


def named(by_pattern: Mapping[str, T], name: str) -> T | None:
    """The value of a name: its own, else of the last pattern that fits it; a pattern holds one `*`."""
    if name in by_pattern:
        return by_pattern[name]
    for pattern in reversed(list(by_pattern)):
        before, star, after = pattern.partition("*")
        long_enough = len(name) >= len(before) + len(after)
        if star and long_enough and name.startswith(before) and name.endswith(after):
            return by_pattern[pattern]
    return None


def by_input(asked: Mapping[str, T], inputs: Sequence[str], where: str) -> dict[str, T]:
    """What is asked for by input's name, where names may be patterns. Raises Failure for one that fits no input."""
    unknown = sorted(name for name in asked if all(named({name: ""}, given) is None for given in inputs))
    if unknown:
        raise Failure(f"no input is called {', '.join(unknown)}", where=where, hint=f"inputs are {', '.join(inputs)}")
    return {name: value for name in inputs if (value := named(asked, name)) is not None}


def _one_of(names: object, name: str, what: str) -> str:
    known = list(names)  # type: ignore[call-overload]
    if name not in known:
        raise ValueError(f"{name or 'nothing'}: is no {what}; there are {', '.join(known)}")
    return name
