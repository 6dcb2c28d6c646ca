"""Writing a dataset: the export's tables, then what is derived from them, then the manifest that makes it whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from nsight_tools.importer import (
    alignment,
    calls,
    clock,
    inferences,
    layers,
    machine,
    samples,
    streaming,
    trtexec,
)
from nsight_tools.importer.decode import Decoder
from nsight_tools.importer.forking import HARMLESS
from nsight_tools.importer.held import Held
from nsight_tools.importer.manifest import MANIFEST
from nsight_tools.importer.session import Session
from nsight_tools.importer.writer import write_table
from nsight_tools.tables import DATASET_VERSION, TABLES
from nsight_tools.timeline.requests import OURS, NamedRange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsight_tools.importer.captured import RunDirectory
    from nsight_tools.importer.dialects import NotCollected
    from nsight_tools.importer.exports.reading import Export
    from nsight_tools.importer.inputs import Inputs
    from nsight_tools.importer.streaming import Progress


def write_dataset(
    export: Export,
    to: Path,
    *,
    source: Callable[[], dict[str, Any]],
    inputs: Inputs,
    progress: Progress,
    layer_pass: Path | None = None,
) -> None:
    """Write the dataset of `export` into the existing folder `to`, the manifest last.

    `inputs` is what it is made of beside the export, `source` what the manifest says of that, and `layer_pass` the
    dataset of their layer pass.

    Memory: some chunks of rows, the export's strings, and for the derived tables about EVENT_BYTES for each kernel,
    copy, API call and NVTX range. Raises InputError where that is more than may be used (`nsight_tools.memory`).
    """
    streaming.check_memory(export)
    session, decoder = Session.of(export), Decoder(export)
    rows, payloads = streaming.stream(export, session, decoder, to, progress)
    executed = sorted(payloads, key=payloads.__getitem__)
    listed = layers.from_inspector(inputs.layers, executed) if inputs.layers else layers.from_ranges(executed)
    about = session.about()
    aligned = clock.align(to, about["session"])
    short, lacking = _short_tables(export, decoder, to, inputs, aligned)
    rows |= {name: write_table(to / f"{name}.parquet", TABLES[name], table) for name, table in short.items()}
    progress("attributing GPU work to inferences", len(rows) / len(TABLES))
    pa.default_memory_pool().release_unused()  # what reading held, before what deriving needs comes on top
    inference_range = inputs.options.inference_range
    named = NamedRange.parse(inference_range) if inference_range else OURS
    references = [*(alignment.of_dataset(layer_pass) if layer_pass else ()), *alignment.of_layers(listed)]
    with ThreadPoolExecutor(1, HARMLESS) as pool:
        described = pool.submit(source)  # which reads the export once more, where a core has time for it
        made = inferences.write_inferences(to, named, references, inputs.options.group_by, layers.on_dla(listed))
    ordered = made.layers
    if layer_pass and ordered and alignment.LAYER_PASS in ordered["attributed"] and not listed.num_rows:
        listed = layers.from_dataset(layer_pass)  # of this engine: its kernels came in the same order
    rows |= made.rows | {"layers": write_table(to / "layers.parquet", TABLES["layers"], listed)}
    held = _held(export, session, rows, to)
    manifest = {
        "dataset_version": DATASET_VERSION,
        "tool_version": version("nsight-tools"),
        "source": described.result(),
        **about,
        "clock": aligned,
        "run": inputs.run.about() if inputs.run else None,
        "requests": made.requests,
        "layers_by_order": ordered,
        "tables": {name: _state(rows[name], lacking.get(name) or held.not_collected(name)) for name in TABLES},
    }
    (to / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    progress("done", 1.0)


def _short_tables(
    export: Export, decoder: Decoder, to: Path, inputs: Inputs, aligned: dict[str, Any] | None
) -> tuple[dict[str, pa.Table], dict[str, NotCollected | None]]:
    """The tables that never are long, by name; and why some have no rows, where the capture tells."""
    run, gpus = inputs.run, machine.gpus(export)
    keep = inputs.options.keep_environment
    tables = {
        "gpus": gpus if run is None else run.gpus(gpus),
        "streams": machine.streams(export, decoder),
        "threads": machine.threads(export, decoder),
        "nvml_metrics": samples.nvml_metrics(export, decoder, gpus),
        "environment": machine.environment(export, decoder) if keep else TABLES["environment"].empty(),
    }
    lacking: dict[str, NotCollected | None] = {"gpu_metrics": run.no_gpu_metrics() if run else None}
    for name, (table, reason) in _captured(run, tables["gpus"], aligned).items():
        tables[name], lacking[name] = table, reason
    if inputs.profile is not None:
        tables["layer_times"] = layers.times(trtexec.read(inputs.profile, trtexec.Profile), "trtexec")
    working = samples.working_gpus(to)
    tables |= {name: samples.resolved(tables[name], working) for name in ("nvml_metrics", "telemetry")}
    return tables, lacking


def _held(export: Export, session: Session, rows: dict[str, int], to: Path) -> Held:
    """What the export held of each table, by the rows that were written."""
    ran = rows["kernels"] + rows["graph_launches"]
    return Held(
        export,
        session,
        rows,
        lost_kernels=0 if ran else calls.calls_that(to, "launch", "graph_launch"),
        lost_records=0 if rows["event_records"] else calls.calls_that(to, "record"),
    )


def _captured(
    run: RunDirectory | None, gpus: pa.Table, aligned: dict[str, Any] | None
) -> dict[str, tuple[pa.Table, NotCollected | None]]:
    """Tables of what a capture recorded beside the report, and why one has no rows."""
    if run is None:
        return {name: (TABLES[name].empty(), None) for name in ("telemetry", "benchmark", "layer_times")}
    return {
        "telemetry": run.telemetry(gpus, aligned),
        "benchmark": run.benchmark(),
        "layer_times": run.layer_times(),
    }


def _state(rows: int, absent: NotCollected | None) -> dict[str, Any]:
    """Whether a table has rows, was looked for and found empty, or was not collected, and why."""
    if rows:
        return {"rows": rows, "status": "present", "reason": None}
    if absent is None:
        return {"rows": 0, "status": "empty", "reason": None}
    return {"rows": 0, "status": "not_collected", "reason": str(absent), "remedy": absent.remedy}
