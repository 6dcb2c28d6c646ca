"""What is derived from the export's tables at import: nesting of ranges, attribution of GPU work, inferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools.columns import Ints, ints, words
from nsight_tools.importer import dialects
from nsight_tools.importer.sources import CHUNK_ROWS
from nsight_tools.importer.writer import SortedWriter, ordering
from nsight_tools.tables import TABLES
from nsight_tools.timeline.accounting import account
from nsight_tools.timeline.attribution import (
    NEVER,
    CallKind,
    Calls,
    Ranges,
    ThreadSpans,
    Words,
    Work,
    WorkKind,
    classify_call,
    classify_memory_op,
    graph_node_creation,
    innermost,
    joint_key,
    match_calls,
    parents,
)
from nsight_tools.timeline.inferences import OURS, NamedRange, assign_work, find_inferences
from nsight_tools.timeline.intervals import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Rows = npt.NDArray[Any]
"""Integers of any width."""

_FOREVER = np.iinfo(np.int64).max
ENQUEUE_PREFIX = "ExecutionContext::"
"""TensorRT's ranges around a whole enqueue; its other ranges are layers."""


class Nesting:
    """Fills `depth` and `parent` of NVTX ranges that come in order, keeping only the ranges that are still open."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._start, self._end, self._thread, self._row, self._depth = (empty,) * 5
        self._rows = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        kind = words(rows["kind"])
        nested = kind.among("push_pop")
        start, thread = ints(rows["start_ns"]), joint_key(ints(rows["pid"]), ints(rows["tid"]))
        end = pc.fill_null(rows["end_ns"], _FOREVER).to_numpy()
        number = self._rows + np.arange(rows.num_rows)
        before = len(self._start)
        all_start = np.concatenate([self._start, start[nested]])
        all_end = np.concatenate([self._end, end[nested]])
        all_thread = np.concatenate([self._thread, thread[nested]])
        all_row = np.concatenate([self._row, number[nested]])
        above = parents(all_start, all_end, all_thread)
        # By the parents' depth: what is open knows its own, which is deeper than it looks once its parents are gone.
        all_depth = np.concatenate([self._depth, np.zeros(nested.sum(), np.int64)])
        all_depth[before:] = _depths(above, all_depth, before)
        parent = np.where(above[before:] >= 0, all_row[above[before:]], -1)
        self._rows += rows.num_rows
        still = all_end > (start[-1] if len(start) else 0)
        self._start, self._end, self._thread = all_start[still], all_end[still], all_thread[still]
        self._row, self._depth = all_row[still], all_depth[still]
        return _with(
            rows,
            {
                "depth": _scattered(nested, all_depth[before:]),
                "parent": _scattered(nested, parent),
            },
        )


def _depths(above: Ints, depth: Ints, known: int) -> Ints:
    """Depth of the rows from `known` on, by rounds: a row's is settled one round after its parent's."""
    result = depth.copy()
    unsettled = np.arange(known, len(above))
    result[unsettled[above[unsettled] < 0]] = 0
    settled = np.ones(len(above), bool)
    settled[unsettled[above[unsettled] >= 0]] = False
    rest = np.flatnonzero(~settled)
    while rest.size:
        ready = settled[above[rest]]
        now = rest[ready]
        result[now] = result[above[now]] + 1
        settled[now] = True
        rest = rest[~ready]
    return result[known:]


def sync_kinds(dataset: Path, schema: tuple[int, int]) -> Callable[[Ints, Ints, Ints], pa.Array]:
    """What decodes synchronizations: by the name of the API call, read from `api_calls`, else by the export's type."""
    by_call = dict(dialects.SYNC_BY_CALL)
    vocabulary = sorted(
        {*by_call.values(), "unknown"} | {w for _, kinds in dialects.SYNC_BY_TYPE for w in kinds.values()}
    )
    names = _words(dataset, "api_calls", "name")
    kind_of_name = np.array([_sync_word(name, vocabulary) for name in names.dictionary] + [-1], np.int64)
    kind = kind_of_name[names.codes]
    synchronizing = kind >= 0
    pid, correlation = (_column(dataset, "api_calls", name)[synchronizing] for name in ("pid", "correlation_id"))
    kind = kind[synchronizing]
    meaning = next(kinds for since, kinds in dialects.SYNC_BY_TYPE if schema >= since)

    def decode(their_pid: Ints, their_correlation: Ints, raw: Ints) -> pa.Array:
        call = match_calls(their_pid, their_correlation, pid, correlation)
        label = np.array([vocabulary.index(meaning.get(int(value), "unknown")) for value in raw], np.int64)
        codes = np.where(call >= 0, kind[call] if kind.size else label, label)
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(vocabulary))

    return decode


def _sync_word(name: str, vocabulary: list[str]) -> int:
    return next((vocabulary.index(word) for ending, word in dialects.SYNC_BY_CALL if name.endswith(ending)), -1)


def launches_without_kernels(dataset: Path) -> int:
    """Launch calls in a dataset that has no kernel and no graph launch."""
    names = _words(dataset, "api_calls", "name")
    kind = np.append(classify_call(names.dictionary), CallKind.OTHER)[names.codes]
    return int(np.isin(kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH)).sum())


def write_derived(dataset: Path, named: NamedRange = OURS) -> dict[str, int]:
    """Write `launches` and `inferences` from the tables that stand in `dataset`; returns their row counts.

    `named` says which NVTX ranges are inferences. Raises RangeNotFoundError where they were named and there are none.

    Memory: about 200 bytes for each kernel, copy, API call and NVTX range.
    """
    names = _words(dataset, "api_calls", "name")
    kind = np.append(classify_call(names.dictionary), CallKind.OTHER).astype(np.int8)[names.codes]
    calls = Calls(*_thread_columns(dataset, "api_calls"), kind)
    gpu = _GpuWork(dataset, calls)
    work = Work(gpu.start, gpu.end, gpu.kind, gpu.device, gpu.stream_key, gpu.call)
    domain, name, range_kind = (_words(dataset, "nvtx_ranges", column) for column in ("domain", "name", "kind"))
    ranges = Ranges(*_thread_columns(dataset, "nvtx_ranges"), domain, name, range_kind)
    if named is not OURS and not named.rows(ranges).size:
        raise RangeNotFoundError(named.name, [name for name in ranges.name.counts() if name][:5])
    inferences = find_inferences(ranges, calls, work, named)
    owner = assign_work(inferences, calls, work).astype(np.int32)
    launched = _write_launches(dataset, gpu, calls, ranges, owner)
    del ranges
    overhead = ThreadSpans(*_thread_columns(dataset, "profiler_overhead"))
    columns: dict[str, Any] = account(inferences, calls, work, owner, overhead)
    table = TABLES["inferences"]
    with SortedWriter(dataset / "inferences.parquet", table) as writer:
        writer.add(pa.table([_arrow(columns[field.name], field) for field in table.schema], schema=table.schema))
    return {"launches": launched, "inferences": writer.rows}


class RangeNotFoundError(Exception):
    """No NVTX range has the name that the user gave: that name, and the most frequent ones."""


class _GpuWork:
    """Kernels, copies, sets and whole graphs as one set of columns, in the order of `launches`."""

    _tables = ("kernels", "memory_ops", "graph_launches")

    def __init__(self, dataset: Path, calls: Calls) -> None:
        copies = _words(dataset, "memory_ops", "kind")
        copy_kind = np.append(classify_memory_op(copies.dictionary), WorkKind.OTHER_COPY)[copies.codes]
        counts = [_rows(dataset, table) for table in self._tables]
        kernels, _, graphs = counts
        kind = np.concatenate([np.full(kernels, WorkKind.KERNEL), copy_kind, np.full(graphs, WorkKind.GRAPH)])
        # Their alphabetical order is part of the order of the table.
        word = np.array([_WORK_WORD.index(_WORK_NAME[WorkKind(k)]) for k in WorkKind], np.int8)[kind]
        row = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        start = self._joined(dataset, "start_ns")

        def others(tied: Ints) -> list[Ints]:
            joined = (self._joined(dataset, name) for name in ("end_ns", "pid", "device", "stream"))
            return [*(column[tied] for column in joined), word[tied], row[tied]]

        order = ordering(start, others)
        self._order = slice(None) if order is None else order
        self.start, self.kind = start[self._order], kind[self._order].astype(np.int8)
        self.word, self.row = word[self._order], row[self._order]
        names = ("end_ns", "pid", "device", "stream", "context")
        self.end, self.pid, self.device, self.stream, context = (self._joined(dataset, n)[self._order] for n in names)
        one_context = not len(context) or bool((context == context[0]).all())
        self.stream_key = self.stream if one_context else joint_key(context, self.stream)
        correlation = self._joined(dataset, "correlation_id")[self._order]
        of_call = _column(dataset, "api_calls", "correlation_id")
        self.call = match_calls(self.pid, correlation, calls.pid, of_call).astype(np.int32)

    def node_creations(self, dataset: Path) -> tuple[Ints, Ints] | tuple[None, None]:
        """When and on which thread each piece's graph node was captured (NEVER where unknown); None without nodes."""
        there = [_column(dataset, table, "graph_node_id") for table in self._tables[:2]]
        if not any((column >= 0).any() for column in there):
            return None, None
        self.node = np.concatenate([*there, np.full(_rows(dataset, "graph_launches"), -1)])[self._order]
        names = ("pid", "start_ns", "graph_node_id", "original_graph_node_id")
        pid, start, node, original = (_column(dataset, "graph_nodes", name) for name in names)
        at = graph_node_creation(pid, start, node, original, self.pid, self.node)
        thread = np.append(joint_key(pid, _column(dataset, "graph_nodes", "tid")), -1)
        self._order = slice(None)  # not needed any more, and long
        return np.append(start, NEVER)[at], thread[at]

    def _joined(self, dataset: Path, name: str) -> Ints:
        return np.concatenate([_column(dataset, table, name) for table in self._tables])


_WORK_NAME = {
    WorkKind.KERNEL: "kernel",
    WorkKind.GRAPH: "graph",
    WorkKind.H2D: "copy",
    WorkKind.D2H: "copy",
    WorkKind.OTHER_COPY: "copy",
    WorkKind.SET: "set",
}
_WORK_WORD = sorted(set(_WORK_NAME.values()))


def _write_launches(dataset: Path, gpu: _GpuWork, calls: Calls, ranges: Ranges, owner: Rows) -> int:
    around = _Around(ranges)
    created, node_thread = gpu.node_creations(dataset)
    schema = TABLES["launches"].schema
    with SortedWriter(dataset / "launches.parquet", TABLES["launches"]) as writer:
        for begin in range(0, len(owner), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            call = gpu.call[rows]
            time, tid = _of_call(calls.start, call), _of_call(calls.tid, call)
            in_range, layer = around.look_up(time, joint_key(gpu.pid[rows], tid), call >= 0)
            in_graph = np.zeros(len(call), bool)
            if created is not None and node_thread is not None:
                in_graph = gpu.node[rows] >= 0
                _, captured = around.look_up(created[rows], node_thread[rows], created[rows] != NEVER)
                layer = np.where(in_graph, captured, layer)
            columns = {
                "start_ns": gpu.start[rows],
                "end_ns": gpu.end[rows],
                "device": gpu.device[rows],
                "stream": gpu.stream[rows],
                "pid": gpu.pid[rows],
                "work": _coded(gpu.word[rows], pa.array(_WORK_WORD)),
                "row": gpu.row[rows],
                "api_call": pa.array(call, mask=call < 0),
                "call_start_ns": pa.array(time, mask=call < 0),
                "call_end_ns": pa.array(_of_call(calls.end, call), mask=call < 0),
                "tid": pa.array(tid, mask=call < 0),
                "nvtx_range": pa.array(in_range, mask=in_range < 0),
                "layer": _coded(layer, around.names),
                "layer_source": _coded(np.where(layer < 0, -1, in_graph), pa.array(["range", "graph_node"])),
                "inference": pa.array(owner[rows], mask=owner[rows] < 0),
            }
            writer.add(pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], names=schema.names))
    return writer.rows


class _Around:
    """Which push/pop range, and which TensorRT layer, stands around a time on a thread.

    Asked for some thousands of times that lie close together, it looks only at the ranges that are open about then.
    """

    def __init__(self, ranges: Ranges) -> None:
        nested = np.flatnonzero(ranges.kind.among("push_pop"))
        self._ranges = ranges
        never = ranges.end[nested] == NEVER
        self._open_ended, ended = nested[never], nested[~never]
        self._ended = Timeline.of(ended, ranges.start, ranges.end)
        self._tensorrt = ranges.domain.among("TensorRT")
        is_layer = ranges.name.where(lambda name: not name.startswith(ENQUEUE_PREFIX))
        self._layer = np.append(np.where(is_layer, ranges.name.codes, -1), -1).astype(np.int32)
        self.names = pa.array(ranges.name.dictionary, pa.string())

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
        found = innermost(start, end, key, parents(start, end, key), time, thread)
        return np.append(rows, -1)[found]


def _of_call(column: Rows, call: Rows) -> Rows:
    """The calls' values for pieces of work; of no meaning where `call` is -1."""
    return column[call] if len(column) else np.full(len(call), -1)


def _coded(codes: Rows, dictionary: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), dictionary)


def _file(dataset: Path, table: str, words: list[str] | None = None) -> pq.ParquetFile | None:
    path = dataset / f"{table}.parquet"
    return pq.ParquetFile(path, read_dictionary=words) if path.exists() else None


def _rows(dataset: Path, table: str) -> int:
    file = _file(dataset, table)
    return file.metadata.num_rows if file else 0


def _column(dataset: Path, table: str, name: str, null: int = -1) -> npt.NDArray[Any]:
    """One column of integers in its own width, nulls as `null`; nothing else of the table is held."""
    file = _file(dataset, table)
    if file is None:
        return np.zeros(0, TABLES[table].schema.field(name).type.to_pandas_dtype())
    column = file.read([name]).column(0)
    values: npt.NDArray[Any] = (pc.fill_null(column, null) if column.null_count else column).to_numpy()
    return values


def _thread_columns(dataset: Path, table: str) -> tuple[Rows, Rows, Rows, Rows]:
    """Start, end (NEVER for null), pid and tid of events on threads."""
    start, pid, tid = (_column(dataset, table, name) for name in ("start_ns", "pid", "tid"))
    return start, _column(dataset, table, "end_ns", NEVER), pid, tid


def _words(dataset: Path, table: str, name: str) -> Words:
    file = _file(dataset, table, [name])
    if file is None:
        return Words(np.zeros(0, np.int8), [])
    column = words(file.read([name]).column(0))
    return Words(column.codes.astype(np.min_scalar_type(-len(column.dictionary) - 1)), column.dictionary)


def _scattered(where: npt.NDArray[np.bool_], values: Ints) -> pa.Array:
    full = np.full(len(where), -1, np.int64)
    full[where] = values
    return pa.array(full, mask=full < 0)


def _with(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values.cast(rows.schema.field(at).type))
    return rows


def _arrow(values: npt.NDArray[Any], field: pa.Field) -> pa.Array:
    """One column of `inferences`: -1 is null where the schema allows it."""
    if values.dtype.kind == "U":
        return pa.array([word or None for word in values.tolist()], pa.string()).dictionary_encode()
    missing = values < 0 if field.nullable and field.name in ("tid", "device") else None
    return pa.array(values, mask=missing).cast(field.type)
