"""What tracing cost: by an untraced run of the same, else a range that is as wide as what a trace leaves open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.worth import known
from nsight_tools.worth.assumptions import Assumptions
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.replay import replay

if TYPE_CHECKING:
    from nsight_tools.trace import Trace
    from nsight_tools.worth.program import Program
    from nsight_tools.worth.ranges import Floats
    from nsight_tools.worth.untraced import Untraced

FIRST_ROWS = 100_000
"""The first so many ranges tell as much as all of a long trace."""
FEWEST = 20
"""Ranges of which a percentile says something."""
GRID = 12
"""Candidates for a cost, evaluated at once; what fits is between two of them."""
CALL_NS, GAP_NS = (-3_000.0, 12_000.0), (-700.0, 1_500.0)
"""Between which they lie, for a call and for the gap before a kernel: twice what was ever found."""
MOST_LATE_NS = 80_000.0
"""What the wall says of a wait beyond this is not the wait's: as much again as waking usually takes."""


def cost_of_call(program: Program, enqueue: float) -> Range:
    """What tracing added to a launch, ns, by the trace alone; `enqueue` is the host's time for those of a request."""
    return cost_of_launch(enqueue / program.launches) if program.launches else Range(0, 0, 0)


def cost_of_launch(takes: float, *, several: bool = False) -> Range:
    """What tracing added to a launch, ns, of a thread that `takes` so long; up to twice with several of a process."""
    beyond = max(takes - known.FLOOR_NS, 0.0)
    most = min(beyond, 2 * known.MOST_NS if several else known.MOST_NS)
    return Range(0.0, min(known.SHARE * beyond, known.LIKELY_NS), most)


def cost_of_range(trace: Trace) -> Range:
    """What an NVTX range costs, ns: from TensorRT's ranges that call nothing, where the trace has enough of them.

    Of such a range and the next one under the same parent nothing but the ranges themselves takes time: the cost is
    from one start to the next. Half of the shortest is the least, since the layer's own code may be in it. Longer ones
    do something that calls nothing: shape inference, a plug-in's own code.
    """
    names = ["start_ns", "end_ns", "parent", "domain", "kind"]
    table = trace.table("nvtx_ranges", names, rows=FIRST_ROWS)
    chosen = words(table["domain"]).among("TensorRT") & words(table["kind"]).among("push_pop")
    start, end, parent = (ints(table[name])[chosen] for name in names[:3])
    calls = trace.numbers("api_calls", "start_ns")
    if start.size < FEWEST or not calls.size:
        return known.RANGE_NS
    before = np.searchsorted(calls, start)
    siblings = (parent[1:] == parent[:-1]) & (parent[1:] >= 0) & (end[:-1] <= start[1:])
    gaps = np.diff(start)[siblings & (before[1:] == before[:-1])]
    gaps = gaps[gaps <= known.RANGE_NS.high]
    if gaps.size < FEWEST:
        return known.RANGE_NS
    low, point, high = np.percentile(gaps, [10, 50, 90]).tolist()
    return Range(low / 2, point, high)


def assumptions(program: Program, traced_enqueue: float, link: Range, of_range: Range) -> Assumptions:
    """What is assumed of the run without the profiler, by the trace alone; `link` in bytes per ns, `of_range` in ns."""
    ranges = {
        "call": cost_of_call(program, traced_enqueue),
        "ranges": of_range,
        "other": known.OTHER_SHARE,
        "graph_launch": known.GRAPH_LAUNCH_NS,
        "graph_latency": known.GRAPH_LATENCY_NS,
        "in_graph": known.IN_GRAPH_NS,
        "node": known.NODE_NS,
        "spin": known.SPIN_NS,
        "sleep": known.SLEEP_NS,
        "deeper": known.DEEPER_NS,
        "rate": Range(
            min(known.PINNED_SHARE.point * link.low, known.PINNED_SHARE.low * link.point),
            known.PINNED_SHARE.point * link.point,
            known.PINNED_SHARE.high * link.high,
        ),
        "copy_call": known.ASYNC_NS,
    }
    return Assumptions.drawn(ranges, known.EVENTS_SLEEP if program.for_event else known.STREAMS_SLEEP)


def fitted(program: Program, assumed: Assumptions, untraced: Untraced) -> Assumptions:
    """The assumptions under which the program takes as long as an untraced run of the same did.

    First what tracing added to a call, by the enqueue; then the gaps between kernels, by the compute; then how late the
    last wait returns, by the wall. What was not measured stays as assumed.
    """
    likely = _repeated(assumed, GRID)
    if untraced.enqueue is not None and program.launches:
        call = np.linspace(*CALL_NS, GRID)
        enqueue = replay(program, replace(likely, call=call)).enqueue
        likely_call = [
            _found(call, enqueue, untraced.enqueue * share)
            for share in (1 + known.ENQUEUE_DRIFT, 1, 1 - known.ENQUEUE_DRIFT)
        ]
        assumed = _within(assumed, "call", Range(*sorted(likely_call)))
    elif untraced.enqueue is not None:
        assumed = _within(
            assumed, "graph_launch", Range(0.5 * untraced.enqueue, 0.8 * untraced.enqueue, untraced.enqueue)
        )
    if untraced.compute is not None:
        likely = _repeated(assumed, GRID)
        gap = np.linspace(*GAP_NS, GRID)
        compute = replay(program, replace(likely, extra_gap=gap)).compute
        extra = _found(gap, compute, untraced.compute)
        assumed = replace(assumed, extra_gap=np.full(assumed.samples, extra))
    return _woken(program, assumed, untraced.wall)


def _woken(program: Program, assumed: Assumptions, wall: float) -> Assumptions:
    """The assumptions with the waits' kind, where it is not known, and how late the last one returns, by the wall."""
    polled = replay(program, replace(assumed, sleeps=np.zeros(assumed.samples)))
    if program.polls is True or polled.waited[0] <= 0:
        return assumed
    if program.polls is None:
        assumed = replace(assumed, sleeps=np.full(assumed.samples, float(wall - polled.wall[0] > known.POLLS_NS)))
        if not assumed.sleeps[0]:
            return assumed
    late = np.clip(wall - replay(program, assumed).wall, -MOST_LATE_NS, MOST_LATE_NS)
    return replace(assumed, extra_wake=late)


def _repeated(assumed: Assumptions, count: int) -> Assumptions:
    """The likely assumptions, so many times."""
    names = [name for name in assumed.__dataclass_fields__ if name != "traced"]
    columns: dict[str, Any] = {name: np.repeat(getattr(assumed, name)[:1], count) for name in names}
    return Assumptions(**columns)


def _within(assumed: Assumptions, name: str, within: Range) -> Assumptions:
    """With an assumption's draws moved to another range, each to where it was in its own."""
    drawn = getattr(assumed, name)
    place = (np.argsort(np.argsort(drawn[1:])) + 0.5) / (len(drawn) - 1)
    moved: dict[str, Any] = {name: np.append(within.point, within.at(place))}
    return replace(assumed, **moved)


def _found(candidates: Floats, results: Floats, wanted: float) -> float:
    """The candidate that leads to what is wanted, between the two nearest; the nearest where none does."""
    order = np.argsort(results, kind="stable")
    return float(np.interp(wanted, results[order], candidates[order]))
