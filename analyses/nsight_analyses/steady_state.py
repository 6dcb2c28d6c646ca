"""What the host does in steady state beside launching: graphs that it builds, and work between inferences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.measured import HostCalls, Measured
from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.trace import Trace

PAUSE = 10
"""A gap this many times longer than a thread's median inference and median gap together is a pause between runs."""
BETWEEN_SHARE = 0.05
"""Less than this share of the time between inferences is within what a benchmark's own loop costs."""


@analysis("LCH002", needs={"api_calls"})
def graphs_built_in_steady_state(trace: Trace) -> Iterator[Finding]:
    """CUDA graphs are captured or instantiated between inferences, or their capture fails.

    Measures: `api_calls` that begin a capture (cudaStreamBeginCapture…) or instantiate a graph (cudaGraphInstantiate…),
    on a thread that makes inferences, from its second inference to the end of its last. The cost is their host time,
    each capture counted from its beginning to its end (cudaStreamEndCapture); the bound is that time. A warning from
    5 % of the time on. A capture, instantiation or graph launch that returns an error (`return_value`) is reported
    wherever it is, with the first call that failed inside of the capture.

    Why it matters: a graph pays by being launched many times; to instantiate one costs as much as hundreds of launches.
    Where the capture fails and its errors are not looked at, the graph's work does not run at all.

    Remedy: capture once for each shape, after one enqueue in that shape, keep the instantiated graph, and update its
    parameters with cudaGraphExecUpdate; one execution context for each graph. For failed captures: no synchronization,
    no legacy default stream and no allocation inside (cudaStreamCaptureModeThreadLocal keeps other threads' calls out).
    NVIDIA's TensorRT Best Practices, "CUDA Graphs".

    Blind spots: a graph for each new shape is right as long as shapes come back; this counts graphs, not shapes.
    Tracing makes captures slower, more so with node tracing.
    """
    measured = Measured.of(trace)
    calls = measured.host_calls
    returned = ints(trace.table("api_calls", ["return_value"])["return_value"], 0)
    failed = calls.name.where(_is(_FAILING)) & (returned != 0)
    if failed.any():
        yield _failure(calls, returned, failed)
        return  # what did not come to be was not built too often
    loops = steady_loops(measured)
    if not loops:
        raise nothing_repeats(trace, "no thread makes two inferences: there is no steady state to look into")
    begins, instances = (
        within(loops, outermost(calls[calls.name.where(_is(which))])) for which in (_BEGIN, _INSTANTIATE)
    )
    if not len(begins.start) and not len(instances.start):
        return
    ends = calls[calls.name.where(_is(_END))]
    start = np.append(begins.start, instances.start)
    end = np.append(_until(begins, ends), instances.end)
    cost = Intervals.union(start, end).total
    part = min(cost / sum(line.total for line in loops.values()), 1)
    yield Finding(
        "LCH002",
        weigh(part, 0.05),
        Confidence.HIGH,
        f"{len(begins.start)} captures and {len(instances.start)} instantiations of CUDA graphs in steady state: "
        f"{duration(cost)} on the host, {share(part)} of the threads' time",
        "graphs are built again while inferences run, rather than once before",
        "capture and instantiate once for each shape before the first inference that counts, keep the instantiated "
        "graph, and change it with cudaGraphExecUpdate",
        cost,
        measured.per_inference(cost),
        "host time of captures (from beginning to end) and instantiations",
        (
            Evidence("captures", len(begins.start), "count"),
            Evidence("instantiations", len(instances.start), "count"),
            Evidence("host time", cost, "ns"),
            *worst("longest", start, end),
        ),
    )


_VARIANT = r"(_pt[ds][sz])?"
_BEGIN = re.compile(r"cu(da)?StreamBeginCapture(ToGraph)?" + _VARIANT)
_END = re.compile(r"cu(da)?StreamEndCapture" + _VARIANT)
_INSTANTIATE = re.compile(r"cu(da)?GraphInstantiate\w*")
_FAILING = re.compile(r"cu(da)?(Stream(Begin|End)Capture|GraphInstantiate|GraphLaunch)\w*")
_CAPTURE_ERRORS = range(900, 909)
"""cudaErrorStreamCaptureUnsupported (900) to cudaErrorStreamCaptureWrongThread (908)."""


def _is(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda name: pattern.fullmatch(name) is not None


def _failure(calls: HostCalls, returned: Ints, failed: Bools) -> Finding:
    counts = calls[failed].name.counts()
    culprits = calls[np.isin(returned, _CAPTURE_ERRORS) & ~failed]
    named = ", ".join(f"{name} ({number} times)" for name, number in counts.items())
    launched = any("GraphLaunch" in name for name in counts)
    first = int(np.flatnonzero(failed)[0])
    culprit = culprits.name.at(0) if len(culprits.start) else ""
    return Finding(
        "LCH002",
        Severity.ERROR if launched else Severity.WARNING,
        Confidence.HIGH,
        f"CUDA graphs fail: {named} returned an error" + (", so that the graph's work did not run" if launched else ""),
        f"{culprit} was called inside of a capture, which does not allow it"
        if culprit
        else "the calls' return values say so; which call broke the capture cannot be told from this report",
        "look at the return value of every graph call; keep "
        + (culprit or "synchronizations, allocations and the legacy default stream")
        + " out of the capture, and enqueue once before it",
        evidence=(
            Evidence("failed calls", int(failed.sum()), "count"),
            Evidence(
                "first failed call",
                calls.name.at(first),
                "",
                int(calls.start[first]),
                int(calls.end[first]),
                f"returned {int(returned[first])}",
            ),
            *(
                [Evidence("call inside of the capture", culprit, "", int(culprits.start[0]), int(culprits.end[0]))]
                if culprit
                else []
            ),
        ),
    )


def _until(begins: HostCalls, ends: HostCalls) -> Ints:
    """When each capture ended: at the end of its thread's next cudaStreamEndCapture, else of the call that began it."""
    found = begins.end.copy()
    for at, (start, pid, tid) in enumerate(zip(begins.start, begins.pid, begins.tid, strict=True)):  # captures are few
        later = ends.end[(ends.pid == pid) & (ends.tid == tid) & (ends.start >= start)]
        found[at] = later[0] if len(later) else found[at]
    return found


def outermost(calls: HostCalls) -> HostCalls:
    """Calls that do not lie inside of another of these on their thread (cudaMalloc calls cuMemAlloc)."""
    keep = np.ones(len(calls.start), np.bool_)
    for pid, tid in np.unique(np.stack([calls.pid, calls.tid]), axis=1).T:
        rows = np.flatnonzero((calls.pid == pid) & (calls.tid == tid))
        reach = np.maximum.accumulate(calls.end[rows])
        keep[rows[1:]] = calls.start[rows[1:]] >= reach[:-1]
    return calls[keep]


def within(loops: dict[tuple[int, int], Intervals], calls: HostCalls) -> HostCalls:
    """Calls of threads in their steady state."""
    keep = np.zeros(len(calls.start), np.bool_)
    for (pid, tid), line in loops.items():
        keep |= (calls.pid == pid) & (calls.tid == tid) & line.contains(calls.start)
    return calls[keep]


def _ranges(measured: Measured) -> Iterator[tuple[tuple[int, int], Ints, Ints]]:
    """Start and end on the host of each thread's inferences, in order: ranges, or launches of graphs."""
    table = measured.trace.table("inferences", ["range_start_ns", "range_end_ns", "pid", "tid"])
    start, end, pid, tid = (ints(table[name]) for name in table.column_names)
    for one in np.unique(np.stack([pid, tid])[:, tid >= 0], axis=1).T:
        rows = np.flatnonzero((pid == one[0]) & (tid == one[1]))
        order = rows[np.argsort(start[rows], kind="stable")]
        yield (int(one[0]), int(one[1])), start[order], np.maximum.accumulate(end[order])


def _pauses(start: Ints, end: Ints) -> Bools:
    """Which of the gaps behind all inferences but the last are pauses between runs."""
    gap = np.maximum(start[1:] - end[:-1], 0)
    long: Bools = gap > PAUSE * (np.median(gap) + np.median(end - start))
    return long


def steady_loops(measured: Measured) -> dict[tuple[int, int], Intervals]:
    """For each thread (pid, tid) that makes inferences, its time from the second to the end of the last, no pauses."""
    loops = {}
    for thread, start, end in _ranges(measured):
        if len(start) < 2:
            continue
        pause = _pauses(start, end)
        pauses = Intervals.union(end[:-1][pause], start[1:][pause])
        loops[thread] = Intervals.union([start[1]], [end[-1]]).subtract(pauses)
    return loops


@analysis("LCH003", needs={"api_calls"})
def host_time_between_inferences(trace: Trace) -> Iterator[Finding]:
    """The GPU is idle while the host works between inferences.

    Measures: time between the ranges of consecutive inferences of a thread (`inferences.range_end_ns` to the next
    `range_start_ns`) that lies in no inference of any thread, in which no GPU runs anything that was traced, and the
    thread is not inside of a launch, a copy or a synchronization. Gaps ten times as long as the median inference and
    median gap together are pauses between runs and left out, and so is the profiler's own overhead. A finding from 5 %
    of the time of inferences and gaps on, a warning from 10 % on. The bound is that time: the GPU could have worked.

    Why it matters: what runs between inferences (reading, decoding, resizing, converting to an array, looking at
    results) costs throughput like a slow layer does, and no engine setting recovers it.

    Remedy: prepare the next input and look at the last result while the GPU works: enqueue the next inference first, on
    a second stream with buffers of its own, or hand pre- and postprocessing to another thread (Python: another process,
    or code that releases the GIL). Write preprocessed input into page-locked memory directly. NVIDIA's TensorRT Best
    Practices, "Cross-Inference Multi-Streaming" and "Optimizing Python Performance".

    Blind spots: a service that has no request to work on looks the same; where calls of the operating system were
    traced (`osrt_calls`), a thread that waits there is told apart. Work for the inference before its range begins
    counts as between.
    """
    measured = Measured.of(trace)
    if not len(measured.work.start):
        raise CouldNotRun(trace.missing("kernels") or "no GPU work: whether the GPU was idle is not known")
    all_threads = list(_ranges(measured))
    threads = [one for one in all_threads if len(one[1]) > 1]
    if not threads:
        raise nothing_repeats(trace, "no thread makes two inferences: there is nothing between them")
    inside = Intervals.union(*(np.concatenate([one[at] for one in all_threads]) for at in (1, 2)))
    calls = measured.host_calls
    gaps, count = Intervals.union([], []), 0
    for (pid, tid), start, end in threads:
        pause = _pauses(start, end)
        between = Intervals.union(end[:-1][~pause], start[1:][~pause]).subtract(inside)
        mine = (calls.pid == pid) & (calls.tid == tid) & (calls.kind != CallKind.OTHER)
        between = between.subtract(Intervals.union(calls.start[mine], calls.end[mine]))
        gaps = Intervals.any_of([gaps, between])
        count += int((~pause).sum())
    overhead = trace.table("profiler_overhead", ["start_ns", "end_ns"])
    gaps = gaps.subtract(measured.work.busy())
    gaps = gaps.subtract(Intervals.union(ints(overhead["start_ns"]), ints(overhead["end_ns"])))
    whole = Intervals.any_of([gaps, measured.window]).total
    cost = gaps.total
    if cost < BETWEEN_SHARE * max(whole, 1):
        return
    waits = _os_waits(trace, [one[0] for one in threads]).intersection(gaps).total
    idle = waits >= 0.5 * cost
    yield Finding(
        "LCH003",
        Severity.INFO if idle else weigh(cost / whole, 0.1),
        Confidence.MEDIUM if idle else Confidence.HIGH,
        f"the GPU is idle for {duration(cost)} between inferences: {share(cost / whole)} of the time, "
        f"{duration(cost / max(count, 1))} after each",
        f"the thread waits in the operating system for {share(waits / cost)} of it: for input, a lock or another thread"
        if idle
        else "the thread that enqueues does something else there, outside of CUDA calls: pre- or postprocessing",
        "see what it waits for; if it is for requests, nothing is lost"
        if idle
        else "enqueue the next inference before looking at the last result (two streams, two sets of buffers), or hand "
        "pre- and postprocessing to another thread or process",
        cost,
        measured.per_inference(cost),
        "time between inferences in which no GPU works and the thread is in no launch, copy or synchronization",
        (
            Evidence("GPU idle between inferences", cost, "ns"),
            Evidence("gaps between inferences", count, "count"),
            Evidence("of it in waiting calls of the operating system", waits, "ns"),
            *worst("longest", gaps.start, gaps.end),
        ),
    )


_OS_WAITS = re.compile(
    r"(p?poll|p?select|epoll_p?wait|(nano|u)?sleep|clock_nanosleep|futex|sem_(timed|clock)?wait|accept4?|recv\w*|"
    r"pthread_cond_(timed|clock)?wait|pthread_join)"
)


def _os_waits(trace: Trace, threads: list[tuple[int, int]]) -> Intervals:
    table = trace.table("osrt_calls", ["start_ns", "end_ns", "pid", "tid", "name"])
    pid, tid = ints(table["pid"]), ints(table["tid"])
    chosen = np.zeros(len(table), np.bool_)
    for one in threads:
        chosen |= (pid == one[0]) & (tid == one[1])
    chosen &= words(table["name"]).where(_is(_OS_WAITS))
    return Intervals.union(ints(table["start_ns"])[chosen], ints(table["end_ns"])[chosen])
