"""What the builder asks of TensorRT, of a real one: TensorRT-RTX builds without a GPU, and has the API of TensorRT 11.

pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings onnx
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nsight_tools.capture.runner import builder, calibration, log, options, phases
from nsight_tools.capture.runner.applied import Building
from nsight_tools.capture.runner.outcome import Failure, Result
from nsight_tools.capture.runner.task import Task

if TYPE_CHECKING:
    from pathlib import Path

trt = pytest.importorskip("tensorrt_rtx_bindings")
onnx = pytest.importorskip("onnx")


def model(folder: Path, dtype: type, *, batch: int | str = "N", quantized: bool = False) -> Path:
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
    whole = make.make_model(make.make_graph(nodes, "g", [x], [y], weights), opset_imports=[make.make_opsetid("", 17)])
    whole.ir_version = 9
    onnx.save(whole, folder / "model.onnx")
    return folder / "model.onnx"


def built(folder: Path, path: Path, settings: dict[str, Any], **task: Any) -> phases.Phases:
    """Build as `builder.build` does, but for what needs a GPU: to load the engine."""
    result = Result(folder)
    asked = Task("build", folder, engine=folder / "e", onnx=path, settings=settings, **task)
    known = options.with_defaults(settings)
    options.refuse(trt, known)
    logger = log.make_logger(trt, result.log, level=log.INFO, verbose=False)
    made = builder._builder(trt, logger, known)
    network = builder._parse(trt, logger, made, asked, known)
    building = Building(trt, made, network, made.create_builder_config(), (8, 0))
    building.config.num_compute_capabilities = 1
    building.config.set_compute_capability(trt.ComputeCapability.SM80, 0)
    builder._configure(building, known)
    calibration.give_ranges(building, known)
    builder._add_profiles(building, asked)
    took = phases.Phases()
    assert builder._plan(building, logger, asked, took).nbytes > 1000
    took.part_serialization(result.log)
    return took


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
    took = built(tmp_path, model(tmp_path, np.float32), settings, batch=4, profiles=2)
    assert None not in took.seconds.values(), "its log says how long the generation took"


def test_a_quantized_model_builds(tmp_path: Path) -> None:
    built(tmp_path, model(tmp_path, np.float32, batch=1, quantized=True), {})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fp16": True}, "has no --fp16"),
        ({"int8": True, "placeholder_ranges": True}, "has no --int8"),
        ({"precision_constraints": "obey"}, "has no --precision-constraints"),
        ({"input_io_formats": [["fp32", "chw"]]}, "input x is HALF in this model"),
        ({"use_dla_core": 0}, "there is no DLA core 0"),
        ({"tactic_sources": ["-CUDNN"]}, "has no TacticSource.CUDNN"),
        ({"dynamic_plugins": ["none.so"]}, "cannot load it"),
    ],
    ids=str,
)
def test_refusals(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    path = model(tmp_path, np.float16, batch=1)
    with pytest.raises(Failure, match=words):
        built(tmp_path, path, settings)


def test_what_a_run_asks_for_is_there() -> None:
    of_runs = {option.name: 1 for option in options.OPTIONS if option.of != "build"}
    options.refuse(trt, of_runs)
