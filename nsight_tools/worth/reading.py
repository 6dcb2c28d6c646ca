"""What was called and launched for the requests that stand for all: a trace read into a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import CallKind, call_kinds
from nsight_tools.run import Run
from nsight_tools.run.events import UNKNOWN, place
from nsight_tools.worth.gpu import filled
from nsight_tools.worth.program import KERNEL, TO_GPU, TO_HOST
from nsight_tools.worth.residuals import UNTOLD, Ops, Steps, measured
from nsight_tools.worth.runs import FEWEST, Requests, requests_of, sampled

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace
    from nsight_tools.worth.program import Program
    from nsight_tools.worth.ranges import Floats

HEAD = 100_000
"""Rows of a table that are read of a long trace: 200 requests of 500 calls, more than enough to choose from."""


def program_of(trace: Trace) -> tuple[Requests, Program] | None:
    """The sampled requests and what was done for them; None where the trace does not show it."""
    requests = requests_of(trace)
    if requests is None or requests.tid < 0:
        return None
    for rows in (HEAD, None):
        calls = trace.table("api_calls", ["start_ns", "end_ns", "pid", "tid", "name", "does"], rows=rows)
        if not calls.num_rows:
            return None
        whole = calls.num_rows == trace.rows("api_calls")
        until = np.iinfo(np.int64).max if whole else int(ints(calls["start_ns"].slice(calls.num_rows - 1))[0])
        here = sampled(requests, until)
        if len(here) >= FEWEST:
            program = Reading(trace, here, calls, rows).program()
            if program is not None:
                return here, program
        if whole:
            break
    return None


class Reading:
    """What the thread of some requests called, and what that launched on the GPU."""

    def __init__(self, trace: Trace, requests: Requests, calls: pa.Table, rows: int | None) -> None:
        self._trace, self._requests, self._rows = trace, requests, rows
        pid, tid = ints(calls["pid"]), ints(calls["tid"])
        before = int(requests.begin[0] - max(requests.wall, requests.period))
        start = ints(calls["start_ns"])
        mine = (pid == requests.pid) & (tid == requests.tid) & (start >= before) & (start <= requests.until[-1])
        (self.call,) = np.nonzero(mine)
        name, does = words(calls["name"]), words(calls["does"])
        kinds = np.append(call_kinds(does.dictionary), CallKind.OTHER)
        self.start, self.end = start[self.call], ints(calls["end_ns"])[self.call]
        self.kind = kinds[does.codes[self.call]]
        self.events = does.among("stream_wait")[self.call]
        self.for_event = name.where(lambda name: "EventSynchronize" in name)[self.call]
        self.asynchronous = name.where(lambda name: "Async" in name)[self.call]

    def program(self) -> Program | None:
        """The program of those requests whose calls and work are alike; None where those are few, or less than most."""
        requests, ops = self._requests, self._ops()
        steps = self._steps(ops)
        since = np.where(requests.follows, np.append(0, requests.until[:-1]), requests.begin)
        first, last = (np.searchsorted(self.start[steps], times) for times in (since, requests.until))
        owner = np.searchsorted(self.start[steps], ops["call_start"], side="right") - 1
        by_program: dict[bytes, list[tuple[int, Ints]]] = {}
        for row, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            mine = np.flatnonzero(ops["inference"] == requests.number[row])
            mine = mine[np.lexsort((ops["start"][mine], owner[mine]))]
            if mine.size and low <= owner[mine[0]] and owner[mine[-1]] < high:
                parts = (self.kind[steps[low:high]], owner[mine] - low, ops["kind"][mine])
                by_program.setdefault(b"|".join(part.tobytes() for part in parts), []).append((row, mine))
        alike = max(by_program.values(), key=len, default=[])
        if len(alike) < FEWEST or 2 * len(alike) <= len(requests):
            return None
        rows, chosen = np.array([row for row, _ in alike]), np.array([rows_alike for _, rows_alike in alike])
        table = steps[first[rows][:, None] + np.arange(last[rows[0]] - first[rows[0]])]
        # Where a request follows none of its own, what lies before it on the thread is nobody's.
        before = np.searchsorted(self.start, requests.begin[rows]) - 1
        before = np.where(requests.follows[rows] & (first[rows] > 0), steps[first[rows] - 1], before)
        calls = self._calls(rows, np.maximum(before, 0), table)
        step = owner[chosen[0]] - first[rows[0]]
        calls.blocking[step[self._held(ops, chosen[0], table[0][step])]] = True
        return measured(
            calls,
            self._work(ops, chosen, step),
            begin=calls.start[:, calls.own] - requests.start[rows],
            after=np.maximum(requests.until[rows] - calls.end[:, -1], 0),
            follows=requests.follows[rows] & np.append(False, np.diff(rows) == 1),
        )

    def _ops(self) -> dict[str, Ints]:
        """The GPU's work of the requests: columns of shape (n,)."""
        names = ["start_ns", "end_ns", "stream", "inference", "row", "call_start_ns"]
        table = self._trace.table("launches", [*names, "work"], rows=self._rows)
        number = ints(table["inference"])
        wanted = (number >= self._requests.number[0]) & (number <= self._requests.number[-1])
        wanted &= np.isin(number, self._requests.number) & (ints(table["call_start_ns"]) >= self.start[0])
        (rows,) = np.nonzero(wanted)
        column = {name.removesuffix("_ns"): ints(table[name])[rows] for name in names} | {"work": rows}
        work = words(table["work"])
        return column | self._memory(column["row"], work.among("copy", "set")[rows], work.among("kernel")[rows])

    def _memory(self, row: Ints, copies: Bools, kernels: Bools) -> dict[str, Ints]:
        """Of each piece of work: 0 kernel, 1 to the GPU, 2 to the host; bytes; whether host memory is pageable."""
        kind, size, pageable = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
        if copies.any():
            table = self._trace.table("memory_ops", ["kind", "size_bytes", "src_memory", "dst_memory"])
            rows_of_copies = row[copies]
            what = words(table["kind"])
            up, down = (what.among(name)[rows_of_copies] for name in ("h2d", "d2h"))
            source, target = (
                words(table[name]).among("pageable")[rows_of_copies] for name in ("src_memory", "dst_memory")
            )
            kind[copies] = TO_GPU * up + TO_HOST * down
            size[copies] = ints(table["size_bytes"])[rows_of_copies]
            pageable[copies] = (up & source) | (down & target)
        return {"kind": kind, "size": size, "pageable": pageable, "kernel": kernels.astype(np.int64)}

    def _steps(self, ops: dict[str, Ints]) -> Ints:
        """Calls that launch work or wait, those inside of another one left out: positions among the thread's calls."""
        works = np.isin(self.start, ops["call_start"])
        chosen = np.flatnonzero(works | (self.kind == CallKind.SYNC))
        ended = np.maximum.accumulate(self.end[chosen])
        inside = np.append(False, self.start[chosen][1:] < ended[:-1])
        steps: Ints = chosen[~inside]
        return steps

    def _held(self, ops: dict[str, Ints], work: Ints, call: Ints) -> Bools:
        """Which pieces of work are copies that hold their call until they are done, shape (q,)."""
        synchronous = (ops["kind"][work] > 0) & ~self.asynchronous[call]
        held: Bools = (ops["pageable"][work].astype(np.bool_) | synchronous) & (self.kind[call] == CallKind.COPY)
        return held

    def _calls(self, rows: Ints, before: Ints, table: Ints) -> Steps:
        """The steps of requests `rows`, at `table` of the thread's calls; `before` is the step before each request."""
        requests = self._requests
        start, end = self.start[table], self.end[table]
        previous = np.concatenate([before[:, None], table[:, :-1]], axis=1)
        returned = np.where(requests.follows[rows], self.end[before], requests.begin[rows])
        since = np.concatenate([np.minimum(returned, start[:, 0])[:, None], end[:, :-1]], axis=1)
        pause = np.maximum(start - since, 0)
        lengths = np.append(0, np.cumsum(np.where(self.kind == CallKind.SYNC, 0, self.end - self.start)))
        other = np.where(table > previous + 1, lengths[table] - lengths[previous + 1], 0)
        events = np.append(0, np.cumsum(self.events))
        own = int(np.median((start < requests.start[rows][:, None]).sum(axis=1)))
        return Steps(
            self.kind[table[0]].astype(np.int8),
            np.zeros(table.shape[1], np.bool_),
            start,
            end,
            pause,
            np.minimum(other, pause),
            self._ranges(since, start),
            np.median(events[table] - events[previous], axis=0) > 0,
            bool(self.for_event[table].any()),
            self._told(rows, table),
            min(own, table.shape[1] - 1),
        )

    def _told(self, rows: Ints, table: Ints) -> Ints:
        """How many requests before its own the one is that each wait for an event is for, shape (m,); -1 unknown."""
        run = Run.of(self._trace)
        if not run.events.recorded or not self.for_event[table].any():
            return np.full(table.shape[1], -1)
        work = run.events.of_call(self.call[table.ravel()]).reshape(table.shape)
        number = np.where(work >= 0, run.work.inference[work], -1)
        thread = run.requests.of_threads()[self._requests.pid, self._requests.tid]
        at = np.searchsorted(thread, number)
        known = thread[np.minimum(at, len(thread) - 1)] == number
        back = np.searchsorted(thread, self._requests.number[rows])[:, None] - at
        return _mostly(np.where(known & (back >= 0), back, -1))

    def _work(self, ops: dict[str, Ints], chosen: Ints, step: Ints) -> Ops:
        """The work `chosen` of each request, shape (R, q), which its `step` launched."""
        first = chosen[0]
        kernels = ops["kind"][first] == KERNEL
        return Ops(
            step,
            _numbered(ops["stream"][first]),
            ops["kind"][first].astype(np.int8),
            ops["pageable"][first].astype(np.bool_),
            ops["size"][first],
            filled(self._trace, ops["row"][first], ops["kernel"][first].astype(np.bool_), self._rows),
            ops["start"][chosen],
            ops["end"][chosen],
            len(np.unique(ops["stream"][chosen][:, kernels])),
            self._behind(ops["work"][chosen]),
        )

    def _behind(self, work: Ints) -> Ints:
        """Which piece of its request each waits for by an event, of `work` with shape (R, q); -1 none, UNTOLD."""
        run = Run.of(self._trace)
        if not run.events.recorded or not run.events.told_streams:
            return np.full(work.shape[1], UNTOLD)
        called, where = run.work.call_start[work], run.work[work.ravel()]
        stream = place(where.pid, where.device, where.stream)
        since = np.repeat(called[:, :1], work.shape[1], axis=1)
        for number in np.unique(stream.reshape(work.shape)[0]):
            of_stream = np.flatnonzero(stream.reshape(work.shape)[0] == number)
            since[:, of_stream[1:]] = called[:, of_stream[:-1]]
        told, behind = run.events.of_stream(stream, since.ravel(), called.ravel())
        row, piece = np.indices(work.shape).reshape(2, -1)
        order = np.argsort(work, axis=None)
        at = order[np.minimum(np.searchsorted(work.ravel()[order], behind), work.size - 1)]
        own = (work.ravel()[at] == behind) & (row[at] == row) & (piece[at] < piece)
        behind_of = np.where(told & (behind == UNKNOWN), UNTOLD, np.where(told & own, piece[at], -1))
        return _mostly(behind_of.reshape(work.shape))

    def _ranges(self, since: Ints, until: Ints) -> Floats:
        """NVTX ranges of the thread that begin in each `[since, until)`: the median over the requests, shape (m,)."""
        trace = self._trace
        if not trace.rows("nvtx_ranges"):
            return np.zeros(since.shape[1])
        table = trace.table("nvtx_ranges", ["start_ns", "pid", "tid"], rows=self._rows)
        mine = (ints(table["pid"]) == self._requests.pid) & (ints(table["tid"]) == self._requests.tid)
        start = ints(table["start_ns"])[mine]
        counts = np.searchsorted(start, until) - np.searchsorted(start, since)
        middle: Floats = np.median(counts, axis=0)
        return middle


def _mostly(values: Ints) -> Ints:
    """The middle one of each column, shape (n,) of (R, n)."""
    middle: Ints = np.sort(values, axis=0)[len(values) // 2]
    return middle


def _numbered(stream: Ints) -> Ints:
    """Streams as 0, 1, 2, … in order of first use."""
    _, first, number = np.unique(stream, return_index=True, return_inverse=True)
    order: Ints = np.argsort(np.argsort(first))[number]
    return order
