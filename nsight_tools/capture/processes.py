"""The runner's processes, which import tensorrt: what they are asked, what they answer, what their failures mean."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsight_tools import run_files
from nsight_tools.capture.options import CaptureError, InterruptedCaptureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.capture.supervised import Ended

RUNNER = Path(__file__).with_name("runner")


class _RaisedThere(Exception):  # noqa: N818 (a traceback of another process)
    """Where an error that nobody thought of was raised, in the runner's process: its traceback, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Task:
    """One process of the runner: its order in a folder of its own, and its answer there."""

    name: str
    folder: Path
    python: Path
    order: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> list[str | Path]:
        return [self.python, RUNNER, self.folder / "task.json"]

    def prepare(self) -> None:
        """Write the order."""
        self.folder.mkdir(parents=True)
        order = {"task": self.name, "output": str(self.folder), **self.order}
        (self.folder / "task.json").write_text(json.dumps(order, indent=1), encoding="utf-8")

    def run(self, run: Callable[[list[str | Path]], Ended]) -> Answer:
        """Run it by `run` and return what it answered.

        Raises:
            CaptureError: it failed, in the words of its answer.
        """
        self.prepare()
        return self.answer(run(self.command))

    def answer(self, ended: Ended) -> Answer:
        """What the process answered. Raises CaptureError as `run`; InterruptedCaptureError where Ctrl-C was why."""
        result: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        if result.get("status") == "failed" or not result:
            if ended.interrupted:  # it was asked to stop before it could say that it was
                raise InterruptedCaptureError("interrupted", hint="nothing was kept")
            raised_there = _RaisedThere(trace) if (trace := result.get("traceback")) else None
            raise _error(self, result.get("error") or {}, ended) from raised_there
        return Answer(self, result, interrupted=ended.interrupted or result["status"] == "interrupted")


@dataclass(frozen=True)
class Answer:
    """What a process of the runner answered: `result.json`, and its measurements."""

    task: Task
    result: dict[str, Any]
    interrupted: bool = False
    """It was asked to stop; it may have come to its end all the same."""

    def samples(self) -> pa.Table:
        """What it measured, as `run_files.BENCHMARK_SCHEMA` has it."""
        schema = run_files.BENCHMARK_SCHEMA
        file = self.task.folder / "samples.npz"
        if not file.exists():
            return schema.empty_table()
        with np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in schema.names}
        return pa.table([_column(columns[field.name], field) for field in schema], schema=schema)


def _column(values: np.ndarray[Any, Any], of: pa.Field) -> pa.Array:
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string()).dictionary_encode().cast(of.type)
    return pa.array(values, mask=values < 0 if of.nullable else None).cast(of.type)


def _error(task: Task, error: dict[str, Any], ended: Ended) -> CaptureError:
    if not error:
        last = ended.said[-1][:300] if ended.said else "it said nothing"
        how = f"was killed by signal {ended.code - 128}" if ended.code > 128 else f"ended with exit code {ended.code}"
        return CaptureError(
            f"{task.name}: the runner under {task.python} {how}: {last}",
            hint="see that this Python has numpy, nvtx, pycuda and tensorrt, or name another with --python",
        )
    where = f"{error['where']}: " if error.get("where") else ""
    log = f" (TensorRT: {error['log']})" if error.get("log") else ""
    return CaptureError(f"{where}{error['what']}{log}", hint=error.get("hint") or "")


def resolve_python(named: str | None, default: str) -> Path:
    """The interpreter that has TensorRT. Raises CaptureError where there is none of this name."""
    found = shutil.which(named or default)
    if found is None:
        raise CaptureError(
            f"--python {named}: there is no such program", hint="name a Python that has tensorrt and pycuda"
        )
    return Path(found).absolute()
