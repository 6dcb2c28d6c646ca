"""What tracing costs, and how a run would have gone without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nsight_tools.timeline.observer import (
    CALL_NS,
    GRAPH_NODE_NS,
    RANGE_NS,
    Cost,
    Counts,
    Thread,
    Tracing,
    calibrate,
    call_cost,
    graph_node_cost,
    range_cost,
    savings,
)

from nsight_tools.cuda_names import CallKind


def integers(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def launches(length: int, count: int = 20) -> Cost:
    start = np.arange(count, dtype=np.int64) * 10_000
    return call_cost(start, start + length, np.full(count, CallKind.LAUNCH, np.int8))


@pytest.mark.parametrize(
    ("length", "interval"),
    [
        (3_000, (450, 900, 1_500)),  # the most: all but 1.5 µs
        (2_000, (300, 600, 600)),  # that would be less than is likely
        (10_000, (1_500, 3_000, 4_500)),  # the most that was ever seen
        (20_000, (3_000, 6_000, 6_000)),
    ],
)
def test_a_call_costs_a_share_of_the_shortest_launches(length: int, interval: tuple[float, ...]) -> None:
    assert launches(length).interval == pytest.approx(interval)
    assert launches(length).source == "from the trace's shortest launch calls"


def test_too_few_launches_tell_nothing() -> None:
    assert launches(3_000, 19).interval == CALL_NS
    assert "known from other runs" in launches(3_000, 19).source


def empty_ranges(count: int, every: int, parent: int = 0) -> Cost:
    start = np.arange(count, dtype=np.int64) * every
    return range_cost(start, start + every // 2, np.full(count, parent), integers(-1))


def test_a_range_costs_the_time_to_the_next_one_where_nothing_is_called() -> None:
    assert empty_ranges(21, 400).interval == (200, 400, 400)
    assert "from the trace" in empty_ranges(21, 400).source
    assert empty_ranges(20, 400).interval == RANGE_NS  # 19 pairs
    assert empty_ranges(21, 400, parent=-1).interval == RANGE_NS
    assert empty_ranges(21, 2_001).interval == RANGE_NS  # they do something


def test_a_range_in_which_a_call_starts_says_nothing() -> None:
    start = np.arange(21, dtype=np.int64) * 400
    assert range_cost(start, start + 200, np.zeros(21, np.int64), start + 100).interval == RANGE_NS
    assert range_cost(start, start + 200, np.zeros(21, np.int64), integers()).interval == RANGE_NS


def test_a_node_costs_its_share_of_the_graph_launch() -> None:
    assert graph_node_cost(integers(106_000, 5_000), integers(100, 0)).interval == (500, 1_000, 1_030)
    assert graph_node_cost(integers(2_000), integers(100)).interval == (0, 0, 0)
    assert graph_node_cost(integers(2_000), integers(0)).interval == GRAPH_NODE_NS


@pytest.mark.parametrize("interval", [(-1, 0, 1), (2, 1, 3), (1, 3, 2)])
def test_a_cost_is_an_interval_from_zero_on(interval: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not an interval"):
        Cost(*interval, "nowhere")


def test_what_a_thread_did_and_what_that_cost() -> None:
    kinds = np.array([CallKind.LAUNCH, CallKind.OTHER, CallKind.SYNC, CallKind.COPY, CallKind.GRAPH_LAUNCH], np.int8)
    start = integers(0, 1_000, 2_000, 3_000, 4_000)
    thread = Thread.of(1, start, start + 500, kinds, integers(0, 0, 0, 0, 7), integers(0, 900, 1_000, 5_000))
    counts = thread.between(integers(0, 1, 3_000, 9_000), integers(5_000, 1_001, 5_001, 0))
    assert counts.launches.tolist() == [3, 0, 2, 0]
    assert counts.other_ns.tolist() == [500, 500, 0, 0]
    assert counts.ranges.tolist() == [3, 2, 1, 0]
    assert counts.nodes.tolist() == [7, 0, 7, 0]
    tracing = Tracing(Cost(1, 10, 100, ""), Cost(2, 20, 200, ""), Cost(3, 30, 300, ""))
    low, point, high = tracing.cost(counts)
    assert low.tolist() == pytest.approx([3 + 75 + 6 + 21, 75 + 4, 2 + 2 + 21, 0])
    assert point.tolist() == pytest.approx([30 + 150 + 60 + 210, 150 + 40, 20 + 20 + 210, 0])
    assert high.tolist() == pytest.approx([300 + 150 + 600 + 2_100, 150 + 400, 200 + 200 + 2_100, 0])


def test_a_measured_cost_scales_all_that_were_estimated() -> None:
    tracing = Tracing(Cost(1, 10, 100, ""), Cost(2, 20, 200, ""), Cost(3, 30, 300, "")).scaled((0, 2, 5), "measured")
    assert tracing.call == Cost(0, 20, 50, "measured")
    assert tracing.range == Cost(0, 40, 100, "measured")
    assert tracing.graph_node == Cost(0, 60, 150, "measured")
    assert tracing.share == pytest.approx((0, 0.6, 1))
    none = integers(0)
    counts = Counts(integers(1), integers(100), none, none)
    assert [cost.tolist() for cost in tracing.cost(counts)] == [[0], [pytest.approx(80)], [150]]


def slowly(lane: list[int], room: list[int], cost: list[int], first: list[int]) -> list[float]:
    """The formula of `savings`, gap by gap."""
    saved: list[float] = []
    for at, one in enumerate(lane):
        begins = at == 0 or lane[at - 1] != one
        saved.append(max(min((first[one] if begins else saved[-1]) + max(room[at], 0), cost[at]), 0))
    return saved


@st.composite
def gaps(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    lengths = draw(st.lists(st.integers(1, 6), max_size=5))
    lane = [at for at, count in enumerate(lengths) for _ in range(count)]
    times = st.integers(0, 10_000)
    # What tracing cost a thread so far never falls; the first launch comes before the others.
    costs = [sorted(draw(st.lists(times, min_size=count + 1, max_size=count + 1))) for count in lengths]
    room = draw(st.lists(st.integers(-100, 10_000), min_size=len(lane), max_size=len(lane)))
    return lane, room, [cost for each in costs for cost in each[1:]], [each[0] for each in costs]


@given(gaps())
def test_savings_are_the_plain_formula(drawn: tuple[list[int], list[int], list[int], list[int]]) -> None:
    lane, room, cost, first = drawn
    columns = (integers(*lane), integers(*room), np.array(cost, float), np.array(first, float))
    saved = savings(*columns)
    assert saved.tolist() == pytest.approx(slowly(*drawn), abs=1e-3)
    assert (saved >= 0).all()
    assert (saved <= columns[2] + 1e-3).all()


@given(st.integers(1, 100), st.data())
def test_calibrated_host_time_is_never_negative_and_all_else_stays(count: int, data: st.DataObject) -> None:
    times = st.lists(st.integers(0, 1_000_000), min_size=count, max_size=count)
    launch, host, sync, gpu = (integers(*data.draw(times)) for _ in range(4))
    saved = np.array(data.draw(st.lists(st.floats(-1e6, 3e6), min_size=count, max_size=count)))
    waits = data.draw(st.booleans())
    names = ("wall_ns", "launch_ns", "host_ns", "sync_ns")
    buckets = dict(zip(names, (launch + host + sync + gpu, launch, host, sync), strict=True))
    real = calibrate(buckets, saved, waits=waits)
    for bucket in (real.launch, real.host, real.sync):
        assert (bucket >= 0).all()
    assert real.launch + real.host + real.sync + gpu == pytest.approx(real.wall)
    assert (real.wall <= buckets["wall_ns"] + 1e-6).all()
    if not waits:
        assert (real.sync == sync).all()


def test_what_launch_and_host_do_not_hold_was_waited_for() -> None:
    buckets = {"wall_ns": integers(600), "launch_ns": integers(60), "host_ns": integers(30), "sync_ns": integers(200)}
    real = calibrate(buckets, np.full(1, 100.0), waits=True)
    assert [float(each[0]) for each in (real.launch, real.host, real.sync, real.wall)] == [0, 0, 190, 500]
    partly = calibrate(buckets, np.full(1, 45.0), waits=True)
    assert [float(each[0]) for each in (partly.launch, partly.host, partly.sync)] == pytest.approx([30, 15, 200])


def test_counts_of_nothing_cost_nothing() -> None:
    none = integers()
    assert [one.size for one in launches_and_ranges().cost(Counts(none, none, none, none))] == [0, 0, 0]
    assert savings(none, none, np.zeros(0), np.zeros(0)).size == 0


def launches_and_ranges() -> Tracing:
    return Tracing(Cost(*CALL_NS, ""), Cost(*RANGE_NS, ""), Cost(*GRAPH_NODE_NS, ""))
