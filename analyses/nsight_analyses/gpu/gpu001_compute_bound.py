"""Nothing to gain around the kernels: the GPU computes all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import no_inference
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.columns import ints
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

BOUND = 0.95
"""Of the time from one completion to the next: what is left would not be seen beside what two runs differ by."""


LAUNCHING = 0.1
"""Share of an inference in which it only launches, from which on launching is no small part of it."""


@analysis("GPU001", needs={"kernels"}, topic="compute-bound", bucket=COMPUTE)
def compute_bound(trace: Trace) -> Iterator[Finding]:
    """The GPU computes nearly all the time: nothing around its kernels can be gained.

    Measures: the share of the time from the first judged inference to the last, pauses left out, in which kernels that
    compute run on a GPU. From 95 % on it is said. Only information, and good news.

    Why it matters: no graph, no second stream, no pinned memory makes such a run faster. What helps is inside of the
    kernels.

    Remedy: another precision (FP16, BF16, INT8, FP8) where accuracy allows it, fusions that are missing, a larger batch
    where kernels do not fill the GPU, a larger GPU. NVIDIA's TensorRT Best Practices, "Optimizing Layer Performance".

    Blind spots: kernels that wait for memory, or for a peer without saying so, compute in this sense.
    """
    run = Run.of(trace)
    if not run.count:
        raise no_inference(trace)
    loops = list(run.flow.loops.values())
    first, last = min(int(loop.start[0]) for loop in loops), max(int(loop.end[-1]) for loop in loops)
    windows = {device: run.gpus.window(device).clip(first, last) for device in run.gpus.devices}
    shares = {
        device: run.gpus.computing(device).intersection(window).total / max(window.total, 1)
        for device, window in windows.items()
    }
    period = run.flow.period_ns
    judged = run.requests.judged
    # Where nothing is in flight between two inferences, the time between them counts as well.
    spent = float(np.median(run.requests.wall[judged])) / max(period, 1) if not run.flow.several else 1.0
    device = max(shares, key=shares.__getitem__)
    if shares[device] * min(spent, 1.0) < BOUND or _launching(run) >= LAUNCHING:
        return
    yield Finding(
        "GPU001",
        Severity.INFO,
        Confidence.HIGH,
        f"the GPU computes for {share(shares[device])} of the {run.time}: there is nothing to gain around its kernels",
        "the run is compute-bound: launches, copies and waits are hidden behind kernels, or take next to nothing",
        "look inside of the kernels: another precision where accuracy allows it, fusions, a larger batch where kernels "
        "leave SMs empty, or a larger GPU",
        evidence=(
            Evidence("share of the time in which kernels compute", shares[device], "ratio", detail=f"GPU {device}"),
        ),
    )


def _launching(run: Run) -> float:
    """Share of the inferences' time in which nothing runs for them and their threads are in launch calls."""
    table = run.trace.table("inferences", ["launch_ns", "wall_ns"])
    launch, wall = (int(ints(table[name])[run.requests.judged].sum()) for name in ("launch_ns", "wall_ns"))
    return launch / max(wall, 1)
