"""What a Python has of what the runner needs, found out without making the GPU work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options, toolkit
from .device import Device
from .outcome import Failure

if TYPE_CHECKING:
    from .outcome import Result
    from .task import Task

NEEDED = (
    ("numpy", toolkit.load, "numpy"),
    ("nvtx", toolkit.load, "nvtx"),
    ("tensorrt", lambda _: toolkit.tensorrt(), ""),
    ("pycuda", toolkit.load, "pycuda.driver"),
)


def probe(task: Task, result: Result) -> None:
    """Versions and the GPU.

    Fails if a package that every run needs is missing, with `errors` listing each, or if TensorRT lacks an option.
    """
    errors = [error.as_json() for _, load, module in NEEDED if (error := _failure(load, module)) is not None]
    graphs = _failure(lambda _: toolkit.cuda_graphs(), "")
    result.content["versions"] = toolkit.versions() | {"cuda_runtime": toolkit.runtime_version()}
    result.content["cuda_graphs"] = graphs.as_json() if graphs else None
    if not any("pycuda" in str(error["where"]) for error in errors):
        try:
            result.content["device"] = Device(toolkit.cuda(), task.device).describe()
        except Failure as error:
            errors.append(error.as_json())
    result.content["errors"] = errors
    if errors:
        first: dict[str, Any] = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Failure(f"{first['what']}{more}", where=first["where"], hint=first["hint"])
    options.refuse(toolkit.tensorrt(), task.settings)


def _failure(load: Any, module: str) -> Failure | None:
    try:
        load(module)
    except Failure as error:
        return error
    return None
