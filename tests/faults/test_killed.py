"""What is killed leaves the old output or the new one, whole, and partials that the next run removes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import installed_nsys
import pytest
from benchmarks.repeat import repeat, times_for
from capture.processes_of import VARIABLE, none_left

from nsight_tools import open_trace
from nsight_tools.errors import NsysError
from nsight_tools.importer import read_manifest
from nsight_tools.importer.forking import FORK_ROWS
from nsight_tools.nsys import find
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_sync.sqlite"
KILLS = int(os.environ.get("NSIGHT_TOOLS_KILLS", "4"))
CAPTURES_KILLED = int(os.environ.get("NSIGHT_TOOLS_CAPTURES_KILLED", "3"))
SEED = int(os.environ.get("NSIGHT_TOOLS_SEED", "1"))


PROGRAM = """
import time
import nsight_tools
for number in range(20):
    with nsight_tools.inference():
        time.sleep(0.01)
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "reports" / "run [größer].sqlite"
    path.parent.mkdir()
    shutil.copy(SAMPLE, path)
    return path


@pytest.fixture(params=["by one process", "by two"])
def any_report(report: Path, request: pytest.FixtureRequest) -> Path:
    """An export; or one that is so long that two processes import it."""
    if request.param == "by two":
        report.unlink()
        repeat(SAMPLE, report, times_for(SAMPLE, FORK_ROWS))
    return report


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nobody else writes into its temporary folder, and its processes can be found."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return {**os.environ, "TMPDIR": str(temporary), VARIABLE: uuid.uuid4().hex}


def started(environment: dict[str, str], *arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nsight_tools", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def killed(environment: dict[str, str], after_s: float, *arguments: str | Path) -> bool:
    """Run nsight-tools for at most a time; returns whether it was killed then."""
    process = started(environment, *arguments)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def how_long(environment: dict[str, str], *arguments: str | Path) -> float:
    before = time.monotonic()
    assert started(environment, *arguments).wait() == 0
    return time.monotonic() - before


def whole(dataset: Path) -> dict[str, int]:
    """Rows of every table, each of which is read to its end."""
    trace = open_trace(dataset)
    rows = {name: trace.table(name).num_rows for name in TABLES}
    assert rows == {name: state["rows"] for name, state in read_manifest(dataset)["tables"].items()}
    return rows


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def only_partials(left: set[str]) -> int:
    assert all(name.endswith(".partial") for name in left), left
    return len(left)


def test_an_import(
    any_report: Path, environment: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    report = any_report
    dataset = report.with_name(f"{report.name}.trace")
    force = ("import", report, "--force")
    longest = how_long(environment, *force)
    expected = whole(dataset)
    chosen = random.Random(SEED)  # noqa: S311 (moments, not secrets)
    kept = left = in_time = 0
    for _ in range(KILLS):
        if chosen.random() < 0.3:
            shutil.rmtree(dataset, ignore_errors=True)  # so that there is something to import
        elif not dataset.exists():
            assert started(environment, "import", report).wait() == 0
        there_before = dataset.exists()
        in_time += killed(environment, chosen.uniform(0, longest), *force)
        assert none_left(environment[VARIABLE]) == []
        assert dataset.exists() or not there_before
        if dataset.exists():
            assert whole(dataset) == expected
            kept += 1
        left += only_partials(names(report.parent) - {report.name, dataset.name})
    assert started(environment, "import", report).wait() == 0
    assert whole(dataset) == expected
    assert names(report.parent) == {report.name, dataset.name}
    assert kept > 0
    for name, count in (("kills", KILLS), ("in time", in_time), ("datasets whole after", kept), ("partials", left)):
        record_property(name, count)


def test_an_analysis(report: Path, environment: dict[str, str], record_property: Callable[[str, object], None]) -> None:
    """It writes a dataset and a page."""
    dataset, page = report.with_name(f"{report.name}.trace"), report.with_name("page.json")
    command = ("analyze", report, "--format", "json", "-o", page)
    longest = how_long(environment, *command)
    expected, said = whole(dataset), json.loads(page.read_bytes())
    chosen = random.Random(SEED)  # noqa: S311 (moments, not secrets)
    left = in_time = pages = 0
    for _ in range(KILLS):
        if chosen.random() < 0.5:
            shutil.rmtree(dataset, ignore_errors=True)
        if chosen.random() < 0.3:
            page.unlink(missing_ok=True)
        elif not page.exists():
            page.write_text(json.dumps(said), encoding="utf-8")
        there_before = page.exists()
        in_time += killed(environment, chosen.uniform(0, longest), *command)
        assert none_left(environment[VARIABLE]) == []
        if dataset.exists():
            assert whole(dataset) == expected
        assert page.exists() or not there_before
        if page.exists():
            assert json.loads(page.read_bytes()) == said
            pages += 1
        left += only_partials(names(report.parent) - {report.name, dataset.name, page.name})
    assert started(environment, *command).wait() == 0
    assert names(report.parent) == {report.name, dataset.name, page.name}
    for name, count in (("kills", KILLS), ("in time", in_time), ("pages whole after", pages), ("partials", left)):
        record_property(name, count)


@pytest.mark.nsys
def test_a_capture(tmp_path: Path, environment: dict[str, str], record_property: Callable[[str, object], None]) -> None:
    """Every process that it started goes with it, and its temporary files with the next capture."""
    try:
        find()
    except NsysError as error:
        pytest.skip(error.message)
    program, target = tmp_path / "program.py", tmp_path / "captures" / "run.capture"
    program.write_text(PROGRAM, encoding="utf-8")
    target.parent.mkdir()
    command = ("capture", "--no-analyze", "--force", "-o", target, "--", sys.executable, program)
    longest = how_long(environment, *command)
    temporary = Path(environment["TMPDIR"])
    of_nsys = names(temporary)  # a folder with locks that it keeps
    chosen = random.Random(SEED)  # noqa: S311 (moments, not secrets)
    kept = left = in_time = 0
    for _ in range(CAPTURES_KILLED):
        if chosen.random() < 0.3:
            shutil.rmtree(target, ignore_errors=True)
        there_before = target.exists()
        in_time += killed(environment, chosen.uniform(0, longest), *command)
        assert none_left(environment[VARIABLE]) == []
        assert target.exists() or not there_before
        if target.exists():
            assert json.loads((target / "run.json").read_bytes())["status"] == "done"
            assert (target / "report.nsys-rep").stat().st_size > 0
            kept += 1
        left += only_partials(names(target.parent) - {target.name}) + only_partials(names(temporary) - of_nsys)
    for _ in range(installed_nsys.ATTEMPTS):
        assert started(environment, *command).wait() == 0
        if ranges := open_trace(target).rows("nvtx_ranges"):
            break
    assert ranges > 0
    assert names(target.parent) == {target.name}
    assert names(temporary) - of_nsys <= {f"nsight-tools-{os.getuid()}"}  # where imports have their locks
    for name, count in (("kills", CAPTURES_KILLED), ("in time", in_time), ("whole after", kept), ("partials", left)):
        record_property(name, count)
