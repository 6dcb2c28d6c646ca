"""The runner builds engines, and finds out what a Python lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from runner_cases import DYNAMIC_X, DYNAMIC_Y, RUNNER, command, engine, model, run

if TYPE_CHECKING:
    from pathlib import Path


def built(folder: Path, environment: dict[str, str] | None = None, **task: Any) -> tuple[Any, dict[str, Any]]:
    ran = run(folder, environment, task="build", engine=folder / "new.engine", **task)
    assert ran.code == 0, ran.stderr
    return ran, json.loads((folder / "new.engine").read_text("utf-8"))


def test_options_reach_the_builder(tmp_path: Path) -> None:
    ran, plan = built(tmp_path, onnx=model(tmp_path), precision="fp16", builder_optimization_level=0, tactic_sources=0)
    assert (plan["flags"], plan["level"], plan["tactics"], plan["verbosity"]) == ([0], 0, 0, "DETAILED")
    assert ran.result["engine"]["inputs"][0]["shape"] == [8, 3, 16, 16]
    assert ran.result["build"]["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "journal.json", "model.onnx", "new.engine", "output", "task.json",
    ]  # fmt: skip


def test_one_profile_for_each_stream(tmp_path: Path) -> None:
    dynamic = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y))
    ran, plan = built(tmp_path, onnx=dynamic, profiles=3, batch=6)
    assert plan["profiles"] == [{"x": [[6, 3, 16, 16]] * 3}] * 3
    assert ran.result["engine"]["profiles"] == 3
    (tmp_path / "run").mkdir()
    assert run(tmp_path / "run", engine=tmp_path / "new.engine", streams=3).code == 0


def test_int8_without_ranges_gets_placeholders(tmp_path: Path) -> None:
    ran, plan = built(tmp_path, onnx=model(tmp_path), precision="best")
    assert plan["flags"] == [0, 1]
    assert [name for name, *_ in plan["ranges"]] == ["x", "y"]
    assert ran.result["build"]["int8_ranges"] == "placeholder"


@pytest.mark.parametrize(("before", "after"), [(None, ["conv"]), (["old"], ["old", "conv"]), (["other GPU"], ["conv"])])
def test_timing_cache_is_read_and_written(tmp_path: Path, before: list[str] | None, after: list[str]) -> None:
    cache = tmp_path / "timing.cache"
    if before is not None:
        cache.write_text(json.dumps(before), "utf-8")
    built(tmp_path, onnx=model(tmp_path), timing_cache=cache)
    assert json.loads(cache.read_text("utf-8")) == after


@pytest.mark.parametrize("version", ["8.6.0", "10.13.3", "11.4.0"])
def test_every_major_version_builds(tmp_path: Path, version: str) -> None:
    ran, plan = built(tmp_path, {"FAKE_TENSORRT_VERSION": version}, onnx=model(tmp_path))
    assert plan["version"] == version
    assert ran.result["engine"]["device_memory_bytes"] == 4096


@pytest.mark.parametrize(
    ("spec", "task", "words"),
    [
        ({"parse_error": True}, {}, ["node 12: No importer registered for op: Frobnicate", "Frobnicate"]),
        ({"build_error": True}, {}, ["cannot build the engine", "Could not find any implementation for node conv"]),
        ({"tensors": (DYNAMIC_X, DYNAMIC_Y)}, {}, ["input x is [-1, 3, 16, 16]", "--shapes x:1x3x16x16"]),
        ({"tensors": (DYNAMIC_X, DYNAMIC_Y)}, {"shapes": {"x": [1, 4, 16, 16]}}, ["cannot be [1, 4, 16, 16]"]),
        ({}, {"shapes": {"x": [1, 3, 16, 16]}}, ["is [8, 3, 16, 16] in this model"]),
        ({}, {"precision": "fp4"}, ["'fp4'"]),
    ],
    ids=str,
)
def test_build_failures(tmp_path: Path, spec: dict[str, Any], task: dict[str, Any], words: list[str]) -> None:
    ran = run(tmp_path, task="build", onnx=model(tmp_path, **spec), engine=tmp_path / "new.engine", **task)
    assert ran.code == 2
    assert all(word in ran.stderr for word in words), ran.stderr
    assert not (tmp_path / "new.engine").exists()
    assert ran.result["status"] == "failed"


def test_a_runtime_alone_cannot_build(tmp_path: Path) -> None:
    task = {"task": "build", "onnx": model(tmp_path), "engine": tmp_path / "new.engine"}
    ran = run(tmp_path, {"FAKE_TENSORRT_NO_BUILDER": "1"}, **task)
    assert ran.code == 2
    assert "cannot build engines here" in ran.stderr
    assert "libnvinfer_builder_resource" in ran.stderr
    assert "a fault of nsight-tools" not in ran.stderr


def test_precision_flags_are_gone_in_tensorrt_11(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        {"FAKE_TENSORRT_VERSION": "11.4.0"},
        task="build",
        onnx=model(tmp_path),
        engine=tmp_path / "new.engine",
        precision="fp16",
    )
    assert ran.code == 2
    assert "has no --fp16" in ran.stderr
    assert "ModelOpt" in ran.stderr


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


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"output": 3}', b'{"task": "timing", "output": "/nowhere"}'])
def test_task_files_that_are_none(tmp_path: Path, text: bytes) -> None:
    task = tmp_path / "task.json"
    task.write_bytes(text)
    for arguments in ([str(task)], [str(tmp_path / "none.json")], []):
        done = subprocess.run(
            [sys.executable, str(RUNNER), *arguments], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
