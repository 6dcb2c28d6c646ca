"""Does one task from its beginning to its end: result.json is there whatever happens."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from . import toolkit, versions
from .interruption import EXIT_INTERRUPTED, INTERRUPTED, Interruption
from .outcome import Failure, Result
from .task import read_task

if TYPE_CHECKING:
    from .task import Task

EXIT_DONE, EXIT_FAILED = 0, 2


def main(arguments: list[str]) -> int:
    """Do the task in the file named by the one argument; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: PYTHON nsight_tools/capture/runner TASK.json\n")
        return EXIT_FAILED
    text = b""
    try:
        text = Path(arguments[0]).read_bytes()
        task = read_task(text)
    except (OSError, Failure) as error:
        failure = error if isinstance(error, Failure) else Failure(str(error), where=arguments[0])
        return _fail(_result_of(text), failure)
    return _perform(task)


def _perform(task: Task) -> int:
    result = Result(task.output)
    interruption = Interruption(result)
    try:
        _dispatch(task, result, interruption)
    except Failure as error:
        return _fail(result, error)
    except MemoryError as error:
        return _fail(result, Failure(f"out of host memory: {error}", hint="use a smaller batch or fewer streams"))
    except Exception as error:  # noqa: BLE001 (an error nobody thought of is reported too)
        result.content["traceback"] = traceback.format_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"unexpected {type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        hint = "this is a bug of nsight-tools or of a package: nsight-tools --debug capture prints the traceback"
        return _fail(result, Failure(what, hint=hint))
    if interruption.requested:
        result.write("interrupted", INTERRUPTED)
        return EXIT_INTERRUPTED
    result.write("done")
    return EXIT_DONE


def _dispatch(task: Task, result: Result, interruption: Interruption) -> None:
    toolkit.use(task.runtime)
    if task.task == "probe":
        from .probe import probe

        probe(task, result)
        return
    for module in ("numpy", "nvtx"):
        toolkit.load(module)
    from .builder import build
    from .device import Device
    from .run import run

    trt = toolkit.tensorrt()
    try:
        device = Device(toolkit.cuda(), task.device)
    except Failure:
        if task.task != "build" or not versions.builds_without_gpu(trt):
            raise
        result.content["versions"] = toolkit.versions()
        build(task, None, result)
        return
    result.content["versions"] = toolkit.versions()
    result.content["device"] = device.describe()
    with device.current():
        if task.task == "build":
            build(task, device, result)
        else:
            run(task, device, result, interruption)


def _fail(result: Result | None, failure: Failure) -> int:
    parts = (failure.where, failure.what, failure.log, failure.hint)
    sys.stderr.write("runner: " + "; ".join(part for part in parts if part) + "\n")
    if result is not None:
        try:
            result.write("failed", failure)
        except Failure as error:
            sys.stderr.write(f"runner: {error.where}: {error.what}\n")
    return EXIT_FAILED


def _result_of(text: bytes) -> Result | None:
    """Where a task that cannot be understood wants its result, if it says that much."""
    try:
        output = Path(json.loads(text)["output"])
    except (ValueError, KeyError, TypeError):
        return None
    return Result(output) if output.is_dir() else None
