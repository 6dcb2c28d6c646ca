"""What is derived from the export's tables at import: nesting of ranges, attribution of GPU work, inferences."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nsight_tools.cuda_names import CallKind, call_kinds
from nsight_tools.importer.forking import FORK_ROWS, forked
from nsight_tools.importer.launches import GpuWork, write_launches
from nsight_tools.importer.stored_columns import StoredTables
from nsight_tools.importer.writer import SortedWriter
from nsight_tools.tables import TABLES
from nsight_tools.timeline.accelerator import served
from nsight_tools.timeline.accounting import account
from nsight_tools.timeline.attribution import (
    Calls,
    Ranges,
    ThreadSpans,
    Work,
)
from nsight_tools.timeline.ownership import assign_work, woken
from nsight_tools.timeline.populations import enqueues_of, marks, populations
from nsight_tools.timeline.requests import OURS, NamedRange, find_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from nsight_tools.columns import Ints
    from nsight_tools.importer.alignment import Reference
    from nsight_tools.importer.stored_columns import Rows
    from nsight_tools.timeline.accelerator import Served
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.timeline.populations import WorkTokens
    from nsight_tools.timeline.requests import Found

_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Attributed:
    """Rows of the derived tables; what the manifest says of layers told by order, and of how requests were found."""

    rows: dict[str, int]
    layers: dict[str, Any] | None
    requests: dict[str, Any]


def write_inferences(
    dataset: Path,
    named: NamedRange = OURS,
    references: Sequence[Reference] = (),
    group_by: str | None = None,
    on_dla: Collection[str] = (),
) -> Attributed:
    """Write `launches`, `inferences` and `enqueues` from the tables that stand in `dataset`.

    Layers are told by the order of kernels, too, as in `references` (`alignment`). `named` says which NVTX ranges are
    inferences, `group_by` which number in their names tells them apart, `on_dla` the layers that a DLA runs. Raises
    RangeNotFoundError where they were named and there are none.

    Memory: about 200 bytes for each kernel, copy, API call and NVTX range.
    """
    tables = StoredTables(dataset)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_ranges, tables)
        does = tables.words("api_calls", "does")
        kind = np.append(call_kinds(does.dictionary), CallKind.OTHER).astype(np.int8)[does.codes]
        calls = Calls(*tables.on_threads("api_calls"), kind)
        gpu = GpuWork(tables, calls)
        work = Work(gpu.start, gpu.end, gpu.kind, gpu.device, gpu.stream_key, gpu.call)
        tokens = gpu.tokens(tables)
        ranges = reading.result()
    del reading, does
    pa.default_memory_pool().release_unused()
    if named is not OURS and not named.rows(ranges).size:
        raise RangeNotFoundError(named.name, [name for name in ranges.name.counts() if name][:5])
    found = find_requests(ranges, calls, work, tokens.exact, named)
    owner = assign_work(found.requests, calls, work).astype(np.int32)
    overhead = ThreadSpans(*tables.on_threads("profiler_overhead"))
    buckets = partial(_accounted, found, calls, work, owner, overhead, served(on_dla, calls, work, ranges, overhead))
    account_for = partial(_write_requests, dataset, found, buckets, owner, tokens, ranges.name, group_by)
    with forked(account_for, worthwhile=len(owner) >= FORK_ROWS) as accounted:
        del tokens
        launched, ordered = write_launches(tables, gpu, calls, ranges, owner, references)
        rows = {"launches": launched, "inferences": accounted(), "enqueues": len(found.enqueues)}
    about = {"name": found.name, "other": found.other, "alike": found.alike, "group_by": group_by}
    return Attributed(rows, ordered, about)


def _ranges(tables: StoredTables) -> Ranges:
    domain, name, kind = (tables.words("nvtx_ranges", column) for column in ("domain", "name", "kind"))
    return Ranges(*tables.on_threads("nvtx_ranges"), domain, name, kind)


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


def _arrow(values: npt.NDArray[Any], field: pa.Field) -> pa.Array:
    """One column of a derived table: -1 is null where the schema allows it."""
    if values.dtype.kind == "U":
        return pa.array([word or None for word in values.tolist()], pa.string()).dictionary_encode()
    missing = values < 0 if field.nullable and not field.name.endswith("_ns") else None
    return pa.array(values, mask=missing).cast(field.type)
