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

from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.intervals import pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsight_tools.timeline.intervals import Int64Array, IntArray

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

CALL_SHARES = (0.15, 0.3)
"""Least and likely share of the 10th percentile of the launch calls that is tracing.

Untraced enqueues take 4.0 µs a kernel where traced ones, less their ranges, take 4.7 to 5.1: 0.8 to 1.1 µs of calls
whose 10th percentile is 2.7 to 3.3 µs. The least is half of that.
"""
UNTRACED_LAUNCH_NS = 1_500
"""A kernel launch takes no less without the profiler (some 2 µs are usual): what is longer may all be tracing."""
MOST_NS = 4_500
"""All that tracing added to a launch, its ranges too, in the captures that it slowed most."""
CALL_NS = (400.0, 1_000.0, 3_000.0)
"""Where the trace has no launch calls. The most is what trtexec's own captures lost a launch, less their ranges."""
RANGE_NS = (200.0, 500.0, 1_000.0)
"""Where the trace has no ranges to tell by: 0.4 to 0.5 µs on a fast CPU, 0.8 on a slower one."""
GRAPH_NODE_NS = (400.0, 700.0, 1_400.0)
"""Where no launch of a graph of nodes was traced: 0.5 µs between two of our captures, 1.3 to 1.4 with trtexec."""
GRAPH_LAUNCH_NS = (3_000, 6_000)
"""Launching a graph of 100 to 137 kernels without the profiler."""
WORKS = np.array([kind in {CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY} for kind in CallKind])
"""Kinds of calls that the GPU runs something for."""
_COSTS_ITS_TIME = np.array([not works and kind != CallKind.SYNC for kind, works in zip(CallKind, WORKS, strict=True)])
ENOUGH = 20
"""Calls or ranges of which a percentile says something."""
SAMPLE = 100_000
"""The first so many calls or ranges tell as much as all of a long trace."""


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
    share: tuple[float, float, float] = (*CALL_SHARES, CALL_SHARES[1])
    """Of the time in all other calls: least, likely, most."""

    def scaled(self, factors: tuple[float, float, float], source: str) -> Tracing:
        """So many times the likely costs, at least, likely and at most (0 <= each <= the next); known by `source`."""
        low, point, high = factors
        call, each, node = (
            Cost(low * one.point, point * one.point, high * one.point, source)
            for one in (self.call, self.range, self.graph_node)
        )
        shares = (min(low * self.share[1], 1), min(point * self.share[1], 1), min(high * self.share[1], 1))
        return Tracing(call, each, node, shares)

    def cost(self, counts: Counts) -> tuple[FloatArray, ...]:
        """What tracing added to so many events: low, point, high, each of shape (n,)."""
        costs = zip(self.call.interval, self.share, self.range.interval, self.graph_node.interval, strict=True)
        return tuple(
            counts.launches * launch + counts.other_ns * share + counts.ranges * each + counts.nodes * node
            for launch, share, each, node in costs
        )


LONGEST_NS = 5_000
"""A launch with its tracing takes 3 to 5 µs; what a longer call takes beyond that is its own."""


@dataclass(frozen=True)
class Counts:
    """What a host thread did in each of n stretches of time, each column of shape (n,).

    Calls that the GPU runs something for (launches, copies) cost a launch's tracing each. Of all others (`other_ns`,
    their length together) tracing is a share, as of the shortest launch: some last 0.1 µs with all that it adds.
    """

    launches: Int64Array
    other_ns: Int64Array
    ranges: Int64Array
    nodes: Int64Array


@dataclass(frozen=True, eq=False)
class Thread:
    """A host thread: the starts of its calls and ranges in order, and what its calls come to so far, from 0 on."""

    key: int
    calls: Int64Array
    launches: IntArray
    other_ns: Int64Array
    nodes: IntArray
    ranges: Int64Array

    @classmethod
    def of(
        cls,
        key: int,
        start: Int64Array,
        end: Int64Array,
        kind: NDArray[np.int8],
        nodes: IntArray,
        ranges: Int64Array,
    ) -> Thread:
        """From a thread's calls (how many nodes of graphs each launched in `nodes`, or none) and its ranges' starts."""
        launches, other_ns = np.zeros(start.size + 1, np.int32), np.zeros(start.size + 1, np.int64)
        np.cumsum(WORKS[kind], dtype=np.int32, out=launches[1:])
        for piece in pieces(start.size):
            # What waits is no cost, however long: a synchronization's own is a launch's at most. So is that of a call
            # that allocates or loads for milliseconds.
            length = np.where(_COSTS_ITS_TIME[kind[piece]], np.minimum(end[piece] - start[piece], LONGEST_NS), 0)
            np.cumsum(length, out=other_ns[1:][piece])
            other_ns[1:][piece] += other_ns[piece.start]
        sums = np.append(np.int32(0), np.cumsum(nodes, dtype=np.int32)) if nodes.any() else nodes[:0]
        return cls(key, start, launches, other_ns, sums, ranges)

    def between(self, since: Int64Array, until: Int64Array) -> Counts:
        """What starts in each `[since, until)`."""
        first, last = np.searchsorted(self.calls, since), np.searchsorted(self.calls, until)
        last = np.maximum(first, last)
        ranges = np.searchsorted(self.ranges, until) - np.searchsorted(self.ranges, since)
        launches, other = (sums[last] - sums[first] for sums in (self.launches, self.other_ns))
        nodes = self.nodes[last] - self.nodes[first] if self.nodes.size else np.zeros(last.size, np.int64)
        return Counts(launches, other, np.maximum(ranges, 0), nodes)


def call_cost(start: Int64Array, end: Int64Array, kind: NDArray[np.int8]) -> Cost:
    """Cost of a launch call, from the launches of kernels among these calls (columns of shape (n,))."""
    launches = np.flatnonzero(kind == CallKind.LAUNCH)
    if launches.size < ENOUGH:
        return Cost(*CALL_NS, "known from other runs; the trace has too few launches to tell by")
    launches = launches[:SAMPLE]
    shortest = float(np.percentile(end[launches] - start[launches], 10))
    low, point = (share * shortest for share in CALL_SHARES)
    high = max(point, min(shortest - UNTRACED_LAUNCH_NS, MOST_NS))
    return Cost(low, point, high, "from the trace's shortest launch calls")


def range_cost(start: Int64Array, end: Int64Array, parent: Int64Array, call_start: Int64Array) -> Cost:
    """Cost of a push/pop range, from TensorRT's ranges (columns of shape (n,), in order of start) that call nothing.

    Of such a range and the next one under the same parent nothing but the ranges themselves takes time: the cost is
    from one start to the next. `call_start` are all API calls, in order; without any the ranges say nothing. Half of
    the shortest is the least, since the layer's own code may be in it.
    """
    known = Cost(*RANGE_NS, "known from other runs; the trace has no empty ranges to tell by")
    if start.size < ENOUGH or not call_start.size:
        return known
    start, end, parent = start[:SAMPLE], end[:SAMPLE], parent[:SAMPLE]
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


def savings(lane: Int64Array, room: Int64Array, cost: FloatArray, first: FloatArray) -> FloatArray:
    """How much earlier the work behind each gap starts where tracing costs nothing, shape (n,), nanoseconds.

    These are the gaps that waited for the host, in order of time within each `lane` (an inference; lanes ascend from 0
    on); `room` is what a gap can lose. The work that ends it was launched `cost` too late, and the work before the
    first gap of each lane `first` (shape (lanes,)). So, with s the saving: s[k] = min(s[k - 1] + room[k], cost[k]),
    which is a running minimum once the room so far is taken off. Work that had been launched before its gap began does
    not bind: it moves up with the work before it, and its launch by no less. Never negative.
    """
    if not lane.size:
        return np.zeros(0)
    head = np.append(True, lane[1:] != lane[:-1])
    heads = np.flatnonzero(head)
    member = np.cumsum(head) - 1
    room = np.maximum(room, 0)
    before = np.cumsum(room) - room
    so_far = before + room - before[heads][member]
    reach = np.where(head, np.minimum(cost, first[lane] + room), cost)
    earlier: FloatArray = _least_so_far(reach - so_far, np.arange(lane.size) - heads[member]) + so_far
    np.maximum(earlier, 0.0, out=earlier)
    return earlier


def _least_so_far(value: FloatArray, place: Int64Array) -> FloatArray:
    """The running minimum within each lane, where `place` counts from 0; by doubling, log2(longest lane) rounds.

    A running minimum over all, with the lanes laid apart from each other, would round by where a lane comes to lie.
    """
    least, step = value.copy(), 1
    for _ in range(int(place.max()).bit_length()):
        least[step:] = np.minimum(least[step:], np.where(place[step:] >= step, least[:-step], np.inf))
        step *= 2
    return least


@dataclass(frozen=True)
class Accounted:
    """Host buckets and wall of inferences without the profiler, each of shape (n,), nanoseconds."""

    launch: FloatArray
    host: FloatArray
    sync: FloatArray
    wall: FloatArray


def calibrate(buckets: dict[str, Int64Array], saved: FloatArray, *, waits: bool = False) -> Accounted:
    """The accounting with what tracing cost taken out of the host's buckets; all others stay as they are.

    `buckets` are the columns wall_ns, launch_ns, host_ns and sync_ns of `inferences`; `saved` is what each one's wall
    loses. It is taken from launch and host in proportion, with `waits` from sync what those do not hold (the GPU, too,
    is slower where each node of a graph is traced, and the host waits for it), and no more than is there.
    """
    launch, host, sync = (buckets[name] for name in ("launch_ns", "host_ns", "sync_ns"))
    both = launch + host
    taken = np.clip(saved, 0, both)
    of_sync = np.clip(saved - taken, 0, sync) if waits else np.zeros(len(sync))
    left = 1 - taken / np.maximum(both, 1)
    return Accounted(launch * left, host * left, sync - of_sync, buckets["wall_ns"] - taken - of_sync)
