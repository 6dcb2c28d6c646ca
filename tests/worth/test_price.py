"""What changes are promised on drawn loops, and what nothing is promised for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from drawing import table
from drawn_loop import REQUESTS, loop
from drawn_trace import drawn
from made_run import Request, made
from made_run import loop as made_loop
from test_replay import BUSY

from nsight_tools.worth import Untraced, compose, price, untraced_wall
from nsight_tools.worth.price import Pricing
from nsight_tools.worth.ranges import Range

GRAPH, PIN, SPIN, OVERLAP = (
    ("use_cuda_graph", True),
    ("pageable", False),
    ("use_spin_wait", True),
    ("overlap_transfers", True),
)
MANY, IDLE = 12, "." * 26
STARVED = f"""
    nvtx 1:    [i{"." * (30 * MANY + 10)}].........
    thread 1:  CC....{f"LL..{IDLE}" * MANY}CCSSSS.........
    stream 7:  ..>>>>..{f"####{IDLE}" * (MANY - 1)}####....<<........
"""
"""Twelve kernels of 4 µs, each done before the next is launched 30 µs later: 48 µs of work in a request of 372."""
LANES = """
    nvtx 1:    [i......].........[i......].........
    thread 1:  SLL...............SLL...............
    stream 7:  ...####..............................
    stream 8:  .....................####............
"""
THREADS = """
    nvtx 1:    [i...............].........
    nvtx 2:    [i...............].........
    thread 1:  LL..LLSSSSSSSS............
    thread 2:  LL..LLSSSSSSSS............
    stream 7:  ..##..########............
    stream 8:  ..##..########............
"""


def test_a_graph_is_worth_what_launching_costs_where_the_gpu_waits_for_it() -> None:
    starved, busy = (price(loop(text), [GRAPH]) for text in (STARVED, BUSY))
    assert starved.method.startswith("replay of")
    assert starved.per == "wall"
    assert 150_000 < starved.low_ns < starved.point_ns < starved.high_ns < 372_000 - 48_000
    assert busy.point_ns < 3_000  # the gaps of 1 µs


def test_a_program_that_waits_for_nothing_is_judged_by_its_period() -> None:
    """Once its launches are cheap it runs ahead of the GPU: each request is done later, and one as often as before."""
    ahead = STARVED.replace("S", ".")
    worth = price(loop(ahead), [GRAPH])
    assert worth.per == "period"
    assert 150_000 < worth.low_ns < worth.point_ns < worth.high_ns < 382_000 - 48_000


def test_a_pause_in_the_run_changes_no_worth() -> None:
    requests = [Request((5_000,) * 8)] * 20
    paused = [*requests[:7], replace(requests[7], gap=200_000_000), *requests[8:]]
    before, after = (price(made(made_loop(each)), [GRAPH]) for each in (requests, paused))
    assert before.promises
    assert after.point_ns == pytest.approx(before.point_ns, rel=0.02)


def test_a_process_with_a_gpu_of_its_own_is_priced_by_itself() -> None:
    requests = [Request((5_000,) * 8)] * 12
    alone = made_loop(requests)
    own, shared = (made_loop(requests, pid=2_000, tid=2, device=device, stream=9) for device in (1, 0))
    one, beside, together = (price(made(*each), [GRAPH]) for each in ((alone,), (alone, own), (alone, shared)))
    assert (beside.point_ns, beside.per) == (one.point_ns, one.per)
    assert together.method.startswith("bound:")


def test_what_the_trace_has_already_is_worth_nothing() -> None:
    graph = """
        nvtx 1:    [i...................].........
        thread 1:  CCGGCCSSSSSSSSSSSSSS..........
        stream 7:  ..>>nnmmnnmm<<................
    """
    trace = loop(graph)
    for change in (GRAPH, PIN):
        worth = price(trace, [change])
        assert (worth.point_ns, worth.low_ns, worth.high_ns, worth.promises) == (0, 0, 0, False)
        assert worth.method.startswith("nothing to change")


def test_options_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="no such option: batch"):
        price(loop(BUSY), [("batch", 8)])


def test_where_kernels_share_the_gpu_the_answer_is_a_bound() -> None:
    for trace in (loop(LANES), loop(THREADS)):
        for change in (GRAPH, OVERLAP, ("streams", 4), ("threads", 4)):
            worth = price(trace, [change])
            assert worth.method.startswith("bound:")
            assert (worth.point_ns, worth.low_ns, worth.per) == (0, 0, "period")
            assert worth.high_ns <= worth.before_ns
    worth = price(loop(BUSY), [("streams", 4)])
    assert worth.method == "bound: kernels that share the GPU and threads that share its driver: measure it"


def test_what_cannot_be_replayed_is_left_out_of_the_sum_and_said_so() -> None:
    trace = loop(STARVED)
    both, alone = price(trace, [GRAPH, ("streams", 4)]), price(trace, [GRAPH])
    assert both.point_ns == alone.point_ns
    assert both.method.endswith("streams left out: measure it")


def test_pageable_copies_are_not_promised_to_overlap() -> None:
    pageable = """
        nvtx 1:    [i.......................].....
        thread 1:  CCCCCCCCCCCCLL......SSSSS.....
        stream 7:  ..>>>>>>>>>...######...........
    """
    trace = loop(pageable, memory="pageable", size_bytes=4_500)
    assert price(trace, [OVERLAP]).method.startswith("bound: copies of pageable memory")
    assert price(trace, [PIN]).point_ns > 0


def test_what_waits_for_another_process_is_not_promised_to_overlap() -> None:
    hole = f"""
        nvtx 1:    [i{"." * 70}]......
        thread 1:  CCLLllSS{"S" * 60}..........
        stream 7:  ..>>..####{"." * 40}####..........
    """
    worth = price(loop(hole), [OVERLAP])
    assert worth.method.startswith("bound: the GPU waits for what the trace does not show")


def test_without_requests_nothing_is_promised() -> None:
    trace = drawn("stream 7: ..##..")
    assert untraced_wall(trace) is None
    assert price(trace, [GRAPH]).method == "bound: there are no requests to measure it by"


def test_the_wall_without_the_profiler_is_at_most_the_traced_one_and_at_least_the_gpus_work() -> None:
    wall = untraced_wall(loop(STARVED))
    assert wall is not None
    assert 48_000 < wall.wall.low < wall.wall.point <= 372_000
    assert wall.source.startswith("a replay")


def test_an_untraced_run_says_what_the_trace_cannot() -> None:
    trace = loop(STARVED)
    known = Untraced(wall=323_000.0, enqueue=290_000.0, compute=291_000.0, period=333_000.0, requests=1_000)
    pricing = Pricing.of(trace, known)
    assert pricing.before.enqueue[0] == pytest.approx(290_000, abs=500)
    assert pricing.before.wall[0] == pytest.approx(323_000, abs=5_000)
    assert untraced_wall(trace, known) == pricing.wall
    assert pricing.wall is not None
    assert pricing.wall.wall.point == 323_000
    worth = price(trace, [GRAPH], known)
    assert worth.before_ns == 323_000
    assert worth.point_ns < price(trace, [GRAPH]).point_ns
    assert Pricing.of(trace, known) is pricing


def test_an_untraced_run_counts_where_requests_are_not_alike() -> None:
    """Too few for a replay: their wall is the untraced one, and a change is worth at most all of it."""
    trace, known = loop(STARVED, requests=3), Untraced(wall=323_000.0, period=333_000.0)
    pricing = Pricing.of(trace, known)
    assert pricing.program is None
    assert pricing.wall is not None
    assert pricing.wall.wall == Range(323_000 * 0.985, 323_000, 323_000 * 1.015)
    assert pricing.stretch == pytest.approx(373_000 / (323_000 * 1.015))
    worth = pricing.price({"use_cuda_graph": True})
    assert (worth.point_ns, worth.high_ns, worth.before_ns, worth.promises) == (0, 323_000, 323_000, False)


def test_requests_that_are_alike_stand_for_all_only_where_they_are_most() -> None:
    """Every second one waits twice; or the last five of twelve do."""
    once = ("[i......].", "LLSSSSSS..", "..##......")
    twice = ("[i......].", "LLSSS.SS..", "..##......")
    for rows, replayed in (([once, twice] * 6, False), ([once] * 7 + [twice] * 5, True)):
        labels = ("nvtx 1:  ", "thread 1:", "stream 7:")
        text = "\n".join(f"{label} {''.join(row[at] for row in rows)}" for at, label in enumerate(labels))
        trace = drawn(text)
        assert (Pricing.of(trace).program is not None) == replayed


def test_how_long_the_gpu_can_be_idle_only_an_untraced_run_tells() -> None:
    """Copies of 4 µs, twelve kernels of 4: its work takes 4 + 48 + 2 µs of the GPU for each request."""
    trace = loop(STARVED)
    assert Pricing.of(trace).room is None
    assert Pricing.of(trace, Untraced(wall=323_000.0)).room is None
    assert Pricing.of(trace, Untraced(wall=323_000.0, period=333_000.0)).room == 333_000 - 54_000
    assert Pricing.of(trace, Untraced(wall=323_000.0, period=50_000.0)).room == 0


def test_the_enqueue_without_the_profiler() -> None:
    """Its launches are 30 µs apart: 3 of each likely tracing's, at most 5, and 3 left of each at the least."""
    trace = loop(STARVED)
    enqueue = Pricing.of(trace).enqueue
    assert enqueue is not None
    first_to_last = 11 * 30_000 + 2_000
    assert enqueue.point == first_to_last - 12 * 3_000
    assert enqueue.low == pytest.approx(first_to_last - 12 * 5_000)
    assert enqueue.high == first_to_last
    assert Pricing.of(trace, Untraced(wall=323_000.0, enqueue=290_000.0)).enqueue == Range(290_000, 290_000, 290_000)
    none = loop("nvtx 1: [i....]..\nthread 1: GG......\nstream 7: ..nn....")
    assert Pricing.of(none).enqueue is None


def test_overlap_that_was_measured_is_not_modelled() -> None:
    known = Untraced(wall=43_000.0, period=50_000.0, overlapped=30_000.0, requests=1_000)
    worth = price(loop(BUSY), [OVERLAP], known)
    assert (worth.point_ns, worth.per) == (20_000, "period")
    assert worth.method == "measured: by an untraced run of both"


def test_medians_of_a_capture_are_read() -> None:
    medians: dict[str, Any] = {"wall": 1_180.5, "enqueue": 852.0, "compute": None, "of something else": 1.0}
    known = Untraced.from_medians({"median_us": medians, "throughput_per_s": 800.0, "inferences": 1_200})
    assert known == Untraced(wall=1_180_500.0, enqueue=852_000.0, period=1_250_000.0, requests=1_200)
    with pytest.raises(ValueError, match="without a wall"):
        Untraced.from_medians({"median_us": {"enqueue": 1.0}})


def test_the_datasets_own_untraced_run_is_used() -> None:
    rows = [
        {"run": "benchmark", "inference": at, "start_ns": at * 40_000, "wall_ns": 30_000, "enqueue_ns": 20_000}
        for at in range(20)
    ]
    trace = loop(STARVED, tables={"benchmark": table("benchmark", rows)})
    known = Untraced.of(trace)
    assert known is not None
    assert (known.wall, known.enqueue, known.compute, known.period) == (30_000, 20_000, None, 39_500)
    assert Pricing.of(trace).untraced == known
    few = loop(STARVED, tables={"benchmark": table("benchmark", rows[:5])})
    assert Untraced.of(few) is None


def test_changes_together_are_counted_once_and_the_most_useful_comes_first() -> None:
    trace = loop(STARVED)
    stages, left = compose(trace, [SPIN, GRAPH, OVERLAP, ("streams", 4)])
    assert "streams" in left
    assert stages[0].option in {"use_cuda_graph", "overlap_transfers"}
    times = [stage.after_ns for stage in stages]
    assert times == sorted(times, reverse=True)
    assert {stage.together.per for stage in stages} == {"period"}
    made = [(stage.option, stage.value) for stage in stages]
    assert stages[-1].together.point_ns == Pricing.of(trace).price(dict(made), "period").point_ns


def test_more_requests_than_are_sampled_make_no_difference() -> None:
    few, many = (price(loop(STARVED, requests=count), [GRAPH]) for count in (REQUESTS, 8 * REQUESTS))
    assert many.point_ns == pytest.approx(few.point_ns, rel=0.05)
