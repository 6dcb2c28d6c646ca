"""What a Python has of what the runner needs, found out without making the GPU work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options, toolkit, versions
from .device import Device
from .outcome import Failure

if TYPE_CHECKING:
    from .outcome import Result
    from .task import Task

NEEDED = (
    ("numpy", toolkit.load, "numpy"),
    ("nvtx", toolkit.load, "nvtx"),
    ("tensorrt", lambda _: toolkit.tensorrt(), ""),
)
"""What builds and runs need; a run needs PyCUDA and a GPU, too, and so does each build but TensorRT-RTX's."""


def probe(task: Task, result: Result) -> None:
    """Versions and the GPU; `cannot_run` is why this runtime builds here, and executes nothing.

    Fails if a package that every run needs is missing, with `errors` listing each, or if TensorRT lacks an option.
    """
    toolkit.use(task.runtime)
    errors = [error.as_json() for _, load, module in NEEDED if (error := _failure(load, module)) is not None]
    graphs = _failure(lambda _: toolkit.cuda_graphs(), "")
    result.content["versions"] = toolkit.versions() | {"cuda_runtime": toolkit.runtime_version()}
    result.content["cuda_graphs"] = graphs.as_json() if graphs else None
    result.content["cannot_run"] = None
    if (error := _failure(lambda _: _device(task, result), "")) is not None:
        if not errors and versions.builds_without_gpu(toolkit.tensorrt()):
            result.content["cannot_run"] = error.as_json()
        else:
            errors.append(error.as_json())
    result.content["errors"] = errors
    if errors:
        first: dict[str, Any] = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Failure(f"{first['what']}{more}", where=first["where"], hint=first["hint"])
    options.refuse(toolkit.tensorrt(), task.settings)


def _device(task: Task, result: Result) -> None:
    result.content["device"] = Device(toolkit.cuda(), task.device).describe()


def _failure(load: Any, module: str) -> Failure | None:
    try:
        load(module)
    except Failure as error:
        return error
    return None
