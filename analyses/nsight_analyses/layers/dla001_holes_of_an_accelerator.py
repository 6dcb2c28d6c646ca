"""Layers that another engine of the chip runs: what the GPU idles for meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import worst
from nsight_tools.analysis import analysis
from nsight_tools.columns import words
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.dla import Dla, subgraph
from nsight_tools.run.holes import Owner, holes
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

DLA_WARNING = 0.1
NAMED = 5
"""Subgraphs that are named: what fits a screen."""


@analysis(
    "DLA001",
    needs={"nvtx_ranges", "api_calls"},
    topic="accelerator",
    bucket=("accelerator", "sync", "launch"),
    warns_from=DLA_WARNING,
)
def holes_of_an_accelerator(trace: Trace) -> Iterator[Finding]:
    """The GPU waits for layers that the DLA runs.

    Measures: holes of more than 50 µs in the GPU's work of an inference in which the next work has been launched
    already, and between whose launch and the one before stands the range of a TensorRT layer that launches no kernel:
    another engine of the chip runs it, the DLA (Deep Learning Accelerator). A finding from 2.5 % of the inference time
    on, a warning from 10 % on. The bound is that time.

    Why it matters: a DLA is slower than the GPU. Where one inference is in flight, the GPU does nothing meanwhile, and
    each border costs reformats.

    Remedy: for latency, build these layers for the GPU (no `--useDLACore`, or `setDeviceType` for single layers); for
    throughput, keep a second inference in flight, so that the GPU works on one while the DLA works on the other. Keep
    the layers of a DLA together, in few subgraphs. NVIDIA's TensorRT documentation, "Working with DLA".

    Blind spots: the DLA's own work is in no export of Nsight Systems that is known, only the hole that it leaves: how
    long it works beside the GPU is not told. Where the engine's list has no layer types, any layer that launches
    nothing counts, and the accounting has no part for it; where it has, only layers on a DLA do.
    """
    run = Run.of(trace)
    if "TensorRT" not in words(trace.table("nvtx_ranges", ["domain"])["domain"]).counts():
        raise NotApplicable("no TensorRT layer is in this report, and so none that a DLA could run")
    by_gpu = [holes(run, device).of(Owner.ACCELERATOR) for device in run.gpus.devices]
    waits, cost = Intervals.any_of(by_gpu), sum(line.total for line in by_gpu)
    if not len(waits) or cost < NOISE_SHARE * run.window_ns:
        return
    subgraphs = Dla.of(trace).layers
    yield Finding(
        "DLA001",
        Severity.WARNING,
        Confidence.HIGH if subgraphs else Confidence.MEDIUM,
        f"the GPU idles for {share(cost / run.window_ns)} of the {run.time} while layers run elsewhere: "
        f"{len(waits)} hole{'s' * (len(waits) > 1)} of {duration(float(np.median(waits.end - waits.start)))} (median)",
        "a layer that launches no kernel stands between the launches on both sides of each hole: the DLA (Deep "
        "Learning Accelerator) runs it, and the GPU waits for it",
        "build these layers for the GPU (no --useDLACore, or setDeviceType), which is faster; or keep two inferences "
        "in flight, so that GPU and DLA work at once",
        act="build the DLA's layers for the GPU",
        evidence=(
            Evidence("GPU waits for the accelerator", cost, "ns"),
            Evidence("holes", len(waits), "count"),
            *(Evidence("subgraph on the DLA", subgraph(layer)) for layer in subgraphs[:NAMED]),
            *worst("longest", waits.start, waits.end),
        ),
        explains=("gaps", "contention"),
        loss=Loss(cost, cost / run.window_ns, "holes behind such layers; the layers take some time on the GPU, too"),
    )
