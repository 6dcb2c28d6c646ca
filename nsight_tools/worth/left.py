"""What share of a traced time is left without the profiler: of a request's wall, and of the time from one to the next.

By a replay where one holds, else by a bound: what tracing costs the host is lost at most, and nothing of it where the
GPU has work all the while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.worth.as_traced import BOUNDED, REPLAYED, lost_of_wall
from nsight_tools.worth.assumptions import DRAWN, SAMPLES, Assumptions
from nsight_tools.worth.known import HOST_DRIFT, MODEL
from nsight_tools.worth.ranges import Range, shares
from nsight_tools.worth.replay import replay

if TYPE_CHECKING:
    from nsight_tools.columns import Bools
    from nsight_tools.trace import Trace
    from nsight_tools.worth.host import HostCosts
    from nsight_tools.worth.price import Pricing
    from nsight_tools.worth.ranges import Floats

Per = Literal["wall", "period"]
UNKNOWN = "the traced run, since the trace has no API calls to tell what tracing costs"
DRIFTS = 8
"""Draws of how the host's speed drifts for each of what is assumed: with one, both would go together by chance."""
DRAWS = 1 + DRIFTS * (SAMPLES - 1)
LEAST = 0.05
"""Of a traced time no less is left: launches that take 30 times what they take untraced were never seen."""


@dataclass(frozen=True, eq=False)
class Left:
    """Shares of a traced time that are left, as P draws, the likely one first; and how that is known.

    Draws of two traces with the same number assume the same of the profiler and the machine. `error` is how far the
    model may be off beside them, as a share, nine times in ten.
    """

    draws: Floats
    error: float
    source: str


def left(trace: Trace, pricing: Pricing, per: Per, chosen: Bools, drift: int | None = None) -> Left:
    """What is left of `trace`'s times without the profiler; `pricing` is one of it that knows no untraced run.

    Of the requests `chosen`, shape (requests,), in DRAWS draws. A period is that of requests which are no outliers:
    those of a traced run may be the profiler's, and what late wakes cost without it is known (`worth.known.SPARE`).
    `drift`, 0 or 1, numbers a run whose host is as fast or slow as runs of the same are, independent of the other's;
    None: as traced.
    """
    run = Run.of(trace)
    if not trace.rows("api_calls"):
        return Left(np.ones(DRAWS), 2 * MODEL, UNKNOWN)
    program = pricing.replayable if np.array_equal(chosen, run.requests.judged) else None
    if program is not None and pricing.requests is not None and (per == "period" or program.waits):
        drawn = np.ones(DRAWS) if drift is None else np.append(1.0, HOST_DRIFT.at(shares(2, DRAWS - 1)[drift]))
        # The likely draw, then the others as often as the drift is drawn.
        rows = np.append(0, np.tile(np.arange(1, SAMPLES), DRIFTS))
        gone = replay(program, replace(pricing.assumed[rows], drift=drawn))
        # A wall without the profiler lasts until the host has waited for it, which may be some requests later.
        took = replay(program, Assumptions.as_traced()).period[0] if per == "period" else pricing.requests.wall
        lasts = gone.period + pricing.spare[rows] if per == "period" else gone.wall
        return Left(np.maximum(lasts / max(float(took), 1.0), LEAST), MODEL, REPLAYED)
    least = (_without_period if per == "period" else _without_wall)(run, pricing.host, chosen)
    unknown = DRAWN.index("call" if pricing.host.launch.high > 0 else "graph_launch")
    # What costs more leaves less.
    drawn = np.tile(least.at(1 - shares(len(DRAWN) + 2, SAMPLES - 1)[unknown]), DRIFTS)
    return Left(np.clip(np.append(least.point, drawn) / max(least.high, 1.0), LEAST, 1.0), 2 * MODEL, BOUNDED)


def _without_wall(run: Run, host: HostCosts, judged: Bools) -> Range:
    """A request's wall without the profiler, ns: between that less all that tracing may cost, and as traced."""
    wall = float(np.median(run.requests.wall[judged]))
    likely, most = lost_of_wall(run, host, judged)
    return Range(wall - most, wall - likely, wall)


def _without_period(run: Run, host: HostCosts, judged: Bools) -> Range:
    """From one completion on a GPU to the next without the profiler, ns, as `_without_wall`.

    It takes no less than the GPU works for each. Where several streams or threads make requests and fewer of them were
    under way, their work may run side by side as far as more of them can be: in so many times less.
    """
    flow = run.flow
    periods = flow.completions(judged & ~run.requests.outlier)
    if not periods.size:
        return Range(0.0, 0.0, 0.0)
    period, window = float(periods.mean()), Intervals.union(run.requests.start[judged], run.requests.end[judged])
    works = sum(run.gpus.busy(device).intersection(window).total for device in run.gpus.devices) / int(judged.sum())
    _, likely, most = (float(np.median(cost[judged])) for cost in host.of_requests)
    lanes_in_use = min(flow.at_a_time / flow.lanes, 1.0)
    low = min(max(period - most, works * lanes_in_use), period)
    return Range(low, min(max(period - likely, works, low), period), period)
