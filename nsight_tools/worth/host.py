"""What tracing cost the host's threads in any stretch of time, however many of them launch.

A launch costs what it takes beyond the least that one takes; of other calls a share is tracing; a range and the launch
of a graph have costs of their own. All of them are ranges of `known`. A replay of the requests (`price`) knows more of
a single thread's loop; this holds for every program.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, where_both, words
from nsight_tools.cuda_names import WAITS, CallKind
from nsight_tools.run.work import ids
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import pieces
from nsight_tools.worth import known
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.tracing import cost_of_launch

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run import Run
    from nsight_tools.run.calls import HostCalls, Thread
    from nsight_tools.worth.ranges import Floats

LONGEST_NS = 5_000
"""Of a longer call that launches nothing no more than this is looked at: what allocates or loads for milliseconds is no
cost of tracing. As much as tracing adds to a launch at most. Off by two, a program whose host is the limit by such
calls is told to be 2 µs a call faster."""
GRAPH_SHARE = Range(0.0, 0.5, 1.0)
"""Of what the launch of a graph takes beyond the least, what is tracing: it may be all of it, or nothing."""


@dataclass(frozen=True, eq=False)
class _Line:
    """A thread that launches: the starts of its calls and ranges in order, and their sums so far, from 0 on."""

    calls: Ints
    launches: Ints
    graphs_ns: Ints
    """Length of graph launches beyond the least that one takes."""
    other_ns: Ints
    ranges: Ints
    costs: tuple[Range, ...]
    """What tracing adds to a launch, ns; to the launch of a graph, as a share of what it takes beyond the least; to
    other calls, as a share of their time; to a range, ns."""

    @classmethod
    def of(cls, calls: HostCalls, ranges: Ints, launch: Range, of_range: Range) -> _Line:
        length = calls.end - calls.start
        launches, graph = calls.kind == CallKind.LAUNCH, calls.kind == CallKind.GRAPH_LAUNCH
        beyond = np.where(graph, np.maximum(length - int(known.GRAPH_LAUNCH_NS.low), 0), 0)
        other = np.where(launches | graph | calls.does.among(*WAITS), 0, np.minimum(length, LONGEST_NS))
        costs = (launch, GRAPH_SHARE, known.OTHER_SHARE, of_range)
        return cls(calls.start, _so_far(launches), _so_far(beyond), _so_far(other), ranges, costs)

    def cost(self, since: Ints, until: Ints) -> tuple[Floats, ...]:
        """What tracing added to what starts in each `[since, until)`; low, point, high."""
        first, last = np.searchsorted(self.calls, since), np.searchsorted(self.calls, until)
        last = np.maximum(first, last)
        events = [sums[last] - sums[first] for sums in (self.launches, self.graphs_ns, self.other_ns)]
        events.append(np.maximum(np.searchsorted(self.ranges, until) - np.searchsorted(self.ranges, since), 0))
        point, below, above = (np.zeros(len(since)) for _ in range(3))
        for count, cost in zip(events, self.costs, strict=True):
            point += count * cost.point
            # What one kind of event costs says nothing of the others.
            below += (count * (cost.point - cost.low)) ** 2
            above += (count * (cost.high - cost.point)) ** 2
        return np.maximum(point - np.sqrt(below), 0.0), point, point + np.sqrt(above)


def _so_far(values: Ints | Bools) -> Ints:
    return np.append(0, np.cumsum(values, dtype=np.int64))


@dataclass(frozen=True)
class Launching:
    """How each judged request is launched, one kernel after the other: columns of shape (n,), ns.

    From the start of its first launch to the return of its last on the host, waits in between left out, and from the
    start of its first kernel to the end of its last. Requests of which a CUDA graph launched anything are left out.
    """

    inference: Ints
    thread: Ints
    first: Ints
    last: Ints
    enqueue: Ints
    compute: Ints
    launches: Ints

    def __len__(self) -> int:
        return len(self.inference)


class HostCosts:
    """What tracing cost the threads of a run that launch work; read when first asked for."""

    def __init__(self, run: Run, of_range: Range = known.RANGE_NS, enqueue_ns: float | None = None) -> None:
        """`of_range` is what a range costs, `enqueue_ns` what an untraced run's enqueue took, where that is known."""
        self._run, self._of_range, self._enqueue = run, of_range, enqueue_ns

    @cached_property
    def _threads(self) -> dict[int, tuple[Thread, HostCalls, Ints]]:
        """Calls and starts of ranges of each thread that launches, by its key."""
        calls, trace = self._run.calls, self._run.trace
        pid, tid = (ids(trace, "nvtx_ranges", name) for name in ("pid", "tid"))
        pushed = words(trace.table("nvtx_ranges", ["kind"])["kind"]).among("push_pop")
        start, by_thread = trace.numbers("nvtx_ranges", "start_ns"), {}
        for thread in self._run.threads:
            rows = where_both(calls.pid, thread[0], calls.tid, thread[1])
            mine = pushed & (pid == thread[0]) & (tid == thread[1])
            by_thread[int(joint_key(*thread))] = thread, calls[rows], start if mine.all() else start[mine]
        return by_thread

    @cached_property
    def _lines(self) -> dict[int, _Line]:
        launching = Counter(
            pid for (pid, _), calls, _ in self._threads.values() if (calls.kind == CallKind.LAUNCH).any()
        )
        lines = {}
        for key, ((pid, _), calls, ranges) in self._threads.items():
            launch = self._fitted or _launch_cost(calls, several=launching[pid] > 1)
            lines[key] = _Line.of(calls, ranges, launch, self._of_range)
        return lines

    @cached_property
    def _fitted(self) -> Range | None:
        """What tracing added to a launch by an untraced run's enqueue; None where that is not known."""
        if self._enqueue is None or not len(self.launching):
            return None
        launches = float(np.median(self.launching.launches))
        added = max(float(np.median(self.launching.enqueue)) - self._enqueue, 0.0) / max(launches, 1.0)
        drift = known.ENQUEUE_DRIFT * self._enqueue / max(launches, 1.0)
        return Range(max(added - drift, 0.0), added, added + drift)

    @property
    def launch(self) -> Range:
        """What tracing added to a launch, of the thread that launches most."""
        line = max(self._lines.values(), key=lambda line: line.launches[-1], default=None)
        return Range(0.0, 0.0, 0.0) if line is None else line.costs[0]

    def cost(self, thread: Ints, since: Ints, until: Ints) -> tuple[Floats, ...]:
        """What tracing added on each thread to the calls and ranges that start in `[since, until)`; low, point, high.

        All of shape (n,); 0 on threads that launch no work.
        """
        added = tuple(np.zeros(len(thread)) for _ in range(3))
        for key, line in self._lines.items():
            for piece in pieces(len(thread)):
                rows = np.flatnonzero(thread[piece] == key)
                for total, cost in zip(added, line.cost(since[piece][rows], until[piece][rows]), strict=True):
                    total[piece][rows] = cost
        return added

    @cached_property
    def of_requests(self) -> tuple[Floats, ...]:
        """What tracing added to each request's thread while its range lasts, shape (n,); low, point, high."""
        table = self._run.trace.table("inferences", ["pid", "tid", "range_start_ns", "range_end_ns"])
        pid, tid, start, end = (ints(table[name]) for name in table.column_names)
        return self.cost(joint_key(pid, tid), start, end)

    @cached_property
    def launching(self) -> Launching:
        """How the judged requests are launched; see `Launching`."""
        return _launching(self._run)

    @cached_property
    def occupied(self) -> int:
        """As `Run.host_occupied`, less what tracing is likely to have added to that thread's calls and ranges; ns."""
        window = self._run.window
        most = 0
        for thread, occupied in self._run.occupied.items():
            _, cost, _ = self.cost(np.full(len(window.start), joint_key(*thread)), window.start, window.end)
            most = max(most, occupied - round(float(cost.sum())))
        return most

    @cached_property
    def free(self) -> int:
        """Time of the steady state, as it is without the profiler, in which the busiest launching thread is free; ns.

        Nothing on the GPU can win more. The steady state shrinks with the host's time, down to what the GPU works.
        """
        run = self._run
        faster = run.window.total - (run.host_occupied - self.occupied)
        works = run.work.busy().intersection(run.window).total
        return max(faster, works, self.occupied) - self.occupied

    @property
    def share(self) -> float:
        """Share of the steady state without the profiler in which the busiest launching thread is occupied."""
        return self.occupied / max(self.occupied + self.free, 1)


def _launch_cost(calls: HostCalls, *, several: bool) -> Range:
    """What tracing added to a launch of a thread, by what it usually takes from one to the next, waits left out."""
    start = calls.start[calls.kind == CallKind.LAUNCH]
    if start.size < 2:
        length = (calls.end - calls.start)[calls.kind == CallKind.LAUNCH]
        return cost_of_launch(float(length.sum()), several=several)
    waits = calls[np.flatnonzero(calls.kind == CallKind.SYNC)].time()
    between = np.diff(start) - waits.coverage(start[:-1], start[1:])
    return cost_of_launch(float(np.median(between)), several=several)


def _launching(run: Run) -> Launching:
    work, calls, requests = run.work, run.calls, run.requests
    count = len(requests)
    first, start = (np.full(count, np.iinfo(np.int64).max) for _ in range(2))
    last, returned, end = (np.full(count, np.iinfo(np.int64).min) for _ in range(3))
    graphs, launches = np.zeros(count, np.bool_), np.zeros(count, np.int64)
    for piece in work.pieces():
        rows = np.flatnonzero((piece.inference >= 0) & piece.computes & (piece.api_call >= 0))
        rows = rows[run.judges(piece.inference[rows])]
        whose = piece.inference[rows]
        for least, column in ((first, piece.call_start), (start, piece.start)):
            np.minimum.at(least, whose, column[rows])
        for most, column in ((last, piece.call_start), (returned, piece.call_end), (end, piece.end)):
            np.maximum.at(most, whose, column[rows])
        np.add.at(launches, whose, 1)
        graphs[whose[calls.kind[piece.api_call[rows]] == CallKind.GRAPH_LAUNCH]] = True
    chosen = np.flatnonzero((first <= last) & ~graphs)
    thread, begun, until = requests.thread[chosen], first[chosen], returned[chosen]
    waits = np.zeros(chosen.size, np.int64)
    sync = calls[np.flatnonzero(calls.kind == CallKind.SYNC)]
    key = joint_key(sync.pid, sync.tid)
    for key_of_thread in np.unique(thread).tolist():
        mine = thread == key_of_thread
        waits[mine] = sync[key == key_of_thread].time().coverage(begun[mine], until[mine])
    enqueue, compute = until - begun - waits, (end - start)[chosen]
    return Launching(chosen, thread, begun, last[chosen], enqueue, compute, launches[chosen])
