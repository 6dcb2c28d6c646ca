"""The small tables of an export, and what it says about the session: versions, machine, capture options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.importer import dialects
from nsight_tools.importer.sources import FLOAT, INT, STRING, Export, Raw, read
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.importer.decode import Decoder, Ints


def gpus(export: Export) -> pa.Table:
    """`gpus`: from TARGET_INFO_GPU, or where that lacks the properties (2020) from TARGET_INFO_CUDA_GPU."""
    text = {"name", "bus_id", "chip"}
    columns = {name: Raw(names, STRING if name in text else INT) for name, names in dialects.GPU_COLUMNS.items()}
    rows = read(export, "TARGET_INFO_GPU", columns).to_pylist()
    more = {row["device"]: row for row in read(export, "TARGET_INFO_CUDA_GPU", columns).to_pylist()}
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
    kinds = decoder.enumeration("ENUM_CUPTI_STREAM_TYPE")
    word = {number: kind for kind, (_, fallback) in dialects.STREAM_KIND.items() for number in fallback}
    word |= {kinds[name]: kind for kind, (name, _) in dialects.STREAM_KIND.items() if name in kinds}
    names = {"stream": "streamId", "pid": "processId", "context": "contextId", "priority": "priority", "flag": "flag"}
    rows = read(export, "TARGET_INFO_CUDA_STREAM", {ours: Raw((theirs,), INT) for ours, theirs in names.items()})
    found = {
        (row["pid"], row["context"], row["stream"]): {**row, "kind": word.get(row["flag"], "unknown")}
        for row in rows.to_pylist()
    }
    null = {"pid": Raw(("processId",), INT), "context": Raw(("contextId",), INT)}
    for table, column in (
        ("TARGET_INFO_CUDA_CONTEXT_INFO", "nullStreamId"),
        ("TARGET_INFO_CUDA_NULL_STREAM", "streamId"),
    ):
        for row in read(export, table, {**null, "stream": Raw((column,), INT)}).to_pylist():
            key = (row["pid"], row["context"], row["stream"])
            found[key] = {"priority": None, **found.get(key, {}), **row, "kind": "legacy_default"}
    usable = [row for key, row in sorted(found.items(), key=lambda item: tuple(map(str, item[0]))) if None not in key]
    rows = [{k: _int32(v) if isinstance(v, int) else v for k, v in row.items() if k != "flag"} for row in usable]
    return pa.Table.from_pylist(rows, TABLES["streams"].schema)


def _int32(value: int) -> int:
    return int(np.int64(value).astype(np.int32))


def threads(export: Export, decoder: Decoder) -> pa.Table:
    """`threads`: names of threads and of the processes that they belong to."""
    processes = read(export, "PROCESSES", {"id": Raw(("globalPid",), INT), "name": Raw(("name",), STRING)})
    process = {(row["id"] or 0) >> 24 & 0xFFFFFF: row["name"] for row in processes.to_pylist()}
    rows = read(export, "ThreadNames", {"name": Raw(("nameId",), INT), "id": Raw(("globalTid",), INT)})
    if not rows.num_rows:
        return TABLES["threads"].empty()
    names = decoder.strings(pc.fill_null(rows["name"], -1).to_numpy()).to_pylist()
    found: dict[tuple[int, int], str] = {}
    for name, thread in zip(names, rows["id"].to_pylist(), strict=True):
        if thread is not None:
            found.setdefault((thread >> 24 & 0xFFFFFF, thread & 0xFFFFFF), name)
    table = [
        {"pid": pid, "tid": tid, "name": name, "process": process.get(pid)}
        for (pid, tid), name in sorted(found.items())
    ]
    return pa.Table.from_pylist(table, TABLES["threads"].schema)


def gpu_metrics(export: Export) -> Iterator[pa.Table]:
    """`gpu_metrics`, chunk by chunk; clocks in the MHz that their names promise."""
    if "GPU_METRICS" not in export.tables:
        yield from _gpu_metrics_as_json(export)
        return
    naming = {"type": Raw(("typeId",), INT), "id": Raw(("metricId",), INT), "name": Raw(("metricName",), STRING)}
    names = read(export, "TARGET_INFO_GPU_METRICS", naming).to_pylist()
    by_id: dict[tuple[int, int], str] = {(row["type"], row["id"]): row["name"] for row in names}
    columns = {
        "time": Raw(("timestamp", "start"), INT),
        "type": Raw(("typeId",), INT),
        "id": Raw(("metricId",), INT),
        "value": Raw(("value",), FLOAT),
    }
    for chunk in export.chunks("GPU_METRICS", columns):
        rows = chunk()
        kind, number = (pc.fill_null(rows[c], -1).to_numpy() for c in ("type", "id"))
        # One key for both, within the chunk: the types are few and far apart.
        types, type_code = np.unique(kind, return_inverse=True)
        keys, inverse = np.unique(type_code * (1 << 32) + number, return_inverse=True)
        words = [
            by_id.get((int(types[key >> 32]), int(key & 0xFFFFFFFF)), f"metric {key & 0xFFFFFFFF}") for key in keys
        ]
        metric = pa.DictionaryArray.from_arrays(pa.array(inverse.astype(np.int32)), pa.array(words, STRING))
        yield _metrics(rows["time"], kind, metric, pc.fill_null(rows["value"], 0).to_numpy())


def _gpu_metrics_as_json(export: Export) -> Iterator[pa.Table]:
    """Exporters up to 2022.4 write the metrics among the generic events: a JSON object a sample, values as text."""
    columns = {"time": Raw(("timestamp",), INT), "type": Raw(("typeId",), INT), "data": Raw(("data",), STRING)}
    for chunk in export.chunks("GENERIC_EVENTS", columns) if "GENERIC_EVENTS" in export.tables else ():
        rows = chunk()
        rows = rows.filter(pc.fill_null(pc.starts_with(rows["data"], "{"), False))
        samples = [_object(text) for text in rows["data"].to_pylist()]
        for name in dict.fromkeys(key for sample in samples for key in sample):
            values = np.array([_number(sample.get(name)) for sample in samples])
            there = ~np.isnan(values)
            metric = pa.DictionaryArray.from_arrays(pa.array(np.zeros(there.sum(), np.int32)), pa.array([name], STRING))
            kept = rows.filter(pa.array(there))
            yield _metrics(kept["time"], pc.fill_null(kept["type"], 0).to_numpy(), metric, values[there])


def _object(text: str) -> dict[str, object]:
    try:
        value = parsed(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _metrics(time: pa.ChunkedArray, kind: Ints, metric: pa.DictionaryArray, value: npt.NDArray[np.float64]) -> pa.Table:
    is_clock = pc.match_substring(metric.dictionary, "[MHz]").to_numpy(zero_copy_only=False)[metric.indices.to_numpy()]
    value = np.where(is_clock & (value > dialects.HERTZ_LABELLED_MEGAHERTZ), value / 1e6, value)
    # The lowest byte of a metric set's type is the GPU that it was sampled on.
    device = pa.array((kind & 0xFF).astype(np.int32))
    meant = [dialects.meaning(name) for name in metric.dictionary.to_pylist()]
    means = pa.array(meant, STRING).dictionary_encode()
    means = pa.DictionaryArray.from_arrays(means.indices.take(metric.indices), means.dictionary)
    return pa.table([time, device, metric, pa.array(value), means], schema=TABLES["gpu_metrics"].schema)


def resolved(table: pa.Table, working: Sequence[int]) -> pa.Table:
    """Samples that do not say their GPU, as that of the one that worked, where one was sampled and one worked."""
    sampled = table["bus_id"].unique() if "bus_id" in table.column_names else table["device"].unique()
    if len(working) != 1 or len(sampled) != 1 or table["device"].null_count < table.num_rows:
        return table
    at = table.schema.get_field_index("device")
    return table.set_column(at, table.schema.field(at), pa.array([working[0]] * table.num_rows, pa.int32()))


def nvml_metrics(export: Export, decoder: Decoder) -> pa.Table:
    """`nvml_metrics`: the generic events of Nsight Systems' nvml_metrics plugin (few: one sample in some 10 ms)."""
    fields = read(
        export,
        "GENERIC_EVENT_TYPE_FIELDS",
        {"type": Raw(("typeId",), INT), "field": Raw(("fieldIdx",), INT), "name": Raw(("fieldNameId",), INT)},
    ).to_pylist()
    names = {(row["type"], row["field"]): decoder.strings(np.array([row["name"]]))[0].as_py() for row in fields}
    events = read(
        export,
        "GENERIC_EVENTS",
        {"id": Raw(("genericEventId",), INT), "time": Raw(("timestamp",), INT), "type": Raw(("typeId",), INT)},
    )
    values = read(
        export,
        "GENERIC_EVENT_DATA",
        {
            "id": Raw(("genericEventId",), INT),
            "field": Raw(("fieldIdx",), INT),
            "whole": Raw(("intVal", "uintVal"), INT),
            "real": Raw(("floatVal", "doubleVal"), FLOAT),
        },
    )
    if not events.num_rows or not values.num_rows:
        return TABLES["nvml_metrics"].empty()
    joined = values.join(events, "id", join_type="inner")
    kinds = set(zip(joined["type"].to_pylist(), joined["field"].to_pylist(), strict=True))
    wanted = {key: name for key, name in names.items() if key in kinds and name in dialects.NVML_UNITS}
    words = [wanted.get(key) for key in zip(joined["type"].to_pylist(), joined["field"].to_pylist(), strict=True)]
    table = pa.table(
        [
            joined["time"],
            # The plugin does not record which GPU; where there is one, it is that.
            pa.array([_only_gpu(export)] * joined.num_rows, pa.int32()),
            pa.array(words, STRING).dictionary_encode(),
            pa.array([dialects.NVML_UNITS.get(word or "") for word in words], STRING).dictionary_encode(),
            pc.coalesce(joined["real"], joined["whole"].cast(FLOAT)),
        ],
        schema=TABLES["nvml_metrics"].schema,
    )
    return table.filter(pc.and_(pc.is_valid(table["metric"]), pc.is_valid(table["value"])))


def _only_gpu(export: Export) -> int | None:
    devices = gpus(export)["device"].to_pylist()
    return devices[0] if len(devices) == 1 else None


def environment(export: Export, decoder: Decoder) -> pa.Table:
    """`environment`: everything that was left out of the rest for the user's privacy."""
    rows: list[dict[str, Any]] = []
    for table, (names, values) in dialects.ENVIRONMENT_TABLES.items():
        by_id = names[0].endswith("Id")
        kind = INT if by_id else STRING
        for row in read(export, table, {"name": Raw(names, kind), "value": Raw(values, kind)}).to_pylist():
            if by_id:
                row = {k: None if v is None else decoder.strings(np.array([v]))[0].as_py() for k, v in row.items()}  # noqa: PLW2901
            rows.append({"source": table, **row})
    return pa.Table.from_pylist(rows, TABLES["environment"].schema)


def session(export: Export) -> dict[str, Any]:
    """What the manifest says of the session: versions, duration, machine, capture options. Nothing private."""
    meta: dict[str, str] = {}
    for table in dialects.META_TABLES:
        meta |= _pairs(export, table)
    capture = _pairs(export, "META_DATA_CAPTURE")
    capture = {re.sub(r"^PROCESS_\d+:", "", name): value for name, value in capture.items()}
    system = _pairs(export, "TARGET_INFO_SYSTEM_ENV")
    details = read(
        export, "ANALYSIS_DETAILS", {name: Raw((name,), INT) for name in ("duration", "startTime")}
    ).to_pylist()
    start = read(export, "TARGET_INFO_SESSION_START_TIME", {"utc": Raw(("utcEpochNs",), INT)})["utc"].to_pylist()
    facts = {ours: _clean(system.get(theirs)) for ours, theirs in dialects.SYSTEM_FACTS.items()}
    return {
        "nsys": {
            "version": meta.get("EXPORT_PRODUCT_VERSION"),
            "schema_version": meta.get("EXPORT_SCHEMA_VERSION"),
        },
        "session": {
            "duration_ns": details[0]["duration"] if details else None,
            "utc_epoch_ns": start[0] if start else None,
        },
        "system": {**facts, "driver": _driver(facts["driver"]), "cuda": _cuda(facts["cuda"])},
        "capture": {
            ours: next((_clean(capture[key]) for key in keys if key in capture), None)
            for ours, keys in dialects.CAPTURE_OPTIONS.items()
        },
    }


def schema_version(export: Export) -> tuple[int, int]:
    """Major and minor of the export's schema; (0, 0) where it records none, as up to 2021.3."""
    text = session(export)["nsys"]["schema_version"] or ""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _pairs(export: Export, table: str) -> dict[str, str]:
    rows = read(export, table, {"name": Raw(("name",), STRING), "value": Raw(("value",), STRING)}).to_pylist()
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(row["name"] or "", row["value"] or "")
    return found


def _clean(value: str | None) -> str | None:
    return value or None


_DRIVER_NUMBER = re.compile(r"(\d{3})(\d{2,3})(\d{2,3})")
"""4952905 is 495.29.05, 47014103 is 470.141.03, 580159004 is 580.159.04: the middle part takes a third digit first."""


def _driver(value: str | None) -> str | None:
    """580.159.04 as it is, and as what some exports have in its place: one number of 7 to 9 digits."""
    if value is None or not value.strip("0"):
        return None  # 0: no driver was there
    parts = _DRIVER_NUMBER.fullmatch(value)
    return f"{parts[1]}.{int(parts[2]):02d}.{int(parts[3]):02d}" if parts else value


def _cuda(value: str | None) -> str | None:
    """13000 -> 13.0; 0, where there is no driver, -> None."""
    if value == "0":
        return None
    return f"{int(value) // 1000}.{int(value) % 1000 // 10}" if value is not None and value.isdigit() else value
