"""Samples of the GPU that an export holds: GPU metrics, and those of NVML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.importer import dialects
from nsight_tools.importer.exports.reading import FLOAT, STRING, Chunk, Export, raw, read
from nsight_tools.importer.stored_columns import StoredTables
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nsight_tools.importer.decode import Decoder, Ints
    from nsight_tools.importer.dialects import Listing


def gpu_metrics(export: Export) -> Iterator[pa.Table]:
    """`gpu_metrics`, chunk by chunk; clocks in the MHz that their names promise."""
    if dialects.GPU_METRICS.table not in export.tables:
        yield from _gpu_metrics_as_json(export)
        return
    names = read(export, dialects.GPU_METRIC_NAMES).to_pylist()
    by_id: dict[tuple[int, int], str] = {(row["type"], row["metric"]): row["name"] for row in names}
    for chunk in _chunks(export, dialects.GPU_METRICS):
        rows = chunk()
        kind, number = (pc.fill_null(rows[c], -1).to_numpy() for c in ("type", "metric"))
        # One key for both, within the chunk: the types are few and far apart.
        types, type_code = np.unique(kind, return_inverse=True)
        keys, inverse = np.unique(type_code * (1 << 32) + number, return_inverse=True)
        words = [
            by_id.get((int(types[key >> 32]), int(key & 0xFFFFFFFF)), f"metric {key & 0xFFFFFFFF}") for key in keys
        ]
        metric = pa.DictionaryArray.from_arrays(pa.array(inverse.astype(np.int32)), pa.array(words, STRING))
        yield _metrics(rows["time"], kind, metric, pc.fill_null(rows["value"], 0).to_numpy())


def _gpu_metrics_as_json(export: Export) -> Iterator[pa.Table]:
    """The same, of exporters that write a sample as a JSON object."""
    for chunk in _chunks(export, dialects.GPU_METRICS_AS_JSON):
        rows = chunk()
        rows = rows.filter(pc.fill_null(pc.starts_with(rows["data"], "{"), False))
        samples = [_object(text) for text in rows["data"].to_pylist()]
        for name in dict.fromkeys(key for sample in samples for key in sample):
            values = np.array([_number(sample.get(name)) for sample in samples])
            there = ~np.isnan(values)
            metric = pa.DictionaryArray.from_arrays(pa.array(np.zeros(there.sum(), np.int32)), pa.array([name], STRING))
            kept = rows.filter(pa.array(there))
            yield _metrics(kept["time"], pc.fill_null(kept["type"], 0).to_numpy(), metric, values[there])


def _chunks(export: Export, listing: Listing) -> list[Chunk]:
    return export.chunks(listing.table, raw(listing)) if listing.table in export.tables else []


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


def working_gpus(dataset: Path) -> list[int]:
    """The GPUs of a dataset that ran anything, in order."""
    tables, names = StoredTables(dataset), ("kernels", "memory_ops", "graph_launches")
    return sorted({int(device) for name in names for device in np.unique(tables.column(name, "device"))})


def nvml_metrics(export: Export, decoder: Decoder, gpus: pa.Table) -> pa.Table:
    """`nvml_metrics`: the generic events of Nsight Systems' nvml_metrics plugin (few: one sample in some 10 ms)."""
    fields = read(export, dialects.GENERIC_FIELDS).to_pylist()
    names = {(row["type"], row["field"]): decoder.strings(np.array([row["name"]]))[0].as_py() for row in fields}
    events, values = (read(export, listing) for listing in (dialects.GENERIC_EVENTS, dialects.GENERIC_VALUES))
    if not events.num_rows or not values.num_rows:
        return TABLES["nvml_metrics"].empty()
    only = gpus["device"][0].as_py() if gpus.num_rows == 1 else None
    joined = values.join(events, "event", join_type="inner")
    kinds = set(zip(joined["type"].to_pylist(), joined["field"].to_pylist(), strict=True))
    wanted = {key: name for key, name in names.items() if key in kinds and name in dialects.NVML_UNITS}
    words = [wanted.get(key) for key in zip(joined["type"].to_pylist(), joined["field"].to_pylist(), strict=True)]
    table = pa.table(
        [
            joined["time"],
            # The plugin does not record which GPU; where there is one, it is that.
            pa.array([only] * joined.num_rows, pa.int32()),
            pa.array(words, STRING).dictionary_encode(),
            pa.array([dialects.NVML_UNITS.get(word or "") for word in words], STRING).dictionary_encode(),
            pc.coalesce(joined["real"], joined["whole"].cast(FLOAT)),
        ],
        schema=TABLES["nvml_metrics"].schema,
    )
    return table.filter(pc.and_(pc.is_valid(table["metric"]), pc.is_valid(table["value"])))
