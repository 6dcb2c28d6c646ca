"""Accounting that closes: where each nanosecond of each request's window went.

Inferences are taken in batches, and within a batch there is no loop over them. What a request owns is laid out
in its own lane of one long line (its window, shifted to where the previous lane ends), where plain unions of
intervals serve all requests at once however their windows overlap. What remains free in the lanes is looked up in
the shared timelines (the calls of a thread, the work of a GPU) by `Intervals.coverage`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.accelerator import NOTHING, Served
from nsight_tools.timeline.attribution import Calls, ThreadSpans, Work, WorkKind
from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray, Intervals, Timeline, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nsight_tools.timeline.requests import Requests

BATCH = 1 << 15
"""Pieces of GPU work that are accounted for at a time: bounds the memory, and keeps the columns in the cache."""


@dataclass(frozen=True)
class _Lanes:
    """Windows, and where on the line each one's lane begins: lane i is `[offset[i], offset[i] + its length)`."""

    start: Int64Array
    end: Int64Array
    offset: Int64Array

    def union(self, lane: IntArray, start: Int64Array, end: Int64Array) -> Intervals:
        """The time on the line that these intervals of their lanes' windows cover."""
        shift = self.offset[lane] - self.start[lane]
        return Intervals.union(start + shift, end + shift)

    def coverage(self, line: Intervals) -> Int64Array:
        """Nanoseconds of the set in each lane."""
        return line.coverage(self.offset, self.offset + self.end - self.start)


@dataclass(frozen=True)
class _Own:
    """Work that belongs to inferences: each piece's lane, its times, and those of its call (its own start if none)."""

    lane: IntArray
    start: Int64Array
    end: Int64Array
    kind: NDArray[np.int8]
    device: Int64Array
    stream: Int64Array
    call_start: Int64Array
    call_end: Int64Array


_BUCKETS = (
    ("compute_ns", (WorkKind.KERNEL, WorkKind.GRAPH)),
    ("exposed_communication_ns", (WorkKind.COMMUNICATION,)),
    ("exposed_h2d_ns", (WorkKind.H2D,)),
    ("exposed_d2h_ns", (WorkKind.D2H,)),
    ("exposed_other_copy_ns", (WorkKind.OTHER_COPY, WorkKind.SET)),
)


def account(
    requests: Requests,
    calls: Calls,
    work: Work,
    owner: IntArray,
    overhead: ThreadSpans | None = None,
    known: Int64Array | None = None,
    served: Served = NOTHING,
) -> dict[str, NDArray[Any]]:
    """Columns of the table `inferences`, each of shape (n,): every nanosecond of a window in exactly one bucket.

    `work` is all that ran on the GPUs and `owner` the request of each piece (`assign_work`), -1 where none. A window
    runs from the request's first event to its last: its range, its work, the calls that launched that, and the wait in
    which the host learnt that it was done (`known`, of shape (n,): `ownership.woken`). The buckets, each of them less
    those before it:

    * compute, exposed communication, exposed copies: the union of its own kernels (and whole graphs), of those that
      communicate, h2d, d2h, and other copies and sets
    * accelerator: a DLA runs a layer of it, before work that is submitted to the GPU (`accelerator.served`)
    * other_work: some of its work is between the end of its call and its start while that GPU runs anything traced
    * launch, sync: its host thread is inside a launch or copy call, inside a synchronization
    * host: the rest, where its process has traced API calls and its thread is known, less profiler overhead there
    * unattributed: what is left

    They sum to `wall_ns` exactly. `tid` and `device` are -1 where unknown.
    """
    rows = np.flatnonzero(owner >= 0)
    if np.any(np.diff(owner[rows]) < 0):
        rows = rows[np.argsort(owner[rows], kind="stable")]
    shared = _Shared(calls, work, overhead)
    windows = replace(requests, end=requests.end if known is None else np.maximum(requests.end, known))
    whose = owner[served.row]
    parts = [
        _account(
            windows[first:last],
            _own_work(calls, work, rows[piece], owner[rows[piece]] - first),
            shared,
            _of_lanes(served, whose, first, last),
        )
        for first, last, piece in _batches(owner[rows], requests.start.size)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | {
        "inference": np.arange(requests.start.size),
        "pid": requests.pid,
        "tid": requests.tid,
        "source": requests.source,
        "range_start_ns": requests.start,
        "range_end_ns": requests.end,
        "nvtx_range": requests.name,
    }


def _batches(lane: IntArray, count: int) -> Iterator[tuple[int, int, slice]]:
    """First and last inference (one behind), and their rows of the sorted `lane`, some BATCH of them at a time."""
    reach = np.searchsorted(lane, np.arange(count), side="right")  # where each inference's work ends
    first, row = 0, 0
    while True:
        last = max(int(np.searchsorted(reach, row + BATCH, side="right")), first + 1)
        until = int(reach[min(last, count) - 1]) if count else 0
        yield first, min(last, count), slice(row, until)
        if last >= count:
            return
        first, row = last, until


def _of_lanes(served: Served, whose: IntArray, first: int, last: int) -> Served:
    """Waits for a DLA of the inferences from one to another (one behind), by their lanes instead of rows of work."""
    mine = (whose >= first) & (whose < last)
    return Served(whose[mine] - first, served.start[mine], served.end[mine])


def _account(requests: Requests, own: _Own, shared: _Shared, served: Served) -> dict[str, NDArray[Any]]:
    """Window and buckets of some inferences, and what the table says beside them; `own` is their work."""
    lanes = _windows(requests, own)
    wall = lanes.end - lanes.start
    columns: dict[str, NDArray[Any]] = {"start_ns": lanes.start, "end_ns": lanes.end, "wall_ns": wall}
    taken = Intervals.union([], [])
    so_far: Int64Array = np.zeros(wall.size, np.int64)
    for name, kinds in _BUCKETS:
        mine = np.isin(own.kind, kinds)
        line = lanes.union(own.lane[mine], own.start[mine], own.end[mine])
        taken = Intervals.any_of([taken, line])
        covered = lanes.coverage(taken)
        columns[name] = covered - so_far
        so_far = covered
    busy = so_far
    begun = np.maximum(served.start, lanes.start[served.row])  # a hole may be older than what waits in it
    ended = np.maximum(served.end, begun)
    taken = Intervals.any_of([taken, lanes.union(served.row, begun, ended)])
    so_far = lanes.coverage(taken)
    columns["accelerator_ns"] = so_far - busy
    columns |= _idle_buckets(requests, shared, _idle_pieces(lanes, own, taken, shared))
    columns["unattributed_ns"] = wall - so_far - sum(columns[name] for name in _IDLE_BUCKETS)
    return columns | _beside(lanes, own, columns, busy)


def _own_work(calls: Calls, work: Work, rows: IntArray, lane: IntArray) -> _Own:
    call = work.call[rows]
    begun = work.start[rows]
    called = call >= 0
    call_start, call_end = (
        np.where(called, time[call] if time.size else begun, begun) for time in (calls.start, calls.end)
    )
    shared = (begun, work.end[rows], work.kind[rows], work.device[rows], work.stream[rows])
    return _Own(lane, *shared, call_start, call_end)


def _windows(requests: Requests, own: _Own) -> _Lanes:
    start, end = requests.start.copy(), requests.end.copy()
    lanes, first = np.unique(own.lane, return_index=True)
    if lanes.size:
        earliest = np.minimum.reduceat(np.minimum(own.start, own.call_start), first)
        latest = np.maximum.reduceat(np.maximum(own.end, own.call_end), first)
        start[lanes] = np.minimum(start[lanes], earliest)
        end[lanes] = np.maximum(end[lanes], latest)
    return _Lanes(start, end, np.cumsum(end - start) - (end - start))


@dataclass(frozen=True)
class _Pieces:
    """Pieces of the lanes in which nothing of their own runs, shape (n,), in the report's time.

    `waits[d]`, shape (n,), says whether work for the GPU `devices[d]` is submitted there and has not started.
    """

    lane: Int64Array
    start: Int64Array
    end: Int64Array
    devices: Int64Array
    waits: BoolArray


def _idle_pieces(lanes: _Lanes, own: _Own, taken: Intervals, shared: _Shared) -> _Pieces:
    free = taken.complement(0, int((lanes.end - lanes.start).sum()))
    window = (int(lanes.start.min()), int(lanes.end.max())) if lanes.start.size else (0, 0)
    devices, waiting = [], []
    for device in np.unique(own.device):
        here = own.device == device
        lane, start = own.lane[here], own.start[here]
        mine = lanes.coverage(lanes.union(lane, start, own.end[here]))
        # Where a GPU ran nothing but an inference's own work, there was nothing that it could wait behind.
        if np.any(shared.busy(int(device), *window).coverage(lanes.start, lanes.end) > mine):
            devices.append(int(device))
            waiting.append(lanes.union(lane, own.call_end[here], start))
    cuts = [free.start, free.end, lanes.offset, *(edge for line in waiting for edge in (line.start, line.end))]
    cut = distinct(np.concatenate(cuts))
    inside = free.contains(cut[:-1])
    start, end = cut[:-1][inside], cut[1:][inside]
    # A lane without length shares its offset with the next one: the last lane that begins there is the one meant.
    lane = np.searchsorted(lanes.offset, start, side="right") - 1
    waits = np.array([line.contains(start) for line in waiting], np.bool_).reshape(len(devices), start.size)
    shift = lanes.start[lane] - lanes.offset[lane]
    return _Pieces(lane, start + shift, end + shift, np.array(devices, np.int64), waits)


_IDLE_BUCKETS = ("other_work_ns", "launch_ns", "sync_ns", "host_ns")


class _Shared:
    """The timelines that inferences share: the work of a GPU, and what a thread was inside of; each ordered once."""

    def __init__(self, calls: Calls, work: Work, overhead: ThreadSpans | None) -> None:
        self._calls, self._work, self._overhead = calls, work, overhead
        self._busy: dict[int, Timeline] = {}
        self._host: dict[tuple[int, int], Timeline | None] = {}

    def busy(self, device: int, lo: int, hi: int) -> Intervals:
        """Time of `[lo, hi)` in which a GPU runs anything traced."""
        work = self._work
        if device not in self._busy:
            self._busy[device] = Timeline.of(np.flatnonzero(work.device == device), work.start, work.end)
        rows = self._busy[device].within(lo, hi)
        return Intervals.union(work.start[rows], work.end[rows]).clip(lo, hi)

    def host(self, pid: int, tid: int, lo: int, hi: int) -> tuple[Intervals, ...]:
        """Time of `[lo, hi)` in which a thread is in launch or copy calls; or also in synchronizations; or in overhead.

        Nothing where the thread is unknown or its process has no traced calls.
        """
        calls, overhead = self._calls, self._overhead
        if (pid, tid) not in self._host:
            ours = calls.pid == pid
            known = tid >= 0 and bool(ours.any())
            rows = np.flatnonzero(ours & (calls.tid == tid))
            self._host[pid, tid] = Timeline.of(rows, calls.start, calls.end) if known else None
        timeline = self._host[pid, tid]
        if timeline is None:
            return ()
        rows = timeline.within(lo, hi)
        start, end, kind = calls.start[rows], calls.end[rows], calls.kind[rows]
        launch = np.isin(kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY))
        held = launch | (kind == CallKind.SYNC)
        lines = [Intervals.union(start[mine], end[mine]).clip(lo, hi) for mine in (launch, held)]
        if overhead is None:
            return (*lines, lines[1])
        there = (overhead.pid == pid) & (overhead.tid == tid)
        start, end = np.append(start[held], overhead.start[there]), np.append(end[held], overhead.end[there])
        return (*lines, Intervals.union(start, end).clip(lo, hi))


def _idle_buckets(requests: Requests, shared: _Shared, pieces: _Pieces) -> dict[str, NDArray[Any]]:
    """Time of the pieces by bucket, shape (n,) for n inferences: one look-up for each thread and set of GPUs."""
    buckets: dict[str, NDArray[Any]] = {name: np.zeros(requests.start.size, np.int64) for name in _IDLE_BUCKETS}
    _, thread = np.unique(requests.thread, return_inverse=True)
    group = thread[pieces.lane]
    for waits in pieces.waits:
        _, group = np.unique(group * 2 + waits, return_inverse=True)
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if order.size else ():
        lane, start, end = pieces.lane[rows], pieces.start[rows], pieces.end[rows]
        window = int(start.min()), int(end.max())
        devices = pieces.devices[pieces.waits[:, rows[0]]]
        gpu = Intervals.any_of([shared.busy(int(device), *window) for device in devices])
        other = gpu.coverage(start, end)
        _add(buckets["other_work_ns"], lane, other)
        lines = shared.host(int(requests.pid[lane[0]]), int(requests.tid[lane[0]]), *window)
        if not lines:
            continue
        launch, held, known = (line.subtract(gpu).coverage(start, end) for line in lines)
        _add(buckets["launch_ns"], lane, launch)
        _add(buckets["sync_ns"], lane, held - launch)
        _add(buckets["host_ns"], lane, end - start - other - known)
    return buckets


def _add(bucket: Int64Array, lane: IntArray, time: Int64Array) -> None:
    """Add each time to its lane's bucket; lanes come in order, several of each."""
    first = np.flatnonzero(np.append(True, lane[1:] != lane[:-1])) if lane.size else lane
    if lane.size:
        bucket[lane[first]] += np.add.reduceat(time, first)


def _beside(lanes: _Lanes, own: _Own, buckets: dict[str, NDArray[Any]], covered: Int64Array) -> dict[str, NDArray[Any]]:
    """What the table says beside the buckets: hidden copies and communication, queueing, and counts."""
    count = lanes.start.size
    copy, talk = own.kind >= WorkKind.H2D, own.kind == WorkKind.COMMUNICATION
    copies, talks = (
        lanes.coverage(lanes.union(own.lane[mine], own.start[mine], own.end[mine])) for mine in (copy, talk)
    )
    busy = buckets["compute_ns"] + buckets["exposed_communication_ns"]
    queue = np.zeros(count, np.int64)
    _add(queue, own.lane, np.maximum(own.start - own.call_end, 0))
    device = np.full(count, -1, np.int64)
    order = np.lexsort((own.start, own.lane))[::-1]
    device[own.lane[order]] = own.device[order]  # the last to be written, the earliest work, stays
    streams, stream = np.unique(own.stream, return_inverse=True)
    pairs = distinct(own.lane * max(streams.size, 1) + stream)
    return {
        "hidden_copy_ns": busy + copies - covered,  # |A and B| = |A| + |B| - |A or B|
        "hidden_communication_ns": talks - buckets["exposed_communication_ns"],
        "gpu_busy_ns": covered,
        "queue_ns": queue,
        "device": device,
        "streams": np.bincount(pairs // max(streams.size, 1), minlength=count),
        "kernels": np.bincount(own.lane[(own.kind == WorkKind.KERNEL) | talk], minlength=count),
        "copies": np.bincount(own.lane[copy], minlength=count),
        "graphs": np.bincount(own.lane[own.kind == WorkKind.GRAPH], minlength=count),
    }
