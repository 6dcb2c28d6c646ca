"""Damaged inputs: whatever is wrong with them, they answer with an error of ours, or with a trace that can be read."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from exports import write_parquetdir
from faults import damage

import nsight_tools
from nsight_tools import import_report, open_trace, summarize
from nsight_tools.analysis import registry
from nsight_tools.errors import NsightToolsError
from nsight_tools.importer import layers
from nsight_tools.importer.captured import RunDirectory
from nsight_tools.importer.manifest import MANIFEST
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_cuda_graph.capture"
FUZZED = int(os.environ.get("NSIGHT_TOOLS_FUZZED", "80"))
SEED = int(os.environ.get("NSIGHT_TOOLS_SEED", "1"))
DAMAGES = (*damage.OF_A_RUN, *damage.OF_A_DATASET, *damage.OF_A_PARQUETDIR)
BATCHES = 4
WHOLE_EACH = 20
ANALYSES = registry().values()
GPUS = TABLES["gpus"].empty()
ROWS, LAYERS = 60, 12


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory as a capture left it, but with few rows, so that many can be tried."""
    run = tmp_path_factory.mktemp("run") / "model.capture"
    run.mkdir()
    shutil.copy(SAMPLE / "report.sqlite", run)
    with closing(sqlite3.connect(run / "report.sqlite", isolation_level=None)) as database:
        for table in damage.tables_of(database):
            if table != "StringIds" and not table.startswith("ENUM_"):
                last = f'SELECT rowid FROM "{table}" LIMIT 1 OFFSET {ROWS}'
                database.execute(f'DELETE FROM "{table}" WHERE rowid >= ({last})')
        database.execute("VACUUM")
    shutil.copy(SAMPLE / "run.json", run)
    for name in ("telemetry.parquet", "benchmark.parquet"):
        pq.write_table(pq.read_table(SAMPLE / name).slice(0, ROWS), run / name)
    engine = json.loads((SAMPLE / "layers.json").read_text(encoding="utf-8"), strict=False)
    engine["Layers"] = engine["Layers"][:LAYERS]
    (run / "layers.json").write_text(json.dumps(engine), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def dataset(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_report(run_directory, tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def parquetdir(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquetdir(tmp_path_factory.mktemp("export") / "report_pqtdir", run_directory / "report.sqlite")


def opened(path: Path) -> None:
    """Import and open it, and read all of it."""
    trace = open_trace(path)
    for table in TABLES:
        assert trace.table(table).num_rows == trace.rows(table)
    summarize(trace)
    if path.suffix == ".capture":
        nsight_tools.analyze(trace, ANALYSES)


def layers_read(run: Path) -> None:
    layers.from_inspector(run / "layers.json")


def run_read(run: Path) -> None:
    """All that stands beside the report, and what becomes of it in a manifest."""
    found = RunDirectory.of(run)

    if found is not None:
        json.dumps(found.about(), ensure_ascii=False).encode()
        found.telemetry(GPUS, {"offset_ns": 0})
        found.benchmark()


def dataset_read(dataset: Path) -> None:
    trace = open_trace(dataset)
    for table in TABLES:
        trace.missing(table)
        assert trace.table(table).num_rows == trace.rows(table)


ALONE: dict[Callable[[Path, random.Random], None], Callable[[Path], None]] = {
    damage.layers_json: layers_read,
    damage.run_json: run_read,
    damage.telemetry: run_read,
    damage.benchmark: run_read,
    damage.manifest: dataset_read,
    damage.part: dataset_read,
}
"""What reads a damaged file first. Only this is done for most inputs, and the whole import for one in WHOLE_EACH."""


# ADBC's own, of cursors that read a damaged page.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Failed to close:ResourceWarning")
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("damaged", DAMAGES, ids=lambda each: each.__name__)
def test_only_errors_of_ours(
    tmp_path: Path,
    damaged: Callable[[Path, random.Random], None],
    batch: int,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    kind = (
        "dataset"
        if damaged in damage.OF_A_DATASET
        else "parquetdir"
        if damaged is damage.parquetdir
        else "run_directory"
    )
    whole: Path = request.getfixturevalue(kind)
    inputs = (FUZZED if damaged in ALONE else FUZZED // WHOLE_EACH) // BATCHES
    refused = 0
    for number in range(max(1, inputs)):
        seed = f"{SEED} {damaged.__name__} {batch} {number}"
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder / whole.name)
        damaged(folder / whole.name, random.Random(seed))  # noqa: S311 (damage, not secrets)
        read = opened if number % WHOLE_EACH == 0 else ALONE.get(damaged, opened)
        try:
            read(folder / whole.name)
        except NsightToolsError as error:
            refused += bool(str(error))
            assert kind == "dataset" or not list(folder.rglob(MANIFEST)), seed
        except Exception as error:
            raise AssertionError(seed) from error
        assert not list(folder.rglob("*.partial")), seed
        shutil.rmtree(folder)
    record_property("inputs", inputs)
    record_property("refused", refused)
