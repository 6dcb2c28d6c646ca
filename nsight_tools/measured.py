"""A trace's columns as arrays, its steady window and busy time: read when first asked for, once for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nsight_tools.columns import Bools, Ints, code_type, ints, pairs_in, where_both, words
from nsight_tools.timeline.attribution import CallKind, Words, classify_call
from nsight_tools.timeline.intervals import IntArray, Intervals, at_a_time, only_distinct, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.trace import Trace

_T = TypeVar("_T")
SEVERAL = 1.5
"""Inferences under way at a time, on average, from which on what each adds counts, and not how long it takes."""


@dataclass(frozen=True)
class Work:
    """All GPU work as arrays of shape (n,), in order of start; -1 where an inference, thread or call is unknown."""

    start: Ints
    end: Ints
    device: IntArray
    stream: IntArray
    pid: IntArray
    tid: IntArray
    call_start: Ints
    call_end: Ints
    api_call: IntArray
    row: IntArray
    inference: IntArray
    kind: Words
    """kernel, graph, or what `memory_ops` calls it: h2d, d2h, memset, …"""

    def __getitem__(self, chosen: Bools | IntArray | slice) -> Work:
        return Work(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def pieces(self) -> Iterator[Work]:
        """All of it, piece by piece: what is made of a piece lies in the cache, and needs no memory for the whole."""
        for rows in pieces(len(self)):
            yield self[rows]

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
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
    device: IntArray
    kind: Words
    size: Ints
    src: Words
    dst: Words
    call: Words
    call_start: Ints
    call_end: Ints
    tid: IntArray
    inference: IntArray

    def __getitem__(self, chosen: Bools | IntArray) -> Copies:
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
        self._kept: dict[Callable[[Measured], Any], Any] = {}
        self._busy: dict[int, Intervals] = {}
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

    def kept(self, make: Callable[[Measured], _T]) -> _T:
        """What `make` makes of the trace: once, for all who ask for the same."""
        if make not in self._kept:
            self._kept[make] = make(self)
        made: _T = self._kept[make]
        return made

    @cached_property
    def work(self) -> Work:
        times = ("start_ns", "end_ns", "call_start_ns", "call_end_ns")
        others = ("device", "stream", "pid", "tid", "api_call", "row", "inference")
        columns: dict[str, IntArray] = {n.removesuffix("_ns"): self.trace.numbers("launches", n) for n in times}
        columns |= {name: self.ids("launches", name) for name in others}
        work, copied = (
            words(self.trace.table(*of)[of[1][0]]) for of in (("launches", ["work"]), ("memory_ops", ["kind"]))
        )
        dictionary = [*work.dictionary, *copied.dictionary]
        codes = work.codes.astype(code_type(len(dictionary)))
        moves = work.among("copy", "set")
        codes[moves] = len(work.dictionary) + copied.codes[columns["row"][moves]].astype(np.int32)
        return Work(**columns, kind=Words(codes, dictionary))

    def ids(self, table: str, column: str) -> IntArray:
        """A column of what is compared and looked up (GPUs, streams, threads, rows) as int32, nulls as -1; read-only.

        Half the memory of int64, of which the columns of a long trace take the most; one of a single value takes none.
        """
        values: IntArray = self.trace.numbers(table, column, np.int32)
        return (
            np.broadcast_to(values[:1].copy(), values.shape) if values.size and (values == values[0]).all() else values
        )

    @cached_property
    def devices(self) -> tuple[int, ...]:
        """The GPUs that ran anything, in order."""
        return tuple(only_distinct(self.work.device).tolist())

    @cached_property
    def threads(self) -> tuple[tuple[int, int], ...]:
        """Process and thread of those that launched work, in order; the thread is -1 where it is unknown."""
        return tuple(pairs_in(self.work.pid, self.work.tid))

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
    def worked(self) -> Bools:
        """Whether the GPU worked for an inference: it launched a kernel or a graph; shape (inferences,)."""
        table = self.trace.table("inferences", ["kernels", "graphs"])
        worked: Bools = (ints(table["kernels"]) + ints(table["graphs"])) > 0
        return worked

    @property
    def counted(self) -> Bools:
        """Inferences whose times count: those that the GPU worked for; all of them where it worked for none."""
        return self.worked if self.worked.any() else ~self.worked

    @cached_property
    def inferences(self) -> int:
        """Inferences that the GPU worked for."""
        return int(self.worked.sum())

    @cached_property
    def at_a_time(self) -> float:
        """Inferences that the GPU worked for under way at a time, on average while any is; 1 without any."""
        table = self.trace.table("inferences", ["start_ns", "end_ns"])
        return at_a_time(ints(table["start_ns"])[self.worked], ints(table["end_ns"])[self.worked])

    @cached_property
    def window(self) -> Intervals:
        """Steady state: the time inside of any inference's window.

        Without inferences, all from the first GPU work to the last. What lies outside (an engine build, a warm-up, a
        pause between runs) is nobody's latency.
        """
        if self.inferences:
            table = self.trace.table("inferences", ["start_ns", "end_ns"])
            return Intervals.union(ints(table["start_ns"])[self.worked], ints(table["end_ns"])[self.worked])
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

    def busy(self, device: int) -> Intervals:
        """Time in which a GPU runs anything."""
        if self.devices == (device,):
            return self.work.busy()
        if device not in self._busy:
            mine = self.work.device == device
            self._busy[device] = Intervals.union(self.work.start[mine], self.work.end[mine])
        return self._busy[device]

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
            for one in only_distinct(device)
            for here in (device == one,)
        )

    def share(self, total: int, device: Ints) -> float:
        """`total`, summed over the GPUs that `device` names, as a share of the steady state."""
        return total / (self.window_ns * max(len(only_distinct(device)), 1))

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
    def occupied_by_thread(self) -> dict[tuple[int, int], int]:
        """The same for each thread that launches work, by its pid and tid."""
        calls = self.host_calls
        ranges = self.trace.table("inferences", ["range_start_ns", "range_end_ns", "pid", "tid"])
        occupied = {}
        for pid, tid in self.threads:
            rows = where_both(calls.pid, pid, calls.tid, tid)
            start, end, kind = calls.start[rows], calls.end[rows], calls.kind[rows]
            its = (ints(ranges["pid"]) == pid) & (ints(ranges["tid"]) == tid)
            inside = Intervals.union(
                np.append(ints(ranges["range_start_ns"])[its], start),
                np.append(ints(ranges["range_end_ns"])[its], end),
            )
            waits = kind == CallKind.SYNC
            free_of_waits = inside.subtract(Intervals.union(start[waits], end[waits]))
            occupied[pid, tid] = free_of_waits.intersection(self.window).total
        return occupied

    @cached_property
    def host_calls(self) -> HostCalls:
        start, end = (self.trace.numbers("api_calls", column) for column in ("start_ns", "end_ns"))
        name = words(self.trace.table("api_calls", ["name"])["name"])
        kind = np.append(classify_call(name.dictionary), CallKind.OTHER)[name.codes]
        return HostCalls(start, end, self.ids("api_calls", "pid"), self.ids("api_calls", "tid"), name, kind)


@dataclass(frozen=True)
class HostCalls:
    """API calls as arrays of shape (n,), in order of start; `kind` is a CallKind."""

    start: Ints
    end: Ints
    pid: IntArray
    tid: IntArray
    name: Words
    kind: npt.NDArray[np.int8]

    def __getitem__(self, chosen: Bools | IntArray) -> HostCalls:
        return HostCalls(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def launches(self) -> Bools:
        """Launches of kernels and graphs, not of copies."""
        chosen: Bools = (self.kind == CallKind.LAUNCH) | (self.kind == CallKind.GRAPH_LAUNCH)
        return chosen
