"""What limits a layer: the one part of the hardware that is near its peak, or that none is.

The bar is Nsight Compute's, whose rule on "Speed Of Light" throughput takes a part that reaches 60 % of its peak for
what bounds a kernel, and calls one whose parts all stay below bound by latency. What the metric set of a trace does not
show (the L2's bandwidth, shared memory) can be the reason, too, where the verdict is latency.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsight_tools.run import Run
from nsight_tools.run.engine import REGION, Tensor, tensors
from nsight_tools.run.limits.mixture import EDGE_NS
from nsight_tools.run.limits.table import layer_limits
from nsight_tools.units import duration
from nsight_tools.units import share as percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsight_tools.run.gpus import GpuFacts
    from nsight_tools.trace import Trace

MEMORY, TENSOR, ISSUE, OCCUPANCY, LATENCY, NOT_TOLD = "memory", "tensor", "issue", "occupancy", "latency", "not told"
PEAK_SHARE = 0.6
"""Nsight Compute's rule "SOLBottleneck" draws the line there; a part at 50 or 70 % is then told otherwise, and its
number stands beside the word."""
UNSURE = 0.1
"""An interval that passes the line by more than this on both sides does not tell on which side the share is."""
SHORT_NS = 5_000
"""NVIDIA's skill for layer profiles calls kernels below 5 us too small: most of one is its start and its end, whatever
its blocks do. At 2.5 us it would be a kernel that does nothing; at 10, small layers that fill the GPU."""
NAMES = {
    MEMORY: "memory",
    TENSOR: "the Tensor Cores",
    ISSUE: "instruction issue",
    OCCUPANCY: "occupancy",
    LATENCY: "latency",
    NOT_TOLD: "not told",
}
_WIDTHS = {"FP32": 4, "INT32": 4, "FP16": 2, "BF16": 2, "INT8": 1, "FP8": 1, "BOOL": 1, "INT64": 8}
_OF_WEIGHTS = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "FP8": 1}
"""Bytes of a value, by what our table calls a tensor's type, and by what the inspector calls that of weights."""


@dataclass(frozen=True)
class Part:
    """A metric's share of its peak, from 0 to 1, and what it lies between nine times in ten."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.share)} ({100 * self.low:.0f} to {100 * self.high:.0f} %)"


NOTHING = Part(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LayerLimit:
    """What limits a layer (or a kernel, where no layers are known), in one inference.

    `parts` are the metrics of `layer_limits`. `dram_bytes` is what device memory moved for it (low, likely, high);
    `needed_bytes` what its tensors and weights have, where the engine's list of layers tells; None where unknown.
    """

    name: str
    device: int
    kernels: int
    time_ns: int
    together: bool
    parts: Mapping[str, Part]
    dram_bytes: tuple[int, int, int] | None
    needed_bytes: int | None
    in_cache: bool
    """What it needs fits into the L2: what device memory moved does not compare with it."""

    @property
    def memory(self) -> Part | None:
        """Device memory read and written, of its peak together."""
        both = [self.parts[name] for name in ("dram_read", "dram_write") if name in self.parts]
        if not both:
            return None
        share = min(sum(part.share for part in both), 1.0)
        down = sum((part.share - part.low) ** 2 for part in both) ** 0.5
        up = sum((part.high - part.share) ** 2 for part in both) ** 0.5
        return Part(share, max(share - down, 0.0), min(share + up, 1.0))

    @property
    def limit(self) -> str:
        """A word of `NAMES`."""
        word, part = self._highest
        if self.time_ns < EDGE_NS * self.kernels:
            return LATENCY
        if _unsure(part):
            return NOT_TOLD
        if part.share >= PEAK_SHARE:
            return word
        if self.time_ns < SHORT_NS * self.kernels:
            return LATENCY
        active = self.parts.get("sms_active")
        if active is None or _unsure(active):
            return NOT_TOLD
        return OCCUPANCY if active.share < PEAK_SHARE else LATENCY

    @property
    def _highest(self) -> tuple[str, Part]:
        units = {MEMORY: self.memory, TENSOR: self.parts.get("tensor_active"), ISSUE: self.parts.get("sm_issue")}
        known = {word: part for word, part in units.items() if part is not None}
        return max(known.items(), key=lambda item: item[1].share) if known else (NOT_TOLD, Part(0.0, 0.0, 1.0))

    @property
    def because(self) -> str:
        """The numbers behind the word, for whoever reads it beside."""
        limit, (word, part) = self.limit, self._highest
        active = self.parts.get("sms_active", NOTHING)
        highest = f"the highest is {NAMES[word]} at {percent(part.share)} of its peak"
        if limit == NOT_TOLD:
            return f"the samples leave it open: {NAMES[word]} at {part}, SMs active {active}"
        if limit == OCCUPANCY:
            return f"{active} of the SMs active; {highest}"
        if limit == LATENCY:
            short = self.time_ns < SHORT_NS * self.kernels
            per_kernel = f"{duration(self.time_ns / max(self.kernels, 1))} a kernel, mostly start and end; " * short
            return f"{per_kernel}{highest}; SMs active {percent(active.share)}"
        more = self.moved_more if limit == MEMORY else None
        moved = f"; it moves {more:.1f} times what its tensors have" if more is not None else ""
        return f"{NAMES[word]} at {part} of its peak{moved}"

    @property
    def moved_more(self) -> float | None:
        """How many times what its tensors need device memory moved for it; None where the two do not compare."""
        if self.dram_bytes is None or not self.needed_bytes or self.in_cache:
            return None
        return self.dram_bytes[1] / self.needed_bytes


def _unsure(part: Part) -> bool:
    return part.low < PEAK_SHARE - UNSURE and part.high > PEAK_SHARE + UNSURE


def of_layers(trace: Trace) -> tuple[LayerLimit, ...]:
    """What limits each layer of the judged inferences, the longest first; each kernel, where no layers are known.

    Empty where nothing can be told (`why_no_limits`).
    """
    return trace.once(_of_layers)


def of_regions(trace: Trace) -> tuple[LayerLimit, ...]:
    """The same with the kernels of a region in place of it, by name.

    A region (`REGION`) is often most of a transformer, and no one part of the hardware limits all of that.
    """
    layers = of_layers(trace)
    regions = {layer.name for layer in layers if REGION.search(layer.name)}
    inside: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for row in layer_limits(trace).to_pylist() if regions else ():
        if row["of"] == "kernel" and row["layer"] in regions:
            inside.setdefault((row["device"], row["layer"], row["kernel"]), []).append(row)
    gpus = Run.of(trace).gpus
    kernels = [_limit(_alike(rows), None, gpus.of(rows[0]["device"])) for rows in inside.values()]
    others = [layer for layer in layers if layer.name not in regions]
    return tuple(sorted((*others, *kernels), key=lambda limit: -limit.time_ns))


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each metric of kernels of one name: how many they are, how long they run, and their share by time."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    return [
        {
            **mine[0],
            "layer": None,
            "kernels": len(mine),
            "time_ns": sum(row["time_ns"] for row in mine),
            **{key: _mean(mine, key) for key in ("share", "low", "high")},
        }
        for mine in by_metric.values()
    ]


def of_kernels(trace: Trace, metric: str) -> dict[str, Part]:
    """A metric's share of its peak by a kernel's name, over all kernels of that name in an inference."""
    by_kernel: dict[str, list[dict[str, Any]]] = {}
    for row in layer_limits(trace).to_pylist():
        if row["of"] == "kernel" and row["metric"] == metric:
            by_kernel.setdefault(row["kernel"], []).append(row)
    return {name: Part(*(_mean(rows, key) for key in ("share", "low", "high"))) for name, rows in by_kernel.items()}


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    """Weighted by the kernels' time."""
    return float(sum(row[key] * row["time_ns"] for row in rows) / max(sum(row["time_ns"] for row in rows), 1))


def _of_layers(trace: Trace) -> tuple[LayerLimit, ...]:
    rows = layer_limits(trace).to_pylist()
    of = "layer" if any(row["of"] == "layer" for row in rows) else "kernel"
    grouped: dict[tuple[int, Any], list[dict[str, Any]]] = {}
    for row in rows:
        if row["of"] == of:
            grouped.setdefault((row["device"], row["layer"] if of == "layer" else row["position"]), []).append(row)
    needed, gpus = needed_bytes(trace), Run.of(trace).gpus
    limits = [_limit(mine, needed.get(mine[0]["layer"]), gpus.of(mine[0]["device"])) for mine in grouped.values()]
    return tuple(sorted(limits, key=lambda limit: -limit.time_ns))


def _limit(rows: list[dict[str, Any]], needed: int | None, gpu: GpuFacts) -> LayerLimit:
    first = rows[0]
    parts = {row["metric"]: Part(row["share"], row["low"], row["high"]) for row in rows}
    moved = None
    bandwidth, cache = gpu.memory_bandwidth_bytes_per_s, gpu.l2_cache_bytes
    limit = LayerLimit(
        first["layer"] or first["kernel"],
        first["device"],
        first["kernels"],
        first["time_ns"],
        first["together"] is not None,
        parts,
        None,
        needed,
        in_cache=needed is not None and cache is not None and needed <= cache,
    )
    if (memory := limit.memory) is not None and bandwidth:
        seconds = first["time_ns"] / 1e9
        low, likely, high = (round(share * bandwidth * seconds) for share in (memory.low, memory.share, memory.high))
        moved = (low, likely, high)
    return LayerLimit(**{**limit.__dict__, "dram_bytes": moved})


def needed_bytes(trace: Trace) -> dict[str, int]:
    """Bytes of each layer's inputs, outputs and weights, by its name; only where all shapes and types are known."""
    return trace.once(_all_needed)


def _all_needed(trace: Trace) -> dict[str, int]:
    return dict(_needed(trace))


def _needed(trace: Trace) -> Iterator[tuple[str, int]]:
    for row in trace.table("layers", ["name", "inputs", "outputs", "attributes"]).to_pylist():
        sizes = [_bytes(tensor) for end in ("inputs", "outputs") for tensor in tensors(row[end])]
        if sizes and all(sizes):
            yield row["name"], sum(size for size in sizes if size) + _weights(row["attributes"])


def _bytes(tensor: Tensor) -> int | None:
    width = _WIDTHS.get(tensor.dtype or "")
    shape = tensor.shape
    if width is None or not shape or any(extent < 0 for extent in shape):
        return None
    size = width
    for extent in shape:
        size *= extent
    return size


def _weights(attributes: str | None) -> int:
    about = json.loads(attributes) if attributes else {}
    total = 0
    for name in ("Weights", "Bias"):
        of = about.get(name)
        if isinstance(of, dict) and isinstance(of.get("Count"), int):
            total += of["Count"] * _OF_WEIGHTS.get(str(of.get("Type")), 4)
    return total
