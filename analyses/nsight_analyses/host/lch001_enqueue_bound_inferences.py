"""The host's side of an inference: can it launch as fast as the GPU works?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.tracing import graph_evidence, tracing_evidence
from nsight_analyses.measure import as_a_graph, weigh
from nsight_tools.analysis import HOST, analysis
from nsight_tools.calibration import IN_GRAPH_NS, Calibrated
from nsight_tools.cuda_names import CallKind
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

ENQUEUE_RATIO = 0.8
"""trtexec warns where the median enqueue takes longer than this share of the median GPU compute time."""
STARVED_SHARE = 0.05
"""An enqueue that keeps the GPU waiting for less is no limit: it only lasts as long as the GPU's work."""
GAIN_WARNING = 0.1
ENOUGH_INFERENCES = 10
"""trtexec's least number of iterations; the median of fewer is no ground to change a deployment on."""


@analysis(
    "LCH001",
    needs={"api_calls", "inferences"},
    topic="enqueue",
    bucket=HOST,
    picture="launches",
    change=Change("use_cuda_graph"),
)
def enqueue_bound_inferences(trace: Trace) -> Iterator[Finding]:
    """The host cannot launch an inference as fast as the GPU runs it.

    Measures: trtexec's test, median enqueue above 0.8 of the median GPU compute, without the profiler. Enqueue is from
    the start of an inference's first kernel launch (`launches.call_start_ns`) to the return of its last
    (`call_end_ns`), less the synchronizations of its thread in between; compute from its first kernel's `start_ns` to
    its last one's `end_ns`. From both is taken what tracing cost (estimated as for the gaps between kernels). Beside
    the test the GPU must really starve: what is left of the gaps that wait for a launch, over and above the gap between
    dependent kernels, takes 5 % of the compute time. An enqueue that blocks because the launch queue is full passes the
    test, and starves nothing.

    It is a warning where the test holds whatever tracing cost, within its interval, over 10 inferences at least, and a
    CUDA graph recovers 10 % of the inferences' time even then; an info where it only holds for the likely cost. Where
    the traced numbers alone look enqueue-bound there is no finding here: the gaps between kernels are counted, and said
    that the profiler makes them. Inferences that a CUDA graph launches are not enqueue-bound.

    What a CUDA graph recovers is all of the gaps between kernels but 0.1 µs each, without the profiler; the median
    over the inferences. Its interval is that of the tracing cost, and another 20 % for how dependency gaps differ
    between runs. Where an untraced run timed compute by events, the gaps are those events' time less the kernels', and
    the interval is 25 %: so far lay three engines. Of the wall it is 20 to 50 µs less where the wait sleeps.

    Why it matters: the GPU waits for the host in every inference; a faster GPU or faster kernels would change nothing.

    Remedy: a CUDA graph (trtexec `--useCudaGraph`, the default from TensorRT 11 on; `cudaStreamBeginCapture` around
    `enqueueV3`, after one enqueue with the same shapes), or a larger batch. NVIDIA's TensorRT Best Practices,
    "Enqueue-Bound Workloads and CUDA Graphs". Loops, conditionals, data-dependent shapes and synchronous calls cannot
    be captured.

    Blind spots: the host's work before the first and after the last launch of an inference is not in the enqueue.
    With several inferences in flight another thread's work may fill the gaps: then the GPU does not starve, and this
    is clear. The estimate of the profiler's cost was made on one machine; an untraced run is the truth.
    """
    run, calibrated = Run.of(trace), Calibrated.of(trace)
    if not run.count:
        raise CouldNotRun(
            "no inference with GPU work was found; mark them with an NVTX range `inference` in the domain nsight_tools"
        )
    enqueue, gain = enqueue_times(run, calibrated), calibrated.graph_gain
    if enqueue is None or enqueue.ratios[1] <= ENQUEUE_RATIO:
        return
    if calibrated.starved < STARVED_SHARE * enqueue.compute[1]:
        return
    if gain.point * run.count < NOISE_SHARE * run.window_ns:
        return
    enough = run.count >= ENOUGH_INFERENCES
    sure = enqueue.ratios[2] > ENQUEUE_RATIO and enough
    least = gain.low * run.count / run.window_ns
    recoverable = round(gain.point) * run.count
    yield Finding(
        "LCH001",
        weigh(least, GAIN_WARNING, run) if sure else Severity.INFO,
        Confidence.MEDIUM if sure else Confidence.LOW,
        "the GPU waits for the host's launches, "
        + ("even without the profiler" if enqueue.ratios[2] > ENQUEUE_RATIO else "if tracing cost what it usually does")
        + f": the host spends {duration(enqueue.real[1])} launching an inference; "
        + f"the GPU's work takes {duration(enqueue.compute[1])} from its first kernel to its last"
        + ("" if enough else f"; only {run.count} inferences were captured"),
        f"kernels finish before the host has launched the next one: {_pace(run)}",
        as_a_graph(run) + ("" if sure else "; measure the run without the profiler first"),
        recoverable,
        run.per_inference(recoverable),
        f"what a CUDA graph recovers without the profiler: the gaps between kernels but {IN_GRAPH_NS / 1000} µs each",
        (
            *_medians("enqueue", enqueue.real, enqueue.traced),
            *_medians("first to last kernel", enqueue.compute, enqueue.traced_compute),
            *graph_evidence(calibrated),
            *tracing_evidence(calibrated),
        ),
        explains=("gaps",),
        recoverable_between_ns=(round(gain.low), round(gain.high)),
    )


def _medians(what: str, real: tuple[float, ...], traced: float) -> Iterator[Evidence]:
    between = f"between {duration(real[2])} and {duration(real[0])}"
    yield Evidence(f"{what}, median, without the profiler", round(real[1]), "ns", detail=between)
    yield Evidence(f"{what}, median, traced", round(traced), "ns")


def _pace(run: Run) -> str:
    """How long the host takes from one launch to the next, and how long a kernel lasts."""
    work = run.work[np.flatnonzero(run.judged_work & run.work.computes & (run.work.call_start >= 0))]
    order = np.lexsort((work.call_start, work.inference))
    called, whose = work.call_start[order], work.inference[order]
    step = (called[1:] - called[:-1])[whose[1:] == whose[:-1]]
    kernel = duration(float(np.median(work.end - work.start)))
    return f"one each {duration(float(np.median(step)))} for kernels of {kernel} (medians, as traced)"


@dataclass(frozen=True)
class Enqueue:
    """Medians over inferences, nanoseconds: traced, and without the profiler if it costs least, likely, most."""

    traced: float
    traced_compute: float
    real: tuple[float, ...]
    compute: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Enqueue by compute, for the least, likely and most that tracing costs."""
        return tuple(one / max(other, 1) for one, other in zip(self.real, self.compute, strict=True))


def enqueue_times(run: Run, calibrated: Calibrated) -> Enqueue | None:
    """Enqueue and GPU compute time of the inferences, traced and without the profiler; None without any.

    Enqueue is from the start of an inference's first kernel launch to the return of its last, less the waits of its
    thread in between; compute from the start of its first kernel to the end of its last. Inferences of which a CUDA
    graph launched anything are left out.
    """
    work, calls = run.work, run.calls
    thread_of = calibrated.owners[0]
    first, start = (np.full(thread_of.size, np.iinfo(np.int64).max) for _ in range(2))
    last, returned, end = (np.full(thread_of.size, np.iinfo(np.int64).min) for _ in range(3))
    graphs = np.zeros(thread_of.size, np.bool_)
    for piece in work.pieces():
        rows = np.flatnonzero((piece.inference >= 0) & piece.computes & (piece.api_call >= 0))
        rows = rows[run.judges(piece.inference[rows])]
        whose = piece.inference[rows]
        for least, column in ((first, piece.call_start), (start, piece.start)):
            np.minimum.at(least, whose, column[rows])
        for most, column in ((last, piece.call_start), (returned, piece.call_end), (end, piece.end)):
            np.maximum.at(most, whose, column[rows])
        graphs[whose[calls.kind[piece.api_call[rows]] == CallKind.GRAPH_LAUNCH]] = True
    chosen = np.flatnonzero((first <= last) & ~graphs)
    if not chosen.size:
        return None
    thread, first, last, returned = thread_of[chosen], first[chosen], last[chosen], returned[chosen]
    waits = np.zeros(chosen.size, np.int64)
    sync = calls[np.flatnonzero(calls.kind == CallKind.SYNC)]
    key = joint_key(sync.pid, sync.tid)
    for one in distinct(thread).tolist():
        mine, theirs = thread == one, key == one
        waited = Intervals.union(sync.start[theirs], sync.end[theirs])
        waits[mine] = waited.coverage(first[mine], returned[mine])
    enqueue, compute = returned - first - waits, (end - start)[chosen]
    costs = calibrated.cost(thread, first, last + 1)
    shorter = [less[chosen] for less in calibrated.shorter]
    traced = (float(np.median(enqueue)), float(np.median(compute)))
    known = calibrated.untraced
    if known is not None and known.enqueue is not None and known.compute is not None:
        one = known.enqueue
        return Enqueue(*traced, (one.high, one.point, one.low), (known.compute.point,) * 3)
    return Enqueue(
        *traced,
        tuple(float(np.median(np.maximum(enqueue - cost, 0))) for cost in costs),
        tuple(float(np.median(compute - less)) for less in shorter),
    )
