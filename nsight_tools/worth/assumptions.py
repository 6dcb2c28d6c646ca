"""What a run is assumed to be like where the trace does not say: P draws of each, evaluated side by side.

Each is a range with a likely value. The first draw takes what is likely of everything; the others are spread evenly
over the ranges (a lattice of fixed shifts, the same at every call), so that an interval takes no luck.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.attribution import CallKind
from nsight_tools.worth.program import KERNEL, Floats, Program

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = 24
"""Draws: the 5th and 95th percentile of so many lie within a tenth of the range of where they belong."""
LEAST_CALL_NS = 300.0
"""No call of the host takes less without the profiler; off by two it is 0.1 µs a launch, where it binds at all."""
LEAST_PAUSE = 0.2
"""Tracing takes no more than all but so much of a pause: what the program does there takes time, too."""


@dataclass(frozen=True)
class Range:
    """A value that is known to lie between `low` and `high`, most likely at `point`; nine times in ten."""

    low: float
    point: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.point <= self.high:
            raise ValueError(f"not a range: {self.low}, {self.point}, {self.high}")

    def at(self, share: Floats) -> Floats:
        """The values below which lie so many of all, as two halves of normal distributions; shape of `share`."""
        away = _normal(share) / 1.645
        drawn: Floats = self.point + np.where(away < 0, self.point - self.low, self.high - self.point) * away
        return drawn


def _normal(share: Floats) -> Floats:
    """The standard normal's quantiles, to 0.0005 (Abramowitz and Stegun 26.2.23)."""
    tail = np.sqrt(-2 * np.log(np.minimum(share, 1 - share)))
    above = 2.515517 + 0.802853 * tail + 0.010328 * tail**2
    below = 1 + 1.432788 * tail + 0.189269 * tail**2 + 0.001308 * tail**3
    drawn: Floats = np.sign(share - 0.5) * (tail - above / below)
    return drawn


GRAPH_LAUNCH_NS = Range(4_000, 9_000, 16_000)
"""Launching a CUDA graph without the profiler, whatever its nodes: 5 to 12 µs in eight runs of four engines (90 to 137
nodes) on two machines with an H200, from Python; 3 to 6 in trtexec. Where left out, an engine's is at most 5 µs off.
Twice as much is 10 µs of a request, which the GPU mostly hides behind the copy to it."""
GRAPH_LATENCY_NS = Range(-5_000, 1_000, 6_000)
"""From the return of a graph's launch to its first kernel: 1 to 7 µs in nine traces of five engines; without the
profiler it can start before the call returns, since the GPU's part of bert's graph begins within 3 µs of its copy's end.
Twice that is 5 µs of a request, once."""
IN_GRAPH_NS = Range(-250, 50, 350)
"""What each kernel takes longer in a graph than it does alone, with the gap before it: compute by events of an untraced
graph less the eager kernels' durations, by the kernel: 0.31 µs (detector), 0.00 (resnet50), −0.16 (bert, whose kernels
are faster there), 0.01 (classifier), on two machines with an H200. The likely value is their mean; with each left out it
is wrong by 0.35, 0.05, 0.27 and 0.04 µs. Twice the width is 2 % of a detector's request."""
NODE_NS = Range(0, 100, 150)
"""What tracing a graph's nodes one by one adds to each on the GPU: 0.04 to 0.13 µs in four engines, one machine."""
RANGE_NS = Range(300, 800, 3_000)
"""An NVTX range: 0.4 to 0.8 µs from TensorRT's own code, 3 from Python under nsys, on three machines."""
OTHER_SHARE = Range(0.1, 0.45, 0.75)
"""Of the calls that launch no kernel (copies, records of events, queries), what share is tracing: an event's record takes
2 to 13 µs traced and some 1.5 without, a copy's call 7 to 16 and some 4. From the walls of graphs, which make few other
calls: with each of four engines left out they are wrong by 4 % at most. Twice as much is 10 µs of a request."""
SPIN_NS = Range(3_000, 6_000, 10_000)
"""From the end of the GPU's work to the return of a wait that polls: 3 to 6 µs in eight traces of three machines."""
SLEEP_NS = Range(45_000, 90_000, 140_000)
"""The same of a wait that sleeps, after SLEPT_NS: 52, 100, 118 µs in three engines' traces on two machines, and more on
a loaded one (286). Only where the trace has no waits of its own: with each left out it is wrong by 20 to 50 µs."""
SLEPT_NS = 500_000.0
DEEPER_NS = Range(15_000, 32_000, 60_000)
"""A core that slept ten times as long wakes so much later: 39 µs (34 µs after 18, 99 after 872), 29 (45 after 6, 100
after 499) in traces, 16, 32 and 35 between untraced runs of three engines, 45 on another machine. With each engine left
out it is wrong by 20 µs at most. Twice as much is 30 µs of a request that waits ten times as long as traced."""
SHORTEST_NS = 5_000.0
"""Waits of less are taken for this: the host had hardly gone to sleep."""
PINNED_SHARE = Range(0.6, 0.83, 0.9)
"""Of its link's peak, what a pinned copy of a megabyte or more gets: 53 to 55 of 63 GB/s on four machines with an H200;
less where the slot is narrower than the GPU, which a trace does not tell."""
COPY_NS = 1_500.0
"""What a copy takes beside its bytes: 1 to 2 µs."""
HOST_DRIFT = Range(0.85, 1.0, 1.12)
"""How many times as long the host's calls take in one run as in another of the same engine, host and hour: untraced
enqueues of det_static took 836, 852 and 897 µs where waits sleep, 636 where they poll; a mixed classifier's throughput
run was 16 % faster than its other one. It binds only where the host is the limit after the change, too. Twice as much
is a tenth of such a request."""
SPARE = Range(0.0, 0.02, 0.08)
"""What passes for each request beside its usual time, as a share, where waits sleep: 1 to 9 % in eight untraced runs of
three engines (a late wake now and then, and what lies between two), 0.3 where they poll. Requests under way hide it."""
ASYNC_NS = Range(2_000, 5_000, 9_000)
"""An asynchronous copy's call without the profiler: 3 to 9 µs traced."""


@dataclass(frozen=True)
class Assumptions:
    """P draws of what is assumed, each of shape (P,); times in ns, `rate` in bytes per ns."""

    call: Floats
    """What tracing adds to a call that launches or waits. Below 0 where an untraced run was slower than the traced."""
    ranges: Floats
    other: Floats
    graph_launch: Floats
    graph_latency: Floats
    in_graph: Floats
    node: Floats
    spin: Floats
    sleep: Floats
    deeper: Floats
    rate: Floats
    copy_call: Floats
    sleeps: Floats
    """1 where a wait of unknown kind sleeps, 0 where it polls."""
    extra_gap: Floats
    """What each kernel's gap is longer than in the trace, by an untraced run."""
    extra_wake: Floats
    """How much later than the model says the last wait returns, by an untraced run."""
    drift: Floats
    """How many times as long the host's calls take in another run of the same."""
    traced: bool = False
    """Nothing is taken off: the replay is of the traced run."""

    @property
    def samples(self) -> int:
        return len(self.call)

    @classmethod
    def drawn(cls, ranges: Mapping[str, Range], sleeps: float, samples: int = SAMPLES) -> Assumptions:
        """The likely values, and `samples - 1` draws; those without a range are 0. `sleeps`: how likely waits sleep."""
        names = [name for name in cls.__dataclass_fields__ if name not in _NOT_DRAWN]
        count = samples - 1
        columns = {}
        for at, name in enumerate(names):
            share = ((np.arange(count) * _STRIDES[at]) % count + 0.5) / count
            one = ranges.get(name, Range(0, 0, 0))
            columns[name] = np.append(one.point, one.at(share))
        blind = (((np.arange(count) * _STRIDES[len(names)]) % count + 0.5) / count < sleeps).astype(np.float64)
        nothing = np.zeros(samples)
        return cls(**columns, sleeps=np.append(float(sleeps > 1 / 2), blind), extra_gap=nothing, extra_wake=nothing, drift=nothing + 1)

    @classmethod
    def as_traced(cls) -> Assumptions:
        """One draw, under which a program replays its own trace."""
        return replace(cls.drawn({}, 0.0, 2)[:1], traced=True)

    def drifted(self) -> Assumptions:
        """As another run of the same may go: the host's calls take longer or shorter."""
        count = self.samples - 1
        share = ((np.arange(count) * _STRIDES[-1]) % count + 0.5) / count
        return replace(self, drift=np.append(1.0, HOST_DRIFT.at(share)))

    def __getitem__(self, rows: slice) -> Assumptions:
        columns = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "traced"}
        return Assumptions(**columns, traced=self.traced)

    def host(self, program: Program) -> tuple[Floats, Floats]:
        """Pause before and length of each call, shape (P, R, m)."""
        shape = (self.samples, *program.pause.shape)
        if self.traced:
            return np.broadcast_to(program.pause, shape), np.broadcast_to(program.length, shape)
        share = np.clip(self.other, 0.0, 0.9)[:, None, None]
        less = share * program.other + self.ranges[:, None, None] * program.ranges
        launches = program.kind == CallKind.LAUNCH
        call = np.where(launches, self.call[:, None, None], share * program.length)
        length = np.maximum(program.length - call, np.minimum(LEAST_CALL_NS, program.length))
        # What a call is too short to have lost was lost around it.
        beyond = np.maximum(call - (program.length - length), 0.0)
        pause = np.maximum(program.pause - less - beyond, LEAST_PAUSE * program.pause)
        drift = self.drift[:, None, None]
        pause, length = drift * pause, np.where(program.kind == CallKind.SYNC, length, drift * length)
        graphs = program.kind == CallKind.GRAPH_LAUNCH
        nodes = np.bincount(program.step, minlength=len(program.kind)) > 1
        length = np.where(graphs & (nodes | program.made), self.graph_launch[:, None, None], length)
        length = np.where(program.unblocked, self.copy_call[:, None, None], length)
        return pause, length

    def gpu(self, program: Program) -> tuple[Floats, Floats]:
        """Duration of each piece of work and its gap to what is before it, shape (P, R, q)."""
        shape = (self.samples, *program.gap.shape)
        if self.traced:
            return np.broadcast_to(program.duration, shape), np.broadcast_to(program.gap, shape)
        kernels = program.engine == KERNEL
        gap = program.gap - self.node[:, None, None] * (program.in_graph & ~program.promised)
        gap = gap + self.extra_gap[:, None, None] * (kernels & ~program.promised)
        gap = np.where(program.promised, self.in_graph[:, None, None], gap)
        copied = COPY_NS + program.size / np.maximum(self.rate, 1e-3)[:, None, None]
        duration = np.where(program.repinned, np.minimum(copied, program.duration), program.duration)
        return np.broadcast_to(duration, shape), np.broadcast_to(gap, shape)

    def latency(self, program: Program, row: int, low: int, high: int) -> Floats:
        """From the launch call's return to the start of work `[low, high)`, shape (P, high - low) or (1, …)."""
        latency = program.latency[row, low:high][None]
        if not program.promised[low:high].any() and not program.heads[low:high].any():
            return latency
        drawn: Floats = np.where(program.heads[low:high], self.graph_latency[:, None], latency)
        return drawn

    def wake(self, program: Program, row: int, step: int, still: Floats) -> Floats:
        """From the end of what a wait of `still` ns is for to its return, shape (P,)."""
        seen, slept = program.wake[row, step], program.waited[row, step]
        if self.traced:
            return np.full(self.samples, seen if seen == seen else SPIN_NS.point)
        if program.polls is True:
            polled = seen if seen == seen and seen < 2 * SPIN_NS.high and not program.changed_wait else self.spin
            return np.broadcast_to(polled, still.shape)
        if seen == seen and program.polls is not None:
            slept_before, took = max(slept, SHORTEST_NS), np.full(self.samples, seen)
        else:
            slept_before, took = SLEPT_NS, self.sleep
        asleep = took + self.deeper * np.log10(np.maximum(still, SHORTEST_NS) / slept_before)
        if program.polls is None:
            asleep = np.where(self.sleeps > 0, asleep, self.spin)
        woken: Floats = np.maximum(asleep + self.extra_wake, self.spin)
        return woken


_NOT_DRAWN = frozenset({"traced", "sleeps", "extra_gap", "extra_wake", "drift"})
_STRIDES = (1, 5, 7, 9, 11, 13, 15, 17, 19, 21, 3, 10, 14, 20)
"""Steps of the lattice, one an assumption: no two of them go up and down together over the 23 draws."""
