"""A trace's columns as arrays, its steady window and busy time: read when first asked for, once for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.timeline.attribution import CallKind, Words, classify_call, joint_key
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class Work:
    """All GPU work as arrays of shape (n,), in order of start; -1 where an inference, thread or call is unknown."""

    start: Ints
    end: Ints
    device: Ints
    stream: Ints
    pid: Ints
    tid: Ints
    call_start: Ints
    call_end: Ints
    api_call: Ints
    row: Ints
    inference: Ints
    kind: Words
    """kernel, graph, or what `memory_ops` calls it: h2d, d2h, memset, …"""

    def __getitem__(self, chosen: Bools | Ints) -> Work:
        return Work(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def computes(self) -> Bools:
        """Kernels, and whole CUDA graphs where the report traced those."""
        return self.kind.among("kernel", "graph")

    def busy(self) -> Intervals:
        """Time in which any of it runs."""
        return self._busy

    @cached_property
    def _busy(self) -> Intervals:
        return Intervals.union(self.start, self.end)


@dataclass(frozen=True)
class Copies:
    """Copies and sets as arrays of shape (n,), in order of start, each with the name of the call that started it."""

    start: Ints
    end: Ints
    device: Ints
    kind: Words
    size: Ints
    src: Words
    dst: Words
    call: Words
    call_start: Ints
    call_end: Ints
    tid: Ints
    inference: Ints

    def __getitem__(self, chosen: Bools | Ints) -> Copies:
        return Copies(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def duration(self) -> Ints:
        return self.end - self.start

    @property
    def pageable(self) -> Bools:
        """Copies between a GPU and pageable host memory."""
        up, down = self.kind.among("h2d"), self.kind.among("d2h")
        chosen: Bools = (up & self.src.among("pageable")) | (down & self.dst.among("pageable"))
        return chosen

    @property
    def asynchronous(self) -> Bools:
        """Copies made by an asynchronous call, or as part of a CUDA graph."""
        return self.call.where(lambda name: "Async" in name or "GraphLaunch" in name)

    def rate(self) -> float | None:
        """Bytes per second over their summed durations; None where they took no time."""
        total = int(self.duration.sum())
        return float(self.size.sum()) / total * 1e9 if total else None


class Measured:
    """What one trace measured, as arrays; everything is read when first asked for, once for all."""

    _of: ClassVar[WeakKeyDictionary[Trace, Measured]] = WeakKeyDictionary()

    def __init__(self, trace: Trace) -> None:
        self._trace = ref(trace)
        self._computing: dict[int, Intervals] = {}

    @classmethod
    def of(cls, trace: Trace) -> Measured:
        """What `trace` measured: the same object for every analysis, for as long as the trace is held."""
        return cls._of.setdefault(trace, cls(trace))

    @property
    def trace(self) -> Trace:
        """The trace itself."""
        trace = self._trace()
        assert trace is not None, "the trace is held by whoever analyzes it"
        return trace

    @cached_property
    def work(self) -> Work:
        table = self.trace.table("launches")
        names = (
            "start_ns",
            "end_ns",
            "device",
            "stream",
            "pid",
            "tid",
            "call_start_ns",
            "call_end_ns",
            "api_call",
            "row",
            "inference",
        )
        work, kind = words(table["work"]), words(self.trace.table("memory_ops", ["kind"])["kind"])
        codes = work.codes.astype(np.int32)
        moves = work.among("copy", "set")
        codes[moves] = len(work.dictionary) + kind.codes[ints(table["row"])[moves]]
        columns = {name.removesuffix("_ns"): ints(table[name]) for name in names}
        return Work(**columns, kind=Words(codes, [*work.dictionary, *kind.dictionary]))

    @cached_property
    def copies(self) -> Copies:
        table = self.trace.table("memory_ops", ["size_bytes", "src_memory", "dst_memory"])
        work = self.work[~self.work.computes]
        table = table.take(pa.array(work.row))
        names = words(self.trace.table("api_calls", ["name"])["name"])
        call = Words(np.append(names.codes, -1)[work.api_call], names.dictionary)
        return Copies(
            work.start,
            work.end,
            work.device,
            work.kind,
            ints(table["size_bytes"]),
            words(table["src_memory"]),
            words(table["dst_memory"]),
            call,
            work.call_start,
            work.call_end,
            work.tid,
            work.inference,
        )

    @cached_property
    def inferences(self) -> int:
        """Inferences that the GPU worked for."""
        table = self.trace.table("inferences", ["kernels", "graphs"])
        return int(((ints(table["kernels"]) + ints(table["graphs"])) > 0).sum())

    @cached_property
    def window(self) -> Intervals:
        """Steady state: the time inside of any inference's window.

        Without inferences, all from the first GPU work to the last. What lies outside (an engine build, a warm-up, a
        pause between runs) is nobody's latency.
        """
        table = self.trace.table("inferences", ["start_ns", "end_ns", "kernels", "graphs"])
        worked = (ints(table["kernels"]) + ints(table["graphs"])) > 0
        if worked.any():
            return Intervals.union(ints(table["start_ns"])[worked], ints(table["end_ns"])[worked])
        if not len(self.work.start):
            return Intervals.union([], [])
        return Intervals.union([self.work.start.min()], [self.work.end.max()])

    @cached_property
    def window_ns(self) -> int:
        """Length of the steady state; at least 1, so that shares of it can be given."""
        return max(self.window.total, 1)

    def steady(self, start: Ints, end: Ints) -> Bools:
        """Which events lie inside of the steady state, in part at least."""
        inside: Bools = self.window.coverage(start, np.maximum(end, start + 1)) > 0
        return inside

    def computing(self, device: int) -> Intervals:
        """Time in which a GPU runs kernels (or whole graphs)."""
        if device not in self._computing:
            mine = self.work.computes & (self.work.device == device)
            self._computing[device] = Intervals.union(self.work.start[mine], self.work.end[mine])
        return self._computing[device]

    def exposed(self, copies: Copies) -> int:
        """Time in which any of `copies` runs while its GPU runs no kernel; nanoseconds, summed over the GPUs."""
        return self.uncovered(copies.device, copies.start, copies.end)

    def uncovered(self, device: Ints, start: Ints, end: Ints) -> int:
        """Time of these stretches, each on a GPU, in which it runs no kernel; nanoseconds, summed over the GPUs.

        Only what lies in the steady state counts.
        """
        return sum(
            Intervals.union(start[here], end[here]).intersection(self.window).subtract(self.computing(int(one))).total
            for one in np.unique(device)
            for here in (device == one,)
        )

    def share(self, total: int, device: Ints) -> float:
        """`total`, summed over the GPUs that `device` names, as a share of the steady state."""
        return total / (self.window_ns * max(len(np.unique(device)), 1))

    @property
    def time(self) -> str:
        """What shares are shares of, in words."""
        return "inference time" if self.inferences else "time between the first and the last GPU work"

    def per_inference(self, total: int) -> int | None:
        """`total` spread over the inferences; None where there are none."""
        return round(total / self.inferences) if self.inferences else None

    @property
    def host_occupied(self) -> int:
        """Time of the steady state in which the busiest thread that launches work does anything but wait; nanoseconds.

        Nothing that changes on the GPU alone makes the whole faster than this thread.
        """
        return max(self.occupied_by_thread.values(), default=0)

    @cached_property
    def occupied_by_thread(self) -> dict[int, int]:
        """The same for each thread that launches work, by `joint_key` of its pid and tid."""
        calls = self.host_calls
        ranges = self.trace.table("inferences", ["range_start_ns", "range_end_ns", "pid", "tid"])
        occupied = {}
        thread = joint_key(self.work.pid, self.work.tid)
        one = not thread.size or bool((thread == thread[0]).all())
        for row in range(min(thread.size, 1)) if one else np.unique(thread, return_index=True)[1].tolist():
            pid, tid = self.work.pid[row], self.work.tid[row]
            mine = calls[(calls.pid == pid) & (calls.tid == tid)]
            its = (ints(ranges["pid"]) == pid) & (ints(ranges["tid"]) == tid)
            inside = Intervals.union(
                np.append(ints(ranges["range_start_ns"])[its], mine.start),
                np.append(ints(ranges["range_end_ns"])[its], mine.end),
            )
            waits = mine[mine.kind == CallKind.SYNC]
            free_of_waits = inside.subtract(Intervals.union(waits.start, waits.end))
            occupied[int(thread[row])] = free_of_waits.intersection(self.window).total
        return occupied

    @cached_property
    def host_calls(self) -> HostCalls:
        table = self.trace.table("api_calls", ["start_ns", "end_ns", "pid", "tid", "name"])
        name = words(table["name"])
        kind = np.append(classify_call(name.dictionary), CallKind.OTHER)[name.codes]
        columns = {column: ints(table[column]) for column in ("pid", "tid")}
        return HostCalls(ints(table["start_ns"]), ints(table["end_ns"]), **columns, name=name, kind=kind)


@dataclass(frozen=True)
class HostCalls:
    """API calls as arrays of shape (n,), in order of start; `kind` is a CallKind."""

    start: Ints
    end: Ints
    pid: Ints
    tid: Ints
    name: Words
    kind: npt.NDArray[np.int8]

    def __getitem__(self, chosen: Bools | Ints) -> HostCalls:
        return HostCalls(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def launches(self) -> Bools:
        """Launches of kernels and graphs, not of copies."""
        chosen: Bools = (self.kind == CallKind.LAUNCH) | (self.kind == CallKind.GRAPH_LAUNCH)
        return chosen
