"""Which stream an engine's work is on: the default stream, or streams whose enqueues failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats, weigh, worst
from nsight_analyses.syncs import mostly_within
from nsight_tools.analysis import analysis
from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.measured import Measured
from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

ENGINE_SHARE = 0.01
"""Less than this share of the inferences' kernels on the default stream is a stray helper, not an enqueue."""


def no_inference(trace: Trace) -> CouldNotRun:
    """Why kernels ran and none of them is an inference's."""
    if trace.rows("inferences"):
        return CouldNotRun("no kernel can be joined to the API call that launched it, and so to no inference")
    return nothing_repeats(trace, "no inference is marked: name their NVTX ranges with --inference-range")


@analysis("STR002", needs={"api_calls"})
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

    Blind spots: what the stream keeps from overlapping is STR001's to tell, where several streams carry work; with one
    stream and no added synchronization it costs nothing. The per-thread default stream is another one and is not meant.
    """
    measured = _measured(trace)
    work = measured.work
    ours = work.computes & (work.inference >= 0)
    if not ours.any():
        if work.computes.any():
            raise no_inference(trace)
        return
    table = trace.table("streams", ["pid", "stream", "kind"])
    kind, stream = words(table["kind"]), joint_key(ints(table["pid"]), ints(table["stream"]))
    used = joint_key(work.pid, work.stream)
    default = stream[kind.among("legacy_default")]
    on_default = ours & np.isin(used, default)
    if on_default.sum() < ENGINE_SHARE * ours.sum():
        known = stream[kind.among("legacy_default", "blocking", "non_blocking")]
        if not default.size and not np.isin(used[ours], known).all():
            raise CouldNotRun("the report does not say which stream is the default one")
        return
    rows = np.flatnonzero(on_default)
    start, end, told = _synchronizations_within(measured, rows)
    cost = measured.uncovered(np.full(len(start), work.device[rows[0]]), start, end) if told or not len(start) else None
    where = "inside of its enqueues" if told else "between the first and the last launch of an inference"
    names = ", ".join(map(str, np.unique(work.stream[rows]).tolist()))
    added = (
        f"synchronizations of the host {where}: {len(start)}"
        if len(start)
        else f"the host never synchronizes {where}, so that it slows no enqueue"
    )
    yield Finding(
        "STR002",
        weigh((cost or 0) / measured.window_ns, 0.1),
        Confidence.HIGH if told else Confidence.MEDIUM,
        f"{len(rows)} of {int(ours.sum())} kernels of inferences run on the legacy default stream ({names}); {added}",
        "the context is enqueued on stream 0 (or a null handle): the legacy default stream, which every blocking "
        "stream waits for, and on which enqueueV3 may synchronize",
        "enqueue each context on a stream of its own (cudaStreamCreateWithFlags with cudaStreamNonBlocking); what it "
        "would gain with several streams is in STR001",
        cost,
        None if cost is None else measured.per_inference(cost),
        "time in these synchronizations in which the GPU runs no kernel; what streams could overlap is STR001's"
        if cost is not None
        else "",
        (
            Evidence(
                "kernels on the default stream", len(rows), "count", int(work.start[rows[0]]), int(work.end[rows[-1]])
            ),
            Evidence("share of the inferences' kernels", len(rows) / int(ours.sum()), "ratio"),
            Evidence("synchronizations", len(start), "count", detail=where),
            *worst("longest of them", start, end),
        ),
        ("STR003",) if told and len(start) and mostly_within(measured, Intervals.union(start, end)) else (),
    )


def _measured(trace: Trace) -> Measured:
    """What the trace measured; raises CouldNotRun where its kernels are missing and no whole graph stands for them."""
    measured = Measured.of(trace)
    if not measured.work.computes.any() and (reason := trace.missing("kernels")) is not None:
        raise CouldNotRun(reason)
    return measured


def _synchronizations_within(measured: Measured, rows: Ints) -> tuple[Ints, Ints, bool]:
    """Start and end of the synchronizations of the threads that launched these rows while they enqueue.

    Those in TensorRT's own ranges; without such ranges (then the last value is false) those between the first and the
    last launch of an inference, whoever asked for them.
    """
    work, calls = measured.work, measured.host_calls
    rows = rows[work.api_call[rows] >= 0]
    thread, start, end = _enqueue_ranges(measured)
    told = bool(len(start))
    if not told:
        inference = work.inference[rows]
        start = np.full(int(inference.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        end = np.full(len(start), np.iinfo(np.int64).min)
        np.minimum.at(start, inference, work.call_start[rows])
        np.maximum.at(end, inference, work.call_start[rows])
        thread = np.full(len(start), -1)
        thread[inference] = joint_key(work.pid[rows], work.tid[rows])
    its = calls[calls.kind == CallKind.SYNC]
    of_call = joint_key(its.pid, its.tid)
    chosen = np.zeros(len(its.start), np.bool_)
    for one in distinct(joint_key(work.pid[rows], work.tid[rows])):
        between = Intervals.union(start[thread == one], end[thread == one])
        chosen |= (of_call == one) & between.contains(its.start)
    return its.start[chosen], its.end[chosen], told


def _enqueue_ranges(measured: Measured) -> tuple[Ints, Ints, Ints]:
    """Thread, start and end of TensorRT's ranges around enqueues."""
    table = measured.trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "name"])
    chosen = words(table["name"]).where(lambda name: name.startswith("ExecutionContext::"))
    start, end, pid, tid = (ints(table[name])[chosen] for name in ("start_ns", "end_ns", "pid", "tid"))
    return joint_key(pid, tid), start, end


@dataclass(frozen=True)
class Failed:
    """Inferences that copied and launched nothing, on streams where every inference did so."""

    inferences: Bools
    streams: Ints
    carrying: int
    """Streams that carry copies of inferences, these and others."""


def failed_on_streams(measured: Measured) -> Failed | None:
    """Inferences whose enqueue failed, where streams tell it; None where they do not.

    A failed inference copies in both directions and launches no kernel. A stream is told by it if all inferences that
    copy on it have failed and it runs no kernel. Inferences whose kernels run on a stream apart from their copies
    (trtexec's design) have not failed, nor has a thread that only uploads or only downloads.
    """
    worked = measured.worked
    if not worked.any() or worked.all():
        return None
    work = measured.work
    moves = np.flatnonzero(work.kind.among("h2d", "d2h") & (work.inference >= 0))
    inference, up = work.inference[moves], work.kind[moves].among("h2d")
    both = np.zeros((2, len(worked)), np.bool_)
    both[up.astype(int), inference] = True
    stream = joint_key(work.pid[moves], work.stream[moves])
    busy = distinct(joint_key(work.pid, work.stream)[work.computes])
    sound = np.union1d(stream[worked[inference]], busy)
    failed = ~worked & both.all(axis=0)
    told = failed[inference] & ~np.isin(stream, sound)
    its = np.zeros(len(worked), np.bool_)
    its[inference[told]] = True
    if not its.any():
        return None
    return Failed(its, np.unique(work.stream[moves[told]]), len(np.unique(stream)))


@analysis("STR004", needs={"memory_ops", "api_calls"})
def streams_without_work(trace: Trace) -> Iterator[Finding]:
    """Inferences copy, and compute nothing: their enqueue failed.

    Measures: `inferences` that copied in both directions and have no kernel and no graph, though others have, on
    streams on which no kernel runs and all inferences that copy are such. Inferences whose kernels run on another
    stream than their copies, as in trtexec, are none.

    Why it matters: the enqueue failed. Its inputs and outputs are copied all the same, no CUDA call returns an error,
    and the result is whatever was in the buffer. Rates counted over all inferences are too high.

    Remedy: check what `enqueueV3` (`execute_async_v3`) returns, and TensorRT's log. For several contexts on an engine
    with dynamic shapes, build as many optimization profiles, and select one for each context
    (`setOptimizationProfileAsync`). NVIDIA's TensorRT Best Practices, "Cross-Inference Multi-Streaming".

    Blind spots: needs ranges around whole inferences: a failed enqueue has no range of TensorRT's own. Failures of
    single inferences on a stream that works otherwise are CAP001's.
    """
    measured = _measured(trace)
    if not measured.inferences:
        if measured.work.computes.any():
            raise no_inference(trace)
        return
    failed = failed_on_streams(measured)
    if failed is None:
        return
    table = trace.table("inferences", ["range_start_ns", "range_end_ns", "start_ns", "end_ns"])
    start, end = (
        np.where(ints(table[f"range_{side}"]) < 0, ints(table[side]), ints(table[f"range_{side}"]))[failed.inferences]
        for side in ("start_ns", "end_ns")
    )
    count, everything, streams = int(failed.inferences.sum()), len(failed.inferences), failed.streams
    spent = Intervals.union(start, end).total
    yield Finding(
        "STR004",
        Severity.ERROR,
        Confidence.HIGH,
        f"{len(streams)} of {failed.carrying} streams carry copies and no kernel: {count} of {everything} inferences "
        "launched nothing, and rates and latencies over all of them are wrong",
        "their enqueue failed, or was never called: the trace records no CUDA error for that, and their copies still "
        "run",
        "check the return value of enqueueV3 (execute_async_v3) and TensorRT's log; several contexts on an engine with "
        "dynamic shapes need an optimization profile each",
        evidence=(
            Evidence(
                "streams without kernels", len(streams), "count", detail=", ".join(map(str, streams[:8].tolist()))
            ),
            Evidence("inferences without GPU work", count, "count", detail=f"{share(count / everything)} of all"),
            Evidence(
                "host time in them",
                spent,
                "ns",
                detail=f"median {duration(float(np.median(end - start)))} an inference",
            ),
            Evidence("first of them", int(end[0] - start[0]), "ns", int(start[0]), int(end[0])),
        ),
    )
