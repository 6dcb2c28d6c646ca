"""The passes that run an engine: benchmark, timing, layers and TensorRT's own profiler."""

from __future__ import annotations

import gc
import io
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cost, layer_profile, log, outputs, toolkit
from .cores import Cores
from .engine import Engine, hint_for
from .lanes import Lane
from .loop import Turns, serve
from .memory import Memory
from .outcome import Failure, Result, write_atomically
from .ranges import Ranges
from .samples import INTEGERS, MOST_ROWS, Samples, merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .device import Device
    from .interruption import Interruption
    from .lanes import Slot
    from .task import Task

WARM_UP_ROUNDS = 2
"""Inferences of each slot that warm-up holds at least, however short it is."""


@dataclass
class Measured:
    """One measured run: its samples, and what result.json says of it."""

    name: str
    columns: dict[str, NDArray[np.int64]]
    paused_ns: int
    ranges: bool
    clock: list[dict[str, Any]] = field(default_factory=list)
    cores: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        wall, count = self.columns["wall_ns"], int(self.columns["inference"].size)
        seconds = (int(self.columns["end_ns"].max()) - self.paused_ns) / 1e9 if count else 0.0
        return {
            "inferences": count,
            "seconds": seconds,
            "throughput_per_s": count / seconds if seconds else None,
            "median_wall_ns": int(np.median(wall)) if count else None,
        }


def run(task: Task, device: Device, result: Result, interruption: Interruption) -> None:
    """Run the engine as the task says; leaves samples.npz and, if asked for, layers.json."""
    trt = toolkit.tensorrt()
    logger = log.make_logger(trt, result.log, level=log.WARNING, verbose=task.verbose)
    assert task.engine is not None  # task.py sees to it
    memory = Memory(device)
    engine = Engine(trt, logger, task.engine, task.settings)
    memory.loaded()
    result.content["engine"] = engine.describe({})
    engine.profile_of(0, task.streams)  # fails before anything is allocated
    lanes = [Lane(engine, task, number) for number in range(task.streams)]
    result.content["engine"] = engine.describe(lanes[0].shapes)
    _check_inputs(engine, task)
    if task.inspect:
        engine.inspect([lane.context for lane in lanes], task.output / "layers.json")

    plan = {
        "shape_source": lanes[0].shape_source,
        "nvtx_verbosity": lanes[0].nvtx_verbosity(),
        "context_memory_bytes": lanes[0].memory_bytes or None,
        **{name: getattr(task, name) for name in (
            "streams", "threads", "cuda_graph", "spin_wait", "data_transfers", "overlap_transfers", "default_stream",
            "pageable", "sleep_ms", "warm_up_ms", "layer_ranges", "capture_range",
        )},
    }  # fmt: skip
    profiler = layer_profile.attached(trt, lanes[0].context) if task.task == "profiler" else None
    done = [_measured(task.task, task, device, engine, lanes, interruption, overlap=task.overlap_transfers)]
    if profiler is not None:
        profiler.write(task.output / layer_profile.FILE, done[0].columns["inference"].size)
    memory.measured(lanes)
    result.content["run"] = {
        **done[0].summary(),
        **plan,
        "ranges": done[0].ranges,
        "clock": done[0].clock,
        "cores": done[0].cores,
        "memory": memory.as_json(),
    }
    if task.outputs and not interruption.requested:
        result.content["outputs"] = _outputs(engine, task, device, lanes[0])
    if task.throughput and not task.default_stream and not interruption.requested:  # on one stream nothing overlaps
        done.append(_measured("throughput", task, device, engine, lanes, interruption, overlap=True))
        result.content["run"]["throughput"] = done[1].summary()
    if task.own_cost and done[0].columns["wall_ns"].size and not interruption.requested:
        result.content["run"]["runner"] = _own_cost(task, device, lanes[0], interruption, done[0])
    if task.further_context and not interruption.requested:
        memory.try_one_more(engine, task)
    _save(task, done)


def _outputs(engine: Engine, task: Task, device: Device, lane: Lane) -> dict[str, Any]:
    engine.logger.forget()
    try:
        return outputs.keep(engine, task, lane)
    except (Failure, device.cuda.Error) as error:
        line = engine.logger.last_error()
        raise Failure(
            f"outputs: {error}", where=str(engine.path), hint=hint_for(line, "run with --verbose"), log=line
        ) from error


def _check_inputs(engine: Engine, task: Task) -> None:
    unknown = sorted(task.inputs.keys() - {tensor.name for tensor in engine.inputs})
    if unknown:
        names = ", ".join(tensor.name for tensor in engine.inputs)
        raise Failure(f"no input is called {', '.join(unknown)}", where="--load-inputs", hint=f"inputs are {names}")


def _measured(
    name: str,
    task: Task,
    device: Device,
    engine: Engine,
    lanes: Sequence[Lane],
    interruption: Interruption,
    *,
    overlap: bool,
) -> Measured:
    for lane in lanes:
        lane.make_slots(overlap=overlap, by_stage=task.task == "benchmark")
    engine.logger.forget()
    crew = _Crew(task, device, lanes, interruption)
    try:
        with interruption.stops_the_loop():
            crew.run()
    except Failure as error:
        line = engine.logger.last_error()
        hint = hint_for(line, error.hint)
        raise Failure(error.what, where=error.where or str(engine.path), hint=hint, log=line) from error
    columns = merge([samples.columns(thread) for thread, samples in sorted(crew.samples.items())])
    paused = sum(samples.paused_ns for samples in crew.samples.values()) // task.threads
    return Measured(name, columns, paused, crew.ranges, crew.clock, crew.cores)


def _own_cost(
    task: Task, device: Device, lane: Lane, interruption: Interruption, measured: Measured
) -> dict[str, Any] | None:
    gc.collect()
    gc.disable()
    try:
        with interruption.stops_the_loop():
            loops = cost.Loops(task, device, lane, interruption, Ranges(0).or_none())
            return cost.measure(loops, int(np.median(measured.columns["wall_ns"])))
    except (Failure, device.cuda.Error) as error:  # what was asked for is measured: this is no reason to lose it
        return {"reason": str(error)}
    finally:
        gc.enable()


class _Crew:
    """The host threads of one measured run; they start together, after each has warmed up."""

    def __init__(self, task: Task, device: Device, lanes: Sequence[Lane], interruption: Interruption) -> None:
        self.samples: dict[int, Samples] = {}
        self.clock: list[dict[str, Any]] = []
        self.cores: dict[str, Any] | None = None
        self.ranges = False
        self._task, self._device, self._interruption = task, device, interruption
        self._slots = [_in_turn(lanes[thread :: task.threads]) for thread in range(task.threads)]
        self._turns = Turns(interruption, task.iterations, task.duration_s)
        self._gate = threading.Barrier(task.threads, action=self._begin)
        self._marks = Ranges(task.threads) if task.ranges else None
        self._counted: Cores | None = None
        """Since the threads began; None before."""
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Run all threads to their end; raises the first one's failure."""
        others = [
            threading.Thread(target=self._work, args=(number,), name=f"lane {number}")
            for number in range(1, self._task.threads)
        ]
        for thread in others:
            thread.start()
        try:
            self._work(0)
            for thread in others:
                thread.join()
        finally:
            self._end()
        if self._errors:
            raise self._errors[0]

    def _work(self, number: int) -> None:
        try:
            with self._device.current():
                self._serve(number)
        except threading.BrokenBarrierError:
            pass  # another thread failed, and says why
        except self._device.cuda.Error as error:
            self._fail(Failure(f"CUDA failed: {error}", hint="run with --verbose for TensorRT's log"))
        except Exception as error:  # noqa: BLE001 (raised again by the thread that waits for this one)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._errors.append(error)
        self._turns.failed = True
        self._gate.abort()

    def _serve(self, number: int) -> None:
        task, slots = self._task, self._slots[number]
        cuda, stages, rounds = self._device.cuda, slots[0].stages, WARM_UP_ROUNDS * len(slots)
        warming = Samples(cuda, max(rounds, 64), stages, spin_wait=task.spin_wait)
        turns = Turns(self._interruption, rounds, task.warm_up_ms / 1e3)
        began = time.perf_counter()
        turns.begin()
        serve(slots, warming, turns)
        warmed = int(warming.columns(0)["inference"].size)
        rate = warmed / max(time.perf_counter() - began, 1e-6)
        rows = math.ceil(1.5 * max(rate * task.duration_s, task.iterations)) + len(slots)
        samples = Samples(cuda, min(rows, MOST_ROWS), stages, spin_wait=task.spin_wait)
        ranges = Ranges(number).or_none() if task.ranges else None
        self.samples[number] = samples
        self.ranges |= ranges is not None
        self._gate.wait()
        serve(slots, samples, self._turns, ranges=ranges, sleep_s=task.sleep_ms / 1e3)

    def _begin(self) -> None:
        gc.collect()
        gc.disable()
        if self._task.capture_range:
            self._device.cuda.start_profiler()
        self._counted = Cores()
        self._mark("start")
        self._turns.begin()

    def _end(self) -> None:
        gc.enable()
        if self._counted is None:
            return
        self._mark("end")
        self.cores = self._counted.so_far()
        if self._task.capture_range:
            with suppress(self._device.cuda.Error):  # after a failure on the GPU, which is what gets reported
                self._device.cuda.stop_profiler()

    def _mark(self, mark: str) -> None:
        self.clock.append(self._marks.mark_clock(mark) if self._marks else {"utc_ns": time.time_ns(), "mark": mark})


def _in_turn(lanes: Sequence[Lane]) -> list[Slot]:
    """Slots of a thread in the order in which it serves them: every lane once, then their second slots."""
    return [slot for together in zip(*(lane.slots for lane in lanes), strict=True) for slot in together]


def _save(task: Task, runs: Sequence[Measured]) -> None:
    columns: dict[str, Any] = {name: np.concatenate([measured.columns[name] for measured in runs]) for name in INTEGERS}
    columns["run"] = np.repeat([measured.name for measured in runs], [m.columns["inference"].size for m in runs])
    content = io.BytesIO()
    np.savez(content, **columns)
    write_atomically(task.output / "samples.npz", content.getbuffer())
