"""A serialized engine, loaded; its tensors, and the shapes that a run gives them.

What TensorRT's versions 8.5 to 11 differ in is in the table of options.py and in versions.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import options, specs, toolkit, versions
from .outcome import Failure, write_atomically
from .tensors import Shape, Tensor, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .task import Task

_PROFILE = re.compile(r" \[profile (\d+)\]$")
"""How TensorRT ends the names of layers of any optimization profile but the first."""
_HINTS = (
    (
        r"compatible with this version|expecting library version|version tag does not match|magic ?tag",
        "build the engine again with this TensorRT, or run it with the TensorRT that built it",
    ),
    (r"expecting compute|incompatible device|different (models? of )?devices?", "build the engine again on this GPU"),
    (r"unable to load library", "this TensorRT lacks a library that it needs for this: install it whole"),
    (r"workspace (limit|memory)", "give the builder more workspace: --mem-pool-size workspace:SIZE"),
    (r"plugin ?creator|could not find plugin", "the engine needs a plugin library that is not loaded here"),
    (
        r"out ?of ?memory|memory allocation|cudaMalloc",
        "free GPU memory (see nvidia-smi), or use fewer streams or a smaller batch",
    ),
)
"""What to do where a line of TensorRT's log matches."""


def hint_for(line: str | None, otherwise: str) -> str:
    """What to do about a line of TensorRT's log."""
    return next((hint for pattern, hint in _HINTS if line and re.search(pattern, line, re.IGNORECASE)), otherwise)


class Engine:
    """A deserialized engine and its tensors; keeps the runtime that it needs alive.

    `settings` are values of `options.OPTIONS`; those that only a build has are passed over.
    """

    def __init__(self, trt: Any, logger: Any, path: Path, settings: Mapping[str, Any]) -> None:
        self.settings = _of_loading(settings)
        options.refuse(trt, self.settings)
        self.trt, self.logger, self.path = trt, logger, path
        plan = _read(path)
        self.sha256, self.size_bytes = hashlib.sha256(plan).hexdigest(), len(plan)
        logger.forget()
        versions.standard_plugins(trt, logger)
        self._runtime = trt.Runtime(logger)
        self.engine: Any = self._load(plan) if self._runtime else None
        if self.engine is None:
            raise self.failure(
                f"{versions.name(trt)} cannot load the engine",
                "is it an engine? It must have been built by this version of TensorRT for this model of GPU",
            )
        self.tensors = [self._tensor(self.engine.get_tensor_name(i)) for i in range(self.engine.num_io_tensors)]
        self.inputs = [tensor for tensor in self.tensors if tensor.is_input]
        self.outputs = [tensor for tensor in self.tensors if not tensor.is_input]
        self.dynamic = any(tensor.dynamic or tensor.on_host for tensor in self.inputs)

    def _load(self, plan: bytes) -> Any:
        given = list(options.given(self.settings))
        for option, value in given:
            if option.prepare:
                option.prepare(self.trt, self._runtime, value)
            if option.runtime:
                option.runtime(self.trt, self._runtime, value)
        began = time.perf_counter()
        engine = self._runtime.deserialize_cuda_engine(plan)
        self.load_s = time.perf_counter() - began
        for option, value in given if engine is not None else ():
            if option.engine:
                option.engine(self.trt, engine, value)
        return engine

    def failure(self, what: str, hint: str, *, where: str = "") -> Failure:
        """A failure with the last error of TensorRT's log, and the hint that fits it."""
        line = self.logger.last_error()
        return Failure(what, where=where or str(self.path), hint=hint_for(line, hint), log=line)

    def _tensor(self, name: str) -> Tensor:
        engine, trt = self.engine, self.trt
        return Tensor(
            name,
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            tuple(engine.get_tensor_shape(name)),
            kind_of(engine.get_tensor_dtype(name), name),
            engine.get_tensor_location(name) == trt.TensorLocation.HOST,
            engine.get_tensor_vectorized_dim(name),
            engine.get_tensor_components_per_element(name),
        )

    def describe(self, shapes: dict[str, Shape]) -> dict[str, Any]:
        engine = self.engine
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "inputs": [tensor.as_json(shapes.get(tensor.name, tensor.shape)) for tensor in self.inputs],
            "outputs": [tensor.as_json(shapes.get(tensor.name, tensor.shape)) for tensor in self.outputs],
            "dynamic": self.dynamic,
            "profiles": engine.num_optimization_profiles,
            "aux_streams": versions.aux_streams(engine),
            "device_memory_bytes": self.device_memory_bytes,
            "weights_bytes": versions.weights_bytes(self.trt, engine),
            "weight_streaming_budget_bytes": self._streamed(),
            "load_s": self.load_s,
            "layers": engine.num_layers,
            "profiling_verbosity": word(versions.profiling_verbosity(engine)),
        }

    @property
    def device_memory_bytes(self) -> int:
        """GPU memory of a context, as TensorRT says it, for the largest shapes of all profiles."""
        return versions.device_memory_bytes(self.engine)

    def _streamed(self) -> int | None:
        return int(self.engine.weight_streaming_budget_v2) if "weight_streaming_budget" in self.settings else None

    def profile_of(self, number: int, contexts: int) -> int:
        """The optimization profile of a context; fails before anything runs where they do not suffice."""
        profiles = int(self.engine.num_optimization_profiles)
        if not self.dynamic or contexts <= profiles:
            return number if self.dynamic else 0
        if versions.shares_profiles(self.trt):
            return number % profiles
        raise Failure(
            f"{contexts} streams need {contexts} optimization profiles, and this engine with dynamic shapes has "
            f"{profiles}: {versions.name(self.trt)} lets no two contexts share one",
            where=str(self.path),
            hint=f"use --streams {profiles}, or build the engine again from the ONNX model: --streams {contexts} then "
            "makes that many profiles",
        )

    def shapes(self, task: Task, profile: int) -> tuple[dict[str, Shape], dict[str, str]]:
        """Every input's shape, and where it is from; fails where one disagrees with the engine or its profile."""
        named = [tensor.name for tensor in self.inputs]
        task = replace(task, shapes=specs.by_input(task.shapes, named, "--shapes"))
        shapes: dict[str, Shape] = {}
        source: dict[str, str] = {}
        for tensor in self.inputs:
            shapes[tensor.name], source[tensor.name] = self._shape(tensor, task, profile)
        if task.batch is not None and not any(shape[:1] == (task.batch,) for shape in shapes.values()):
            have = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise Failure(
                f"no input has {task.batch} as its first dimension: {have}",
                where="--batch",
                hint="leave it out, or build the engine again for that batch",
            )
        return shapes, source

    def _shape(self, tensor: Tensor, task: Task, profile: int) -> tuple[Shape, str]:
        asked = tuple(task.shapes.get(tensor.name, ()))
        if tensor.on_host or not tensor.dynamic:
            if asked and asked != tensor.shape and not tensor.on_host:
                raise Failure(
                    f"input {tensor.name} is {list(tensor.shape)} in this engine and cannot be {list(asked)}",
                    where="--shapes",
                    hint="leave it out, or build the engine again with that shape",
                )
            return tensor.shape, "engine"
        low, best, high = (tuple(dims) for dims in self.engine.get_tensor_profile_shape(tensor.name, profile))
        shape, source = best, "opt of the optimization profile"
        if asked:
            shape, source = asked, "--shapes"
        elif task.batch is not None and tensor.shape[0] < 0:
            shape, source = (task.batch, *best[1:]), "--batch"
        fits = len(shape) == len(tensor.shape) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if not fits:
            raise Failure(
                f"input {tensor.name} cannot be {list(shape)}: optimization profile {profile} goes from {list(low)} to "
                f"{list(high)}",
                where=source,
                hint="choose a shape within, or build the engine again",
            )
        return shape, source

    def make_context(self, number: int, contexts: int, stream: Any, *, layer_ranges: bool) -> Any:
        """An execution context with its optimization profile; `stream` is PyCUDA's, or None for the default."""
        self.logger.forget()
        own = self.settings.get("allocation_strategy", "static") != "static"
        managed = (self.trt.ExecutionContextAllocationStrategy.USER_MANAGED,) if own else ()
        context = self.engine.create_execution_context(*managed)
        if context is None:
            raise self.failure(
                f"TensorRT cannot make execution context {number + 1} of {contexts}",
                "free GPU memory (see nvidia-smi), or use fewer streams or a smaller batch",
            )
        if self.dynamic:
            profile = self.profile_of(number, contexts)
            if not context.set_optimization_profile_async(profile, handle_of(stream)):
                raise self.failure(f"TensorRT refuses optimization profile {profile}", "build the engine again")
            if stream is not None:
                stream.synchronize()
        versions.set_layer_ranges(self.trt, context, wanted=layer_ranges)
        return context

    def set_shapes(self, context: Any, shapes: dict[str, Shape]) -> None:
        """Give a context its input shapes."""
        self.logger.forget()
        for tensor in self.inputs:
            if tensor.dynamic and not context.set_input_shape(tensor.name, shapes[tensor.name]):
                raise self.failure(
                    f"TensorRT refuses {list(shapes[tensor.name])} for input {tensor.name}", "check --shapes"
                )

    def give_memory(self, context: Any, number: int, contexts: int) -> tuple[Any, int]:
        """Give a context that has its shapes its memory: a buffer to keep as long as it, and its bytes.

        None and 0 where TensorRT allocated it itself.
        """
        strategy = self.settings.get("allocation_strategy", "static")
        if strategy == "static":
            return None, 0
        if strategy == "profile":
            size = int(self.engine.get_device_memory_size_for_profile_v2(self.profile_of(number, contexts)))
        else:
            size = int(context.update_device_memory_size_for_shapes())
        cuda = toolkit.cuda()
        try:
            buffer = cuda.mem_alloc(max(size, 1))
        except (cuda.Error, MemoryError) as error:
            hint = "free memory (see nvidia-smi), or use fewer streams or a smaller batch"
            raise Failure(
                f"no {size} bytes of GPU memory for context {number + 1} of {contexts}: {error}",
                where="--allocation-strategy",
                hint=hint,
            ) from error
        context.set_device_memory(int(buffer), size)
        return buffer, size

    def output_shapes(self, context: Any) -> dict[str, Shape]:
        """Shapes of the outputs, once every input of the context is set."""
        if missing := versions.missing_shapes(context):
            raise self.failure(f"shapes cannot be inferred: {', '.join(missing)} is not set", "give them with --shapes")
        shapes = {tensor.name: tuple(context.get_tensor_shape(tensor.name)) for tensor in self.outputs}
        for name, shape in shapes.items():
            if any(extent < 0 for extent in shape):
                raise Failure(
                    f"output {name} has a shape that depends on the data, which is not supported: {list(shape)}",
                    where=str(self.path),
                    hint="cut the model before what decides the shape (NonZero, NonMaxSuppression, …), or wrap "
                    "your own program: nsight-tools capture -- COMMAND",
                )
        return shapes

    def tactics(self) -> dict[str, Any] | None:
        """How many layers have a tactic that the builder chose, and a hash of which; null where none is told.

        Engines of one model with the same hash run the same kernels. The inspector's JSON has each layer's.
        """
        text = self._inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        layers = [layer for layer in json.loads(text, strict=False)["Layers"] if isinstance(layer, dict)]
        chosen = [[layer.get(key) for key in ("Name", "TacticName", "TacticValue")] for layer in layers]
        chosen = [each for each in chosen if each[1] or each[2]]
        if not chosen:
            return None
        return {"layers": len(chosen), "sha256": hashlib.sha256(json.dumps(chosen).encode()).hexdigest()}

    def inspect(self, contexts: Sequence[Any], path: Path) -> None:
        """Write the engine inspector's JSON: each layer with the shapes of the context that runs it.

        An engine has its layers once for each optimization profile, and TensorRT 8.6 tells nothing at all to a context
        of one that is asked for those of another.
        """
        kind = self.trt.LayerInformationFormat.JSON
        if self.engine.num_optimization_profiles > 1:
            whole = json.loads(self._inspector().get_engine_information(kind), strict=False)
            inspectors = {context.active_optimization_profile: self._inspector(context) for context in contexts}
            for number, layer in enumerate(whole["Layers"]):
                if not isinstance(layer, dict):
                    continue  # a name, of an engine that was built with no more
                profile = _PROFILE.search(layer.get("Name", ""))
                inspector = inspectors.get(int(profile[1]) if profile else 0)
                if inspector and (told := inspector.get_layer_information(number, kind)):
                    whole["Layers"][number] = json.loads(told, strict=False)
            text = json.dumps(whole)
        else:
            text = self._inspector(contexts[0]).get_engine_information(kind)
        write_atomically(path, text.encode("utf-8", "surrogateescape"))

    def _inspector(self, context: Any = None) -> Any:
        """TensorRT's inspector, by this context's shapes and profile where one is given."""
        inspector = self.engine.create_engine_inspector()
        if context is not None:
            inspector.execution_context = context
        return inspector


def _of_loading(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run needs of these; weights that may be streamed are not, unless it is said, as trtexec."""
    found = {name: value for name, value in settings.items() if options.BY_NAME[name].of != "build"}
    if "allow_weight_streaming" in found:
        found.setdefault("weight_streaming_budget", specs.WEIGHTS_ALL)
    return found


def handle_of(stream: Any) -> int:
    """CUDA's handle of a PyCUDA stream; 0, the legacy default stream, for None."""
    return 0 if stream is None else int(stream.handle)


def _read(path: Path) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", where=str(path), hint="check the path") from error
    if not plan:
        raise Failure("is empty", where=str(path), hint="build the engine again")
    return plan


def word(member: Any) -> str | None:
    """Name of an enumeration's member in lower case; null for null."""
    return None if member is None else str(member.name).lower()
