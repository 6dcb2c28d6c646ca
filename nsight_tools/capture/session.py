"""One capture: what is run, what is measured beside it, and the run directory that holds both."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import files, run_files, units
from nsight_tools.capture import (
    gpu_metrics,
    machine,
    orders,
    privacy,
    profiler,
    reference,
    rundir,
    starting,
    supervised,
    telemetry,
    timing,
)
from nsight_tools.capture.options import (
    ONNX,
    Build,
    CaptureError,
    Checking,
    InterruptedCaptureError,
    Load,
    Recording,
    model_of,
    plain,
    refuse_to_build,
)
from nsight_tools.capture.processes import Answer, Task
from nsight_tools.nsys import OLDER_NVTX
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsight_tools.nsys import Nsys

LAYER_PASS_INFERENCES = 20


@dataclass
class Session:
    """What all captures share: where they go, which nsys, what is said meanwhile, and what run.json will hold."""

    folder: Path
    nsys: Nsys
    recording: Recording
    say: Callable[[str], None]
    interrupts: supervised.Interrupts
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.folder / run_files.REPORT

    def profiled(
        self,
        command: Sequence[str | Path],
        report: Path,
        wanted: profiler.Wanted,
        streams: starting.Streams | None = None,
    ) -> profiler.Profiled:
        """Run a command under nsys, and note how; without GPU metrics where they are only tried and nsys refuses."""
        started = partial(
            profiler.profile, self.nsys, command=command, report=report, interrupts=self.interrupts, streams=streams
        )
        done = started(wanted)
        if not (done.ran or done.ended.interrupted) and self.tries_metrics(wanted):
            done = started(self.without_metrics(wanted, profiler.refused_metrics(done)))
        self.run["passes"].append(
            {
                "report": report.name,
                "nsys": [
                    argument if not argument.startswith("--output=") else f"--output={report.stem}"
                    for argument in done.command
                ],
                "command": [str(argument) for argument in command],
                "exit_code": done.ended.code,
            }
        )
        return done

    def wanted(self, *, capture_range: bool, lasts_s: float | None = 0.0) -> profiler.Wanted:
        """What nsys records of a program that runs for so long, None where that is not known.

        Says why GPU metrics are not tried, where that was not asked for.
        """
        recording = self.recording
        hz = recording.gpu_metrics_hz or gpu_metrics.HZ
        self.run["gpu_metrics"] = {"hz": hz}
        wanted = profiler.Wanted(
            graphs=recording.graphs,
            capture_range=capture_range,
            gpu_metrics_hz=hz,
            memory_usage=recording.memory_usage,
            more=recording.nsys_args,
        )
        if not self.tries_metrics(wanted):
            return wanted
        if not recording.gpu_metrics or gpu_metrics.asked_of_nsys(recording.nsys_args):
            reason = "--nsys-arg chooses them" if recording.gpu_metrics else "--no-gpu-metrics was given"
            self.run["gpu_metrics"] = {"reason": reason}
            return replace(wanted, gpu_metrics_hz=None)
        refused = gpu_metrics.too_old(self.nsys) or gpu_metrics.too_long(lasts_s)
        return self.without_metrics(wanted, refused) if refused else wanted

    def tries_metrics(self, wanted: profiler.Wanted) -> bool:
        """Whether GPU metrics are to be recorded, need not be, and were not refused before."""
        asked = self.recording.gpu_metrics_hz is not None
        return wanted.gpu_metrics_hz is not None and not asked and "hz" in self.run["gpu_metrics"]

    def without_metrics(self, wanted: profiler.Wanted, why: gpu_metrics.Refused) -> profiler.Wanted:
        """The same without GPU metrics; says and notes why."""
        quoted = f" (nsys: {why.said})" if why.said else ""
        self.say(f"without GPU metrics: {why}; {gpu_metrics.LOST}{quoted}")
        self.run["gpu_metrics"] = {"reason": str(why), "nsys_said": why.said or None}
        return replace(wanted, gpu_metrics_hz=None)


@dataclass(frozen=True)
class Captured:
    """A capture that was made: its run directory, what `run.json` says, and whether it was cut short by Ctrl-C."""

    path: Path
    run: dict[str, Any]

    @property
    def interrupted(self) -> bool:
        return bool(self.run["status"] == "interrupted")

    @property
    def exit_code(self) -> int:
        """The traced command's own; 0 for an engine, whose failures are errors."""
        return int(self.run["passes"][0]["exit_code"]) if self.run["kind"] == "command" else 0


def capture_command(
    command: Sequence[str],
    target: Path,
    recording: Recording,
    nsys: Nsys,
    *,
    say: Callable[[str], None],
    interrupts: supervised.Interrupts,
    force: bool = False,
) -> Captured:
    """Run `command` without the profiler, then under nsys, with telemetry; its standard streams are the caller's.

    `interrupts` are held by the caller.

    Raises:
        CaptureError: there is no such command, or it failed or was interrupted without the profiler.
        NsysError: nsys made no report of it.
        OutputError: the run directory cannot be written.
    """
    program = shutil.which(command[0])
    if program is None:
        raise CaptureError(f"{command[0]}: there is no such command", hint="give it with its path")
    with _session(target, recording, nsys, say, interrupts, force=force) as session:
        session.run |= {"kind": "command", "options": plain(recording)}
        started, streams = [str(Path(program).absolute()), *command[1:]], starting.Streams()
        with _telemetry(session):
            session.run["untraced"] = untraced = _untraced(session, started, streams)
            wanted = session.wanted(capture_range=recording.capture_range, lasts_s=untraced.get("seconds"))
            done = session.profiled(started, session.report, wanted, streams)
        if not session.report.exists():
            raise profiler.failure(nsys, wanted, done, session.report)
        if done.ended.code or done.ended.interrupted:
            session.run["untraced"].setdefault("reason", "the traced run did not come to the same end")
        status = "interrupted" if done.ended.interrupted else "done"
        _finish(session, status)
    return Captured(target, session.run)


def _untraced(session: Session, command: Sequence[str], streams: starting.Streams) -> dict[str, Any]:
    """Run a command without the profiler, and keep its own times of its inferences; what `run.json` says of it.

    Raises CaptureError where it fails, or is interrupted.
    """
    if not session.recording.untraced:
        return {"reason": "--no-untraced was given"}
    session.say("running without the profiler first (--no-untraced: only under it)")
    with files.scratch() as scratch:
        asked = timing.asked(command, scratch)
        started, utc = time.monotonic(), time.time_ns()
        ended = starting.run(asked.command, interrupts=session.interrupts, streams=streams, variables=asked.variables)
        seconds = time.monotonic() - started
        if ended.interrupted:
            raise InterruptedCaptureError(
                "interrupted before anything was traced",
                hint="nothing was kept; --no-untraced traces at once what only Ctrl-C ends",
            )
        if ended.code:
            how = (
                f"was killed by signal {ended.code - 128}" if ended.code > 128 else f"ended with exit code {ended.code}"
            )
            raise CaptureError(
                f"{command[0]}: {how} without the profiler, and was not traced",
                hint="fix that, or trace it anyway with --no-untraced",
            )
        left = asked.left()
        for at, file in enumerate(left):
            shutil.copy(file, session.folder / run_files.UNTRACED.replace("*", str(at)))
    clock = [{"utc_ns": utc, "mark": "start"}, {"utc_ns": utc + round(1e9 * seconds), "mark": "end"}]
    return {"seconds": round(seconds, 3), "timed_processes": len(left), "clock": clock}


def capture_engine(
    model: Path,
    target: Path,
    load: Load,
    build: Build,
    recording: Recording,
    nsys: Nsys,
    *,
    python: Path,
    say: Callable[[str], None],
    interrupts: supervised.Interrupts,
    force: bool = False,
    checking: Checking | None = None,
) -> Captured:
    """Run an engine, or build it from ONNX first, and measure it untraced, traced, and by layer.

    Its outputs are kept, and compared with a reference where `checking` names one: what came of that stands in
    `run.json`, under `accuracy`, whether or not the limits hold. `interrupts` are held by the caller.

    Raises:
        AccuracyError: there is no such reference, or it does not fit the engine's outputs.
        InputError: `model` is no engine and no ONNX model.
        CaptureError: the engine cannot be built or run as asked, in TensorRT's words.
        NsysError: nsys made no report.
        OutputError: the run directory cannot be written.
    """
    model_of(model)
    if model.suffix != ONNX:
        refuse_to_build(model, build)
    check = reference.Check(checking or Checking(), model)
    with _session(target, recording, nsys, say, interrupts, force=force) as session, files.scratch() as scratch:
        options = {**plain(load), **build.settings, "save_engine": build.save_engine, **plain(recording)}
        options |= {"runtime": build.runtime, **plain(check.asked)}
        session.run |= {"kind": "engine", "options": options}
        runs = _EngineRuns(session, load, build, python, scratch, check)
        runs.probe()
        if model.suffix != ONNX:
            runs.must_run(f"{model.name} was not captured")
        engine = model if model.suffix != ONNX else runs.build(model)
        runs.must_run(f"{model.name} was built and not captured")
        runs.of(engine)
        session.run["model"] = files.described(model)
        with _telemetry(session):
            status = runs.measure()
        runs.write()
        _finish(session, status)
    return Captured(target, session.run)


class _EngineRuns:
    """The runner's processes of one capture, in their order; each leaves its answer and its measurements."""

    def __init__(
        self, session: Session, load: Load, build: Build, python: Path, scratch: Path, check: reference.Check
    ) -> None:
        self._session, self._load, self._python, self._scratch = session, load, python, scratch
        self._build, self._check = build, check
        self._engine = Path()
        self._samples: list[pa.Table] = []
        self._cannot_run: dict[str, Any] | None = None

    def probe(self) -> None:
        """See that the runner's Python has what is needed and asked for, and that nsys will see its ranges."""
        answer = self._whole(self._task("probe", orders.of_probe(self._load, self._build)))
        self._cannot_run = answer.result.get("cannot_run")
        versions = answer.result["versions"]
        self._session.run["versions"] |= versions
        nsys = self._session.nsys
        if versions.get("nvtx") and nsys.loses_python_nvtx(versions["nvtx"]):
            raise CaptureError(
                f"nsys {nsys.version} loses every range of Python's nvtx {versions['nvtx']}, silently",
                hint=f"use a newer nsys (--nsys), or in {self._python}: {OLDER_NVTX}",
            )

    def must_run(self, what: str) -> None:
        """Raises CaptureError where the runtime executes nothing here: it may have built, and that is no capture."""
        if (reason := self._cannot_run) is None:
            return
        where = f"{reason['where']}: " if reason.get("where") else ""
        hint = reason.get("hint") or "capture the engine where its GPU is"
        if "build" in self._session.run and self._build.save_engine is None:
            hint += "; --save-engine keeps what is built here, to be captured where its GPU is"
        raise CaptureError(f"{what}: {self._build.runtime} cannot run here: {where}{reason['what']}", hint=hint)

    def build(self, model: Path) -> Path:
        """Build an engine, which stays in the run directory unless it is to be saved elsewhere."""
        engine = (self._build.save_engine or self._session.folder / f"{model.stem}.engine").absolute()
        self._session.say(f"building an engine from {model.name}; this can take minutes")
        order = orders.of_build(model, engine, self._load, self._build, profiles=self._load.streams)
        answer = self._whole(self._task("build", order))
        made = {**(answer.result.get("engine") or {}), **(answer.result.get("build") or {}), "path": engine.name}
        self._session.run["build"] = made
        self._session.say(told(made))
        return engine

    def of(self, engine: Path) -> None:
        """Take this engine for all that follows."""
        self._engine = engine.absolute()

    def measure(self) -> str:
        """Run the passes; returns the status of the whole. An interrupt ends them after the one under way."""
        load, recording = self._load, self._session.recording
        if not recording.single_pass:
            self._benchmark(load, recording.repeat)
        self._session.say(f"tracing {load.iterations} inferences with nsys {self._session.nsys.version}")
        wanted = replace(self._session.wanted(capture_range=True), accelerators="use_dla_core" in self._build.settings)
        traced = replace(load, duration_s=0.0)
        answer = self._as_deployed(traced, wanted)
        if answer.interrupted:
            return "interrupted"
        eager = replace(traced, cuda_graph=False, threads=1, overlap_transfers=False)
        if recording.single_pass:
            self._compare_outputs(answer)
        else:
            answer = self._layer_pass(eager, wanted)
        if recording.profiler and not answer.interrupted:
            answer = self._profiled_layers(eager)
        return "interrupted" if answer.interrupted else "done"

    def _as_deployed(self, load: Load, wanted: profiler.Wanted) -> Answer:
        single = self._session.recording.single_pass
        order = {**self._order(load), "ranges": True, "capture_range": True, "inspect": True}
        order |= {"layer_ranges": single, **(self._check.order if single else {})}
        answer = self._traced(self._task("timing", order), self._session.report, wanted)
        self._keep(answer, run_files.LAYERS)
        return answer

    def _layer_pass(self, load: Load, wanted: profiler.Wanted) -> Answer:
        self._session.say("tracing the layers")
        each_profile = 2 * load.streams  # a stream may run layers of an optimization profile of its own
        few = replace(load, iterations=max(LAYER_PASS_INFERENCES, each_profile))
        order = {**self._order(few), "ranges": True, "capture_range": True, "layer_ranges": True}
        wanted = replace(wanted, gpu_metrics_hz=None, memory_usage=False)
        return self._traced(self._task("layers", order), self._session.folder / run_files.LAYER_PASS, wanted)

    def _profiled_layers(self, load: Load) -> Answer:
        self._session.say("timing the layers with TensorRT's own profiler")
        answer = self._plainly(self._task("profiler", self._order(replace(load, streams=1))))
        self._keep(answer, run_files.PROFILE)
        self._note(answer, answer.task.name)
        return answer

    def _keep(self, answer: Answer, name: str) -> None:
        """Copy a file that a process left into the run directory; one that was interrupted may have left none."""
        if (file := answer.task.folder / name).exists():
            shutil.copy(file, self._session.folder / name)

    def _benchmark(self, load: Load, times: int) -> None:
        """Measure without the profiler, `times` times, each in a process of its own, as another capture would."""
        more = {"throughput": True, "own_cost": True, "further_context": True, **self._check.order}
        for number in range(1, times + 1):
            again = f", {number} of {times}" if times > 1 else ""
            self._session.say(f"measuring without the profiler{again}")
            name = run_files.benchmark(number)
            order = {**self._order(load), **(more if number == 1 else {})}
            answer = self._whole(replace(self._task("benchmark", order), folder=self._scratch / name))
            self._note(answer, name)
            if number == 1:
                self._compare_outputs(answer)

    def _compare_outputs(self, answer: Answer) -> None:
        session = self._session
        session.run |= self._check.of(answer.task.folder, session.folder, session.say)

    def write(self) -> None:
        """Write what the runner measured, and what tracing added to it."""
        rows = pa.concat_tables(self._samples).unify_dictionaries()
        names = pa.table({"run": rows["run"].cast(pa.string()), "inference": rows["inference"]})
        rows = rows.take(pc.sort_indices(names, [("run", "ascending"), ("inference", "ascending")]))
        pq.write_table(rows, self._session.folder / run_files.BENCHMARK, compression="zstd")
        added = tracing_added(rows)
        self._session.run["tracing"] = added and {**added, "gpu_metrics_hz": self._session.run["gpu_metrics"].get("hz")}

    def _order(self, load: Load) -> dict[str, Any]:
        return orders.of_run(self._engine, load, self._build)

    def _task(self, name: str, order: dict[str, Any]) -> Task:
        return Task(name, self._scratch / name, self._python, {"verbose": False, **order})

    def _whole(self, task: Task) -> Answer:
        """Run what comes before the trace. Raises InterruptedCaptureError where Ctrl-C came meanwhile."""
        answer = self._plainly(task)
        if answer.interrupted:
            raise InterruptedCaptureError("interrupted before anything was traced", hint="nothing was kept")
        return answer

    def _plainly(self, task: Task) -> Answer:
        return task.run(lambda command: supervised.run(command, interrupts=self._session.interrupts))

    def _traced(self, task: Task, report: Path, wanted: profiler.Wanted) -> Answer:
        task.prepare()
        done = self._session.profiled(task.command, report, wanted)
        if done.ended.interrupted and not report.exists():
            raise InterruptedCaptureError("interrupted before anything was traced", hint="nothing was kept")
        if not done.ran:
            raise profiler.failure(self._session.nsys, wanted, done, report)
        answer = task.answer(done.ended)
        if not report.exists() and not done.ended.interrupted and self._session.tries_metrics(wanted):
            wanted = self._session.without_metrics(wanted, profiler.refused_metrics(done))
            self._session.run["passes"].pop()
            shutil.rmtree(task.folder)
            return self._traced(task, report, wanted)
        if not report.exists():
            raise profiler.failure(self._session.nsys, wanted, done, report)
        self._note(answer, answer.task.name)
        return answer

    def _note(self, answer: Answer, name: str) -> None:
        """Keep what a process measured under this name."""
        rows = _renamed(answer.samples(), answer.task.name, name)
        self._samples.append(rows)
        run = self._session.run
        run.setdefault("engine", {**(answer.result.get("engine") or {}), "path": self._engine.name})
        run.setdefault("device", answer.result.get("device"))
        run["measured"][name] = {**(answer.result.get("run") or {}), **_medians(rows)}


def told(build: dict[str, Any]) -> str:
    """A build in one line: how long it took, phase by phase, and what its timing cache lacked."""
    phases = {name: seconds for name, seconds in build["phases_s"].items() if seconds is not None}
    parts = ", ".join(f"{name.replace('_', ' ')} {units.duration(1e9 * took)}" for name, took in phases.items())
    return f"built in {units.duration(1e9 * build['seconds'])} ({parts}){_timed(build.get('timing_cache') or {})}"


def _timed(cache: dict[str, Any]) -> str:
    misses = cache.get("misses")
    if misses is None:
        return ""
    if misses:
        return f"; {misses:,} tactics were timed that the timing cache lacked"
    return "; no tactic was timed" + (": the timing cache had them all" if cache.get("entries_before") else "")


def tracing_added(rows: pa.Table) -> dict[str, dict[str, int]] | None:
    """What tracing added to the median inference, in ns: `untraced`, `traced` and `added`, of wall, enqueue, GPU time.

    GPU metrics are part of it, where they were sampled. None where one of the two runs was not made.
    """
    by_run = {run: _of_run(rows, run) for run in ("benchmark", "timing")}
    if not all(run.num_rows for run in by_run.values()):
        return None
    added = {}
    for name in ("wall_ns", "enqueue_ns", "gpu_ns"):
        untraced, traced = (_median(by_run[run], name) for run in ("benchmark", "timing"))
        if untraced is not None and traced is not None:
            added[name] = {"untraced": untraced, "traced": traced, "added": traced - untraced}
    return added


def _medians(rows: pa.Table) -> dict[str, dict[str, int | None]]:
    names = [name for name in rows.column_names if name.endswith("_ns") and name != "start_ns"]
    runs = rows["run"].unique().to_pylist()
    return {f"{run}_median": {name: _median(_of_run(rows, run), name) for name in names} for run in runs}


def _renamed(rows: pa.Table, old: str, new: str) -> pa.Table:
    """The rows, with another word for one of the runs."""
    runs = pc.replace_substring_regex(rows["run"].cast(pa.string()), f"^{old}$", new)
    at = rows.column_names.index("run")
    return rows.set_column(at, rows.schema.field("run"), runs.cast(pa.string()).dictionary_encode())


def _of_run(rows: pa.Table, run: str) -> pa.Table:
    return rows.filter(pc.equal(rows["run"].cast(pa.string()), run))


def _median(rows: pa.Table, name: str) -> int | None:
    values = rows[name].drop_null().to_numpy()
    return round(float(np.median(values))) if len(values) else None


@contextlib.contextmanager
def _session(
    target: Path,
    recording: Recording,
    nsys: Nsys,
    say: Callable[[str], None],
    interrupts: supervised.Interrupts,
    *,
    force: bool,
) -> Iterator[Session]:
    with rundir.made(target, force=force) as folder:
        started = time.monotonic()
        session = Session(folder, nsys, recording, say, interrupts)
        session.run = {
            "version": run_files.VERSION,
            "status": "running",
            "tool_version": __version__,
            "arguments": sys.argv[1:],
            "started_utc": rundir.now(),
            "versions": {"nsys": str(nsys.version), "python_of_tool": sys.version.split()[0]},
            "machine": {"before": machine.state()},
            "passes": [],
            "measured": {},
        }
        yield session
        session.run["seconds"] = round(time.monotonic() - started, 1)
        rundir.write_run(folder, session.run)


def _finish(session: Session, status: str) -> None:
    session.run["status"] = status
    session.run["machine"]["after"] = machine.state()
    session.run["privacy"] = {
        "environment": "not in the report, but for what nsys itself was given",
        "given": sorted(profiler.PASSED),
        "in_the_report": privacy.EMBEDDED,
    }


@contextlib.contextmanager
def _telemetry(session: Session) -> Iterator[None]:
    hz = session.recording.telemetry_hz
    if not hz:
        session.run["telemetry"] = {"reason": "not asked for"}
        yield
        return
    with telemetry.sampling(session.folder / run_files.TELEMETRY, hz=hz) as sampler:
        yield
    session.run["telemetry"] = sampler.cost()
