"""Run directories of `nsight-tools capture`: what stands beside the report, and the tables that come of it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import files, run_files
from nsight_tools.errors import InputError
from nsight_tools.importer import layers, trtexec, untraced
from nsight_tools.importer.dialects import NotCollected
from nsight_tools.importer.manifest import MANIFEST
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.importer.writer import cast_to
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

REPORTS = ("report.sqlite", "report", "report_pqtdir", run_files.REPORT)
"""A capture's report: its export (the second and third are parquetdirs), which needs no nsys, or itself."""
CAPTURE_AGAIN = "capture again, or give a copy of the report that stands elsewhere"
ABSENT = NotCollected("the run directory holds none")


@dataclass(frozen=True)
class RunDirectory:
    """A run directory that has a report and a run.json."""

    path: Path
    report: Path
    run: Mapping[str, Any] = field(compare=False)
    """run.json: a mapping whose values are to be checked before use."""

    @classmethod
    def of(cls, source: Path) -> RunDirectory | None:
        """The run directory that `source` is, or whose report it is; None for any other report or export.

        Raises InputError where it is one without a report or a readable run.json, or of a newer nsight-tools.
        """
        if source.is_dir() and (source / run_files.RUN).is_file():
            report = next((source / name for name in REPORTS if (source / name).exists()), None)
            run = _read_run(source / run_files.RUN)
            if run is None:
                raise InputError(
                    source / run_files.RUN, "is not of nsight-tools capture", hint="give the report itself"
                )
            if report is None:
                hint = f"put {run_files.REPORT} back into it, or give the dataset that was made of it (….trace)"
                raise InputError(source, "holds run.json, but no report", hint=hint)
            return cls(source, report, run)
        if source.is_dir() and any((source / name).is_file() for name in _OF_A_CAPTURE):
            raise _unfinished(source)
        about = source.parent / run_files.RUN
        if source.name in REPORTS and about.is_file() and (run := _read_run(about)) is not None:
            return cls(source.parent, source, run)
        return None

    @property
    def name(self) -> str:
        return self.path.absolute().name

    @property
    def layers(self) -> Path | None:
        return self._file(run_files.LAYERS)

    @property
    def layer_pass(self) -> Path | None:
        """The eager run with layer ranges: its report, or that exported to SQLite."""
        return self._file(Path(run_files.LAYER_PASS).with_suffix(".sqlite").name) or self._file(run_files.LAYER_PASS)

    @property
    def files(self) -> list[Path]:
        """Those beside the report that become part of the dataset."""
        paths = map(self._file, (run_files.RUN, run_files.TELEMETRY, run_files.BENCHMARK, run_files.PROFILE))
        return [path for path in paths if path is not None] + self._times

    @property
    def _times(self) -> list[Path]:
        return sorted(path for path in self.path.glob(run_files.UNTRACED) if path.is_file())

    def _file(self, name: str) -> Path | None:
        path = self.path / name
        return path if path.is_file() else None

    def about(self) -> dict[str, Any]:
        """What the manifest says of the capture: what run.json says but for commands and folders, which are private."""
        kept = (
            *("version", "tool_version", "status", "kind", "versions", "started_utc", "seconds", "model", "device"),
            *("machine", "tracing", "telemetry", "untraced"),
        )
        options = {"options": _without_folders(self.run.get("options"))}
        for section, names in _TOLD.items():
            if isinstance(held := self.run.get(section), dict):
                options[section] = _without_folders({name: held[name] for name in names if name in held})
        return {name: self.run[name] for name in kept if name in self.run} | options | {"measured": self._measured()}

    def _measured(self) -> dict[str, Any]:
        """Of each run without the profiler: its rate, when it was, and the memory that it took."""
        runs = self.run.get("measured")
        benchmarks = (
            ((name, run) for name, run in runs.items() if name not in _TRACED) if isinstance(runs, dict) else ()
        )
        return {
            name: {fact: run[fact] for fact in _OF_A_RUN if fact in run}
            for name, run in benchmarks
            if isinstance(run, dict)
        }

    def benchmark(self) -> tuple[pa.Table, NotCollected | None]:
        """Table `benchmark`, or why it has no rows. Raises InputError where its file is none that a capture wrote."""
        if (path := self._file(run_files.BENCHMARK)) is not None:
            rows = untraced.by_runner(_checked(path, run_files.BENCHMARK_SCHEMA))
            return cast_to(rows.select(TABLES["benchmark"].names), TABLES["benchmark"].schema), None
        if times := self._times:
            return untraced.of_json(times), None
        about = self.run.get("untraced")
        about = about if isinstance(about, dict) else {}
        seconds, reason = about.get("seconds"), about.get("reason")
        if isinstance(seconds, (int, float)) and not reason:
            return untraced.of_process(seconds), None
        return TABLES["benchmark"].empty(), _absent("no run without the profiler", reason)

    def layer_times(self) -> tuple[pa.Table, NotCollected | None]:
        """Table `layer_times`, or why it has no rows. Raises InputError where its file is none that a capture wrote."""
        if (path := self._file(run_files.PROFILE)) is None:
            return TABLES["layer_times"].empty(), None
        return layers.times(trtexec.read(path, trtexec.Profile), "runner"), None

    def gpus(self, gpus: pa.Table) -> pa.Table:
        """Table `gpus` of the report, with the SMs of the partition where the run was on one (MIG).

        No kernel has more, though the report may have the whole GPU's. Null where its size is not known.
        """
        sizes = self._partitions()
        rows = gpus.to_pylist()
        for row in rows:
            known = sizes.get(run_files.bus_id(row["bus_id"])) if row["bus_id"] else None
            if known is not None and row["sm_count"] not in known:
                row["sm_count"] = next(iter(known)) if len(known) == 1 else None
        return pa.Table.from_pylist(rows, gpus.schema)

    def _partitions(self) -> dict[str, set[int]]:
        """SMs that the partitions of each GPU with MIG have, by its place on the PCI bus."""
        recorded: Any = self.run
        for name in ("machine", "before", "gpus"):
            recorded = recorded.get(name) if isinstance(recorded, dict) else None
        gpus = [gpu for gpu in recorded if isinstance(gpu, dict)] if isinstance(recorded, list) else []
        return {
            run_files.bus_id(str(gpu["bus_id"])): {sms for sms in gpu.get("mig_sms") or [] if isinstance(sms, int)}
            for gpu in gpus
            if gpu.get("mig") is True and gpu.get("bus_id")
        }

    def no_gpu_metrics(self) -> NotCollected | None:
        """Why a report without GPU metrics has none, where the capture knows."""
        about = self.run.get("gpu_metrics")
        reason = about.get("reason") if isinstance(about, dict) else None
        return NotCollected(f"GPU metrics were not sampled: {reason}") if reason else None

    def telemetry(self, gpus: pa.Table, clock: Mapping[str, Any] | None) -> tuple[pa.Table, NotCollected | None]:
        """Table `telemetry` in the report's time, or why it has no rows. Raises as `benchmark`.

        `gpus` is the table of that name; `clock` is what `clock.align` says of the report.
        """
        schema = TABLES["telemetry"].schema
        path = self._file(run_files.TELEMETRY)
        if path is None:
            about = self.run.get("telemetry")
            reason = about.get("reason") if isinstance(about, dict) else None
            return schema.empty_table(), _absent("NVML was not sampled", reason)
        rows = _checked(path, run_files.TELEMETRY_SCHEMA)
        if clock is None:
            why = "the report does not say when it began, so that no time relates to it"
            return schema.empty_table(), NotCollected(why)
        of_report = {run_files.bus_id(gpu["bus_id"]): gpu for gpu in reversed(gpus.to_pylist()) if gpu["bus_id"]}
        buses = rows["bus_id"].cast(pa.string())
        gpu_of_bus = {text: of_report.get(run_files.bus_id(text), {}) for text in buses.unique().to_pylist() if text}
        columns = {name: rows[name] for name in rows.column_names}
        columns["time_ns"] = pc.subtract(rows["utc_ns"], pa.scalar(clock["offset_ns"], pa.int64()))
        columns["device"] = _mapped(buses, {text: gpu.get("device") for text, gpu in gpu_of_bus.items()}, pa.int32())
        names = {text: gpu.get("bus_id", run_files.bus_id(text)) for text, gpu in gpu_of_bus.items()}
        columns["bus_id"] = _mapped(buses, names, pa.string())
        return cast_to(pa.table({name: columns[name] for name in schema.names}), schema), None


_TOLD = {
    "build": ("seconds", "phases_s", "timing_cache", "tactics", "int8_ranges"),
    "engine": ("size_bytes", "device_memory_bytes", "weights_bytes"),
    "gpu_metrics": ("hz", "reason"),
    "outputs": ("outputs",),
    "accuracy": ("reference", "outputs", "limits"),
}
"""What the manifest says of these parts of run.json."""
_TRACED = ("timing", "layers", "profiler")
_OF_A_RUN = ("inferences", "seconds", "throughput_per_s", "throughput", "clock", "memory")
_OF_A_CAPTURE = (
    run_files.REPORT,
    run_files.TELEMETRY,
    run_files.telemetry_stream(Path(run_files.TELEMETRY)).name,
)


def dataset_alone(folder: Path) -> Path | None:
    """The dataset in a run directory whose report is gone; None where there is a report, or no dataset either."""
    if not (folder / run_files.RUN).is_file() or any((folder / name).exists() for name in REPORTS):
        return None
    datasets = (folder / f"{name}.trace" for name in REPORTS)
    return next((dataset for dataset in datasets if (dataset / MANIFEST).is_file()), None)


def _unfinished(source: Path) -> InputError:
    """What there is in the folder of a capture that runs, or was killed: what was sampled until then is kept."""
    if (lock := files.held(source)) is None:
        return InputError(source, "is being written by a capture", hint="wait for its end")
    try:
        telemetry, report = source / run_files.TELEMETRY, source / run_files.REPORT
        with contextlib.suppress(OSError):
            run_files.recover_telemetry(telemetry)
    finally:
        os.close(lock)
    problem = "has no run.json: its capture did not come to its end"
    hints = []
    if report.is_file():
        hints.append(f"give {report}, if that can be read")
    if telemetry.is_file():
        problem += f"; it left {_rows(telemetry)} samples of the GPUs in {telemetry.name}"
    if source.suffix == files.PARTIAL:
        hints.append("move the folder to keep it, for the next capture of this name removes it")
    return InputError(source, problem, hint=", and ".join(hints) or "capture again")


def _rows(path: Path) -> int:
    with contextlib.suppress(pa.ArrowException, OSError):
        return int(pq.read_metadata(path).num_rows)
    return 0


def _mapped(column: pa.ChunkedArray, values: Mapping[str, Any], to: pa.DataType) -> pa.ChunkedArray:
    """`column` with each text replaced; null stays null."""
    texts = list(values)
    at = pc.index_in(column, pa.array(texts, pa.string()))
    return pc.take(pa.array([values[text] for text in texts], to), at)


def _read_run(path: Path) -> Mapping[str, Any] | None:
    """run.json; None where another program wrote it. Raises InputError where it is damaged or too new."""
    try:
        run = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is damaged: {error}", hint=CAPTURE_AGAIN) from error
    if not isinstance(run, dict) or not isinstance(run.get("version"), int) or "tool_version" not in run:
        return None
    if run["version"] > run_files.VERSION:
        wrote = f"was written by a newer nsight-tools ({run['tool_version']})"
        raise InputError(path, wrote, hint="update nsight-tools")
    return run


def _checked(path: Path, schema: pa.Schema) -> pa.Table:
    """The table in a file of the capture, with this schema; what an earlier version did not sample is null.

    Raises InputError where it has another schema or is damaged.
    """
    try:
        rows = pq.read_table(path)
        there = set(rows.column_names)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(path, f"is no Parquet file: {str(error).splitlines()[0]}", hint=CAPTURE_AGAIN) from error
    if missing := [name for name in schema.names if name not in there and name not in run_files.LATER]:
        raise InputError(path, f"has no column {missing[0]}: no capture wrote it so", hint=CAPTURE_AGAIN)
    for name in run_files.LATER.intersection(schema.names) - there:
        rows = rows.append_column(name, pa.nulls(rows.num_rows, schema.field(name).type))
    try:
        return cast_to(rows.select(schema.names), schema)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise InputError(path, f"has other values: {str(error).splitlines()[0]}", hint=CAPTURE_AGAIN) from error


def _without_folders(value: Any) -> Any:
    """A JSON value in which paths are names: folders tell who somebody is."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def _absent(what: str, reason: object) -> NotCollected:
    return NotCollected(f"{what}: {reason}") if reason else ABSENT
