"""Memory: what is allocated and freed while inferences run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.slow import ALLOCATIONS, slow_by_these
from nsight_analyses.host.steady import while_inferences_run
from nsight_analyses.measure import nothing_repeats, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import MEMORY
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.calls import HostCalls
    from nsight_tools.trace import Trace

EACH_SHARE = 0.1
"""Allocations in every tenth inference are a habit, and not the growth of a pool."""
COST_SHARE = 0.01
"""Rarer ones matter from this share of the threads' time on."""


@analysis("MEM001", needs={"api_calls"}, topic="allocations", bucket=HOST, picture="launches", warns_from=0.05)
def allocations_in_steady_state(trace: Trace) -> Iterator[Finding]:
    """Memory is allocated or freed while inferences run.

    Measures: `api_calls` that allocate, free, pin or unpin memory (cudaMalloc…, cudaFree…, cudaHostAlloc, cuMemAlloc…,
    cuMemCreate…, cudaMallocAsync) on a thread that makes inferences, in its judged inferences and between them, pauses
    between runs left out; what stands before the first is set-up; a call inside of another counts once. A finding where
    they are one for every tenth inference or 1 % of the threads' time; a warning from 5 % of it on. The bound is their
    host time: they can wait for the GPU inside. Where `memory_usage` was collected, the bytes stand beside.

    Why it matters: cudaFree waits for all work of the GPU, and cudaMalloc may; pinning memory takes milliseconds. Each
    stops the thread from launching, and ends the overlap of streams.

    Remedy: allocate input and output buffers once, for the largest shape, and use them again; allocate the engine's
    scratch memory yourself (createExecutionContextWithoutDeviceMemory, setDeviceMemory) or let TensorRT's own allocator
    use a pool (IGpuAsyncAllocator with cudaMallocAsync). NVIDIA's TensorRT documentation, "How TensorRT Works",
    on memory; CUDA's stream-ordered memory allocator.

    Blind spots: allocations on other threads are not counted. Stream-ordered ones are cheap as long as the pool holds
    memory: only their own time is charged. What an allocator keeps inside of the process makes no call at all.
    """
    run = Run.of(trace)
    if run.requests.judged.sum() < 2:
        raise nothing_repeats(trace, "fewer than two inferences: there is no steady state to look into")
    loops = run.flow.loops
    found = while_inferences_run(run, run.calls[run.calls.does.among(*MEMORY)].outermost())
    if not len(found.start):
        return
    inferences = run.count
    cost = Intervals.union(found.start, found.end).total
    part = min(cost / max(sum(line.total for line in loops.values()), 1), 1)
    if len(found.start) < EACH_SHARE * inferences and part < COST_SHARE:
        return
    yield _finding(run, found, loops, cost, part, inferences)


def _finding(
    run: Run,
    found: HostCalls,
    loops: dict[tuple[int, int], Intervals],
    cost: int,
    part: float,
    inferences: int,
) -> Finding:
    pooled = found.does.among("allocate_pooled", "free_pooled")
    counts = found.name.counts()
    named = ", ".join(f"{name} ({number} times)" for name, number in list(counts.items())[:4])
    return Finding(
        "MEM001",
        Severity.INFO if pooled.all() else Severity.WARNING,
        Confidence.HIGH,
        f"{len(found.start)} allocations or frees in {inferences} inferences: {duration(cost)} on the "
        f"host, {share(part)} of the threads' time",
        f"{named}: from a pool, in the stream's order, which waits for nothing while the pool holds memory"
        if pooled.all()
        else f"{named}: they stop the thread, and those that free wait for the GPU's work",
        "allocate buffers once, for the largest shape, and use them again; where the sizes must vary, use "
        "cudaMallocAsync with a pool that keeps its memory (cudaMemPoolAttrReleaseThreshold)",
        act="allocate buffers once, before the loop",
        evidence=(
            Evidence("allocations and frees", len(found.start), "count", detail=named),
            Evidence("host time", cost, "ns"),
            *_bytes(run.trace, loops),
            *worst("longest call", found.start, found.end, found.name.at),
        ),
        explains=_follows(run, Intervals.union(found.start, found.end)),
        loss=Loss(cost, part, "host time of these calls, waiting inside included", of_host=True),
    )


def _follows(run: Run, time: Intervals) -> tuple[str, ...]:
    """What is the same time seen again: the gaps, where most of them are these calls; inferences slow by them alone."""
    gaps = ("gaps", "between inferences") if 2 * time.total > run.gaps.length.sum() else ()
    return (*gaps, *(("slow inferences",) if slow_by_these(run, ALLOCATIONS, time) else ()))


def _bytes(trace: Trace, loops: dict[tuple[int, int], Intervals]) -> Iterator[Evidence]:
    table = trace.table("memory_usage", ["time_ns", "pid", "kind", "size_bytes"])
    time, pid = ints(table["time_ns"]), ints(table["pid"])
    inside = np.zeros(len(table), np.bool_)
    for (process, _), line in loops.items():
        inside |= (pid == process) & line.contains(time)
    size = ints(table["size_bytes"])[inside & words(table["kind"]).among("allocate")]
    if len(size):
        yield Evidence("allocated on the GPU", int(size.sum()), "bytes", detail=f"in {len(size)} pieces")
