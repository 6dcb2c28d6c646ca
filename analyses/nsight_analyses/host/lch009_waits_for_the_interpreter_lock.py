"""Python's interpreter lock: the thread that launches waits for another thread of its program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.gil import OPTION, Gil
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

WAITS_WARNING = 0.1
NAMED = 3
"""Threads that are named as holders."""


@analysis(
    "LCH009",
    needs={"nvtx_ranges", "inferences"},
    topic="interpreter lock",
    bucket=HOST,
    picture="launches",
    warns_from=WAITS_WARNING,
)
def waits_for_the_interpreter_lock(trace: Trace) -> Iterator[Finding]:
    """The thread of an inference waits for Python's interpreter lock (GIL), and the GPU idles.

    Measures: ranges "Waiting for GIL" of Nsight Systems' domain "GIL Trace" on the thread of a judged inference, inside
    of its window, while no GPU runs anything that was traced. The threads that hold the lock meanwhile, by its ranges
    "Holding GIL". A finding from 2.5 % of the inference time on, a warning from 10 % on. The bound is that time.

    Why it matters: one thread of a Python process runs Python at a time. Each call that releases the lock (a launch, a
    synchronization, a copy) has to get it back, and waits up to 5 ms (`sys.getswitchinterval()`) while another thread
    computes.

    Remedy: move the other threads' work into another process (multiprocessing, a data loader with workers), or into
    code that releases the lock (NumPy, OpenCV, DALI on the GPU). A smaller `sys.setswitchinterval` shortens each wait.
    A CUDA graph makes one call of hundreds, each of which may lose the lock. A Python without the lock (3.13t) has
    none to wait for.

    Blind spots: needs `nsys profile --trace=cuda,nvtx,python-gil` (from 2023.4 on), which costs time at each change of
    the lock. What is waited for between inferences is not in this time.
    """
    run, gil = Run.of(trace), Gil.of(trace)
    if not gil.traced:
        raise NotApplicable(f"no Python's interpreter lock was traced (nsys profile {OPTION})")
    if not run.count:
        raise CouldNotRun("no inference with GPU work was found")
    busy = Intervals.any_of(run.gpus.busy(device) for device in run.gpus.devices)
    judged = run.requests.judged
    by_thread: list[Intervals] = []
    held: dict[int, int] = {}
    for (pid, tid), rows in run.requests.of_threads().items():
        mine = rows[judged[rows]]
        window = Intervals.union(run.requests.start[mine], run.requests.end[mine])
        waits = gil.waiting(pid, tid).intersection(window).subtract(busy)
        by_thread.append(waits)
        for holder, time in gil.holders(pid, tid, waits):
            held[holder] = held.get(holder, 0) + time
    waited, cost = Intervals.any_of(by_thread), sum(waits.total for waits in by_thread)
    if cost < NOISE_SHARE * run.window_ns:
        return
    threads = sorted(held.items(), key=lambda thread: (-thread[1], thread[0]))
    whose = f"thread {threads[0][0]} holds it for {share(threads[0][1] / cost)} of that time" if threads else ""
    yield Finding(
        "LCH009",
        Severity.WARNING,
        Confidence.HIGH if threads else Confidence.MEDIUM,
        f"the GPU idles for {share(cost / run.window_ns)} of the {run.time} while the thread that feeds it waits for "
        f"Python's interpreter lock (GIL): {duration(cost / run.count)} an inference",
        "another thread of this Python runs meanwhile" + (f": {whose}" if whose else ""),
        "move what the other threads compute to another process, or to code that releases the lock; or launch less: "
        "a CUDA graph is one call",
        evidence=(
            Evidence("waits for the interpreter lock, the GPU idle", cost, "ns"),
            Evidence("waits", len(waited), "count"),
            *(
                Evidence("holds the lock meanwhile", time, "ns", detail=f"thread {tid}")
                for tid, time in threads[:NAMED]
            ),
            *worst("longest", waited.start, waited.end),
        ),
        explains=("gaps", "enqueue", "launch locks"),
        loss=Loss(cost, cost / run.window_ns, "waits for the interpreter lock while no GPU works", of_host=True),
    )
