"""Layers that only change a tensor's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.layers.layer_times import of_inferences
from nsight_analyses.layers.tensorrt import EAGER_RUN, no_layers
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.columns import words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import COPY_NODE, Layer, engine_layers
from nsight_tools.run.limits import needed_bytes, of_layers
from nsight_tools.units import share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Ints
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

REFORMAT_SHARE = 0.03
"""NVIDIA's bar for shape and cast layers that are worth a look."""
REFORMAT_WARNING = 0.15
"""Of the inference time: a reformat that goes comes back in part as a slower neighbour, so the bound is generous."""

_SHARE_A_PRECISION = (
    "remove the settings that fix the precision of single layers "
    "(set_precision, --layerPrecisions, --precisionConstraints), or allow the lower precision for the layers "
    "between them, too; neighbours may get slower: measure"
)
_KEEP_THE_FORMAT = (
    "let the network's inputs and outputs keep the format that the first and last layer want "
    "(--inputIOFormats, --outputIOFormats), and neighbouring layers share a precision"
)


@analysis(
    "FUS002",
    needs={"kernels", "nvtx_ranges"},
    topic="reformats",
    bucket=COMPUTE,
    picture="layers",
    warns_from=REFORMAT_WARNING,
)
def reformat_layers(trace: Trace) -> Iterator[Finding]:
    """Layers that only change a tensor's datatype or layout take time.

    Measures: kernels of inferences whose layer (`launches.layer`) is named "Reformatting CopyNode …" or is of type
    Reformat or NoOp in `layers`, as a share of the time of all that have a layer. From 3 % on, which is NVIDIA's bar
    for shape and cast layers, and 2.5 % of the inferences' time; a warning where they take 15 % of it. The bound is
    their kernel time.

    Why it matters: TensorRT inserts a reformat where two layers do not agree on datatype or layout: it moves every
    element through memory and computes nothing. Mixed precision that alternates layer by layer is the usual reason.

    Remedy: let neighbouring layers share a precision (in weakly typed networks do not pin single layers to FP32; allow
    FP16 or INT8 for the layers between); for the network's own inputs and outputs accept TensorRT's format
    (`allowed_formats`, trtexec `--inputIOFormats`, `--outputIOFormats`) and have the producer write it. NVIDIA's
    TensorRT Best Practices, "Optimizing Layer Performance"; TREx shows the same in its engine graph.

    Blind spots: TensorRT chose reformat plus fast layer because it timed the sum as faster: removing a reformat can
    make its neighbour slower. Reformats inside of Myelin regions are not seen.
    """
    run = Run.of(trace)
    layer = words(trace.table("launches", ["layer"])["layer"])
    ours = of_inferences(run, run.work)
    chosen = ours & (layer.codes >= 0)
    if not chosen.any():
        raise no_layers(trace, CouldNotRun("no kernel lies inside of a TensorRT layer's range", hint=EAGER_RUN))
    rows = np.flatnonzero(chosen)
    layer, device = layer[rows], run.work.device[rows]
    time = run.work.end[rows] - run.work.start[rows]
    engine = engine_layers(trace)
    reformats = layer.where(lambda name: engine.get(name, Layer(name)).reformats)
    total, lost = int(time.sum()), int(time[reformats].sum())
    if lost < REFORMAT_SHARE * total or run.gpus.share(lost, device) < NOISE_SHARE:
        return
    taken = _by_layer(layer[reformats], time[reformats])
    names = list(taken)
    changes = sum(_change(engine.get(name)).startswith("datatype") for name in names)
    mostly_datatypes = 2 * changes > len(names)
    known = rows.size / int(ours.sum())
    yield Finding(
        "FUS002",
        Severity.WARNING,
        Confidence.HIGH if known > 0.95 else Confidence.MEDIUM,
        f"{int(reformats.sum())} of {len(layer)} kernels ({share(float(reformats.mean()))}) only convert tensors "
        f"between layers, and take {share(lost / max(total, 1))} of the kernel time",
        f"{len(names)} reformat layers stand between layers that do not agree on datatype or layout"
        + (f"; {changes} of them change the datatype" if changes else ""),
        _SHARE_A_PRECISION if mostly_datatypes else _KEEP_THE_FORMAT,
        act="let neighbouring layers share a precision"
        if mostly_datatypes
        else "let inputs and outputs keep the layers' format",
        evidence=(
            Evidence("kernel time in reformat layers", lost, "ns"),
            Evidence("share of the kernel time", lost / max(total, 1), "ratio"),
            _in_copy_nodes(layer, time),
            *_bytes(trace, names),
            *(
                Evidence("layer", taken[name], "ns", detail=f"{name} ({_change(engine.get(name))})")
                for name in names[:5]
            ),
        ),
        explains=("unfused layers",) if mostly_datatypes else (),
        loss=Loss(
            lost,
            run.gpus.share(lost, device),
            "kernel time of the reformat layers; where the host is the limit, their launches come on top",
        ),
    )


def _by_layer(layer: Words, time: Ints) -> dict[str, int]:
    """Time of kernels, ns, by the layer that each is of, the layer that takes the most first."""
    total = np.bincount(layer.codes, weights=time, minlength=len(layer.dictionary))
    return {layer.dictionary[at]: int(total[at]) for at in np.argsort(-total, kind="stable").tolist() if total[at] > 0}


def _in_copy_nodes(layer: Words, time: Ints) -> Evidence:
    chosen = layer.where(lambda name: name.startswith(COPY_NODE))
    detail = f"{int(chosen.sum())} kernels"
    return Evidence(f"of it in {COPY_NODE} layers", int(time[chosen].sum()), "ns", detail=detail)


def _bytes(trace: Trace, names: list[str]) -> Iterator[Evidence]:
    """What these layers read and write in an inference, where the engine's list tells, and what device memory moved."""
    needed = needed_bytes(trace)
    known = [needed[name] for name in names if name in needed]
    if not known:
        return
    layers = of_layers(trace) if trace.rows("gpu_metrics") else ()
    moved = sum(each.dram_bytes[1] for each in layers if each.name in names and each.dram_bytes)
    said = f"of {len(known)} of {len(names)} layers, by their tensors"
    detail = f"{said}; device memory moved {size(moved)}" if moved else said
    yield Evidence("read and written by them in an inference", sum(known), "bytes", detail=detail)


def _change(layer: Layer | None) -> str:
    """What a reformat changes, by the inspector: datatype, layout, or unknown."""
    if layer is None or not (layer.inputs and layer.outputs):
        return "what it changes is not recorded"
    source, target = layer.inputs[0], layer.outputs[0]
    if not (source.dtype and target.dtype):
        return "what it changes is not recorded"
    if source.dtype != target.dtype:
        return f"datatype {source.dtype} to {target.dtype}"
    return f"layout only, {source.dtype}" if source.format != target.format else "neither datatype nor layout"
