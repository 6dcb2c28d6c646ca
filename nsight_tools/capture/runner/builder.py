"""ONNX model -> serialized engine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import calibration, log, options, specs, toolkit, versions
from .applied import Building
from .engine import Engine, hint_for
from .outcome import Failure, Result, write_atomically
from .phases import Phases
from .timing_cache import TimingCache

if TYPE_CHECKING:
    from .device import Device
    from .task import Task
    from .tensors import Shape

Ends = tuple["Shape", "Shape", "Shape"]
"""Of an optimization profile: the smallest, the usual and the largest shape of an input."""


def build(task: Task, device: Device | None, result: Result) -> None:
    """Build `task.engine` from `task.onnx`; the engine's file appears whole or not at all.

    Without a GPU, which TensorRT-RTX needs none of to build, the engine is not loaded: nothing is said of what it
    holds.
    """
    trt = toolkit.tensorrt()
    settings = options.with_defaults(task.settings)
    options.refuse(trt, settings)
    logger = log.make_logger(trt, result.log, level=log.INFO, verbose=task.verbose)
    phases = Phases()
    builder = _builder(trt, logger, settings)
    with phases("parse"):
        network = _parse(trt, logger, builder, task, settings)
    building = Building(trt, builder, network, builder.create_builder_config(), device.capability if device else None)
    _configure(building, logger, settings)
    ranges = calibration.give_ranges(building, settings)
    profiles = _add_profiles(building, task)
    cache = _timing_cache(building, settings, result, phases)
    plan = _plan(building, logger, task, phases)
    phases.part_serialization(result.log)
    assert task.engine is not None  # task.py sees to it
    with phases("write"):
        write_atomically(task.engine, memoryview(plan))
        written = cache.write() if cache else None
    engine = None
    if device is not None:
        with phases("deserialize"):
            engine = Engine(trt, logger, task.engine, settings)
        result.content["engine"] = engine.describe({})
    result.content["build"] = {
        "seconds": sum(filter(None, phases.seconds.values())),
        "phases_s": phases.seconds,
        "onnx_sha256": hashlib.sha256(_read(task.onnx)).hexdigest() if task.onnx else None,
        "settings": settings,
        "profile_shapes": {name: [list(end) for end in ends] for name, ends in profiles.items()},
        "timing_cache": written,
        "size_bytes": memoryview(plan).nbytes,
        "tactics": engine.tactics() if engine else None,
        **(ranges or {}),
    }


def _timing_cache(building: Building, settings: dict[str, Any], result: Result, phases: Phases) -> TimingCache | None:
    if "timing_cache_file" not in settings:
        return None
    required = "error_on_timing_cache_miss" in settings
    with phases("timing_cache_read"):
        return TimingCache(building.config, Path(settings["timing_cache_file"]), result, required=required)


def _plan(building: Building, logger: Any, task: Task, phases: Phases) -> Any:
    logger.forget()
    with phases("build"):
        plan = building.builder.build_serialized_network(building.network, building.config)
    if plan is None:
        line = logger.last_error()
        hint = "read the log; try a higher builder optimization level, or another precision"
        if "error_on_timing_cache_miss" in task.settings:
            hint = "the timing cache lacks a tactic: build once without --error-on-timing-cache-miss to fill it"
        raise Failure("TensorRT cannot build the engine", where=str(task.onnx), hint=hint_for(line, hint), log=line)
    return plan


def _builder(trt: Any, logger: Any, settings: dict[str, Any]) -> Any:
    builder = _bare_builder(trt, logger)
    versions.standard_plugins(trt, logger)
    for option, value in options.given(settings):
        if option.prepare:
            option.prepare(trt, builder, value)
    return builder


def _bare_builder(trt: Any, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # what its bindings make of a null pointer
        line = logger.last_error()
        hint = hint_for(
            line, "check that this TensorRT is whole: engines need its builder library, running them does not"
        )
        raise Failure(
            f"{versions.name(trt)} cannot build engines here", where="TensorRT", hint=hint, log=line
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", where=str(path), hint="check the path") from error


def _parse(trt: Any, logger: Any, builder: Any, task: Task, settings: dict[str, Any]) -> Any:
    assert task.onnx is not None  # task.py sees to it
    _read(task.onnx)
    network = builder.create_network(versions.network_flags(trt, strongly_typed="strongly_typed" in settings))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(task.onnx)):
        errors = [_describe(parser.get_error(i)) for i in range(parser.num_errors)]
        raise Failure(
            f"{versions.name(trt)} cannot parse the model: {errors[0] if errors else 'it does not say why'}",
            where=str(task.onnx),
            hint="check the model (onnx.checker), or simplify it, or use a TensorRT that has this operator",
            log=logger.last_error(),
        )
    return network


def _describe(error: Any) -> str:
    name = versions.node_name(error)
    at = f"node {error.node()}" + (f" ({name})" if name else "")
    return f"{at}: {error.desc()}"


def _configure(building: Building, logger: Any, settings: dict[str, Any]) -> None:
    """Raises Failure for an option that TensorRT refuses: of most it says so in its log, and keeps what it had."""
    config = building.config
    for option, value in options.given(settings):
        logger.forget()
        enumeration, _, name = option.flag.partition(".")
        if enumeration == "BuilderFlag":
            config.set_flag(getattr(building.trt.BuilderFlag, name))
        if option.attribute:
            setattr(config, option.attribute, value)
        if option.build:
            option.build(building, value)
        if line := logger.first_error():
            what = f"{versions.name(building.trt)} refuses it"
            raise Failure(what, where=option.line, hint="leave it out, or give another value", log=line)


def _add_profiles(building: Building, task: Task) -> dict[str, Ends]:
    """Optimization profiles for dynamic inputs, as many as there will be streams, all alike."""
    inputs = building.inputs()
    names = [tensor.name for tensor in inputs]
    task = replace(task, shapes=specs.by_input(task.shapes, names, "--shapes"))
    ends = [options.BY_NAME[name] for name in ("min_shapes", "opt_shapes", "max_shapes")]
    asked = [specs.by_input(task.settings.get(end.name, {}), names, end.line) for end in ends]
    profiled = {
        tensor.name: _ends(tensor, task, [shapes.get(tensor.name) for shapes in asked])
        for tensor in inputs
        if tensor.is_shape_tensor or -1 in tensor.shape
    }
    for tensor in inputs:
        for shapes in () if tensor.name in profiled else (task.shapes, *asked):
            _fits(tensor, tuple(shapes.get(tensor.name, tensor.shape)))
    for _ in range(task.profiles if profiled else 0):
        profile = building.builder.create_optimization_profile()
        for tensor in inputs:
            if tensor.name in profiled:
                give = profile.set_shape_input if tensor.is_shape_tensor else profile.set_shape
                give(tensor.name, *profiled[tensor.name])
        if building.config.add_optimization_profile(profile) < 0:
            raise Failure(f"TensorRT refuses an optimization profile of {profiled}", where="--shapes")
    return profiled


def _fits(tensor: Any, shape: Shape) -> None:
    """Raises Failure where a shape is none of this input."""
    like = tuple(tensor.shape)
    if tensor.is_shape_tensor or (
        len(shape) == len(like) and all(b in {-1, a} for a, b in zip(shape, like, strict=True))
    ):
        return
    fixed = "" if -1 in like else "leave it out, or export the model with dynamic dimensions"
    what = f"input {tensor.name} is {list(like)} in this model and cannot be {list(shape)}"
    raise Failure(what, where="--shapes", hint=fixed)


def _ends(tensor: Any, task: Task, asked: list[list[int] | None]) -> Ends:
    """What an input's profile goes from and to. Ends that are not given are the next ones that are, as trtexec."""
    low, usual, high = asked
    if low is usual is high is None:
        shape = _run_shape(tensor, task)
        return shape, shape, shape
    ends = (low or usual or high, usual or high or low, high or usual or low)
    low_shape, usual_shape, high_shape = (tuple(end or ()) for end in ends)
    for shape in (low_shape, usual_shape, high_shape):
        _fits(tensor, shape)
    run = tuple(task.shapes.get(tensor.name, usual_shape))
    if task.batch is not None and tensor.name not in task.shapes and not tensor.is_shape_tensor and tensor.shape[0] < 0:
        run = (task.batch, *run[1:])
    _fits(tensor, run)
    for shape, what in ((usual_shape, "usual"), (run, "that runs")):
        if not all(a <= b <= c for a, b, c in zip(low_shape, shape, high_shape, strict=True)):
            raise Failure(
                f"input {tensor.name}: the shape {what}, {list(shape)}, is not between {list(low_shape)} and "
                f"{list(high_shape)}",
                where="--min-shapes, --max-shapes",
            )
    return low_shape, usual_shape, high_shape


def _run_shape(tensor: Any, task: Task) -> Shape:
    asked = task.shapes.get(tensor.name)
    if asked is not None:
        _fits(tensor, tuple(asked))
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
