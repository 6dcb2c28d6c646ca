"""Layers that compute little and move much: gathers, reductions, softmax, pointwise layers, by what limits them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import Layer, engine_layers
from nsight_tools.run.limits import NAMES, LayerLimit, no_limits, of_layers
from nsight_tools.run.limits.verdict import LATENCY, MEMORY, SHORT_NS
from nsight_tools.units import share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

LOOK_SHARE = 0.05
"""Of the kernels' time: where NVIDIA's skill for layer profiles begins to look at a layer."""
MORE = 1.5
"""Times what its tensors have that device memory moves for a layer, from which on it reads some of it twice, or lines
of which it uses a part. The interval of such bytes is some 15 %; at 1.2 it would be crossed by chance."""
WARNS_FROM = 0.2
"""Of the inference time: how much of the bound other axes or a narrower type bring is not known before."""
_MOVES = re.compile(
    r"pointwise|elementwise|activation|unary|scale|softmax|norm|reduce|topk|gather|scatter|slice|concat"
)
"""Layer types, in small letters, that compute each value from few others or from a row of them."""
_AXES = {
    "gather": "gather along axis 0",
    "reduce": "reduce along the last axes",
    "topk": "take a small K of TopK, along the last axis",
}
"""What NVIDIA's TensorRT Best Practices ask of a type of layer."""
_MASKS = ("ReduceAxes", "ReductionAxes")
"""What the engine inspector calls the axes of a reduction: a 1 for each that is reduced, of TensorRT 8.6."""


@dataclass(frozen=True)
class Slow:
    """A layer that takes longer than it has to: for how long at most, why, and what is asked of its type."""

    limit: LayerLimit
    layer: Layer
    lost: float
    axes: str
    """What the Best Practices ask of its type; empty where a narrower type is what helps."""

    @property
    def said(self) -> str:
        limit = self.limit
        about = ", ".join(fact for fact in (self.layer.type, self.layer.dtype) if fact)
        has = f", {size(limit.needed_bytes)}" if limit.needed_bytes else ""
        return f"{limit.name} ({about}{has}): limited by {NAMES[limit.limit]}: {limit.because}"


@analysis(
    "FUS009",
    needs={"kernels", "layers"},
    topic="data movement",
    bucket=COMPUTE,
    picture="layers",
    warns_from=WARNS_FROM,
)
def layers_that_move_data(trace: Trace) -> Iterator[Finding]:
    """Layers that compute little take longer than what they read and write has to.

    Measures: what limits each layer (`layer_limits`, from GPU metrics) whose type computes a value from few others or
    from a row of them: pointwise layers, softmax, normalization, Reduce, TopK, Gather, Slice, Concatenation; reformats
    have a rule of their own. Counted are (1) Gather, Reduce and TopK whose SMs have work and wait (latency, of kernels
    of 5 us or more), or for which device memory moves 1.5 times what their tensors have or more: they read across the
    grain. A reduction that the engine's list says to be along the last axes is not counted. And (2) all of them that
    device memory limits, moving what their tensors have, in FP32: nothing but fewer bytes makes these shorter. From 5 %
    of the kernels' time on, and 2.5 % of the inference time. The bound is for (1) what they take longer than device
    memory takes for their tensors (all of it where these fit into the L2), for (2) half of their time. What few active
    SMs limit, and what is shorter than 5 us a kernel, is not counted.

    Why it matters: such a layer can be no faster than its bytes. One that is not at the memory's peak waits for values
    that lie apart; one that is waits for all of them.

    Remedy: gather along axis 0, reduce along the last axes, take a small K of TopK along the last axis (a transposition
    of a small tensor before it may do); let what works in FP32 work in FP16. NVIDIA's TensorRT Best Practices,
    "Optimizing Layer Performance".

    Blind spots: axes are known of reductions only, and only by some versions' lists; a layer that has the right ones
    already may wait for another reason. Layers inside of Myelin's regions are not told apart.
    """
    engine = {name: layer for name, layer in engine_layers(trace).items() if moves(layer)}
    if not engine:
        raise NotApplicable("the engine has no layer that only moves data, by its list of layers")
    if not trace.rows("gpu_metrics") or not (limits := of_layers(trace)):
        raise (trace.lacking("gpu_metrics") or no_limits(trace) or CouldNotRun("what limits the layers is not told"))
    run, last = Run.of(trace), _along_the_last(trace)
    total = sum(limit.time_ns for limit in limits)
    slow = [
        layer
        for limit in limits
        if limit.name in engine and (layer := _slow(limit, engine[limit.name], run, last=limit.name in last))
    ]
    lost, inferences = sum(each.lost for each in slow), max(run.count, 1)
    part = lost * inferences / run.window_ns
    if lost < LOOK_SHARE * total or part < NOISE_SHARE:
        return
    across, full = ([each for each in slow if bool(each.axes) is kind] for kind in (True, False))
    slow.sort(key=lambda each: -each.lost)
    yield Finding(
        "FUS009",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"{_counted(slow)} {share(sum(each.limit.time_ns for each in slow) / total)} of the kernel time",
        "; ".join(_causes(across, full)),
        "; ".join(_advice(across, full)),
        act="shorten the layers that only move data",
        evidence=(
            Evidence("kernel time more than their bytes take, an inference", round(lost), "ns", detail="at most"),
            *(Evidence("layer", each.limit.time_ns, "ns", detail=each.said) for each in slow[:5]),
        ),
        change=(Change("fp16"),) if full else (),
        loss=Loss(round(lost * inferences), part, "time of these layers beyond what their bytes take in device memory"),
    )


def moves(layer: Layer) -> bool:
    """Whether a layer's type computes little of what it reads."""
    return bool(_MOVES.search(layer.type.lower())) and not (layer.multiplies or layer.reformats)


def _slow(limit: LayerLimit, layer: Layer, run: Run, *, last: bool) -> Slow | None:
    if limit.together:
        return None
    kind = next((kind for kind in _AXES if kind in layer.type.lower()), "")
    more = limit.moved_more
    waits = limit.limit == LATENCY and limit.time_ns >= SHORT_NS * limit.kernels
    if kind and not last and (waits or (more is not None and more >= MORE)):
        bandwidth = run.gpus.of(limit.device).memory_bandwidth_bytes_per_s
        known = bandwidth and limit.needed_bytes and not limit.in_cache
        least = 1e9 * (limit.needed_bytes or 0) / bandwidth if known and bandwidth else 0.0
        return Slow(limit, layer, max(limit.time_ns - least, 0.0), _AXES[kind])
    if limit.limit == MEMORY and layer.dtype == "FP32" and (more is None or more < MORE):
        return Slow(limit, layer, limit.time_ns / 2, "")
    return None


def _along_the_last(trace: Trace) -> set[str]:
    """Reductions of which the engine's list says that they go along the last axes, by name."""
    along = set()
    for row in trace.table("layers", ["name", "inputs", "attributes"]).to_pylist():
        about = json.loads(row["attributes"]) if row["attributes"] else {}
        mask = next((about[name] for name in _MASKS if isinstance(about.get(name), list)), None)
        rank = len((row["inputs"][0]["shape"] if row["inputs"] else None) or [])
        if mask and rank and any(mask[:rank]):
            first = mask.index(1) if 1 in mask[:rank] else rank
            along |= {row["name"]} if all(mask[first:rank]) else set()
    return along


def _counted(slow: list[Slow]) -> str:
    return "1 layer that moves data takes" if len(slow) == 1 else f"{len(slow)} layers that move data take"


def _causes(across: list[Slow], full: list[Slow]) -> Iterator[str]:
    if across:
        kinds = ", ".join(dict.fromkeys(each.layer.type for each in across))
        one = len(across) == 1
        does = "waits for values that lie apart, or reads" if one else "wait for values that lie apart, or read"
        yield f"{len(across)} of them ({kinds}) {does} them more than once"
    if full:
        yield f"{len(full)} of them {'runs' if len(full) == 1 else 'run'} at the peak of device memory, in FP32"


def _advice(across: list[Slow], full: list[Slow]) -> Iterator[str]:
    if across:
        yield f"in the network, {', '.join(dict.fromkeys(each.axes for each in across))}"
    if full:
        yield "where the accuracy holds, allow FP16 for what works in FP32: half of the bytes"
