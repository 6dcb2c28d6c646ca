"""The table `launches`: each piece of GPU work with the call, range, layer and inference that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsight_tools.importer.alignment import AlignedLayers, Kernels, Reference, align_layers
from nsight_tools.importer.exports.reading import CHUNK_ROWS
from nsight_tools.importer.stored_columns import joined
from nsight_tools.importer.writer import SortedWriter, ordering
from nsight_tools.tables import TABLES
from nsight_tools.timeline.attribution import (
    NEVER,
    Calls,
    Ranges,
    WorkKind,
    classify_memory_op,
    graph_node_creation,
    innermost,
    joint_key,
    match_calls,
    parents,
)
from nsight_tools.timeline.intervals import Timeline
from nsight_tools.timeline.populations import WorkTokens, hashed
from nsight_tools.timeline.requests import ENQUEUE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.importer.stored_columns import Rows, StoredTables

_FOREVER = np.iinfo(np.int64).max


class GpuWork:
    """Kernels, copies, sets and whole graphs as one set of columns, in the order of `launches`."""

    _tables = ("kernels", "memory_ops", "graph_launches")
    node: Ints | None = None
    """The graph node that each ran as, -1 where none; None where none did."""

    def __init__(self, tables: StoredTables, calls: Calls) -> None:
        copies = tables.words("memory_ops", "kind")
        copy_kind = np.append(classify_memory_op(copies.dictionary), WorkKind.OTHER_COPY)[copies.codes]
        counts = [tables.rows(table) for table in self._tables]
        graphs = counts[-1]
        talks = tables.column("kernels", "communicates")
        of_kernels = np.where(talks, np.int8(WorkKind.COMMUNICATION), np.int8(WorkKind.KERNEL))
        of_graphs = np.full(graphs, WorkKind.GRAPH, np.int8)
        kind = np.concatenate([of_kernels, copy_kind.astype(np.int8), of_graphs])
        # Their alphabetical order is part of the order of the table.
        word = np.array([_WORK_WORD.index(_WORK_NAME[WorkKind(k)]) for k in WorkKind], np.int8)[kind]
        row = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        start = self._joined(tables, "start_ns", None)

        def others(tied: Ints) -> list[Ints]:
            columns = (self._joined(tables, name, None) for name in ("end_ns", "pid", "device", "stream"))
            return [*(column[tied] for column in columns), word[tied], row[tied]]

        order = ordering(start, others)
        self._order = None if order is None else order.astype(np.int32)
        self.start, self.kind, self.word, self.row = (
            joined([column], self._order) for column in (start, kind, word, row)
        )
        del start
        names = ("end_ns", "pid", "device", "stream", "context")
        self.end, self.pid, self.device, self.stream, context = (self._joined(tables, n, self._order) for n in names)
        one_context = not len(context) or bool((context == context[0]).all())
        self.stream_key = self.stream if one_context else joint_key(context, self.stream)
        correlation = self._joined(tables, "correlation_id", self._order)
        of_call = tables.column("api_calls", "correlation_id")
        self.call = match_calls(self.pid, correlation, calls.pid, of_call).astype(np.int32)

    def node_creations(self, tables: StoredTables) -> tuple[Ints, Ints] | tuple[None, None]:
        """When and on which thread each piece's graph node was captured (NEVER where unknown); None without nodes."""
        nodes = [tables.column(table, "graph_node_id") for table in self._tables[:2]]
        if any((column >= 0).any() for column in nodes):
            self.node = joined([*nodes, np.full(tables.rows("graph_launches"), -1)], self._order)
        self._order = None  # not needed any more, and long
        if self.node is None:
            return None, None
        names = ("pid", "start_ns", "graph_node_id", "original_graph_node_id")
        pid, start, node, original = (tables.column("graph_nodes", name) for name in names)
        at = graph_node_creation(pid, start, node, original, self.pid, self.node)
        thread = np.append(joint_key(pid, tables.column("graph_nodes", "tid")), -1)
        return np.append(start, NEVER)[at], thread[at]

    def tokens(self, tables: StoredTables) -> WorkTokens:
        """What each piece does, as numbers: equal ones do the same."""
        name = tables.words("kernels", "name").codes
        grid = [tables.column("kernels", f"grid_{axis}") for axis in "xyz"]
        kind, size = tables.words("memory_ops", "kind").codes, tables.column("memory_ops", "size_bytes")
        graph = tables.column("graph_launches", "graph_id")
        return WorkTokens(
            self.kind,
            self.row,
            (hashed(name, *grid), hashed(name)),
            (hashed(kind, size), hashed(kind)),
            (hashed(graph), hashed(np.zeros_like(graph))),
        )

    def _joined(self, tables: StoredTables, name: str, order: Rows | None) -> Ints:
        return joined([tables.column(table, name) for table in self._tables], order)


_WORK_NAME = {
    WorkKind.KERNEL: "kernel",
    WorkKind.GRAPH: "graph",
    WorkKind.COMMUNICATION: "kernel",
    WorkKind.H2D: "copy",
    WorkKind.D2H: "copy",
    WorkKind.OTHER_COPY: "copy",
    WorkKind.SET: "set",
}
_WORK_WORD = sorted(set(_WORK_NAME.values()))


def write_launches(
    tables: StoredTables, gpu: GpuWork, calls: Calls, ranges: Ranges, owner: Rows, references: Sequence[Reference]
) -> tuple[int, dict[str, Any] | None]:
    """Write the table; returns its rows, and what the manifest says of layers told by order (None where none are).

    `owner` is the inference of each piece of `gpu`, -1 where none.
    """
    around = _Around(ranges)
    in_range, layer = _surroundings(tables, gpu, calls, around)
    names, source = around.names, np.full(len(layer), _RANGE, np.int8)
    if gpu.node is not None:
        source[gpu.node >= 0] = _GRAPH_NODE
    ordered = _layers_by_order(tables, gpu, owner, layer, names, references)
    if ordered is not None:
        rows, aligned = ordered
        source[rows[layer[rows] < 0]] = _ORDER
        layer[rows], names = aligned.layer, aligned.names
    source[layer < 0] = -1
    words_of_layers = pa.array(names, pa.string())
    schema = TABLES["launches"].schema
    with SortedWriter(tables.dataset / "launches.parquet", TABLES["launches"]) as writer:
        for begin in range(0, len(owner), CHUNK_ROWS):
            rows_here = slice(begin, begin + CHUNK_ROWS)
            call = gpu.call[rows_here]
            columns = {
                "start_ns": gpu.start[rows_here],
                "end_ns": gpu.end[rows_here],
                "device": gpu.device[rows_here],
                "stream": gpu.stream[rows_here],
                "pid": gpu.pid[rows_here],
                "work": _coded(gpu.word[rows_here], pa.array(_WORK_WORD)),
                "row": gpu.row[rows_here],
                "api_call": pa.array(call, mask=call < 0),
                "call_start_ns": pa.array(_of_call(calls.start, call), mask=call < 0),
                "call_end_ns": pa.array(_of_call(calls.end, call), mask=call < 0),
                "tid": pa.array(_of_call(calls.tid, call), mask=call < 0),
                "nvtx_range": pa.array(in_range[rows_here], mask=in_range[rows_here] < 0),
                "layer": _coded(layer[rows_here], words_of_layers),
                "layer_source": _coded(source[rows_here], pa.array(_SOURCES)),
                "inference": pa.array(owner[rows_here], mask=owner[rows_here] < 0),
            }
            writer.add(pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], names=schema.names))
    return writer.rows, ordered[1].about if ordered else None


_SOURCES = ("range", "graph_node", "order")
_RANGE, _GRAPH_NODE, _ORDER = range(3)


def _surroundings(tables: StoredTables, gpu: GpuWork, calls: Calls, around: _Around) -> tuple[Rows, Rows]:
    """Row of the innermost range around each piece's call, and code of the layer around that or its node's capture."""
    created, node_thread = gpu.node_creations(tables)
    in_range, layer = np.full((2, len(gpu.call)), -1, np.int32)
    for begin in range(0, len(gpu.call), CHUNK_ROWS):
        rows = slice(begin, begin + CHUNK_ROWS)
        call = gpu.call[rows]
        thread = joint_key(gpu.pid[rows], _of_call(calls.tid, call))
        in_range[rows], layer[rows] = around.look_up(_of_call(calls.start, call), thread, call >= 0)
        if gpu.node is not None and created is not None and node_thread is not None:
            _, captured = around.look_up(created[rows], node_thread[rows], created[rows] != NEVER)
            layer[rows] = np.where(gpu.node[rows] >= 0, captured, layer[rows])
    return in_range, layer


def _layers_by_order(
    tables: StoredTables, gpu: GpuWork, owner: Rows, layer: Rows, names: list[str], references: Sequence[Reference]
) -> tuple[Rows, AlignedLayers] | None:
    """Rows of the inferences' kernels, and their layers where some are told by their order; None where none can be."""
    rows = np.flatnonzero((gpu.kind == WorkKind.KERNEL) & (owner >= 0))
    some = layer[rows] >= 0
    if some.all() or not (some.any() or references):
        return None
    kernels = Kernels(
        owner[rows],
        gpu.call[rows],
        gpu.node[rows] if gpu.node is not None else np.zeros(rows.size, np.int8),
        gpu.start[rows],
        tables.words("kernels", "name")[gpu.row[rows]],
        layer[rows],
    )
    aligned = align_layers(kernels, names, references)
    return None if aligned is None else (rows, aligned)


class _Around:
    """Which push/pop range, and which TensorRT layer, stands around a time on a thread.

    Asked for some thousands of times that lie close together, it looks only at the ranges that are open about then.
    """

    def __init__(self, ranges: Ranges) -> None:
        nested = np.flatnonzero(ranges.kind.among("push_pop")).astype(np.int32)
        self._ranges = ranges
        never = ranges.end[nested] == NEVER
        self._open_ended, ended = nested[never], nested[~never]
        self._ended = Timeline.of(ended, ranges.start, ranges.end)
        self._tensorrt = ranges.domain.among("TensorRT")
        is_layer = ranges.name.where(lambda name: not name.startswith(ENQUEUE_PREFIX))
        none = ranges.name.codes.dtype.type(-1)
        self._layer = np.append(np.where(is_layer, ranges.name.codes, none), none)
        self.names = list(ranges.name.dictionary)

    def look_up(self, time: Ints, thread: Ints, wanted: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
        """Row of the innermost range around each time on its thread, and code of the layer there.

        The code is an index of `names`, and the layer the one whose range is TensorRT's innermost. Each is -1 where
        there is none, or where it is not wanted.
        """
        row, layer = np.full(len(time), -1, np.int64), np.full(len(time), -1, np.int32)
        if wanted.any():
            time, thread = time[wanted], thread[wanted]
            near = self._ended.within(int(time.min()), int(time.max()) + 1)
            near = np.concatenate([near, self._open_ended])
            row[wanted] = self._innermost(near, time, thread)
            layer[wanted] = self._layer[self._innermost(near[self._tensorrt[near]], time, thread)]
        return row, layer

    def _innermost(self, rows: Rows, time: Ints, thread: Ints) -> Ints:
        ranges = self._ranges
        rows = np.sort(rows)
        start, end, key = ranges.start[rows], ranges.end[rows], joint_key(ranges.pid[rows], ranges.tid[rows])
        end = np.where(end == NEVER, _FOREVER, end)
        at = innermost(start, end, key, parents(start, end, key), time, thread)
        return np.append(rows, -1)[at]


def _of_call(column: Rows, call: Rows) -> Rows:
    """The calls' values for pieces of work; of no meaning where `call` is -1."""
    return column[call] if len(column) else np.full(len(call), -1)


def _coded(codes: Rows, dictionary: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), dictionary)
