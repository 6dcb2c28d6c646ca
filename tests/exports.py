"""Small exports as Nsight Systems writes them: a test names what its case is about, and the rest is filled in.

    path = write_sqlite(tmp_path / "a.sqlite", kernel(1000, 2000, correlationId=7), call(0, 500, correlationId=7))

Each row is (table, values by column). Text in a column that refers to StringIds becomes an entry there. Where a row
leaves a column out, it is null; a table has the columns of 2025.3, and those of its rows besides.
"""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

Row = tuple[str, dict[str, Any]]

PID, TID = 1000, 1001
MACHINE = 1 << 48
"""The upper bits of a global id: the machine that the process ran on."""

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
MEMCPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
MEMSET = "CUPTI_ACTIVITY_KIND_MEMSET"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
SYNC = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
EVENT = "CUPTI_ACTIVITY_KIND_CUDA_EVENT"
GRAPH = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
NVTX = "NVTX_EVENTS"
PUSH_POP, START_END, MARK, DOMAIN = 59, 60, 34, 75

_GPU = "start end deviceId contextId greenContextId streamId correlationId globalPid "
COLUMNS: dict[str, str] = {
    "StringIds": "id value",
    KERNEL: _GPU + "demangledName shortName mangledName launchType cacheConfig registersPerThread gridX gridY gridZ "
    "blockX blockY blockZ staticSharedMemory dynamicSharedMemory localMemoryPerThread localMemoryTotal gridId "
    "sharedMemoryExecuted graphNodeId sharedMemoryLimitConfig",
    MEMCPY: _GPU + "bytes copyKind deprecatedSrcId srcKind dstKind srcDeviceId srcContextId dstDeviceId dstContextId "
    "migrationCause graphNodeId virtualAddress copyCount",
    MEMSET: _GPU + "value bytes graphNodeId memKind",
    SYNC: _GPU + "deprecatedSyncType syncType eventId eventSyncId",
    EVENT: "deviceId contextId greenContextId streamId correlationId globalPid eventId eventSyncId",
    GRAPH: _GPU + "graphId graphExecId",
    RUNTIME: "start end eventClass globalTid correlationId nameId returnValue callchainId",
    NVTX: "start end eventType rangeId category color text globalTid endGlobalTid textId domainId uint64Value "
    "int64Value doubleValue uint32Value int32Value floatValue jsonTextId jsonText binaryData",
    "CUDA_GRAPH_NODE_EVENTS": "start end eventClass globalTid nameId graphNodeId originalGraphNodeId",
    "OSRT_API": "start end eventClass globalTid nameId returnValue nestingLevel callchainId",
    "PROFILER_OVERHEAD": "start end globalTid nameId returnValue",
    "DIAGNOSTIC_EVENT": "timestamp timestampType source severity text globalPid",
    "PROCESSES": "globalPid pid name",
    "ThreadNames": "nameId priority globalTid",
    "ProcessStreams": "globalPid filenameId contentId",
    "TARGET_INFO_CUDA_DEVICE": "gpuId cudaId pid",
    "TARGET_INFO_CUDA_CONTEXT_INFO": "nullStreamId hwId vmId processId deviceId contextId parentContextId "
    "isGreenContext",
    "TARGET_INFO_CUDA_NULL_STREAM": "streamId hwId vmId processId deviceId contextId",
    "TARGET_INFO_CUDA_STREAM": "streamId hwId vmId processId contextId priority flag",
    "TARGET_INFO_GPU_METRICS": "typeId sourceId typeName metricId metricName",
    "GPU_METRICS": "rawTimestamp timestamp typeId metricId value",
    "GENERIC_EVENTS": "genericEventId rawTimestamp timestamp typeId globalTid data",
    "GENERIC_EVENT_DATA": "genericEventId fieldIdx intVal uintVal floatVal doubleVal",
    "GENERIC_EVENT_TYPE_FIELDS": "typeId fieldIdx fieldNameId offset size type",
    "META_DATA_EXPORT": "name value",
    "EXPORT_META_DATA": "name value",
    "META_DATA_CAPTURE": "name value",
    "TARGET_INFO_SYSTEM_ENV": "globalVid devStateName name nameEnum value",
}
_REFERS = {"demangledName", "shortName", "mangledName", "nameId", "textId", "jsonTextId", "fieldNameId", "filenameId"}
_REFERS |= {"contentId"}
_REAL = {"doubleValue", "floatValue", "floatVal", "doubleVal"}
_TEXT = {"value", "name", "text", "jsonText", "data", "busLocation", "chipName", "metricName", "label", "binaryData"}
_TEXT |= {"devStateName", "typeName", "tensorSizeMinusOneElements"}
_UNSIGNED = {"globalTid", "globalPid", "endGlobalTid", "globalVid"}


def process(pid: int = PID, machine: int = MACHINE) -> int:
    """A process' global id."""
    return machine | pid << 24


def thread(tid: int = TID, pid: int = PID, machine: int = MACHINE) -> int:
    """A thread's global id."""
    return process(pid, machine) | tid


def kernel(start: int, end: int, name: str | bytes = "void gemm<float>()", **values: Any) -> Row:
    dimensions = {f"{what}{axis}": 1 for what in ("grid", "block") for axis in "XYZ"}
    memory = {"staticSharedMemory": 0, "dynamicSharedMemory": 0, "localMemoryPerThread": 0, "registersPerThread": 32}
    names = {"demangledName": name, "shortName": name}
    return KERNEL, _gpu(start, end) | dimensions | memory | names | values


def copy(start: int, end: int, **values: Any) -> Row:
    """A host-to-device copy from pinned memory, by the numbers of 2025.3."""
    return MEMCPY, _gpu(start, end) | {"bytes": 1_000_000, "copyKind": 1, "srcKind": 1, "dstKind": 2} | values


def call(start: int, end: int, name: str = "cudaLaunchKernel_v7000", **values: Any) -> Row:
    return RUNTIME, {"start": start, "end": end, "globalTid": thread(), "nameId": name, "returnValue": 0} | values


def nvtx(start: int, end: int | None, name: str | bytes | None = "range", **values: Any) -> Row:
    row = {"start": start, "end": end, "eventType": PUSH_POP, "globalTid": thread(), "textId": name, "domainId": 0}
    return NVTX, row | values


def domain(number: int, name: str, **values: Any) -> Row:
    """The event that creates an NVTX domain, before the collection began."""
    row = {"start": -5000, "eventType": DOMAIN, "globalTid": thread(), "text": name, "domainId": number}
    return NVTX, row | values


def enum(table: str, names: Mapping[str, int]) -> list[Row]:
    """An ENUM table."""
    return [(table, {"id": number, "name": name, "label": name}) for name, number in names.items()]


def exporter(schema: str, version: str = "2025.3.2.0", table: str = "META_DATA_EXPORT") -> list[Row]:
    """Which version wrote it."""
    values = {"EXPORT_PRODUCT_VERSION": version, "EXPORT_SCHEMA_VERSION": schema}
    return [(table, {"name": name, "value": value}) for name, value in values.items()]


def _gpu(start: int, end: int) -> dict[str, Any]:
    place = {"deviceId": 0, "contextId": 1, "streamId": 7, "globalPid": process()}
    return {"start": start, "end": end, "correlationId": None} | place


def write_sqlite(
    path: Path, *rows: Row | Iterable[Row], without: Collection[str] = (), tables: Iterable[str] = ()
) -> Path:
    """Write an SQLite export of these rows.

    `without` leaves out tables, and columns where it says `TABLE.column`; `tables` adds tables that have no rows.
    """
    strings: dict[str | bytes, int] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("StringIds", *tables)}
    for table, values in itertools.chain.from_iterable([row] if _is_row(row) else row for row in rows):
        found.setdefault(table, []).append(
            {
                column: strings.setdefault(value, len(strings) + 1)
                if column in _REFERS and isinstance(value, (str, bytes))
                else value
                for column, value in values.items()
            }
        )
    found["StringIds"] += [{"id": number, "value": text} for text, number in strings.items()]
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        for table, its in found.items():
            if table not in without:
                _write(database, table, its, {name.partition(".")[2] for name in without if f"{table}." in name})
    return path


def _is_row(row: Any) -> bool:
    return isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], str)


def _write(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]], without: set[str]) -> None:
    columns = [
        c for c in dict.fromkeys([*COLUMNS.get(table, "").split(), *(c for r in rows for c in r)]) if c not in without
    ]
    kinds = [
        f'"{c}" {"TEXT" if c in _TEXT - _numbers(table) else "REAL" if c in _REAL else "INTEGER"}' for c in columns
    ]
    database.execute(f'CREATE TABLE "{table}" ({", ".join(kinds)})')
    places = ", ".join("CAST(? AS TEXT)" if kind.endswith("TEXT") else "?" for kind in kinds)
    database.executemany(f'INSERT INTO "{table}" VALUES ({places})', [[row.get(c) for c in columns] for row in rows])


def _numbers(table: str) -> set[str]:
    return {"value"} if table in {"GPU_METRICS", MEMSET} else set()


def write_parquetdir(path: Path, sqlite: Path) -> Path:
    """The same export as `nsys export --type=parquetdir` writes it, from an SQLite one.

    One file a table in one folder, row groups of 2,048 rows, global ids unsigned, StringIds.id of 32 bits, and text
    that need not be UTF-8.
    """
    path.mkdir()
    with closing(sqlite3.connect(f"file:{sqlite}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            table = name.decode()
            described = database.execute(f'PRAGMA table_info("{table}")').fetchall()
            columns = [(column.decode(), kind.decode()) for _, column, kind, *_ in described]
            if not (rows := database.execute(f'SELECT * FROM "{table}"').fetchall()):
                continue
            arrays = [
                _arrow(table, *column, list(values))
                for column, values in zip(columns, zip(*rows, strict=True), strict=True)
            ]
            pq.write_table(pa.table(arrays, [c for c, _ in columns]), path / f"{table}.parquet", row_group_size=2048)
    return path


def _arrow(table: str, column: str, kind: str, values: list[Any]) -> pa.Array:
    if kind == "TEXT":
        texts = pa.array([str(v).encode() if isinstance(v, (int, float)) else v for v in values], pa.binary())
        return texts.view(pa.string())
    if kind == "REAL":
        return pa.array(values, pa.float64())
    if column in _UNSIGNED:
        return pa.array([None if v is None else v % (1 << 64) for v in values], pa.uint64())
    return pa.array(values, pa.int32() if (table, column) == ("StringIds", "id") else pa.int64())
