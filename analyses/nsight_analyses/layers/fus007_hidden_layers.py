"""A region that Myelin compiled as one, and that hides its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.layers.layer_times import Kernels
from nsight_analyses.layers.tensorrt import EAGER_RUN, no_layers
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import REGION
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

HIDES = 0.5
"""Of the kernel time: from here on, verdicts on layers are about the smaller part of the engine."""


@analysis("FUS007", needs={"kernels"}, topic="hidden layers", bucket=COMPUTE)
def hidden_layers(trace: Trace) -> Iterator[Finding]:
    """One compiled region hides most of the engine's layers.

    Measures: layers named `{ForeignNode[first...last]}`, which Myelin compiled as one, and the kernel time in them; a
    finding where it is half of the kernel time and more. Only information.

    Why it matters: what single layers take, reformats and missing fusions cannot be seen inside: analyses of layers are
    silent there, not clear.

    Remedy: nothing, if it is fast: a compiled region is fused as a whole. To look inside, read the kernels' names,
    which spell their operations; or build with an output marked in between, or at another builder optimization level,
    and compare. NVIDIA's TensorRT documentation, "Layer Fusion".

    Blind spots: kernels without a layer are in no region.
    """
    run = Run.of(trace)
    kernels = Kernels.of(run)
    if not (kernels.layer.codes >= 0).any():
        raise no_layers(trace, CouldNotRun("no kernel lies inside of a TensorRT layer's range", hint=EAGER_RUN))
    regions = {name: time for name in kernels.layer.counts() if REGION.search(name) for time in (_time(kernels, name),)}
    total, hidden = int(kernels.time.sum()), sum(regions.values())
    if hidden < HIDES * total:
        return
    largest = max(regions, key=regions.__getitem__)
    one = len(regions) == 1
    said = "1 compiled region (ForeignNode) hides" if one else f"{len(regions)} compiled regions (ForeignNode) hide"
    yield Finding(
        "FUS007",
        Severity.INFO,
        Confidence.HIGH,
        f"{said} the layers of {share(hidden / total)} of the kernel time",
        "TensorRT's compiler, Myelin, made one node of these layers: their kernels have no layer of their own",
        "look at the kernels' names, which spell the operations fused; what is said of layers is about the rest",
        evidence=(
            Evidence("kernel time in compiled regions", hidden, "ns"),
            Evidence("largest region", regions[largest], "ns", detail=largest),
        ),
    )


def _time(kernels: Kernels, name: str) -> int:
    return int(kernels.time[kernels.layer.among(name)].sum())
