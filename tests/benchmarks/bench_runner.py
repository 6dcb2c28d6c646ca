"""What the runner costs: its loop beside a bare one over the same engine, on a GPU.

    PYTHON tests/benchmarks/bench_runner.py ENGINE [--iterations 2000] [--rounds 5] [--cuda-graph] [--spin-wait]

PYTHON is one that has TensorRT, PyCUDA and nvtx (nsight-tools itself need not be installed). Run it without nsys.

bare       copies, enqueue, copies, wait: nothing else but two readings of the clock
again      the same once more: by how much it differs from `bare` is what this machine's noise is
ranges     the runner's loop as in its timing pass: CUDA events around all and NVTX ranges (nvtx from 0.2.12 on leaves
           them out, as nobody listens), over the buffers and the context of `bare`
untraced   the runner's loop as in its benchmark pass: CUDA events between copies and compute, no ranges
throughput the runner's loop with overlapped transfers, two inferences under way: compare with trtexec's throughput

The loops take turns in an order that is drawn anew each round, so that a clock that drifts, or what ran before, meets
them all; medians are over all rounds. The promise is that `ranges` is within 5 us or 1 % of `bare`, whichever is more.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "nsight_tools" / "capture"))

from runner import cost, log, toolkit  # the package as TensorRT's Python sees it, without nsight-tools
from runner.device import Device
from runner.engine import Engine
from runner.interruption import Interruption
from runner.lanes import Lane
from runner.loop import Turns, serve
from runner.outcome import Result
from runner.ranges import Ranges
from runner.samples import Samples
from runner.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALLOWED_US, ALLOWED_SHARE = 5.0, 0.01
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Loop:
    """One of the loops, over all rounds."""

    walls_us: list[float]
    per_second: list[float]


class Bench:
    """An engine on the GPU, and the loops over it."""

    def __init__(self, task: Task, device: Device, interruption: Interruption) -> None:
        trt = toolkit.tensorrt()
        assert task.engine is not None
        self.task, self.cuda, self.interruption = task, device.cuda, interruption
        self.engine = Engine(trt, log.make_logger(trt, [], level=log.ERROR, verbose=True), task.engine, task.settings)
        alone, self.ordered, self.overlapped = (Lane(self.engine, task, 0) for _ in range(3))
        self.pair = cost.Loops(task, device, alone, interruption, Ranges(0).or_none())
        self.ordered.make_slots(overlap=False, by_stage=True)
        self.overlapped.make_slots(overlap=True, by_stage=True)
        self.loops: dict[str, Callable[[], Loop]] = {
            "bare": lambda: _alone(self.pair.bare(task.iterations)),
            "again": lambda: _alone(self.pair.bare(task.iterations)),
            "ranges": lambda: _alone(self.pair.runner(task.iterations)),
            "untraced": lambda: self.runners(self.ordered),
            "throughput": lambda: self.runners(self.overlapped),
        }

    def runners(self, lane: Lane) -> Loop:
        task = self.task
        samples = Samples(self.cuda, task.iterations, lane.slots[0].stages, spin_wait=task.spin_wait)
        turns = Turns(self.interruption, task.iterations, 0)
        turns.begin()
        serve(lane.slots, samples, turns)
        columns = samples.columns(0)
        seconds = (int(columns["end_ns"].max()) - int(columns["start_ns"].min())) / 1e9
        return Loop((columns["wall_ns"] / 1e3).tolist(), [task.iterations / seconds])

    def round(self, order: Sequence[str]) -> dict[str, Loop]:
        return {name: self.loops[name]() for name in order}


def _alone(walls_ns: Sequence[int]) -> Loop:
    return Loop([wall / 1e3 for wall in walls_ns], [1e9 * len(walls_ns) / sum(walls_ns)])


def measure(task: Task, rounds: int) -> dict[str, Loop]:
    device = Device(toolkit.cuda(), task.device)
    with device.current():
        bench = Bench(task, device, Interruption(Result(task.output)))
        until = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < until:
            bench.pair.bare(10)
        names, orders = list(bench.loops), random.Random(0)  # noqa: S311 (an order, no secret)
        bench.round(names)
        found: dict[str, list[Loop]] = {name: [] for name in names}
        for _ in range(rounds):
            gc.collect()
            gc.disable()
            for name, loop in bench.round(orders.sample(names, len(names))).items():
                found[name].append(loop)
            gc.enable()
    return {
        name: Loop([wall for loop in loops for wall in loop.walls_us], [x for loop in loops for x in loop.per_second])
        for name, loops in found.items()
    }


def show(loops: dict[str, Loop]) -> bool:
    """Print the table; true where the runner keeps its promise."""
    base = statistics.median(loops["bare"].walls_us)
    print(f"{'loop':<11}{'median us':>11}{'p95 us':>10}{'+us':>8}{'+%':>8}{'inferences/s':>14}")
    for name, loop in loops.items():
        median, p95 = statistics.median(loop.walls_us), statistics.quantiles(loop.walls_us, n=20)[-1]
        more = "" if name == "throughput" else f"{median - base:.2f}"
        share = "" if name == "throughput" else f"{100 * (median - base) / base:.2f}"
        rate = statistics.median(loop.per_second)
        print(f"{name:<11}{median:>11.2f}{p95:>10.2f}{more:>8}{share:>8}{rate:>14.0f}")
    added, allowed = statistics.median(loops["ranges"].walls_us) - base, max(ALLOWED_US, ALLOWED_SHARE * base)
    print(f"the timing pass costs {added:.2f} us more than the bare loop; allowed are {allowed:.2f} us")
    return added <= allowed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", type=Path)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--spin-wait", action="store_true")
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        task = Task(
            task="benchmark",
            output=Path(folder),
            engine=chosen.engine,
            iterations=chosen.iterations,
            cuda_graph=chosen.cuda_graph,
            spin_wait=chosen.spin_wait,
        )
        return 0 if show(measure(task, chosen.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
