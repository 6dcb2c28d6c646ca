"""The runner builds engines, and finds out what a Python lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runner_cases import DYNAMIC_X, DYNAMIC_Y, RUNNER, command, engine, model, run

if TYPE_CHECKING:
    from pathlib import Path


def built(folder: Path, environment: dict[str, str] | None = None, **task: Any) -> tuple[Any, dict[str, Any]]:
    ran = run(folder, environment, task="build", engine=folder / "new.engine", **task)
    assert ran.code == 0, ran.stderr
    return ran, json.loads((folder / "new.engine").read_text("utf-8"))


def test_options_reach_the_builder(tmp_path: Path) -> None:
    settings = {"fp16": True, "builder_optimization_level": 0, "tactic_sources": 0}
    ran, plan = built(tmp_path, onnx=model(tmp_path), settings=settings)
    assert (plan["flags"], plan["level"], plan["tactics"], plan["verbosity"]) == ([0], 0, 0, "DETAILED")
    assert ran.result["engine"]["inputs"][0]["shape"] == [8, 3, 16, 16]
    assert ran.result["build"]["settings"] == settings | {"profiling_verbosity": "detailed"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "journal.json", "model.onnx", "new.engine", "output", "task.json",
    ]  # fmt: skip


LAYERS = [{"name": "conv1"}, {"name": "conv2"}, {"name": "shape_conv", "indices": True}]
OF_VERSION = [
    ("8.6.0", {"fp8": True}, {"flags": [15]}),
    ("10.13.0", {"bf16": True, "int8": True, "placeholder_ranges": True}, {"flags": [1, 17]}),
    ("10.13.0", {"best": True, "placeholder_ranges": True}, {"flags": [0, 1, 17]}),
    ("8.6.0", {"best": True, "placeholder_ranges": True}, {"flags": [0, 1]}),
    ("10.13.0", {"strongly_typed": True, "allow_weight_streaming": True}, {"network_flags": 2, "flags": [21]}),
    ("11.4.0", {"sparsity": "enable", "version_compatible": True}, {"flags": [8, 13]}),
    ("11.4.0", {"sparsity": "disable"}, {"flags": []}),
    ("11.4.0", {"max_aux_streams": 0, "tiling_optimization_level": 2}, {"aux_streams": 0, "tiling": 2}),
    (
        "11.4.0",
        {"mem_pool_size": {"workspace": 5 << 20, "dlaSRAM": (1 << 20) + 1, "tacticSharedMem": 48 << 10}},
        {"pools": {"WORKSPACE": 5 << 20, "DLA_MANAGED_SRAM": 1 << 20, "TACTIC_SHARED_MEMORY": 48 << 10}},
    ),
    ("10.13.0", {"tactic_sources": ["-CUDNN", "-CUBLAS_LT"]}, {"tactics": 0b11001}),
    (
        "10.13.0",
        {"input_io_formats": [["fp16", "chw", "hwc8"]], "output_io_formats": [["fp32", "chw"]]},
        {"io": [["x", "HALF", 0b101], ["y", "FLOAT", 1]]},
    ),
    ("11.4.0", {"input_io_formats": [["fp32", "chw32"]]}, {"io": [["x", "FLOAT", 32], ["y", "HALF", 1]]}),
    (
        "8.6.0",
        {"precision_constraints": "obey", "layer_precisions": {"*conv2": "fp16", "conv2": "int8"}},
        {"flags": [9], "precisions": [["conv1", "FLOAT"], ["conv2", "INT8"], ["shape_conv", "FLOAT"]]},
    ),
    (
        "8.6.0",
        {"precision_constraints": "prefer", "layer_precisions": {"conv*": "fp32", "*": "fp16"}},
        {"flags": [10], "precisions": [["conv1", "HALF"], ["conv2", "HALF"], ["shape_conv", "FLOAT"]]},
    ),
    ("8.6.0", {"use_dla_core": 1}, {"dla": [1, 1], "flags": [0, 10, 11]}),
    ("11.4.0", {"use_dla_core": 0, "allow_gpu_fallback": True}, {"dla": [1, 0], "flags": [3]}),
]


@pytest.mark.parametrize(("version", "settings", "expected"), OF_VERSION, ids=str)
def test_every_option_reaches_tensorrt(
    tmp_path: Path, version: str, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    environment = {"FAKE_TENSORRT_VERSION": version, "FAKE_TENSORRT_DLA_CORES": "2"}
    _, plan = built(tmp_path, environment, onnx=model(tmp_path, layers=LAYERS), settings=settings)
    assert {name: plan[name] for name in expected} == expected


LACKING = [
    ("8.6.0", {"bf16": True}, "TensorRT 8.6.0 has no --bf16: it came with 9"),
    ("8.6.0", {"strongly_typed": True}, "has no --strongly-typed: it came with 9"),
    ("8.6.0", {"tiling_optimization_level": 1}, "has no --tiling-optimization-level: it came with 10.8"),
    ("8.6.0", {"allow_weight_streaming": True}, "has no --allow-weight-streaming: it came with 10.1"),
    ("8.5.0", {"max_aux_streams": 1}, "has no --max-aux-streams: it came with 8.6"),
    ("11.4.0", {"fp16": True}, "has no --fp16: it went with 11.0"),
    ("11.4.0", {"best": True}, "has no --best: it went with 11.0"),
    ("11.4.0", {"int8": True, "calibration_data": "/x"}, "has no --int8"),
    ("11.4.0", {"precision_constraints": "obey"}, "has no --precision-constraints: it went with 11.0"),
    ("8.6.0", {"timing_cache_file": "/x", "error_on_timing_cache_miss": True}, "it came with 9"),
    ("8.6.0", {"mem_pool_size": {"tacticSharedMem": 1}}, "has no MemoryPoolType.TACTIC_SHARED_MEMORY"),
    ("10.13.0", {"tactic_sources": ["+NOTHING"]}, "has no TacticSource.NOTHING"),
    ("10.13.0", {"input_io_formats": [["fp32", "dla_hwc4"]]}, "has no TensorFormat.DLA_HWC4"),
    ("11.4.0", {"input_io_formats": [["fp16", "chw"]]}, "input x is FLOAT in this model, and TensorRT 11.4.0 changes"),
    ("10.13.0", {"input_io_formats": [["fp32", "chw"]] * 2}, "2 formats for 1 inputs"),
    ("10.13.0", {"use_dla_core": 0}, "there is no DLA core 0: this GPU has 0"),
    (
        "10.13.0",
        {"layer_precisions": {"nothing": "fp16", "conv1": "fp16"}, "precision_constraints": "obey"},
        "no layer is called nothing",
    ),
    ("10.13.0", {"dynamic_plugins": ["bad.so"]}, "--dynamic-plugins bad.so: TensorRT 10.13.0 cannot load it"),
    ("10.13.0", {"static_plugins": ["/no.so"]}, "--static-plugins /no.so: cannot be loaded"),
]


@pytest.mark.parametrize(("version", "settings", "words"), LACKING, ids=str)
def test_what_this_tensorrt_has_not_is_refused_in_one_line(
    tmp_path: Path, version: str, settings: dict[str, Any], words: str
) -> None:
    cache = tmp_path / "timing.cache"
    settings = {name: str(cache) if value == "/x" else value for name, value in settings.items()}
    task = {"task": "build", "onnx": model(tmp_path, layers=LAYERS), "engine": tmp_path / "new.engine"}
    ran = run(tmp_path, {"FAKE_TENSORRT_VERSION": version}, settings=settings, **task)
    assert ran.code == 2
    assert words in f"{ran.result['error']['where']}: {ran.result['error']['what']}"
    assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr
    assert not (tmp_path / "new.engine").exists()
    assert not cache.exists()


def test_the_probe_refuses_before_anything_is_built(tmp_path: Path) -> None:
    ran = run(tmp_path, task="probe", settings={"bf16": True})
    assert ran.code == 2
    assert ran.result["error"]["where"] == "--bf16"


def test_plugins_are_loaded_before_the_engine(tmp_path: Path) -> None:
    names = {"dynamic_plugins": ["a.so", "b.so"], "version_compatible": True, "static_plugins": ["libc.so.6"]}
    ran, _ = built(tmp_path, onnx=model(tmp_path), settings=names)
    calls = [[name, detail] for name, _, detail in ran.calls("load_library", "deserialize")]
    loads = [["load_library", "a.so"], ["load_library", "b.so"]]
    assert calls == [*loads, *loads, ["deserialize", [True, -1]]]


def test_a_model_may_use_the_plugins_that_tensorrt_brings(tmp_path: Path) -> None:
    ran, _ = built(tmp_path, onnx=model(tmp_path, plugin="GroupNormalizationPlugin"))
    assert ran.result["status"] == "done"


def test_one_profile_for_each_stream(tmp_path: Path) -> None:
    dynamic = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y))
    ran, plan = built(tmp_path, onnx=dynamic, profiles=3, batch=6)
    assert plan["profiles"] == [{"x": [[6, 3, 16, 16]] * 3}] * 3
    assert ran.result["engine"]["profiles"] == 3
    (tmp_path / "run").mkdir()
    assert run(tmp_path / "run", engine=tmp_path / "new.engine", streams=3).code == 0


@pytest.mark.parametrize("name", ["int8", "best"])
def test_int8_without_ranges_is_refused(tmp_path: Path, name: str) -> None:
    ran = run(tmp_path, task="build", onnx=model(tmp_path), engine=tmp_path / "new.engine", settings={name: True})
    assert ran.code == 2
    assert "the model has no Q/DQ layers and there is no calibration data" in ran.stderr
    assert "--placeholder-ranges" in ran.stderr
    assert not (tmp_path / "new.engine").exists()


def test_int8_gets_placeholders_where_they_are_asked_for(tmp_path: Path) -> None:
    ran, plan = built(tmp_path, onnx=model(tmp_path), settings={"int8": True, "placeholder_ranges": True})
    assert plan["flags"] == [1]
    assert [name for name, *_ in plan["ranges"]] == ["x", "y"]
    assert ran.result["build"]["int8_ranges"] == "placeholder"


@pytest.mark.parametrize("kind", ["QUANTIZE", "DEQUANTIZE"])
def test_a_model_with_q_dq_has_ranges(tmp_path: Path, kind: str) -> None:
    onnx = model(tmp_path, layers=[{"name": "q", "type": kind}])
    ran, plan = built(tmp_path, onnx=onnx, settings={"int8": True})
    assert plan["ranges"] == []
    assert ran.result["build"]["int8_ranges"] == "model"


@pytest.mark.parametrize("version", ["10.13.0", "11.4.0"])
def test_a_quantized_model_needs_no_option_where_types_are_its_own(tmp_path: Path, version: str) -> None:
    onnx = model(tmp_path, layers=[{"name": "q", "type": "QUANTIZE"}])
    settings = {"strongly_typed": True}
    ran, plan = built(tmp_path, {"FAKE_TENSORRT_VERSION": version}, onnx=onnx, settings=settings)
    assert (plan["flags"], plan["network_flags"]) == ([], 2)
    assert "int8_ranges" not in ran.result["build"]


def batches(folder: Path, *shapes: tuple[int, ...], dtype: str = "float32") -> Path:
    folder.mkdir()
    for number, shape in enumerate(shapes):
        np.savez(folder / f"{number}.npz", x=np.ones(shape, dtype))
    return folder


def test_calibration_data(tmp_path: Path) -> None:
    data = batches(tmp_path / "data", (4, 3, 16, 16), (4, 3, 16, 16))
    onnx = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), calibrate=True)
    settings = {"int8": True, "calibration_data": str(data)}
    ran, plan = built(tmp_path, onnx=onnx, batch=8, settings=settings)
    assert [detail for _, _, detail in ran.calls("calibration h2d")] == [["float32", [4, 3, 16, 16]]] * 2
    assert plan["calibration_profile"] == {"x": [[4, 3, 16, 16]] * 3}
    found = ran.result["build"]
    assert (found["int8_ranges"], found["calibration_batches"]) == ("calibration", 2)
    assert len(found["calibration_sha256"]) == 64


def test_calibration_cache(tmp_path: Path) -> None:
    (tmp_path / "old.cache").write_bytes(b"ranges")
    settings = {"int8": True, "calibration_data": str(tmp_path / "old.cache")}
    ran, plan = built(tmp_path, onnx=model(tmp_path, calibrate=True), settings=settings)
    assert ran.calls("calibrate") == []
    assert plan["calibration_profile"] is None
    assert ran.result["build"]["int8_ranges"] == "calibration cache"


def test_one_input_takes_arrays_without_names(tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.ones((8, 3, 16, 16), np.float32))
    settings = {"int8": True, "calibration_data": str(tmp_path / "batch.npy")}
    ran, _ = built(tmp_path, onnx=model(tmp_path, calibrate=True), settings=settings)
    assert ran.result["build"]["calibration_batches"] == 1


@pytest.mark.parametrize(
    ("shapes", "dtype", "words"),
    [
        ([], "float32", "holds no .npz and no .npy"),
        ([(4, 3, 16, 16)], "float64", "has float64 [4, 3, 16, 16] for input x, which is float32 [-1, 3, 16, 16]"),
        ([(4, 4, 16, 16)], "float32", "has float32 [4, 4, 16, 16] for input x"),
        ([(4, 3, 16, 16), (2, 3, 16, 16)], "float32", "has other shapes than 0.npz"),
    ],
    ids=str,
)
def test_calibration_data_that_is_none(tmp_path: Path, shapes: list[tuple[int, ...]], dtype: str, words: str) -> None:
    data = batches(tmp_path / "data", *shapes, dtype=dtype)
    onnx = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y))
    task = {"task": "build", "onnx": onnx, "engine": tmp_path / "new.engine", "batch": 8}
    ran = run(tmp_path, settings={"int8": True, "calibration_data": str(data)}, **task)
    assert ran.code == 2
    assert words in ran.stderr


@pytest.mark.parametrize("content", [None, b"nothing"])
def test_calibration_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    data = tmp_path / "batch.npz"
    if content is not None:
        data.write_bytes(content)
    task = {"task": "build", "onnx": model(tmp_path), "engine": tmp_path / "new.engine"}
    ran = run(tmp_path, settings={"int8": True, "calibration_data": str(data)}, **task)
    assert ran.code == 2
    assert ("does not exist" if content is None else "cannot be read as a batch") in ran.stderr


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
    ran, _ = built(tmp_path, onnx=model(tmp_path), settings=settings)
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


def test_a_build_says_how_long_each_phase_took(tmp_path: Path) -> None:
    settings = {"timing_cache_file": str(tmp_path / "timing.cache")}
    ran, _ = built(tmp_path, onnx=model(tmp_path, build_s=0.05), settings=settings)
    phases = ran.result["build"]["phases_s"]
    names = ["parse", "timing_cache_read", "build", "serialize", "write", "deserialize"]
    assert sorted(phases) == sorted(names)
    assert phases["build"] == 0.001  # TensorRT's own word
    assert phases["build"] + phases["serialize"] >= 0.05
    assert ran.result["build"]["seconds"] == pytest.approx(sum(phases.values()))


def test_a_tensorrt_that_logs_nothing_leaves_what_it_does_not_say(tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_text('["old"]', "utf-8")
    settings = {"timing_cache_file": str(cache)}
    ran, _ = built(tmp_path, {"FAKE_TENSORRT_SILENT": "1"}, onnx=model(tmp_path), settings=settings)
    build = ran.result["build"]
    assert (build["timing_cache"]["misses"], build["phases_s"]["serialize"]) == (None, None)
    assert build["phases_s"]["build"] > 0
    assert build["seconds"] > 0


def test_a_hash_of_the_tactics_tells_builds_apart(tmp_path: Path) -> None:
    found = []
    for number, value in enumerate((1, 1, 2, None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer = {"Name": "conv", "TacticName": "sm90_conv", "TacticValue": value}
        inspected = [layer, {"Name": "no tactic"}] if value else ["names", "only"]
        ran, _ = built(folder, onnx=model(folder, inspected=inspected))
        found.append(ran.result["build"]["tactics"])
    one, again, other, names = found
    assert one == again
    assert one["layers"] == other["layers"] == 1
    assert one["sha256"] != other["sha256"]
    assert names is None


@pytest.mark.parametrize("version", ["8.6.0", "10.13.3", "11.4.0"])
def test_every_major_version_builds(tmp_path: Path, version: str) -> None:
    ran, plan = built(tmp_path, {"FAKE_TENSORRT_VERSION": version}, onnx=model(tmp_path))
    assert plan["version"] == version
    assert ran.result["engine"]["device_memory_bytes"] == 4096


@pytest.mark.parametrize(
    ("spec", "task", "words"),
    [
        ({"build_error": True}, {}, ["cannot build the engine", "Could not find any implementation for node conv"]),
        ({}, {"settings": {"fp4": True}}, ["fp4 is no option"]),
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
