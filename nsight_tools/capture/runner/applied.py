"""What each option of a build does to TensorRT's builder, network, runtime and engine."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import specs, versions
from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NO_ACTIVATIONS = frozenset({"INT32", "INT64", "UINT8", "BOOL"})
"""Types of indices, shapes and masks: a pattern of layers' names does not mean layers that work on them."""
LARGEST_SRAM = 1 << 30
"""Of a DLA, in bytes: more than any has, as trtexec bounds it."""


@dataclass(frozen=True)
class Building:
    """A network on its way to an engine."""

    trt: Any
    builder: Any
    network: Any
    config: Any
    capability: tuple[int, int] | None
    """Compute capability of the GPU that it is built on; None where it is built without one."""

    def layers(self) -> Iterator[Any]:
        return (self.network.get_layer(i) for i in range(self.network.num_layers))

    def inputs(self) -> list[Any]:
        return [self.network.get_input(i) for i in range(self.network.num_inputs)]

    def outputs(self) -> list[Any]:
        return [self.network.get_output(i) for i in range(self.network.num_outputs)]


def member(trt: Any, enumeration: str, name: str, where: str) -> Any:
    """A member of one of TensorRT's enumerations. Raises Failure where this version has none of this name."""
    found = getattr(getattr(trt, enumeration, None), name, None)
    if found is None:
        raise Failure(f"{versions.name(trt)} has no {enumeration}.{name}", where=where)
    return found


def best(building: Building, _value: bool) -> None:
    """FP16 and INT8; BF16 too where TensorRT (9 and later) and the GPU (Ampere and later) have it, as trtexec."""
    flags = building.trt.BuilderFlag
    for name in ("FP16", "INT8"):
        building.config.set_flag(getattr(flags, name))
    if versions.has_bf16(building.trt) and (building.capability or (0, 0)) >= (8, 0):
        building.config.set_flag(flags.BF16)


def input_formats(building: Building, formats: Sequence[Sequence[str]]) -> None:
    """Types and formats of the network's inputs."""
    _formats(building, building.inputs(), formats, "input")


def output_formats(building: Building, formats: Sequence[Sequence[str]]) -> None:
    """Types and formats of the network's outputs."""
    _formats(building, building.outputs(), formats, "output")


def _formats(building: Building, tensors: Sequence[Any], formats: Sequence[Sequence[str]], kind: str) -> None:
    where = f"--{kind}-io-formats"
    if len(formats) not in {1, len(tensors)}:
        hint = "give one for all of them, or one for each, in the network's order"
        raise Failure(f"{len(formats)} formats for {len(tensors)} {kind}s", where=where, hint=hint)
    for number, tensor in enumerate(tensors):
        dtype, *layouts = formats[number if len(formats) > 1 else 0]
        wanted = member(building.trt, "DataType", specs.TYPES[dtype], where)
        if tensor.dtype != wanted:
            _set_type(building, tensor, wanted, f"{kind} {tensor.name} is {tensor.dtype.name}", where)
        members = (member(building.trt, "TensorFormat", specs.FORMATS[layout], where) for layout in layouts)
        tensor.allowed_formats = sum(1 << int(each) for each in members)


def _set_type(building: Building, tensor: Any, wanted: Any, what: str, where: str) -> None:
    if not versions.set_type(tensor, wanted):
        raise Failure(
            f"{what} in this model, and {versions.name(building.trt)} changes no types: not {wanted.name}",
            where=where,
            hint="name the model's own type here, or convert the model",
        )


def layer_precisions(building: Building, wanted: Mapping[str, str]) -> None:
    """Precisions of layers by name, or by a pattern with one `*`."""
    where, used = "--layer-precisions", set()
    for layer in building.layers():
        dtype = specs.named(wanted, layer.name)
        if dtype is None:
            continue
        used |= {name for name in wanted if specs.named({name: ""}, layer.name) is not None}
        if layer.name in wanted or not _works_on_indices(layer):
            layer.precision = member(building.trt, "DataType", specs.TYPES[dtype], where)
    if unused := sorted(wanted.keys() - used):
        hint = "layers are called as the ONNX model's nodes"
        raise Failure(f"no layer is called {', '.join(unused)}", where=where, hint=hint)


def _works_on_indices(layer: Any) -> bool:
    if layer.precision.name in NO_ACTIVATIONS:
        return True
    ends = [
        get(0) for get, count in ((layer.get_input, layer.num_inputs), (layer.get_output, layer.num_outputs)) if count
    ]
    ends = [tensor for tensor in ends if tensor is not None]
    return any(tensor.is_shape_tensor for tensor in ends) or (
        bool(ends) and all(tensor.dtype.name in NO_ACTIVATIONS for tensor in ends)
    )


def precision_constraints(building: Building, value: str) -> None:
    """Whether the builder has to, or should, keep to the layers' precisions."""
    if value != "none":
        name = f"{value.upper()}_PRECISION_CONSTRAINTS"
        building.config.set_flag(member(building.trt, "BuilderFlag", name, "--precision-constraints"))


def sparsity(building: Building, value: str) -> None:
    """Whether tactics for 2:4 sparse weights are tried."""
    if value == "enable":
        building.config.set_flag(building.trt.BuilderFlag.SPARSE_WEIGHTS)


def tactic_sources(building: Building, value: int | Sequence[str]) -> None:
    """Where tactics come from: bits, or names that are added to TensorRT's own choice or taken from it."""
    config = building.config
    if isinstance(value, int):
        config.set_tactic_sources(value)
        return
    mask = int(config.get_tactic_sources())
    for named in value:
        bit = 1 << int(member(building.trt, "TacticSource", named[1:], "--tactic-sources"))
        mask = mask | bit if named[0] == "+" else mask & ~bit
    config.set_tactic_sources(mask)


def mem_pool_size(building: Building, sizes: Mapping[str, int]) -> None:
    """Bounds of the builder's memory pools, bytes. The SRAM of a DLA is a power of two."""
    for pool, size in sizes.items():
        limit = min(1 << size.bit_length() - 1, LARGEST_SRAM) if pool == "dlaSRAM" and size else size
        kind = member(building.trt, "MemoryPoolType", specs.POOLS[pool], "--mem-pool-size")
        building.config.set_memory_pool_limit(kind, limit)


def tiling(building: Building, level: int) -> None:
    """How long the builder looks for tilings across layers, 0 to 3."""
    building.config.tiling_optimization_level = building.trt.TilingOptimizationLevel(level)


def profiling_verbosity(building: Building, value: str) -> None:
    """What the engine tells of its layers."""
    building.config.profiling_verbosity = getattr(building.trt.ProfilingVerbosity, value.upper())


def dla_core(building: Building, core: int) -> None:
    """Layers go to a DLA where it can run them, in FP16 unless INT8 is allowed, as trtexec.

    Without fallback nothing is reformatted at inputs and outputs, as that would run on the GPU.
    """
    _has_dla_core(building.builder, core)
    config, flags = building.config, building.trt.BuilderFlag
    config.default_device_type, config.DLA_core = building.trt.DeviceType.DLA, core
    if versions.has_weak_types(building.trt):
        config.set_flag(flags.PREFER_PRECISION_CONSTRAINTS)
        if not config.get_flag(flags.INT8):
            config.set_flag(flags.FP16)
    if not config.get_flag(flags.GPU_FALLBACK):
        config.set_flag(flags.DIRECT_IO)


def dla_core_of_runtime(_trt: Any, runtime: Any, core: int) -> None:
    """The DLA that an engine runs on."""
    _has_dla_core(runtime, core)
    runtime.DLA_core = core


def _has_dla_core(of: Any, core: int) -> None:
    cores = int(of.num_DLA_cores)
    if core >= cores:
        hint = "leave it out: data center and desktop GPUs have no DLA" if not cores else "DLA cores count from 0"
        raise Failure(f"there is no DLA core {core}: this GPU has {cores}", where="--use-dla-core", hint=hint)


def host_code_allowed(_trt: Any, runtime: Any, _value: bool) -> None:
    """A version compatible engine brings a runtime of its own along, as code."""
    runtime.engine_host_code_allowed = True


def static_plugins(_trt: Any, _owner: Any, libraries: Sequence[str]) -> None:
    """Load libraries whose plugins register themselves."""
    for library in libraries:
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            hint = "check its path, and what ldd says of it"
            raise Failure(f"cannot be loaded: {error}", where=f"--static-plugins {library}", hint=hint) from error


def dynamic_plugins(trt: Any, owner: Any, libraries: Sequence[str]) -> None:
    """Load libraries into the plugin registry of a builder or a runtime."""
    registry = owner.get_plugin_registry()
    for library in libraries:
        if "/" in library and not Path(library).exists():
            raise Failure("does not exist", where=f"--dynamic-plugins {library}", hint="check the path")
        if registry.load_library(library) is None:
            raise Failure(
                f"{versions.name(trt)} cannot load it",
                where=f"--dynamic-plugins {library}",
                hint="it must export getPluginCreators or getCreators; others are for --static-plugins",
            )


def weight_streaming_budget(_trt: Any, engine: Any, budget: int | str) -> None:
    """How many bytes of the weights stay on the GPU; set before there is a context."""
    whole = int(engine.streamable_weights_size)
    if not whole:
        hint = "build it with --allow-weight-streaming; its network must be strongly typed"
        raise Failure("this engine has no weights that can be streamed", where="--weight-streaming-budget", hint=hint)
    if isinstance(budget, str):
        kept = int(float(budget.rstrip("%")) / 100 * whole)
    elif budget == specs.WEIGHTS_AUTOMATIC:
        kept = int(engine.get_weight_streaming_automatic_budget())
    else:
        kept = whole if budget == specs.WEIGHTS_ALL else min(budget, whole)
    engine.weight_streaming_budget_v2 = kept
