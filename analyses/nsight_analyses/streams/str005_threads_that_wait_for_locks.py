"""Threads that launch at the same time, and wait for each other's locks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.calibration import Calibrated
from nsight_tools.columns import Ints, ints, words
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

AT_A_TIME = 1.25
"""Threads that are inside of an inference at the same time, on average, from which on they can wait for each other."""
LOCKED_SHARE = 0.05
LOCKED_WARNING = 0.1
UNKNOWN_SHARE = 0.1
"""Of the steady state that the GPU idles in while several threads enqueue: from here on it is worth another capture."""

_LOCKS = re.compile(r"pthread_(mutex|rwlock|spin)_\w*lock|__lll_lock_wait\w*")


@analysis(
    "STR005",
    needs={"api_calls", "inferences"},
    topic="launch locks",
    picture="streams",
    change=Change("use_cuda_graph"),
)
def threads_that_wait_for_locks(trace: Trace) -> Iterator[Finding]:
    """Threads that launch at the same time wait for each other's locks.

    Measures: where two threads or more are inside of inferences at the same time (1.25 at least, on average), the time
    in which no GPU runs anything that was traced while one of them waits for a lock in its inference: a call of
    `osrt_calls` to `pthread_mutex_lock`, `pthread_rwlock_rdlock`, `pthread_rwlock_wrlock` or their like. What is held
    under a lock takes longer while it is traced: the time is made shorter as the untraced run's inference is, where
    there is one. A finding from 5 % of the inferences' time on; a warning from 10 % on, where an untraced run confirms
    it. The bound is that time.

    Without calls of the operating system it cannot be judged, and says so where the GPU idles for 10 % of the time.

    Why it matters: the CUDA driver takes locks of a context in each launch. Four threads that each enqueue an inference
    of 100 kernels into one context reached 1,580 inferences a second on an H200; one thread that fed the same four
    streams 2,510, and four threads that launch CUDA graphs 4,810.

    Remedy: launch less often: a CUDA graph is one launch an inference (trtexec `--useCudaGraph`). Or feed all streams
    from one thread (trtexec `--infStreams` without `--threads`), or give each thread a process of its own (MPS). A lock
    of the program's own around `enqueueV3` is not needed: contexts of one engine may enqueue at once. NVIDIA's TensorRT
    Best Practices, "CUDA Graphs".

    Blind spots: Nsight Systems records only calls that took longer than a microsecond, and no locks that spin. Whose
    lock it is, the driver's, the program's or Python's, is not in the report: the call stacks of long waits in Nsight
    Systems' window tell (`--osrt-threshold`).
    """
    run = Run.of(trace)
    table = trace.table("inferences", ["start_ns", "end_ns", "pid", "tid"])
    start, end, thread = ints(table["start_ns"]), ints(table["end_ns"]), _threads(table["pid"], table["tid"])
    whole = Intervals.union(start, end)
    each = {one: Intervals.union(start[thread == one], end[thread == one]) for one in distinct(thread).tolist()}
    together = sum(one.total for one in each.values())
    if len(each) < 2:
        raise NotApplicable("fewer than two threads make inferences")
    if together < AT_A_TIME * whole.total:
        return
    idle = run.window.subtract(run.work.busy())
    if not trace.rows("osrt_calls"):
        if idle.total >= UNKNOWN_SHARE * run.window_ns:
            raise CouldNotRun(
                f"{len(each)} threads enqueue at the same time and the GPU idles for "
                f"{share(idle.total / run.window_ns)} of it: whether they wait for each other's locks takes calls "
                "of the operating system; capture with --trace=cuda,nvtx,osrt"
            )
        return
    waits = _waits(trace, each)
    known = Calibrated.of(trace).untraced
    shorter = known.wall.point / (known.wall.point + known.added.point) if known is not None else 1.0
    held = Intervals.union(waits.start, waits.end).intersection(idle)
    cost = round(held.total * shorter)
    if cost < LOCKED_SHARE * run.window_ns * shorter:
        return
    of_threads = int((waits.end - waits.start).sum()) / max(together, 1)
    yield Finding(
        "STR005",
        weigh(held.total / run.window_ns, LOCKED_WARNING) if known is not None else Severity.INFO,
        Confidence.MEDIUM if known is not None else Confidence.LOW,
        f"{len(each)} threads launch at the same time and spend {share(of_threads)} of their inferences in waits for a "
        f"lock; for {share(held.total / run.window_ns)} of the time the GPU is idle meanwhile",
        "each launch takes locks of the CUDA context, which other threads hold"
        + (
            "" if known is not None else "; tracing lengthens what is held under them, and no untraced run says how far"
        ),
        "launch less often: a CUDA graph is one launch an inference (trtexec --useCudaGraph); or feed all streams from "
        "one thread (trtexec --infStreams without --threads), or a process for each under MPS",
        cost,
        run.per_inference(cost),
        "time in which a launching thread waits for a lock and no GPU works"
        + (", made shorter as the untraced run is" if known is not None else ""),
        (
            Evidence(
                "threads that make inferences",
                len(each),
                "count",
                detail=f"{together / max(whole.total, 1):.1f} of them inside of one at a time",
            ),
            Evidence("waits for a lock", len(waits.start), "count", detail=_names(waits.names)),
            Evidence("time in waits for a lock, all threads", int((waits.end - waits.start).sum()), "ns"),
            Evidence("of it with an idle GPU", held.total, "ns", detail=f"{duration(cost)} without the profiler"),
            *worst("longest wait", waits.start, waits.end),
        ),
        explains=("gaps", "enqueue"),
    )


@dataclass(frozen=True)
class _Waits:
    """Waits for locks inside of inferences, each of shape (n,)."""

    start: Ints
    end: Ints
    names: dict[str, int]


def _waits(trace: Trace, inferences: dict[int, Intervals]) -> _Waits:
    """Of the threads that make inferences, and only where they do."""
    table = trace.table("osrt_calls", ["start_ns", "end_ns", "pid", "tid", "name"])
    name = words(table["name"])
    locks = np.flatnonzero(name.where(lambda one: _LOCKS.fullmatch(one) is not None))
    start, end, thread = (
        ints(table["start_ns"])[locks],
        ints(table["end_ns"])[locks],
        _threads(table["pid"], table["tid"])[locks],
    )
    inside = np.zeros(len(locks), np.bool_)
    for one, windows in inferences.items():
        mine = thread == one
        inside[mine] = windows.coverage(start[mine], end[mine]) == end[mine] - start[mine]
    counts = np.bincount(name.codes[locks[inside]], minlength=len(name.dictionary)).tolist()
    return _Waits(start[inside], end[inside], {of: n for of, n in zip(name.dictionary, counts, strict=True) if n})


def _threads(pid: object, tid: object) -> Ints:
    return joint_key(ints(pid), ints(tid))


def _names(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {count:,} times" for name, count in ordered)
