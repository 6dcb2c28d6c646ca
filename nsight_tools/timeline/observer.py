"""The observer effect: what tracing cost the host, and how the run would have gone without it.

Costs are estimates, each with an interval and where it comes from. Where the trace itself shows a cost it is taken
from there: TensorRT's ranges around layers that call nothing show what a range costs, the shortest launch calls bound
what a traced call can cost. What a trace cannot show comes from runs measured with and without the profiler: NVIDIA's
trtexec with TensorRT 8.6 on an H200, against Nsight Systems 2025.3.

`savings` then takes the costs off the host's time and lets the GPU's work move up as far as the host and the kernels
before it allow: what is left of the gaps is what the run has without the profiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.timeline.attribution import CallKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsight_tools.timeline.intervals import BoolArray, Int64Array

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

CALL_SHARES = (0.15, 0.3)
"""Least and likely share of the 10th percentile of the launch calls that is tracing.

Untraced enqueues take 4.0 µs a kernel where traced ones, less their ranges, take 4.7 to 5.1: 0.8 to 1.1 µs of calls
whose 10th percentile is 2.7 to 3.3 µs. The least is half of that.
"""
UNTRACED_LAUNCH_NS = 1_500
"""A kernel launch takes no less without the profiler (some 2 µs are usual): what is longer may all be tracing."""
CALL_NS = (400.0, 1_000.0, 3_000.0)
"""Where the trace has no launch calls. The most is what trtexec's own captures lost a launch, less their ranges."""
RANGE_NS = (200.0, 500.0, 1_000.0)
"""Where the trace has no ranges to tell by: 0.4 to 0.5 µs on a fast CPU, 0.8 on a slower one."""
GRAPH_NODE_NS = (400.0, 700.0, 1_400.0)
"""Where no launch of a graph of nodes was traced: 0.5 µs between two of our captures, 1.3 to 1.4 with trtexec."""
GRAPH_LAUNCH_NS = (3_000, 6_000)
"""Launching a graph of 100 to 137 kernels without the profiler."""
ENOUGH = 20
"""Calls or ranges of which a percentile says something."""


@dataclass(frozen=True)
class Cost:
    """Nanoseconds of host time that tracing adds to one event: 0 <= low <= point <= high, and where they come from."""

    low: float
    point: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.point <= self.high:
            raise ValueError(f"not an interval of costs: {self.low}, {self.point}, {self.high}")

    @property
    def interval(self) -> tuple[float, float, float]:
        return self.low, self.point, self.high


@dataclass(frozen=True)
class Tracing:
    """What tracing costs the host: for a launch call, a push/pop range, and a node of a graph that is launched."""

    call: Cost
    range: Cost
    graph_node: Cost

    def of_calls(self, start: Int64Array, end: Int64Array, kind: NDArray[np.int8]) -> tuple[FloatArray, ...]:
        """Cost of each call, shape (n,), as low, point and high: a launch's, and no more than its share of the call.

        Calls that the GPU runs something for (launches, copies) cost a launch's, others less: some last 0.1 µs with
        all that tracing adds to them.
        """
        most = (*CALL_SHARES, 1.0)
        works = np.isin(kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY))
        length = np.maximum(end - start, 0)
        return tuple(
            np.minimum(cost, np.where(works, 1.0, share) * length)
            for cost, share in zip(self.call.interval, (*most[:2], CALL_SHARES[1]), strict=True)
        )


def call_cost(start: Int64Array, end: Int64Array, kind: NDArray[np.int8]) -> Cost:
    """Cost of a launch call, from the launches of kernels among these calls (columns of shape (n,))."""
    launches = kind == CallKind.LAUNCH
    if launches.sum() < ENOUGH:
        return Cost(*CALL_NS, "known from other runs; the trace has too few launches to tell by")
    shortest = float(np.percentile((end - start)[launches], 10))
    low, point = (share * shortest for share in CALL_SHARES)
    return Cost(low, point, max(point, shortest - UNTRACED_LAUNCH_NS), "from the trace's shortest launch calls")


def range_cost(start: Int64Array, end: Int64Array, parent: Int64Array, call_start: Int64Array) -> Cost:
    """Cost of a push/pop range, from TensorRT's ranges (columns of shape (n,), in order of start) that call nothing.

    Of such a range and the next one under the same parent nothing but the ranges themselves takes time: the cost is
    from one start to the next. `call_start` are all API calls, in order; without any the ranges say nothing. Half of
    the shortest is the least, since the layer's own code may be in it.
    """
    known = Cost(*RANGE_NS, "known from other runs; the trace has no empty ranges to tell by")
    if start.size < ENOUGH or not call_start.size:
        return known
    calls = np.searchsorted(call_start, start)
    siblings = (parent[1:] == parent[:-1]) & (parent[1:] >= 0) & (end[:-1] <= start[1:])
    quiet = np.flatnonzero(siblings & (calls[1:] == calls[:-1]))
    period = (start[1:] - start[:-1])[quiet]
    # Longer ones do something that calls nothing: shape inference, a plug-in's own code.
    period = period[period <= 2 * RANGE_NS[2]]
    if period.size < ENOUGH:
        return known
    low, point, high = np.percentile(period, [10, 50, 90]).tolist()
    return Cost(low / 2, point, high, "from the trace's ranges around layers that call nothing")


def graph_node_cost(launch: Int64Array, nodes: Int64Array) -> Cost:
    """Cost of a node that is launched with its graph, from the lengths of graph launches and their traced nodes."""
    real = nodes > 0
    if not real.any():
        return Cost(*GRAPH_NODE_NS, "known from other runs; the trace has no nodes of graphs")
    most, likely = (float(np.median(np.maximum(launch - less, 0)[real] / nodes[real])) for less in GRAPH_LAUNCH_NS)
    return Cost(likely / 2, likely, most, "from the length of the trace's graph launches")


def savings(
    lane: Int64Array, gap: Int64Array, least: Int64Array, slack: Int64Array, cost: FloatArray, first: FloatArray
) -> FloatArray:
    """How much earlier the work behind each gap starts once tracing costs nothing, shape (n,), nanoseconds.

    Gaps come in order of time within each `lane` (an inference; lanes ascend). A gap of length `gap` cannot get shorter
    than `least`; the work that ends it was there `slack` before it started, and is launched `cost` earlier than in the
    trace, as is the work before the first gap of each lane (`first`, shape (lanes)). So, with s the saving:
    s[k] = min(s[k - 1] + gap[k] - least[k], slack[k] + cost[k]), which is a running minimum of what is left after the
    room so far is taken off; never negative, and no gap gets longer than it was by more than what came before it.
    """
    if not lane.size:
        return np.zeros(0)
    room = np.cumsum(np.maximum(gap - least, 0))
    head = np.append(True, lane[1:] != lane[:-1])
    reach = np.maximum(slack, 0) + np.maximum(cost, 0)
    taken = np.maximum(gap - least, 0)
    # A lane begins afresh: what the work before its first gap saves stands in for the gap before.
    reach = np.where(head, np.minimum(reach, first[lane] + taken), reach)
    away = 2 * (float(np.abs(reach).max()) + float(room[-1]) + 1)
    order = np.cumsum(head) * away
    earlier: FloatArray = np.minimum.accumulate(reach - room - order) + room + order
    return np.maximum(earlier, 0.0)


@dataclass(frozen=True)
class Calibrated:
    """Host buckets and wall of inferences without the profiler, each of shape (n,), nanoseconds."""

    launch: FloatArray
    host: FloatArray
    wall: FloatArray


def calibrate(buckets: dict[str, Int64Array], saved: FloatArray, untraced_wall_ns: float | None = None) -> Calibrated:
    """The accounting with what tracing cost taken out of the host's buckets; all others stay as they are.

    `buckets` are the columns wall_ns, launch_ns and host_ns of `inferences`; `saved` is what each one's wall loses. It
    is taken from both in proportion, and no more than is there. An untraced benchmark's median wall, where there is
    one, takes the place of the estimate: the wall's median is that, and `saved` is scaled to give it.
    """
    launch, host = buckets["launch_ns"], buckets["host_ns"]
    both: BoolArray = launch + host
    if untraced_wall_ns is not None and saved.size:
        saved = np.full(saved.shape, max(float(np.median(buckets["wall_ns"])) - untraced_wall_ns, 0.0))
    taken = np.clip(saved, 0, both)
    left = 1 - taken / np.maximum(both, 1)
    return Calibrated(launch * left, host * left, buckets["wall_ns"] - taken)
