"""What is derived from the export's tables at import: nesting of ranges, attribution of GPU work, inferences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools.columns import Ints, ints, words
from nsight_tools.importer import dialects
from nsight_tools.importer.writer import SortedWriter
from nsight_tools.tables import TABLES
from nsight_tools.timeline.attribution import (
    NEVER,
    Calls,
    CallKind,
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
    nesting,
)
from nsight_tools.timeline.inferences import account, assign_work, find_inferences

_FOREVER = np.iinfo(np.int64).max
ENQUEUE_PREFIX = "ExecutionContext::"
"""TensorRT's ranges around a whole enqueue; its other ranges are layers."""


class Nesting:
    """Completes NVTX ranges that come in order: `depth`, `parent`, the end of marks. Keeps only what is still open."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._start, self._end, self._thread, self._row, self._depth = (empty,) * 5
        self._rows = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        kind = words(rows["kind"])
        nested, mark = (kind.where(lambda word, wanted=wanted: word == wanted) for wanted in ("push_pop", "mark"))
        start, thread = ints(rows["start_ns"]), joint_key(ints(rows["pid"]), ints(rows["tid"]))
        end = pc.fill_null(rows["end_ns"], _FOREVER).to_numpy()
        number = self._rows + np.arange(rows.num_rows)
        before = len(self._start)
        all_start = np.concatenate([self._start, start[nested]])
        all_end = np.concatenate([self._end, end[nested]])
        all_thread = np.concatenate([self._thread, thread[nested]])
        all_row = np.concatenate([self._row, number[nested]])
        _, above = nesting(all_start, all_end, all_thread)
        # Depth by the parents' depth: what is open knows its own, which is deeper than it looks once its parents are gone.
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
                "end_ns": pc.if_else(pa.array(mark), rows["start_ns"], rows["end_ns"]),
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
    calls = _load(dataset, "api_calls", ["pid", "correlation_id", "name"])
    names = words(calls["name"])
    kind_of_name = np.array([_sync_word(name, vocabulary) for name in names.dictionary] + [-1], np.int64)
    kind = kind_of_name[names.codes]
    synchronizing = kind >= 0
    pid, correlation, kind = (
        column[synchronizing] for column in (ints(calls["pid"]), ints(calls["correlation_id"]), kind)
    )
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
    names = words(_load(dataset, "api_calls", ["name"])["name"])
    kind = np.append(classify_call(names.dictionary), CallKind.OTHER)[names.codes]
    return int(np.isin(kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH)).sum())


def write_derived(dataset: Path) -> dict[str, int]:
    """Write `launches` and `inferences` from the tables that stand in `dataset`; returns their row counts.

    Memory: about 250 bytes for each kernel, copy, API call and NVTX range.
    """
    call_table = _load(dataset, "api_calls", ["start_ns", "end_ns", "pid", "tid", "correlation_id", "name"])
    names = words(call_table["name"])
    calls = Calls(
        *(ints(call_table[name]) for name in ("start_ns", "end_ns", "pid", "tid")),
        kind=np.append(classify_call(names.dictionary), CallKind.OTHER)[names.codes].astype(np.int8),
    )
    correlation = ints(call_table["correlation_id"])
    del call_table, names
    gpu = _GpuWork(dataset)
    call = match_calls(gpu.pid, gpu.correlation, calls.pid, correlation)
    del correlation, gpu.correlation
    work = Work(gpu.start, gpu.end, gpu.kind, gpu.device, gpu.stream_key, call)
    range_table = _load(
        dataset, "nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "domain", "name", "kind", "parent"]
    )
    ranges = Ranges(
        ints(range_table["start_ns"]),
        ints(range_table["end_ns"], NEVER),
        *(ints(range_table[name]) for name in ("pid", "tid")),
        *(words(range_table[name]) for name in ("domain", "name", "kind")),
    )
    around = _Around(ranges, ints(range_table["parent"]))
    del range_table
    inferences = find_inferences(ranges, calls, work)
    owner = assign_work(inferences, calls, work)
    overhead_table = _load(dataset, "profiler_overhead", ["start_ns", "end_ns", "pid", "tid"])
    overhead = ThreadSpans(*(ints(overhead_table[name]) for name in ("start_ns", "end_ns", "pid", "tid")))
    columns: dict[str, Any] = account(inferences, calls, work, owner, overhead)
    table = TABLES["inferences"]
    with SortedWriter(dataset / "inferences.parquet", table) as writer:
        writer.add(pa.table([_arrow(columns[field.name], field) for field in table.schema], schema=table.schema))
    launched = _write_launches(dataset, gpu, work, calls, around, owner)
    return {"launches": launched, "inferences": writer.rows}


class _GpuWork:
    """Kernels, copies, sets and whole graphs as one set of columns, in order of start."""

    def __init__(self, dataset: Path) -> None:
        columns = ["start_ns", "end_ns", "device", "context", "stream", "pid", "correlation_id"]
        kernels = _load(dataset, "kernels", [*columns, "graph_node_id"])
        copies = _load(dataset, "memory_ops", [*columns, "graph_node_id", "kind"])
        graphs = _load(dataset, "graph_launches", columns)
        parts = (kernels, copies, graphs)

        def joined(name: str) -> Ints:
            return np.concatenate([ints(part[name]) for part in parts])

        copy_words = words(copies["kind"])
        copy_kind = np.append(classify_memory_op(copy_words.dictionary), WorkKind.OTHER_COPY)
        kind = np.concatenate(
            [
                np.full(kernels.num_rows, WorkKind.KERNEL),
                copy_kind[copy_words.codes],
                np.full(graphs.num_rows, WorkKind.GRAPH),
            ]
        ).astype(np.int8)
        row = np.concatenate([np.arange(part.num_rows) for part in parts])
        start, end = joined("start_ns"), joined("end_ns")
        # `work` is one of the columns that order the table: its words' alphabetical order breaks ties as the schema says.
        pid, device, stream = joined("pid"), joined("device"), joined("stream")
        word = np.array([_WORK_WORD.index(_WORK_NAME[WorkKind(k)]) for k in WorkKind], np.int64)[kind]
        order = np.lexsort((row, word, stream, device, pid, end, start))
        self.start, self.end, self.kind, self.row = start[order], end[order], kind[order], row[order]
        self.pid, self.device, self.stream = pid[order], device[order], stream[order]
        self.word = word[order]
        self.stream_key = joint_key(joined("context"), stream)[order]
        self.correlation = joined("correlation_id")[order]
        node = np.concatenate(
            [ints(kernels["graph_node_id"]), ints(copies["graph_node_id"]), np.full(graphs.num_rows, -1)]
        )
        self.node = node[order]


_WORK_NAME = {
    WorkKind.KERNEL: "kernel",
    WorkKind.GRAPH: "graph",
    WorkKind.H2D: "copy",
    WorkKind.D2H: "copy",
    WorkKind.OTHER_COPY: "copy",
    WorkKind.SET: "set",
}
_WORK_WORD = sorted(set(_WORK_NAME.values()))


class _Around:
    """Which push/pop range, and which TensorRT layer, stands around a time on a thread."""

    def __init__(self, ranges: Ranges, parent: Ints) -> None:
        self._names = ranges.name
        nested = ranges.kind.where(lambda kind: kind == "push_pop")
        self._row = np.flatnonzero(nested)
        place = np.full(len(nested) + 1, -1, np.int64)
        place[self._row] = np.arange(len(self._row))
        self._start, self._thread = ranges.start[nested], joint_key(ranges.pid, ranges.tid)[nested]
        self._end = np.where(ranges.end[nested] == NEVER, _FOREVER, ranges.end[nested])
        self._parent = place[parent[nested]]
        tensorrt = ranges.domain.where(lambda domain: domain == "TensorRT")[nested]
        self._tensorrt = np.flatnonzero(tensorrt)

    def range(self, time: Ints, thread: Ints) -> Ints:
        """Row of the innermost range; -1 where none."""
        found = innermost(self._start, self._end, self._thread, self._parent, time, thread)
        return np.where(found >= 0, self._row[found] if self._row.size else -1, -1)

    def layer(self, time: Ints, thread: Ints) -> Ints:
        """Code, in the dictionary of names, of the layer whose range is TensorRT's innermost; -1 where none is."""
        at = self._tensorrt
        start, end, key = self._start[at], self._end[at], self._thread[at]
        found = innermost(start, end, key, nesting(start, end, key)[1], time, thread)
        row = self._row[at[found]] if at.size else np.full(len(found), -1)
        is_layer = self._names.where(lambda name: not name.startswith(ENQUEUE_PREFIX))
        chosen = (found >= 0) & (is_layer[row] if is_layer.size else False)
        return np.where(chosen, self._names.codes[row] if is_layer.size else -1, -1)

    @property
    def names(self) -> pa.Array:
        return pa.array(self._names.dictionary, pa.string())


def _write_launches(dataset: Path, gpu: _GpuWork, work: Work, calls: Calls, around: _Around, owner: Ints) -> int:
    called = work.call >= 0
    call = work.call

    def of_call(column: Ints) -> Ints:
        return column[call] if len(column) else np.full(len(call), -1, np.int64)

    thread = of_call(calls.thread)
    time = of_call(calls.start)
    in_range = np.where(called, around.range(time, thread), -1)
    in_graph = gpu.node >= 0
    layer = np.where(called & ~in_graph, around.layer(time, thread), -1)
    source = np.where(layer >= 0, 0, -1)
    captured = _captured_layer(dataset, gpu, in_graph, around)
    layer, source = np.where(in_graph, captured, layer), np.where(in_graph & (captured >= 0), 1, source)

    def nullable(values: Ints, kind: pa.DataType, there: npt.NDArray[np.bool_]) -> pa.Array:
        return pa.array(values, mask=~there).cast(kind)

    def coded(codes: Ints, dictionary: pa.Array) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), dictionary)

    i32, i64 = pa.int32(), pa.int64()
    columns = {
        "start_ns": pa.array(work.start),
        "end_ns": pa.array(work.end),
        "device": pa.array(work.device).cast(i32),
        "stream": pa.array(gpu.stream).cast(i32),
        "pid": pa.array(gpu.pid).cast(i32),
        "work": coded(gpu.word, pa.array(_WORK_WORD)),
        "row": pa.array(gpu.row),
        "api_call": nullable(call, i64, called),
        "call_start_ns": nullable(time, i64, called),
        "call_end_ns": nullable(of_call(calls.end), i64, called),
        "tid": nullable(of_call(calls.tid), i32, called),
        "nvtx_range": nullable(in_range, i64, in_range >= 0),
        "layer": coded(layer, around.names),
        "layer_source": coded(source, pa.array(["range", "graph_node"])),
        "inference": nullable(owner, i32, owner >= 0),
    }
    with SortedWriter(dataset / "launches.parquet", TABLES["launches"]) as writer:
        table = pa.table(columns, schema=TABLES["launches"].schema)
        for begin in range(0, table.num_rows, 1 << 19):
            writer.add(table.slice(begin, 1 << 19))
    return writer.rows


def _captured_layer(dataset: Path, gpu: _GpuWork, in_graph: npt.NDArray[np.bool_], around: _Around) -> Ints:
    """Layer around the call that captured each piece's graph node; -1 where it is none, or the capture is unknown."""
    layer = np.full(len(gpu.node), -1, np.int64)
    if not in_graph.any():
        return layer
    nodes = _load(dataset, "graph_nodes", ["start_ns", "pid", "tid", "graph_node_id", "original_graph_node_id"])
    start, pid = ints(nodes["start_ns"]), ints(nodes["pid"])
    if not len(start):
        return layer
    at = graph_node_creation(
        pid, start, ints(nodes["graph_node_id"]), ints(nodes["original_graph_node_id"]), gpu.pid, gpu.node
    )
    thread = joint_key(pid, ints(nodes["tid"]))
    return np.where(at >= 0, around.layer(start[at], thread[at]), -1)


def _load(dataset: Path, table: str, columns: list[str]) -> pa.Table:
    path = dataset / f"{table}.parquet"
    if not path.exists():
        return TABLES[table].empty().select(columns)
    repeated = [name for name in columns if pa.types.is_dictionary(TABLES[table].schema.field(name).type)]
    return pq.read_table(path, columns=columns, read_dictionary=repeated).unify_dictionaries()


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
        return pa.array(values.tolist(), pa.string()).dictionary_encode()
    missing = values < 0 if field.nullable and field.name in ("tid", "device") else None
    return pa.array(values, mask=missing).cast(field.type)
