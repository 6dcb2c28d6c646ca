"""Host synchronizations while inferences run: which of them the GPU idles for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats, worst
from nsight_analyses.streams.synchronizations import Waits, behind_steps, between_work
from nsight_tools.analysis import HOST, analysis
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

STEPS = 10
"""Fewer waits may be the phases of a program; a loop has more."""
DEVICE_WIDE = frozenset({"cudaDeviceSynchronize", "cuCtxSynchronize", "cudaThreadSynchronize"})


@analysis("STR003", needs={"api_calls"}, topic="synchronizations", bucket=HOST, picture="streams")
def host_synchronizations(trace: Trace) -> Iterator[Finding]:
    """The host waits for the GPU in the middle of an inference, and the GPU then waits for the host.

    Measures: synchronizing `api_calls` (…StreamSynchronize, …EventSynchronize, …DeviceSynchronize, …CtxSynchronize)
    that start inside of an inference's range on its thread, after it has launched work and before it launches more. The
    last wait, for the result, is by design and none of them. What one costs is the time from its start, or from the end
    of what its thread has launched before, to the start of the next work that it launches in that inference, as far as
    the GPU idles then, less 1 µs (the gap between dependent kernels would be there anyway) and less what tracing added
    on the thread in that time. From 2.5 % of the inferences' time on; a warning from 10 % on. The
    bound is that time.

    A program that marks nothing and runs no TensorRT may loop over steps and wait for each, as a solver does. There a
    wait is for no result where its thread copies nothing between host and GPU since the wait before it, nor next.
    From 10 such waits on they are judged together, in requests and between them, if they cost as much as the waits
    above. What each costs is told as above, and is no more than the wait lasts: the host launches the next step by so
    much earlier without it. The share is that of the whole loop.

    Device-wide ones (`cudaDeviceSynchronize`, `cuCtxSynchronize`) are named as such: they wait for the work of all
    streams and threads, also for what the inference does not need.

    Why it matters: while the host waits, it launches nothing; when it returns, the GPU has run dry and stays so until
    the next launch arrives.

    Remedy: order work on the GPU: in one stream it is ordered already, between streams use `cudaEventRecord` and
    `cudaStreamWaitEvent`. Synchronize once, for the result (`cudaStreamSynchronize` or `cudaEventSynchronize`, not
    `cudaDeviceSynchronize`). Inside of `enqueueV3` data-dependent shapes, loops and some plug-ins synchronize. The
    documentation of `enqueueV3` says when it does.

    Blind spots: blocking copies wait as well, and are not counted here. Where inferences are enqueues, a
    synchronization between two of them belongs to none: a loop that copies, synchronizes, and only then enqueues is not
    seen. The wait for a value that the host needs to go on cannot be left out. In a loop of steps that is not seen
    where the host reads memory that the GPU itself writes (managed or mapped).
    """
    run = Run.of(trace)
    found = between_work(run)
    total = int(found.cost.sum())
    steps = behind_steps(run) if _nobody_marks(run) else None
    if steps is not None and len(steps.start) >= STEPS and steps.cost.sum() >= total:
        yield from _of_steps(run, steps)
        return
    if not run.count:
        raise nothing_repeats(
            trace, "no inference with GPU work was found, so that no wait can be told from the one for a result"
        )
    if total < NOISE_SHARE * run.window_ns:
        return
    names = found.name.counts()
    down = run.copies.kind.among("d2h").sum() > run.count
    wide = sum(count for name, count in names.items() if name.partition("_pt")[0] in DEVICE_WIDE)
    yield Finding(
        "STR003",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"the host waits for the GPU {len(found.start) / run.count:.3g} times in the middle of an inference, "
        f"and the GPU then idles for {share(total / run.window_ns)} of the {run.time}",
        "the host synchronizes before it has launched all of the inference: "
        + ", ".join(f"{count} {name}" for name, count in names.items())
        + ("; the device-wide ones wait for every stream and thread" if wide else ""),
        "order the work with streams and events (cudaStreamWaitEvent) and synchronize once, for the result"
        + ("; never the whole device (cudaDeviceSynchronize)" if wide else "")
        + ("; values that the host reads in between can stay on the GPU, or be read once" if down else "")
        + ("; only then can the inference become a CUDA graph" if len(found.start) >= run.count else ""),
        act="take out the waits in the middle of an inference",
        evidence=(
            Evidence("the GPU idles after waits", total, "ns"),
            Evidence("waits in the middle of an inference", len(found.start), "count"),
            Evidence("device-wide waits among them", wide, "count"),
            Evidence("the host waits", int((found.end - found.start).sum()), "ns"),
            *worst(
                "longest from a wait to the next work",
                found.start,
                found.next,
                lambda row: f"{found.name.at(row)}, of which {duration(int(found.cost[row]))} cost",
            ),
        ),
        explains=_follows(run, len(found.start), total),
        loss=Loss(
            total,
            total / run.window_ns,
            "time in which the GPU idles until the next launch after the wait, less 1 µs and what tracing added each",
        ),
    )


def _nobody_marks(run: Run) -> bool:
    """Whether what repeats is known by its launches alone, so that no wait is known to be for a result."""
    return run.tensorrt is False and bool(run.requests.source.among("iteration").all())


def _of_steps(run: Run, steps: Waits) -> Iterator[Finding]:
    """A loop that waits for each of its steps, and needs none of their results to launch the next."""
    total, count = int(steps.cost.sum()), len(steps.start)
    whole = Intervals.any_of([run.window, Intervals.union(steps.start, steps.next)])
    if total < NOISE_SHARE * whole.total:
        return
    idle = sum(whole.subtract(run.gpus.busy(device)).total for device in run.gpus.devices)
    names = ", ".join(f"{number} {name}" for name, number in steps.name.counts().items())
    usual = duration(float(np.median(np.diff(np.sort(steps.start)))))
    yield Finding(
        "STR003",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"the host waits for the GPU after each step of a loop, every {usual} (median), and the GPU then idles for "
        f"{share(total / whole.total)} of the time: {duration(total / count)} after each",
        f"the host synchronizes ({names}) and then launches the next step, without a copy of any result in between: "
        "a stream runs the steps in order without it",
        "launch several steps before you wait, and wait where the host reads a result; or capture several steps into "
        "a CUDA graph (cudaStreamBeginCapture)",
        act="launch several steps before you wait",
        evidence=(
            Evidence("the GPU idles after waits", total, "ns"),
            Evidence("waits for a step", count, "count"),
            Evidence("the host waits", int((steps.end - steps.start).sum()), "ns"),
            *worst("longest from a wait to the next step", steps.start, steps.next, steps.name.at),
        ),
        explains=("gaps", "between inferences", "wake-ups", "idle GPU", "enqueue") if 2 * total >= idle else (),
        loss=Loss(
            total,
            total / whole.total,
            "time in which the GPU idles from a step to the next, less 1 µs and what tracing added, and no more than "
            "the wait lasts",
            of_host=True,
        ),
    )


def _follows(run: Run, waits: int, total: int) -> tuple[str, ...]:
    """The gaps, where they are the same time seen again; all of launching, where waits forbid a graph."""
    if waits >= run.count:
        return ("gaps", "enqueue")
    return ("gaps",) if 2 * total > run.gaps.length.sum() else ()
