"""What a run is assumed to be like where the trace does not say: P draws of each, evaluated side by side.

The first draw takes what is likely of everything, the others are spread over the ranges in which it is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.known import AWAKE_DRIFT, COPY_NS, HOLE_NS, HOST_DRIFT, POLLS_NS, SHORTEST_NS, SLEPT_NS, SPIN_NS
from nsight_tools.worth.program import KERNEL, Program
from nsight_tools.worth.ranges import Range, shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.worth.ranges import Floats

SAMPLES = 32
"""Draws: the 5th and 95th percentile of so many lie within a tenth of the range of where they belong."""
LEAST_CALL_NS = 300.0
"""No call of the host takes less without the profiler; off by two it is 0.1 µs a launch, where it binds at all."""
LEAST_PAUSE = 0.2
"""Tracing takes no more than all but so much of a pause: what the program does there takes time, too."""
MOST_SHARE = 0.9
"""Nor more of a call that launches no kernel."""
DRAWN = (
    "call", "ranges", "other", "graph_launch", "graph_latency", "in_graph", "node", "spin", "sleep", "deeper", "rate",
    "copy_call",
)  # fmt: skip
"""Assumptions that have a range of their own."""


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
        drawn = shares(len(DRAWN) + 2, samples - 1)
        nothing = np.zeros(samples)
        columns: dict[str, Any] = dict.fromkeys(("extra_gap", "extra_wake"), nothing)
        for name, share in zip(DRAWN, drawn, strict=False):
            interval = ranges.get(name, Range(0, 0, 0))
            columns[name] = np.append(interval.point, interval.at(share))
        asleep = np.append(float(sleeps > 1 / 2), drawn[-2] < sleeps)
        return cls(**columns, sleeps=asleep, drift=nothing + 1)

    @classmethod
    def as_traced(cls) -> Assumptions:
        """One draw, under which a program replays its own trace."""
        return replace(cls.drawn({}, 0.0, 2)[:1], traced=True)

    def drifted(self, *, polls: bool = False) -> Assumptions:
        """As another run of the same may go: its calls take longer or shorter; much shorter where `polls` is new."""
        drawn = shares(len(DRAWN) + 2, self.samples - 1)[-1]
        return replace(self, drift=np.append(1.0, (AWAKE_DRIFT if polls else HOST_DRIFT).at(drawn)))

    def __getitem__(self, rows: slice | IntArray) -> Assumptions:
        columns: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "traced"
        }
        return Assumptions(**columns, traced=self.traced)

    def host(self, program: Program) -> tuple[Floats, Floats]:
        """Pause before and length of each call, shape (P, R, m)."""
        shape = (self.samples, *program.pause.shape)
        if self.traced:
            return np.broadcast_to(program.pause, shape), np.broadcast_to(program.length, shape)
        share = np.clip(self.other, 0.0, MOST_SHARE)[:, None, None]
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
        # Kernels that overlap the one before do so in a graph, too; and a hole stays one.
        kept = np.where(program.gap > HOLE_NS, program.gap, np.minimum(program.gap, 0.0))
        gap = np.where(program.promised, self.in_graph[:, None, None] + kept, gap)
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
        known = not np.isnan(seen)
        if self.traced:
            return np.full(self.samples, seen if known else SPIN_NS.point)
        if program.polls is True:
            polled = seen if known and seen < POLLS_NS and not program.changed_wait else self.spin
            return np.broadcast_to(polled, still.shape)
        if known and program.polls is not None:
            slept_before, took = max(slept, SHORTEST_NS), np.full(self.samples, seen)
        else:
            slept_before, took = SLEPT_NS, self.sleep
        asleep = took + self.deeper * np.log10(np.maximum(still, SHORTEST_NS) / slept_before)
        if program.polls is None:
            asleep = np.where(self.sleeps > 0, asleep, self.spin)
        woken: Floats = np.maximum(asleep + self.extra_wake, self.spin)
        return woken
