"""What tracing cost the threads of a trace: by an untraced run, where there is one, else by what the trace shows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.calibration.untraced import Untraced, untraced_run
from nsight_tools.columns import Ints, ints, words
from nsight_tools.idle import only_distinct
from nsight_tools.timeline.attribution import CallKind, joint_key
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
    from nsight_tools.measured import Measured


class TracingCosts:
    """What tracing added to a trace's host threads."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    @cached_property
    def untraced(self) -> Untraced | None:
        """What an untraced run of the same measured; None where the dataset has none."""
        return untraced_run(self._measured.trace)

    @cached_property
    def _ranges(self) -> tuple[Ints, Ints, Cost]:
        """Start and thread of each push/pop range, and what one cost."""
        names = ("start_ns", "end_ns", "pid", "tid", "domain", "kind", "parent")
        table = self._measured.trace.table("nvtx_ranges", names)
        pushed = words(table["kind"]).among("push_pop")
        start, key = ints(table["start_ns"]), joint_key(ints(table["pid"]), ints(table["tid"]))
        some = table.slice(0, SAMPLE)
        chosen = words(some["domain"]).among("TensorRT") & pushed[:SAMPLE]
        begun, ended, parent = (ints(some[name])[chosen] for name in ("start_ns", "end_ns", "parent"))
        cost = range_cost(begun, ended, parent, self._measured.host_calls.start)
        return (start, key, cost) if pushed.all() else (start[pushed], key[pushed], cost)

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
        work = self._measured.work
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
        calls = self._measured.host_calls
        launches = np.flatnonzero(calls.kind == CallKind.GRAPH_LAUNCH)
        return Tracing(
            call_cost(calls.start, calls.end, calls.kind),
            self._ranges[2],
            graph_node_cost((calls.end - calls.start)[launches], self._nodes[launches]),
        )

    @cached_property
    def _nodes(self) -> Ints:
        """How many traced kernels each call launched as nodes of a graph."""
        calls, work = self._measured.host_calls, self._measured.work
        launches = calls.kind == CallKind.GRAPH_LAUNCH
        nodes: Ints = np.zeros(len(calls.start), np.int64)
        if launches.any():
            by_call = work.api_call[work.kind.among("kernel") & (work.api_call >= 0)]
            nodes = np.where(launches, np.bincount(by_call, minlength=len(nodes)), 0)
        return nodes

    @cached_property
    def _key(self) -> Ints:
        """The thread of each call."""
        calls = self._measured.host_calls
        return joint_key(calls.pid, calls.tid)

    @cached_property
    def _threads(self) -> tuple[Thread, ...]:
        """The threads that launch work."""
        calls, work = self._measured.host_calls, self._measured.work
        start, key, _ = self._ranges
        found = []
        for one in only_distinct(joint_key(work.pid, work.tid)).tolist():
            rows = _where(self._key, one)
            columns = (calls.start[rows], calls.end[rows], calls.kind[rows], self._nodes[rows])
            found.append(Thread.of(one, *columns, start[_where(key, one)]))
        return tuple(found)

    def cost(self, thread: Ints, since: Ints, until: Ints) -> tuple[FloatArray, ...]:
        """What tracing added on each thread to the calls and ranges that start in `[since, until)`; low, point, high.

        All of shape (n,); 0 on threads that launch no work.
        """
        return self._added(self.tracing, thread, since, until)

    def _added(self, tracing: Tracing, thread: Ints, since: Ints, until: Ints) -> tuple[FloatArray, ...]:
        added = tuple(np.zeros(len(thread)) for _ in range(3))
        for each in self._threads:
            rows = _where(thread, each.key)
            costs = tracing.cost(each.between(since[rows], until[rows]))
            for total, one in zip(added, costs, strict=True):
                total[rows] = one
        return added

    @cached_property
    def owners(self) -> tuple[Ints, Ints]:
        """Thread and start of each inference."""
        table = self._measured.trace.table("inferences", ["pid", "tid", "range_start_ns"])
        return joint_key(ints(table["pid"]), ints(table["tid"])), ints(table["range_start_ns"])

    def _pause(self, call: Ints) -> Ints:
        """Time since each call's thread last launched or copied anything, shape (n,); 0 where it never had."""
        calls = self._measured.host_calls
        works = WORKS[calls.kind]
        pause = np.zeros(len(call), np.int64)
        whose = self._key[call]
        for thread in self._threads:
            mine = _where(self._key, thread.key)
            rows = np.flatnonzero(works if isinstance(mine, slice) else works & (self._key == thread.key))
            if not rows.size:  # its work was launched by calls of no known kind
                continue
            mine = _where(whose, thread.key)
            before = np.searchsorted(rows, call[mine]) - 1
            since = calls.start[call[mine]] - calls.end[rows[np.maximum(before, 0)]]
            pause[mine] = np.where(before >= 0, since, 0)
        return pause


def _where(keys: Ints, key: int) -> Ints | slice:
    one = keys.size and (keys[0] == key) and bool((keys == key).all())
    return slice(None) if one else np.flatnonzero(keys == key)
