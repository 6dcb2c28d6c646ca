"""`nsight-tools sweep` over a made TensorRT and GPU: what it measures, prints and keeps, and how it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from capture.runner_cases import DYNAMIC_X, DYNAMIC_Y, FAKES, PROFILE, engine, model
from command_line import invoke_in
from patience import PATIENCE_S, wait_until
from report.inert import check

from nsight_tools.tune.measuring import Why, read_rows
from nsight_tools.tune.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ("--duration", "0.05", "--iterations", "10", "--warm-up", "1", "--telemetry-hz", "0")


MADE = (FAKES, FAKES.with_name("fakes_nvml"), FAKES.with_name("fakes_nvtx"))
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, MADE)), "FAKE_NVML_PYTHON": sys.executable}


def started(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | ENVIRONMENT | {"TMPDIR": str(folder)}
    command = [sys.executable, "-m", "nsight_tools", "sweep", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def swept(folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    return invoke_in(folder, "sweep", *arguments, **ENVIRONMENT)


def table(folder: Path) -> Path:
    return folder / "model.sweep" / "measurements.parquet"


def test_each_combination_is_a_line_a_row_and_a_mark(tmp_path: Path) -> None:
    engine(tmp_path)
    more = ("--streams", "1,2", "--default-stream", "both", "--pageable", "--latency-limit", "500ms")
    code, out, err = swept(tmp_path, "model.engine", *more, *SHORT)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["inputs/s", "p50", "p99", "memory", "energy", "setting"]
    assert [line.rpartition("  ")[2] for line in lines[1:4]] == [
        "--pageable",
        "--default-stream --pageable",
        "--pageable --streams 2",
    ]
    refused = "cannot be run: the default stream is one stream, and takes no --streams"
    assert f"{refused}  [--default-stream --pageable --streams 2]" in lines
    assert any(line.startswith("most throughput: ") for line in lines)
    assert any(line.startswith("best within a p99 of 500 ms: ") for line in lines)
    rows = read_rows(table(tmp_path))
    assert [row.why for row in rows] == [None, None, None, Why.REFUSED]
    assert rows[0].setting == Setting.of({"pageable": True})
    assert rows[0].measurement is not None
    assert rows[0].measurement.throughput_per_s > 0
    assert rows[0].measurement.p50_ns >= 300_000  # what the made engine takes
    page = (table(tmp_path).parent / "sweep.html").read_text("utf-8")
    assert "<svg" in page
    said = check(page).text
    assert "--default-stream --pageable" in said
    assert refused.partition(": ")[2] in said
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    engine(tmp_path)
    code, _, err = swept(tmp_path, "model.engine", "--streams", "1", *SHORT)
    assert code == 0, err
    before = read_rows(table(tmp_path))
    code, out, err = swept(tmp_path, "model.engine", "--streams", "1,2", *SHORT)
    assert code == 0, err
    assert "1 of 2 runs were made before" in err
    rows = read_rows(table(tmp_path))
    assert rows[:1] == before
    assert [row.setting for row in rows] == [Setting(), Setting.of({"streams": 2})]
    assert len([line for line in out.splitlines() if line.endswith("as by default") and ":" not in line]) == 1


def test_each_build_is_made_once(tmp_path: Path) -> None:
    model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y))
    ends = ("--min-shapes", "x:1x3x16x16", "--opt-shapes", "x:4x3x16x16", "--max-shapes", "x:8x3x16x16")
    code, _, err = swept(tmp_path, "model.onnx", "--batch", "1,8", "--fp16", "both", *ends, *SHORT)
    assert code == 0, err
    assert err.count("building model-") == 4  # a build is for a batch, whatever the shapes allow
    assert [row.setting.get("batch") for row in read_rows(table(tmp_path))] == [1, 1, 8, 8]
    code, _, err = swept(tmp_path, "model.onnx", "--batch", "8", "--fp16", "--repeat", "2", *ends, *SHORT)
    assert code == 0, err
    assert "building" not in err


def test_what_does_not_fit_the_memory_is_said_and_the_rest_measured(tmp_path: Path) -> None:
    engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=(PROFILE,))
    code, out, err = swept(tmp_path, "model.engine", "--streams", "1,2", *SHORT)
    assert code == 0, err
    assert "cannot be run: " in out
    assert "optimization profile" in out
    assert [row.why for row in read_rows(table(tmp_path))] == [None, Why.REFUSED]
    again = ("model.engine", "--streams", "1,2", *SHORT)
    code, out, err = swept(tmp_path, *again)
    assert code == 0, err
    assert "1 failed before, and is not tried again without --retry-failed" in err
    assert "optimization profile" in out
    assert len(read_rows(table(tmp_path))) == 2
    code, out, err = swept(tmp_path, *again, "--retry-failed")
    assert code == 0, err
    assert "1 of 2 runs were made before" in err
    assert out.count("optimization profile") == 1
    assert [row.why for row in read_rows(table(tmp_path))] == [None, Why.REFUSED]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["interrupted", "ended", "killed"]
)
def test_what_was_measured_is_kept_and_gone_on_from(tmp_path: Path, number: signal.Signals) -> None:
    engine(tmp_path)
    arguments = ("model.engine", "--streams", "1,2,4", "--duration", "0.2", *SHORT[2:])
    process = started(tmp_path, *arguments)
    wait_until(table(tmp_path).exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    rows = read_rows(table(tmp_path))
    assert 1 <= len(rows) < 3
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted: {3 - len(rows)} runs are left" in err
        assert (table(tmp_path).parent / "sweep.html").exists()
    if number is signal.SIGTERM:
        assert process.returncode == 128 + number
        assert err.splitlines()[-1] == "nsight-tools: ended by SIGTERM; the same command goes on from here"
    code, _, err = swept(tmp_path, *arguments)
    assert code == 0, err
    assert read_rows(table(tmp_path))[: len(rows)] == rows
    assert len(read_rows(table(tmp_path))) == 3
    assert sorted(path.name for path in table(tmp_path).parent.iterdir()) == [
        "about.json",
        "measurements.parquet",
        "sweep.html",
    ]


REFUSED = [
    (["none.engine"], "none.engine: does not exist"),
    (["notes.txt"], "is neither an engine nor ONNX"),
    (["bad.engine", "--streams", "1,2"], "no setting could be measured: "),
    (["bad.onnx"], "no setting could be measured: "),
    (["model.engine", "--latency-limit", "5m"], "'5m' is no time, as 5ms"),
    (["model.engine", "--fp16"], "--fp16 is how an engine is built, and model.engine is built already"),
    (["model.engine", "--streams", "1,many"], "'many' is not a valid integer"),
    (["--pageable", "model.engine"], "the MODEL comes first"),
    (["model.engine", "--load-inputs", "x:absent.npy"], "absent.npy: there is no such file"),
    (["model.engine", "--latency-limit", "5"], "'5' is no time, as 5ms"),
    (["model.engine", "--allow-gpu-fallback"], "--allow-gpu-fallback goes with --use-dla-core"),
    (["model.engine", "--python", "no-such-python"], "there is no such program"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=str)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], words: str) -> None:
    engine(tmp_path)
    (tmp_path / "notes.txt").write_text("", "utf-8")
    (tmp_path / "bad.engine").write_text("no engine", "utf-8")
    (tmp_path / "bad.onnx").write_text("no model", "utf-8")
    before = sorted(tmp_path.iterdir())
    code, out, err = swept(tmp_path, *arguments, *SHORT)
    assert code == 2
    assert out == ""
    *progress, line = err.splitlines()
    assert words in line
    assert all("runs are left" in each or "building" in each for each in progress)
    assert sorted(tmp_path.iterdir()) == before
