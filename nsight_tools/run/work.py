"""All GPU work of a trace as arrays, and its copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nsight_tools.columns import Bools, Ints, code_type, ints, words
from nsight_tools.timeline.attribution import Words
from nsight_tools.timeline.intervals import IntArray, Intervals, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


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
    """kernel, communication (kernels that only move data between GPUs), graph, or h2d, d2h, memset, … of copies."""

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
        """Kernels that do more than communicate, and whole CUDA graphs where the report traced those."""
        return self.kind.among("kernel", "graph")

    @cached_property
    def communicates(self) -> Bools:
        """Kernels that only move data between GPUs."""
        return self.kind.among("communication")

    @cached_property
    def moves(self) -> Bools:
        """Copies and sets, in the order of `Copies`."""
        moves: Bools = ~(self.computes | self.communicates)
        return moves

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
    stream: IntArray
    kind: Words
    size: Ints
    src: Words
    dst: Words
    call: Words
    does: Words
    """What that call does: copy, blocking_copy, set, graph_launch; null where it is unknown."""
    call_start: Ints
    call_end: Ints
    pid: IntArray
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
        return self.does.among("copy", "set", "graph_launch")

    def rate(self) -> float | None:
        """Bytes per second over their summed durations; None where they took no time."""
        total = int(self.duration.sum())
        return float(self.size.sum()) / total * 1e9 if total else None


def ids(trace: Trace, table: str, column: str) -> IntArray:
    """A column of what is compared and looked up (GPUs, streams, threads, rows) as int32, nulls as -1; read-only.

    Half the memory of int64, of which the columns of a long trace take the most; one of a single value takes none.
    """
    values: IntArray = trace.numbers(table, column, np.int32)
    return np.broadcast_to(values[:1].copy(), values.shape) if values.size and (values == values[0]).all() else values


def read_work(trace: Trace) -> Work:
    """Everything that ran on a GPU, in order of start."""
    times = ("start_ns", "end_ns", "call_start_ns", "call_end_ns")
    others = ("device", "stream", "pid", "tid", "api_call", "row", "inference")
    columns: dict[str, IntArray] = {name.removesuffix("_ns"): trace.numbers("launches", name) for name in times}
    columns |= {name: ids(trace, "launches", name) for name in others}
    work, copied = (words(trace.table(*of)[of[1][0]]) for of in (("launches", ["work"]), ("memory_ops", ["kind"])))
    dictionary = [*work.dictionary, "communication", *copied.dictionary]
    codes = work.codes.astype(code_type(len(dictionary)))
    talks = np.flatnonzero(trace.table("kernels", ["communicates"])["communicates"].to_numpy())
    if talks.size:
        kernels = np.flatnonzero(work.among("kernel"))
        codes[kernels[np.isin(columns["row"][kernels], talks)]] = len(work.dictionary)
    moves = work.among("copy", "set")
    codes[moves] = len(work.dictionary) + 1 + copied.codes[columns["row"][moves]].astype(np.int32)
    return Work(**columns, kind=Words(codes, dictionary))


def read_copies(trace: Trace, work: Work) -> Copies:
    """Copies and sets of `work`."""
    table = trace.table("memory_ops", ["size_bytes", "src_memory", "dst_memory"])
    work = work[work.moves]
    table = table.take(pa.array(work.row))
    calls = trace.table("api_calls", ["name", "does"])
    name, does = (
        Words(np.append(of.codes, -1)[work.api_call], of.dictionary)
        for of in (words(calls[c]) for c in ("name", "does"))
    )
    return Copies(
        work.start,
        work.end,
        work.device,
        work.stream,
        work.kind,
        ints(table["size_bytes"]),
        words(table["src_memory"]),
        words(table["dst_memory"]),
        name,
        does,
        work.call_start,
        work.call_end,
        work.pid,
        work.tid,
        work.inference,
    )
