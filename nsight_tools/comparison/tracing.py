"""What tracing cost the host in each of two runs, where they launch in different ways: the observer effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.comparison.result import TracingCost
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from nsight_tools.comparison.runs import ComparedRun


def tracing_cost(run: ComparedRun) -> TracingCost | None:
    """Host time that tracing added to one inference of `run`; None where its API calls were not traced.

    The wall loses no more than this: what the host does while the GPU is busy costs nothing.
    """
    if not run.trace.rows("api_calls") or not len(run):
        return None
    judged = run.run.requests.judged
    return TracingCost(*(float(cost[judged].mean()) for cost in Pricing.of(run.trace).host.of_requests))
