"""CUDA graphs that are built while inferences run, or fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.slow import GRAPHS, slow_by_these
from nsight_analyses.host.steady import while_inferences_run
from nsight_analyses.measure import nothing_repeats, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.run.calls import HostCalls
    from nsight_tools.trace import Trace


@analysis("LCH002", needs={"api_calls"}, topic="graph builds", bucket=HOST, picture="launches", warns_from=0.05)
def graphs_built_in_steady_state(trace: Trace) -> Iterator[Finding]:
    """CUDA graphs are captured or instantiated between inferences, or their capture fails.

    Measures: `api_calls` that begin a capture (cudaStreamBeginCapture…) or instantiate a graph (cudaGraphInstantiate…),
    on a thread that makes inferences, in its judged inferences and between them; what stands before the first is
    set-up. The cost is their host time, each capture counted from its beginning to its end (cudaStreamEndCapture); the
    bound is that time. A warning from 5 % of the time on. A capture, instantiation or graph launch that returns an
    error (`return_value`) is reported wherever it is, with the first call that failed inside of the capture.

    Why it matters: a graph pays by being launched many times; to instantiate one costs as much as hundreds of launches.
    Where the capture fails and its errors are not looked at, the graph's work does not run at all.

    Remedy: capture once for each shape, after one enqueue in that shape, keep the instantiated graph, and update its
    parameters with cudaGraphExecUpdate; one execution context for each graph. For failed captures: no synchronization,
    no legacy default stream and no allocation inside (cudaStreamCaptureModeThreadLocal keeps other threads' calls out).
    NVIDIA's TensorRT Best Practices, "CUDA Graphs".

    Blind spots: a graph for each new shape is right as long as shapes come back; this counts graphs, not shapes.
    Tracing makes captures slower, more so with node tracing.
    """
    run = Run.of(trace)
    calls = run.calls
    returned = ints(trace.table("api_calls", ["return_value"])["return_value"], 0)
    failed = calls.name.where(_is(_FAILING)) & (returned != 0)
    if failed.any():
        yield _failure(calls, returned, failed)
        return  # what did not come to be was not built too often
    if run.requests.judged.sum() < 2:
        raise nothing_repeats(trace, "fewer than two inferences: there is no steady state to look into")
    loops = run.flow.loops
    begins, instances = (
        while_inferences_run(run, calls[calls.name.where(_is(which))].outermost()) for which in (_BEGIN, _INSTANTIATE)
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
        Severity.WARNING,
        Confidence.HIGH,
        f"{len(begins.start)} captures and {len(instances.start)} instantiations of CUDA graphs in steady state: "
        f"{duration(cost)} on the host, {share(part)} of the threads' time",
        "graphs are built again while inferences run, rather than once before",
        "capture and instantiate once for each shape before the first inference that counts, keep the instantiated "
        "graph, and change it with cudaGraphExecUpdate",
        act="build CUDA graphs once, before the loop",
        evidence=(
            Evidence("captures", len(begins.start), "count"),
            Evidence("instantiations", len(instances.start), "count"),
            Evidence("host time", cost, "ns"),
            *worst("longest", start, end),
        ),
        explains=("slow inferences",) if slow_by_these(run, GRAPHS, Intervals.union(start, end)) else (),
        loss=Loss(cost, part, "host time of captures (from beginning to end) and instantiations", of_host=True),
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
