"""Runs of an engine without the profiler alone, one way after the other: each a process of its own, as a capture's."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from nsight_tools import files, run_files
from nsight_tools.capture import orders, supervised, telemetry
from nsight_tools.capture.options import ONNX, CaptureError, InterruptedCaptureError
from nsight_tools.capture.processes import Answer, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from nsight_tools.capture.options import Build, Load


class BuildError(CaptureError):
    """An engine that cannot be built as asked."""


class OutOfTimeError(CaptureError):
    """A build that would take more time than there is."""


@dataclass(frozen=True)
class Ran:
    """One run: what `run.json` would say of it, its inferences, and what NVML said meanwhile (None without NVML)."""

    run: dict[str, Any]
    rows: pa.Table
    """As `run_files.BENCHMARK_SCHEMA` has it."""
    telemetry: pa.Table | None


@dataclass
class Bench:
    """A model and what runs it. Engines of an ONNX model are built when they are asked for, once, into `folder`."""

    model: Path
    folder: Path
    python: Path
    say: Callable[[str], None]
    interrupts: supervised.Interrupts
    telemetry_hz: float = 50.0
    """0 for none."""
    profiles: int = 1
    """Optimization profiles of what is built for dynamic shapes: the most streams that will run it."""
    left_s: Callable[[], float] = field(default=lambda: math.inf)
    """Seconds that a build may take from now on."""

    def probe(self, load: Load, build: Build) -> dict[str, Any]:
        """What the runner's Python has: `result.json` of the probe.

        Raises CaptureError where something is missing, or the runtime executes nothing here.
        """
        with files.scratch() as scratch:
            task = Task("probe", scratch / "probe", self.python, orders.of_probe(load, build))
            result = self._answered(task).result
        if reason := result.get("cannot_run"):
            where = f"{reason['where']}: " if reason.get("where") else ""
            hint = reason.get("hint") or "measure it where its GPU is"
            raise CaptureError(f"{build.runtime} cannot run here: {where}{reason['what']}", hint=hint)
        return result

    def engine(self, load: Load, build: Build) -> Path:
        """The engine to run: the model itself, or what is built of it.

        Raises BuildError where TensorRT cannot build it, OutOfTimeError where it would take more time than is left.
        """
        if self.model.suffix != ONNX:
            return self.model
        built = self._built(load, build)
        if not built.exists():
            self.say(f"building {built.name} from {self.model.name}; this can take minutes")
            self.folder.mkdir(parents=True, exist_ok=True)
            order = orders.of_build(self.model, built.absolute(), load, build, profiles=self.profiles)
            with files.scratch() as scratch:
                left = self.left_s()
                try:
                    task = Task("build", scratch / "build", self.python, {"verbose": False, **order})
                    self._answered(task, None if math.isinf(left) else max(left, 0))
                except InterruptedCaptureError:
                    raise
                except subprocess.TimeoutExpired as error:
                    raise OutOfTimeError(f"the build was stopped after {left:.0f} s, which is all there was") from error
                except CaptureError as error:
                    raise BuildError(error.message, hint=error.hint) from error
        return built

    def _built(self, load: Load, build: Build) -> Path:
        """Where the engine of this build is kept: those that are built alike share one."""
        alike = orders.of_build(self.model, Path(), load, build, profiles=self.profiles)
        known = self.folder / "engines.json"
        names: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError):
            names = json.loads(known.read_text(encoding="utf-8"))
        order = json.loads(json.dumps({name: value for name, value in alike.items() if name not in {"onnx", "engine"}}))
        if order not in names:
            names.append(order)
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write(known, json.dumps(names, indent=1) + "\n")
        return self.folder / f"{self.model.stem}-{names.index(order) + 1}.engine"

    def run(self, load: Load, build: Build) -> Ran:
        """Run it once, in a process of its own.

        Raises:
            BuildError: the engine cannot be built.
            OutOfTimeError: the build would take more time than is left.
            CaptureError: it cannot be run as asked, in TensorRT's words.
            InterruptedCaptureError: Ctrl-C ended it, and what it measured until then is dropped.
        """
        engine = self.engine(load, build)
        with files.scratch() as scratch:
            order = {**orders.of_run(engine.absolute(), load, build), "verbose": False}
            sampled = scratch / run_files.TELEMETRY
            with self._sampling(sampled):
                answer = self._answered(Task("benchmark", scratch / "benchmark", self.python, order))
            telemetry = pq.read_table(sampled) if sampled.exists() else None
            about = {name: answer.result.get(name) for name in ("engine", "device", "versions")}
            return Ran({**about, "measured": {"benchmark": answer.result.get("run")}}, answer.samples(), telemetry)

    def outputs(self, load: Load, build: Build, into: Path, *, keep_inputs: bool) -> Path:
        """Run it for a moment to see what it computes: a folder as `reference.kept` reads it, which is `into`.

        Raises as `run` does.
        """
        engine, short = self.engine(load, build), replace(load, iterations=1, duration_s=0.0)
        with files.partial_folder(into.absolute()) as scratch:
            order = {**orders.of_run(engine.absolute(), short, build), "outputs": True, "keep_inputs": keep_inputs}
            task = Task("benchmark", scratch / "left", self.python, {"verbose": False, **order})
            self._answered(task)
            for name in ("task.json", "samples.npz"):
                (task.folder / name).unlink(missing_ok=True)
            files.put_in_place(task.folder, into)
        return into

    @contextlib.contextmanager
    def _sampling(self, path: Path) -> Iterator[None]:
        if not self.telemetry_hz:
            yield
            return
        with telemetry.sampling(path, hz=self.telemetry_hz):
            yield

    def _answered(self, task: Task, seconds: float | None = None) -> Answer:
        answer = task.run(lambda command: supervised.run(command, interrupts=self.interrupts, seconds=seconds))
        if answer.interrupted:
            raise InterruptedCaptureError("interrupted")
        return answer

    def of_loading(self, build: Build) -> Build:
        """What of `build` is how an engine is loaded that is there already."""
        return replace(build, settings=orders.of_loading(build.settings), save_engine=None)
