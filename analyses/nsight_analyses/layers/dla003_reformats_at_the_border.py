"""What it costs the GPU to hand tensors to a DLA and to take them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.dla import Dla
from nsight_tools.run.engine import time_by_layer
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

BORDER_WARNING = 0.1
"""As of the hole that the DLA leaves: both are the price of one change between GPU and DLA."""
NAMED = 5
"""Layers that are named, those that take longest first: what fits a screen."""


@analysis("DLA003", needs={"kernels"}, topic="border", bucket=COMPUTE, picture="layers", warns_from=BORDER_WARNING)
def reformats_at_the_border(trace: Trace) -> Iterator[Finding]:
    """Tensors change their form on their way to a DLA and back.

    Measures: kernels of inferences whose layer is a reformat that reads what the DLA writes, writes what it reads, or
    is named after one of its subgraphs; and of layers named "… to nvm", "… from nvm" or "… copy finish". A finding from
    2.5 % of the inference time on, a warning from 10 % on. The bound is their time.

    Why it matters: a DLA reads and writes FP16 or INT8 in formats of its own. What comes from the GPU, or from the
    program, in another form is copied through memory at each border, and nothing is computed by it.

    Remedy: give and take the network's inputs and outputs as the DLA has them (`--inputIOFormats=int8:dla_linear`,
    `fp16:dla_hwc4` and the like), and have few large subgraphs. NVIDIA's TensorRT documentation, "Working with
    DLA", "I/O Formats on DLA".

    Blind spots: only what runs as a kernel is seen; the DLA's own copies are not in the report. Not tried on a machine
    with a DLA.
    """
    dla = Dla.of(trace)
    if not dla.layers:
        raise NotApplicable("no layer of the engine is known to run on a DLA")
    run = Run.of(trace)
    taken = time_by_layer(run)
    ours = sorted((layer for layer in dla.borders if taken.get(layer.name)), key=lambda layer: -taken[layer.name])
    lost = sum(taken[layer.name] for layer in ours)
    if lost < NOISE_SHARE * run.window_ns or not ours:
        return
    yield Finding(
        "DLA003",
        Severity.WARNING,
        Confidence.HIGH,
        f"tensors that go to the DLA (Deep Learning Accelerator) or come from it are converted for "
        f"{share(lost / run.window_ns)} of the {run.time}",
        f"{len(ours)} layer{'s' * (len(ours) > 1)} at the border of {len(dla.layers)} "
        f"subgraph{'s' * (len(dla.layers) > 1)} only change{'s' * (len(ours) == 1)} a tensor's datatype or layout",
        "let the network's inputs and outputs have the DLA's formats (--inputIOFormats, --outputIOFormats with "
        "dla_linear or dla_hwc4), and give the DLA few large subgraphs",
        act="let inputs and outputs have the DLA's formats",
        evidence=(
            Evidence("kernel time at the border", lost, "ns"),
            Evidence("subgraphs on the DLA", len(dla.layers), "count"),
            *(Evidence("layer", taken[layer.name], "ns", detail=layer.name) for layer in ours[:NAMED]),
        ),
        explains=("reformats",),
        loss=Loss(lost, lost / run.window_ns, "kernel time of the layers at the DLA's border"),
    )
