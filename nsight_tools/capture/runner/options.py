"""How an engine is built and loaded: a row for each option.

The command line, what `run.json` keeps, what is refused, what reaches TensorRT, and the words for trtexec and the API
all come from these rows. Values are JSON's; an option that is not given has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import applied, specs, versions
from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CONVERT = "convert the ONNX model to that precision first (NVIDIA ModelOpt does), or use TensorRT 10"
PIN = "set the types in the ONNX model, with Cast or Q/DQ, or use TensorRT 10"


@dataclass(frozen=True)
class Option:
    """One setting. What has no function to apply it is a flag of TensorRT, or is asked for where it is needed."""

    name: str
    help: str
    trtexec: str
    """trtexec's flag, with `{value}`; empty where it has none."""
    api: str
    """What a program calls."""
    read: specs.Reader | None = None
    """Text of the command line to JSON value; raises ValueError. None for a switch."""
    metavar: str = ""
    many: bool = False
    """May be given several times: the value is a list."""
    of: Literal["build", "load", "both"] = "build"
    default: Any = None
    """Where it is not TensorRT's own."""
    flag: str = ""
    """The member of a TensorRT enumeration that switches it on: BuilderFlag.FP16."""
    attribute: str = ""
    """The attribute of the builder's configuration that holds it."""
    needs: tuple[str, ...] = ()
    """What else this TensorRT must have, from its module."""
    since: str = ""
    until: str = ""
    """Versions of TensorRT that have it: from the first, and before the second."""
    instead: str = ""
    """What to do where there is no such thing."""
    requires: tuple[str, ...] = ()
    """Options one of which must be given, too."""
    excludes: tuple[str, ...] = ()
    """Options that must not be given, too."""
    build: Callable[[applied.Building, Any], None] | None = None
    prepare: Callable[[Any, Any, Any], None] | None = None
    """Of tensorrt, a builder or runtime, and the value; before a network is made or an engine loaded."""
    runtime: Callable[[Any, Any, Any], None] | None = None
    """Of tensorrt, the runtime, and the value."""
    engine: Callable[[Any, Any, Any], None] | None = None
    """Of tensorrt, the engine, and the value; before it has a context."""

    @property
    def line(self) -> str:
        """As the command line has it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def wanted(self) -> tuple[str, ...]:
        """All that TensorRT must have for it."""
        held = (f"IBuilderConfig.{self.attribute}",) if self.attribute else ()
        return (*filter(None, (self.flag,)), *held, *self.needs)


def _plugins(name: str, how: str, **more: Any) -> Option:
    return Option(
        f"{name}_plugins",
        f"Plugin library, {how}; may be given several times.",
        trtexec=f"--{name}Plugins={{value}}",
        read=specs.library,
        metavar="FILE",
        many=True,
        of="both",
        **more,
    )


def _shapes(end: str, what: str) -> Option:
    return Option(
        f"{end}_shapes",
        f"{what} shapes of dynamic inputs; of min, opt and max, what is not given is the same as what is given.",
        trtexec=f"--{end}Shapes={{value}}",
        api="IOptimizationProfile::setDimensions",
        read=specs.shapes,
        metavar="SPEC",
    )


def _formats(end: str) -> Option:
    return Option(
        f"{end}_io_formats",
        f"Types and formats of {end}s, as fp16:chw,int8:chw32+chw4: one for all, or one for each.",
        trtexec=f"--{end}IOFormats={{value}}",
        api="ITensor::setType and setAllowedFormats",
        read=specs.io_formats,
        metavar="SPEC",
        build=applied.input_formats if end == "input" else applied.output_formats,
    )


def _precision(name: str, since: str = "", **more: Any) -> Option:
    return Option(
        name,
        f"Allow {name.upper()}.",
        trtexec=f"--{name}",
        api=f"BuilderFlag::k{name.upper()}",
        flag=f"BuilderFlag.{name.upper()}",
        since=since,
        until="11.0",
        instead=CONVERT,
        **{"excludes": ("strongly_typed",), **more},
    )


OPTIONS = (
    _shapes("min", "Smallest"),
    _shapes("opt", "Usual"),
    _shapes("max", "Largest"),
    _plugins("static", "loaded into the process", api="dlopen", prepare=applied.static_plugins),
    _plugins(
        "dynamic",
        "loaded into TensorRT's registry",
        api="IPluginRegistry::loadLibrary",
        needs=("IPluginRegistry.load_library",),
        since="8.6",
        prepare=applied.dynamic_plugins,
    ),
    Option(
        "strongly_typed",
        "The model's types decide, layer by layer; always so from TensorRT 11 on.",
        trtexec="--stronglyTyped",
        api="NetworkDefinitionCreationFlag::kSTRONGLY_TYPED",
        flag="NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        since="9",
    ),
    _formats("input"),
    _formats("output"),
    _precision("fp16"),
    _precision("bf16", "9"),
    _precision("int8"),
    _precision("fp8", "8.6", excludes=("strongly_typed", "int8", "best")),
    Option(
        "best",
        "Allow FP16, INT8 and, from Ampere and TensorRT 9 on, BF16.",
        trtexec="--best",
        api="all of BuilderFlag's precisions",
        needs=("BuilderFlag.FP16", "BuilderFlag.INT8"),
        until="11.0",
        instead=CONVERT,
        excludes=("strongly_typed",),
        build=applied.best,
    ),
    Option(
        "calibration_data",
        "INT8: folder of .npz or .npy batches, or a calibration cache (.cache).",
        trtexec="--calib={value}",
        api="IBuilderConfig::setInt8Calibrator",
        read=specs.path,
        metavar="PATH",
        needs=("IInt8EntropyCalibrator2", "IBuilderConfig.int8_calibrator"),
        until="11.0",
        instead="quantize the ONNX model with Q/DQ (NVIDIA ModelOpt does)",
        requires=("int8", "best"),
        excludes=("placeholder_ranges",),
    ),
    Option(
        "placeholder_ranges",
        "INT8 without ranges: times hold, results mean nothing.",
        trtexec="its default with --int8",
        api="ITensor::setDynamicRange",
        needs=("ITensor.set_dynamic_range",),
        until="11.0",
        instead="quantize the ONNX model with Q/DQ (NVIDIA ModelOpt does)",
        requires=("int8", "best"),
    ),
    Option(
        "layer_precisions",
        "Precisions of layers, as conv1:fp32,*attention:fp16; one * in a name.",
        trtexec="--layerPrecisions={value}",
        api="ILayer::setPrecision",
        read=specs.layer_types,
        metavar="SPEC",
        needs=("ILayer.precision",),
        until="11.0",
        instead=PIN,
        requires=("precision_constraints",),
        build=applied.layer_precisions,
    ),
    Option(
        "precision_constraints",
        "Whether the builder obeys, prefers or ignores the layers' precisions.",
        trtexec="--precisionConstraints={value}",
        api="BuilderFlag::kOBEY_PRECISION_CONSTRAINTS or kPREFER_PRECISION_CONSTRAINTS",
        read=specs.choice("obey", "prefer", "none"),
        metavar="obey|prefer|none",
        needs=("BuilderFlag.OBEY_PRECISION_CONSTRAINTS", "BuilderFlag.PREFER_PRECISION_CONSTRAINTS"),
        until="11.0",
        instead=PIN,
        excludes=("strongly_typed",),
        build=applied.precision_constraints,
    ),
    Option(
        "sparsity",
        "Try tactics for weights of which 2 in 4 are zero.",
        trtexec="--sparsity={value}",
        api="BuilderFlag::kSPARSE_WEIGHTS",
        read=specs.sparsity,
        metavar="disable|enable",
        needs=("BuilderFlag.SPARSE_WEIGHTS",),
        build=applied.sparsity,
    ),
    Option(
        "builder_optimization_level",
        "0 builds fastest, 5 tries most.",
        trtexec="--builderOptimizationLevel={value}",
        api="IBuilderConfig::setBuilderOptimizationLevel({value})",
        read=specs.number(0, 5),
        metavar="N",
        attribute="builder_optimization_level",
        since="8.6",
    ),
    Option(
        "tactic_sources",
        "Where tactics come from, as -CUDNN,+CUBLAS, or TensorRT's bits; 0 for none.",
        trtexec="--tacticSources={value}",
        api="IBuilderConfig::setTacticSources",
        read=specs.tactic_sources,
        metavar="SPEC",
        build=applied.tactic_sources,
    ),
    Option(
        "max_aux_streams",
        "Streams that one inference may use beside its own; 0 for none.",
        trtexec="--maxAuxStreams={value}",
        api="IBuilderConfig::setMaxAuxStreams({value})",
        read=specs.number(0),
        metavar="N",
        attribute="max_aux_streams",
        since="8.6",
    ),
    Option(
        "mem_pool_size",
        "Bounds of memory, as workspace:1024,tacticSharedMem:48K; MiB unless a unit is given.",
        trtexec="--memPoolSize={value}",
        api="IBuilderConfig::setMemoryPoolLimit",
        read=specs.pools,
        metavar="SPEC",
        build=applied.mem_pool_size,
    ),
    Option(
        "tiling_optimization_level",
        "0 looks for no tilings across layers, 3 for most.",
        trtexec="--tilingOptimizationLevel={value}",
        api="IBuilderConfig::setTilingOptimizationLevel",
        read=specs.number(0, 3),
        metavar="N",
        needs=("IBuilderConfig.tiling_optimization_level", "TilingOptimizationLevel"),
        since="10.8",
        build=applied.tiling,
    ),
    Option(
        "version_compatible",
        "An engine that later versions of TensorRT load; runs the code that it brings.",
        trtexec="--versionCompatible",
        api="BuilderFlag::kVERSION_COMPATIBLE, and IRuntime::setEngineHostCodeAllowed",
        of="both",
        flag="BuilderFlag.VERSION_COMPATIBLE",
        needs=("Runtime.engine_host_code_allowed",),
        since="8.6",
        runtime=applied.host_code_allowed,
    ),
    Option(
        "allow_weight_streaming",
        "Weights may stay on the host and stream to the GPU.",
        trtexec="--allowWeightStreaming",
        api="BuilderFlag::kWEIGHT_STREAMING",
        of="both",
        flag="BuilderFlag.WEIGHT_STREAMING",
        needs=("ICudaEngine.weight_streaming_budget_v2",),
        since="10.1",
    ),
    Option(
        "weight_streaming_budget",
        "Of the weights that can be streamed, what stays on the GPU: 512M, 50%, -1 automatic, -2 all (default).",
        trtexec="--weightStreamingBudget={value}",
        api="ICudaEngine::setWeightStreamingBudgetV2",
        read=specs.budget,
        metavar="SIZE",
        of="load",
        requires=("allow_weight_streaming",),
        engine=applied.weight_streaming_budget,
    ),
    Option(
        "allow_gpu_fallback",
        "Layers that the DLA cannot run go to the GPU.",
        trtexec="--allowGPUFallback",
        api="BuilderFlag::kGPU_FALLBACK",
        flag="BuilderFlag.GPU_FALLBACK",
        requires=("use_dla_core",),
    ),
    Option(
        "use_dla_core",
        "Layers go to this DLA where it can run them.",
        trtexec="--useDLACore={value}",
        api="IBuilderConfig::setDefaultDeviceType(DeviceType::kDLA), and setDLACore({value}) of it and of IRuntime",
        read=specs.number(0),
        metavar="N",
        of="both",
        build=applied.dla_core,
        runtime=applied.dla_core_of_runtime,
    ),
    Option(
        "profiling_verbosity",
        "What the engine tells of its layers; default: detailed.",
        trtexec="--profilingVerbosity={value}",
        api="IBuilderConfig::setProfilingVerbosity",
        read=specs.choice("detailed", "layer_names_only", "none"),
        metavar="detailed|layer_names_only|none",
        default="detailed",
        build=applied.profiling_verbosity,
    ),
    Option(
        "timing_cache_file",
        "Times of tactics, read and written: a build with the same cache is faster, and picks the same tactics.",
        trtexec="--timingCacheFile={value}",
        api="IBuilderConfig::setTimingCache",
        read=specs.path,
        metavar="FILE",
    ),
    Option(
        "error_on_timing_cache_miss",
        "Fail where a tactic would have to be timed that the cache does not hold.",
        trtexec="--errorOnTimingCacheMiss",
        api="BuilderFlag::kERROR_ON_TIMING_CACHE_MISS",
        flag="BuilderFlag.ERROR_ON_TIMING_CACHE_MISS",
        since="9",
        requires=("timing_cache_file",),
    ),
    Option(
        "allocation_strategy",
        "GPU memory of contexts for the largest shapes of all profiles, of its profile, or for the shapes that run.",
        trtexec="--allocationStrategy={value}",
        api="ICudaEngine::createExecutionContext, but for static with kUSER_MANAGED and setDeviceMemoryV2",
        read=specs.choice("static", "profile", "runtime"),
        metavar="static|profile|runtime",
        of="load",
        needs=(
            "ExecutionContextAllocationStrategy",
            "ICudaEngine.get_device_memory_size_for_profile_v2",
            "IExecutionContext.update_device_memory_size_for_shapes",
            "IExecutionContext.set_device_memory",
        ),
        since="10.1",
    ),
)
"""In the order in which they are applied: fallback to the GPU before the DLA that it is for."""

BY_NAME = {option.name: option for option in OPTIONS}


def given(settings: Mapping[str, Any]) -> Iterator[tuple[Option, Any]]:
    """Options that have a value, in their order."""
    return ((option, settings[option.name]) for option in OPTIONS if option.name in settings)


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a build is made with: the defaults that are not TensorRT's own, too."""
    ours = {option.name: option.default for option in OPTIONS if option.default is not None}
    return ours | dict(settings)


def problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with these together, whatever the TensorRT."""
    yield from (f"{name} is no option" for name in settings if name not in BY_NAME)
    for option, _ in given(settings):
        if option.requires and not any(name in settings for name in option.requires):
            others = " or ".join(BY_NAME[name].line for name in option.requires)
            yield f"{option.line} goes with {others}"
        for name in option.excludes:
            if name in settings:
                yield f"{option.line} and {BY_NAME[name].line} do not go together"


def refuse(trt: Any, settings: Mapping[str, Any]) -> None:
    """Raises Failure for the first option that this TensorRT does not have."""
    for option, _ in given(settings):
        if versions.passes_over(trt, option.name) or not all(_has(trt, name) for name in option.wanted):
            raise Failure(
                f"{versions.name(trt)} has no {option.line}{_when(trt, option)}",
                where=option.line,
                hint=option.instead or "leave it out, or use a TensorRT that has it",
            )


def _has(trt: Any, dotted: str) -> bool:
    member = trt
    for name in dotted.split("."):
        if not hasattr(member, name):
            return False
        member = getattr(member, name)
    return True


def _when(trt: Any, option: Option) -> str:
    now, of = versions.api(trt), "TensorRT " if versions.is_rtx(trt) else ""
    if option.since and now < _numbers(option.since):
        return f": it came with {of}{option.since}"
    if option.until and now >= _numbers(option.until):
        return f": it went with {of}{option.until}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
