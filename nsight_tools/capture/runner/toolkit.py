"""The packages that the runner stands on: imported when they are needed, and named where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from contextlib import suppress
from importlib import metadata
from typing import Any

from . import versions as versions_of
from .outcome import Failure

INSTALL = {
    "tensorrt_rtx": "pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings",
    "tensorrt_rtx_bindings": "pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings",
    "tensorrt": "pip install tensorrt (the version that the engine was built with)",
    "pycuda": "pip install pycuda",
    "nvtx": "pip install nvtx",
    "numpy": "pip install numpy",
    "cuda": "pip install cuda-bindings (its major version that of the driver's CUDA)",
}


def load(module: str) -> Any:
    """Import a module, or fail with how to install it."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
            raise Failure(f"Python package {package} is missing", where=module, hint=INSTALL[package]) from error
        hint = f"make the library loadable (LD_LIBRARY_PATH), or {INSTALL[package]} again"
        if "libcuda.so" in str(error):
            hint = "this machine has no NVIDIA driver: run it where the GPU is"
        raise Failure(f"{module} cannot be loaded: {error}", where=module, hint=hint) from error
    except (OSError, RuntimeError) as error:
        raise Failure(f"{module} cannot be loaded: {error}", where=module, hint=INSTALL[package]) from error


_runtime = "tensorrt"


def use(runtime: str) -> None:
    """Take this one of `versions.RUNTIMES` for all that follows in this process."""
    global _runtime  # noqa: PLW0603 (a process of the runner does one task, with one TensorRT)
    _runtime = runtime


def tensorrt() -> Any:
    """The module of TensorRT, or TensorRT-RTX, that is in use; 8.5 is the first with the API that the runner needs."""
    *others, last = versions_of.RUNTIMES[_runtime]
    module = next((found for found in map(_there, others) if found is not None), None) or load(last)
    if not versions_of.names_tensors(module):
        raise Failure(
            f"{versions_of.name(module)} is too old",
            where="tensorrt",
            hint="use TensorRT 8.5 or later: the runner names tensors (execute_async_v3)",
        )
    return module


def _there(module: str) -> Any:
    """A module, or None where it is not installed; raises Failure where it is and cannot be loaded."""
    return load(module) if importlib.util.find_spec(module) is not None else None


def cuda() -> Any:
    """PyCUDA's driver module: memory, streams and events."""
    return load("pycuda.driver")


def cuda_graphs() -> Any:
    """NVIDIA's driver bindings, for graphs: `cuda.bindings.driver`, or `cuda.cuda` as it was called before 12.6."""
    try:
        return load("cuda.bindings.driver")
    except Failure:
        with suppress(Failure):
            return load("cuda.cuda")
        raise


def versions() -> dict[str, str | None]:
    """Versions of what is there; null for what is not, or cannot be loaded here."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, distributions in (
        ("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")),
        ("pycuda", ("pycuda",)),
        ("nvtx", ("nvtx",)),
        ("numpy", ("numpy",)),
        ("cuda_bindings", ("cuda-bindings", "cuda-python")),
    ):
        found[name] = next(filter(None, map(_distribution, distributions)), None)
    if _runtime != "tensorrt":
        found["tensorrt"] = None  # it may be installed, and has no part in this
    with suppress(Failure):
        found[_runtime.replace("-", "_")] = str(tensorrt().__version__)
    found["cuda_driver"] = found["cuda_runtime"] = None
    with suppress(Exception):
        found["cuda_driver"] = _dotted(cuda().get_driver_version())
    return found


def runtime_version() -> str | None:
    """Version of the CUDA runtime that cuda.bindings carries; null where it does not say."""
    try:
        error, version = load("cuda.bindings.runtime").cudaRuntimeGetVersion()
        return _dotted(int(version)) if int(error) == 0 else None
    except Exception:  # noqa: BLE001 (a version that cannot be had is null, whatever the reason)
        return None


def _distribution(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
