"""The runner loads what it built, keeps a timing cache, and finds out what a Python lacks, over a made TensorRT.

What reaches the builder is in test_real_tensorrt.py, and in test_older_tensorrt.py where a real one has no such thing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace as Made
from typing import TYPE_CHECKING, Any

import pytest
from runner_cases import DYNAMIC_X, DYNAMIC_Y, command, engine, model, run

from nsight_tools.capture.runner import main
from nsight_tools.capture.runner.outcome import Result
from nsight_tools.capture.runner.phases import Phases
from nsight_tools.capture.runner.timing_cache import TimingCache

if TYPE_CHECKING:
    from pathlib import Path

    from runner_cases import Ran


def built(folder: Path, environment: dict[str, str] | None = None, **task: Any) -> Ran:
    ran = run(folder, environment, task="build", engine=folder / "new.engine", **task)
    assert ran.code == 0, ran.stderr
    return ran


@pytest.mark.parametrize("version", ["8.6.0", "10.13.3"])
def test_what_is_built_is_loaded(tmp_path: Path, version: str) -> None:
    settings = {"fp16": True, "timing_cache_file": str(tmp_path / "timing.cache")}
    onnx = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), build_s=0.05)
    environment = {"FAKE_TENSORRT_VERSION": version}
    ran = built(tmp_path, environment, onnx=onnx, profiles=3, batch=6, settings=settings)
    assert (ran.result["engine"]["profiles"], ran.result["engine"]["device_memory_bytes"]) == (3, 4096)
    made = ran.result["build"]
    assert made["settings"] == settings | {"profiling_verbosity": "detailed"}
    phases = made["phases_s"]
    assert sorted(phases) == sorted(["parse", "timing_cache_read", "build", "serialize", "write", "deserialize"])
    assert phases["build"] == 0.001  # TensorRT's own word
    assert phases["build"] + phases["serialize"] >= 0.05
    assert made["seconds"] == pytest.approx(sum(phases.values()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "journal.json", "model.onnx", "new.engine", "output", "task.json", "timing.cache",
    ]  # fmt: skip
    (tmp_path / "run").mkdir()
    assert run(tmp_path / "run", environment, engine=tmp_path / "new.engine", streams=3).code == 0


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (None, ["conv"], (True, 0, 1, 0)),
        (["old"], ["old", "conv"], (False, 1, 1, None)),
        (["conv"], ["conv"], (False, 1, 0, None)),
        (["other GPU"], ["conv"], (True, 0, 1, 0)),
    ],
)
def test_timing_cache_is_read_and_written(
    tmp_path: Path, before: list[str] | None, after: list[str], found: tuple[bool, int, int, int | None]
) -> None:
    cache = tmp_path / "timing.cache"
    if before is not None:
        cache.write_text(json.dumps(before), "utf-8")
    settings = {"timing_cache_file": str(cache)}
    ran = built(tmp_path, onnx=model(tmp_path), settings=settings)
    assert json.loads(cache.read_text("utf-8")) == after
    said = ran.result["build"]["timing_cache"]
    assert (said["fresh"], said["entries_before"], said["misses"], said["hits"]) == found


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (["conv"], None),
        (["old"], "the timing cache lacks a tactic"),
        (["other GPU"], "the timing cache is of another GPU or TensorRT"),
        (None, "there is no timing cache"),
    ],
)
def test_a_timing_cache_can_be_required(tmp_path: Path, before: list[str] | None, words: str | None) -> None:
    cache = tmp_path / "timing.cache"
    if before is not None:
        cache.write_text(json.dumps(before), "utf-8")
    settings = {"timing_cache_file": str(cache), "error_on_timing_cache_miss": True}
    task = {"task": "build", "onnx": model(tmp_path), "engine": tmp_path / "new.engine"}
    ran = run(tmp_path, {"FAKE_TENSORRT_VERSION": "10.13.0"}, settings=settings, **task)
    assert (ran.code == 0) == (words is None) == (tmp_path / "new.engine").exists()
    assert (words or "") in ran.stderr
    assert (json.loads(cache.read_text("utf-8")) if cache.exists() else None) == before


def test_a_tensorrt_that_logs_nothing_leaves_what_it_does_not_say(tmp_path: Path) -> None:
    phases, result = Phases(), Result(tmp_path)
    with phases("build"):
        (tmp_path / "timing.cache").write_bytes(b"old")
    phases.part_serialization(["[I] something else"])
    assert phases.seconds["serialize"] is None
    assert phases.seconds["build"]
    cache = Made(serialize=lambda: b"new")
    config = Made(create_timing_cache=lambda _: cache, set_timing_cache=lambda *_, **__: True)
    found = TimingCache(config, tmp_path / "timing.cache", result, required=False).write()
    assert (found["fresh"], found["misses"], found["hits"]) == (False, None, None)
    assert (tmp_path / "timing.cache").read_bytes() == b"new"


def test_a_hash_of_the_tactics_tells_builds_apart(tmp_path: Path) -> None:
    found = []
    for number, value in enumerate((1, 1, 2, None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer = {"Name": "conv", "TacticName": "sm90_conv", "TacticValue": value}
        layers = [layer, {"Name": "no tactic"}] if value else ["names", "only"]
        ran = built(folder, onnx=model(folder, layers=layers))
        found.append(ran.result["build"]["tactics"])
    one, again, other, names = found
    assert one == again
    assert one["layers"] == other["layers"] == 1
    assert one["sha256"] != other["sha256"]
    assert names is None


def test_a_setting_that_is_no_option(tmp_path: Path) -> None:
    ran = run(tmp_path, task="build", onnx=model(tmp_path), engine=tmp_path / "new.engine", settings={"fp4": True})
    assert ran.code == 2
    assert "fp4 is no option" in ran.stderr
    assert ran.result["status"] == "failed"


def test_probe_finds_everything(tmp_path: Path) -> None:
    ran = run(tmp_path, task="probe")
    assert ran.code == 0, ran.stderr
    assert ran.result["device"]["name"] == "Fake GPU"
    assert ran.result["errors"] == []
    assert ran.result["versions"]["cuda_driver"] == "13.0"


def test_probe_names_every_package_that_is_missing(tmp_path: Path) -> None:
    arguments, environment, output = command(tmp_path, task="probe")
    (tmp_path / "lame" / "tensorrt").mkdir(parents=True)
    (tmp_path / "lame" / "tensorrt" / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.8: cannot open shared object file')", "utf-8"
    )
    (tmp_path / "lame" / "pycuda").mkdir()
    (tmp_path / "lame" / "pycuda" / "__init__.py").touch()
    (tmp_path / "lame" / "pycuda" / "driver.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file')", "utf-8"
    )
    environment |= {"PYTHONPATH": str(tmp_path / "lame")}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    errors = json.loads((output / "result.json").read_text("utf-8"))["errors"]
    assert [error["where"] for error in errors] == ["tensorrt", "pycuda.driver"]
    assert "libnvinfer.so.8" in errors[0]["what"]
    assert "no NVIDIA driver" in errors[1]["hint"]


def test_missing_package_says_how_to_install_it(tmp_path: Path) -> None:
    arguments, environment, output = command(tmp_path, engine=engine(tmp_path))
    del environment["PYTHONPATH"]
    code = (
        "import sys, runpy; sys.modules['tensorrt'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments[1:]], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    error = json.loads((output / "result.json").read_text("utf-8"))["error"]
    assert "tensorrt" in error["what"]
    assert "pip install tensorrt" in error["hint"]


NO_TASK = {
    "no JSON": b"{",
    "no object": b"[]",
    "no path": b'{"output": 3}',
    "no folder": b'{"task": "timing", "output": "/nowhere"}',
}


@pytest.mark.parametrize("which", [*NO_TASK, "no file", ""])
def test_task_files_that_are_none(tmp_path: Path, which: str, capfd: pytest.CaptureFixture[str]) -> None:
    task = tmp_path / "task.json"
    if which in NO_TASK:
        task.write_bytes(NO_TASK[which])
    assert main.main([str(task)] if which else []) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
