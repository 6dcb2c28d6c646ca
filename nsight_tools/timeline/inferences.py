"""Inferences: which there are, and the GPU work that belongs to each.

Rows are named by their index, -1 says that there is none, times are int64 nanoseconds. What the windows of the
inferences were spent on is `accounting`'s to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.attribution import (
    CHUNK,
    CallKind,
    Calls,
    Ranges,
    Work,
    WorkKind,
    innermost,
    joint_key,
    nesting,
    parents,
)
from nsight_tools.timeline.intervals import BoolArray, Int64Array, distinct

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

    def __getitem__(self, rows: slice) -> Inferences:
        return Inferences(self.start[rows], self.end[rows], self.pid[rows], self.tid[rows], self.source[rows])


@dataclass(frozen=True)
class NamedRange:
    """The NVTX ranges that are inferences: `*` in the name stands for anything; any domain, where it is None."""

    name: str
    domain: str | None

    @classmethod
    def parse(cls, text: str) -> NamedRange:
        """`NAME@DOMAIN`, or `NAME` for a range of any domain."""
        name, at, domain = text.rpartition("@")
        return cls(name, domain) if at and name else cls(text, None)

    def rows(self, ranges: Ranges) -> Int64Array:
        """Rows of the ranges that are meant and have ended."""
        pattern = re.compile(".*".join(re.escape(part) for part in self.name.split("*")), re.DOTALL)
        meant = ranges.name.where(lambda name: pattern.fullmatch(name) is not None) & _spans(ranges)
        if self.domain is not None:
            meant &= ranges.domain.among(self.domain)
        rows: Int64Array = np.flatnonzero(meant)
        return rows


OURS = NamedRange("inference", "nsight_tools")


def find_inferences(ranges: Ranges, calls: Calls, work: Work, named: NamedRange = OURS) -> Inferences:
    """Which inferences there are, by the best source that the report has.

    1. Ranges that the user named; else those named `inference` in the domain `nsight_tools`.
    2. Outermost ranges named `ExecutionContext::…` in TensorRT's domain (in any, where no range is in TensorRT's),
       with the graph launches of 3 that lie outside of them if one of them launched nothing: such an enqueue was
       captured into a graph, whose launches are the inferences then, and it is none itself.
    3. Launches of CUDA graphs that GPU work came from, one for each pair of process and correlation id.

    Ranges that never ended are no inferences.
    """
    chosen = named.rows(ranges)
    enqueues = chosen[:0] if chosen.size else _enqueue_rows(ranges)
    graphs = distinct(work.call[work.call >= 0] if chosen.size == 0 else chosen[:0])  # one row for each pair
    graphs = graphs[calls.kind[graphs] == CallKind.GRAPH_LAUNCH]
    if enqueues.size:
        captured = _launched_nothing(ranges, enqueues, calls, work)
        outside = _inside(ranges, enqueues, joint_key(calls.pid, calls.tid)[graphs], calls.start[graphs]) < 0
        graphs = graphs[outside & captured.any()]
        enqueues = enqueues[~captured] if graphs.size else enqueues
    rows = ((ranges, chosen, "inference_range"), (ranges, enqueues, "enqueue_range"), (calls, graphs, "graph_launch"))
    start, end, pid, tid = (
        np.concatenate([np.asarray(getattr(table, column)[at], np.int64) for table, at, _ in rows])
        for column in ("start", "end", "pid", "tid")
    )
    source = np.concatenate([np.full(at.size, word, "U15") for _, at, word in rows])
    order = np.lexsort((tid, pid, -end, start))
    return Inferences(start[order], end[order], pid[order], tid[order], source[order])


def _spans(ranges: Ranges) -> BoolArray:
    spans: BoolArray = ranges.kind.where(lambda kind: kind in {"push_pop", "start_end"}) & (ranges.end >= ranges.start)
    return spans


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
    launching = distinct(work.call[work.call >= 0])
    thread = joint_key(calls.pid[launching], calls.tid[launching])
    around = _inside(ranges, rows, thread, calls.start[launching])
    nothing: BoolArray = np.bincount(around[around >= 0], minlength=rows.size) == 0
    return nothing


def assign_work(inferences: Inferences, calls: Calls, work: Work) -> Int64Array:
    """Inference of each piece of GPU work, shape (n,); -1 where none.

    Work belongs to the inference inside of which its launch call starts, on the same thread; to the innermost where
    they nest. Where inferences are enqueues or graph launches, the copies around them are theirs too: copies to the
    device and sets launched outside of any belong to the thread's next inference, all other copies to its previous. A
    copy whose thread waits (in a synchronization) before the next inference was for something else, as is one before
    which it has waited twice since the previous: once is for that inference's result.
    """
    owner = np.full(work.start.size, -1, np.int64)
    key = inferences.thread
    parent = parents(inferences.start, inferences.end, key)
    for begin in range(0, owner.size, CHUNK):
        launched = begin + np.flatnonzero(work.call[begin : begin + CHUNK] >= 0)
        call = work.call[launched]
        time, thread = calls.start[call], joint_key(calls.pid[call], calls.tid[call])
        owner[launched] = innermost(inferences.start, inferences.end, key, parent, time, thread)
    loose = np.flatnonzero((work.call >= 0) & (owner < 0) & (work.kind >= WorkKind.H2D))
    call = work.call[loose]
    time, thread = calls.start[call], joint_key(calls.pid[call], calls.tid[call])
    # The next inference is one place after the last that has started, and that one is the previous.
    ahead = (work.kind[loose] == WorkKind.H2D) | (work.kind[loose] == WorkKind.SET)
    takes_copies = inferences.source != "inference_range"
    waits = np.flatnonzero(calls.kind == CallKind.SYNC)
    for one in np.unique(thread):
        theirs, points = np.flatnonzero((key == one) & takes_copies), np.flatnonzero(thread == one)
        at = np.searchsorted(inferences.start[theirs], time[points], side="right") - 1 + ahead[points]
        real = (at >= 0) & (at < theirs.size)
        points, whose = points[real], theirs[at[real]]
        waited = np.sort(calls.start[waits[joint_key(calls.pid[waits], calls.tid[waits]) == one]])
        until, since = np.searchsorted(waited, inferences.start[whose]), np.searchsorted(waited, inferences.end[whose])
        before = np.searchsorted(waited, time[points])
        close = np.where(ahead[points], until - before < 1, before - since < 2)
        owner[loose[points[close]]] = whose[close]
    return owner
