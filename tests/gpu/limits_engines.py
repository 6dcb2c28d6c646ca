"""Engines that each have one kind of limit, made on purpose, by TensorRT's network API; and a bare loop that runs one.

    python limits_engines.py build NAME FILE     # NAME: see BUILDERS
    python limits_engines.py run FILE COUNT      # COUNT inferences back to back, between cudaProfilerStart and Stop

It runs in the interpreter that has tensorrt, pycuda and numpy, where nsight-tools itself need not be installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt

LOGGER = trt.Logger(trt.Logger.WARNING)
WARM_UP = 20
RANDOM = np.random.default_rng(0)


def _input(network: Any, name: str, *shape: int, kind: Any = trt.float16) -> Any:
    return network.add_input(name, kind, shape)


def _output(network: Any, tensor: Any, name: str, kind: Any = trt.float16) -> None:
    tensor.name = name
    network.mark_output(tensor)
    tensor.dtype = kind


def _multiplied(network: Any, one: Any, other: Any, name: str) -> Any:
    layer = network.add_matrix_multiply(one, trt.MatrixOperation.NONE, other, trt.MatrixOperation.NONE)
    layer.name = name
    return layer.get_output(0)


def gemm(network: Any, _config: Any) -> None:
    """Two FP16 matrix products of 8192 by 8192: Tensor Cores."""
    one, other = _input(network, "one", 8192, 8192), _input(network, "other", 8192, 8192)
    first = _multiplied(network, one, other, "product_1")
    _output(network, _multiplied(network, first, other, "product_2"), "out")


def issue(network: Any, config: Any) -> None:
    """An FP32 matrix product of 4096 by 4096 without TF32: ordinary instructions, one after the other."""
    config.clear_flag(trt.BuilderFlag.TF32)
    config.clear_flag(trt.BuilderFlag.FP16)
    one, other = (_input(network, name, 4096, 4096, kind=trt.float32) for name in ("one", "other"))
    _output(network, _multiplied(network, one, other, "product"), "out", trt.float32)


def memory(network: Any, _config: Any) -> None:
    """Layers that only move 512 MiB each way: a transposition, a sum of two tensors, a reduction."""
    one, other = _input(network, "one", 64, 2048, 2048), _input(network, "other", 64, 2048, 2048)
    turned = network.add_shuffle(one)
    turned.first_transpose = (0, 2, 1)
    turned.name = "transposition"
    total = network.add_elementwise(turned.get_output(0), other, trt.ElementWiseOperation.SUM)
    total.name = "sum"
    reduced = network.add_reduce(total.get_output(0), trt.ReduceOperation.MAX, 1 << 2, keep_dims=True)
    reduced.name = "reduction"
    _output(network, total.get_output(0), "out")
    _output(network, reduced.get_output(0), "most")


def tiny(network: Any, _config: Any) -> None:
    """A chain of 60 small convolutions: each kernel is shorter than what starting and draining it takes."""
    tensor = _input(network, "one", 1, 32, 14, 14)
    for at in range(60):
        tensor = _convolved(network, tensor, 32, 3, name=f"tiny_{at}")
    _output(network, tensor, "out")


def few(network: Any, _config: Any) -> None:
    """Layers of a few blocks that run long: few of the SMs have anything to do."""
    wide = _input(network, "wide", 4, 1 << 20)
    soft = network.add_softmax(wide)
    soft.axes = 1 << 1
    soft.name = "softmax_of_four_rows"
    _output(network, soft.get_output(0), "soft")
    reduced = network.add_reduce(_input(network, "rows", 4, 1 << 20), trt.ReduceOperation.SUM, 1 << 1, keep_dims=True)
    reduced.name = "sum_of_four_rows"
    _output(network, reduced.get_output(0), "sums")
    deep = _multiplied(network, _input(network, "flat", 32, 1 << 15), _input(network, "tall", 1 << 15, 32), "deep")
    _output(network, deep, "product")
    best = network.add_topk(_input(network, "scores", 2, 1 << 17, kind=trt.float32), trt.TopKOperation.MAX, 100, 1 << 1)
    best.name = "topk"
    _output(network, best.get_output(0), "best", trt.float32)


def moves(network: Any, config: Any) -> None:
    """FP32 layers that compute next to nothing: along the axis that lies apart, and at the memory's peak."""
    config.clear_flag(trt.BuilderFlag.FP16)
    one, other = (_input(network, name, 64, 1024, 1024, kind=trt.float32) for name in ("one", "other"))
    total = network.add_elementwise(one, other, trt.ElementWiseOperation.SUM)
    total.name = "sum"
    _output(network, total.get_output(0), "total", trt.float32)
    across = network.add_reduce(total.get_output(0), trt.ReduceOperation.MAX, 1 << 1, keep_dims=True)
    across.name = "reduction_across_rows"
    _output(network, across.get_output(0), "most", trt.float32)
    places = RANDOM.permutation(1024).astype(np.int32)
    kept.append(places)
    chosen = network.add_constant((1024,), trt.Weights(places)).get_output(0)
    gathered = network.add_gather(one, chosen, 2)
    gathered.name = "gather_of_columns"
    _output(network, gathered.get_output(0), "columns", trt.float32)
    best = network.add_topk(other, trt.TopKOperation.MAX, 16, 1 << 1)
    best.name = "topk_across_rows"
    _output(network, best.get_output(0), "best", trt.float32)


def odd(network: Any, _config: Any) -> None:
    """FP16 products whose K and N are no multiples of 8, and the same with ones that are."""
    for name, inner, columns in (("odd", 2047, 2045), ("even", 2048, 2048)):
        one = _input(network, f"{name}_one", 4096, inner)
        other = _input(network, f"{name}_other", inner, columns)
        _output(network, _multiplied(network, one, other, f"product_{name}"), f"{name}_out")


def one(network: Any, config: Any) -> None:
    """ResNet-50 of one image."""
    resnet(network, config, batch=1)


def resnet(network: Any, _config: Any, *, batch: int = 8) -> None:
    """ResNet-50, batch 8, with random weights."""
    tensor = _convolved(network, _input(network, "x", batch, 3, 224, 224), 64, 7, stride=2, name="stem")
    pool = network.add_pooling_nd(tensor, trt.PoolingType.MAX, (3, 3))
    pool.stride_nd, pool.padding_nd = (2, 2), (1, 1)
    tensor = pool.get_output(0)
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride, name = 2 if stage and not block else 1, f"stage{stage}_{block}"
            inner = _convolved(network, tensor, width, 1, name=f"{name}_in")
            inner = _convolved(network, inner, width, 3, stride=stride, name=f"{name}_mid")
            inner = _convolved(network, inner, 4 * width, 1, name=f"{name}_out", relu=False)
            if not block:
                tensor = _convolved(network, tensor, 4 * width, 1, stride=stride, name=f"{name}_skip", relu=False)
            added = network.add_elementwise(inner, tensor, trt.ElementWiseOperation.SUM)
            tensor = network.add_activation(added.get_output(0), trt.ActivationType.RELU).get_output(0)
    mean = network.add_reduce(tensor, trt.ReduceOperation.AVG, (1 << 2) | (1 << 3), keep_dims=True)
    _output(network, _convolved(network, mean.get_output(0), 1000, 1, name="classes", relu=False), "out")


def unet(network: Any, _config: Any) -> None:
    """A small U-Net: convolutions at ever lower resolution and back, with what was before beside it."""
    tensor, before = _input(network, "x", 2, 8, 256, 256), []
    for at, channels in enumerate((32, 64, 128, 256)):
        for turn in range(2):
            tensor = _convolved(network, tensor, channels, 3, name=f"down{at}_{turn}")
        before.append(tensor)
        pool = network.add_pooling_nd(tensor, trt.PoolingType.MAX, (2, 2))
        pool.stride_nd = (2, 2)
        tensor = pool.get_output(0)
    tensor = _convolved(network, tensor, 512, 3, name="bottom")
    for at, beside in reversed(list(enumerate(before))):
        larger = network.add_resize(tensor)
        larger.shape = (beside.shape[0], tensor.shape[1], beside.shape[2], beside.shape[3])
        joined = network.add_concatenation([larger.get_output(0), beside]).get_output(0)
        tensor = _convolved(network, joined, beside.shape[1], 3, name=f"up{at}_0")
        tensor = _convolved(network, tensor, beside.shape[1], 3, name=f"up{at}_1")
    _output(network, _convolved(network, tensor, 8, 1, name="last", relu=False), "out")


def bert(network: Any, config: Any) -> None:
    """The same as `transformer` with 8 sequences of 384 tokens, six layers."""
    transformer(network, config, tokens=384, layers=6)


def transformer(network: Any, _config: Any, *, tokens: int = 128, layers: int = 4) -> None:
    """Four encoder layers as BERT has them, 8 sequences of 128 tokens, with random weights."""
    tensor = _input(network, "x", 8, tokens, 768)
    for at in range(layers):
        query, key, value = (
            _heads(network, _dense(network, tensor, 768, f"{name}_{at}"), tokens) for name in ("query", "key", "value")
        )
        transposed = trt.MatrixOperation.TRANSPOSE
        scores = network.add_matrix_multiply(query, trt.MatrixOperation.NONE, key, transposed)
        scores.name = f"scores_{at}"
        soft = network.add_softmax(scores.get_output(0))
        soft.axes, soft.name = 1 << 3, f"softmax_{at}"
        joined = network.add_shuffle(_multiplied(network, soft.get_output(0), value, f"context_{at}"))
        joined.first_transpose, joined.reshape_dims = (0, 2, 1, 3), (8, tokens, 768)
        tensor = _normal(network, tensor, _dense(network, joined.get_output(0), 768, f"projection_{at}"), f"first_{at}")
        wide = network.add_activation(_dense(network, tensor, 3072, f"up_{at}"), trt.ActivationType.RELU)
        narrow = _dense(network, wide.get_output(0), 768, f"down_{at}")
        tensor = _normal(network, tensor, narrow, f"second_{at}")
    _output(network, tensor, "out")


def mobile(network: Any, _config: Any) -> None:
    """Blocks as MobileNet V2 has them, batch 16: depthwise convolutions between small products, random weights."""
    tensor = _convolved(network, _input(network, "x", 16, 3, 224, 224), 32, 3, stride=2, name="stem")
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for stage, (wider, channels, blocks, stride) in enumerate(stages):
        for block in range(blocks):
            name, before, step = f"stage{stage}_{block}", tensor, 1 if block else stride
            wide = tensor.shape[1] * wider
            inner = _convolved(network, tensor, wide, 1, name=f"{name}_wide") if wider > 1 else tensor
            inner = _convolved(network, inner, wide, 3, stride=step, groups=wide, name=f"{name}_depthwise")
            tensor = _convolved(network, inner, channels, 1, name=f"{name}_narrow", relu=False)
            if block:
                tensor = network.add_elementwise(tensor, before, trt.ElementWiseOperation.SUM).get_output(0)
    tensor = _convolved(network, tensor, 1280, 1, name="last")
    mean = network.add_reduce(tensor, trt.ReduceOperation.AVG, (1 << 2) | (1 << 3), keep_dims=True)
    _output(network, _convolved(network, mean.get_output(0), 1000, 1, name="classes", relu=False), "out")


def _dense(network: Any, tensor: Any, columns: int, name: str) -> Any:
    shape = (1, tensor.shape[2], columns)
    weights = RANDOM.normal(0, shape[1] ** -0.5, shape).astype(np.float16)
    kept.append(weights)
    return _multiplied(network, tensor, network.add_constant(shape, trt.Weights(weights)).get_output(0), name)


def _heads(network: Any, tensor: Any, tokens: int) -> Any:
    split = network.add_shuffle(tensor)
    split.reshape_dims, split.second_transpose = (8, tokens, 12, 64), (0, 2, 1, 3)
    return split.get_output(0)


def _normal(network: Any, one: Any, other: Any, name: str) -> Any:
    total = network.add_elementwise(one, other, trt.ElementWiseOperation.SUM).get_output(0)
    scale, bias = np.ones((1, 1, 768), np.float16), np.zeros((1, 1, 768), np.float16)
    kept.extend((scale, bias))
    given = (network.add_constant((1, 1, 768), trt.Weights(each)).get_output(0) for each in (scale, bias))
    layer = network.add_normalization(total, *given, 1 << 2)
    layer.name = name
    return layer.get_output(0)


def _convolved(
    network: Any,
    tensor: Any,
    channels: int,
    size: int,
    *,
    name: str,
    stride: int = 1,
    groups: int = 1,
    relu: bool = True,
) -> Any:
    shape = (channels, tensor.shape[1] // groups, size, size)
    weights = RANDOM.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
    kept.append(weights)  # TensorRT reads them when it builds
    layer = network.add_convolution_nd(tensor, channels, (size, size), trt.Weights(weights), trt.Weights())
    layer.stride_nd, layer.padding_nd, layer.name = (stride, stride), (size // 2, size // 2), name
    layer.num_groups = groups
    if not relu:
        return layer.get_output(0)
    activation = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    activation.name = f"{name}_relu"
    return activation.get_output(0)


kept: list[Any] = []
BUILDERS = {
    each.__name__: each
    for each in (gemm, issue, memory, tiny, few, moves, odd, resnet, one, transformer, bert, mobile, unet)
}


def build(name: str, file: Path) -> None:
    builder = trt.Builder(LOGGER)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_tactic_sources(0)  # no cuBLAS and no cuDNN is needed
    config.builder_optimization_level = 1
    config.max_aux_streams = 0
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    BUILDERS[name](network, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        sys.exit(f"{name}: TensorRT cannot build it")
    file.write_bytes(bytes(plan))


def run(file: Path, count: int) -> None:
    import pycuda.autoprimaryctx  # noqa: F401 (makes the context that TensorRT uses)

    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(file.read_bytes())
    context, stream, held = engine.create_execution_context(), cuda.Stream(), []
    for at in range(engine.num_io_tensors):
        name = engine.get_tensor_name(at)
        kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        elements = int(np.prod(engine.get_tensor_shape(name)))
        held.append(cuda.mem_alloc(elements * kind.itemsize))
        values = RANDOM.random(min(elements, 1 << 22), np.float32).astype(kind)
        for begin in range(0, elements, len(values)):
            cuda.memcpy_htod(int(held[-1]) + begin * kind.itemsize, values[: elements - begin])
        context.set_tensor_address(name, int(held[-1]))
    for _ in range(WARM_UP):
        context.execute_async_v3(stream.handle)
    stream.synchronize()
    cuda.start_profiler()
    for _ in range(count):
        context.execute_async_v3(stream.handle)
    stream.synchronize()
    cuda.stop_profiler()


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(sys.argv[2], Path(sys.argv[3]))
    else:
        run(Path(sys.argv[2]), int(sys.argv[3]))
