"""What the host does between inferences while the GPU idles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.loops import pauses_of, ranges_of
from nsight_analyses.measure import nothing_repeats, weigh, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import CallKind
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

BETWEEN_SHARE = 0.05
"""Less than this share of the time between inferences is within what a benchmark's own loop costs."""


@analysis("LCH003", needs={"api_calls"}, topic="between inferences", bucket=HOST, picture="launches")
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
    run = Run.of(trace)
    if not len(run.work.start):
        raise CouldNotRun(trace.missing("kernels") or "no GPU work: whether the GPU was idle is not known")
    all_threads = list(ranges_of(run))
    threads = [one for one in all_threads if len(one[1]) > 1]
    if not threads:
        raise nothing_repeats(trace, "no thread makes two inferences: there is nothing between them")
    inside = Intervals.union(*(np.concatenate([one[at] for one in all_threads]) for at in (1, 2)))
    calls = run.calls
    gaps, count = Intervals.union([], []), 0
    for (pid, tid), start, end in threads:
        pause = pauses_of(start, end)
        between = Intervals.union(end[:-1][~pause], start[1:][~pause]).subtract(inside)
        mine = (calls.pid == pid) & (calls.tid == tid) & (calls.kind != CallKind.OTHER)
        between = between.subtract(Intervals.union(calls.start[mine], calls.end[mine]))
        gaps = Intervals.any_of([gaps, between])
        count += int((~pause).sum())
    overhead = trace.table("profiler_overhead", ["start_ns", "end_ns"])
    gaps = gaps.subtract(run.work.busy())
    gaps = gaps.subtract(Intervals.union(ints(overhead["start_ns"]), ints(overhead["end_ns"])))
    whole = Intervals.any_of([gaps, run.window]).total
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
        run.per_inference(cost),
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
    chosen &= words(table["name"]).where(lambda name: _OS_WAITS.fullmatch(name) is not None)
    return Intervals.union(ints(table["start_ns"])[chosen], ints(table["end_ns"])[chosen])
