"""The host's side of an inference: can it launch as fast as the GPU works?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.tracing import tracing_evidence
from nsight_analyses.measure import as_a_graph
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration
from nsight_tools.worth import Pricing
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

ENQUEUE_RATIO = 0.8
"""trtexec warns where the median enqueue takes longer than this share of the median GPU compute time."""
STARVED_SHARE = 0.05
"""An enqueue that keeps the GPU waiting for less is no limit: it only lasts as long as the GPU's work."""
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
    its last one's `end_ns`. From both is taken what tracing cost (as for the gaps between kernels). Beside the test the
    GPU must really starve: the gaps that wait for a launch, over and above the gap between dependent kernels, take 5 %
    of the compute time where tracing cost least. An enqueue that blocks because the launch queue is full passes the
    test, and starves nothing.

    It is a warning over 10 inferences at least, where 10 % of their time come back even if tracing cost most. The
    message says whether both tests hold then, too, or at the likely cost of tracing, or neither; of the latter only a
    replay can speak. Where the traced numbers alone look enqueue-bound there is no finding here: the gaps between
    kernels are counted, and said that the profiler makes them. Inferences that a CUDA graph launches are not
    enqueue-bound.

    Why it matters: the GPU waits for the host in every inference; a faster GPU or faster kernels would change nothing.

    Remedy: a CUDA graph (trtexec `--useCudaGraph`, the default from TensorRT 11 on; `cudaStreamBeginCapture` around
    `enqueueV3`, after one enqueue with the same shapes), or a larger batch. NVIDIA's TensorRT Best Practices,
    "Enqueue-Bound Workloads and CUDA Graphs". Loops, conditionals, data-dependent shapes and synchronous calls cannot
    be captured.

    Blind spots: the host's work before the first and after the last launch of an inference is not in the enqueue.
    With several inferences in flight another thread's work may fill the gaps: then the GPU does not starve, and this
    is clear. What the profiler cost is a range; an untraced run is the truth.
    """
    run, pricing = Run.of(trace), Pricing.of(trace)
    if not run.count:
        raise CouldNotRun(
            "no inference with GPU work was found",
            hint="mark them with an NVTX range `inference` in the domain nsight_tools",
        )
    enqueue, launching = pricing.enqueue, pricing.host.launching
    if enqueue is None:
        return
    traced, shorter = float(np.median(launching.compute)), pricing.shorter
    compute = Range(*(max(traced - each, 1.0) for each in (shorter.high, shorter.point, shorter.low)))
    if enqueue.point <= ENQUEUE_RATIO * compute.point:
        return
    starved = _starved(run)
    if starved - shorter.low < STARVED_SHARE * compute.high:
        return
    enough = run.count >= ENOUGH_INFERENCES
    likely = starved - shorter.point >= STARVED_SHARE * compute.point
    if not likely and pricing.program is None:
        return
    certain = enqueue.low > ENQUEUE_RATIO * compute.low and starved - shorter.high >= STARVED_SHARE * compute.low
    sure = certain and enough
    yield Finding(
        "LCH001",
        Severity.WARNING if enough else Severity.INFO,
        Confidence.MEDIUM if sure else Confidence.LOW,
        _how_sure(certain=certain, likely=likely)
        + f": the host spends {duration(enqueue.point)} launching an inference; "
        + f"the GPU's work takes {duration(compute.point)} from its first kernel to its last"
        + ("" if enough else f"; only {run.count} inferences were captured"),
        f"kernels finish before the host has launched the next one: {_pace(run)}",
        as_a_graph(run) + ("" if sure else "; measure the run without the profiler first"),
        evidence=(
            *_medians("enqueue", enqueue, float(np.median(launching.enqueue))),
            *_medians("first to last kernel", compute, traced),
            *tracing_evidence(pricing),
        ),
        explains=("gaps",) if starved >= _paused(run) else (),
        loss=Loss(
            round(starved * run.count),
            max(starved - shorter.high, 0.0) * run.count / run.window_ns,
            "time in which the GPU waits for a launch, as traced: the profiler makes a part of it",
        ),
    )


def _how_sure(*, certain: bool, likely: bool) -> str:
    if certain:
        return "the GPU waits for the host's launches, even without the profiler"
    if likely:
        return "the GPU waits for the host's launches, if tracing cost what it usually does"
    return (
        "the host launches hardly faster than the GPU works, and whether the GPU waits for it depends on what tracing "
        "cost"
    )


def _starved(run: Run) -> float:
    """How long a request's kernels wait for their launch alone, as traced: the median, ns."""
    gaps = run.gaps
    chosen = gaps.host & ~gaps.paused
    waits = np.where(chosen, np.maximum(gaps.length - gaps.least, 0), 0)
    mine = gaps.inference >= 0
    sums = np.bincount(gaps.inference[mine], waits[mine], len(run.requests))
    return float(np.median(sums[run.requests.judged & run.requests.worked]))


def _paused(run: Run) -> float:
    """How long a request's kernels wait while its thread does something else than launch: the median, ns."""
    gaps = run.gaps
    sums = np.bincount(gaps.inference[gaps.paused], gaps.length[gaps.paused], len(run.requests))
    return float(np.median(sums[run.requests.judged & run.requests.worked]))


def _medians(what: str, real: Range, traced: float) -> Iterator[Evidence]:
    between = f"between {duration(real.low)} and {duration(real.high)}"
    yield Evidence(f"{what}, median, without the profiler", round(real.point), "ns", detail=between)
    yield Evidence(f"{what}, median, traced", round(traced), "ns")


def _pace(run: Run) -> str:
    """How long the host takes from one launch to the next, and how long a kernel lasts."""
    work = run.work[np.flatnonzero(run.judged_work & run.work.computes & (run.work.call_start >= 0))]
    order = np.lexsort((work.call_start, work.inference))
    called, whose = work.call_start[order], work.inference[order]
    step = (called[1:] - called[:-1])[whose[1:] == whose[:-1]]
    kernel = duration(float(np.median(work.end - work.start)))
    return f"one each {duration(float(np.median(step)))} for kernels of {kernel} (medians, as traced)"
