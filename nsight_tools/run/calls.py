"""What the host's threads do: their API calls, and how far they are occupied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, where_both, words
from nsight_tools.cuda_names import WAITS, call_kinds
from nsight_tools.run.work import ids
from nsight_tools.timeline.intervals import IntArray, Intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

Thread = tuple[int, int]
"""Process and thread."""


@dataclass(frozen=True)
class HostCalls:
    """API calls as arrays of shape (n,), in order of start; `kind` is a CallKind, `does` what the dataset says."""

    start: Ints
    end: Ints
    pid: IntArray
    tid: IntArray
    name: Words
    does: Words
    kind: npt.NDArray[np.int8]

    def __getitem__(self, chosen: Bools | IntArray | slice) -> HostCalls:
        return HostCalls(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def launches(self) -> Bools:
        """Launches of kernels and graphs, not of copies."""
        return self.does.among("launch", "graph_launch")

    @property
    def waits(self) -> Bools:
        """Calls that return when the GPU has done something: synchronizations and blocking copies."""
        return self.does.among(*WAITS)

    def of_thread(self, thread: Thread) -> HostCalls:
        """Those of one thread."""
        return self[where_both(self.pid, thread[0], self.tid, thread[1])]

    def outermost(self) -> HostCalls:
        """Those that do not lie inside of another of these on their thread (cudaMalloc calls cuMemAlloc)."""
        keep = np.ones(len(self.start), np.bool_)
        for pid, tid in np.unique(np.stack([self.pid, self.tid]), axis=1).T:
            rows = np.flatnonzero((self.pid == pid) & (self.tid == tid))
            reach = np.maximum.accumulate(self.end[rows])
            keep[rows[1:]] = self.start[rows[1:]] >= reach[:-1]
        return self[keep]

    def time(self) -> Intervals:
        """Time in which any thread is in one of them."""
        return Intervals.union(self.start, self.end)


def read_calls(trace: Trace) -> HostCalls:
    """All API calls."""
    start, end = (trace.numbers("api_calls", column) for column in ("start_ns", "end_ns"))
    name = words(trace.table("api_calls", ["name"])["name"])
    does = words(trace.table("api_calls", ["does"])["does"])
    kind = np.append(call_kinds(does.dictionary), np.int8(0))[does.codes].astype(np.int8)
    return HostCalls(start, end, ids(trace, "api_calls", "pid"), ids(trace, "api_calls", "tid"), name, does, kind)


def occupied(trace: Trace, calls: HostCalls, threads: Sequence[Thread], window: Intervals) -> dict[Thread, int]:
    """Time of `window` in which each thread is in an inference or a call and does anything but wait; nanoseconds.

    Nothing that changes on the GPU alone makes the whole faster than the busiest thread.
    """
    ranges = trace.table("inferences", ["range_start_ns", "range_end_ns", "pid", "tid"])
    busy = {}
    for pid, tid in threads:
        mine_of_thread = calls.of_thread((pid, tid))
        mine = (ints(ranges["pid"]) == pid) & (ints(ranges["tid"]) == tid)
        inside = Intervals.union(
            np.append(ints(ranges["range_start_ns"])[mine], mine_of_thread.start),
            np.append(ints(ranges["range_end_ns"])[mine], mine_of_thread.end),
        )
        free_of_waits = inside.subtract(mine_of_thread[mine_of_thread.waits].time())
        busy[pid, tid] = free_of_waits.intersection(window).total
    return busy


OS_WAITS = (
    r"(p?poll|p?select|epoll_p?wait|(nano|u)?sleep|clock_nanosleep|futex|sem_(timed|clock)?wait|accept4?|recv\w*|"
    r"read|pthread_cond_(timed|clock)?wait|pthread_join|msgrcv|mq_(timed)?receive)"
)
"""Functions of the operating system in which a thread waits for something to come: input, time, another thread."""
OS_LOCKS = r"pthread_(mutex|rwlock|spin)_\w*lock|__lll_lock_wait\w*"
"""Functions in which it waits for a lock."""


def os_waits(trace: Trace, thread: Thread, pattern: str = OS_WAITS) -> Intervals:
    """Time in which a thread waits in such functions; none where they were not traced."""
    table = trace.table("osrt_calls", ["start_ns", "end_ns", "pid", "tid", "name"])
    meant = re.compile(pattern)
    chosen = (ints(table["pid"]) == thread[0]) & (ints(table["tid"]) == thread[1])
    chosen &= words(table["name"]).where(lambda name: meant.fullmatch(name) is not None)
    return Intervals.union(ints(table["start_ns"])[chosen], ints(table["end_ns"])[chosen])
