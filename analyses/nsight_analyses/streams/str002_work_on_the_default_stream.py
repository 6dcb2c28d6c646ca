"""An engine on the legacy default stream, and what its enqueues wait for there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import no_inference, with_kernels, worst
from nsight_analyses.streams.synchronizations import mostly_within
from nsight_tools.analysis import analysis
from nsight_tools.columns import Ints, ints, words
from nsight_tools.cuda_names import CallKind
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Bools
    from nsight_tools.run import Run
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

ENGINE_SHARE = 0.01
"""Less than this share of the inferences' kernels on the default stream is a stray helper, not an enqueue."""


@analysis(
    "STR002",
    needs={"api_calls"},
    topic="default stream",
    picture="streams",
    change=Change("default_stream", value=False),
)
def work_on_the_default_stream(trace: Trace) -> Iterator[Finding]:
    """An engine is enqueued on the legacy default stream.

    Measures: kernels (and whole graphs) of inferences whose stream has the kind legacy_default in `streams`, from 1 %
    of the inferences' kernels on. What it costs is the time in which their GPU runs no kernel while their thread is in
    a synchronization that starts inside of a range ExecutionContext::… of TensorRT: what `enqueueV3` adds on this
    stream. From 10 % of the steady state on it is a warning. Without such ranges, synchronizations between an
    inference's first and last launch are counted, and no cost is claimed: the program may have asked for them.

    Why it matters: on the default stream `enqueueV3` may call `cudaStreamSynchronize` to keep its order, CUDA graphs
    cannot be captured, and every blocking stream of the process waits for it and it for them: a second context or a
    copy stream then overlaps with nothing.

    Remedy: enqueue on a stream of its own, made with `cudaStreamCreateWithFlags(…, cudaStreamNonBlocking)`. TensorRT
    logs a warning that asks for the same, and so does the documentation of `enqueueV3`.

    Blind spots: what the stream keeps from overlapping is not told here, where several streams carry work; with one
    stream and no added synchronization it costs nothing. The per-thread default stream is another one and is not meant.
    """
    run = with_kernels(trace)
    work = run.work
    if run.tensorrt is False:
        raise NotApplicable("the program runs no TensorRT; frameworks work on the default stream by design")
    ours = work.computes & (work.inference >= 0) & run.judged_work
    if not ours.any():
        if work.computes.any():
            raise no_inference(trace)
        raise NotApplicable("no kernel ran")
    rows = _on_default(run, ours)
    if len(rows) < ENGINE_SHARE * ours.sum():
        return
    start, end, told = _synchronizations_within(run, rows)
    cost = run.gpus.uncovered(np.full(len(start), work.device[rows[0]]), start, end) if told or not len(start) else None
    where = "inside of its enqueues" if told else "between the first and the last launch of an inference"
    names = ", ".join(map(str, np.unique(work.stream[rows]).tolist()))
    added = (
        f"synchronizations of the host {where}: {len(start)}"
        if len(start)
        else f"the host never synchronizes {where}, so that it slows no enqueue"
    )
    yield Finding(
        "STR002",
        Severity.INFO if cost is None else Severity.WARNING,
        Confidence.HIGH if told else Confidence.MEDIUM,
        f"{len(rows)} of {int(ours.sum())} kernels of inferences run on the legacy default stream ({names}); {added}",
        "the context is enqueued on stream 0 (or a null handle): the legacy default stream, which every blocking "
        "stream waits for, and on which enqueueV3 may synchronize",
        "enqueue each context on a stream of its own (cudaStreamCreateWithFlags with cudaStreamNonBlocking); "
        "several of them can then overlap",
        evidence=(
            Evidence(
                "kernels on the default stream", len(rows), "count", int(work.start[rows[0]]), int(work.end[rows[-1]])
            ),
            Evidence("share of the inferences' kernels", len(rows) / int(ours.sum()), "ratio"),
            Evidence("synchronizations", len(start), "count", detail=where),
            *worst("longest of them", start, end),
        ),
        explains=("exposed transfers", *_waits(run, told=told, time=Intervals.union(start, end))),
        loss=None
        if cost is None
        else Loss(
            cost,
            cost / run.window_ns,
            "time in these synchronizations in which the GPU runs no kernel; what streams could overlap comes on top",
            of_host=True,
        ),
    )


def _on_default(run: Run, ours: Bools) -> IntArray:
    """Rows of the work on the legacy default stream, of `ours`, (n,) of all work.

    Raises CouldNotRun where the report knows no default stream, and not all of the streams that are used.
    """
    table = run.trace.table("streams", ["pid", "stream", "kind"])
    kind, stream = words(table["kind"]), joint_key(ints(table["pid"]), ints(table["stream"]))
    used = joint_key(run.work.pid, run.work.stream)
    default = stream[kind.among("legacy_default")]
    known = stream[kind.among("legacy_default", "blocking", "non_blocking")]
    if not default.size and not np.isin(used[ours], known).all():
        raise CouldNotRun("the report does not say which stream is the default one")
    rows: IntArray = np.flatnonzero(ours & np.isin(used, default))
    return rows


def _waits(run: Run, *, told: bool, time: Intervals) -> tuple[str, ...]:
    """What else follows from synchronizations inside of enqueues."""
    return ("synchronizations",) if told and len(time) and mostly_within(run, time) else ()


def _synchronizations_within(run: Run, rows: Ints) -> tuple[Ints, Ints, bool]:
    """Start and end of the synchronizations of the threads that launched these rows while they enqueue.

    Those in TensorRT's own ranges; without such ranges (then the last value is false) those between the first and the
    last launch of an inference, whoever asked for them.
    """
    work, calls = run.work, run.calls
    rows = rows[work.api_call[rows] >= 0]
    threads, start, end = _enqueue_ranges(run)
    told = bool(len(start))
    if not told:
        inference = work.inference[rows]
        start = np.full(int(inference.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        end = np.full(len(start), np.iinfo(np.int64).min)
        np.minimum.at(start, inference, work.call_start[rows])
        np.maximum.at(end, inference, work.call_start[rows])
        threads = np.full(len(start), -1)
        threads[inference] = joint_key(work.pid[rows], work.tid[rows])
    waits = calls[calls.kind == CallKind.SYNC]
    waiter = joint_key(waits.pid, waits.tid)
    chosen = np.zeros(len(waits.start), np.bool_)
    for thread in distinct(joint_key(work.pid[rows], work.tid[rows])):
        between = Intervals.union(start[threads == thread], end[threads == thread])
        chosen |= (waiter == thread) & between.contains(waits.start)
    return waits.start[chosen], waits.end[chosen], told


def _enqueue_ranges(run: Run) -> tuple[Ints, Ints, Ints]:
    """Thread, start and end of TensorRT's ranges around enqueues."""
    table = run.trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "name"])
    chosen = words(table["name"]).where(lambda name: name.startswith("ExecutionContext::"))
    start, end, pid, tid = (ints(table[name])[chosen] for name in ("start_ns", "end_ns", "pid", "tid"))
    return joint_key(pid, tid), start, end
