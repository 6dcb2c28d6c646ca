"""What is derived from the export's tables at import: nesting of ranges, attribution of GPU work, inferences."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.columns import Ints, ints, words
from nsight_tools.cuda_names import CallKind, call_kinds
from nsight_tools.importer import dialects
from nsight_tools.importer.beside import BESIDE_ROWS, beside
from nsight_tools.importer.launches import GpuWork, write_launches
from nsight_tools.importer.stored import column, stored_words, thread_columns
from nsight_tools.importer.writer import SortedWriter
from nsight_tools.tables import TABLES
from nsight_tools.timeline.accelerator import served
from nsight_tools.timeline.accounting import account
from nsight_tools.timeline.attribution import (
    Calls,
    Ranges,
    ThreadSpans,
    Work,
    joint_key,
    match_calls,
    parents,
)
from nsight_tools.timeline.ownership import assign_work, woken
from nsight_tools.timeline.populations import enqueues_of, marks, populations
from nsight_tools.timeline.requests import OURS, NamedRange, find_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from nsight_tools.importer.by_order import Reference
    from nsight_tools.importer.stored import Rows
    from nsight_tools.timeline.accelerator import Served
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.timeline.populations import WorkTokens
    from nsight_tools.timeline.requests import Found

_FOREVER = np.iinfo(np.int64).max


class Nesting:
    """Fills `depth` and `parent` of NVTX ranges that come in order, keeping only the ranges that are still open."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._start, self._end, self._thread, self._row, self._depth = (empty,) * 5
        self._rows = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = _of_the_profiler(rows)
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


def _of_the_profiler(rows: pa.Table) -> pa.Table:
    """NVTX ranges of which those that Nsight Systems makes itself are of a kind of their own, around nothing."""
    own = words(rows["domain"]).among(*dialects.PROFILER_DOMAINS)
    if not own.any():
        return rows
    kind = words(rows["kind"])
    codes = np.where(own, len(kind.dictionary), kind.codes).astype(np.int32)
    told = pa.array([*kind.dictionary, dialects.OF_PROFILER], pa.string())
    return _with(rows, {"kind": pa.DictionaryArray.from_arrays(pa.array(codes), told)})


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
    names = stored_words(dataset, "api_calls", "name")
    kind_of_name = np.array([_sync_word(name, vocabulary) for name in names.dictionary] + [-1], np.int64)
    kind = kind_of_name[names.codes]
    synchronizing = kind >= 0
    pid, correlation = (column(dataset, "api_calls", name)[synchronizing] for name in ("pid", "correlation_id"))
    kind = kind[synchronizing]
    meaning = next(kinds for since, kinds in dialects.SYNC_BY_TYPE if schema >= since)

    def decode(their_pid: Ints, their_correlation: Ints, raw: Ints) -> pa.Array:
        call = match_calls(their_pid, their_correlation, pid, correlation)
        label = np.array([vocabulary.index(meaning.get(int(value), "unknown")) for value in raw], np.int64)
        codes = np.where(call >= 0, kind[call] if kind.size else label, label)
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(vocabulary))

    return decode


def record_times(dataset: Path) -> Callable[[Ints, Ints], pa.Array]:
    """What decodes when events were recorded, by process and correlation id: when the API call in `api_calls` started.

    Null where there is no such call. Nothing is read before it is asked for the first time.
    """

    @cache
    def calls() -> tuple[Ints, Ints]:
        records = stored_words(dataset, "api_calls", "does").among("record")
        pid, correlation, start = (column(dataset, "api_calls", name) for name in ("pid", "correlation_id", "start_ns"))
        records &= correlation >= 0
        key = joint_key(pid[records], correlation[records])
        order = np.argsort(key, kind="stable")  # a runtime call before the driver call in it
        return key[order], start[records][order]

    def decode(their_pid: Ints, their_correlation: Ints) -> pa.Array:
        key, start = calls()
        wanted = joint_key(their_pid, their_correlation)
        if not key.size:
            return pa.nulls(wanted.size, pa.int64())
        at = np.minimum(np.searchsorted(key, wanted), key.size - 1)
        return pa.array(start[at], mask=key[at] != wanted)

    return decode


def _sync_word(name: str, vocabulary: list[str]) -> int:
    return next((vocabulary.index(word) for ending, word in dialects.SYNC_BY_CALL if name.endswith(ending)), -1)


def working_gpus(dataset: Path) -> list[int]:
    """The GPUs of a dataset that ran anything, in order."""
    tables = ("kernels", "memory_ops", "graph_launches")
    return sorted({int(one) for table in tables for one in np.unique(column(dataset, table, "device"))})


def calls_that(dataset: Path, *does: str) -> int:
    """How many API calls of a dataset do one of these."""
    return int(stored_words(dataset, "api_calls", "does").among(*does).sum())


@dataclass(frozen=True)
class Derived:
    """Rows of the derived tables; what the manifest says of layers told by order, and of how requests were found."""

    rows: dict[str, int]
    layers: dict[str, Any] | None
    requests: dict[str, Any]


def write_derived(
    dataset: Path,
    named: NamedRange = OURS,
    references: Sequence[Reference] = (),
    group_by: str | None = None,
    on_dla: Collection[str] = (),
) -> Derived:
    """Write `launches`, `inferences` and `enqueues` from the tables that stand in `dataset`.

    Layers are told by the order of kernels, too, as in `references` (`by_order`). `named` says which NVTX ranges are
    inferences, `group_by` which number in their names tells them apart, `on_dla` the layers that a DLA runs. Raises
    RangeNotFoundError where they were named and there are none.

    Memory: about 200 bytes for each kernel, copy, API call and NVTX range.
    """
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_ranges, dataset)
        said = stored_words(dataset, "api_calls", "does")
        kind = np.append(call_kinds(said.dictionary), CallKind.OTHER).astype(np.int8)[said.codes]
        calls = Calls(*thread_columns(dataset, "api_calls"), kind)
        gpu = GpuWork(dataset, calls)
        work = Work(gpu.start, gpu.end, gpu.kind, gpu.device, gpu.stream_key, gpu.call)
        tokens = gpu.tokens(dataset)
        ranges = reading.result()
    del reading, said
    pa.default_memory_pool().release_unused()
    if named is not OURS and not named.rows(ranges).size:
        raise RangeNotFoundError(named.name, [name for name in ranges.name.counts() if name][:5])
    found = find_requests(ranges, calls, work, tokens.exact, named)
    owner = assign_work(found.requests, calls, work).astype(np.int32)
    overhead = ThreadSpans(*thread_columns(dataset, "profiler_overhead"))
    buckets = partial(_accounted, found, calls, work, owner, overhead, served(on_dla, calls, work, ranges, overhead))
    account_for = partial(_write_requests, dataset, found, buckets, owner, tokens, ranges.name, group_by)
    with beside(account_for, worthwhile=len(owner) >= BESIDE_ROWS) as accounted:
        del tokens
        launched, ordered = write_launches(dataset, gpu, calls, ranges, owner, references)
        rows = {"launches": launched, "inferences": accounted(), "enqueues": len(found.enqueues)}
    about = {"name": found.name, "other": found.other, "alike": found.alike, "group_by": group_by}
    return Derived(rows, ordered, about)


def _ranges(dataset: Path) -> Ranges:
    domain, name, kind = (stored_words(dataset, "nvtx_ranges", column) for column in ("domain", "name", "kind"))
    return Ranges(*thread_columns(dataset, "nvtx_ranges"), domain, name, kind)


def _accounted(
    found: Found, calls: Calls, work: Work, owner: Rows, overhead: ThreadSpans, waits: Served
) -> dict[str, Any]:
    known = woken(found.requests, calls, work, owner)
    return account(found.requests, calls, work, owner, overhead, known, waits)


def _write_requests(
    dataset: Path,
    found: Found,
    buckets: Callable[[], dict[str, Any]],
    owner: Rows,
    tokens: WorkTokens,
    names: Words,
    group_by: str | None,
) -> int:
    """Write `inferences` and `enqueues`; returns the rows of the former."""
    requests, enqueues, of = found.requests, found.enqueues, enqueues_of(found)
    columns = buckets()
    number = populations(found, owner, tokens, names, group_by)
    engine = _first_engine(found, of)
    columns |= {"population": number, "mark": marks(requests.thread, number, engine, columns["wall_ns"])}
    columns["enqueues"] = np.bincount(of[of >= 0], minlength=len(requests))
    _write(
        dataset,
        "enqueues",
        {
            "enqueue": np.arange(len(enqueues)),
            "start_ns": enqueues.start,
            "end_ns": enqueues.end,
            "pid": enqueues.pid,
            "tid": enqueues.tid,
            "inference": of,
            "engine": found.engine,
            "kind": enqueues.source,
        },
    )
    return _write(dataset, "inferences", columns)


def _first_engine(found: Found, of: Ints) -> Ints:
    """The engine of each request's first enqueue, shape (requests,); -1 where it has none."""
    engine = np.full(len(found.requests), -1)
    rows = np.flatnonzero(of >= 0)[::-1]
    engine[of[rows]] = found.engine[rows]  # the earliest is written last
    return engine


def _write(dataset: Path, name: str, columns: dict[str, Any]) -> int:
    table = TABLES[name]
    with SortedWriter(dataset / f"{name}.parquet", table) as writer:
        writer.add(pa.table([_arrow(columns[field.name], field) for field in table.schema], schema=table.schema))
    return writer.rows


class RangeNotFoundError(Exception):
    """No NVTX range has the name that the user gave: that name, and the most frequent ones."""


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
    """One column of a derived table: -1 is null where the schema allows it."""
    if values.dtype.kind == "U":
        return pa.array([word or None for word in values.tolist()], pa.string()).dictionary_encode()
    missing = values < 0 if field.nullable and not field.name.endswith("_ns") else None
    return pa.array(values, mask=missing).cast(field.type)
