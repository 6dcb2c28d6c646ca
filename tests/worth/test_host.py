"""What tracing cost the threads of drawn programs, by hand; one character is one microsecond."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn

from nsight_tools.run import Run
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.worth.host import HostCosts
from nsight_tools.worth.known import RANGE_NS
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.tracing import cost_of_launch, cost_of_range

MIXED = f"""
    nvtx 1:   [i{"." * 98}]
    thread 1: LLLLLLLLllllllll.AAAAASSSSSSSSSSGGGGGGGGGG..{"A" * 40}
    stream 7: .......##......##.........nn
"""
"""Two launches 8 µs apart, a call of 5, a wait, the launch of a graph that takes 10, and a call of 40."""
BUSY = """
    nvtx 1:   [i...............................................]
    thread 1: L..............LLLLLLLLLL.........................
    stream 7: .##......................##.......................
"""


class Costs(HostCosts):
    """What tracing cost a drawing, which is held as whoever analyzes a trace holds it."""

    def __init__(self, text: str, enqueue_ns: float | None = None) -> None:
        self.trace = drawn(text)
        super().__init__(Run.of(self.trace), RANGE_NS, enqueue_ns)


def us(costs: tuple[np.ndarray, ...]) -> list[float]:
    """Low, point and high of the first stretch of time, in µs."""
    return [float(each[0]) / 1000 for each in costs]


def cost(text: str, since: int, until: int, tid: int = 1) -> list[float]:
    key = np.array([joint_key(1000, tid)])
    return us(Costs(text).cost(key, np.array([since * 1000]), np.array([until * 1000])))


@pytest.mark.parametrize(
    ("each", "several", "expected"),
    [
        (2_000, False, (0, 0, 0)),
        (3_000, False, (0, 0, 0)),  # it takes as much without the profiler
        (4_000, False, (0, 530, 1_000)),  # a share of 0.53 of what is beyond that; all of it at most
        (8_500, False, (0, 2_915, 5_000)),
        (9_000, False, (0, 3_000, 5_000)),  # no more is likely
        (40_000, False, (0, 3_000, 5_000)),
        (9_000, True, (0, 3_000, 6_000)),
        (40_000, True, (0, 3_000, 10_000)),
    ],
)
def test_a_launch_costs_a_share_of_what_it_takes_beyond_the_least(
    each: float, several: bool, expected: tuple[float, float, float]
) -> None:
    found = cost_of_launch(each, several=several)
    assert (found.low, found.point, found.high) == pytest.approx(expected)


def empty_ranges(count: int, every: int, *, parent: int | None = 0, calls: tuple[int, ...] = (0,)) -> Range:
    """The cost of so many ranges of TensorRT's, as far apart in ns, within one that began before, if any."""
    whole = {"start_ns": 100, "end_ns": 10_000_000, "name": "enqueue"}
    ranges = [
        {"start_ns": 1_000 + every * at, "end_ns": 1_000 + every * at + every // 2, "name": "conv", "parent": parent}
        for at in range(count)
    ]
    where = {"pid": 1000, "tid": 1, "kind": "push_pop", "domain": "TensorRT"}
    tables = {
        "nvtx_ranges": table("nvtx_ranges", [each | where for each in (whole, *ranges)]),
        "api_calls": table(
            "api_calls",
            [{"start_ns": at, "end_ns": at + 10, "name": "cudaEventRecord", "does": "record"} for at in calls],
        ),
    }
    return cost_of_range(drawn("stream 7: #", tables=tables))


def test_a_range_costs_the_time_to_the_next_one_where_nothing_is_called() -> None:
    assert empty_ranges(21, 400) == Range(200, 400, 400)  # half of the shortest: its code may be in it
    assert empty_ranges(21, 3_000) == Range(1_500, 3_000, 3_000)


@pytest.mark.parametrize(
    "known",
    [
        empty_ranges(20, 400),
        empty_ranges(21, 3_001),
        empty_ranges(21, 400, parent=None),
        empty_ranges(21, 400, calls=(0, 1_450)),
        empty_ranges(21, 400, calls=()),
    ],
    ids=["19 pairs", "they do something", "no parent", "a call in one of 20 pairs", "no calls at all"],
)
def test_where_ranges_do_not_tell_it_is_as_known_from_other_runs(known: Range) -> None:
    assert known == RANGE_NS


def test_each_kind_of_event_costs_by_itself_and_what_is_not_known_adds_up_as_errors_do() -> None:
    # Two launches of 8 µs: 2.65 of 5 each, all at most. A call of 5: 0.1, 0.45, 0.75. A wait: nothing. A graph's launch
    # of 10: of the 6 beyond 4 nothing, half, or all. A range: 0.3, 0.8, 3.
    point = 2 * 2.65 + 0.45 * 5 + 3 + 0.8
    below = math.hypot(2 * 2.65, 0.35 * 5, 3, 0.5)
    above = math.hypot(2 * 2.35, 0.3 * 5, 3, 2.2)
    assert cost(MIXED, 0, 40) == pytest.approx([max(point - below, 0), point, point + above])


def test_only_what_starts_in_the_time_counts_and_only_on_the_thread() -> None:
    assert cost(MIXED, 1, 9) == pytest.approx([0, 2.65, 5])
    assert cost(MIXED, 9, 17) == [0, 0, 0]
    assert cost(MIXED, 17, 22) == pytest.approx([0.5, 2.25, 3.75])
    assert cost(MIXED, 22, 32) == [0, 0, 0]
    assert cost(MIXED, 43, 100) == pytest.approx([0.5, 2.25, 3.75])  # 40 µs are work: no more than 5 are looked at
    assert cost(MIXED, 40, 17) == [0, 0, 0]
    assert cost(MIXED, 0, 100, tid=2) == [0, 0, 0]


def test_what_a_launch_takes_has_no_wait_in_it() -> None:
    waits = """
        nvtx 1:   [i..............................]
        thread 1: L.SSSSSSSSSS.....L......SSSSSSSS.
        stream 7: .##########.........##########...
    """
    assert Costs(waits).launch == cost_of_launch(17_000 - 10_000)


@pytest.mark.parametrize(("pid", "most"), [(1000, 10_000), (2000, 5_000)], ids=["of a process", "of two"])
def test_threads_of_a_process_cost_each_other_up_to_twice(pid: int, most: float) -> None:
    """Launches 15 µs apart, on two threads."""
    text = f"""
        nvtx 1:             [i...............................................]
        nvtx 2 pid {pid}:   [i...............................................]
        thread 1:           L..............LLLLLLLLLL.........................
        thread 2 pid {pid}: L..............LLLLLLLLLL.........................
        stream 7:           .##......................##.......................
        stream 8 pid {pid}: .##......................##.......................
    """
    assert Costs(text).launch == Range(0, 3_000, most)


@pytest.mark.parametrize(
    ("enqueue", "expected"),
    [(20_000, (1_900, 2_500, 3_100)), (25_000, (0, 0, 750)), (30_000, (0, 0, 900))],
    ids=["5 of 25 µs faster", "as fast", "slower"],
)
def test_an_untraced_enqueue_says_what_a_launch_costs(enqueue: float, expected: tuple[float, float, float]) -> None:
    """Two launches in 25 µs; another run's enqueue lies within 6 %."""
    launch = Costs(BUSY, enqueue).launch
    assert (launch.low, launch.point, launch.high) == pytest.approx(expected)


def test_how_a_request_is_launched() -> None:
    """From the first launch to the return of the last, the wait between them left out; and kernel to kernel."""
    text = """
        nvtx 1:   [i..............................]..[i.........]
        thread 1: L.SSSSSSSSSS.....L......SSSSSSSS...GG..........
        stream 7: .##########.........##########.......nn........
    """
    launching = Costs(text).launching
    assert len(launching) == 1  # the other one is launched by a graph
    columns = (launching.first, launching.last, launching.enqueue, launching.compute, launching.launches)
    assert [int(each[0]) for each in columns] == [0, 17_000, 18_000 - 10_000, 30_000 - 1_000, 2]


def test_the_host_is_free_where_neither_it_nor_tracing_is_at_work() -> None:
    """Of 50 µs the thread is never seen to wait; 6 are likely tracing's in the launches, 0.8 in the range."""
    costs = Costs(BUSY)
    assert costs.occupied == 50_000 - 6_800
    assert costs.free == 0  # the rest goes with it
    assert costs.share == 1
    waits = BUSY.replace("LLLLLLLLLL.........................", "LLLLLLLLLLSSSSSSSSSSSSSSSSSSSSS....")
    costs = Costs(waits)
    assert (costs.occupied, costs.free) == (29_000 - 6_800, 21_000)
    assert costs.share == pytest.approx(22.2 / 43.2)


def test_threads_without_launches_cost_nothing() -> None:
    costs = Costs("nvtx 1:   [i..]\nthread 1: AAA.\nstream 7: ...#")
    assert (costs.launch, len(costs.launching), costs.occupied) == (Range(0, 0, 0), 0, 0)
