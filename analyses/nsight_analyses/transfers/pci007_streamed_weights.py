"""Copies that an engine makes itself: weights that are streamed from the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import worst
from nsight_analyses.transfers.copies import BANDWIDTH_BYTES, rates, size_of
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

WEIGHTS_WARNING = 0.1


@analysis(
    "PCI007",
    needs={"memory_ops", "api_calls"},
    topic="streamed weights",
    bucket=COPIES,
    picture="transfers",
    warns_from=WEIGHTS_WARNING,
)
def streamed_weights(trace: Trace) -> Iterator[Finding]:
    """The engine streams its weights from the host in every inference.

    Measures: host-to-device copies that are launched inside of TensorRT's ranges around an enqueue, by its own thread:
    the engine makes them, not the program. From 1 MB on in all, and 2.5 % of the inference time in which no kernel
    runs beside them; a warning from 10 % on. The bound is that time.

    Why it matters: with weight streaming an engine larger than its budget of GPU memory copies the rest through PCIe
    each time, layer by layer: the link is slower than the GPU's memory by a factor of 50 and more.

    Remedy: raise the weight streaming budget (`setWeightStreamingBudgetV2`, trtexec `--weightStreamingBudget`) as far
    as the GPU's memory allows, or make the weights smaller (FP8, INT8, INT4), so that they stay on the GPU. NVIDIA's
    TensorRT documentation, "Weight Streaming".

    Blind spots: without TensorRT's ranges these copies look like the program's own. A plugin may copy inside of an
    enqueue as well.
    """
    run = Run.of(trace)
    copies = run.copies
    mine = run.engine_copies & copies.kind.among("h2d") & run.judges(copies.inference)
    if not mine.any():
        raise NotApplicable("no engine copies from the host inside of its enqueue")
    copies = copies[mine]
    exposed = run.gpus.exposed(copies)
    if copies.size.sum() < BANDWIDTH_BYTES or exposed < NOISE_SHARE * run.window_ns:
        return
    streamed = float(copies.size.sum()) / max(run.count, 1)
    yield Finding(
        "PCI007",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"the engine copies {size(streamed)} from the host inside of each enqueue, "
        f"{len(copies) / max(run.count, 1):.3g} copies: {share(run.gpus.share(exposed, copies.device))} of the "
        f"{run.time} with no kernel beside them",
        "the copies are launched by the engine itself, between its layers: it streams its weights, which do not fit "
        "into its budget of GPU memory",
        "raise the weight streaming budget (setWeightStreamingBudgetV2, trtexec --weightStreamingBudget), or make the "
        "weights smaller (FP8, INT8, INT4)",
        act="keep the weights on the GPU",
        evidence=(
            Evidence("copies inside of enqueues", len(copies), "count"),
            Evidence("exposed", exposed, "ns", detail=f"{duration(exposed / max(run.count, 1))} an inference"),
            Evidence("median size", round(float(np.median(copies.size))), "bytes"),
            *rates(run, copies),
            *worst("longest", copies.start, copies.end, size_of(copies)),
        ),
        explains=("gaps",),
        loss=Loss(
            exposed, run.gpus.share(exposed, copies.device), "time of these copies in which their GPU runs no kernel"
        ),
    )
