"""What tracing cost: by an untraced run of the same, else a range that is as wide as what a trace leaves open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.worth.assumptions import (
    ASYNC_NS,
    DEEPER_NS,
    GRAPH_LATENCY_NS,
    IN_GRAPH_NS,
    NODE_NS,
    OTHER_SHARE,
    PINNED_SHARE,
    RANGE_NS,
    SLEEP_NS,
    SPIN_NS,
    GRAPH_LAUNCH_NS,
    Assumptions,
    Range,
)
from nsight_tools.worth.replay import replay

if TYPE_CHECKING:
    from nsight_tools.worth.program import Floats, Program
    from nsight_tools.worth.untraced import Untraced

FLOOR_NS = 3_000.0
"""No untraced run took less host time for a launch: 3.8 to 7.0 µs in 13 runs of six engines on three machines. What a
traced launch takes longer may all be tracing. Off by two, the least wall of a host-bound run is 10 % off."""
SHARE = 0.5
"""Of what a traced launch takes longer than the floor, what is likely to be tracing: −0.05 to 0.82, on average 0.46 in
twelve captures of five engines on two machines. 0.57 without the detectors, 0.46, 0.44, 0.41 without resnet50, bert, the
classifiers: wrong by half a microsecond a launch when left out, and by up to 2.5 in a single run."""
LIKELY_NS = 3_000.0
"""No more than this is likely: the average over eight of those captures whose launches take 7.5 µs and more is 3.1."""
MOST_NS = 5_000.0
"""What tracing adds to a launch at most, in one thread: 4.3, 4.3 and 4.4 with trtexec, −0.2 to 4.9 in twelve captures of
five engines on two machines; 5.7 and more with four threads. Off by two, the intervals of host-bound runs are."""
EVENTS_SLEEP, STREAMS_SLEEP = 0.8, 0.2
"""How likely a wait sleeps of which the trace shows no kind, for an event and for a stream. Runners and trtexec make
events that sleep; CUDA's default polls where the machine has more cores than contexts. A judgement, not a measurement."""
DRIFT = 0.06
"""How far an untraced run's own enqueue lies from the next one's: det_static's took 852, 897 and 836 µs in one hour."""


def cost_of_call(program: Program, enqueue: float) -> Range:
    """What tracing added to each launch, ns, by the trace alone: `enqueue` is the host's time for all of a request's."""
    if not program.launches:
        return Range(0, 0, 0)
    each = enqueue / program.launches
    most = min(max(each - FLOOR_NS, 0.0), MOST_NS)
    return Range(0.0, min(SHARE * max(each - FLOOR_NS, 0.0), LIKELY_NS), most)


def assumptions(program: Program, traced_enqueue: float, link: Range) -> Assumptions:
    """What is assumed of the run without the profiler, by the trace alone; `link` in bytes per ns."""
    ranges = {
        "call": cost_of_call(program, traced_enqueue),
        "ranges": RANGE_NS,
        "other": OTHER_SHARE,
        "graph_launch": GRAPH_LAUNCH_NS,
        "graph_latency": GRAPH_LATENCY_NS,
        "in_graph": IN_GRAPH_NS,
        "node": NODE_NS,
        "spin": SPIN_NS,
        "sleep": SLEEP_NS,
        "deeper": DEEPER_NS,
        "rate": Range(
            PINNED_SHARE.low * link.low, PINNED_SHARE.point * link.point, PINNED_SHARE.high * link.high
        ),
        "copy_call": ASYNC_NS,
    }
    return Assumptions.drawn(ranges, EVENTS_SLEEP if program.for_event else STREAMS_SLEEP)


GRID = 24
"""Candidates for a cost, evaluated at once; what fits is between two of them."""


def fitted(program: Program, assumed: Assumptions, untraced: Untraced) -> Assumptions:
    """The assumptions under which the program takes as long as an untraced run of the same did.

    First what tracing added to a call, by the enqueue; then the gaps between kernels, by the compute; then how late the
    last wait returns, by the wall. What was not measured stays as assumed.
    """
    likely = _repeated(assumed, GRID)
    if untraced.enqueue is not None and program.launches:
        call = np.linspace(-3_000.0, 12_000.0, GRID)
        enqueue = replay(program, replace(likely, call=call)).enqueue
        known = [_found(call, enqueue, untraced.enqueue * share) for share in (1 + DRIFT, 1, 1 - DRIFT)]
        assumed = _within(assumed, "call", Range(*sorted(known)))
    elif untraced.enqueue is not None:
        assumed = _within(assumed, "graph_launch", Range(0.5 * untraced.enqueue, 0.8 * untraced.enqueue, untraced.enqueue))
    if untraced.compute is not None:
        likely = _repeated(assumed, GRID)
        gap = np.linspace(-700.0, 1_500.0, GRID)
        compute = replay(program, replace(likely, extra_gap=gap)).compute
        extra = _found(gap, compute, untraced.compute)
        assumed = replace(assumed, extra_gap=np.full(assumed.samples, extra))
    return _woken(program, assumed, untraced.wall)


SLEEPS_NS = 15_000.0
"""An untraced wall that is longer than one whose wait polls by so much is one whose wait sleeps: 3 to 10 µs against 80."""


def _woken(program: Program, assumed: Assumptions, wall: float) -> Assumptions:
    """The assumptions with the waits' kind, where it is not known, and how late the last one returns, by the wall."""
    polled = replay(program, replace(assumed, sleeps=np.zeros(assumed.samples)))
    if program.polls is True or polled.waited[0] <= 0:
        return assumed
    if program.polls is None:
        assumed = replace(assumed, sleeps=np.full(assumed.samples, float(wall - polled.wall[0] > SLEEPS_NS)))
        if not assumed.sleeps[0]:
            return assumed
    late = np.clip(wall - replay(program, assumed).wall, -MOST_LATE_NS, MOST_LATE_NS)
    return replace(assumed, extra_wake=late)


MOST_LATE_NS = 80_000.0
"""What the wall says of a wait beyond this is not the wait's: as much again as waking usually takes."""


def _repeated(assumed: Assumptions, count: int) -> Assumptions:
    """The likely assumptions, so many times."""
    names = [name for name in assumed.__dataclass_fields__ if name != "traced"]
    return Assumptions(**{name: np.repeat(getattr(assumed, name)[:1], count) for name in names}, traced=False)


def _within(assumed: Assumptions, name: str, known: Range) -> Assumptions:
    """With an assumption's draws moved to another range, each to where it was in its own."""
    drawn = getattr(assumed, name)
    place = (np.argsort(np.argsort(drawn[1:])) + 0.5) / (len(drawn) - 1)
    return replace(assumed, **{name: np.append(known.point, known.at(place))})


def _found(candidates: Floats, results: Floats, wanted: float) -> float:
    """The candidate that leads to what is wanted, between the two nearest; the nearest where none does."""
    order = np.argsort(results, kind="stable")
    return float(np.interp(wanted, results[order], candidates[order]))
