"""What TensorRT 8.5 to 11, and TensorRT-RTX, differ in: what is gone, renamed or new, each asked for here alone.

What an option of a build needs stands in its row of options.py. TensorRT-RTX counts its own versions, from 1.0 on; its
API is that of TensorRT 11, and it builds without a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNTIMES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Modules of each runtime that an engine can be built for and run by: the first that is there is used."""
RTX_IS_LIKE = (11, 0)
"""TensorRT-RTX 1.7 has no weak types, no precision flags, and the names of TensorRT 11."""
RTX_PASSES_OVER = frozenset({"timing_cache_file", "error_on_timing_cache_miss"})
"""Options for which TensorRT-RTX has the names of TensorRT 11, and does nothing, as its own warning says."""
PROFILES_ARE_SHARED_FROM = (10, 0)
"""TensorRT's version from which several contexts may use one optimization profile."""


def is_rtx(trt: Any) -> bool:
    """Whether this module is TensorRT-RTX."""
    return str(getattr(trt, "__name__", "")).partition(".")[0].startswith("tensorrt_rtx")


def name(trt: Any) -> str:
    """What it is called: `TensorRT 10.13.0`, `TensorRT-RTX 1.7.1.116`."""
    return f"TensorRT{'-RTX' if is_rtx(trt) else ''} {trt.__version__}"


def api(trt: Any) -> tuple[int, int]:
    """The version of TensorRT whose API it has: major and minor."""
    if is_rtx(trt):
        return RTX_IS_LIKE
    major, minor = (int(part) for part in f"{trt.__version__}.0".split(".")[:2])
    return major, minor


def names_tensors(trt: Any) -> bool:
    """Whether tensors have names in the API, as the runner needs; since 8.5."""
    return hasattr(trt.IExecutionContext, "execute_async_v3")


def builds_without_gpu(trt: Any) -> bool:
    """Whether it builds where there is no GPU, for others to load."""
    return is_rtx(trt)


def passes_over(trt: Any, option: str) -> bool:
    """Whether an option, by its name in options.py, has what it needs in the API and yet no effect."""
    return is_rtx(trt) and option in RTX_PASSES_OVER


def network_flags(trt: Any, *, strongly_typed: bool) -> int:
    """Bits of a new network: with a batch dimension of its own (the only way from 10 on), and with types that hold.

    From 11 on all networks are strongly typed; the flag is there still.
    """
    flags = trt.NetworkDefinitionCreationFlag
    named = ["EXPLICIT_BATCH"] if hasattr(flags, "EXPLICIT_BATCH") else []
    named += ["STRONGLY_TYPED"] if strongly_typed else []
    return sum(1 << int(getattr(flags, each)) for each in named)


def standard_plugins(trt: Any, logger: Any) -> None:
    """Register the plugins that TensorRT brings along; before a model is parsed or an engine is loaded."""
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")


def node_name(error: Any) -> str:
    """The ONNX node of a parser's error; empty before 10, which does not say."""
    return str(error.node_name()) if hasattr(error, "node_name") else ""


def has_weak_types(trt: Any) -> bool:
    """Whether flags of precision may change a network's types; until 10."""
    return hasattr(trt.BuilderFlag, "FP16")


def has_bf16(trt: Any) -> bool:
    """Whether there is a flag for BF16; in 9 and 10."""
    return hasattr(trt.BuilderFlag, "BF16")


def set_type(tensor: Any, dtype: Any) -> bool:
    """Give an input or output of a network another type; false where it cannot have one, as from 11 on."""
    try:
        tensor.dtype = dtype
    except AttributeError:
        return False
    return True


def shares_profiles(trt: Any) -> bool:
    """Whether several contexts may use one optimization profile; since 10."""
    return api(trt) >= PROFILES_ARE_SHARED_FROM


def aux_streams(engine: Any) -> int | None:
    """Streams that an inference uses beside its own; null before 8.6."""
    return getattr(engine, "num_aux_streams", None)


def profiling_verbosity(engine: Any) -> Any:
    """What the engine tells of its layers, as TensorRT's member; null before 8.2."""
    return getattr(engine, "profiling_verbosity", None)


def device_memory_bytes(engine: Any) -> int:
    """GPU memory of a context for the largest shapes; renamed in 10.1, and the older name is gone in 11."""
    memory = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if memory is None else memory)


def weights_bytes(trt: Any, engine: Any) -> int | None:
    """Bytes of all weights; null where they are not counted: before 10.14, and of engines without them."""
    stat = getattr(getattr(trt, "EngineStat", None), "TOTAL_WEIGHTS_SIZE", None)
    size = None if stat is None else int(engine.get_engine_stat(stat))
    return size if size is not None and size >= 0 else None


def set_layer_ranges(trt: Any, context: Any, *, wanted: bool) -> None:
    """Whether a context's layers come as NVTX ranges; before 8.5 no context says."""
    if hasattr(context, "nvtx_verbosity"):
        verbosity = trt.ProfilingVerbosity
        context.nvtx_verbosity = verbosity.DETAILED if wanted else verbosity.NONE


def nvtx_verbosity(context: Any) -> Any:
    """What TensorRT made of that, as its member; null where it does not say."""
    return getattr(context, "nvtx_verbosity", None)


def missing_shapes(context: Any) -> Sequence[str]:
    """Inputs without which shapes cannot be inferred; none where TensorRT cannot be asked."""
    return list(context.infer_shapes()) if hasattr(context, "infer_shapes") else []
