"""What tracing cost the threads of a trace: by an untraced run, where there is one, else by what the trace shows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.calibration.untraced import Untraced, untraced_run
from nsight_tools.columns import Bools, Ints, ints, where_both, words
from nsight_tools.cuda_names import STALLS, WAITS, CallKind
from nsight_tools.run.work import ids
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import pieces
from nsight_tools.timeline.observer import (
    SAMPLE,
    WORKS,
    Cost,
    FloatArray,
    Thread,
    Tracing,
    call_cost,
    graph_node_cost,
    range_cost,
)

if TYPE_CHECKING:
    from nsight_tools.run import Run
    from nsight_tools.timeline.intervals import IntArray


class TracingCosts:
    """What tracing added to a trace's host threads."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def untraced(self) -> Untraced | None:
        """What an untraced run of the same measured; None where the dataset has none."""
        return untraced_run(self._run.trace)

    @cached_property
    def _range_cost(self) -> Cost:
        names = ("start_ns", "end_ns", "parent", "domain", "kind")
        some = self._run.trace.table("nvtx_ranges", names, rows=SAMPLE)
        chosen = words(some["domain"]).among("TensorRT") & words(some["kind"]).among("push_pop")
        start, end, parent = (ints(some[name])[chosen] for name in names[:3])
        return range_cost(start, end, parent, self._run.calls.start)

    @cached_property
    def tracing(self) -> Tracing:
        """What tracing cost a call, a range and a node: as this trace shows it.

        Where an untraced run tells what it added to an enqueue, so many times that as come to the same there.
        """
        added = self.untraced.added_enqueue if self.untraced else None
        whole = self._of_enqueue if added else 0.0
        if not (self.untraced and added and whole):
            return self._estimated
        return self._estimated.scaled(
            (added.low / whole, added.point / whole, added.high / whole), self.untraced.source
        )

    @cached_property
    def _of_enqueue(self) -> float:
        """What is likely to have been added, by the trace alone, between an inference's first launch and its last."""
        work = self._run.work
        rows = np.flatnonzero((work.inference >= 0) & work.computes & (work.api_call >= 0))
        if not rows.size:
            return 0.0
        thread, whose = self.owners[0], work.inference[rows]
        since, until = np.full(len(thread), np.iinfo(np.int64).max), np.full(len(thread), -1)
        np.minimum.at(since, whose, work.call_start[rows])
        np.maximum.at(until, whose, work.call_start[rows] + 1)
        there = since < until
        return float(np.median(self._added(self._estimated, thread[there], since[there], until[there])[1]))

    @cached_property
    def _estimated(self) -> Tracing:
        calls = self._run.calls
        launches = np.flatnonzero(calls.kind == CallKind.GRAPH_LAUNCH)
        return Tracing(
            call_cost(calls.start, calls.end, calls.kind),
            self._range_cost,
            graph_node_cost(calls.end[launches] - calls.start[launches], self._nodes[launches]),
        )

    @cached_property
    def _nodes(self) -> IntArray:
        """How many traced kernels each call launched as nodes of a graph."""
        calls, work = self._run.calls, self._run.work
        nodes = np.zeros(len(calls.start), np.int32)
        launches = calls.kind == CallKind.GRAPH_LAUNCH
        if launches.any():
            kernels = work.kind.among("kernel")
            for piece in pieces(len(work)):
                call = work.api_call[piece]
                call = call[kernels[piece] & (call >= 0)]
                np.add.at(nodes, call[launches[call]], 1)
        return nodes

    @cached_property
    def _threads(self) -> tuple[Thread, ...]:
        """The threads that launch work."""
        calls, trace = self._run.calls, self._run.trace
        pid, tid = (ids(self._run.trace, "nvtx_ranges", name) for name in ("pid", "tid"))
        pushed = words(trace.table("nvtx_ranges", ["kind"])["kind"]).among("push_pop")
        start, found = trace.numbers("nvtx_ranges", "start_ns"), []
        for one in self._run.threads:
            rows = where_both(calls.pid, one[0], calls.tid, one[1])
            columns = (calls.start[rows], calls.end[rows], calls.kind[rows], self._nodes[rows])
            mine = pushed & (pid == one[0]) & (tid == one[1])
            found.append(Thread.of(int(joint_key(*one)), *columns, start if mine.all() else start[mine]))
        return tuple(found)

    def cost(self, thread: Ints, since: Ints, until: Ints) -> tuple[FloatArray, ...]:
        """What tracing added on each thread to the calls and ranges that start in `[since, until)`; low, point, high.

        All of shape (n,); 0 on threads that launch no work.
        """
        return self._added(self.tracing, thread, since, until)

    def _added(self, tracing: Tracing, thread: Ints, since: Ints, until: Ints) -> tuple[FloatArray, ...]:
        added = tuple(np.zeros(len(thread)) for _ in range(3))
        for each in self._threads:
            mine = thread == each.key
            for piece in pieces(len(thread)):
                rows = np.flatnonzero(mine[piece])
                costs = tracing.cost(each.between(since[piece][rows], until[piece][rows]))
                for total, one in zip(added, costs, strict=True):
                    total[piece][rows] = one
        return added

    @cached_property
    def owners(self) -> tuple[Ints, Ints]:
        """Thread and start of each inference."""
        table = self._run.trace.table("inferences", ["pid", "tid", "range_start_ns"])
        return joint_key(ints(table["pid"]), ints(table["tid"])), ints(table["range_start_ns"])

    def _paused(self, call: IntArray, least_ns: int, times: int) -> Bools:
        """Whether each call's thread did something else before it than launch and copy, shape (n,).

        It waited, allocated, loaded or built something; or it had launched nothing for `least_ns`, and for so many
        times what it usually takes from one launch to the next; or the call itself takes as much longer than usual, as
        one that waits for the driver, which another thread holds.
        """
        calls = self._run.calls
        works = WORKS[calls.kind]
        others = calls.does.among(*STALLS, *WAITS)
        paused = np.zeros(len(call), np.bool_)
        for pid, tid in self._run.threads:
            rows = np.flatnonzero(works & (calls.pid == pid) & (calls.tid == tid))
            if not rows.size:  # its work was launched by calls of no known kind
                continue
            so_far = np.cumsum(others & (calls.pid == pid) & (calls.tid == tid))
            length = float(np.median(calls.end[rows] - calls.start[rows]))
            usual = float(np.median(calls.start[rows[1:]] - calls.end[rows[:-1]])) if rows.size > 1 else 0.0
            for piece in pieces(len(call)):
                mine = np.flatnonzero((calls.pid[call[piece]] == pid) & (calls.tid[call[piece]] == tid))
                its = call[piece][mine]
                before = np.searchsorted(rows, its) - 1
                last = rows[np.maximum(before, 0)]
                since = calls.start[its] - calls.end[last]
                did = (since > max(least_ns, times * usual)) | (so_far[its] > so_far[last])
                did |= calls.end[its] - calls.start[its] > max(least_ns, times * length)
                paused[piece][mine] = (before >= 0) & did
        return paused
