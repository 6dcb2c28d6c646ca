"""Which requests of a trace stand for all, and what their host thread and the GPU did for them, call by call.

The only module of `worth` that reads a trace. It takes 20 to 60 steady requests of the population that most requests
belong to: those without a mark, of one thread, with the most frequent number of kernels, that follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.timeline.attribution import CallKind, classify_call
from nsight_tools.worth.program import Ops, Program, Steps

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace

MOST = 40
"""Requests that are looked at: of 40 a median is known to a fifth of their spread, and the replay takes some 50 ms."""
FEWEST = 5
"""Requests of which a median says something about a loop."""
HEAD = 250_000
"""Rows of a table that are read of a long trace: 500 requests of 500 calls, more than enough to choose from."""
LAGS = 4
"""A wait is for the request itself, or one of so many before it: deeper pipelines were not seen."""
SAME = 0.95
"""Share of the requests in which a wait must have ended after what it is taken to wait for."""


@dataclass(frozen=True)
class Requests:
    """The requests of one population on one thread, in order: columns of shape (n,)."""

    number: Ints
    start: Ints
    end: Ints
    begin: Ints
    until: Ints
    """The range on the host, where `start` and `end` span the GPU's work as well."""
    pid: int
    tid: int
    threads: int
    """Threads that had requests of this population."""
    others: int
    """Requests of other populations, marked ones left out."""
    follows: Bools
    """Whether the request before it on its thread is of the population, too."""
    period: float
    """From one completion to the next, of all threads, steady requests: the median, or their mean where in bursts."""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def wall(self) -> float:
        """Median latency as traced, ns."""
        return float(np.median(self.end - self.start))

    def __getitem__(self, rows: slice) -> Requests:
        columns = (getattr(self, name)[rows] for name in ("number", "start", "end", "begin", "until"))
        return Requests(*columns, self.pid, self.tid, self.threads, self.others, self.follows[rows], self.period)


def requests_of(trace: Trace) -> Requests | None:
    """The steady requests of the largest population, on the thread that has most of them; None without any."""
    names = ["inference", "start_ns", "end_ns", "range_start_ns", "range_end_ns", "pid", "tid", "kernels", "graphs"]
    table = trace.table("inferences", [*names, "mark"])
    column = {name: ints(table[name]) for name in names}
    works = column["kernels"] + column["graphs"] > 0
    steady = works & (words(table["mark"]).codes < 0)
    if not steady.any():
        return None
    kinds, counts = np.unique(column["kernels"][steady], return_counts=True)
    ours = steady & (column["kernels"] == kinds[np.argmax(counts)])
    threads, counts = np.unique(column["tid"][ours], return_counts=True)
    tid = threads[np.argmax(counts)]
    (rows,) = np.nonzero(works & (column["tid"] == tid))
    rows = rows[np.argsort(column["range_start_ns"][rows], kind="stable")]
    mine = ours[rows]
    follows = np.append(False, mine[:-1])
    rows, follows = rows[mine], follows[mine]
    ends = np.sort(column["end_ns"][ours])
    return Requests(
        *(column[name][rows] for name in names[:5]),
        int(column["pid"][rows[0]]),
        int(tid),
        len(threads),
        int(steady.sum() - ours.sum()),
        follows,
        _period(ends),
    )


def _period(ends: Ints) -> float:
    """Time from one of these completions to the next; several that end together count as the mean says."""
    if len(ends) < FEWEST:
        return 0.0
    quarter = np.array_split(ends, min(8, len(ends) // 2))
    means = [(part[-1] - part[0]) / (len(part) - 1) for part in quarter if len(part) > 1]
    return float(np.median(means))


def program_of(trace: Trace) -> tuple[Requests, Program] | None:
    """The sampled requests and what was done for them; None where the trace does not show it."""
    requests = requests_of(trace)
    if requests is None or requests.tid < 0:
        return None
    for rows in (HEAD, None):
        calls = trace.table("api_calls", ["start_ns", "end_ns", "pid", "tid", "name"], rows=rows)
        if not calls.num_rows:
            return None
        whole = calls.num_rows == trace.rows("api_calls")
        until = int(ints(calls["start_ns"][-1:])[0]) if not whole else np.iinfo(np.int64).max
        here = _sampled(requests, until)
        if len(here) >= FEWEST or whole:
            break
    if len(here) < FEWEST:
        return None
    program = _Reading(trace, here, calls, rows).program()
    return None if program is None else (here, program)


def _sampled(requests: Requests, until: int) -> Requests:
    """The longest run of requests that follow each other and end before `until`, at most MOST from its middle."""
    breaks = np.flatnonzero(~requests.follows)
    edges = np.unique(np.concatenate([[0], breaks, [int(np.searchsorted(requests.until, until))]]))
    edges = edges[edges <= int(np.searchsorted(requests.until, until))]
    if len(edges) < 2:
        return requests[:0]
    longest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[longest]), int(edges[longest + 1])
    spare = max(last - first - MOST, 0) // 2
    return requests[first + spare : min(first + spare + MOST, last)]


class _Reading:
    """Makes the program of some requests from the calls of their thread and the work that these launched."""

    def __init__(self, trace: Trace, requests: Requests, calls: pa.Table, rows: int | None) -> None:
        self._trace, self._requests, self._rows = trace, requests, rows
        pid, tid = ints(calls["pid"]), ints(calls["tid"])
        before = int(requests.begin[0] - max(requests.wall, requests.period))
        start = ints(calls["start_ns"])
        mine = (pid == requests.pid) & (tid == requests.tid) & (start >= before) & (start <= requests.until[-1])
        (self.call,) = np.nonzero(mine)
        name = words(calls["name"])
        kinds = np.append(classify_call(name.dictionary), CallKind.OTHER)
        self.start, self.end = start[self.call], ints(calls["end_ns"])[self.call]
        self.kind = kinds[name.codes[self.call]]
        self.events = name.where(lambda one: "StreamWaitEvent" in one)[self.call]
        self.for_event = name.where(lambda one: "EventSynchronize" in one)[self.call]
        self.asynchronous = name.where(lambda one: "Async" in one)[self.call]

    def program(self) -> Program | None:
        """The program of the requests whose calls and work are the most frequent ones; None where too few are alike."""
        ops = self._ops()
        steps = self._steps(ops)
        since = np.where(self._requests.follows, np.append(0, self._requests.until[:-1]), self._requests.begin)
        first = np.searchsorted(self.start[steps], since)
        last = np.searchsorted(self.start[steps], self._requests.until)
        owner = np.searchsorted(self.start[steps], ops["call_start"], side="right") - 1
        number = self._requests.number
        signatures = []
        for row, (low, high) in enumerate(zip(first, last, strict=True)):
            its = np.flatnonzero(ops["inference"] == number[row])
            its = its[np.lexsort((ops["start"][its], owner[its]))]
            if its.size and not (low <= owner[its[0]] and owner[its[-1]] < high):
                signatures.append((b"", its))
                continue
            shape = (self.kind[steps[low:high]].tobytes(), (owner[its] - low).tobytes(), ops["kind"][its].tobytes())
            signatures.append((b"|".join(shape), its))
        counted: dict[bytes, int] = {}
        for key, _ in signatures:
            counted[key] = counted.get(key, 0) + 1
        counted.pop(b"", None)
        if not counted:
            return None
        common = max(counted, key=lambda key: counted[key])
        rows = np.array([row for row, (key, _) in enumerate(signatures) if key == common])
        if len(rows) < FEWEST:
            return None
        chosen = np.array([signatures[row][1] for row in rows]).reshape(len(rows), -1)
        length = last[rows[0]] - first[rows[0]]
        table = steps[first[rows][:, None] + np.arange(length)]
        # Where a request follows none of its own, what lies before it on the thread is nobody's.
        before = np.searchsorted(self.start, self._requests.begin[rows]) - 1
        before = np.where(self._requests.follows[rows] & (first[rows] > 0), steps[first[rows] - 1], before)
        return self._assemble(rows, np.maximum(before, 0), table, chosen, owner[chosen[0]] - first[rows[0]], ops)

    def _ops(self) -> dict[str, Ints]:
        """The GPU's work of the requests: columns of shape (n,)."""
        names = ["start_ns", "end_ns", "stream", "inference", "row", "call_start_ns"]
        table = self._trace.table("launches", [*names, "work"], rows=self._rows)
        number = ints(table["inference"])
        wanted = (number >= self._requests.number[0]) & (number <= self._requests.number[-1])
        wanted &= np.isin(number, self._requests.number) & (ints(table["call_start_ns"]) >= self.start[0])
        (rows,) = np.nonzero(wanted)
        column = {name.removesuffix("_ns"): ints(table[name])[rows] for name in names}
        copies = words(table["work"]).among("copy", "set")[rows]
        return column | self._memory(column["row"], copies)

    def _memory(self, row: Ints, copies: Bools) -> dict[str, Ints]:
        """Of each piece of work: 0 kernel, 1 to the GPU, 2 to the host; bytes; whether host memory is pageable."""
        kind, size, pageable = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
        if copies.any():
            table = self._trace.table("memory_ops", ["kind", "size_bytes", "src_memory", "dst_memory"])
            its = row[copies]
            what = words(table["kind"])
            up, down = (what.among(name)[its] for name in ("h2d", "d2h"))
            source, target = (words(table[name]).among("pageable")[its] for name in ("src_memory", "dst_memory"))
            kind[copies] = up + 2 * down
            size[copies] = ints(table["size_bytes"])[its]
            pageable[copies] = (up & source) | (down & target)
        return {"kind": kind, "size": size, "pageable": pageable}

    def _steps(self, ops: dict[str, Ints]) -> Ints:
        """Calls that launch work or wait, those inside of another one left out: positions among the thread's calls."""
        works = np.isin(self.start, ops["call_start"])
        chosen = np.flatnonzero(works | (self.kind == CallKind.SYNC))
        ended = np.maximum.accumulate(self.end[chosen])
        inside = np.append(False, self.start[chosen][1:] < ended[:-1])
        return chosen[~inside]

    def _assemble(
        self, rows: Ints, before: Ints, table: Ints, chosen: Ints, step: Ints, ops: dict[str, Ints]
    ) -> Program:
        requests = self._requests
        start, end = self.start[table], self.end[table]
        previous = np.concatenate([before[:, None], table[:, :-1]], axis=1)
        returned = np.where(requests.follows[rows], self.end[before], requests.begin[rows])
        since = np.concatenate([np.minimum(returned, start[:, 0])[:, None], end[:, :-1]], axis=1)
        lengths = np.append(0, np.cumsum(np.where(self.kind == CallKind.SYNC, 0, self.end - self.start)))
        between = np.maximum(table - previous - 1, 0)
        other = np.where(between > 0, lengths[table] - lengths[previous + 1], 0)
        waits = np.append(0, np.cumsum(self.events))
        waited = np.median(waits[table] - waits[np.maximum(previous, 0)], axis=0) > 0
        first_own = int(np.median((start < requests.start[rows][:, None]).sum(axis=1)))
        kind = self.kind[table[0]].astype(np.int8)
        blocking = np.zeros(len(kind), np.bool_)
        copied = ops["kind"][chosen[0]] > 0
        held = ops["pageable"][chosen[0]].astype(np.bool_) | (copied & ~self.asynchronous[table[0]][step])
        held &= kind[step] == CallKind.COPY
        blocking[step[held]] = True
        own = min(first_own, len(kind) - 1)
        return Program.measured(
            Steps(
                kind,
                blocking,
                start,
                end,
                np.maximum(start - since, 0),
                np.minimum(other, np.maximum(start - since, 0)),
                np.median(between, axis=0),
                self._ranges(since, start),
                waited,
                bool(self.for_event[table].any()),
                own,
            ),
            Ops(
                step,
                _numbered(ops["stream"][chosen[0]]),
                ops["kind"][chosen[0]].astype(np.int8),
                ops["pageable"][chosen[0]].astype(np.bool_),
                ops["size"][chosen[0]],
                ops["start"][chosen],
                ops["end"][chosen],
                len(np.unique(ops["stream"][chosen][:, ops["kind"][chosen[0]] == 0])),
            ),
            begin=start[:, own] - requests.start[rows],
            after=np.maximum(requests.until[rows] - end[:, -1], 0),
            follows=requests.follows[rows] & np.append(False, np.diff(rows) == 1),
        )

    def _ranges(self, since: Ints, until: Ints) -> Ints:
        """NVTX ranges of the thread that begin in each `[since, until)`: the median over the requests."""
        trace = self._trace
        if not trace.rows("nvtx_ranges"):
            return np.zeros(since.shape[1])
        table = trace.table("nvtx_ranges", ["start_ns", "pid", "tid"], rows=self._rows)
        mine = (ints(table["pid"]) == self._requests.pid) & (ints(table["tid"]) == self._requests.tid)
        start = ints(table["start_ns"])[mine]
        counts = np.searchsorted(start, until) - np.searchsorted(start, since)
        middle: Ints = np.median(counts, axis=0)
        return middle


def _numbered(stream: Ints) -> Ints:
    """Streams as 0, 1, 2, … in order of first use."""
    _, first, number = np.unique(stream, return_index=True, return_inverse=True)
    order: Ints = np.argsort(np.argsort(first))[number]
    return order
