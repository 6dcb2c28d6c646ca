"""Inferences that consist of several enqueues: what lies between those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import no_inference, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.columns import ints
from nsight_tools.cuda_names import STALLS
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Ints
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

BETWEEN_SHARE = 0.05
BETWEEN_WARNING = 0.1
PARTITIONS = 3
"""From so many engines on, one after the other, they are parts of one network; two may be two networks."""


@analysis(
    "LCH007",
    needs={"api_calls", "inferences"},
    topic="pieces",
    bucket=HOST,
    picture="launches",
    warns_from=BETWEEN_WARNING,
)
def inferences_in_pieces(trace: Trace) -> Iterator[Finding]:
    """An inference consists of several enqueues, and the GPU idles between them.

    Measures: inferences with two enqueues or more (`enqueues`, by TensorRT's ranges): the time from the end of one to
    the begin of the next of the same inference in which the GPU runs nothing, less what the thread spends in calls that
    allocate, load or build. A finding from 5 % of the inference time on, a warning from 10 % on. The bound is that
    time.

    Why it matters: where a framework (ONNX Runtime, Torch-TensorRT) meets operators that TensorRT does not support, it
    cuts the network into engines, and runs what lies between on the CPU or by other kernels: each cut costs a wait, a
    copy each way, and a launch. A pipeline of several networks has the same seams.

    Remedy: make the operators supported (another opset, a plugin, a rewritten layer), or run them on the GPU; keep what
    one piece hands to the next on the GPU, and enqueue the next without waiting. ONNX Runtime and Torch-TensorRT log
    which operators fall back.

    Blind spots: which operators run on the CPU between is not in the report. Enqueues are known by TensorRT's ranges
    only.
    """
    run = Run.of(trace)
    if not run.count:
        raise no_inference(trace)
    enqueues = trace.table("enqueues", ["start_ns", "end_ns", "pid", "tid", "inference", "engine"])
    inference = ints(enqueues["inference"])
    mine = np.flatnonzero((inference >= 0) & run.judges(inference))
    start, end, whose = ints(enqueues["start_ns"])[mine], ints(enqueues["end_ns"])[mine], inference[mine]
    order = np.lexsort((start, whose))
    start, end, whose = start[order], end[order], whose[order]
    inner = np.flatnonzero(whose[1:] == whose[:-1])
    if not inner.size:
        raise NotApplicable("no inference consists of several enqueues")
    by_gpu = _idle_between(run, end[inner], start[inner + 1], run.requests.device[whose[inner]])
    idle, cost = Intervals.any_of(by_gpu), sum(intervals.total for intervals in by_gpu)
    if cost < BETWEEN_SHARE * run.window_ns:
        return
    pieces = round(float(np.median(np.bincount(whose)[np.unique(whose)])))
    engines = len(np.unique(ints(enqueues["engine"])[mine]))
    cut = engines >= PARTITIONS
    yield Finding(
        "LCH007",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"{pieces} enqueues of {engines} engines make one inference, and the GPU idles between them for "
        f"{share(cost / run.window_ns)} of the {run.time}: {duration(cost / max(inner.size, 1))} each time",
        "operators that TensorRT does not support cut the network into partitions: between two of them the host works, "
        "copies and waits"
        if cut
        else "the host works, copies or waits between the enqueues of one inference",
        "make the unsupported operators part of an engine (another opset, a plugin, a rewritten layer), or run them on "
        "the GPU; keep tensors on the GPU between the pieces"
        if cut
        else "keep what one engine hands to the next on the GPU, and enqueue the next without waiting for it",
        act="bring the pieces into one engine" if cut else "hand tensors on without leaving the GPU",
        evidence=(
            Evidence("GPU idle between enqueues", cost, "ns"),
            Evidence("enqueues of an inference, median", pieces, "count"),
            Evidence("engines", engines, "count"),
            *worst("longest", idle.start, idle.end),
        ),
        explains=("gaps", "synchronizations") if cut else (),
        loss=Loss(
            cost,
            cost / run.window_ns,
            "time between the enqueues of an inference in which the GPU runs nothing",
            of_host=True,
        ),
    )


def _idle_between(run: Run, start: Ints, end: Ints, device: IntArray) -> list[Intervals]:
    """When each of the GPUs idles between `start` and `end`, in which nothing stalls; arrays are (n,), in ns."""
    calls = run.flow.during(run.calls)
    stalls = calls[calls.does.among(*STALLS)].time()
    return [
        Intervals.union(start[on_gpu], end[on_gpu]).subtract(run.gpus.busy(gpu)).subtract(stalls)
        for gpu in np.unique(device).tolist()
        for on_gpu in (device == gpu,)
    ]
