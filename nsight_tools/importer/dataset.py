"""Writing a dataset: the export's tables, then what is derived from them, then the manifest that makes it whole."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsight_tools import memory
from nsight_tools.columns import ints, words
from nsight_tools.errors import InputError
from nsight_tools.importer import by_order, clock, derived, dialects, facts, layers, trtexec
from nsight_tools.importer.beside import BESIDE_ROWS, HARMLESS, beside
from nsight_tools.importer.decode import Decoder
from nsight_tools.importer.manifest import MANIFEST
from nsight_tools.importer.writer import SortedWriter, write_table
from nsight_tools.tables import DATASET_VERSION, TABLES
from nsight_tools.timeline.requests import OURS, NamedRange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nsight_tools.importer.captured import RunDirectory
    from nsight_tools.importer.dialects import Source
    from nsight_tools.importer.sources import Chunk, Export
    from nsight_tools.importer.trtexec_run import TrtexecRun

Progress = Callable[[str, float | None], None]
AHEAD = 4
"""Chunks that are being read, or wait to be written. One thread reads: two would need Python's lock by turns."""


EVENT_BYTES = 200
"""Of memory that deriving takes for each kernel, copy, API call and NVTX range."""


@dataclass(frozen=True)
class Wanted:
    """What the caller asked of an import; a dataset is used again only for the same."""

    layers: Path | None
    keep_environment: bool
    inference_range: str | None
    run: RunDirectory | None = None
    layer_pass: Path | None = None
    group_by: str | None = None
    trtexec: TrtexecRun | None = None
    """What trtexec wrote, where that is the source."""
    profile: Path | None = None
    """Layer times by TensorRT's own profiler, as trtexec writes them, that stand beside a report."""


def write_dataset(
    export: Export,
    to: Path,
    *,
    source: Callable[[], dict[str, Any]],
    wanted: Wanted,
    progress: Progress,
    layer_pass: Path | None = None,
) -> None:
    """Write the dataset of `export` into the existing folder `to`, the manifest last.

    `layer_pass` is the dataset of the layer pass that is wanted.

    Memory: some chunks of rows, the export's strings, and for the derived tables about EVENT_BYTES for each kernel,
    copy, API call and NVTX range. Raises InputError where that is more than may be used (`nsight_tools.memory`).
    """
    _check_memory(export)
    decoder = Decoder(export)
    rows, payloads = _stream(export, decoder, to, progress)
    executed = sorted(payloads, key=payloads.__getitem__)
    listed = layers.from_inspector(wanted.layers, executed) if wanted.layers else layers.from_ranges(executed)
    small = {
        "gpus": facts.gpus(export) if wanted.run is None else wanted.run.gpus(facts.gpus(export)),
        "streams": facts.streams(export, decoder),
        "threads": facts.threads(export, decoder),
        "nvml_metrics": facts.nvml_metrics(export, decoder),
        "environment": facts.environment(export, decoder) if wanted.keep_environment else TABLES["environment"].empty(),
    }
    about = facts.session(export)
    aligned = clock.align(to, about["session"])
    why: dict[str, str | None] = {}
    for name, (table, reason) in _captured(wanted.run, small["gpus"], aligned).items():
        small[name], why[name] = table, reason
    if wanted.profile is not None:
        small["layer_times"] = layers.times(trtexec.read(wanted.profile, trtexec.Profile), "trtexec")
    working = derived.working_gpus(to)
    small |= {name: facts.resolved(small[name], working) for name in ("nvml_metrics", "telemetry")}
    for name, table in small.items():
        rows[name] = write_table(to / f"{name}.parquet", TABLES[name], table)
    progress("attributing GPU work to inferences", len(rows) / len(TABLES))
    pa.default_memory_pool().release_unused()  # what reading held, before what deriving needs comes on top
    named = NamedRange.parse(wanted.inference_range) if wanted.inference_range else OURS
    references = [*(by_order.of_dataset(layer_pass) if layer_pass else ()), *by_order.of_layers(listed)]
    with ThreadPoolExecutor(1, HARMLESS) as pool:
        described = pool.submit(source)  # which reads the export once more, where a core has time for it
        made = derived.write_derived(to, named, references, wanted.group_by, layers.on_dla(listed))
    ordered = made.layers
    if layer_pass and ordered and by_order.LAYER_PASS in ordered["attributed"] and not listed.num_rows:
        listed = layers.from_dataset(layer_pass)  # of this engine: its kernels came in the same order
    rows |= made.rows | {"layers": write_table(to / "layers.parquet", TABLES["layers"], listed)}
    lost = {
        "kernels": 0 if rows["kernels"] + rows["graph_launches"] else derived.calls_that(to, "launch", "graph_launch"),
        "event_records": 0 if rows["event_records"] else derived.calls_that(to, "record"),
    }
    manifest = {
        "dataset_version": DATASET_VERSION,
        "tool_version": version("nsight-tools"),
        "source": described.result(),
        **about,
        "clock": aligned,
        "run": wanted.run.about() if wanted.run else None,
        "requests": made.requests,
        "layers_by_order": ordered,
        "tables": {
            name: _state(rows[name], why.get(name) or _not_collected(name, rows, lost, export, about["capture"]))
            for name in TABLES
        },
    }
    (to / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    progress("done", 1.0)


def _check_memory(export: Export) -> None:
    events = _events(export, dialects.STREAMED)
    if (problem := memory.too_much(events * EVENT_BYTES)) is not None:
        raise InputError(export.path, f"has up to {events:,} events: it {problem}", hint=memory.ALLOW_MORE)


def _events(export: Export, names: Iterable[str]) -> int:
    """Rows of the export that these tables are made of, at most."""
    tables = {source.table for name in names for source in dialects.STREAMED[name]}
    return sum(export.rows(table) for table in tables & export.tables.keys())


def _stream(export: Export, decoder: Decoder, to: Path, progress: Progress) -> tuple[dict[str, int], dict[str, int]]:
    """Write the tables that come chunk by chunk; their rows, and when each payload of layer ranges was first seen."""
    others = [name for name in dialects.STREAMED if name not in ("nvtx_ranges", *dialects.BY_CALLS)]
    events = [_events(export, names) for names in (["nvtx_ranges"], others)]
    rows: dict[str, int] = {}

    def ranges() -> tuple[dict[str, int], dict[str, int]]:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: decoder.domain_names)  # before the first range asks for it
            return _stream_tables(["nvtx_ranges"], export, decoder, to, _silent, pool)

    progress("reading nvtx_ranges", 0.0)
    # Ranges are about half of all there is, and no other table needs them. Whoever shows progress may have threads.
    with beside(ranges, worthwhile=min(events) >= BESIDE_ROWS) as ranges_written:
        with ThreadPoolExecutor(1) as pool:
            rows |= _stream_tables(others, export, decoder, to, progress, pool)[0]
            # What a call synchronized is told by its name, and when an event was recorded by the call's start.
            decoder.sync_kinds = derived.sync_kinds(to, facts.schema_version(export))
            decoder.record_times = derived.record_times(to)
            rows |= _stream_tables(dialects.BY_CALLS, export, decoder, to, progress, pool)[0]
        there, payloads = ranges_written()
    rows |= there
    with SortedWriter(to / "gpu_metrics.parquet", TABLES["gpu_metrics"]) as writer:
        for part in facts.gpu_metrics(export):
            writer.add(part)
    rows["gpu_metrics"] = writer.rows
    return rows, payloads


def _stream_tables(
    names: Sequence[str],
    export: Export,
    decoder: Decoder,
    to: Path,
    progress: Progress,
    pool: ThreadPoolExecutor,
) -> tuple[dict[str, int], dict[str, int]]:
    """Write these tables one after the other, while the next chunks are read, be they of the next table.

    Returns their rows, and when each payload of layer ranges was first seen.
    """
    rows = dict.fromkeys(names, 0)
    payloads: dict[str, int] = {}

    def decode(source: Source, name: str, chunk: Chunk) -> pa.Table:
        return decoder.decode(source, TABLES[name], chunk())

    def pieces() -> Iterator[Piece]:
        for name in names:
            for source_table in dialects.STREAMED[name]:
                if source_table.table not in export.tables:
                    continue
                for chunk in export.chunks(source_table.table, decoder.raw(source_table)):
                    yield name, partial(decode, source_table, name, chunk)

    for name, parts in groupby(_in_turn(pool, pieces()), key=itemgetter(0)):
        progress(f"reading {name}", list(dialects.STREAMED).index(name) / len(TABLES))
        finish = derived.Nesting if name == "nvtx_ranges" else lambda: _as_it_is
        with SortedWriter(to / f"{name}.parquet", TABLES[name], finish) as writer:
            for _, part in parts:
                if "json" in part.column_names:
                    _collect(payloads, part)
                writer.add(part)
        rows[name] = writer.rows
    return rows, payloads


Piece = tuple[str, Callable[[], pa.Table]]
"""A table, and what reads and decodes some of its rows when called."""


def _silent(_what: str, _share: float | None) -> None:
    return


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def _in_turn(pool: ThreadPoolExecutor, pieces: Iterable[Piece]) -> Iterator[tuple[str, pa.Table]]:
    """Tables' rows in their order, AHEAD pieces of them under way at a time."""
    waiting = iter(pieces)
    under_way = deque((name, pool.submit(work)) for name, work in islice(waiting, AHEAD))
    try:
        while under_way:
            name, future = under_way.popleft()
            part = future.result()
            under_way += [(name, pool.submit(work)) for name, work in islice(waiting, 1)]
            yield name, part
    finally:
        for _, future in under_way:
            future.cancel()


def _collect(payloads: dict[str, int], part: pa.Table) -> None:
    """Keep each payload that layer ranges carry with the time at which it was first seen."""
    json = words(part["json"])
    first = np.full(len(json.dictionary) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, json.codes, ints(part["start_ns"]))  # nulls, -1, are the last
    for word, start in zip(json.dictionary, first.tolist(), strict=False):
        payloads[word] = min(start, payloads.get(word, start))


def _captured(
    run: RunDirectory | None, gpus: pa.Table, aligned: dict[str, Any] | None
) -> dict[str, tuple[pa.Table, str | None]]:
    """Tables of what a capture recorded beside the report, and why one has no rows."""
    if run is None:
        return {name: (TABLES[name].empty(), None) for name in ("telemetry", "benchmark", "layer_times")}
    return {
        "telemetry": run.telemetry(gpus, aligned),
        "benchmark": run.benchmark(),
        "layer_times": run.layer_times(),
    }


def _state(rows: int, reason: str | None) -> dict[str, Any]:
    """Whether a table has rows, was looked for and found empty, or was not collected, and why."""
    if rows:
        return {"rows": rows, "status": "present", "reason": None}
    return {"rows": 0, "status": "empty" if reason is None else "not_collected", "reason": reason}


def _not_collected(
    name: str, rows: dict[str, int], lost: Mapping[str, int], export: Export, capture: dict[str, str | None]
) -> str | None:
    """Why a table without rows was not collected; None where it was looked for, and there was nothing.

    `lost` is how many calls should have made a kernel or an event's record, where there is none at all.
    """
    advice = dialects.NOT_COLLECTED[name]
    if name in dialects.CUDA_TABLES or name == "launches":
        return _cuda_not_collected(name, rows, lost, export, advice)
    if name in ("layers", "inferences", "enqueues", "environment", "telemetry", "benchmark", "layer_times"):
        return advice
    if name == "diagnostics" and facts.schema_version(export) >= dialects.DIAGNOSTICS_SINCE:
        return None
    looked_for = {"nvtx_ranges": "nvtx_trace", "memory_usage": "memory_usage"}.get(name)
    if looked_for and capture[looked_for] == "true":
        return None
    tables = {source.table for source in dialects.STREAMED.get(name, ())}
    return None if tables & export.tables.keys() else advice


def _cuda_not_collected(
    name: str, rows: dict[str, int], lost: Mapping[str, int], export: Export, advice: str
) -> str | None:
    """An export lacks the tables that had no rows: what the other CUDA tables hold tells whether one was looked for."""
    work = rows["kernels"] + rows["memory_ops"] + rows["graph_launches"]
    if not any(table.startswith("CUPTI_ACTIVITY_KIND_") for table in export.tables):
        return f"no CUDA activity was traced; {advice}"
    if name == "kernels" and rows["graph_launches"]:
        graphs = f"the report traced {rows['graph_launches']} whole CUDA graphs, not their kernels"
        return f"{graphs}; capture with --cuda-graph-trace=node"
    if name in ("api_calls", "event_records") and work and not rows["api_calls"]:
        return f"the report holds {work} pieces of GPU work but no CUDA call; {advice}"
    if name == "event_records" and lost[name]:
        why = "Nsight Systems before 2023 does not, and none does in the capture of a CUDA graph"
        return f"{lost[name]} calls recorded an event, and the report does not say on which stream: {why}"
    if lost["kernels"] and (not work or name == "kernels") and name not in ("api_calls", *dialects.BY_CALLS):
        why = "the profiler received no GPU activity; see its diagnostics, and capture again"
        return f"{lost['kernels']} launches were traced but no kernel: {why}"
    return None
