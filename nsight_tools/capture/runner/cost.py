"""What the runner itself costs: its loop as in the timing pass, beside a bare one, without a profiler.

Both run on the same slot, so that context, buffers and clocks are the same, and take turns, each going first as often
as the other. The bare loop's own halves differ by what this machine's noise is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .loop import Turns, serve
from .samples import Samples

if TYPE_CHECKING:
    from .device import Device
    from .interruption import Interruption
    from .lanes import Lane, Slot
    from .ranges import Ranges
    from .task import Task

ROUNDS = 10
TURN_S = 0.05
MOST_IN_A_TURN = 100


def bare(slot: Slot, stream: Any, last: Any, iterations: int) -> list[int]:
    """Host nanoseconds of each inference in the plainest loop there can be; `last` is an event to wait for."""
    clock, enqueue, synchronize, record = time.perf_counter_ns, slot.enqueue, last.synchronize, last.record
    inward, outward = slot.inward, slot.outward
    walls = [0] * iterations
    for number in range(iterations):
        started = clock()
        for copy in inward:
            copy()
        enqueue()
        for copy in outward:
            copy()
        record(stream)
        synchronize()
        walls[number] = clock() - started
    return walls


class Loops:
    """The two loops over one lane, whose copies do not overlap."""

    def __init__(
        self, task: Task, device: Device, lane: Lane, interruption: Interruption, ranges: Ranges | None
    ) -> None:
        self._task, self._cuda, self._lane, self._interruption = task, device.cuda, lane, interruption
        self._ranges = ranges
        flags = self._cuda.event_flags
        self._last = self._cuda.Event(flags.DEFAULT if task.spin_wait else flags.BLOCKING_SYNC)
        lane.make_slots(overlap=False, by_stage=False)

    def bare(self, iterations: int) -> list[int]:
        """Wall of each inference in the bare loop, nanoseconds."""
        return bare(self._lane.slots[0], self._lane.stream, self._last, iterations)

    def runner(self, iterations: int) -> list[int]:
        """Wall of each inference in the runner's, nanoseconds."""
        slots = self._lane.slots
        samples = Samples(self._cuda, iterations, slots[0].stages, spin_wait=self._task.spin_wait)
        turns = Turns(self._interruption, iterations, 0)
        turns.begin()
        serve(slots, samples, turns, ranges=self._ranges)
        walls: list[int] = samples.columns(0)["wall_ns"].tolist()
        return walls


def measure(loops: Loops, wall_ns: int) -> dict[str, int] | None:
    """Median walls of both loops, what the runner's adds, and by how much the bare loop's halves differ: nanoseconds.

    It takes about a second where an inference takes `wall_ns`; None where a stop was asked for.
    """
    turn = max(1, min(MOST_IN_A_TURN, int(TURN_S * 1e9 / max(wall_ns, 1))))
    loops.bare(turn), loops.runner(turn)  # both warm
    plain: list[list[int]] = []
    ours: list[list[int]] = []
    for number in range(ROUNDS):
        for walls in (plain, ours) if number % 2 else (ours, plain):
            walls.append(loops.bare(turn) if walls is plain else loops.runner(turn))
    if min(map(len, ours)) < turn:
        return None
    halves = [np.median(np.concatenate(plain[half::2])) for half in (0, 1)]
    bare_ns, runner_ns = (float(np.median(np.concatenate(turns))) for turns in (plain, ours))
    return {
        "inferences": turn * ROUNDS,
        "bare_wall_ns": round(bare_ns),
        "wall_ns": round(runner_ns),
        "added_ns": round(runner_ns - bare_ns),
        "noise_ns": round(abs(float(halves[0] - halves[1]))),
    }
