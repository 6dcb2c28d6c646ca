"""The run as a trace shows it: requests, flow, GPUs, calls. Each question is answered once, when it is first asked.

`Run.of(trace)` is the same object for every analysis, figure and comparison, for as long as the trace is held.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, pairs_in, words
from nsight_tools.run.calls import HostCalls, occupied, read_calls
from nsight_tools.run.collectives import Rank, ranks
from nsight_tools.run.events import Events
from nsight_tools.run.flow import Flow
from nsight_tools.run.gaps import Gaps, gaps
from nsight_tools.run.gpus import Gpus
from nsight_tools.run.program import runs_tensorrt, runs_torch
from nsight_tools.run.requests import Requests
from nsight_tools.run.work import Copies, Work, read_copies, read_work
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import IntArray, Intervals, pieces

if TYPE_CHECKING:
    from nsight_tools.run.holes import Holes
    from nsight_tools.run.samples import Samples
    from nsight_tools.trace import Trace

__all__ = ["Copies", "Events", "Flow", "Gpus", "HostCalls", "Rank", "Requests", "Run", "Work"]


class Run:
    """What one trace shows of a run; everything is read when first asked for, once for all."""

    def __init__(self, trace: Trace) -> None:
        self._trace = ref(trace)

    @classmethod
    def of(cls, trace: Trace) -> Run:
        """The run of `trace`."""
        return trace.once(cls)

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
    def flow(self) -> Flow:
        """How the judged requests follow one another."""
        return Flow(self)

    @cached_property
    def events(self) -> Events:
        """Which work each wait for an event is for."""
        return Events(self)

    @cached_property
    def gpus(self) -> Gpus:
        """What each GPU is, and when it is busy."""
        return Gpus(self)

    @cached_property
    def tensorrt(self) -> bool | None:
        """Whether the program runs TensorRT; None where the trace leaves it open."""
        return runs_tensorrt(self)

    @cached_property
    def torch(self) -> bool:
        """Whether the program runs PyTorch's own kernels."""
        return runs_torch(self)

    @cached_property
    def engine_copies(self) -> Bools:
        """Which of `copies` an engine launches itself, inside of its enqueue: its weights, when they are streamed."""
        enqueues = self.trace.table("enqueues", ["start_ns", "end_ns", "pid", "tid", "kind"])
        mine = words(enqueues["kind"]).among("enqueue_range")
        start, end, pid, tid = (ints(enqueues[name])[mine] for name in ("start_ns", "end_ns", "pid", "tid"))
        inside = np.zeros(len(self.copies), np.bool_)
        for thread in np.unique(joint_key(pid, tid)):
            ours = joint_key(pid, tid) == thread
            here = joint_key(self.copies.pid, self.copies.tid) == thread
            inside |= here & Intervals.union(start[ours], end[ours]).contains(self.copies.call_start)
        return inside

    @cached_property
    def threads(self) -> tuple[tuple[int, int], ...]:
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

    @cached_property
    def window_ns(self) -> int:
        """Length of the steady state, summed over the GPUs; at least 1, so that shares of it can be given."""
        return max(sum(self.gpus.window(device).total for device in self.gpus.devices), 1)

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

    @cached_property
    def gaps(self) -> Gaps:
        """Idle stretches of the GPUs between the kernels of judged requests."""
        return gaps(self)

    @cached_property
    def ranks(self) -> tuple[Rank, ...]:
        """Every process and GPU that communicates with others."""
        return ranks(self)

    @cached_property
    def samples(self) -> dict[int, Samples]:
        """NVML's samples of the GPUs that `Samples.of` was asked for."""
        return {}

    @cached_property
    def holes(self) -> dict[tuple[int, int], Holes]:
        """Those that `holes.holes` was asked for, by GPU and least length."""
        return {}

    @property
    def time(self) -> str:
        """What shares are shares of, in words."""
        return "inference time" if self.count else "time between the first and the last GPU work"

    def per_inference(self, total: int) -> int | None:
        """`total` spread over the judged requests; None where there are none."""
        return round(total / self.count) if self.count else None

    @cached_property
    def occupied(self) -> dict[tuple[int, int], int]:
        """Time of the steady state in which each thread that launches does anything but wait; nanoseconds."""
        return occupied(self.trace, self.calls, self.threads, self.window)

    @property
    def host_occupied(self) -> int:
        """The same of the busiest of them: nothing that changes on the GPU alone makes the whole faster than that."""
        return max(self.occupied.values(), default=0)
