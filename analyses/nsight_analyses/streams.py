"""CUDA streams: do they overlap, and if not, what keeps them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import Measured, Work, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.columns import Ints, ints, words
from nsight_tools.findings import Confidence, Evidence, Finding
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

OVERLAP_SHARE = 0.05
"""Two streams overlap where more than this share of their busy time is spent together."""
ACTIVE_SHARE = 0.01
"""A stream counts from this share of the GPU's busy time on: a handful of copies on a side stream is no design."""
WAITING_SHARE = 0.05
"""Less waiting than this share of the busy time leaves nothing to gain from other streams."""


@analysis("STR001", needs={"kernels", "api_calls"})
def streams_that_do_not_overlap(trace: Trace) -> Iterator[Finding]:
    """Several streams carry work, and run one after the other.

    Measures: for each process and GPU, streams with at least 1 % of the busy time of its kernels, copies and sets
    (union of [start_ns, end_ns)). Overlap is (sum of the streams' busy times - union) / union; below 5 % they do not
    overlap. What that costs is the time in which one stream runs while another has work that was launched (its API
    call has returned), is first in line there, and has not started: below 5 % of the busy time there is nothing to
    overlap, because no two streams ever have work at once. The bound is that waiting time, and no more than what the
    busiest launching thread leaves free.

    The cause is told from the trace, by what explains at least half of the waiting: kernels that fill the GPU (as many
    blocks as all SMs hold at once) leave no room, whatever the streams; copies in one direction share an engine; the
    legacy default stream waits for every blocking stream, and they for it. Where work hardly waits, or the launching
    thread leaves less than 5 % of the time free, the host is the limit. Otherwise the cause is said to be unknown.

    Why it matters: streams are made so that copies run beside kernels and small kernels beside each other. Streams that
    take turns cost their overhead and give nothing.

    Remedy: enqueue each context on a stream of its own, made with `cudaStreamNonBlocking`, never on the default stream
    (stream 0); or build with `--default-stream per-thread`. Where the host thread is the limit: one thread for each
    context, a CUDA graph, or a larger batch. NVIDIA's TensorRT Best Practices, "CUDA Streams" and "Cross-Inference
    Multi-Streaming".

    Blind spots: event waits and synchronizations between streams are not yet told apart from other causes. Work of
    other processes on the GPU is not in the report. Tracing slows launches, so that a host thread may look like the
    limit that is none without the profiler.
    """
    measured = Measured.of(trace)
    work = measured.work[measured.steady(measured.work.start, measured.work.end)]
    for pid, device in np.unique(np.stack([work.pid, work.device]), axis=1).T:
        here = work[(work.pid == pid) & (work.device == device)]
        streams = _active_streams(here)
        if len(streams) < 2:
            continue
        union = here.busy().total
        busy = [here[here.stream == stream].busy() for stream in streams]
        overlap = (sum(line.total for line in busy) - Intervals.union(*_joined(busy)).total) / max(union, 1)
        if overlap < OVERLAP_SHARE:
            yield _finding(measured, here, int(pid), streams, busy, overlap)


def _active_streams(work: Work) -> list[int]:
    total = work.busy().total
    return [int(s) for s in np.unique(work.stream) if work[work.stream == s].busy().total >= ACTIVE_SHARE * total]


def _joined(lines: list[Intervals]) -> tuple[Ints, Ints]:
    return np.concatenate([line.start for line in lines]), np.concatenate([line.end for line in lines])


@dataclass(frozen=True)
class _Waiting:
    """Time in which a stream's next work is launched and another stream runs; and how much of it has which reason."""

    time: Intervals
    null_stream: int
    full_gpu: int
    copy_engine: int


def _waiting(measured: Measured, work: Work, streams: list[int], busy: list[Intervals], null: set[int]) -> _Waiting:
    nothing = Intervals.union([], [])
    waits, same_direction = [], []
    for stream, own in zip(streams, busy, strict=True):
        mine = work[(work.stream == stream) & (work.call_end >= 0)]
        others = work[(work.stream != stream) & np.isin(work.stream, streams)]
        waits.append(Intervals.union(mine.call_end, mine.start).subtract(own).intersection(others.busy()))
        for kind in ("h2d", "d2h"):
            copies = mine[mine.kind.among(kind)]
            queued = Intervals.union(copies.call_end, copies.start).intersection(waits[-1])
            same_direction.append(queued.intersection(others[others.kind.among(kind)].busy()))
    time = Intervals.union(*_joined(waits))
    # Both sides count: the default stream that waits, and those that wait while it runs.
    of_null = [(line, wait) for stream, line, wait in zip(streams, busy, waits, strict=True) if stream in null]
    with_null = [nothing, *(time.intersection(line) for line, _ in of_null), *(wait for _, wait in of_null)]
    return _Waiting(
        time,
        Intervals.union(*_joined(with_null)).total,
        time.intersection(_filling(measured, work)).total,
        Intervals.union(*_joined(same_direction)).total,
    )


def _filling(measured: Measured, work: Work) -> Intervals:
    """Time in which a kernel runs whose blocks fill the GPU; none where the report does not describe the GPU."""
    gpus = {gpu["device"]: gpu for gpu in measured.trace.table("gpus").to_pylist()}
    kernels = work[work.kind.among("kernel")]
    if not len(kernels.row) or (gpu := gpus.get(int(kernels.device[0]))) is None or not gpu["sm_count"]:
        return Intervals.union([], [])
    columns = (
        "grid_x",
        "grid_y",
        "grid_z",
        "block_x",
        "block_y",
        "block_z",
        "registers",
        "static_shared_memory_bytes",
        "dynamic_shared_memory_bytes",
    )
    table = measured.trace.table("kernels", columns)
    column = {name: ints(table[name])[kernels.row] for name in columns}
    blocks = column["grid_x"] * column["grid_y"] * column["grid_z"]
    warps = -(-(column["block_x"] * column["block_y"] * column["block_z"]) // 32)
    shared = column["static_shared_memory_bytes"] + column["dynamic_shared_memory_bytes"]
    # How many blocks one SM holds: the least of what warps, registers, shared memory and block slots allow.
    limits = [
        (gpu["max_warps_per_sm"] or 64) // np.maximum(warps, 1),
        np.full(len(blocks), gpu["max_blocks_per_sm"] or 32),
        (gpu["max_registers_per_sm"] or 65536) // np.maximum(column["registers"] * warps * 32, 1),
        (gpu["max_shared_memory_per_sm_bytes"] or 98304) // np.maximum(shared, 1),
    ]
    resident = np.maximum(np.minimum.reduce(limits), 1)
    full = blocks >= resident * gpu["sm_count"]
    return Intervals.union(kernels.start[full], kernels.end[full])


def _null_streams(trace: Trace, pid: int) -> set[int]:
    table = trace.table("streams", ["pid", "stream", "kind"])
    chosen = (ints(table["pid"]) == pid) & words(table["kind"]).among("legacy_default")
    return set(ints(table["stream"])[chosen].tolist())


def _finding(
    measured: Measured, work: Work, pid: int, streams: list[int], busy: list[Intervals], overlap: float
) -> Finding:
    null = _null_streams(measured.trace, pid) & set(streams)
    waiting = _waiting(measured, work, streams, busy, null)
    union = work.busy().total
    cost = waiting.time.total
    # No more can be gained than what the busiest launching thread leaves: it would be the limit then.
    gain = min(cost, max(measured.window_ns - measured.host_occupied(), 0))
    cause = _cause(measured, work, waiting, null, gain)
    gain = max(gain - cause.not_to_be_gained, 0)
    named = ", ".join(f"{s}{' (legacy default)' if s in null else ''}" for s in streams[:8])
    return Finding(
        "STR001",
        weigh(gain / measured.window_ns, 0.1),
        cause.confidence,
        f"{len(streams)} streams carry work and overlap for {share(overlap)} of their busy time; launched work of one "
        f"waits for another for {share(cost / max(union, 1))} of it",
        cause.text,
        cause.remedy,
        gain,
        measured.per_inference(gain),
        "time in which launched work of one stream waits while another runs, less what the cause leaves no room for, "
        "and no more than the busiest launching thread leaves free",
        (
            Evidence("overlap", overlap, "ratio"),
            Evidence("launched work waits for another stream", cost, "ns"),
            Evidence("streams", len(streams), "count", detail=named),
            *(
                Evidence(f"busy, stream {stream}", line.total, "ns", int(line.start[0]), int(line.end[-1]))
                for stream, line in list(zip(streams, busy, strict=True))[:4]
            ),
            *worst("longest wait", waiting.time.start, waiting.time.end),
        ),
    )


@dataclass(frozen=True)
class _Cause:
    text: str
    remedy: str
    not_to_be_gained: int
    confidence: Confidence


def _cause(measured: Measured, work: Work, waiting: _Waiting, null: set[int], gain: int) -> _Cause:
    cost, union = waiting.time.total, work.busy().total
    threads = len(np.unique(work.tid[work.tid >= 0]))
    who = "one host thread launches" if threads == 1 else f"{threads} host threads launch"
    also = (
        " Some of it runs on the legacy default stream, which would serialize it if the host were faster."
        if null
        else ""
    )
    if cost < WAITING_SHARE * union or gain < WAITING_SHARE * measured.window_ns:
        occupied = measured.host_occupied() / measured.window_ns
        return _Cause(
            f"the host is the limit, not the streams: {who} for all of them, occupied for {share(min(occupied, 1))} of "
            f"the time, and launched work waits for another stream for {duration(cost)} of {duration(union)}.{also}",
            "measure without the profiler first, which slows launches; then launch from one thread for each context, "
            "capture a CUDA graph, or enlarge the batch",
            cost,
            Confidence.MEDIUM,
        )
    if waiting.full_gpu >= 0.5 * cost:
        return _Cause(
            f"kernels that fill the GPU: for {duration(waiting.full_gpu)} of {duration(cost)} the running kernel has "
            "at least as many blocks as all SMs hold at once, so that another stream's could not run beside it",
            "nothing: more streams cannot help while single kernels fill the GPU",
            waiting.full_gpu,
            Confidence.MEDIUM,
        )
    if waiting.copy_engine >= 0.5 * cost:
        return _Cause(
            f"copies in one direction share a copy engine and the link: for {duration(waiting.copy_engine)} of "
            f"{duration(cost)} a copy waits for another stream's in the same direction",
            "copy less, or let copies run beside kernels and beside copies in the other direction; more streams do not "
            "help",
            waiting.copy_engine,
            Confidence.MEDIUM,
        )
    if waiting.null_stream >= 0.5 * cost:
        return _Cause(
            f"the legacy default stream {', '.join(map(str, sorted(null)))} carries work: it and every blocking stream "
            f"wait for each other ({duration(waiting.null_stream)} of {duration(cost)} of the waiting)",
            "enqueue on a stream of its own, made with cudaStreamNonBlocking (cudaStreamCreateWithFlags), for each "
            "context",
            0,
            Confidence.MEDIUM,
        )
    return _Cause(
        "could not be told from this trace: neither the legacy default stream, nor kernels that fill the GPU, nor "
        "copies in one direction, nor slow launches explain most of it; event waits do the same",
        "look at the windows below: does an event wait or a synchronization stand before them?",
        0,
        Confidence.LOW,
    )
