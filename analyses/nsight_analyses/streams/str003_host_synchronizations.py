"""Host synchronizations while inferences run: which of them the GPU idles for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import weigh, worst
from nsight_analyses.streams.synchronizations import between_work
from nsight_tools.analysis import HOST, analysis
from nsight_tools.calibration import Calibrated
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding
from nsight_tools.run import Run
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

COST_WARNING = 0.1
DEVICE_WIDE = frozenset({"cudaDeviceSynchronize", "cuCtxSynchronize", "cudaThreadSynchronize"})


@analysis("STR003", needs={"api_calls", "inferences"}, topic="synchronizations", bucket=HOST, picture="streams")
def host_synchronizations(trace: Trace) -> Iterator[Finding]:
    """The host waits for the GPU in the middle of an inference, and the GPU then waits for the host.

    Measures: synchronizing `api_calls` (…StreamSynchronize, …EventSynchronize, …DeviceSynchronize, …CtxSynchronize)
    that start inside of an inference's range on its thread, after it has launched work and before it launches more. The
    last wait, for the result, is by design and none of them. What one costs is the time from its start, or from the end
    of what its thread has launched before, to the start of the next work that it launches in that inference, as far as
    the GPU idles then, less 1 µs (the gap between dependent kernels would be there anyway) and less what tracing added
    on the thread in that time. From 2.5 % of the inferences' time on; a warning from 10 % on. The
    bound is that time.

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
    seen. The wait for a value that the host needs to go on cannot be left out.
    """
    run = Run.of(trace)
    if not run.count:
        raise CouldNotRun("no inference with GPU work was found, so that no wait can be told from the one for a result")
    calibrated = Calibrated.of(trace)
    found = between_work(run, calibrated)
    total = int(found.cost.sum())
    if total < NOISE_SHARE * run.window_ns:
        return
    names = found.name.counts()
    down = run.copies.kind.among("d2h").sum() > run.count
    wide = sum(count for name, count in names.items() if name.partition("_pt")[0] in DEVICE_WIDE)
    yield Finding(
        "STR003",
        weigh(total / run.window_ns, COST_WARNING, run),
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
        total,
        run.per_inference(total),
        "time in which the GPU idles until the next launch after the wait, less 1 µs and what tracing added each",
        (
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
        explains=_follows(run, calibrated, len(found.start), total),
    )


def _follows(run: Run, calibrated: Calibrated, waits: int, total: int) -> tuple[str, ...]:
    """The gaps, where they are the same time seen again; all of launching, where waits forbid a graph."""
    if waits >= run.count:
        return ("gaps", "enqueue")
    return ("gaps",) if 2 * total > calibrated.left[1].sum() else ()
