"""What the runner builds with a real TensorRT: TensorRT-RTX builds without a GPU, and has the API of TensorRT 11.

pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings onnx
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import installed_nsys
import numpy as np
import pytest
from patience import PATIENCE_S
from runner_cases import run

from nsight_tools.capture.runner import options, versions

if TYPE_CHECKING:
    from runner_cases import Ran

trt = pytest.importorskip("tensorrt_rtx_bindings")
onnx = pytest.importorskip("onnx")

NO_FAKES = {"PYTHONPATH": ""}
without_gpu = pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="where a GPU is, engines are loaded, too")


def model(folder: Path, dtype: type = np.float32, *, batch: int | str = "N", quantized: bool = False) -> Path:
    """A convolution, behind Q/DQ layers or none."""
    make, of_array = onnx.helper, onnx.numpy_helper.from_array
    kind = make.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = [of_array(np.ones((8, 3, 3, 3), dtype), "w")]
    nodes = [make.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])]
    if quantized:
        weights += [of_array(np.array(0.02, dtype), "scale"), of_array(np.array(0, np.int8), "zero")]
        nodes = [
            make.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
            make.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
            make.make_node("Conv", ["d", "w"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        ]
    x = make.make_tensor_value_info("x", kind, [batch, 3, 16, 16])
    y = make.make_tensor_value_info("y", kind, None)
    path = folder / "m.onnx"
    made = make.make_model(make.make_graph(nodes, "g", [x], [y], weights), opset_imports=[make.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, path)
    return path


def built(folder: Path, path: Path, settings: dict[str, Any], **task: Any) -> Ran:
    """What a process of the runner makes of it, with nothing made around it."""
    task = {"engine": folder / "new.engine", "onnx": path, "settings": settings, **task}
    return run(folder, NO_FAKES, task="build", runtime="tensorrt-rtx", **task)


def of_batches(name: str = "x", **ends: int) -> dict[str, Any]:
    """The options that give ends of the optimization profile: the model's shape, of these batches."""
    return {f"{end}_shapes": {name: [batch, 3, 16, 16]} for end, batch in ends.items()}


@without_gpu
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strongly_typed": True},
        {"min_shapes": {"x": [1, 3, 16, 16]}, "max_shapes": {"x": [8, 3, 16, 16]}},
        {"input_io_formats": [["fp32", "chw", "hwc"]]},
        {"sparsity": "enable", "max_aux_streams": 2, "tiling_optimization_level": 3},
        {"mem_pool_size": {"workspace": 1 << 26, "tacticSharedMem": 48 << 10, "dlaSRAM": 1 << 20}},
        {"builder_optimization_level": 0, "tactic_sources": ["-JIT_CONVOLUTIONS"], "profiling_verbosity": "none"},
        {"allow_weight_streaming": True, "tactic_sources": 0},
    ],
    ids=str,
)
def test_options_build(tmp_path: Path, settings: dict[str, Any]) -> None:
    ran = built(tmp_path, model(tmp_path), settings, batch=4, profiles=2)
    assert ran.code == 0, ran.stderr
    made = ran.result["build"]
    assert (tmp_path / "new.engine").stat().st_size == made["size_bytes"] > 1000
    assert made["settings"].items() >= settings.items()
    took = made["phases_s"]
    assert {"parse", "build", "serialize", "write"} <= took.keys(), "its log says how long the generation took"
    assert None not in took.values()
    assert "deserialize" not in took, "that needs a GPU"
    assert (ran.result["engine"], made["tactics"]) == (None, None)
    assert ran.result["versions"]["tensorrt_rtx"] == trt.__version__
    assert ran.result["versions"]["tensorrt"] is None


@without_gpu
@pytest.mark.parametrize(
    ("settings", "task", "ends"),
    [
        (of_batches(min=1, opt=4, max=16), {}, [1, 4, 16]),
        (of_batches(opt=4), {}, [4, 4, 4]),
        (of_batches(max=16), {}, [16, 16, 16]),
        (of_batches(min=1, max=16), {}, [1, 16, 16]),
        (of_batches(min=1, opt=4), {}, [1, 4, 4]),
        (of_batches(min=1), {}, [1, 1, 1]),
        ({}, {"batch": 4}, [4, 4, 4]),
        ({}, {"shapes": {"x": [2, 3, 16, 16]}}, [2, 2, 2]),
        (of_batches("*", min=1, max=16), {"shapes": {"*x": [4, 3, 16, 16]}}, [1, 16, 16]),
        ({"opt_shapes": {"x": [4, 3, 16, 16]}, "max_shapes": {"x": [9, 3, 16, 16]}}, {"batch": 6}, [4, 4, 9]),
    ],
    ids=str,
)
def test_ends_of_profiles(tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], ends: list[int]) -> None:
    """What is not given is what stands next to it, as trtexec."""
    ran = built(tmp_path, model(tmp_path), settings, profiles=2, **task)
    assert ran.code == 0, ran.stderr
    assert ran.result["build"]["profile_shapes"] == {"x": [[end, 3, 16, 16] for end in ends]}


@without_gpu
@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        (of_batches(min=4, opt=2), {}, "the shape usual"),
        (of_batches(max=4), {"batch": 8}, "the shape that runs, [8, 3, 16, 16]"),
        (of_batches(max=4), {"shapes": {"x": [5, 3, 16, 16]}}, "is not between [4, 3, 16, 16] and [4, 3, 16, 16]"),
        ({"max_shapes": {"x": [4, 3, 16]}}, {}, "cannot be [4, 3, 16]"),
        ({"max_shapes": {"z": [4, 3, 16]}}, {}, "--max-shapes; no input is called z"),
        ({}, {"shapes": {"x": [1, 4, 16, 16]}}, "cannot be [1, 4, 16, 16]"),
        ({}, {}, "--shapes x:1x3x16x16"),
    ],
    ids=str,
)
def test_shapes_that_no_profile_can_have(
    tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], words: str
) -> None:
    ran = built(tmp_path, model(tmp_path), settings, **task)
    assert ran.code == 2
    assert words in ran.stderr
    assert not (tmp_path / "new.engine").exists()


@without_gpu
def test_a_quantized_model_builds(tmp_path: Path) -> None:
    ran = built(tmp_path, model(tmp_path, batch=1, quantized=True), {})
    assert ran.code == 0, ran.stderr


@without_gpu
@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        ({"fp16": True}, {}, "has no --fp16: it went with TensorRT 11.0"),
        ({"int8": True, "placeholder_ranges": True}, {}, "has no --int8"),
        ({"precision_constraints": "obey"}, {}, "has no --precision-constraints"),
        ({"input_io_formats": [["fp32", "chw"]]}, {}, "input x is HALF in this model"),
        ({"use_dla_core": 0}, {}, "there is no DLA core 0"),
        ({"tactic_sources": ["-CUDNN"]}, {}, "has no TacticSource.CUDNN"),
        ({"dynamic_plugins": ["none.so"]}, {}, "cannot load it"),
        ({}, {"shapes": {"x": [2, 3, 16, 16]}}, "cannot be [2, 3, 16, 16]"),
    ],
    ids=str,
)
def test_refusals(tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], words: str) -> None:
    ran = built(tmp_path, model(tmp_path, np.float16, batch=1), settings, **task)
    assert ran.code == 2
    assert words in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new.engine").exists()


@without_gpu
def test_a_model_without_a_value_for_a_dynamic_dimension(tmp_path: Path) -> None:
    ran = built(tmp_path, model(tmp_path), {})
    assert "its dynamic dimensions need values" in ran.stderr


@without_gpu
def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    ran = built(tmp_path, tmp_path / "m.onnx", {})
    assert f"{versions.name(trt)} cannot parse the model" in ran.stderr


@without_gpu
def test_an_operator_that_tensorrt_has_not(tmp_path: Path) -> None:
    path = model(tmp_path, batch=1)
    made = onnx.load(path)
    made.graph.node[0].op_type = "Frobnicate"
    onnx.save(made, path)
    ran = built(tmp_path, path, {})
    assert ran.code == 2
    assert "node 0" in ran.stderr
    assert "use a TensorRT that has this operator" in ran.stderr
    assert ran.result["status"] == "failed"


def test_what_a_run_asks_for_is_there() -> None:
    of_runs = {option.name: 1 for option in options.OPTIONS if option.of != "build"}
    options.refuse(trt, of_runs)
    assert (versions.is_rtx(trt), versions.names_tensors(trt), versions.shares_profiles(trt)) == (True, True, True)
    assert hasattr(trt, "IProfiler")
    assert {"profiler", "enqueue_emits_profile"} <= set(dir(trt.IExecutionContext))


@without_gpu
@pytest.mark.nsys
class TestCapture:
    """The command itself: it builds, and a runtime that cannot run here has captured nothing."""

    def capture(self, folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nsight_tools", "capture", "-o", "run", "--runtime", "tensorrt-rtx"]
        environment = os.environ | {"NSIGHT_TOOLS_NSYS": str(installed_nsys.main().path), "TMPDIR": str(folder)}
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @pytest.mark.parametrize("saved", [True, False])
    def test_a_model_is_built_and_not_captured(self, tmp_path: Path, saved: bool) -> None:
        path = model(tmp_path)
        done = self.capture(tmp_path, path, "--batch", "4", *(["--save-engine", "saved.engine"] if saved else []))
        assert done.returncode == 2
        assert "nsight-tools: built in " in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert "m.onnx was built and not captured: tensorrt-rtx cannot run here" in last
        assert ("--save-engine keeps what is built here" in last) is not saved
        assert {each.name for each in tmp_path.iterdir()} == {"m.onnx", *(["saved.engine"] if saved else [])}

    def test_an_engine_is_not_captured(self, tmp_path: Path) -> None:
        (tmp_path / "m.engine").write_bytes(b"a plan")
        done = self.capture(tmp_path, tmp_path / "m.engine")
        assert done.returncode == 2
        assert "m.engine was not captured: tensorrt-rtx cannot run here" in done.stderr
        assert [each.name for each in tmp_path.iterdir()] == ["m.engine"]


@without_gpu
def test_the_probe_says_that_it_builds_and_does_not_run(tmp_path: Path) -> None:
    ran = run(tmp_path, NO_FAKES, task="probe", runtime="tensorrt-rtx")
    assert ran.code == 0, ran.stderr
    assert ran.result["cannot_run"]["where"] in {"pycuda.driver", "GPU"}
    again = tmp_path / "again"
    again.mkdir()
    other = run(again, NO_FAKES, task="probe", runtime="tensorrt")
    assert other.code == 2, "TensorRT itself is none without a GPU"
    assert json.loads((again / "output" / "result.json").read_text("utf-8"))["errors"]
