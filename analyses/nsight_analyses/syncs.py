"""Host synchronizations while inferences run: which of them the GPU idles for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import NOISE_SHARE, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.calibration import DEPENDENCY_NS, Calibrated
from nsight_tools.columns import Ints, ints
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding
from nsight_tools.measured import Measured
from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import Words, joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

COST_WARNING = 0.1
DEVICE_WIDE = frozenset({"cudaDeviceSynchronize", "cuCtxSynchronize", "cudaThreadSynchronize"})


@analysis("STR003", needs={"api_calls", "inferences"})
def host_synchronizations(trace: Trace) -> Iterator[Finding]:
    """The host waits for the GPU in the middle of an inference, and the GPU then waits for the host.

    Measures: synchronizing `api_calls` (…StreamSynchronize, …EventSynchronize, …DeviceSynchronize, …CtxSynchronize)
    that start inside of an inference's range on its thread, after it has launched work and before it launches more. The
    last wait, for the result, is by design and none of them. What one costs is the time from its start, or from the end
    of what its thread has launched before, to the start of the next work that it launches in that inference, as far as
    the GPU idles then, less 1 µs (the gap between dependent kernels would be there anyway) and less what tracing added
    on the thread in that time (FUS001 says how). From 2.5 % of the inferences' time on; a warning from 10 % on. The
    bound is that time.

    Device-wide ones (`cudaDeviceSynchronize`, `cuCtxSynchronize`) are named as such: they wait for the work of all
    streams and threads, also for what the inference does not need.

    Why it matters: while the host waits, it launches nothing; when it returns, the GPU has run dry and stays so until
    the next launch arrives.

    Remedy: order work on the GPU: in one stream it is ordered already, between streams use `cudaEventRecord` and
    `cudaStreamWaitEvent`. Synchronize once, for the result (`cudaStreamSynchronize` or `cudaEventSynchronize`, not
    `cudaDeviceSynchronize`). Inside of `enqueueV3` data-dependent shapes, loops and some plug-ins synchronize. The
    documentation of `enqueueV3` says when it does.

    Blind spots: blocking copies wait as well: see PCI003. Where inferences are enqueues, a synchronization between two
    of them belongs to none: a loop that copies, synchronizes, and only then enqueues is not seen. The wait for a value
    that the host needs to go on cannot be left out.
    """
    measured = Measured.of(trace)
    if not measured.inferences:
        raise CouldNotRun("no inference with GPU work was found, so that no wait can be told from the one for a result")
    calibrated = Calibrated.of(trace)
    found = _between_work(measured, calibrated)
    total = int(found.cost.sum())
    if total < NOISE_SHARE * measured.window_ns:
        return
    names = found.name.counts()
    wide = sum(count for name, count in names.items() if name.partition("_pt")[0] in DEVICE_WIDE)
    yield Finding(
        "STR003",
        weigh(total / measured.window_ns, COST_WARNING, measured),
        Confidence.MEDIUM,
        f"the host waits for the GPU {len(found.start) / measured.inferences:.3g} times in the middle of an inference, "
        f"and the GPU then idles for {share(total / measured.window_ns)} of the {measured.time}",
        "the host synchronizes before it has launched all of the inference: "
        + ", ".join(f"{count} {name}" for name, count in names.items())
        + ("; the device-wide ones wait for every stream and thread" if wide else ""),
        "order the work with streams and events (cudaStreamWaitEvent) and synchronize once, for the result"
        + ("; never the whole device (cudaDeviceSynchronize)" if wide else ""),
        total,
        measured.per_inference(total),
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
        # The gaps between kernels are then the same time seen again.
        explains=("FUS001",) if 2 * total > calibrated.left[1].sum() else (),
    )


@dataclass(frozen=True)
class _Waits:
    """Synchronizations between an inference's launches, shape (n,): what they cost, and when the next work started."""

    start: Ints
    end: Ints
    next: Ints
    cost: Ints
    name: Words


def mostly_within(measured: Measured, time: Intervals) -> bool:
    """Whether what STR003 counts follows in the main from waits that lie, in part at least, in this time."""
    found = _between_work(measured, Calibrated.of(measured.trace))
    inside = time.coverage(found.start, np.maximum(found.end, found.start + 1)) > 0
    return 2 * int(found.cost[inside].sum()) > int(found.cost.sum())


def _between_work(measured: Measured, calibrated: Calibrated) -> _Waits:
    calls, work = measured.host_calls, measured.work
    rows = np.flatnonzero(calls.kind == CallKind.SYNC)
    table = measured.trace.table("inferences", ["pid", "tid", "range_start_ns", "range_end_ns"])
    begin, until = ints(table["range_start_ns"]), ints(table["range_end_ns"])
    key, thread = joint_key(ints(table["pid"]), ints(table["tid"])), joint_key(calls.pid[rows], calls.tid[rows])
    launched = np.flatnonzero((work.inference >= 0) & (work.api_call >= 0)).astype(np.int32) if rows.size else rows
    if launched.size and np.any(work.api_call[launched[1:]] < work.api_call[launched[:-1]]):
        launched = launched[np.argsort(work.api_call[launched], kind="stable")]
    columns: list[tuple[Ints, Ints, Ints]] = []
    for one in distinct(thread).tolist():
        mine = np.flatnonzero(key == one)
        waits = rows[thread == one]
        at = np.searchsorted(begin[mine], calls.start[waits], side="right") - 1
        waits, at = waits[at >= 0], mine[at[at >= 0]]
        inside = calls.start[waits] < until[at]
        waits, at = waits[inside], at[inside]
        # Calls are in order of time: what an inference launched lies before and after the row of the wait.
        theirs = launched[np.isin(work.inference[launched], at)]
        theirs = theirs[joint_key(work.pid[theirs], work.tid[theirs]) == one]
        after = np.searchsorted(work.api_call[theirs], waits)
        real = (after > 0) & (after < len(theirs))
        waits, at, after = waits[real], at[real], after[real]
        between = (work.inference[theirs[after - 1]] == at) & (work.inference[theirs[after]] == at)
        drained = np.maximum.accumulate(work.end[theirs])[after[between] - 1]
        columns.append((waits[between], theirs[after[between]], drained))
    none = np.zeros(0, np.int64)
    waits, following, drained = (np.concatenate([none, *(column[at] for column in columns)]) for at in range(3))
    start, begun = calls.start[waits], work.start[following]
    # While work that was launched before runs, what idles between its kernels is not the wait's doing.
    dry = np.maximum(start, drained)
    idle = np.maximum(begun - dry, 0)
    for device in np.unique(work.device[following]):
        here = work.device[following] == device
        idle[here] -= measured.busy(int(device)).coverage(dry[here], np.maximum(begun, dry)[here])
    _, tracing, _ = calibrated.cost(
        joint_key(calls.pid[waits], calls.tid[waits]), start, work.call_start[following] + 1
    )
    cost = np.maximum(idle - DEPENDENCY_NS - tracing, 0).astype(np.int64)
    return _Waits(start, calls.end[waits], np.maximum(begun, start), cost, calls.name[waits])
