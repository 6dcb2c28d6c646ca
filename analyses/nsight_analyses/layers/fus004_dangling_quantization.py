"""Quantization in the engine's layers: Q and DQ that no layer took in, and quantized layers that write floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.layers.layer_times import Kernels
from nsight_analyses.layers.tensorrt import no_layers
from nsight_analyses.measure import EXAMPLES
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import Layer, engine_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsight_tools.trace import Trace

DANGLING_WARNING = 0.1
"""Of the inference time, as for other layers that need not be there."""
NARROW = frozenset({"INT8", "FP8"})


@analysis("FUS004", topic="quantization", bucket=COMPUTE, picture="layers", warns_from=DANGLING_WARNING)
def dangling_quantization(trace: Trace) -> Iterator[Finding]:
    """Quantize or dequantize layers stand alone, or quantized convolutions write floats.

    Measures: in `layers`, Scale, Quantize and Dequantize layers with INT8 or FP8 on one side only (the first's `dtype`
    of `inputs` and `outputs`), and convolutions or matrix multiplications that read INT8 or FP8 and write FP32, FP16
    or BF16. A layer that reads the network's input or writes its output is left out: there the change is asked for.
    The bound is the kernel time of the former; what a quantized output would save is not known. A warning where they
    take 10 % of the inference time.

    Why it matters: TensorRT moves Q and DQ next to layers that can take them in. One that is left over moves the whole
    tensor through memory twice, and a convolution without a Q behind it writes two or four times the bytes.

    Remedy: place Q/DQ pairs so that TensorRT can fuse them: before the inputs of quantizable layers, on both inputs of
    an addition, and behind a convolution whose reader is quantized. NVIDIA's TensorRT documentation, "Explicit
    Quantization", "Q/DQ Layer-Placement Recommendations"; TREx flags the same.

    Blind spots: a convolution's reader may need floats (a softmax, a normalization); then the output is as it should
    be. Layers inside of Myelin regions are not seen. Without DETAILED verbosity the layers have no datatypes.
    """
    if (lacking := trace.lacking("layers")) is not None:
        raise no_layers(trace, lacking)
    engine = engine_layers(trace)
    if not any(tensor.dtype for layer in engine.values() for tensor in (*layer.inputs, *layer.outputs)):
        raise CouldNotRun(
            "the engine's layers are recorded without datatypes",
            hint="build it with DETAILED profiling verbosity (trtexec --profilingVerbosity=detailed)",
        )
    inner = list(_inner(engine.values()))
    dangling = [layer for layer in inner if _dangles(layer)]
    wide = [layer for layer in inner if layer.multiplies and layer.dtype in NARROW and layer.floats()]
    if not (dangling or wide):
        return
    run = Run.of(trace)
    spent = _time_of(run, dangling)
    timed = spent is not None
    yield Finding(
        "FUS004",
        Severity.WARNING if dangling and timed else Severity.INFO,
        Confidence.HIGH if dangling else Confidence.LOW,
        " and ".join(_said(len(dangling), len(wide))),
        "Q/DQ pairs are placed where TensorRT cannot take them into the layers around them"
        if dangling
        else "no Q stands behind these layers, or what reads them needs floats",
        "move Q and DQ next to layers that run quantized, on every input of an addition, and behind each convolution "
        "whose reader is quantized",
        act="move Q and DQ next to quantized layers",
        evidence=(
            Evidence("quantize or dequantize layers that stand alone", len(dangling), "count"),
            Evidence("quantized layers that write floats", len(wide), "count"),
            *(
                Evidence("layer", layer.name, detail=f"{layer.dtype} to {layer.outputs[0].dtype}")
                for layer in (*dangling[:EXAMPLES], *wide[:EXAMPLES])
            ),
        ),
        loss=Loss(spent, spent / run.window_ns, "kernel time of the quantize and dequantize layers")
        if dangling and spent is not None
        else None,
    )


def _said(dangling: int, wide: int) -> Iterator[str]:
    if dangling:
        yield f"{dangling} quantize or dequantize layers stand alone"
    if wide:
        yield f"{wide} quantized convolutions or matrix multiplications write floats"


def _inner(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Layers that neither read an input of the network nor write an output of it."""
    layers = list(layers)
    written = {tensor.name for layer in layers for tensor in layer.outputs}
    read = {tensor.name for layer in layers for tensor in layer.inputs}
    for layer in layers:
        ends = (layer.inputs and layer.inputs[0].name in written, layer.outputs and layer.outputs[0].name in read)
        if all(ends):
            yield layer


def _dangles(layer: Layer) -> bool:
    sides = (layer.dtype in NARROW, (layer.outputs[0].dtype or "") in NARROW)
    return layer.type in {"Scale", "Quantize", "Dequantize"} and sides[0] != sides[1]


def _time_of(run: Run, layers: list[Layer]) -> int | None:
    """Kernel time of these layers; None where no kernel can be told to belong to a layer."""
    try:
        kernels = Kernels.of(run)
    except CouldNotRun:
        return None
    if not (kernels.layer.codes >= 0).any():
        return None
    names = {layer.name for layer in layers}
    return int(kernels.time[kernels.layer.where(names.__contains__)].sum())
