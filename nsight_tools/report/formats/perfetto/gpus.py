"""GPUs with their streams, and counters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.report.formats.perfetto.layout import Slices, by, category_of, coded, combined, laid_out, text_of
from nsight_tools.report.formats.perfetto.track_events import Annotation
from nsight_tools.timeline.attribution import Words

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.report.formats.perfetto.track_events import Writer
    from nsight_tools.timeline.intervals import Int64Array
    from nsight_tools.trace import Trace

_Declare: TypeAlias = Callable[[int, int, int, int], int]
_PLACE = ("device", "pid", "context", "stream")

_TELEMETRY = {
    "sm_clock_mhz": "MHz",
    "memory_clock_mhz": "MHz",
    "power_mw": "mW",
    "temperature_c": "°C",
    "gpu_utilization_percent": "%",
    "memory_utilization_percent": "%",
    "memory_used_bytes": "B",
    "pcie_generation": "",
    "pcie_width": "lanes",
    "pcie_rx_bytes_per_s": "B/s",
    "pcie_tx_bytes_per_s": "B/s",
}
"""Columns of `telemetry` that become counters, and their units."""


def gpus(writer: Writer, trace: Trace) -> None:
    """A track for each GPU, below it one for each stream of each process, with all that ran there."""
    names = {row["device"]: row["name"] for row in trace.table("gpus", ["device", "name"]).to_pylist()}
    kinds = trace.table("streams", ["pid", "context", "stream", "kind"]).to_pylist()
    kind_of = {(row["pid"], row["context"], row["stream"]): row["kind"] for row in kinds}
    gpus: dict[int, int] = {}
    declared: dict[int, tuple[str, int]] = {}
    known: dict[tuple[int, ...], int] = {}

    def declare(device: int, pid: int, context: int, stream: int) -> int:
        key = (device, pid, context, stream)
        if key not in known:
            if device not in gpus:
                gpus[device] = writer.track(f"GPU {device} {names.get(device) or ''}".rstrip(), rank=3)
            kind = str(kind_of.get((pid, context, stream), "unknown"))
            told = "" if kind == "unknown" else f", {kind.replace('_', ' ')}"
            label = f"stream {stream} (process {pid}, context {context}{told})"
            known[key] = writer.track(label, gpus[device], rank=stream)
            declared[known[key]] = (label, gpus[device])
        return known[key]

    work = [slices_of(writer, trace, declare) for slices_of in (_kernels, _memory_ops, _graphs)]
    parts = [slices for slices in work if slices.start.size]
    if parts:
        laid_out(writer, Slices.joined(parts), lambda track: writer.track(*declared[track]), nest=False)


def _kernels(writer: Writer, trace: Trace, declare: _Declare) -> Slices:
    sizes = [f"{what}_{axis}" for what in ("grid", "block") for axis in "xyz"]
    table = trace.table("kernels", ["start_ns", "end_ns", *_PLACE, "name", "short_name", *sizes, "registers"])
    slices = _work(writer, trace, table, declare, "kernel", coded(writer.names, words(table["short_name"])))
    shape, shapes = combined([ints(table[column]) for column in sizes])
    told = writer.text(f"grid {x}x{y}x{z}, block {u}x{v}x{w}" for x, y, z, u, v, w in shapes)
    slices.annotations |= {
        "kernel": text_of(writer, words(table["name"])),
        "launched as": Annotation.of_text(told[shape] if told.size else shape),
        "registers": Annotation.of(ints(table["registers"])),
    }
    return slices


def _memory_ops(writer: Writer, trace: Trace, declare: _Declare) -> Slices:
    table = trace.table("memory_ops", ["start_ns", "end_ns", *_PLACE, "kind", "size_bytes", "src_memory", "dst_memory"])
    slices = _work(writer, trace, table, declare, "copy", coded(writer.names, words(table["kind"])))
    slices.annotations |= {
        "size_bytes": Annotation.of(ints(table["size_bytes"])),
        "from memory": text_of(writer, words(table["src_memory"])),
        "to memory": text_of(writer, words(table["dst_memory"])),
    }
    return slices


def _graphs(writer: Writer, trace: Trace, declare: _Declare) -> Slices:
    table = trace.table("graph_launches", ["start_ns", "end_ns", *_PLACE, "graph_exec_id"])
    name = np.repeat(writer.names(["CUDA graph"]), table.num_rows)
    slices = _work(writer, trace, table, declare, "graph", name)
    slices.annotations["graph_exec_id"] = Annotation.of(ints(table["graph_exec_id"]))
    return slices


def _work(writer: Writer, trace: Trace, table: pa.Table, declare: _Declare, category: str, name: Int64Array) -> Slices:
    """Slices of one table of GPU work, with what `launches` says of it: arrow, layer, inference."""
    count = table.num_rows
    launches = trace.table("launches", ["work", "row", "api_call", "start_ns", "call_start_ns", "layer", "inference"])
    work = words(launches["work"])
    mine = np.flatnonzero(work.among(*{"copy": ("copy", "set")}.get(category, (category,))))
    row = ints(launches["row"])[mine]
    leads = (ints(launches["api_call"]) >= 0) & (ints(launches["start_ns"]) >= ints(launches["call_start_ns"]))
    arrivals = np.zeros(count, np.int64)
    arrivals[row] = np.where(leads[mine], mine + 1, 0)
    inference, layer = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    inference[row] = ints(launches["inference"])[mine]
    layers = words(launches["layer"])
    layer[row] = layers.codes[mine]
    return Slices(
        by(declare, *(ints(table[column]) for column in _PLACE)),
        ints(table["start_ns"]),
        ints(table["end_ns"]),
        name,
        category_of(writer, category, table),
        {
            "layer": text_of(writer, Words(layer, layers.dictionary)),
            "inference": Annotation.of(inference),
        },
        arrivals,
    )


def counters(writer: Writer, trace: Trace, session: tuple[int, int]) -> None:
    """A counter for each GPU and metric; of telemetry what was sampled during the session, in nanoseconds."""
    for source in ("gpu_metrics", "nvml_metrics"):
        if trace.rows(source):
            _metrics(writer, trace, source)
    if trace.rows("telemetry"):
        _telemetry(writer, trace, session)


def _metrics(writer: Writer, trace: Trace, source: str) -> None:
    table = trace.table(source, ["time_ns", "device", "metric", "value"])
    metric, device = words(table["metric"]), ints(table["device"])
    time, value = ints(table["time_ns"]), table["value"].to_numpy()
    which, pairs = combined([device, metric.codes.astype(np.int64)])
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which, minlength=len(pairs)))[:-1])
    parents: dict[int, int] = {}
    for (gpu, code), rows in zip(pairs, parts, strict=True):
        if gpu not in parents:
            parents[gpu] = writer.track(_counters_of(gpu, source), rank=4)
        name = metric.dictionary[code] if code >= 0 else "unnamed"
        told = re.search(r"\[([^\]]*)\]\s*$", name)
        writer.counter(writer.track(name, parents[gpu], unit=told[1] if told else ""), time[rows], value[rows])


def _telemetry(writer: Writer, trace: Trace, session: tuple[int, int]) -> None:
    table = trace.table("telemetry", ["time_ns", "device", *_TELEMETRY])
    device, time = ints(table["device"]), ints(table["time_ns"])
    during = (time >= session[0]) & (time <= session[1])
    for gpu in np.unique(device[during]).tolist():
        parent = writer.track(_counters_of(gpu, "telemetry"), rank=4)
        for column, unit in _TELEMETRY.items():
            rows = during & (device == gpu) & table[column].is_valid().to_numpy()
            if rows.any():
                values = ints(table[column])[rows].astype(np.float64)
                writer.counter(writer.track(column, parent, unit=unit), time[rows], values)


def _counters_of(gpu: int, source: str) -> str:
    return f"{f'GPU {gpu}' if gpu >= 0 else 'GPU unknown'} {source.replace('_', ' ')}"
