"""The run as a trace shows it: requests, flow, GPUs, calls. Each question is answered once, when it is first asked.

`Run.of(trace)` is the same object for every analysis, figure and comparison, for as long as the trace is held.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.run.calls import HostCalls, occupied
from nsight_tools.run.collectives import Rank, ranks
from nsight_tools.run.events import Events
from nsight_tools.run.flow import Flow
from nsight_tools.run.gaps import Gaps, gaps
from nsight_tools.run.gpus import Gpus
from nsight_tools.run.program import runs_tensorrt, runs_torch
from nsight_tools.run.recorded import Recorded
from nsight_tools.run.requests import Requests
from nsight_tools.run.work import Copies, Work
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.columns import Bools
    from nsight_tools.run.calls import Thread
    from nsight_tools.trace import Trace

__all__ = ["Copies", "Events", "Flow", "Gpus", "HostCalls", "Rank", "Requests", "Run", "Work"]


class Run(Recorded):
    """What one trace shows of a run: what was recorded, and what follows from it."""

    @classmethod
    def of(cls, trace: Trace) -> Run:
        """The run of `trace`."""
        return trace.once(cls)

    @cached_property
    def flow(self) -> Flow:
        """How the judged requests follow one another."""
        return Flow(self, self.gpus)

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
    def window_ns(self) -> int:
        """Length of the steady state, summed over the GPUs; at least 1, so that shares of it can be given."""
        return max(sum(self.gpus.window(device).total for device in self.gpus.devices), 1)

    @cached_property
    def gaps(self) -> Gaps:
        """Idle stretches of the GPUs between the kernels of judged requests."""
        return gaps(self)

    @cached_property
    def ranks(self) -> tuple[Rank, ...]:
        """Every process and GPU that communicates with others."""
        return ranks(self, self.gpus)

    @property
    def time(self) -> str:
        """What shares are shares of, in words."""
        return "inference time" if self.count else "time between the first and the last GPU work"

    def per_inference(self, total: int) -> int | None:
        """`total` spread over the judged requests; None where there are none."""
        return round(total / self.count) if self.count else None

    @cached_property
    def occupied(self) -> dict[Thread, int]:
        """Time of the steady state in which each thread that launches does anything but wait; nanoseconds."""
        return occupied(self.trace, self.calls, self.threads, self.window)

    @property
    def host_occupied(self) -> int:
        """The same of the busiest of them: nothing that changes on the GPU alone makes the whole faster than that."""
        return max(self.occupied.values(), default=0)
