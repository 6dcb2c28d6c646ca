"""`analyze --untraced`: the header of every format says who timed the run, and what is no such file ends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from importer.test_untraced import one, own_times, trtexec_times

from nsight_tools import open_trace
from nsight_tools.cli import program
from nsight_tools.units import duration

if TYPE_CHECKING:
    from click.testing import Result

SAMPLE = Path(__file__).parents[2] / "sample_traces" / "detector_pageable.sqlite"
TRACED_NS = 4_000_000
"""About what one of its inferences takes."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    shutil.copy(SAMPLE, folder / SAMPLE.name)
    open_trace(folder / SAMPLE.name)
    return folder / SAMPLE.name


def analyze(*arguments: Path | str) -> Result:
    return CliRunner().invoke(program, ["analyze", *map(str, arguments), "--select", "PCI001"])


@pytest.mark.parametrize("form", ["text", "markdown", "html", "json", "junit"])
def test_every_format_says_who_timed_it(report: Path, tmp_path: Path, form: str) -> None:
    times = own_times(tmp_path, *[TRACED_NS] * 20)
    done = analyze(report, "--untraced", times, "--format", form)
    assert done.exit_code == 0, done.output
    if form == "json":
        assert json.loads(done.output)["traces"][0]["untraced_run"] == {
            "measured_by": "host_clock", "inferences": 20, "file": "1.json", "problem": "", "program_ns": None,
        }  # fmt: skip
    elif form != "junit":  # which has no header
        said = " ".join(done.output.replace("\\", "").split())
        said = said.replace("&#39;", "'").replace("&#x27;", "'")
        each = duration(TRACED_NS)
        times = ", ".join(f"{name} {each}" for name in ("p50", "p90", "p95", "p99"))
        by = "20 inferences timed by nsight_tools.inference(), by the host's clock"
        assert f" inferences a second, {times}; {by}" in said


def test_trtexecs_times_and_another_datasets(report: Path, tmp_path: Path) -> None:
    times = trtexec_times(tmp_path, [one(4.0 * at, compute=3.5) for at in range(20)])
    said = " ".join(analyze(report, "--untraced", times).output.split())
    assert "without the profiler: 251 inferences a second, p50 3.80 ms, " in said
    assert "; 20 inferences timed by trtexec --exportTimes (times.json)" in said
    capture = SAMPLE.with_name("detector_pageable.capture")
    alone = shutil.copy(capture / "report.sqlite", tmp_path / "alone.sqlite")
    said = " ".join(analyze(alone, "--untraced", capture / "benchmark.parquet").output.split())
    assert "inferences timed by the runner, by the host's clock and CUDA events (benchmark.parquet)" in said


def test_the_dataset_stays_as_it_is(report: Path, tmp_path: Path) -> None:
    dataset = report.with_name(f"{report.name}.trace")
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    for of in (report, dataset):
        given = analyze(of, "--untraced", own_times(tmp_path, *[TRACED_NS] * 20))
        assert "timed by nsight_tools.inference()" in given.output
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before
    assert "without the profiler: " not in analyze(report).output.partition("Findings")[0]


def test_wrong_files_are_one_line(report: Path, tmp_path: Path) -> None:
    def said(path: Path) -> str:
        done = analyze(report, "--untraced", path)
        assert done.exit_code == 2
        (line,) = done.output.splitlines()
        return line

    slow = own_times(tmp_path, *[9 * TRACED_NS] * 20)
    assert said(slow) == (
        f"nsight-tools: error: {slow}: is of no run of {report}: one takes 36.0 ms there and 4.01 ms in the trace, "
        "which tracing makes no shorter; give the times of the same run"
    )
    few = own_times(tmp_path, TRACED_NS, pid=2)
    assert "it has 1 of the 10 inferences that are needed" in said(few)
    assert "is a folder; name a file in it" in said(tmp_path)
    assert "cannot be read: No such file" in said(tmp_path / "nothing")
    assert "is no JSON: " in said(Path(__file__))


def test_of_several_reports_or_into_a_dataset_it_is_refused(report: Path, tmp_path: Path) -> None:
    times = own_times(tmp_path, *[TRACED_NS] * 20)
    for more in ([tmp_path / "another.sqlite"], ["--dataset", tmp_path / "fleet"]):
        done = analyze(report, *more, "--untraced", times)
        assert done.exit_code == 2
        assert "--untraced is of one report, and goes into no --dataset" in done.output
    assert not (tmp_path / "fleet").exists()
