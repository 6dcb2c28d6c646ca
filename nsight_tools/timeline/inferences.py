"""Inferences: which there are, the GPU work that belongs to each, and where each nanosecond of their windows went.

Three steps, each on columns: `find_inferences`, `assign_work`, `account`. Rows are named by their index, -1 says
that there is none, times are int64 nanoseconds.

`account` never loops over inferences and never copies what they share. What an inference owns is laid out in its
own lane of one long line (its window, shifted to where the previous lane ends), where plain unions of intervals
serve all inferences at once however their windows overlap. What remains free in the lanes is looked up in the
shared timelines (the calls of a thread, the work of a GPU) by `Intervals.coverage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.timeline.attribution import (
    CallKind,
    Calls,
    Ranges,
    ThreadSpans,
    Work,
    WorkKind,
    innermost,
    joint_key,
    nesting,
)
from nsight_tools.timeline.intervals import BoolArray, Int64Array, Intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Inferences:
    """Inferences in order of start, each column of shape (n,).

    `start` and `end` are those of the range or launch call on the host; `tid` is -1 where the thread is unknown;
    `source` is inference_range, enqueue_range or graph_launch.
    """

    start: Int64Array
    end: Int64Array
    pid: Int64Array
    tid: Int64Array
    source: NDArray[np.str_]

    @property
    def thread(self) -> Int64Array:
        return joint_key(self.pid, self.tid)


def find_inferences(ranges: Ranges, calls: Calls, work: Work) -> Inferences:
    """Which inferences there are, by the best source that the report has.

    1. Ranges named `inference` in the domain `nsight_tools`.
    2. Outermost ranges named `ExecutionContext::…` in TensorRT's domain (in any, where no range is in TensorRT's),
       with the graph launches of 3 that lie outside of them if one of them launched nothing: such an enqueue was
       captured into a graph, whose launches are the inferences then, and it is none itself.
    3. Launches of CUDA graphs that GPU work came from, one for each pair of process and correlation id.

    Ranges that never ended are no inferences.
    """
    named, enqueues = _inference_rows(ranges), np.zeros(0, np.int64)
    if named.size == 0:
        enqueues = _enqueue_rows(ranges)
    graphs = _distinct(work.call[work.call >= 0] if named.size == 0 else named[:0])  # one row for each pair
    graphs = graphs[calls.kind[graphs] == CallKind.GRAPH_LAUNCH]
    if enqueues.size:
        captured = _launched_nothing(ranges, enqueues, calls, work)
        outside = _inside(ranges, enqueues, joint_key(calls.pid, calls.tid)[graphs], calls.start[graphs]) < 0
        graphs = graphs[outside & captured.any()]
        enqueues = enqueues[~captured] if graphs.size else enqueues
    rows = ((ranges, named, "inference_range"), (ranges, enqueues, "enqueue_range"), (calls, graphs, "graph_launch"))
    start, end, pid, tid = (
        np.concatenate([np.asarray(getattr(table, column), np.int64)[at] for table, at, _ in rows])
        for column in ("start", "end", "pid", "tid")
    )
    source = np.concatenate([np.full(at.size, word, "U15") for _, at, word in rows])
    order = np.lexsort((tid, pid, -end, start))
    return Inferences(start[order], end[order], pid[order], tid[order], source[order])


def _spans(ranges: Ranges) -> BoolArray:
    spans: BoolArray = ranges.kind.where(lambda kind: kind in {"push_pop", "start_end"}) & (ranges.end >= ranges.start)
    return spans


def _inference_rows(ranges: Ranges) -> Int64Array:
    ours = ranges.domain.where(lambda domain: domain == "nsight_tools") & ranges.name.where(lambda n: n == "inference")
    return np.flatnonzero(ours & _spans(ranges))


def _enqueue_rows(ranges: Ranges) -> Int64Array:
    enqueues = ranges.name.where(lambda name: name.startswith("ExecutionContext::")) & _spans(ranges)
    tensorrt = ranges.domain.where(lambda domain: domain == "TensorRT")
    rows: Int64Array = np.flatnonzero(enqueues & tensorrt if tensorrt.any() else enqueues)
    depth, _ = nesting(ranges.start[rows], ranges.end[rows], joint_key(ranges.pid, ranges.tid)[rows])
    outermost: Int64Array = rows[depth == 0]
    return outermost


def _inside(ranges: Ranges, rows: Int64Array, thread: Int64Array, time: Int64Array) -> Int64Array:
    """Position in `rows` of the innermost of these ranges around each time on a thread; -1 where none."""
    start, end, key = ranges.start[rows], ranges.end[rows], joint_key(ranges.pid, ranges.tid)[rows]
    return innermost(start, end, key, nesting(start, end, key)[1], time, thread)


def _launched_nothing(ranges: Ranges, rows: Int64Array, calls: Calls, work: Work) -> BoolArray:
    launching = _distinct(work.call[work.call >= 0])
    around = _inside(ranges, rows, calls.thread[launching], calls.start[launching])
    nothing: BoolArray = np.bincount(around[around >= 0], minlength=rows.size) == 0
    return nothing


def assign_work(inferences: Inferences, calls: Calls, work: Work) -> Int64Array:
    """Inference of each piece of GPU work, shape (n,); -1 where none.

    Work belongs to the inference inside of which its launch call starts, on the same thread; to the innermost where
    they nest. Where inferences are enqueues or graph launches, the copies around them are theirs too: copies to the
    device and sets launched outside of any belong to the thread's next inference, all other copies to its previous.
    """
    owner = np.full(work.start.size, -1, np.int64)
    launched = np.flatnonzero(work.call >= 0)
    call = work.call[launched]
    time, thread, key = calls.start[call], calls.thread[call], inferences.thread
    _, parent = nesting(inferences.start, inferences.end, key)
    owner[launched] = innermost(inferences.start, inferences.end, key, parent, time, thread)
    loose = launched[(owner[launched] < 0) & (work.kind[launched] >= WorkKind.H2D)]
    time, thread = calls.start[work.call[loose]], calls.thread[work.call[loose]]
    # The next inference is one place after the last that has started, and that one is the previous.
    ahead = (work.kind[loose] == WorkKind.H2D) | (work.kind[loose] == WorkKind.SET)
    takes_copies = inferences.source != "inference_range"
    for one in np.unique(thread):
        theirs, points = np.flatnonzero((key == one) & takes_copies), np.flatnonzero(thread == one)
        at = np.searchsorted(inferences.start[theirs], time[points], side="right") - 1 + ahead[points]
        real = (at >= 0) & (at < theirs.size)
        owner[loose[points[real]]] = theirs[at[real]]
    return owner


@dataclass(frozen=True)
class _Lanes:
    """Windows, and where on the line each one's lane begins: lane i is `[offset[i], offset[i] + its length)`."""

    start: Int64Array
    end: Int64Array
    offset: Int64Array

    def union(self, lane: Int64Array, start: Int64Array, end: Int64Array) -> Intervals:
        """The time on the line that these intervals of their lanes' windows cover."""
        shift = self.offset[lane] - self.start[lane]
        return Intervals.union(start + shift, end + shift)

    def coverage(self, line: Intervals) -> Int64Array:
        """Nanoseconds of the set in each lane."""
        return line.coverage(self.offset, self.offset + self.end - self.start)


@dataclass(frozen=True)
class _Own:
    """Work that belongs to inferences: each piece's lane, its times, and those of its call (its own start if none)."""

    lane: Int64Array
    start: Int64Array
    end: Int64Array
    kind: NDArray[np.int8]
    device: Int64Array
    stream: Int64Array
    call_start: Int64Array
    call_end: Int64Array


_BUCKETS = (
    ("compute_ns", (WorkKind.KERNEL, WorkKind.GRAPH)),
    ("exposed_h2d_ns", (WorkKind.H2D,)),
    ("exposed_d2h_ns", (WorkKind.D2H,)),
    ("exposed_other_copy_ns", (WorkKind.OTHER_COPY, WorkKind.SET)),
)


def account(
    inferences: Inferences, calls: Calls, work: Work, owner: Int64Array, overhead: ThreadSpans | None = None
) -> dict[str, NDArray[Any]]:
    """Columns of the table `inferences`, each of shape (n,): every nanosecond of a window in exactly one bucket.

    `work` is all that ran on the GPUs and `owner` the inference of each piece (`assign_work`), -1 where none. A window
    runs from the inference's first event to its last: its range, its work, and the calls that launched that. The
    buckets, each of them less those before it:

    * compute, exposed copies: the union of its own kernels (and whole graphs), h2d, d2h, and other copies and sets
    * other_work: some of its work is between the end of its call and its start while that GPU runs anything traced
    * launch, sync: its host thread is inside a launch or copy call, inside a synchronization
    * host: the rest, where its process has traced API calls and its thread is known, less profiler overhead there
    * unattributed: what is left

    They sum to `wall_ns` exactly. `tid` and `device` are -1 where unknown.
    """
    own = _own_work(calls, work, owner)
    lanes = _windows(inferences, own)
    columns: dict[str, NDArray[Any]] = {
        "inference": np.arange(inferences.start.size),
        "start_ns": lanes.start,
        "end_ns": lanes.end,
        "wall_ns": lanes.end - lanes.start,
    }
    taken = Intervals.union([], [])
    so_far = np.zeros(lanes.start.size, np.int64)
    for name, kinds in _BUCKETS:
        mine = np.isin(own.kind, kinds)
        line = lanes.union(own.lane[mine], own.start[mine], own.end[mine])
        taken = _merge([taken, line])
        covered = lanes.coverage(taken)
        columns[name] = covered - so_far
        so_far = covered
    columns |= _idle_buckets(inferences, calls, work, overhead, _idle_pieces(lanes, own, taken))
    columns["unattributed_ns"] = columns["wall_ns"] - so_far - sum(columns[name] for name in _IDLE_BUCKETS)
    columns |= _beside(lanes, own, columns["compute_ns"], so_far)
    columns |= {"pid": inferences.pid, "tid": inferences.tid, "source": inferences.source}
    return columns | {"range_start_ns": inferences.start, "range_end_ns": inferences.end}


def _own_work(calls: Calls, work: Work, owner: Int64Array) -> _Own:
    rows = np.flatnonzero(owner >= 0)
    call_start, call_end = work.start[rows], work.start[rows]  # copies, as the rows are an array
    called = np.flatnonzero(work.call[rows] >= 0)
    call = work.call[rows[called]]
    call_start[called], call_end[called] = calls.start[call], calls.end[call]
    shared = (work.start[rows], work.end[rows], work.kind[rows], work.device[rows], work.stream[rows])
    return _Own(owner[rows], *shared, call_start, call_end)


def _windows(inferences: Inferences, own: _Own) -> _Lanes:
    start, end = inferences.start.copy(), inferences.end.copy()
    np.minimum.at(start, own.lane, np.minimum(own.start, own.call_start))
    np.maximum.at(end, own.lane, np.maximum(own.end, own.call_end))
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


def _idle_pieces(lanes: _Lanes, own: _Own, taken: Intervals) -> _Pieces:
    free = taken.complement(0, int((lanes.end - lanes.start).sum()))
    devices = np.unique(own.device)
    waiting = []
    for device in devices:
        here = own.device == device
        waiting.append(lanes.union(own.lane[here], own.call_end[here], own.start[here]))
    cuts = [free.start, free.end, lanes.offset, *(edge for line in waiting for edge in (line.start, line.end))]
    cut = _distinct(np.concatenate(cuts))
    inside = free.contains(cut[:-1])
    start, end = cut[:-1][inside], cut[1:][inside]
    # A lane without length shares its offset with the next one: the last lane that begins there is the one meant.
    lane = np.searchsorted(lanes.offset, start, side="right") - 1
    waits = np.array([line.contains(start) for line in waiting], np.bool_).reshape(devices.size, start.size)
    shift = lanes.start[lane] - lanes.offset[lane]
    return _Pieces(lane, start + shift, end + shift, devices, waits)


def _distinct(values: Int64Array) -> Int64Array:
    """What `np.unique` gives; several times faster on times that are nearly sorted, where it would hash them."""
    values = np.sort(values, kind="stable")
    distinct: Int64Array = values[np.append(values[1:] != values[:-1], np.ones(min(values.size, 1), np.bool_))]
    return distinct


def _merge(lines: list[Intervals]) -> Intervals:
    """The time that any of the sets covers."""
    none = np.zeros(0, np.int64)  # without it an empty list would make floats
    start = np.concatenate([none, *(line.start for line in lines)])
    return Intervals.union(start, np.concatenate([none, *(line.end for line in lines)]))


_IDLE_BUCKETS = ("other_work_ns", "launch_ns", "sync_ns", "host_ns")


def _idle_buckets(
    inferences: Inferences, calls: Calls, work: Work, overhead: ThreadSpans | None, pieces: _Pieces
) -> dict[str, NDArray[Any]]:
    """Time of the pieces by bucket, shape (n,) for n inferences: one look-up for each thread and set of GPUs."""
    buckets = {name: np.zeros(inferences.start.size, np.int64) for name in _IDLE_BUCKETS}
    busy = {}
    for device in pieces.devices:
        here = work.device == device
        busy[device] = Intervals.union(work.start[here], work.end[here])
    _, thread = np.unique(inferences.thread, return_inverse=True)
    group = thread[pieces.lane]
    for waits in pieces.waits:
        _, group = np.unique(group * 2 + waits, return_inverse=True)
    order = np.argsort(group, kind="stable")
    host: tuple[int, tuple[Intervals, ...]] = (-1, ())
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if order.size else ():
        lane, start, end = pieces.lane[rows], pieces.start[rows], pieces.end[rows]
        lines = [busy[device] for device in pieces.devices[pieces.waits[:, rows[0]]]]
        gpu = _merge(lines)
        other = gpu.coverage(start, end)
        np.add.at(buckets["other_work_ns"], lane, other)
        if host[0] != thread[lane[0]]:  # groups come in order of thread
            host = int(thread[lane[0]]), _host_lines(inferences, int(lane[0]), calls, overhead)
        if not host[1]:
            continue
        launch, held, known = (
            line.coverage(start, end) - line.intersection(gpu).coverage(start, end) for line in host[1]
        )
        np.add.at(buckets["launch_ns"], lane, launch)
        np.add.at(buckets["sync_ns"], lane, held - launch)
        np.add.at(buckets["host_ns"], lane, end - start - other - known)
    return buckets


def _host_lines(inferences: Inferences, row: int, calls: Calls, overhead: ThreadSpans | None) -> tuple[Intervals, ...]:
    """Time that one inference's thread is in launch or copy calls; or also in synchronizations; or in overhead.

    Nothing where the thread is unknown or its process has no traced calls.
    """
    pid, tid = inferences.pid[row], inferences.tid[row]
    ours = calls.pid == pid
    if tid < 0 or not ours.any():
        return ()
    rows = np.flatnonzero(ours & (calls.tid == tid))
    start, end, kind = calls.start[rows], calls.end[rows], calls.kind[rows]
    launch = np.isin(kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY))
    held = launch | (kind == CallKind.SYNC)
    lines = [Intervals.union(start[mine], end[mine]) for mine in (launch, held)]
    if overhead is None:
        return (*lines, lines[1])
    there = (overhead.pid == pid) & (overhead.tid == tid)
    start, end = np.append(start[held], overhead.start[there]), np.append(end[held], overhead.end[there])
    return (*lines, Intervals.union(start, end))


def _beside(lanes: _Lanes, own: _Own, compute: Int64Array, covered: Int64Array) -> dict[str, NDArray[Any]]:
    """What the table says beside the buckets: hidden copies, queueing, and counts."""
    count = lanes.start.size
    copy = own.kind >= WorkKind.H2D
    copies = lanes.coverage(lanes.union(own.lane[copy], own.start[copy], own.end[copy]))
    queue = np.zeros(count, np.int64)
    np.add.at(queue, own.lane, np.maximum(own.start - own.call_end, 0))
    device = np.full(count, -1, np.int64)
    order = np.lexsort((own.start, own.lane))[::-1]
    device[own.lane[order]] = own.device[order]  # the last to be written, the earliest work, stays
    streams, stream = np.unique(own.stream, return_inverse=True)
    pairs = _distinct(own.lane * max(streams.size, 1) + stream)
    return {
        "hidden_copy_ns": compute + copies - covered,  # |A and B| = |A| + |B| - |A or B|
        "queue_ns": queue,
        "device": device,
        "streams": np.bincount(pairs // max(streams.size, 1), minlength=count),
        "kernels": np.bincount(own.lane[own.kind == WorkKind.KERNEL], minlength=count),
        "copies": np.bincount(own.lane[copy], minlength=count),
        "graphs": np.bincount(own.lane[own.kind == WorkKind.GRAPH], minlength=count),
    }
