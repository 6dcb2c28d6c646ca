"""The short tables of an export: GPUs, streams, threads, and the environment, where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.importer import dialects
from nsight_tools.importer.exports.reading import Export, read
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from nsight_tools.importer.decode import Decoder


def gpus(export: Export) -> pa.Table:
    """`gpus`, in order of their numbers."""
    rows, others = (read(export, listing).to_pylist() for listing in dialects.GPUS)
    more = {row["device"]: row for row in others}
    for row in rows:
        row.update({k: v for k, v in more.get(row["device"], {}).items() if row.get(k) is None})
        discrete = row.pop("discrete")
        row["integrated"] = None if discrete is None else not discrete
        clock = row.pop("max_sm_clock_hz")
        row["max_sm_clock_mhz"] = None if clock is None else clock / 1e6
    known = {row["device"]: row for row in rows if row["device"] is not None}
    return pa.Table.from_pylist([known[device] for device in sorted(known)], TABLES["gpus"].schema)


def streams(export: Export, decoder: Decoder) -> pa.Table:
    """`streams`: those that were created, with each context's NULL stream named as such."""
    kinds = decoder.enumeration(dialects.STREAM_KINDS)
    word = {number: kind for kind, (_, fallback) in dialects.STREAM_KIND.items() for number in fallback}
    word |= {kinds[name]: kind for kind, (name, _) in dialects.STREAM_KIND.items() if name in kinds}
    by_key = {
        (row["pid"], row["context"], row["stream"]): {**row, "kind": word.get(row["flag"], "unknown")}
        for row in read(export, dialects.STREAMS).to_pylist()
    }
    for listing in dialects.NULL_STREAMS:
        for row in read(export, listing).to_pylist():
            key = (row["pid"], row["context"], row["stream"])
            by_key[key] = {"priority": None, **by_key.get(key, {}), **row, "kind": "legacy_default"}
    usable = [row for key, row in sorted(by_key.items(), key=lambda item: tuple(map(str, item[0]))) if None not in key]
    rows = [{k: _int32(v) if isinstance(v, int) else v for k, v in row.items() if k != "flag"} for row in usable]
    return pa.Table.from_pylist(rows, TABLES["streams"].schema)


def _int32(value: int) -> int:
    return int(np.int64(value).astype(np.int32))


def threads(export: Export, decoder: Decoder) -> pa.Table:
    """`threads`: names of threads and of the processes that they belong to."""
    processes = read(export, dialects.PROCESSES).to_pylist()
    process = {(row["process"] or 0) >> 24 & 0xFFFFFF: row["name"] for row in processes}
    rows = read(export, dialects.THREADS)
    if not rows.num_rows:
        return TABLES["threads"].empty()
    names = decoder.strings(pc.fill_null(rows["name"], -1).to_numpy()).to_pylist()
    name_of: dict[tuple[int, int], str] = {}
    for name, thread in zip(names, rows["thread"].to_pylist(), strict=True):
        if thread is not None:
            name_of.setdefault((thread >> 24 & 0xFFFFFF, thread & 0xFFFFFF), name)
    table = [
        {"pid": pid, "tid": tid, "name": name, "process": process.get(pid)}
        for (pid, tid), name in sorted(name_of.items())
    ]
    return pa.Table.from_pylist(table, TABLES["threads"].schema)


def environment(export: Export, decoder: Decoder) -> pa.Table:
    """`environment`: everything that was left out of the rest for the user's privacy."""
    rows: list[dict[str, Any]] = []
    for listing in dialects.ENVIRONMENT:
        by_id = bool(listing.integers)
        for row in read(export, listing).to_pylist():
            if by_id:
                row = {k: None if v is None else decoder.strings(np.array([v]))[0].as_py() for k, v in row.items()}  # noqa: PLW2901
            rows.append({"source": listing.table, **row})
    return pa.Table.from_pylist(rows, TABLES["environment"].schema)
