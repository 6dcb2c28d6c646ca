"""What a timeline shows of a trace, as arrays: each lane's pieces, their names, and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nsight_tools import units
from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import CallKind, call_kinds
from nsight_tools.report import safe
from nsight_tools.report.figures.data import occupancy, roles
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

    _Spans = tuple[Ints, Ints, IntArray, Words]

LETTERS = 160
"""Of a name on the timeline: the kernels' base names and the layers' names that tell what they are stay below it."""
STREAMS, THREADS = 12, 6
"""Streams and host threads that a window shows: the busiest."""
CALLS = {
    CallKind.LAUNCH: "launch",
    CallKind.GRAPH_LAUNCH: "launch",
    CallKind.COPY: "copy",
    CallKind.SYNC: "sync",
    CallKind.OTHER: "host",
}
"""The colour of a call by what it does."""


@dataclass
class Lane:
    """One lane of a window: pieces in order of start, columns of shape (n,).

    `name` and `more` are rows of the timeline's list of texts; `more` says what else is known, -1 where nothing is.
    `queued` is the time from the return of the call that launched it to its start, `NOT_KNOWN` without one. Where a
    lane has more pieces than a page can hold, each is an equal part of the window, and `share` the percent of it that
    is busy.
    """

    label: str
    kind: str
    start: Ints
    end: Ints
    role: list[str]
    name: list[int]
    more: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    share: list[int] = field(default_factory=list)


def pooled(label: str, kind: str, parts: list[tuple[str, Ints, Ints]], window: tuple[int, int]) -> Lane:
    """A lane of equal parts of the window, for each role (with starts and ends) the share of time that is busy."""
    columns = []
    for number, (_, start, end) in enumerate(parts):
        shares, edges = occupancy(start, end, *window)
        percent = np.ceil(100 * shares - 1e-9).astype(np.int64)
        cuts = edges.round().astype(np.int64)
        busy = np.flatnonzero(percent)
        columns.append(np.stack([cuts[busy], cuts[busy + 1], np.full(busy.size, number), percent[busy]]))
    spans = np.concatenate(columns, axis=1)
    spans = spans[:, np.argsort(spans[0], kind="stable")]
    role = [parts[number][0] for number in spans[2].tolist()]
    return Lane(label, kind, spans[0], spans[1], role, [-1] * len(role), share=spans[3].tolist())


class Texts:
    """Names, each once, made inert."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._known: dict[str, int] = {}

    def of(self, text: str, limit: int = LETTERS) -> int:
        """The row of a text."""
        if (at := self._known.get(text)) is None:
            at = self._known[text] = len(self.all)
            self.all.append(safe.visible(text, limit))
        return at

    def each(self, column: Words) -> list[int]:
        """The row of each word; null is -1."""
        rows = {code: self.of(column.dictionary[code]) for code in np.unique(column.codes).tolist() if code >= 0}
        return [rows.get(code, -1) for code in column.codes.tolist()]


class Events:
    """The tables of a trace that timelines show, each read once, when it is first asked for."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self.run, self.texts = trace, Run.of(trace), Texts()
        self._window, self._most = (0, 0), 0
        self._read: dict[str, _Spans] = {}

    def lanes(self, lo: int, hi: int, most: int) -> Iterator[Lane]:
        """All lanes of a window with what touches it, the GPU's first; of more than `most` pieces only the shares."""
        self._window, self._most = (lo, hi), most
        yield from self._requests(lo, hi)
        work = self.run.work
        rows = np.flatnonzero((work.end > lo) & (work.start < hi))
        yield from self._streams(rows)
        yield from self._idle(rows, lo, hi)
        yield from self._copies(rows)
        yield from self._waits(lo, hi)
        yield from self._host(lo, hi, np.unique(work.tid[rows]))

    def _requests(self, lo: int, hi: int) -> Iterator[Lane]:
        requests = self.run.requests
        rows = np.flatnonzero((requests.end > lo) & (requests.start < hi))
        if rows.size > self._most:
            yield self._pooled("inferences", "request", "unknown", requests.start[rows], requests.end[rows])
        elif rows.size:
            marks = [requests.mark.at(row) or "" for row in rows.tolist()]
            names = [self.texts.of(f"inference {row}") for row in rows.tolist()]
            more = [self.texts.of(mark.replace("_", " ")) if mark else -1 for mark in marks]
            role = ["unknown"] * rows.size
            yield Lane("inferences", "request", requests.start[rows], requests.end[rows], role, names, more)

    @cached_property
    def _launches(self) -> tuple[Words, IntArray, Words]:
        """What of `launches` no `Work` has: the layer; and the kernels' names, and the row of each size of a launch."""
        kernels = self._trace.table("kernels", ["short_name"])
        layers = words(self._trace.table("launches", ["layer"])["layer"])
        return layers, self.run.work.row, words(kernels["short_name"])

    def _named(self, rows: IntArray) -> list[int]:
        """The name of each piece of GPU work."""
        work, (_, row, kernels) = self.run.work[rows], self._launches
        names = np.full(rows.size, -1, np.int64)
        is_kernel = work.kind.among("kernel", "communication")
        names[is_kernel] = self.texts.each(kernels[row[rows[is_kernel]]])
        for kind, name in _KINDS.items():
            of_kind = work.kind.among(kind)
            if of_kind.any():
                names[of_kind] = self.texts.of(name)
        others = np.flatnonzero(names < 0)
        names[others] = [self.texts.of(f"copy {work.kind.at(at) or ''}".rstrip()) for at in others.tolist()]
        return [int(name) for name in names]

    @cached_property
    def _sizes(self) -> pa.Table:
        return self._trace.table("kernels", [f"{what}_{axis}" for what in ("grid", "block") for axis in "xyz"])

    @cached_property
    def _moved(self) -> pa.Table:
        return self._trace.table("memory_ops", ["size_bytes", "src_memory", "dst_memory"])

    def _said(self, rows: IntArray) -> list[int]:
        """What else is known of each piece of GPU work: a kernel's grid, a copy's bytes and memory."""
        work = self.run.work[rows]
        details = np.full(rows.size, -1, np.int64)
        is_kernel = np.flatnonzero(work.kind.among("kernel", "communication"))
        sizes = self._sizes.take(pa.array(work.row[is_kernel])).to_pydict().values()
        for at, (x, y, z, u, v, w) in zip(is_kernel.tolist(), zip(*sizes, strict=True), strict=True):
            details[at] = self.texts.of(f"grid {x} by {y} by {z}, block {u} by {v} by {w}")
        moves = np.flatnonzero(work.moves)
        moved = self._moved.take(pa.array(work.row[moves])).to_pydict().values()
        for at, (size, source, target) in zip(moves.tolist(), zip(*moved, strict=True), strict=True):
            between = f", {source} to {target}" if source and target else ""
            details[at] = self.texts.of(f"{units.size(size)}{between}")
        return [int(detail) for detail in details]

    def _queued(self, rows: IntArray) -> list[int]:
        work = self.run.work[rows]
        known = work.call_end > 0
        return [int(queued) for queued in np.where(known, work.start - work.call_end, NOT_KNOWN)]

    def _pooled(self, label: str, kind: str, role: str, start: Ints, end: Ints) -> Lane:
        return pooled(label, kind, [(role, start, end)], self._window)

    def _lane(self, label: str, kind: str, rows: IntArray) -> Lane:
        work = self.run.work[rows]
        if rows.size > self._most:
            parts = [(name, work.start[chosen], work.end[chosen]) for name, chosen in roles(work) if chosen.any()]
            return pooled(label, kind, parts, self._window)
        role = np.full(rows.size, "copy", dtype=object)
        for name, chosen in roles(work):
            role[chosen] = name
        columns = (work.start, work.end, list(role), self._named(rows), self._said(rows), self._queued(rows))
        return Lane(label, kind, *columns)

    def _streams(self, rows: IntArray) -> Iterator[Lane]:
        """A lane for each of the busiest streams, and one of the layers that ran there."""
        work = self.run.work[rows]
        which = np.unique(joint_key(work.pid, work.stream), return_inverse=True)[1]
        which = np.unique(joint_key(work.device, which), return_inverse=True)[1]
        first = np.unique(which, return_index=True)[1]
        distinct = list(zip(work.device[first].tolist(), work.stream[first].tolist(), strict=True))
        busy = np.bincount(which, work.end - work.start, minlength=len(distinct))
        several = len({device for device, _ in distinct}) > 1
        for number in np.sort(np.argsort(-busy, kind="stable")[:STREAMS]).tolist():
            device, stream = distinct[number]
            label = f"stream {stream}" + (f", GPU {device}" if several else "")
            mine = rows[which == number]
            yield self._lane(label, "stream", mine)
            if mine.size <= self._most:
                yield from self._layers(mine, f"layers of {label}" if len(distinct) > 1 else "layers")

    def _idle(self, rows: IntArray, lo: int, hi: int) -> Iterator[Lane]:
        work = self.run.work[rows]
        idle = Intervals.union(work.start, work.end).complement(lo, hi) if rows.size else None
        if idle is not None and len(idle) > self._most:
            yield self._pooled("no GPU work", "idle", "unknown", idle.start, idle.end)
        elif idle is not None and len(idle):
            count = len(idle)
            name = self.texts.of("no traced work on any GPU")
            yield Lane("no GPU work", "idle", idle.start, idle.end, ["unknown"] * count, [name] * count)

    def _layers(self, rows: IntArray, label: str) -> Iterator[Lane]:
        """The layers of a stream's work: what one launched in a row is one piece."""
        layers = self._launches[0]
        rows = rows[layers.codes[rows] >= 0]
        if not rows.size:
            return
        work, code = self.run.work[rows], layers.codes[rows]
        first = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
        count = np.diff(np.append(first, rows.size)).tolist()
        columns = (work.start[first], np.maximum.reduceat(work.end, first), ["before"] * first.size)
        more = [self.texts.of(f"{units.plural(pieces, 'piece')} of GPU work") for pieces in count]
        yield Lane(label, "layer", *columns, self.texts.each(layers[rows[first]]), more)

    def _copies(self, rows: IntArray) -> Iterator[Lane]:
        """Copies by direction, where several streams make them: side by side they are seen to overlap or not."""
        work = self.run.work[rows]
        for kind, label in (("h2d", "copies to the GPU"), ("d2h", "copies to the host")):
            mine = work.kind.among(kind)
            if mine.any() and len(np.unique(work.stream)) > 1:
                yield self._lane(label, "copies", rows[mine])

    @cached_property
    def _synchronizations(self) -> pa.Table:
        return self._trace.table("synchronizations", ["start_ns", "end_ns", "stream", "kind"])

    def _waits(self, lo: int, hi: int) -> Iterator[Lane]:
        """Waits for GPU work: of the host for an event, a stream or all of them, and of one stream for another."""
        start, end = (ints(self._synchronizations[name]) for name in ("start_ns", "end_ns"))
        rows = np.flatnonzero((end > lo) & (start < hi) & (end > start))
        if rows.size > self._most:
            yield self._pooled("waits for GPU work", "sync", "sync", start[rows], end[rows])
        elif rows.size:
            which = self._synchronizations.take(pa.array(rows)).to_pydict()
            said = [
                _WAITS.get(kind, "a wait").format(stream=stream)
                for kind, stream in zip(which["kind"], which["stream"], strict=True)
            ]
            names = [self.texts.of(each) for each in said]
            yield Lane("waits for GPU work", "sync", start[rows], end[rows], ["sync"] * rows.size, names)

    @cached_property
    def _calls(self) -> tuple[Ints, Ints, IntArray, Words, IntArray]:
        table = self._trace.table("api_calls", ["start_ns", "end_ns", "tid", "name", "does"])
        does = words(table["does"])
        kind = np.append(call_kinds(does.dictionary), CallKind.OTHER)[does.codes]
        return ints(table["start_ns"]), ints(table["end_ns"]), ints(table["tid"]), words(table["name"]), kind

    def _spans(self, name: str) -> _Spans:
        """Starts, ends, threads and names of a table, read once."""
        if name not in self._read:
            table = self._trace.table(name, ["start_ns", "end_ns", "tid", "name"])
            spans = (ints(table["start_ns"]), ints(table["end_ns"]), ints(table["tid"]), words(table["name"]))
            self._read[name] = spans
        return self._read[name]

    def _host(self, lo: int, hi: int, launching: IntArray) -> Iterator[Lane]:
        """For each thread that launches work (of others, the busiest) its calls, its NVTX ranges, and its waits."""
        start, end, tid, name, kind = self._calls
        inside = np.flatnonzero((end > lo) & (start < hi))
        threads, count = np.unique(tid[inside], return_counts=True)
        first = np.isin(threads, launching)
        order = np.lexsort((-count, ~first))[:THREADS]
        called = threads[order].tolist()
        ranged = _threads_of(self._spans("nvtx_ranges"), lo, hi)
        for thread in [*called, *(thread for thread in ranged if thread not in called)][:THREADS]:
            title = f"thread {thread}"
            rows = inside[tid[inside] == thread]
            if rows.size > self._most:
                split = [(role, np.isin(kind[rows], of)) for role, of in _BY_ROLE.items()]
                parts = [(role, start[rows][mine], end[rows][mine]) for role, mine in split if mine.any()]
                yield pooled(f"{title}: CUDA calls", "call", parts, self._window)
            elif rows.size:
                role = [CALLS[CallKind(number)] for number in kind[rows].tolist()]
                yield Lane(f"{title}: CUDA calls", "call", start[rows], end[rows], role, self.texts.each(name[rows]))
            for of, label, kind_of, role_of in _OF_THREAD:
                table = self._spans(of)
                rows = _inside(table, lo, hi, thread)
                if rows.size > self._most:
                    yield self._pooled(f"{title}: {label}", kind_of, role_of, table[0][rows], table[1][rows])
                elif rows.size:
                    columns = (table[0][rows], table[1][rows], [role_of] * rows.size, self.texts.each(table[3][rows]))
                    yield Lane(f"{title}: {label}", kind_of, *columns)


NOT_KNOWN = -(2**53)
_KINDS = {
    "graph": "CUDA graph",
    "h2d": "copy to the GPU",
    "d2h": "copy to the host",
    "d2d": "copy on the GPU",
    "p2p": "copy between GPUs",
    "memset": "memory set",
}
_WAITS = {
    "event": "the host waits for an event",
    "stream_wait": "stream {stream} waits for an event",
    "stream": "the host waits for stream {stream}",
    "context": "the host waits for all streams",
}
"""What waits for what, by the kind of a synchronization."""
_BY_ROLE = {
    role: [kind for kind, role_of_kind in CALLS.items() if role_of_kind == role]
    for role in dict.fromkeys(CALLS.values())
}
_OF_THREAD = (
    ("nvtx_ranges", "NVTX", "nvtx", "unknown"),
    ("osrt_calls", "OS waits", "wait", "other"),
    ("profiler_overhead", "profiler", "profiler", "alarm"),
)
"""What a thread has beside its calls: a table, its label, kind and colour."""


def _inside(table: _Spans, lo: int, hi: int, thread: int) -> IntArray:
    """Rows of a thread that touch a window; marks and ranges that never end are none."""
    start, end, tid, _ = table
    rows: IntArray = np.flatnonzero((end > lo) & (start < hi) & (tid == thread) & (end > start))
    return rows


def _threads_of(table: _Spans, lo: int, hi: int) -> list[int]:
    start, end, tid, _ = table
    inside: Bools = (end > lo) & (start < hi) & (end > start)
    threads: list[int] = np.unique(tid[inside]).tolist()
    return threads
