"""An import that is killed leaves the old dataset or the new one, whole, and partials that the next run removes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsight_tools import open_trace
from nsight_tools.importer import read_manifest
from nsight_tools.tables import TABLES

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_cuda_graph.sqlite"
KILLS = int(os.environ.get("NSIGHT_TOOLS_KILLS", "8"))
SEED = int(os.environ.get("NSIGHT_TOOLS_SEED", "1"))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "reports" / "run größer.sqlite"
    path.parent.mkdir()
    shutil.copy(SAMPLE, path)
    return path


def run(command: str, report: Path, *options: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "nsight_tools", command, str(report), *options]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def whole(dataset: Path) -> dict[str, int]:
    """Rows of every table, each of which is read to its end."""
    trace = open_trace(dataset)
    rows = {name: trace.table(name).num_rows for name in TABLES}
    assert rows == {name: state["rows"] for name, state in read_manifest(dataset)["tables"].items()}
    return rows


def how_long(command: str, report: Path, *options: str) -> float:
    started = time.monotonic()
    assert run(command, report, *options).wait() == 0
    return time.monotonic() - started


@pytest.mark.parametrize("command", ["import", "analyze"])
def test_killed_at_random_moments(report: Path, command: str) -> None:
    dataset = report.with_name(f"{report.name}.trace")
    force = ["--force"] if command == "import" else []
    longest = how_long(command, report, *force)
    expected = whole(dataset)
    chosen = random.Random(SEED)  # noqa: S311 (moments, not secrets)
    whole_after = 0
    for _ in range(KILLS):
        if command == "analyze" or chosen.random() < 0.3:
            shutil.rmtree(dataset, ignore_errors=True)  # so that there is something to import
        elif not dataset.exists():
            assert run("import", report).wait() == 0
        there_before = dataset.exists()
        process = run(command, report, *force)
        time.sleep(chosen.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert dataset.exists() or not there_before
        if dataset.exists():
            assert whole(dataset) == expected
            whole_after += 1
        left = {path.name for path in report.parent.iterdir()} - {report.name, dataset.name}
        assert all(name.endswith(".partial") for name in left), left
    assert run("import", report, "--force").wait() == 0
    assert whole(dataset) == expected
    assert sorted(path.name for path in report.parent.iterdir()) == [report.name, dataset.name]
    assert whole_after > 0 or command == "analyze"  # a dataset that was there has stayed
