"""Builds by a real TensorRT: TensorRT-RTX builds without a GPU, and has the API of TensorRT 11.

What imports this is skipped where it is missing: pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nsight_tools.capture.runner import builder, toolkit
from nsight_tools.capture.runner.outcome import Result
from nsight_tools.capture.runner.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX, which builds without a GPU")
onnx = pytest.importorskip("onnx")

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


@contextmanager
def _without_collections() -> Iterator[None]:
    """No builder of before is freed while TensorRT logs: it holds a lock by then that freeing takes, too."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def build(folder: Path, path: Path, settings: dict[str, Any], **task: Any) -> dict[str, Any]:
    """What the runner says of it, which builds in this process. Raises Failure, as the runner does."""
    with _without_collections(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(toolkit, "_runtime", "tensorrt-rtx")
        result = Result(folder)
        whole = Task("build", folder, engine=folder / "new.engine", onnx=path, settings=settings, **task)
        builder.build(whole, None, result)
        return result.content | {"log": result.log}


def asked(folder: Path, path: Path, settings: dict[str, Any], **task: Any) -> dict[str, Any]:
    """What TensorRT itself tells of the build that it is asked for, in all that options change; it builds nothing."""
    told: dict[str, Any] = {}

    def note(_builder: Any, network: Any, config: Any) -> bytes:
        told.update(_told(network, config))
        return b"a plan"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trt.Builder, "build_serialized_network", note)
        build(folder, path, settings, **task)
    return told


def _told(network: Any, config: Any) -> dict[str, Any]:
    ends = [network.get_input(0), network.get_output(0)]
    pools = {name: config.get_memory_pool_limit(pool) for name, pool in trt.MemoryPoolType.__members__.items()}
    return {
        "flags": sorted(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)),
        "level": config.builder_optimization_level,
        "aux_streams": config.max_aux_streams,
        "tiling": config.tiling_optimization_level.name,
        "verbosity": config.profiling_verbosity.name,
        "tactic_sources": config.get_tactic_sources(),
        "device": (config.default_device_type.name, config.DLA_core),
        "profiles": config.num_optimization_profiles,
        **{tensor.name: (tensor.dtype.name, tensor.allowed_formats) for tensor in ends},
        **pools,
    }
