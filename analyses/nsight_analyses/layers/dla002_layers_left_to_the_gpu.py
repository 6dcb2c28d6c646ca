"""Layers that the GPU runs in an engine that was built for a DLA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.run.dla import Dla
from nsight_tools.run.engine import time_by_layer
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

NAMED = 5
"""Layers that are named, those that take longest first: what fits a screen."""


@analysis("DLA002", needs={"kernels"}, topic="fallback", bucket=COMPUTE)
def layers_left_to_the_gpu(trace: Trace) -> Iterator[Finding]:
    """Layers of an engine for a DLA run on the GPU.

    Measures: layers that compute and are not on the DLA, where `layers` has some of type DLA; reformats are none. Their
    kernels' time, where ranges tell it. A finding where at least one of them stands between two subgraphs of the
    DLA, or where their kernels take 2.5 % of the inference time. An info: the GPU may well be the faster one for them.

    Why it matters: TensorRT gives the GPU what a DLA cannot run (`--allowGPUFallback`). Each change between the two
    costs a wait and reformats, and the GPU is not free for other work. A DLA holds 16 subgraphs at most.

    Remedy: the builder's log names each layer that is "unsupported on DLA" and why. Change these layers (supported
    sizes, types and parameters), or put the layers between two of them on the GPU, too (`setDeviceType`), so that the
    DLA gets few large subgraphs. NVIDIA's TensorRT documentation, "Working with DLA".

    Blind spots: why a layer is not on the DLA is in the builder's log only. Order is that of the engine's list: layers
    of parallel branches may stand between two subgraphs and part none. Not tried on a machine with a DLA.
    """
    dla = Dla.of(trace)
    if not dla.layers:
        raise NotApplicable("no layer of the engine is known to run on a DLA")
    if not dla.fallback:
        return
    run = Run.of(trace)
    taken = time_by_layer(run)
    ours = sorted(dla.fallback, key=lambda layer: -taken.get(layer.name, 0))
    time = sum(taken.get(layer.name, 0) for layer in ours)
    if not dla.cuts and time < NOISE_SHARE * run.window_ns:
        return
    count, parts, cuts = len(ours), len(dla.layers), len(dla.cuts)
    cut = {layer.name for layer in dla.cuts}
    yield Finding(
        "DLA002",
        Severity.INFO,
        Confidence.HIGH if any(layer.type for layer in dla.layers) else Confidence.MEDIUM,
        f"{count} layer{'s' * (count > 1)} of an engine for the DLA (Deep Learning Accelerator) "
        f"run{'s' * (count == 1)} on the GPU, and take{'s' * (count == 1)} {share(time / run.window_ns)} "
        f"of the {run.time}",
        f"the DLA has {parts} subgraph{'s' * (parts > 1)}"
        + (f"; {cuts} of these layers stand{'s' * (cuts == 1)} between two of them" if cuts else ""),
        "see the builder's log for why the DLA does not run them, and change them; or put the small layers between two "
        "of them on the GPU, too (setDeviceType), so that the DLA has few large subgraphs",
        evidence=(
            Evidence("kernel time of layers on the GPU", time, "ns"),
            Evidence("layers on the GPU", count, "count"),
            Evidence("subgraphs on the DLA", parts, "count"),
            Evidence("layers between two subgraphs", cuts, "count"),
            *(
                Evidence(
                    "layer",
                    taken.get(layer.name, 0),
                    "ns",
                    detail=layer.name + (", between two subgraphs" if layer.name in cut else ""),
                )
                for layer in ours[:NAMED]
            ),
        ),
        explains=("border",),
    )
