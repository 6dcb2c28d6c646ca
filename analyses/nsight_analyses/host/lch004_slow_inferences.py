"""Inferences that are far slower than the others, and what happened in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.allocations import allocates
from nsight_analyses.measure import nothing_repeats, weigh, worst
from nsight_analyses.other_processes import waiting_gaps
from nsight_tools.analysis import MEAN, analysis
from nsight_tools.calibration import Calibrated
from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

SLOWER = 1.2
"""Times the median: how `inferences.mark` tells an outlier."""
FEWEST = 5
"""Fewer inferences of a thread have nothing to stand out from."""
EXPLAINS = 0.5
"""What takes at least half of the time that an inference is too slow is its cause."""

_BUCKETS = {
    "compute_ns": "its own kernels take longer",
    "exposed_h2d_ns": "its host-to-device copies take longer",
    "exposed_d2h_ns": "its device-to-host copies take longer",
    "exposed_other_copy_ns": "its other copies take longer",
    "other_work_ns": "it waits behind other work of this report on the GPU, which loses no time: more is in flight",
    "launch_ns": "the GPU waits for the host's launch calls",
    "sync_ns": "its thread waits in a synchronization while the GPU runs nothing of it",
    "host_ns": "the GPU waits for the host between its calls",
    "unattributed_ns": "the report does not say",
}
_HOST = ("launch_ns", "host_ns", "unattributed_ns")
"""Buckets that tracing itself inflates, and that scheduling by the operating system disturbs at random."""
_MODULES = re.compile(r"cu(da)?(Module(Load|Get|Unload)|Library(Load|Get|Unload)|Kernel(GetFunction|SetAttr)|Link)\w*")
_GRAPHS = re.compile(r"cu(da)?(Stream(Begin|End)Capture|GraphInstantiate|GraphUpload|GraphExecUpdate|GraphDestroy)\w*")


@dataclass(frozen=True)
class _Reason:
    """Something that happens in inferences: when, and what it means for the run without the profiler."""

    text: str
    remedy: str
    time: Intervals
    of_profiler: bool = False


@analysis("LCH004", topic="slow inferences", bucket=MEAN, picture="launches")
def slow_inferences(trace: Trace) -> Iterator[Finding]:
    """Some inferences are far slower than the others.

    Measures: inferences that `inferences.mark` calls outliers or warm-up: `wall_ns` above the thread's median by 5
    scaled median absolute deviations and by 20 %; those that a thread begins with are its warm-up. What each takes
    beyond the median of the thread's plain ones is given to the first of these that takes at least half of it inside of
    the inference's window: the profiler's own overhead (`profiler_overhead`), loading of modules (cuModuleLoad…,
    cuLibraryLoad…), building of graphs, allocations, another process on the GPU (where GPU metrics prove
    it). Else the bucket of the accounting that grew most is named, which says where and not why. That, and the
    profiler's doing, are scatter below 2.5 % of the inference time. One finding for each reason. The bound is the time
    beyond the median; none for the profiler's doing and for work queued behind other work. A warning from 5 % of the
    inference time on, if it happens to others than the first inferences and is neither of those two, nor jitter of the
    host, which tracing adds to. Where a capture measured the same untraced, one inference at a time, what no event
    explains is held against that: it is a warning only if the share of inferences there that are 20 % above its median
    is at least half of the share here.

    Why it matters: the slowest inferences are what a service promises (p99). The first ones are slow for reasons of
    their own and belong in no measurement.

    Remedy: by reason: enqueue each shape once before serving (modules load lazily: CUDA_MODULE_LOADING=EAGER; shapes
    are prepared at the first enqueue), build graphs and allocate buffers beforehand, give the process the GPU. NVIDIA's
    CUDA Programming Guide, "Lazy Loading"; TensorRT Best Practices, "Enqueue-Bound Workloads and CUDA Graphs" and
    "Overhead of Shape Change and Optimization Profile Switching".

    Blind spots: with fewer than 5 inferences on a thread nothing stands out. Shapes that differ make inferences differ,
    and look like outliers. What the operating system did to the thread is not in the report.
    """
    run = Run.of(trace)
    table = trace.table("inferences")
    worked = run.requests.worked
    if not worked.any():
        if not run.work.computes.any() and (missing := trace.missing("kernels")) is not None:
            raise CouldNotRun(missing)
        raise nothing_repeats(trace, "no inference that the GPU worked for: nothing repeats that could stand out")
    thread = ints(table["pid"]) << 32 | (ints(table["tid"]) & 0xFFFFFFFF)
    _, group = np.unique(thread, return_inverse=True)
    group = group.reshape(-1)
    if np.bincount(group[worked]).max() < FEWEST:
        raise CouldNotRun(f"fewer than {FEWEST} inferences on any thread: nothing to stand out from")
    mark = words(table["mark"])
    marked = np.flatnonzero((mark.codes >= 0) & worked)
    if not len(marked):
        return
    plain = (mark.codes < 0) & worked
    # A thread whose inferences were all marked has no usual time; it cannot be, as the median is none of them.
    usual = {
        name: np.array(
            [np.median(column[mine]) if (mine := plain & (group == at)).any() else 0 for at in range(group.max() + 1)]
        )
        for name in ("wall_ns", *_BUCKETS)
        for column in (ints(table[name]),)
    }
    start, end = ints(table["start_ns"])[marked], ints(table["end_ns"])[marked]
    excess = ints(table["wall_ns"])[marked] - usual["wall_ns"][group[marked]]
    reasons = _reasons(run, trace)
    taken = [reason.time.coverage(start, end) for reason in reasons]
    named = np.stack([*(line >= EXPLAINS * excess for line in taken), np.ones(len(marked), np.bool_)]).argmax(axis=0)
    growth = np.stack([ints(table[name])[marked] - usual[name][group[marked]] for name in _BUCKETS])
    bucket = growth.argmax(axis=0)
    for first in (True, False):
        phase = mark.among("warm_up")[marked] == first
        for at, reason in enumerate(reasons):
            rows = np.flatnonzero(phase & (named == at))
            if len(rows) and (not reason.of_profiler or excess[rows].sum() >= NOISE_SHARE * run.window_ns):
                text, remedy = f"{reason.text} ({_spent(taken[at][rows])} of it)", reason.remedy
                kind = _Kind(first, harmless=reason.of_profiler, real=not reason.of_profiler)
                yield _finding(run, marked[rows], table, excess[rows], text, remedy, kind)
        for at, name in enumerate(_BUCKETS):
            rows = np.flatnonzero(phase & (named == len(reasons)) & (bucket == at))
            if excess[rows].sum() >= NOISE_SHARE * run.window_ns:
                queued = name == "other_work_ns"
                kind = _Kind(first, harmless=queued or name in _HOST, real=not queued)
                text = _bucket_text(name, growth[at][rows])
                yield _finding(run, marked[rows], table, excess[rows], text, "", kind)


@dataclass(frozen=True)
class _Kind:
    """What slow inferences are: the first ones, of no consequence for a run without the profiler, a loss of time."""

    first: bool
    harmless: bool
    real: bool


def _spent(time: Ints) -> str:
    return f"{duration(float(np.sum(time)))}"


def _bucket_text(name: str, growth: Ints) -> str:
    text = f"{_BUCKETS[name]} ({duration(float(np.median(growth)))} more, median)"
    if name in _HOST:
        text += ": no event of the report explains it; jitter of the host, to which tracing adds"
    return text


def _finding(
    run: Run,
    rows: Ints,
    table: pa.Table,
    excess: Ints,
    text: str,
    remedy: str,
    kind: _Kind,
) -> Finding:
    first, real = kind.first, kind.real
    cost = min(round(float(excess.sum())), run.window_ns)  # inferences in flight at once share their time
    part = cost / run.window_ns
    start, end, wall = (ints(table[name])[rows] for name in ("start_ns", "end_ns", "wall_ns"))
    took, usual = float(np.median(wall)), float(np.median(wall - excess))
    untraced = None if first or remedy else _slow_untraced(run.trace)
    comes_back = untraced is not None and 2 * untraced >= len(rows) / len(table)
    harmless = first or kind.harmless or (untraced is not None and not comes_back)
    return Finding(
        "LCH004",
        Severity.INFO if harmless else weigh(part, 0.05),
        Confidence.MEDIUM if remedy or comes_back else Confidence.LOW,
        f"{len(rows)} of {len(table)} inferences{' (warm-up)' if first else ''} took {duration(took)} (median) rather "
        f"than {duration(usual)}" + (f": {share(part)} of the {run.time}" if real else ""),
        text,
        remedy
        or (
            "leave warm-up out of what you measure and serve"
            if first
            else "look at the windows below; they come back in a run without the profiler"
            if comes_back
            else "look at the windows below; if they come back in a run without the profiler, they are real"
            if untraced is None
            else "nothing yet: without the profiler they are far fewer"
        ),
        cost if real else None,
        run.per_inference(cost) if real else None,
        "time of these inferences beyond the median of the thread's others" if real else "",
        (
            Evidence("slow inferences", len(rows), "count"),
            Evidence("time beyond the median", cost, "ns"),
            *([Evidence("as much slower without the profiler", untraced, "ratio")] if untraced is not None else []),
            *worst("slow inference", start, end, lambda at: f"inference {int(rows[at])}"),
        ),
    )


def _slow_untraced(trace: Trace) -> float | None:
    """Share of an untraced run's inferences that are far slower than its median; None where it does not tell."""
    known = Calibrated.of(trace).untraced
    if known is None or not known.alone:
        return None
    table = trace.table("benchmark", ["run", "wall_ns"])
    wall = ints(table["wall_ns"])[words(table["run"]).among("benchmark")]
    return float((wall > SLOWER * np.median(wall)).mean())


def _reasons(run: Run, trace: Trace) -> list[_Reason]:
    overhead = trace.table("profiler_overhead", ["start_ns", "end_ns"])
    calls = run.calls
    name: Words = calls.name

    def during(chosen: Bools) -> Intervals:
        return Intervals.union(calls.start[chosen], calls.end[chosen])

    return [
        _Reason(
            "the profiler itself was at work, and not the program",
            "nothing: it does not happen without the profiler",
            Intervals.union(ints(overhead["start_ns"]), ints(overhead["end_ns"])),
            of_profiler=True,
        ),
        _Reason(
            "modules are loaded: code comes to the GPU when it is first used",
            "enqueue each shape once before serving, or set CUDA_MODULE_LOADING=EAGER",
            during(name.where(lambda one: _MODULES.fullmatch(one) is not None)),
        ),
        _Reason(
            "a CUDA graph is captured or instantiated",
            "build graphs before serving, once for each shape",
            during(name.where(lambda one: _GRAPHS.fullmatch(one) is not None)),
        ),
        _Reason(
            "memory is allocated or freed",
            "allocate buffers once, before serving",
            during(name.where(allocates)),
        ),
        _Reason(
            "another process has the GPU",
            "give this process the GPU, or a partition of it",
            waiting_gaps(run),
        ),
    ]
