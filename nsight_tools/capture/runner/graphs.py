"""CUDA graphs of one enqueue, through NVIDIA's bindings: PyCUDA has no graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import toolkit
from .engine import handle_of
from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import Engine


def capture(engine: Engine, stream: Any, enqueue: Callable[[], bool]) -> Callable[[], bool]:
    """Capture what `enqueue` puts on `stream`; return what launches it there.

    One eager enqueue goes ahead of it, as TensorRT asks for after each change of shapes.
    """
    driver = toolkit.cuda_graphs()
    engine.logger.forget()
    if not enqueue():
        raise engine.failure("the enqueue ahead of the capture failed", "run without --use-cuda-graph to see why")
    stream.synchronize()
    handle = driver.CUstream(handle_of(stream))
    _check(driver, driver.cuStreamBeginCapture(handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
    captured = enqueue()
    ended, graph = driver.cuStreamEndCapture(handle)
    if not captured or ended != driver.CUresult.CUDA_SUCCESS:
        raise engine.failure(
            f"the engine cannot be captured into a CUDA graph ({ended.name})",
            "run without --use-cuda-graph: loops, conditionals, data-dependent shapes and synchronous calls cannot be "
            "captured",
        )
    instantiate = getattr(driver, "cuGraphInstantiateWithFlags", driver.cuGraphInstantiate)  # its name before CUDA 12
    (executable,) = _check(driver, instantiate(graph, 0))
    _check(driver, driver.cuGraphDestroy(graph))
    _check(driver, driver.cuGraphUpload(executable, handle))
    stream.synchronize()
    launch, success = driver.cuGraphLaunch, driver.CUresult.CUDA_SUCCESS
    return lambda: launch(executable, handle)[0] == success


def _check(driver: Any, returned: tuple[Any, ...]) -> tuple[Any, ...]:
    if returned[0] != driver.CUresult.CUDA_SUCCESS:
        raise Failure(
            f"CUDA cannot make a graph: {returned[0].name}",
            where="--use-cuda-graph",
            hint="run without --use-cuda-graph",
        )
    return returned[1:]
