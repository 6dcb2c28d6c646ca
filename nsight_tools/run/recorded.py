"""What a trace holds of a run, and which of it is judged: what every question about the run is answered from."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, pairs_in
from nsight_tools.run.calls import HostCalls, Thread, read_calls
from nsight_tools.run.requests import Requests
from nsight_tools.run.work import Copies, Work, read_copies, read_work
from nsight_tools.timeline.intervals import IntArray, Intervals, pieces

if TYPE_CHECKING:
    from nsight_tools.trace import Trace


class Recorded:
    """A run as it was recorded; everything is read when first asked for, once for all."""

    def __init__(self, trace: Trace) -> None:
        self._trace = ref(trace)

    @property
    def trace(self) -> Trace:
        """The trace itself."""
        trace = self._trace()
        assert trace is not None, "the trace is held by whoever analyzes it"
        return trace

    @cached_property
    def work(self) -> Work:
        """All GPU work."""
        return read_work(self.trace)

    @cached_property
    def copies(self) -> Copies:
        """All copies and sets."""
        return read_copies(self.trace, self.work)

    @cached_property
    def calls(self) -> HostCalls:
        """All API calls."""
        return read_calls(self.trace)

    @cached_property
    def requests(self) -> Requests:
        """All requests, with their populations and phases."""
        return Requests(self.trace)

    @cached_property
    def threads(self) -> tuple[Thread, ...]:
        """Process and thread of those that launched work, in order; the thread is -1 where it is unknown."""
        return tuple(pairs_in(self.work.pid, self.work.tid))

    @cached_property
    def count(self) -> int:
        """How many requests are judged: that the GPU worked for; 0 where it worked for none."""
        return int((self.requests.judged & self.requests.worked).sum())

    @cached_property
    def window(self) -> Intervals:
        """Steady state: the time inside of any judged request's window.

        Without requests, all from the first GPU work to the last. What lies outside (an engine build, a warm-up, a
        pause between runs, another population) is no judged request's latency.
        """
        if self.count:
            return self.requests.window
        if not len(self.work.start):
            return Intervals.union([], [])
        return Intervals.union([self.work.start.min()], [self.work.end.max()])

    def steady(self, start: Ints, end: Ints) -> Bools:
        """Which events lie inside of the steady state, in part at least."""
        inside: Bools = self.window.coverage(start, np.maximum(end, start + 1)) > 0
        return inside

    @cached_property
    def judged_work(self) -> Bools:
        """Which of the GPU work belongs to judged requests, shape (n,); without requests, all of it."""
        if not self.count:
            return np.ones(len(self.work), np.bool_)
        judged = np.append(self.requests.judged, False)
        is_judged = np.empty(len(self.work), np.bool_)
        for piece in pieces(len(self.work)):
            is_judged[piece] = judged[self.work.inference[piece]]
        return is_judged

    def judges(self, inference: IntArray) -> Bools:
        """Which of these are judged requests, shape (n,); -1 is none. Without requests, all are."""
        if not self.count:
            return np.ones(len(inference), np.bool_)
        judged: Bools = np.append(self.requests.judged, False)[inference]
        return judged

    @cached_property
    def profiler(self) -> Intervals:
        """Time in which the profiler itself is at work in the profiled processes."""
        table = self.trace.table("profiler_overhead", ["start_ns", "end_ns"])
        return Intervals.union(ints(table["start_ns"]), ints(table["end_ns"]))
