"""ONNX model -> serialized engine."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from . import log, toolkit
from .engine import Engine, hint_for
from .outcome import Failure, Result, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from .task import Task
    from .tensors import Shape

PRECISIONS = {"fp16": ("FP16",), "int8": ("INT8",), "best": ("FP16", "INT8")}
PLACEHOLDER_RANGE = 4.0
"""Dynamic range of every tensor where INT8 is asked for and neither Q/DQ layers nor a calibration say it."""


def build(task: Task, result: Result) -> None:
    """Build `task.engine` from `task.onnx`; the engine's file appears whole or not at all."""
    trt = toolkit.tensorrt()
    logger = log.make_logger(trt, result.log, level=log.INFO, verbose=task.verbose)
    began = time.perf_counter()
    builder = _builder(trt, logger)
    config = builder.create_builder_config()
    network = _parse(trt, logger, builder, task)
    _configure(trt, config, network, task)
    profiles = _add_profiles(builder, config, network, task)
    cache = _timing_cache(config, task, result)
    logger.forget()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        line = logger.last_error()
        raise Failure("TensorRT cannot build the engine", where=str(task.onnx), hint=_build_hint(line), log=line)
    assert task.engine is not None  # task.py sees to it
    write_atomically(task.engine, memoryview(plan))
    if cache is not None and task.timing_cache is not None:
        write_atomically(task.timing_cache, memoryview(cache.serialize()))
    engine = Engine(trt, logger, task.engine)
    result.content["engine"] = engine.describe({})
    result.content["build"] = {
        "seconds": time.perf_counter() - began,
        "onnx_sha256": hashlib.sha256(_read(task.onnx)).hexdigest() if task.onnx else None,
        "precision": task.precision,
        "profile_shapes": {name: list(shape) for name, shape in profiles.items()},
        "int8_ranges": _calibration(network, task),
    }


def _builder(trt: Any, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # what its bindings make of a null pointer
        line = logger.last_error()
        hint = hint_for(
            line, "check that this TensorRT is whole: engines need its builder library, running them does not"
        )
        raise Failure(
            f"TensorRT {trt.__version__} cannot build engines here", where="TensorRT", hint=hint, log=line
        ) from error


def _build_hint(line: str | None) -> str:
    return hint_for(line, "read the log; try a higher builder optimization level, or another precision")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", where=str(path), hint="check the path") from error


def _parse(trt: Any, logger: Any, builder: Any, task: Task) -> Any:
    assert task.onnx is not None  # task.py sees to it
    _read(task.onnx)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)  # the only way from TensorRT 10 on
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(task.onnx)):
        errors = [_describe(parser.get_error(i)) for i in range(parser.num_errors)]
        raise Failure(
            f"TensorRT {trt.__version__} cannot parse the model: {errors[0] if errors else 'it does not say why'}",
            where=str(task.onnx),
            hint="check the model (onnx.checker), or simplify it, or use a TensorRT that has this operator",
            log=logger.last_error(),
        )
    return network


def _describe(error: Any) -> str:
    name = error.node_name() if hasattr(error, "node_name") else ""  # since TensorRT 10
    at = f"node {error.node()}" + (f" ({name})" if name else "")
    return f"{at}: {error.desc()}"


def _configure(trt: Any, config: Any, network: Any, task: Task) -> None:
    if task.builder_optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise Failure(f"TensorRT {trt.__version__} has no builder optimization level", hint="use 8.6 or later")
        config.builder_optimization_level = task.builder_optimization_level
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, task.profiling_verbosity.upper())
    if task.tactic_sources is not None:
        config.set_tactic_sources(task.tactic_sources)
    if task.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, task.workspace_bytes)
    if task.precision is None:
        return
    if task.precision not in PRECISIONS:
        raise Failure(f"precision {task.precision!r} is not one of {', '.join(PRECISIONS)}", where="task")
    for name in PRECISIONS[task.precision]:
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is None:
            raise Failure(
                f"TensorRT {trt.__version__} has no --{task.precision}: a network's own types decide",
                where=f"--{task.precision}",
                hint="convert the ONNX model to that precision first (NVIDIA ModelOpt does), or use TensorRT 10",
            )
        config.set_flag(flag)
    if _calibration(network, task) == "placeholder":
        _set_placeholder_ranges(network)


def _calibration(network: Any, task: Task) -> str | None:
    """Where INT8 ranges are from: the model's Q/DQ layers, or placeholders, as trtexec's."""
    if "INT8" not in PRECISIONS.get(task.precision or "", ()):
        return None
    kinds = {network.get_layer(i).type.name for i in range(network.num_layers)}
    return "model" if "QUANTIZE" in kinds else "placeholder"


def _set_placeholder_ranges(network: Any) -> None:
    """Without ranges TensorRT refuses INT8; with these, times hold and results mean nothing."""
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        tensors += [layer.get_output(i) for i in range(layer.num_outputs)]
    for tensor in tensors:
        if tensor is not None and hasattr(tensor, "set_dynamic_range"):
            tensor.set_dynamic_range(-PLACEHOLDER_RANGE, PLACEHOLDER_RANGE)


def _add_profiles(builder: Any, config: Any, network: Any, task: Task) -> dict[str, Shape]:
    """Optimization profiles for dynamic inputs, all with the one shape that is going to run."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    unknown = sorted(task.shapes.keys() - {tensor.name for tensor in inputs})
    if unknown:
        names = ", ".join(tensor.name for tensor in inputs)
        raise Failure(f"no input is called {', '.join(unknown)}", where="--shapes", hint=f"inputs are {names}")
    shapes = {
        tensor.name: _profile_shape(tensor, task) for tensor in inputs if tensor.is_shape_tensor or -1 in tensor.shape
    }
    for tensor in inputs:
        fixed, asked = tuple(tensor.shape), tuple(task.shapes.get(tensor.name, ()))
        if asked and tensor.name not in shapes and asked != fixed:
            raise Failure(
                f"input {tensor.name} is {list(fixed)} in this model and cannot be {list(asked)}",
                where="--shapes",
                hint="leave it out, or export the model with dynamic dimensions",
            )
    for _ in range(task.profiles if shapes else 0):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            if tensor.name in shapes:
                shape = shapes[tensor.name]
                give = profile.set_shape_input if tensor.is_shape_tensor else profile.set_shape
                give(tensor.name, shape, shape, shape)
        if config.add_optimization_profile(profile) < 0:
            raise Failure(f"TensorRT refuses an optimization profile of {shapes}", where="--shapes")
    return shapes


def _profile_shape(tensor: Any, task: Task) -> Shape:
    asked = task.shapes.get(tensor.name)
    if asked is not None:
        fits = tensor.is_shape_tensor or (
            len(asked) == len(tensor.shape) and all(b in (-1, a) for a, b in zip(asked, tensor.shape, strict=True))
        )
        if not fits:
            raise Failure(
                f"input {tensor.name} is {list(tensor.shape)} in this model and cannot be {list(asked)}",
                where="--shapes",
            )
        return tuple(asked)
    shape = [int(extent) for extent in tensor.shape]
    if not tensor.is_shape_tensor and task.batch is not None and shape[:1] == [-1]:
        shape[0] = task.batch
    if tensor.is_shape_tensor or -1 in shape:
        example = "x".join(str(extent if extent > 0 else 1) for extent in shape)
        raise Failure(
            f"input {tensor.name} is {shape} in this model: its dynamic dimensions need values",
            where=str(task.onnx),
            hint=f"give them, as --shapes {tensor.name}:{example}",
        )
    return tuple(shape)


def _timing_cache(config: Any, task: Task, result: Result) -> Any:
    """The timing cache of the file, or an empty one where there is none, or TensorRT takes it for another's."""
    if task.timing_cache is None:
        return None
    content = _read(task.timing_cache) if task.timing_cache.exists() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        result.log.append(f"[W] timing cache {task.timing_cache} is of another GPU or TensorRT: started afresh")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache
