"""Requests: what the user counts, one or several enqueues each; where they begin and end on the host.

Rows are named by their index, -1 says that there is none, times are int64 nanoseconds. Which GPU work belongs to a
request is `ownership`'s to say, what its window was spent on is `accounting`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import Calls, Ranges, Words, Work, WorkKind, innermost, joint_key, nesting
from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray, distinct
from nsight_tools.timeline.repeats import beginnings, period_of, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ENQUEUE_PREFIX = "ExecutionContext::"
"""TensorRT's ranges around a whole enqueue; its other ranges are layers."""
MARKED = "inference_range"
"""The source of requests that the user named, or that our runner marked: nothing outside of them is theirs."""


@dataclass(frozen=True)
class Requests:
    """Requests in order of start, each column of shape (n,).

    `start` and `end` are those on the host: of the range, or from the first enqueue or launch call to the end of the
    last; `tid` is -1 where the thread is unknown; `name` the row of the NVTX range, -1 where it is none; `source` one
    of inference_range, program_range, enqueue_pattern, enqueue_range, graph_launch and iteration.
    """

    start: Int64Array
    end: Int64Array
    pid: Int64Array
    tid: Int64Array
    name: Int64Array
    source: NDArray[np.str_]

    @property
    def thread(self) -> Int64Array:
        return joint_key(self.pid, self.tid)

    def around(self, thread: Int64Array, time: Int64Array) -> Int64Array:
        """The innermost of them around each time on a thread, shape (m,); -1 where none."""
        end, key = np.maximum(self.end, self.start + 1), self.thread
        return innermost(self.start, end, key, nesting(self.start, end, key)[1], time, thread)

    def __len__(self) -> int:
        return int(self.start.size)

    def __getitem__(self, rows: slice | IntArray) -> Requests:
        return Requests(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def of(cls, start: IntArray, end: IntArray, pid: IntArray, tid: IntArray, name: IntArray, source: str) -> Requests:
        """From columns in any order."""
        columns = [np.asarray(column, np.int64) for column in (start, end, pid, tid, name)]
        order = np.lexsort((columns[3], columns[2], -columns[1], columns[0]))
        start, end, pid, tid, name = (column[order] for column in columns)
        return cls(start, end, pid, tid, name, np.full(order.size, source, "U16"))

    @classmethod
    def joined(cls, parts: list[Requests]) -> Requests:
        """All of them in order of start."""
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__]
        order = np.lexsort((columns[3], columns[2], -columns[1], columns[0]))
        return cls(*(column[order] for column in columns))


@dataclass(frozen=True)
class Found:
    """The requests of a trace, the enqueues in them, and how they were found.

    `enqueues` are all enqueues and graph launches, `engine` a number for each, the same for the same engine. `other` is
    the best other candidate, as the name of its NVTX range; `alike` how regular iterations are that were found by
    themselves, 1 elsewhere.
    """

    requests: Requests
    enqueues: Requests
    engine: Int64Array
    name: str = ""
    other: str = ""
    alike: float = 1.0


@dataclass(frozen=True)
class NamedRange:
    """The NVTX ranges that are requests: `*` in the name stands for anything; any domain, where it is None."""

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

Tokens: TypeAlias = "Callable[[IntArray], NDArray[np.uint64]]"
"""What pieces of GPU work (by row) do, as numbers: equal for equal kernels, copies of one size, graphs."""


def find_requests(ranges: Ranges, calls: Calls, work: Work, tokens: Tokens, named: NamedRange = OURS) -> Found:
    """Which requests there are, by the best source that the report has.

    1. Ranges that the user named; else those named `inference` in the domain `nsight_tools`.
    2. An NVTX range of the program's own that encloses each turn's enqueues (or all GPU work that it launches).
    3. Several enqueues (or launches of CUDA graphs) that come in a fixed order on a thread (`repeats.turns`).
    4. Outermost ranges named `ExecutionContext::…` in TensorRT's domain (in any, where no range is in TensorRT's),
       with the graph launches of 5 that lie outside of them if one of them launched nothing: such an enqueue was
       captured into a graph, whose launches are requests then, and it is none itself; or if all of them come behind
       the last enqueue: then it was captured before.
    5. Launches of CUDA graphs that GPU work came from, one for each pair of process and correlation id.
    6. Iterations found by themselves: what a thread launches repeats.

    Ranges that never ended are no requests.
    """
    launching = distinct(work.call[work.call >= 0])
    enqueues = _enqueues(ranges, calls, launching)
    engine = engines(ranges, enqueues, calls, work, tokens)
    found = Found(enqueues, enqueues, engine)
    if (chosen := named.rows(ranges)).size:
        return replace(found, requests=_of_ranges(ranges, chosen, MARKED), name=named.name)
    few = not len(enqueues) or _launched_by(enqueues, calls, launching) * 2 < launching.size
    thread, time = _when(calls, launching) if few else (enqueues.thread, enqueues.start)
    candidates = program_ranges(ranges, thread, time)
    if candidates:
        best = candidates[0]
        other = candidates[1].name if len(candidates) > 1 else ""
        return replace(found, requests=_of_ranges(ranges, best.rows, "program_range"), name=best.name, other=other)
    if few and (iterations := _iterations(calls, work, launching, tokens)) is not None:
        return replace(found, requests=iterations[0], alike=iterations[1])
    return replace(found, requests=_in_turns(enqueues, engine))


def _of_ranges(ranges: Ranges, rows: Int64Array, source: str) -> Requests:
    return Requests.of(ranges.start[rows], ranges.end[rows], ranges.pid[rows], ranges.tid[rows], rows, source)


def _spans(ranges: Ranges) -> BoolArray:
    spans: BoolArray = ranges.kind.where(lambda kind: kind in {"push_pop", "start_end"}) & (ranges.end >= ranges.start)
    return spans


def _enqueues(ranges: Ranges, calls: Calls, launching: IntArray) -> Requests:
    """Enqueues by TensorRT's ranges, and launches of CUDA graphs that stand for them or for a program of graphs."""
    rows = _enqueue_rows(ranges)
    graphs = launching[calls.kind[launching] == CallKind.GRAPH_LAUNCH]
    if rows.size and graphs.size:
        around = _inside(ranges, rows, *_when(calls, launching))
        captured = np.bincount(around[around >= 0], minlength=rows.size) == 0
        graphs = graphs[_inside(ranges, rows, *_when(calls, graphs)) < 0]
        # Beside enqueues that work they are somebody else's; behind all of them they were captured before.
        lead = graphs.size and ranges.end[rows].max() <= calls.start[graphs].min()
        graphs = graphs if captured.any() or lead else graphs[:0]
        rows = rows[~captured] if graphs.size else rows
    of_graphs = (calls.start[graphs], calls.end[graphs], calls.pid[graphs], calls.tid[graphs], np.full(graphs.size, -1))
    return Requests.joined([_of_ranges(ranges, rows, "enqueue_range"), Requests.of(*of_graphs, "graph_launch")])


def _enqueue_rows(ranges: Ranges) -> Int64Array:
    enqueues = ranges.name.where(lambda name: name.startswith(ENQUEUE_PREFIX)) & _spans(ranges)
    tensorrt = ranges.domain.where(lambda domain: domain == "TensorRT")
    rows: Int64Array = np.flatnonzero(enqueues & tensorrt if tensorrt.any() else enqueues)
    depth, _ = nesting(ranges.start[rows], ranges.end[rows], joint_key(ranges.pid[rows], ranges.tid[rows]))
    outermost: Int64Array = rows[depth == 0]
    return outermost


def _inside(ranges: Ranges, rows: Int64Array, thread: Int64Array, time: Int64Array) -> Int64Array:
    """Position in `rows` of the innermost of these ranges around each time on a thread; -1 where none."""
    start, end, key = ranges.start[rows], ranges.end[rows], joint_key(ranges.pid[rows], ranges.tid[rows])
    return innermost(start, end, key, nesting(start, end, key)[1], time, thread)


def _when(calls: Calls, chosen: IntArray) -> tuple[Int64Array, Int64Array]:
    """Threads and times of some calls."""
    return joint_key(calls.pid[chosen], calls.tid[chosen]), calls.start[chosen]


def _launched_by(enqueues: Requests, calls: Calls, launching: IntArray) -> int:
    """How many of the launching calls lie in an enqueue or a graph launch, or copy."""
    copies = calls.kind[launching] == CallKind.COPY
    around = enqueues.around(*_when(calls, launching[~copies]))
    return int(copies.sum() + (around >= 0).sum())


def _in_turns(enqueues: Requests, engine: Int64Array) -> Requests:
    """Enqueues, those that come in a fixed order on their thread taken together."""
    parts = []
    for thread in np.unique(enqueues.thread):
        rows = np.flatnonzero(enqueues.thread == thread)
        start, reach = enqueues.start[rows], np.maximum.accumulate(enqueues.end[rows])
        first = turns(engine[rows], np.append(0, np.maximum(start[1:] - reach[:-1], 0)))
        if first is None:
            parts.append(enqueues[rows])
            continue
        first = rows[first]
        last = np.append(first[1:], rows[-1] + 1)
        last = rows[np.searchsorted(rows, last) - 1]
        parts.append(
            replace(
                enqueues[first],
                end=np.maximum.accumulate(enqueues.end)[last],
                name=np.full(first.size, -1),
                source=np.full(first.size, "enqueue_pattern", "U16"),
            )
        )
    return Requests.joined(parts) if parts else enqueues


# Engines


def engines(
    ranges: Ranges,
    enqueues: Requests,
    calls: Calls,
    work: Work,
    tokens: Tokens,
) -> Int64Array:
    """A number for the engine of each enqueue, in order of first appearance, shape (n,).

    Engines are told apart by the layers whose ranges stand first and last in their enqueues; where there are none, by
    the kernels that they launch. An enqueue without layers that launches what one with layers does is of its engine.
    """
    by_layers = _layers_within(ranges, enqueues)
    if not len(enqueues) or (by_layers != 0).all():
        return numbered(by_layers)
    rows = np.flatnonzero((work.call >= 0) & ((work.kind == WorkKind.KERNEL) | (work.kind == WorkKind.GRAPH)))
    around = enqueues.around(*_when(calls, work.call[rows]))
    sums = np.zeros(len(enqueues), np.uint64)
    np.add.at(sums, around[around >= 0], tokens(rows[around >= 0]))
    known = by_layers != 0
    kernels, first = np.unique(sums[known], return_index=True)
    place = np.minimum(np.searchsorted(kernels, sums), max(kernels.size - 1, 0))
    same = kernels[place] == sums if kernels.size else known
    layers = by_layers[known][first][place] if kernels.size else by_layers
    return numbered(np.where(known, by_layers, np.where(same, layers, sums)))


def _layers_within(ranges: Ranges, enqueues: Requests) -> NDArray[np.uint64]:
    """A number for the first and last layers whose ranges stand in each enqueue; 0 where none does."""
    is_layer = ranges.domain.among("TensorRT") & ranges.kind.among("push_pop")
    is_layer &= ranges.name.where(lambda name: not name.startswith(ENQUEUE_PREFIX))
    rows = np.flatnonzero(is_layer)
    layers = np.zeros(len(enqueues), np.uint64)
    threads = joint_key(ranges.pid[rows], ranges.tid[rows])
    one_thread = rows.size == 0 or bool((threads == threads[0]).all())
    for thread in np.unique(enqueues.thread) if rows.size else ():
        mine = np.flatnonzero(enqueues.thread == thread)
        layer = rows if one_thread and threads[0] == thread else rows[threads == thread]
        start = ranges.start[layer]
        first, last = np.searchsorted(start, enqueues.start[mine]), np.searchsorted(start, enqueues.end[mine])
        there = first < last
        for place in (first, np.minimum(first + 1, last - 1), last - 1):
            code = ranges.name.codes[layer[place[there]]].astype(np.uint64) + np.uint64(1)
            layers[mine[there]] = layers[mine[there]] * np.uint64(1_000_003) + code
    return layers


def numbered(keys: NDArray[np.uint64]) -> Int64Array:
    """Keys as numbers from 0 on, in order of first appearance."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(first.size)
    return rank[which.reshape(-1)]


# The program's own ranges

FEWEST_TURNS = 5
"""Fewer ranges of a kind are parts of a run, and no requests."""
MANY_TURNS = 10
"""Of two that both stand around all work, the outer one is the request; of fewer than this, it may be an epoch."""
COVERS = 0.95
"""Share of the launches, between the first range of a kind and the last, that has to lie inside of them."""
_SAMPLE = 4_000
_OF_LIBRARIES = re.compile(r"TensorRT|NCCL|cu(BLAS|DNN|SPARSE|SOLVER|FFT|TENSOR)\w*|nsight_tools", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Candidate:
    """NVTX ranges of one kind (names that differ in numbers only are one) that may be the requests."""

    name: str
    rows: Int64Array = field(repr=False)
    length: float


def program_ranges(ranges: Ranges, thread: Int64Array, time: Int64Array) -> list[Candidate]:
    """Kinds of ranges that stand around the launches (shape (n,), or enqueues) of each turn, the best first."""
    usable = _spans(ranges) & ranges.domain.where(lambda domain: _OF_LIBRARIES.fullmatch(domain) is None)
    rows = np.flatnonzero(usable)
    if not rows.size or not time.size:
        return []
    domain, kinds = ranges.domain, kinds_of(ranges.name)
    keys = joint_key(domain.codes[rows], kinds.codes[rows])
    candidates = []
    for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
        mine = rows[keys == key]
        if not FEWEST_TURNS <= count <= time.size:
            continue
        mine = _apart(ranges, mine)
        if mine.size >= FEWEST_TURNS and _around(ranges, mine, thread, time):
            name = kinds.at(int(mine[0]))
            label = f"{name}@{domain.at(int(mine[0]))}" if domain.at(int(mine[0])) else name
            candidates.append(Candidate(label, mine, float(np.median(ranges.end[mine] - ranges.start[mine]))))
    enough = [each for each in candidates if each.rows.size >= MANY_TURNS] or candidates
    rest = [each for each in candidates if each not in enough]
    return [*sorted(enough, key=lambda each: (each.rows.size, -each.length)), *rest]


def kinds_of(names: Words) -> Words:
    """Names without their numbers, for each of which `*` stands."""
    bare = [_NUMBER.sub("*", name) for name in names.dictionary]
    words = list(dict.fromkeys(bare))
    code = {word: at for at, word in enumerate(words)}
    table = np.array([*(code[word] for word in bare), -1], np.int64)
    return Words(table[names.codes], words)


def _apart(ranges: Ranges, rows: Int64Array) -> Int64Array:
    """Those of the ranges that do not begin inside of another of them on their thread."""
    threads = joint_key(ranges.pid, ranges.tid)[rows]
    kept = []
    for thread in np.unique(threads):
        mine = rows[threads == thread]
        mine = mine[np.lexsort((-ranges.end[mine], ranges.start[mine]))]
        reach = np.maximum.accumulate(ranges.end[mine])
        kept.append(mine[np.append(True, ranges.start[mine][1:] >= reach[:-1])])
    apart: Int64Array = np.sort(np.concatenate(kept))
    return apart


def _around(ranges: Ranges, rows: Int64Array, thread: Int64Array, time: Int64Array) -> bool:
    """Whether nearly all launches from the first of these ranges to the last lie inside of one, and each has some."""
    between = (time >= ranges.start[rows].min()) & (time < ranges.end[rows].max())
    points = np.flatnonzero(between)
    if 2 * points.size < time.size or not points.size:
        return False
    some = points[:: points.size // _SAMPLE + 1]
    if (_turn(ranges, rows, thread[some], time[some]) >= 0).mean() < COVERS - 0.05:
        return False
    turn = _turn(ranges, rows, thread[points], time[points])
    used = np.bincount(turn[turn >= 0], minlength=rows.size) > 0
    return bool((turn >= 0).mean() >= COVERS and used.mean() >= COVERS)


def _turn(ranges: Ranges, rows: Int64Array, thread: Int64Array, time: Int64Array) -> Int64Array:
    """Position in `rows` of the range around each launch: of its own thread, else of the one that is open then."""
    inside = _inside(ranges, rows, thread, time)
    rest = np.flatnonzero(inside < 0)
    inside[rest] = open_then(
        ranges.start[rows], ranges.end[rows], ranges.pid[rows], ranges.tid[rows], thread[rest], time[rest]
    )
    return inside


def open_then(
    start: IntArray, end: IntArray, pid: IntArray, tid: IntArray, thread: Int64Array, time: Int64Array
) -> Int64Array:
    """Position of the only span of the process that is open when a helper thread, which has no spans, does something.

    Python's autograd launches from a thread of its own, in the time of a step of another. -1 for threads with spans,
    and in processes whose spans overlap.
    """
    position = np.full(time.size, -1, np.int64)
    processes = thread >> 32
    own = np.isin(thread, joint_key(pid, tid))
    for process in np.unique(processes[~own]):
        mine = np.flatnonzero(pid == process)
        mine = mine[np.argsort(start[mine], kind="stable")]
        if not mine.size or np.any(start[mine][1:] < np.maximum.accumulate(end[mine])[:-1]):
            continue
        points = np.flatnonzero(~own & (processes == process))
        at = np.searchsorted(start[mine], time[points], side="right") - 1
        there = (at >= 0) & (time[points] < end[mine[np.maximum(at, 0)]])
        position[points[there]] = mine[at[there]]
    return position


# Iterations found by themselves

_FEW_CALLS = 20
"""A thread that launches less has no iterations worth finding."""
_ALIKE = 0.9
"""24 traces of real programs agree with themselves by 95 to 100 % one turn later, least where four streams are
waited for in turns; one of a model whose layers are loaded one by one did by 89 %, one layer later, and is refused."""


def _iterations(calls: Calls, work: Work, launching: IntArray, tokens: Tokens) -> tuple[Requests, float] | None:
    """Turns in what threads launch and wait for, and how alike they are; None where nothing repeats.

    A turn begins with the copy to the GPU that follows one to the host (or other work), else behind the longest pause
    between two launches. Threads whose turns neither copy nor wait help another one.
    """
    rows = np.flatnonzero(work.call >= 0)
    sums = np.zeros(calls.start.size, np.uint64)
    np.add.at(sums, work.call[rows], tokens(rows))
    up, down = np.zeros(calls.start.size, np.bool_), np.zeros(calls.start.size, np.bool_)
    up[work.call[rows[work.kind[rows] == WorkKind.H2D]]] = True
    down[work.call[rows[work.kind[rows] == WorkKind.D2H]]] = True
    waits = np.flatnonzero(calls.kind == CallKind.SYNC)
    waiters, launchers = (joint_key(calls.pid[made], calls.tid[made]) for made in (waits, launching))
    repeating: list[tuple[bool, int, Requests, float]] = []
    for thread in np.unique(launchers):
        mine, theirs = launching[launchers == thread], waits[waiters == thread]
        if mine.size < _FEW_CALLS or 10 * mine.size < launching.size:
            continue
        line, waited = _with_waits(calls, mine, theirs)
        done = sums[line]
        period = period_of(done)
        if period is None or period.alike < _ALIKE or np.sum(~waited[-period.length :]) < 2:
            continue
        phase = _phase(calls, line, waited, period.length, up[line], down[line])
        first = beginnings(done, period, phase)
        if first.size < FEWEST_TURNS:
            continue
        # A turn ends with its last launch; the wait behind it is found with its work.
        last = np.append(first[1:], line.size) - 1
        last -= waited[last]
        start, end = calls.start[line[first]], calls.end[line[last]]
        none = np.full(first.size, -1)
        requests = Requests.of(start, end, calls.pid[line[first]], calls.tid[line[first]], none, "iteration")
        leads = theirs.size > 0 or bool(up[mine].any() or down[mine].any())
        repeating.append((leads, mine.size, requests, period.alike))
    if not repeating:
        return None
    leading = [each for each in repeating if each[0]] or [max(repeating, key=lambda each: each[1])]
    return Requests.joined([each[2] for each in leading]), min(each[3] for each in leading)


def _with_waits(calls: Calls, mine: IntArray, waits: IntArray) -> tuple[IntArray, BoolArray]:
    """A thread's launching calls and its waits, in order, and which are waits: one of those that follow one another.

    Blocks that are alike launch the same again and again; what a thread waits for is the whole.
    """
    among = np.zeros(calls.start.size, np.bool_)
    among[mine], among[waits] = True, True
    line = np.flatnonzero(among)
    waited = calls.kind[line] == CallKind.SYNC
    kept = ~(waited & np.append(False, waited[:-1]))
    return (line, waited) if kept.all() else (line[kept], waited[kept])


def _phase(calls: Calls, line: IntArray, waited: BoolArray, length: int, up: BoolArray, down: BoolArray) -> int:
    """Place of the call with which a turn begins, in the last whole turns of a thread's launching calls and waits."""
    offset = line.size % length
    grid = np.arange(offset, line.size).reshape(-1, length)
    last = np.maximum(grid - 1, 0)
    before = calls.end[line[np.maximum(last - waited[last], 0)]]  # of two that follow one another one is no wait
    pause = np.where(waited[grid[-1]], -1.0, np.median(calls.start[line[grid]] - before, axis=0))
    up, down = (np.mean(column[grid], axis=0) > 0.5 for column in (up, down))
    allowed = up & ~np.roll(up, 1)
    if down.any() and allowed.any():
        places = np.flatnonzero(up | down)
        follows = np.array([bool(down[places[at - 1]]) for at in range(places.size)])
        allowed &= np.isin(np.arange(length), places[follows]) if follows[up[places]].any() else allowed
    pause = np.where(allowed, pause, -1.0) if allowed.any() else pause
    return offset + int(np.argmax(pause))
