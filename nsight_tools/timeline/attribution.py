"""What stands around what: ranges in ranges, calls in ranges, GPU work and the call that started it.

The columns that this takes from a report come first, then the kinds of calls and work, then the joins.

Rows are named by their index, and -1 says that there is none. A thread is any int64 key; `joint_key` makes one of
pid and tid.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray


CHUNK = 1 << 16
"""Rows that are looked up at a time: bounds what a look-up needs beside its result."""

NEVER = np.iinfo(np.int64).min
"""`Ranges.end` of a range that never ended."""


@dataclass(frozen=True)
class Words:
    """A column of words: codes of shape (n,) into a dictionary; a negative code is null."""

    codes: NDArray[Any]
    dictionary: Sequence[str]

    def where(self, predicate: Callable[[str], bool]) -> BoolArray:
        """Rows whose word the predicate holds for; it is asked once for each word of the dictionary."""
        answers = np.array([predicate(word) for word in self.dictionary] + [False], np.bool_)
        chosen: BoolArray = answers[np.maximum(self.codes, -1)]
        return chosen

    def among(self, *words: str) -> BoolArray:
        """Rows whose word is one of these."""
        return self.where(frozenset(words).__contains__)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Words:
        return Words(self.codes[rows], self.dictionary)

    def at(self, row: int) -> str:
        """The word of one row, "" for null."""
        code = int(self.codes[row])
        return self.dictionary[code] if code >= 0 else ""

    def counts(self) -> dict[str, int]:
        """How many rows have each word that occurs, most first; nulls not counted."""
        number = np.bincount(self.codes[self.codes >= 0], minlength=len(self.dictionary))
        order = np.argsort(-number, kind="stable")
        return {self.dictionary[i]: int(number[i]) for i in order.tolist() if number[i]}


@dataclass(frozen=True)
class Ranges:
    """NVTX ranges, each column of shape (n,); `end` is `NEVER` (or any time before `start`) where none ended."""

    start: Int64Array
    end: Int64Array
    pid: Int64Array
    tid: Int64Array
    domain: Words
    name: Words
    kind: Words


@dataclass(frozen=True)
class Calls:
    """API calls, each column of shape (n,); `kind` is a `CallKind`."""

    start: Int64Array
    end: Int64Array
    pid: Int64Array
    tid: Int64Array
    kind: NDArray[np.int8]

    @property
    def thread(self) -> Int64Array:
        return joint_key(self.pid, self.tid)


@dataclass(frozen=True)
class Work:
    """Everything that GPUs ran, each column of shape (n,).

    `kind` is a `WorkKind`; `stream` any key that tells streams apart (`joint_key` of context and stream); `call` the
    row in `Calls` that launched it, -1 where the report has none.
    """

    start: Int64Array
    end: Int64Array
    kind: NDArray[np.int8]
    device: Int64Array
    stream: Int64Array
    call: IntArray


@dataclass(frozen=True)
class ThreadSpans:
    """Stretches of time on host threads, each column of shape (n,): the profiler's own overhead."""

    start: Int64Array
    end: Int64Array
    pid: Int64Array
    tid: Int64Array


class WorkKind(IntEnum):
    """What a GPU does; those from H2D on are copies and sets."""

    KERNEL = 0
    GRAPH = 1
    COMMUNICATION = 2
    H2D = 3
    D2H = 4
    OTHER_COPY = 5
    SET = 6


_MEMORY_OPS = {
    **dict.fromkeys(("h2d", "h2a", "managed_h2d"), WorkKind.H2D),
    **dict.fromkeys(("d2h", "a2h", "managed_d2h"), WorkKind.D2H),
    "memset": WorkKind.SET,
}


def classify_memory_op(kinds: Sequence[str]) -> NDArray[np.int8]:
    """`WorkKind` of each word of `memory_ops.kind`, shape (n,)."""
    return np.array([_MEMORY_OPS.get(kind, WorkKind.OTHER_COPY) for kind in kinds], np.int8)


def joint_key(high: ArrayLike, low: ArrayLike) -> Int64Array:
    """One int64 key, distinct for each pair of int32 numbers: (pid, tid), (context, stream)."""
    key: Int64Array = (np.asarray(high, np.int64) << 32) + np.asarray(low, np.int64)
    return key


def split_key(key: int) -> tuple[int, int]:
    """The two numbers that `joint_key` made a key of."""
    low = ((key + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return (key - low) >> 32, low


def nesting(start: ArrayLike, end: ArrayLike, thread: ArrayLike) -> tuple[Int64Array, Int64Array]:
    """Depth and parent of each range, both of shape (n,); rows may come in any order.

    A range encloses another of its thread if it starts no later and ends no earlier; of two that are identical the
    earlier row encloses the later. The parent is the innermost enclosing range (the one that starts last), -1 for
    an outermost one; the depth is the number of steps to an outermost one. Ranges of two NVTX domains on one
    thread may overlap in part: then neither encloses the other.

    Formula: with a thread's ranges ordered by (start, -end, row), the parent is the nearest earlier range whose end
    is at least the row's own. A candidate that ends too early is passed over together with all that lies between
    it and its own candidate, since those end earlier still. This holds for any ends, so partial overlap needs no
    path of its own; and since it holds for candidates that are not yet settled, runs of siblings shrink by half in
    each round, and the number of rounds is about the depth plus log2(n).
    """
    parent = parents(start, end, thread)
    return _depth(parent), parent


def parents(start: ArrayLike, end: ArrayLike, thread: ArrayLike) -> Int64Array:
    """The parent of each range alone, as `nesting` defines it."""
    start, end, thread = _columns(start, end, thread)
    order = _by_thread_and_time(start, end, thread)
    ends, threads = end[order], thread[order]
    candidate = np.arange(-1, order.size - 1)
    candidate[np.flatnonzero(threads[1:] != threads[:-1]) + 1] = -1
    rest = np.flatnonzero(candidate >= 0)
    while rest.size:
        ahead = candidate[rest]
        rest = rest[ends[ahead] < ends[rest]]
        candidate[rest] = candidate[candidate[rest]]
        rest = rest[candidate[rest] >= 0]
    parent = np.empty(order.size, np.int64)
    parent[order] = np.where(candidate >= 0, order[candidate], -1) if order.size else candidate
    return parent


def _depth(parent: Int64Array) -> Int64Array:
    """Steps from each row to the row that has no parent, by doubling: log2(deepest) rounds."""
    depth = (parent >= 0).astype(np.int64)
    ancestor = parent.copy()
    rest = np.flatnonzero(ancestor >= 0)
    while rest.size:
        above = ancestor[rest]
        depth[rest] += depth[above]
        ancestor[rest] = ancestor[above]
        rest = rest[ancestor[rest] >= 0]
    return depth


def innermost(
    range_start: ArrayLike,
    range_end: ArrayLike,
    range_thread: ArrayLike,
    parent: ArrayLike,
    point: ArrayLike,
    point_thread: ArrayLike,
) -> Int64Array:
    """Row of the innermost range with `start <= point < end` on the point's thread, shape (m,); -1 where none.

    `parent` is what `nesting` gives for these ranges. The innermost is the one that starts last: the search begins
    at the last range that has started and climbs to parents until one has not ended yet.
    """
    start, end, thread = _columns(range_start, range_end, range_thread)
    up = np.asarray(parent, np.int64)
    time, time_thread = np.asarray(point, np.int64), np.asarray(point_thread, np.int64)
    around = _last_started(start, end, thread, time, time_thread)
    rest = np.flatnonzero(around >= 0)
    while rest.size:
        rest = rest[end[around[rest]] <= time[rest]]
        around[rest] = up[around[rest]]
        rest = rest[around[rest] >= 0]
    return around


def _last_started(
    start: Int64Array, end: Int64Array, thread: Int64Array, time: Int64Array, time_thread: Int64Array
) -> Int64Array:
    """Row of the last range of the same thread, in order of nesting, that has started at each time."""
    order = _by_thread_and_time(start, end, thread)
    starts, threads = start[order], thread[order]
    first = np.flatnonzero(np.append(np.ones(min(order.size, 1), np.bool_), threads[1:] != threads[:-1]))
    last = np.append(first[1:], order.size)[: first.size]
    by_thread = np.argsort(time_thread, kind="stable")
    bounds = np.searchsorted(time_thread[by_thread], threads[first], side="left")
    limits = np.searchsorted(time_thread[by_thread], threads[first], side="right")
    started = np.full(time.size, -1, np.int64)
    for lo, hi, begin, stop in zip(first, last, bounds, limits, strict=True):  # one turn for each thread
        rows = by_thread[begin:stop]
        begun = np.searchsorted(starts[lo:hi], time[rows], side="right")
        started[rows] = np.where(begun > 0, order[lo + begun - 1], -1)
    return started


def match_calls(
    work_pid: ArrayLike, work_correlation: ArrayLike, call_pid: ArrayLike, call_correlation: ArrayLike
) -> Int64Array:
    """Row of the API call that started each piece of GPU work, shape (m,): same process, same correlation id.

    A correlation id of -1 stands for null and matches nothing; the result is -1 where there is no such call. Where
    several calls share process and id (a runtime call around a driver call) the first row wins.
    """
    pid, correlation = np.asarray(work_pid), np.asarray(work_correlation)
    their_pid, theirs = np.asarray(call_pid), np.asarray(call_correlation)
    call = np.full(pid.size, -1, np.int64)
    for process in np.unique(pid):
        calls = (their_pid == process) & (theirs != -1)
        rows = None if calls.all() else np.flatnonzero(calls)  # None stands for all of them, in order
        ids = theirs if rows is None else theirs[rows]
        if np.any(ids[1:] < ids[:-1]):
            order = np.argsort(ids, kind="stable")
            ids, rows = ids[order], order if rows is None else rows[order]
        if ids.size == 0:
            continue
        for begin in range(0, pid.size, CHUNK):
            chunk = slice(begin, begin + CHUNK)
            wanted = correlation[chunk]
            at = np.minimum(np.searchsorted(ids, wanted, side="left"), ids.size - 1)
            hit = (ids[at] == wanted) & (wanted != -1) & (pid[chunk] == process)
            call[chunk][hit] = at[hit] if rows is None else rows[at[hit]]
    return call


def graph_node_creation(
    node_pid: ArrayLike,
    node_start: ArrayLike,
    node: ArrayLike,
    original: ArrayLike,
    kernel_pid: ArrayLike,
    kernel_node: ArrayLike,
) -> Int64Array:
    """Row of `graph_nodes` that says when and on which thread each kernel's node was captured; -1 where unknown.

    A kernel runs as a node of an instantiated graph. The node's row names the node that it was cloned from
    (`original`, -1 for null); that one may be a clone too. The chain is followed within the process to a node that
    has none: its row is its creation at capture, the only time at which layer ranges stand around it. A node that is
    instantiated has two rows, one of them without original: of several rows for one node, one with original comes
    first, then the earliest. A chain that leads to a node without a row, or in a circle, is unknown. Kernels outside
    of graphs have `kernel_node` -1.
    """
    pid, start, ids = _columns(node_pid, node_start, node)
    origin = np.asarray(original, np.int64)
    preferred = np.lexsort((start, origin == -1))
    creation = origin == -1
    up = match_calls(pid, origin, pid[preferred], ids[preferred])
    up = np.where(creation, np.arange(ids.size), np.where(up >= 0, preferred[up], -1)) if ids.size else up
    for _ in range(ids.size.bit_length()):  # each round doubles the steps taken: enough for the longest chain
        up = np.where(up >= 0, up[up], -1)
    at = match_calls(kernel_pid, kernel_node, pid[preferred], ids[preferred])
    known = np.flatnonzero(at >= 0)
    at[known] = up[preferred[at[known]]]
    known = known[at[known] >= 0]
    at[known] = np.where(creation[at[known]], at[known], -1)
    return at


def _columns(*columns: ArrayLike) -> tuple[Int64Array, ...]:
    return tuple(np.asarray(column, np.int64) for column in columns)


def _by_thread_and_time(start: Int64Array, end: Int64Array, thread: Int64Array) -> NDArray[np.intp]:
    """Order by thread, then so that what encloses comes before what it encloses; equal ranges keep their order."""
    order: NDArray[np.intp]
    later = np.diff(start) > 0
    if later.all():  # in order already, as tables are: only the threads are to be told apart, if there are several
        one_thread = not thread.size or bool((thread == thread[0]).all())
        order = np.arange(start.size) if one_thread else np.argsort(thread, kind="stable")
    else:
        order = np.lexsort((-end, start, thread))
    return order
