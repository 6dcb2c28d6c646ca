"""Makes a program of what a trace shows: which bound held for each call and each piece of work, and what was left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.known import HOLE_NS
from nsight_tools.worth.program import KERNEL, NEVER, Program

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.worth.ranges import Floats

LATENCY_NS = 1_500.0
"""From the return of a launch to the start of its kernel, where no kernel of the trace waited for its launch: 0 to 3 µs
in 30 traces of three machines with an H200. Off by two: 2 µs of a request."""
GAP_NS = 1_000.0
"""Between dependent kernels of a stream, where the trace shows none: 0.9 to 1.25 µs in 20 traces of three machines. Off
by two: 1 µs a kernel of a request whose host is never ahead of the GPU, once it is."""
RETURN_NS = 3_000.0
"""A wait for what has ended already: 2 to 8 µs traced. Where all waited, this is taken; off by two: 3 µs of a
request."""
LAGS = 4
"""A wait is for the request itself, or one of so many before it: deeper pipelines were not seen."""
SAME = 0.95
"""Share of the requests in which a wait must have ended after what it is taken to wait for."""


@dataclass(frozen=True)
class Steps:
    """The calls of each of R requests that launch work or wait, in order: m of them; times in ns, shape (R, m)."""

    kind: npt.NDArray[np.int8]
    """CallKind, shape (m,)."""
    blocking: Bools
    """Copies that hold the host until they are done, shape (m,)."""
    start: Ints
    end: Ints
    pause: Ints
    """What the thread did before the call, since the one before it returned."""
    other: Ints
    """Of that, inside of calls that neither launch nor wait."""
    ranges: Floats
    """How many NVTX ranges begin in the pause, shape (m,)."""
    waited: Bools
    """Whether a stream was made to wait for an event in the pause, shape (m,)."""
    for_event: bool
    """Whether a wait is for an event."""
    told: Ints
    """Which request a wait is for by its event's record, so many before its own; -1 unknown, shape (m,)."""
    own: int
    """The first step that lies inside of the request; those before it lie between it and the one before."""


@dataclass(frozen=True)
class Ops:
    """The GPU's work for each of R requests, in the order of its calls: q pieces; times in ns, shape (R, q)."""

    step: Ints
    queue: Ints
    kind: npt.NDArray[np.int8]
    pageable: Bools
    size: Ints
    filled: Floats
    """What share of the GPU's room for blocks a kernel takes, shape (q,)."""
    start: Ints
    end: Ints
    lanes: int
    told: Ints
    """Which piece of its request each waits for by its event's record; -1 none, or UNTOLD, shape (q,)."""


UNTOLD = -2
"""The trace does not say what it waits for."""


def measured(steps: Steps, ops: Ops, *, begin: Ints, after: Ints, follows: Bools) -> Program:
    """From what a trace shows of R requests; `begin`, `after` (ns) and `follows` have shape (R,)."""
    behind = _behind(steps, ops)
    before = _before(ops, behind, follows)
    graph = (steps.kind == CallKind.GRAPH_LAUNCH)[ops.step]
    in_graph = graph & np.append(False, ops.step[1:] == ops.step[:-1])
    reached = np.where(steps.blocking[ops.step], steps.start[:, ops.step], steps.end[:, ops.step])
    inside = np.append(False, (ops.queue[1:] == ops.queue[:-1]) & (ops.kind[1:] == KERNEL))
    latency, gap = _bounds(ops, reached.astype(np.float64), before, in_graph, inside)
    lag, wake, waited = _waits(steps, ops, follows)
    if ops.lanes > 1:  # in turns: a lane's earlier request is waited for before the lane is used again
        lag = np.where((lag > 0) & (lag != steps.told), min(ops.lanes, LAGS), lag)
    length = (steps.end - steps.start).astype(np.float64)
    length = np.where((steps.kind == CallKind.SYNC) & (waited > 0), np.minimum(length, RETURN_NS), length)
    return Program(
        steps.kind,
        steps.blocking,
        steps.own,
        steps.ranges,
        lag,
        steps.pause.astype(np.float64),
        steps.other.astype(np.float64),
        length,
        wake,
        waited,
        ops.step,
        ops.queue,
        ops.kind,
        behind,
        ops.pageable,
        ops.size,
        ops.filled,
        (ops.end - ops.start).astype(np.float64),
        gap,
        latency,
        begin.astype(np.float64),
        after.astype(np.float64),
        follows,
        in_graph,
        steps.for_event,
        _beside(ops, follows),
        ops.lanes,
        np.zeros(len(ops.step), np.bool_),
        np.zeros(len(ops.step), np.bool_),
        np.zeros(len(ops.step), np.bool_),
        np.zeros(len(steps.kind), np.bool_),
        np.zeros(len(steps.kind), np.bool_),
    )


def _beside(ops: Ops, follows: Bools) -> float:
    """Share of the requests whose first kernel starts before the last one of the request before has ended."""
    kernels = ops.kind == KERNEL
    if not kernels.any() or not follows[1:].any():
        return 0.0
    first, last = ops.start[:, kernels].min(axis=1), ops.end[:, kernels].max(axis=1)
    return float((first[1:] < last[:-1])[follows[1:]].mean())


def _behind(steps: Steps, ops: Ops) -> Ints:
    """Which piece of work each waits for by an event.

    Untold, it is the last one before it, where a stream was made to wait.
    """
    behind = np.where(ops.told == UNTOLD, -1, ops.told)
    for at in np.flatnonzero(ops.told[1:] == UNTOLD) + 1:
        if ops.queue[at] != ops.queue[at - 1] and steps.waited[ops.step[at - 1] + 1 : ops.step[at] + 1].any():
            behind[at] = at - 1
    return behind


def _before(ops: Ops, behind: Ints, follows: Bools) -> Floats:
    """When all that each piece of work waits for on the GPU had ended, shape (R, q); NEVER where there is none."""
    before = np.full(ops.start.shape, NEVER)
    for same in (ops.queue, np.where(ops.kind == KERNEL, -1, ops.kind)):
        for group in np.unique(same[same >= 0]):
            rows = np.flatnonzero(same == group)
            ended = np.maximum.accumulate(ops.end[:, rows].astype(np.float64), axis=1)
            last = np.append(NEVER, np.where(follows[1:], ended[:-1, -1], NEVER))
            ended = np.concatenate([last[:, None], np.maximum(ended[:, :-1], last[:, None])], axis=1)
            before[:, rows] = np.maximum(before[:, rows], ended)
    for at in np.flatnonzero(behind >= 0):
        before[:, at] = np.maximum(before[:, at], ops.end[:, behind[at]])
    return before


def _bounds(ops: Ops, reached: Floats, before: Floats, in_graph: Bools, inside: Bools) -> tuple[Floats, Floats]:
    """Latency from the launch and gap to the work before, each of shape (R, q), so that the later is the real start.

    What is much later than its launch, behind other work of its request (`inside`), has a hole before it.
    """
    late, apart = ops.start - reached, ops.start - before
    by_host = (reached + 2 * GAP_NS > before + GAP_NS) & (late < 10 * LATENCY_NS) & ~in_graph
    sure = by_host & (before < reached - 2 * GAP_NS)
    usual = float(np.median(late[sure])) if sure.sum() >= len(reached) else LATENCY_NS
    by_gpu = before + GAP_NS / 2 > reached + usual + GAP_NS
    gaps = np.array([np.median(a[b]) if b.mean() > 1 / 4 else np.nan for a, b in zip(apart.T, by_gpu.T, strict=True)])
    known = gaps[~np.isnan(gaps) & (ops.kind == KERNEL)]
    gaps = np.where(np.isnan(gaps), np.median(known) if known.size else GAP_NS, gaps)
    by_host = (reached + usual >= before + gaps) & ~in_graph & ~(inside & (late > usual + HOLE_NS))
    latency = np.where(by_host, late, np.minimum(usual, late))
    latency[:, in_graph] = NEVER
    gap = np.where(by_host & (before > NEVER / 2), np.minimum(gaps, apart), np.where(before > NEVER / 2, apart, gaps))
    return latency, gap


def _waits(steps: Steps, ops: Ops, follows: Bools) -> tuple[Ints, Floats, Floats]:
    """Which request each wait is for, how late it returned, and how long it waited; see `Program`."""
    lag = np.zeros(len(steps.kind), np.int64)
    wake, waited = (np.full(steps.start.shape, np.nan) for _ in range(2))
    last = ops.end.max(axis=1) if ops.end.shape[1] else steps.end[:, 0]
    for at in np.flatnonzero((steps.kind == CallKind.SYNC) | steps.blocking):
        launched = ops.step <= at if steps.blocking[at] else ops.step < at
        told = int(steps.told[at])
        # An event in the middle of a request is over before it: then the wait is not for all of that request.
        for back in range(LAGS) if told < 0 else (told, *range(LAGS)):
            done = ops.end[:, launched].max(axis=1) if back == 0 and launched.any() else _shifted(last, back, follows)
            real = done > NEVER / 2
            if not real.any():
                continue
            if steps.blocking[at] or (steps.end[real, at] >= done[real] - 1_000).mean() >= SAME:
                lag[at] = back if launched.any() else max(back, 1)
                waited[:, at] = np.where(real, done - steps.start[:, at], np.nan)
                wake[:, at] = np.where(real, steps.end[:, at] - done, np.nan)
                break
        else:
            lag[at] = LAGS
        if not steps.blocking[at]:
            wake[:, at] = np.where(waited[:, at] > 0, wake[:, at], np.nan)
    return lag, wake, waited


def _shifted(last: Ints, back: int, follows: Bools) -> Floats:
    """When the request so many before each had ended, shape (R,); NEVER where it is not known."""
    done = np.full(len(last), NEVER)
    back = max(back, 1)
    for at in range(back, len(last)):
        if follows[at - back + 1 : at + 1].all():
            done[at] = last[at - back]
    return done
