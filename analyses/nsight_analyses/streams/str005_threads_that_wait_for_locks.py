"""Threads that launch at the same time, and hold each other up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import EFFORT_SHARE, of_tensorrt, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.calls import OS_LOCKS, os_waits
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Ints
    from nsight_tools.run.calls import HostCalls, Thread
    from nsight_tools.trace import Trace

AT_A_TIME = 1.25
"""Threads that are inside of an inference at the same time, on average, from which on they can wait for each other."""
LOCKED_SHARE = 0.05
LOCKED_WARNING = 0.1
UNKNOWN_SHARE = 0.1
"""Of the steady state that the GPU idles in while several threads enqueue: from here on it is worth another capture."""
LONG_LAUNCH_NS = 50_000
"""A launch call returns within some microseconds; one that takes this long waits: for a lock, or a full queue."""
TOGETHER_NS = 20_000
"""A thread that waits for a lock goes on this soon after it is free: waking it takes some 5 to 10 µs."""


ENOUGH = 20
"""Launches of a kind of which a median says something."""
LAUNCH_NS = 10_000
"""A launch call that waits for nobody takes 3 to 8 µs with its tracing. For traces in which hardly any is alone."""
SLOWER = 2
"""Two launches that wait for one lock in turns take twice as long; less may be what they share of a core."""


@analysis(
    "STR005",
    needs={"api_calls", "inferences"},
    topic="launch locks",
    bucket=HOST,
    change=Change("use_cuda_graph"),
    warns_from=LOCKED_WARNING,
)
def threads_that_wait_for_locks(trace: Trace) -> Iterator[Finding]:
    """Threads that launch at the same time wait for each other's locks.

    Measures: where two threads or more are inside of inferences at the same time (1.25 at least, on average), two
    things, each from 5 % of the inferences' time on.

    * A copy holds a lock: the time in which a thread is inside of a launch call of more than 50 µs, while another one
      is in a copy call with pageable memory (or a blocking copy), and both return within 20 µs of each other; or waits
      for a lock in the operating system (`osrt_calls`) meanwhile. The driver holds a lock of the context until such a
      copy is done, whatever the GPU does. A warning from 10 % on; the bound is that time, which is latency.
    * Launches hold a lock: the time in which no GPU runs anything that was traced while a thread waits for a lock in
      its inference: a call of `osrt_calls` to `pthread_mutex_lock`, `pthread_rwlock_rdlock` or their like. What is held
      under a lock takes longer while it is traced: the time is made shorter as the untraced run's inference is, where
      there is one. A warning from 10 % on, where an untraced run confirms it. The bound is that time.

    Without calls of the operating system, or where the GPU works meanwhile, launch calls say it: those that lie by half
    in another thread's take twice as long as the others (10 µs, where hardly any are alone), and what they take beyond
    is 20 % of the inferences' time. That is an info, and latency: tracing itself makes launches of several threads wait
    for each other. Where they do not say it, it is open, if the GPU idles for 10 % of the time.

    Why it matters: the CUDA driver takes locks of a context in each launch. Four threads that each enqueue an inference
    of 100 kernels into one context reached 1,580 inferences a second on an H200; one thread that fed the same four
    streams 2,510, and four threads that launch CUDA graphs 4,810.

    Remedy: pin the host's buffers, so that no copy holds the lock. Launch less often: a CUDA graph is one launch an
    inference (trtexec `--useCudaGraph`). Or feed all streams from one thread (trtexec `--infStreams` without
    `--threads`), or give each thread a process of its own (MPS). A lock of the program's own around `enqueueV3` is not
    needed: contexts of one engine may enqueue at once. NVIDIA's TensorRT Best Practices, "CUDA Graphs".

    Blind spots: Nsight Systems records only calls that took longer than a microsecond, and no locks that spin. Whose
    lock it is, the driver's, the program's or Python's, is not in the report: the call stacks of long waits in Nsight
    Systems' window tell (`--osrt-threshold`).
    """
    run = Run.of(trace)
    requests = run.requests
    inside = {
        thread: Intervals.union(requests.start[rows], requests.end[rows])
        for thread, all_rows in requests.of_threads().items()
        if (rows := all_rows[~requests.warm_up[all_rows]]).size
    }
    whole = Intervals.any_of(inside.values())
    together = sum(line.total for line in inside.values())
    if len(inside) < 2:
        raise NotApplicable("fewer than two threads make inferences")
    if together < AT_A_TIME * whole.total:
        return
    held = _held_by_copies(run, inside)
    if held.time.total >= max(LOCKED_SHARE * whole.total, NOISE_SHARE * run.window.total):
        yield _of_copies(held, whole.total)
        return
    yield from _of_launches(run, inside, whole.total, together)


@dataclass(frozen=True)
class _Held:
    """Time in which a thread waits for another one's copy; the calls of both, and waits for locks that prove it."""

    time: Intervals
    launches: int
    copies: HostCalls
    locks: int


def _held_by_copies(run: Run, inside: dict[Thread, Intervals]) -> _Held:
    """Long launch calls that last as long as another thread's copy does."""
    calls = run.calls
    copies = run.copies
    slow = np.unique(
        copies.call_start[(copies.pageable | copies.does.among("blocking_copy")) & (copies.call_start >= 0)]
    )
    copying = np.isin(calls.start, slow) & calls.does.among("copy", "blocking_copy")
    launching = calls.launches & (calls.end - calls.start > LONG_LAUNCH_NS)
    waits, launches, behind, locks = [], 0, np.zeros(len(calls), np.bool_), 0
    for thread, line in inside.items():
        mine = (calls.pid == thread[0]) & (calls.tid == thread[1])
        slow_launches = np.flatnonzero(launching & mine & line.contains(calls.start))
        others = np.flatnonzero(copying & ~mine & (calls.pid == thread[0]))
        if not (slow_launches.size and others.size):
            continue
        order = others[np.argsort(calls.end[others], kind="stable")]
        own_start, own_end = calls.start[slow_launches], calls.end[slow_launches]
        near = order[_nearest(calls.end[order], own_end)]
        meets = (np.abs(calls.end[near] - own_end) <= TOGETHER_NS) & (calls.start[near] < own_end)
        lock = os_waits(run.trace, thread, OS_LOCKS)
        start, end = np.maximum(own_start, calls.start[near]), np.minimum(own_end, calls.end[near])
        waits.append(Intervals.union(start[meets], end[meets]))
        launches += int(meets.sum())
        behind[near[meets]] = True
        locks += int((lock.coverage(start[meets], end[meets]) > 0).sum())
    return _Held(Intervals.any_of(waits), launches, calls[behind], locks)


def _nearest(sorted_values: Ints, wanted: Ints) -> Ints:
    """The place of the nearest value to each."""
    at = np.clip(np.searchsorted(sorted_values, wanted), 1, max(sorted_values.size - 1, 1))
    left = np.minimum(at - 1, sorted_values.size - 1)
    right = np.minimum(at, sorted_values.size - 1)
    nearer: Ints = np.where(wanted - sorted_values[left] <= sorted_values[right] - wanted, left, right)
    return nearer


def _of_copies(held: _Held, whole: int) -> Finding:
    cost = held.time.total
    names = ", ".join(f"{name} ({count})" for name, count in held.copies.name.counts().items())
    proof = f"; {held.locks} of these waits are in a lock of the operating system" if held.locks else ""
    return Finding(
        "STR005",
        Severity.WARNING,
        Confidence.HIGH if held.locks else Confidence.MEDIUM,
        f"a thread's launch calls wait {held.launches} times for another thread's copy, "
        f"{duration(cost / max(held.launches, 1))} each: {share(cost / whole)} of the inferences' time",
        f"copies from or to pageable memory hold a lock of the driver until they are done ({names}), and the other "
        f"thread's launches wait for that lock{proof}",
        "allocate the host buffers of these copies page-locked (cudaHostAlloc, cudaMallocHost): then no call waits, "
        "and no lock is held",
        evidence=(
            Evidence("launch calls wait for another thread's copy", cost, "ns"),
            Evidence("such launch calls", held.launches, "count"),
            Evidence("of them in a lock of the operating system", held.locks, "count"),
            *worst("longest", held.time.start, held.time.end),
        ),
        explains=("enqueue", "compute-bound", "gaps"),
        change=(Change("pageable", value=False),),
        loss=Loss(
            cost,
            cost / whole,
            "time in which a launch call waits beside another thread's copy call: latency of that thread's inferences",
            of_host=True,
        ),
    )


def _of_launches(run: Run, inside: dict[Thread, Intervals], whole: int, together: int) -> Iterator[Finding]:
    window, idle = max(run.window.total, 1), run.window.subtract(run.work.busy())
    if run.trace.rows("osrt_calls"):
        waits = [os_waits(run.trace, thread, OS_LOCKS).intersection(line) for thread, line in inside.items()]
        locked = _Locked(waits, Intervals.any_of(waits).intersection(idle), _shorter_untraced(run))
        if locked.cost >= LOCKED_SHARE * window * locked.shorter:
            yield _locked(run, inside, whole, together, locked)
            return
    if (slower := _beside_each_other(run, inside, together)) is not None:
        yield slower
    elif not run.trace.rows("osrt_calls") and idle.total >= UNKNOWN_SHARE * window:
        raise CouldNotRun(
            f"{len(inside)} threads enqueue at the same time and the GPU idles for "
            f"{share(idle.total / window)} of it: whether they wait for each other's locks takes calls "
            "of the operating system",
            hint="capture with --trace=cuda,nvtx,osrt",
        )


@dataclass(frozen=True, eq=False)
class _Locked:
    """The waits of each thread for a lock, those with an idle GPU, and what is left of a time without the profiler."""

    waits: list[Intervals]
    held: Intervals
    shorter: float

    @property
    def cost(self) -> int:
        """Nanoseconds without the profiler."""
        return round(self.held.total * self.shorter)


def _shorter_untraced(run: Run) -> float:
    """What share of an inference's wall is left in the untraced run; 1 where none is known."""
    known = Pricing.of(run.trace).untraced
    if known is None:
        return 1.0
    return min(known.wall / max(float(np.median(run.requests.wall[run.requests.judged])), 1), 1)


def _locked(run: Run, inside: dict[Thread, Intervals], whole: int, together: int, locked: _Locked) -> Finding:
    known, window = Pricing.of(run.trace).untraced, max(run.window.total, 1)
    held, cost = locked.held, locked.cost
    waited, longest = sum(line.total for line in locked.waits), Intervals.any_of(locked.waits)
    return Finding(
        "STR005",
        Severity.WARNING if known is not None else Severity.INFO,
        Confidence.MEDIUM if known is not None else Confidence.LOW,
        f"{len(inside)} threads launch at the same time and spend {share(waited / max(together, 1))} of their "
        f"inferences in waits for a lock; for {share(held.total / window)} of the time the GPU is idle meanwhile",
        "each launch takes locks of the CUDA context, which other threads hold"
        + (
            "" if known is not None else "; tracing lengthens what is held under them, and no untraced run says how far"
        ),
        _launch_less(run),
        evidence=(
            Evidence(
                "threads that make inferences",
                len(inside),
                "count",
                detail=f"{together / max(whole, 1):.1f} of them inside of one at a time",
            ),
            Evidence("time in waits for a lock, all threads", waited, "ns"),
            Evidence("of it with an idle GPU", held.total, "ns", detail=f"{duration(cost)} without the profiler"),
            *worst("longest wait", longest.start, longest.end),
        ),
        explains=("gaps", "enqueue"),
        loss=Loss(
            cost,
            held.total / window,
            "time in which a launching thread waits for a lock and no GPU works"
            + (", made shorter as the untraced run is" if known is not None else ""),
            of_host=True,
        ),
    )


def _launch_less(run: Run) -> str:
    return (
        "launch less often: a CUDA graph is one launch an inference"
        + of_tensorrt(run, " (trtexec --useCudaGraph)")
        + "; or feed all streams from one thread"
        + of_tensorrt(run, " (trtexec --infStreams without --threads)")
        + ", or a process for each under MPS"
    )


def _beside_each_other(run: Run, inside: dict[Thread, Intervals], together: int) -> Finding | None:
    """Launch calls that take far longer while another thread of their process is in one; None where none do."""
    launches = run.flow.during(run.calls)
    launches = launches[launches.launches]
    threads = [launches.of_thread(thread) for thread in inside]
    length, beside = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for (pid, _), own in zip(inside, threads, strict=True):
        others = [other.time() for other in threads if other is not own and len(other) and other.pid[0] == pid]
        taken = Intervals.any_of(others).coverage(own.start, own.end) if others else np.zeros(len(own), np.int64)
        length.append(own.end - own.start)
        beside.append(2 * taken > length[-1])
    took, shared = np.concatenate(length), np.concatenate(beside)
    if shared.sum() < ENOUGH:
        return None
    usual, longer, otherwise = float(LAUNCH_NS), float(np.median(took[shared])), "at most where they wait for nobody"
    if (~shared).sum() >= ENOUGH and (alone := float(np.median(took[~shared]))) < LAUNCH_NS:
        usual, otherwise = alone, "otherwise"
    waited = int(np.maximum(took[shared] - usual, 0).sum())
    if longer < SLOWER * usual or waited < EFFORT_SHARE * together:
        return None
    return Finding(
        "STR005",
        Severity.INFO,
        Confidence.LOW,
        f"launch calls take {duration(longer)} while another thread is in one, and {duration(usual)} {otherwise} "
        f"(medians): {share(waited / together)} of the time that {len(inside)} threads spend in inferences",
        "each launch takes locks of the CUDA context, which other threads hold; how much of it tracing adds, and what "
        "it costs while the GPU has other work, only a run without the profiler says",
        _launch_less(run),
        evidence=(
            Evidence("launches beside another thread's", int(shared.sum()), "count"),
            Evidence("time beyond that of a launch alone, all threads", waited, "ns"),
        ),
        explains=("gaps", "enqueue"),
    )
