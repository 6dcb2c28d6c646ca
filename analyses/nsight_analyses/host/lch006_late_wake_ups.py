"""The host's way back from a wait: does it come late?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share
from nsight_tools.worth.known import SPIN_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

LATE_SHARE = 0.05


@analysis(
    "LCH006",
    needs={"api_calls", "inferences"},
    topic="wake-ups",
    bucket=HOST,
    change=Change("use_spin_wait"),
)
def late_wake_ups(trace: Trace) -> Iterator[Finding]:
    """The host comes back late from its wait for the GPU.

    Measures: from the end of an inference's last GPU work to the end of the synchronization (or blocking copy) of its
    thread that was under way then; the median over the inferences that wait so, if half of them do. A finding from 5 %
    of the inference on, a warning where 10 % of all inferences' time comes back. The bound is that time less 10 µs,
    which a thread that spins takes.
    With several inferences in flight on a GPU it gains latency and no throughput, and is an info.

    Why it matters: a thread that sleeps has to be woken by the operating system, 35 to 160 µs later on a busy or
    virtual machine, and its core has clocked down meanwhile. In a short inference that is a good part of the latency.

    Remedy: spin: trtexec `--useSpinWait`; `cudaSetDeviceFlags(cudaDeviceScheduleSpin)` before the context is made, and
    events without `cudaEventBlockingSync`. It keeps a core busy. NVIDIA's TensorRT Best Practices,
    "BlockingSync and SpinWait Synchronization Modes".

    Blind spots: other work on the same core delays a thread, too, and spinning does not help against that. What the
    profiler itself takes in the wait is in the time.
    """
    run = Run.of(trace)
    if not run.count:
        raise CouldNotRun("no inference with GPU work was found, whose end could be waited for")
    late = run.flow.late_ns
    waited = late[late >= 0]
    if 2 * waited.size < late.size:
        return
    usual, wall = float(np.median(waited)), float(np.median(run.requests.wall[run.requests.judged]))
    saved = max(usual - SPIN_NS.high, 0.0)
    if saved < LATE_SHARE * wall:
        return
    an_inference = saved * waited.size / run.count
    rows = np.flatnonzero(run.requests.judged)[late >= 0]
    end = run.requests.end[rows]
    calls = run.flow.during(run.calls)
    names = ", ".join(list(calls[calls.waits].name.counts())[:3])
    yield Finding(
        "LCH006",
        Severity.INFO if run.flow.several else Severity.WARNING,
        Confidence.MEDIUM,
        f"the host comes back {duration(usual)} after the GPU is done (median), {share(usual / wall)} of the "
        f"{duration(wall)} that an inference takes",
        f"its thread sleeps in a blocking wait ({names}), and the operating system wakes it late",
        "spin instead of sleeping: cudaDeviceScheduleSpin, and events without cudaEventBlockingSync"
        + (" (trtexec --useSpinWait)" if run.tensorrt is not False else ""),
        evidence=(
            Evidence("from the end of the GPU's work to the end of the wait, median", round(usual), "ns"),
            Evidence("inferences that wait so", int(waited.size), "count"),
            *worst("latest", end - waited, end),
        ),
        loss=Loss(
            round(saved) * int(waited.size),
            0.0 if run.flow.several else an_inference / wall,
            "from the end of the GPU's work to the end of the wait, less the 10 µs that a thread that spins takes",
            per_inference_ns=round(an_inference),
            of_host=True,
        ),
    )
