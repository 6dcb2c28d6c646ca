"""`nsight-tools tune` over a made TensorRT and GPU, with a real Nsight Systems: what it leaves and refuses.

A made GPU starts no capture range, so that all of a pass is traced; and it is no measure of what is faster.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

import installed_nsys
import numpy as np
import pytest
from capture.runner_cases import DYNAMIC_X, DYNAMIC_Y, FAKES, X, Y, engine, model
from command_line import invoke_in
from jsonschema import Draft202012Validator
from patience import PATIENCE_S, wait_until

from nsight_tools.tune import ledger as ledgers
from nsight_tools.tune import programs

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ("--duration", "0.05", "--iterations", "10", "--warm-up", "1", "--telemetry-hz", "0", "--no-gpu-metrics")
TRACED = "--nsys-arg=--capture-range=none"
SERVES = (
    "import time, nsight_tools\nfor n in range(30):\n    with nsight_tools.inference():\n        time.sleep(0.003)\n"
)


def started(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | around(nsys=True) | {"TMPDIR": str(folder)}
    command = [sys.executable, "-m", "nsight_tools", "tune", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def tuned(folder: Path, *arguments: str | Path, nsys: bool = True) -> tuple[int, str, str]:
    return invoke_in(folder, "tune", *arguments, **around(nsys=nsys))


def around(*, nsys: bool) -> dict[str, str]:
    """The variables that it gets, whose runners find a made TensorRT."""
    return {"PYTHONPATH": str(FAKES)} | ({"NSIGHT_TOOLS_NSYS": str(installed_nsys.main().path)} if nsys else {})


def ledger(folder: Path, schema: str = "ledger-schema-1.json") -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "ledger.json").read_text("utf-8"))
    text = resources.files("nsight_tools.report").joinpath(schema).read_text("utf-8")
    Draft202012Validator(json.loads(text)).validate(data)
    return data


def runs(folder: Path) -> int:
    return int(ledger(folder)["runs"]) if (folder / "ledger.json").exists() else 0


@pytest.mark.nsys
def test_interrupted_and_killed_it_goes_on_to_the_end(tmp_path: Path) -> None:
    engine(tmp_path)
    arguments = ("model.engine", "--default-stream", *SHORT, TRACED, "--budget", "24")
    folder = tmp_path / "model.tune"
    for number in (signal.SIGKILL, signal.SIGINT):
        process = started(tmp_path, *arguments)
        before = runs(folder)
        wait_until(lambda process=process, before=before: process.poll() is not None or runs(folder) > before)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 130), err
        assert ledger(folder)["ended"] is None
    code, out, err = tuned(tmp_path, *arguments)
    assert code == 0, err
    found = ledger(folder)
    assert found["ended"] in {"budget", "nothing left"}
    assert found["runs"] <= 24
    assert found["captures"][0]["capture"] == "0.capture"
    assert (folder / "0.capture" / "report.nsys-rep").exists()
    assert found["first"]["p50_ns"] >= 300_000
    assert found["best"]["commands"]["capture"] in out
    assert found["best"]["commands"]["trtexec"] in out
    assert (folder / "tune.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    names = {path.name for path in folder.iterdir()}
    beside = {"about.json", "ledger.json", "start", "tune.html"}
    assert names - {each["capture"] for each in found["captures"]} == beside
    assert all(step["accuracy"]["passed"] for step in found["steps"])
    assert found["reference"] == "start"
    assert ledgers.as_json(ledgers.read(folder / "ledger.json")) == found
    code, _, err = tuned(tmp_path, "model.engine", *SHORT, TRACED)
    assert code == 2
    assert "was measured with another --default-stream" in err


@pytest.mark.nsys
def test_what_fails_in_the_middle_leaves_the_ledger(tmp_path: Path) -> None:
    """nsys refuses to trace: the start was measured, and is not measured again."""
    engine(tmp_path)
    code, _, err = tuned(tmp_path, "model.engine", *SHORT, "--nsys-arg=--no-such-option")
    assert code == 2
    *_, kept, error = err.splitlines()
    assert kept == "nsight-tools: the ledger is in model.tune"
    assert "no-such-option" in error
    found = ledger(tmp_path / "model.tune")
    assert (found["runs"], found["captures"], found["ended"]) == (1, [], None)
    assert {path.name for path in (tmp_path / "model.tune").iterdir()} == {
        "about.json", "ledger.json", "start", "tune.html",
    }  # fmt: skip
    code, _, err = tuned(tmp_path, "model.engine", *SHORT, "--nsys-arg=--no-such-option")
    assert code == 2
    assert "measuring the start" not in err


@pytest.mark.nsys
def test_a_model_is_built_for_each_step_that_asks_for_it(tmp_path: Path) -> None:
    model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y))
    more = ("--batch", "2", "--min-shapes", "x:1x3x16x16", "--opt-shapes", "x:2x3x16x16", "--max-shapes", "x:2x3x16x16")
    more += ("--builder-optimization-level", "3", "--use-cuda-graph", "--use-spin-wait", "--overlap-transfers")
    code, out, err = tuned(tmp_path, "model.onnx", *more, "--most-streams", "1", *SHORT, TRACED)
    assert code == 0, err
    found = ledger(tmp_path / "model.tune")
    assert found["ended"] == "nothing left"
    assert [step["changes"][-1]["option"] for step in found["steps"]][:2] == ["fp16", "builder_optimization_level"]
    assert found["best"]["engine"].startswith("engines/model-")
    assert (tmp_path / "model.tune" / found["best"]["engine"]).exists()
    assert found["captures"][0]["shapes"] == {"x": [2, 3, 16, 16]}
    line = next(line for line in out.splitlines() if "trtexec --onnx=model.onnx" in line)
    assert line.split()[1:6] == [
        "trtexec",
        "--onnx=model.onnx",
        "--shapes=x:2x3x16x16",
        "--minShapes=x:1x3x16x16",
        "--optShapes=x:2x3x16x16",
    ]
    assert "#" not in line


@pytest.mark.nsys
def test_a_build_takes_no_more_than_the_budget(tmp_path: Path) -> None:
    model(tmp_path, build_s=6 * PATIENCE_S)
    code, _, err = tuned(tmp_path, "model.onnx", "--budget", "2s", *SHORT)
    assert code == 2
    assert "the build was stopped after 2 s, which is all there was" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not list(tmp_path.glob("model.tune*/engines/*.engine"))


@pytest.mark.nsys
def test_a_reference_decides(tmp_path: Path) -> None:
    engine(tmp_path)
    np.savez(tmp_path / "small.npz", y=np.zeros((2, 2), np.float16))
    np.savez(tmp_path / "other.npz", y=np.full((8, 10), 3.0, np.float16))
    for arguments, words in (
        (("--reference", "absent.npz"), "absent.npz: does not exist"),
        (("--reference", "small.npz"), "output y is 8x10, and 2x2 in small.npz"),
        (("--reference", "other.npz"), "the start itself is not as other.npz: output y: rel is "),
        (("--reference", "onnxruntime"), "model.engine is no ONNX model"),
        (("--accuracy", "cos:2"), "cos:2: the limit of cos is a number from 0 to 1"),
    ):
        code, _, err = tuned(tmp_path, "model.engine", *arguments, *SHORT, TRACED)
        assert code == 2
        assert words in err.splitlines()[-1]
        assert not (tmp_path / "model.tune").exists()


@pytest.mark.nsys
def test_a_limit_that_judges_nothing_begins_no_tuning(tmp_path: Path) -> None:
    engine(tmp_path, tensors=(X, Y | {"shape": [8, 5, 2]}))
    code, _, err = tuned(tmp_path, "model.engine", "--accuracy", "top1:0.9", *SHORT, TRACED)
    assert code == 2
    assert "cannot be judged by --accuracy: top1 at least 0.9: no output looks like classes" in err.splitlines()[-1]
    assert not (tmp_path / "model.tune").exists()


@pytest.mark.nsys
def test_a_program_is_named_a_change_and_judged_after_it(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SERVES, "utf-8")
    command = ("--", sys.executable, "serve.py")
    code, out, err = tuned(tmp_path, "-o", "serve.tune", *command)
    assert code == 0, err
    assert "not told: the GPU was not traced" in out
    assert "a change of your own is judged by: nsight-tools tune --continue serve.tune" in out
    folder = tmp_path / "serve.tune"
    first = ledger(folder, "program-ledger-schema-1.json")
    code, _, err = tuned(tmp_path, "-o", "serve.tune", *command)
    assert code == 2
    assert "go on with it: nsight-tools tune --continue serve.tune" in err
    (tmp_path / "serve.py").write_text(SERVES.replace("0.003", "0.001"), "utf-8")
    code, out, err = tuned(tmp_path, "--continue", "serve.tune")
    assert code == 0, err
    found = programs.read(folder / "ledger.json")
    assert [each.capture for each in found.seen] == ["0.capture", "1.capture"]
    assert found.steps[0].said in out
    (tmp_path / "serve.py").write_text("import sys; sys.exit(3)", "utf-8")
    code, _, err = tuned(tmp_path, "--continue", "serve.tune")
    assert code == 2
    assert "ended with exit code 3" in err
    assert programs.read(folder / "ledger.json") == found
    assert sorted(path.name for path in folder.iterdir()) == ["0.capture", "1.capture", "ledger.json"]
    assert first["command"] == [sys.executable, "serve.py"]


@pytest.mark.nsys
def test_a_program_that_only_ctrl_c_ends_is_captured_until_then(tmp_path: Path) -> None:
    endless = SERVES.replace("range(30)", "iter(int, 1)") + "    n or open('ready', 'w').close()\n"
    (tmp_path / "serve.py").write_text(endless, "utf-8")
    process = started(tmp_path, "--no-untraced", "-o", "serve.tune", "--", sys.executable, "serve.py")
    wait_until(lambda: process.poll() is not None or (tmp_path / "ready").exists())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "keeping what it measured" in err
    assert "a change of your own is judged by" in out
    assert ledger(tmp_path / "serve.tune", "program-ledger-schema-1.json")["captures"][0]["capture"] == "0.capture"


REFUSED = [
    ([], "give a MODEL, a command after --, or --continue DIR"),
    (["none.engine"], "none.engine: does not exist"),
    (["notes.txt"], "is neither an engine nor ONNX"),
    (["model.engine", "--budget", "5"], "--budget 5: one step takes 7 runs"),
    (["model.engine", "--budget", "5s"], "one step takes 7 runs, 22 s at the least"),
    (["model.engine", "--budget", "5s", "--duration", "0.9"], "7.7 s at the least"),
    (["model.engine", "--budget", "7.5"], "'7.5' is no time, as 20m, and no number of runs, as 40"),
    (["model.engine", "--budget", "soon"], "'soon' is no time, as 20m, and no number of runs, as 40"),
    (["model.engine", "--inference-range", "step"], "--inference-range is an option of a command"),
    (["model.engine", "--capture-range"], "--capture-range is an option of a command"),
    (["model.engine", "--no-untraced"], "--no-untraced is an option of a command"),
    (["--streams", "2", "--", "true"], "--streams is an option of a MODEL, not of a command"),
    (["--"], "or a command after --"),
    (["--continue", "nowhere"], "is no ledger of a program's tuning"),
    (["--continue", "nowhere", "model.engine"], "or --continue DIR and maybe a command"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=str)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], words: str) -> None:
    engine(tmp_path)
    (tmp_path / "notes.txt").write_text("", "utf-8")
    code, _, err = tuned(tmp_path, *arguments, nsys=False)
    assert code == 2
    (line,) = err.splitlines()
    assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.engine", "notes.txt"]


@pytest.mark.nsys
def test_the_traceback_of_the_runner_is_printed_where_that_is_asked_for(tmp_path: Path) -> None:
    """It was raised in another process, whose folder is gone by then."""
    (tmp_path / "bad.onnx").write_text("no model", "utf-8")
    code, _, err = tuned(tmp_path, "bad.onnx", *SHORT, "--debug")
    assert code == 2
    assert re.search(r": unexpected JSONDecodeError: .* \(decoder.py, line \d+\)", err.splitlines()[-1])
    assert "json.decoder.JSONDecodeError: Expecting value" in err
    assert "runner/builder.py" in err


@pytest.mark.nsys
def test_an_engine_that_cannot_be_run_leaves_nothing(tmp_path: Path) -> None:
    engine(tmp_path)
    (tmp_path / "bad.engine").write_text("no engine", "utf-8")
    (tmp_path / "bad.onnx").write_text("no model", "utf-8")
    for arguments, words in (
        (("bad.engine",), "cannot load the engine"),
        (("bad.onnx",), "this is a bug of nsight-tools or of a package: nsight-tools --debug capture prints"),
        (("model.engine", "--fp16"), "--fp16 is how an engine is built, and model.engine is built already"),
        (
            ("model.engine", "--default-stream", "--use-cuda-graph"),
            "CUDA cannot capture a graph on the legacy default stream",
        ),
    ):
        code, _, err = tuned(tmp_path, *arguments, *SHORT, TRACED)
        assert code == 2
        assert words in err.splitlines()[-1]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.engine", "bad.onnx", "model.engine"]
