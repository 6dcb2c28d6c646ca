"""What lies between inferences: the host's own work, or a pace that others set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats, of_tensorrt, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.flow import Between
    from nsight_tools.trace import Trace

BETWEEN_SHARE = 0.05
"""Less than this share of the time between inferences is within what a benchmark's own loop costs."""


@analysis("LCH003", needs={"api_calls"}, topic="between inferences", bucket=HOST, picture="launches")
def host_time_between_inferences(trace: Trace) -> Iterator[Finding]:
    """The GPU is idle while the host works between inferences.

    Measures: time between the ranges of consecutive inferences of a thread (`inferences.range_end_ns` to the next
    `range_start_ns`) that lies in no inference of any thread, in which no GPU runs anything that was traced, and the
    thread is in no call that the GPU needs, nor in one that allocates, loads or builds. Gaps ten times as long as the
    median inference and median gap together are pauses between runs and left out, and so is the profiler's own
    overhead. A finding from 5 % of the time of inferences and gaps on, a warning from 10 % on.

    Where the operating system's calls were traced and the thread waits there for half of it (a timer, a socket,
    another thread), inferences come at a pace that is not the program's own, and nothing is lost. Where they were not
    traced and the gaps are longer than the inferences, or inferences start on a regular grid, the trace cannot tell a
    pace from slowness: that is said, and no time is claimed. Elsewhere the bound is the time: the GPU could have
    worked.

    Why it matters: what runs between inferences (reading, decoding, resizing, converting to an array, looking at
    results) costs throughput like a slow layer does, and no engine setting recovers it.

    Remedy: prepare the next input and look at the last result while the GPU works: enqueue the next inference first, on
    a second stream with buffers of its own, or hand pre- and postprocessing to another thread (Python: another process,
    or code that releases the GIL). Write preprocessed input into page-locked memory directly. NVIDIA's TensorRT Best
    Practices, "Cross-Inference Multi-Streaming" and "Optimizing Python Performance".

    Blind spots: a service that has no request to work on looks like a slow host where the operating system's calls were
    not traced. Work for the inference before its range begins counts as between.
    """
    run = Run.of(trace)
    if not len(run.work.start):
        raise trace.lacking("kernels") or CouldNotRun("no GPU work: whether the GPU was idle is not known")
    if not any(len(turns.rows) > 1 for turns in run.flow.turns.values()):
        raise nothing_repeats(trace, "no thread makes two inferences: there is nothing between them")
    between = run.flow.between
    if between.total_ns < BETWEEN_SHARE * max(between.whole_ns, 1):
        return
    usual = float(np.median(run.requests.wall[run.requests.judged]))
    if between.waited_for:
        yield _paced(between)
    elif between.waits is None and (between.each_ns > usual or between.regular):
        yield _not_told(between)
    else:
        yield _works(run, between)


def _evidence(between: Between) -> Iterator[Evidence]:
    yield Evidence("GPU idle between inferences", between.total_ns, "ns")
    yield Evidence("gaps between inferences", between.count, "count")
    if between.waits is not None:
        yield Evidence("of it in waiting calls of the operating system", between.waits, "ns")
    yield from worst("longest", between.gaps.start, between.gaps.end)


def _paced(between: Between) -> Finding:
    grid = f", every {duration(between.every_ns)}" if between.regular else ""
    return Finding(
        "LCH003",
        Severity.INFO,
        Confidence.HIGH,
        f"inferences are paced{grid}: the thread waits for the next request for "
        f"{share(between.total_ns / between.whole_ns)} of the time, {duration(between.each_ns)} before each",
        f"it waits in the operating system for {share((between.waits or 0) / between.total_ns)} of that time: for a "
        "timer, for input, or for another thread",
        "nothing: while no request is there, nothing is lost; a GPU that idles for long lowers its clock, though",
        evidence=tuple(_evidence(between)),
    )


def _not_told(between: Between) -> Finding:
    grid = f"they start at a regular pace, every {duration(between.every_ns)}" if between.regular else ""
    longer = f"the gap of {duration(between.each_ns)} is longer than an inference" if not grid else ""
    return Finding(
        "LCH003",
        Severity.INFO,
        Confidence.LOW,
        f"the GPU has no request to work on for {share(between.total_ns / between.whole_ns)} of the time: "
        f"{grid or longer}",
        "this trace cannot tell whether the thread waits for the next request, as with a camera or a client, or works "
        "on the last one: the calls of the operating system were not traced",
        "capture with --trace=cuda,nvtx,osrt, which shows a thread that waits; while it waits, nothing is lost",
        evidence=tuple(_evidence(between)),
    )


def _works(run: Run, between: Between) -> Finding:
    cost = between.total_ns
    certain = between.waits is not None
    return Finding(
        "LCH003",
        Severity.WARNING,
        Confidence.HIGH if certain else Confidence.MEDIUM,
        f"the GPU is idle for {duration(cost)} between inferences: {share(cost / between.whole_ns)} of the time, "
        f"{duration(between.each_ns)} after each",
        "the thread that launches does something else there, outside of CUDA calls"
        + of_tensorrt(run, ": pre- or postprocessing")
        + ("" if certain else ", unless it waits for requests: the calls of the operating system were not traced"),
        "launch the next inference before looking at the last result (two streams, two sets of buffers), or hand "
        "what lies between to another thread or process",
        act="launch the next inference before looking at the last result",
        evidence=tuple(_evidence(between)),
        loss=Loss(
            cost,
            cost / between.whole_ns,
            "time between inferences in which no GPU works and the thread is in no launch, copy or synchronization",
            of_host=True,
        ),
    )
