from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn
from made_run import Request, loop, made

from nsight_tools.run import Run
from nsight_tools.trace import Trace

MS = 1_000_000
REQUEST = Request()
WALL = 179_000
"""Of a made request: 4 + 6 until the copy begins, 20 copied, 130 of kernels, 10 copied, 9 until the host wakes up."""


def test_one_after_the_other() -> None:
    trace = made(loop([REQUEST] * 20))
    flow = Run.of(trace).flow
    assert flow.period_ns == WALL + REQUEST.gap
    assert flow.at_a_time == 1.0
    assert not flow.several


def test_threads_beside_each_other() -> None:
    """Three of them: a request is done three times as often, and three are under way while any is."""
    trace = made(*(loop([REQUEST] * 20, tid=at, stream=at) for at in (1, 2, 3)))
    flow = Run.of(trace).flow
    assert flow.period_ns == pytest.approx((WALL + REQUEST.gap) / 3, abs=1)
    assert flow.at_a_time == 3.0
    assert flow.several


def test_in_flight_is_told_of_each_gpu_by_itself() -> None:
    """Two on one GPU, one on the other: two thirds of the requests see another one beside them."""
    trace = made(
        *(loop([REQUEST] * 20, tid=at, stream=at) for at in (1, 2)),
        loop([REQUEST] * 20, pid=2000, tid=3, device=1),
    )
    flow = Run.of(trace).flow
    assert flow.at_a_time == pytest.approx((2 * 40 + 1 * 20) / 60)
    one, two = (WALL + REQUEST.gap), (WALL + REQUEST.gap) / 2
    assert flow.period_ns == pytest.approx((one + two) / 2, abs=1)


def test_a_pause_is_no_gap() -> None:
    requests = [Request()] * 10 + [Request(gap=50 * MS)] + [Request()] * 9
    trace = made(loop(requests))
    flow = Run.of(trace).flow
    (turns,) = flow.turns.values()
    assert np.flatnonzero(turns.paused).tolist() == [0, 10]
    assert flow.period_ns == WALL + REQUEST.gap
    assert flow.between.total_ns == 18 * REQUEST.gap
    (line,) = flow.loops.values()
    assert len(line) == 2


def allocating(milliseconds: int) -> Trace:
    """A request that is led by a call of so long; it begins a gap of that length, and some more."""
    requests = [Request()] * 10 + [Request(gap=milliseconds * MS + 20_000)] + [Request()] * 9
    rows = loop(requests)
    mine = sorted(rows["nvtx_ranges"], key=lambda row: row["start_ns"])
    before = mine[9]["end_ns"]
    call = {"start_ns": before + 10_000, "end_ns": before + 10_000 + milliseconds * MS, "pid": 1000, "tid": 1}
    call |= {"name": "cudaMalloc", "does": "allocate", "kind": "runtime", "return_value": 0, "correlation_id": 1}
    rows["api_calls"].append(call)
    return made(rows)


@pytest.mark.parametrize("milliseconds", [1, 40, 400])
def test_a_thread_that_allocates_for_long_does_not_pause(milliseconds: int) -> None:
    trace = allocating(milliseconds)
    flow = Run.of(trace).flow
    (turns,) = flow.turns.values()
    assert np.flatnonzero(turns.paused).tolist() == [0]
    # The GPU's idle time is the call's, and no time that the program takes between its requests.
    assert flow.between.total_ns == 18 * REQUEST.gap + 20_000
    (line,) = flow.loops.values()
    assert line.coverage([turns.before[10]], [turns.before[10] + milliseconds * MS]).tolist() == [milliseconds * MS]


def test_the_first_request_behind_the_warm_up_is_led_by_what_lies_before_it() -> None:
    trace = made(loop([Request(host=5 * MS), *[REQUEST] * 20]))
    flow = Run.of(trace).flow
    (turns,) = flow.turns.values()
    assert turns.rows.tolist() == [*range(1, 21)]
    assert not turns.paused.any()
    assert flow.between.count == 20


def waiting(requests: list[Request], share: float) -> Trace:
    """The thread waits in the operating system for this share of each gap."""
    rows = loop(requests)
    marks = sorted(rows["nvtx_ranges"], key=lambda row: row["start_ns"])
    waits = []
    for before, after in pairwise(marks):
        length = after["start_ns"] - before["end_ns"]
        end = before["end_ns"] + round(share * length)
        waits.append({"start_ns": before["end_ns"], "end_ns": end, "pid": 1000, "tid": 1, "name": "poll"})
    trace = made(rows)
    return Trace.from_tables(
        {name: trace.table(name) for name in ("kernels", "memory_ops", "api_calls", "launches", "inferences")}
        | {name: trace.table(name) for name in ("nvtx_ranges", "gpus", "streams", "enqueues")}
        | {"osrt_calls": table("osrt_calls", waits)}
    )


@pytest.mark.parametrize(("share", "waits"), [(1.0, 1.0), (0.7, 0.7), (0.2, 0.2)])
def test_how_much_of_the_gaps_the_thread_waits(share: float, waits: float) -> None:
    trace = waiting([Request(gap=100_000)] * 20, share)
    between = Run.of(trace).flow.between
    assert between.total_ns == 19 * 100_000
    assert between.waits == pytest.approx(waits * between.total_ns)


def test_without_calls_of_the_operating_system_nothing_says_what_it_waits_for() -> None:
    trace = made(loop([REQUEST] * 20))
    assert Run.of(trace).flow.between.waits is None


def on_a_grid(step: int, works: list[int]) -> list[Request]:
    """Requests that begin each `step`, however long the host works in the one before."""
    lengths = [WALL - 16_000 + max(work, 16_000) for work in works]  # of shorter ones the copy takes longer
    gaps = [15_000, *(step - length for length in lengths[:-1])]
    return [Request(host=work, gap=gap) for work, gap in zip(works, gaps, strict=True)]


def test_starts_on_a_grid_are_paced_from_outside() -> None:
    """A camera: what a request takes longer the gap behind it is shorter."""
    works = [5_000 + 1_000 * (at * 7 % 60) for at in range(30)]
    trace = made(loop(on_a_grid(2 * MS, works)))
    between = Run.of(trace).flow.between
    assert (between.regular, between.every_ns) == (True, 2 * MS)


def test_a_program_that_works_between_two_requests_is_on_no_grid() -> None:
    gaps = [60_000 + 1_000 * (at * 17 % 41) for at in range(30)]
    trace = made(loop([Request(gap=gap) for gap in gaps]))
    assert not Run.of(trace).flow.between.regular


def test_a_grid_with_a_pause_in_it_is_one() -> None:
    paced = on_a_grid(2 * MS, [5_000] * 30)
    paced[15] = Request(gap=900 * MS)
    between = Run.of(trace := made(loop(paced))).flow.between
    assert (between.regular, between.every_ns) == (True, 2 * MS)
    assert trace is not None


def test_without_requests() -> None:
    trace = drawn("stream 7: .##..##\nthread 1: L...L..")
    flow = Run.of(trace).flow
    assert (flow.period_ns, flow.at_a_time, flow.turns, flow.loops) == (0, 1.0, {}, {})
    assert (flow.between.total_ns, flow.between.count, flow.between.regular) == (0, 0, False)


def test_what_another_thread_does_meanwhile_is_no_gap() -> None:
    """The GPU works for the second thread while the first one prepares its next request."""
    trace = made(loop([Request(gap=60_000)] * 20), loop([Request(gap=60_000)] * 20, tid=2, stream=8, start=1_120_000))
    run = Run.of(trace)
    assert run.flow.between.gaps.intersection(run.work.busy()).total == 0
    assert run.flow.between.total_ns < 38 * 60_000
