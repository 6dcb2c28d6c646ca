"""Small loops that were drawn, and what becomes of them by hand; one character is one microsecond."""

from __future__ import annotations

import pytest
from drawing import table
from drawn_loop import REQUESTS, exactly, loop, program, us

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.assumptions import Assumptions
from nsight_tools.worth.changes import (
    NotReplayedError,
    overlaps,
    with_graph,
    with_overlap,
    with_pinned,
    with_spinning,
)
from nsight_tools.worth.reading import program_of
from nsight_tools.worth.replay import follows_its_pace, replay

STARVED = """
    nvtx 1:    [i................................]......
    thread 1:  CC....LL........LL........LLCCSSSS.......
    stream 7:  ..>>>>..####......####......####<<.......
"""
"""Copies of 4 and 2 µs, three kernels of 4, each done before the next is launched 10 µs later; 41 µs a request."""

BUSY = """
    nvtx 1:    [i........................................].......
    thread 1:  CCLLllLLCCSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS.......
    stream 7:  ..>>>>>>########.########.########.<<...........
"""


def test_a_program_replays_its_own_trace() -> None:
    for text, wall, period in ((STARVED, 35, 41), (BUSY, 43, 50)):
        found = program(text)
        replayed = replay(found, Assumptions.as_traced())
        assert (us(replayed.wall), us(replayed.period)) == (wall, period)
        assert follows_its_pace(found)


def test_what_was_the_bound_has_the_residual() -> None:
    found = program(STARVED)
    assert found.kind.tolist() == [CallKind.COPY, *[CallKind.LAUNCH] * 3, CallKind.COPY, CallKind.SYNC]
    # Each kernel starts as its launch returns; the copy back does so, too, and the wait returns with it.
    assert found.latency[1].tolist() == [0.0] * 5
    assert found.wake[:, 5].tolist() == [0.0] * found.requests
    busy = program(BUSY)
    assert busy.gap[1, 2:].tolist() == [1_000.0, 1_000.0, 1_000.0]  # of kernels that were launched long before
    assert busy.wake[1, 5] == 5_000.0


def test_tracing_costs_the_host_and_the_gpu_hides_it() -> None:
    starved, busy = program(STARVED), program(BUSY)
    # Three launches cost 1 µs less each, so that the last kernel starts 3 µs earlier; nothing else is in the way.
    assert us(replay(starved, exactly(call=1, spin=0)).wall) == 35 - 3
    # The GPU is behind anyway: its work is launched earlier, and ends when it did.
    assert us(replay(busy, exactly(call=1, spin=0)).wall) == 43


def test_a_graph_takes_what_launching_costs() -> None:
    graphed = with_graph(program(STARVED))
    assert graphed.kind.tolist() == [CallKind.COPY, CallKind.GRAPH_LAUNCH, CallKind.COPY, CallKind.SYNC]
    replayed = replay(graphed, exactly(graph_launch=2, graph_latency=1, in_graph=0.5))
    # The copy ends at 6; the launch came at 2 + 4 and takes 2, and the first kernel starts 1 later: at 9. It and the
    # two behind it end at 9 + 3 * 4 + 2 * 0.5 = 22, the copy back (a gap of 1 behind kernels) at 25.
    assert us(replayed.compute) == 22 - 6
    assert us(replayed.wall) == pytest.approx(25, abs=1)


def test_a_graph_leaves_the_hosts_own_work_and_the_gpus_holes() -> None:
    long = "." * 300
    work = program(
        f"""
        nvtx 1:    [i......{"." * 320}]....
        thread 1:  LL..LL{long}LL..LLSSSS......
        stream 7:  ..##..##{long}##..##........
    """
    )
    graphed = with_graph(work)
    assert graphed.kind.tolist().count(CallKind.GRAPH_LAUNCH) == 2
    assert us(replay(graphed, exactly(graph_launch=2)).wall) > 300
    hole = program(
        f"""
        nvtx 1:    [i......{"." * 60}]....
        thread 1:  LLLLSSSSSSSS{"S" * 52}......
        stream 7:  ..##{"." * 40}##............
    """,
        kernel_calls=None,
    )
    assert us(replay(with_graph(hole), exactly(graph_launch=2)).wall) > 40


def test_overlapped_transfers_leave_the_longest_of_host_and_engines() -> None:
    overlapped = with_overlap(program(BUSY))
    replayed = replay(overlapped, exactly(spin=0))
    # Kernels of 8 µs with gaps of 1: 27 µs a request on the GPU; the host needs 10 and what it orders streams by.
    assert us(replayed.period) == 27
    assert overlaps(overlapped)
    with pytest.raises(NotReplayedError, match="already"):
        with_overlap(overlapped)


def test_pinned_copies_take_what_the_link_gives_and_return_at_once() -> None:
    pageable = """
        nvtx 1:    [i.......................].....
        thread 1:  CCCCCCCCCCCCLL......SSSSS.....
        stream 7:  ..>>>>>>>>>...######...........
    """
    found = program(pageable, memory="pageable", size_bytes=4_500)
    assert found.blocking.tolist() == [True, False, False]
    pinned = with_pinned(found)
    # 4,500 bytes at 1 byte a ns and 1.5 µs beside them: 6 for 9.
    after = replay(pinned, exactly(rate=1, copy_call=1))
    assert us(after.wall) < us(replay(found, exactly()).wall) - 3 + 0.001
    with pytest.raises(NotReplayedError, match="pageable"):
        with_pinned(pinned)


def test_a_copy_that_alone_held_the_host_is_waited_for_when_it_is_pinned() -> None:
    """Nothing else waits: without it the host would run ahead of the GPU, by more with each request."""
    found = program(
        """
        nvtx 1:    [i..............................].....
        thread 1:  CCCCCCCCCCCCLL......cccccccccccc......
        stream 7:  ..>>>>>>>>>...######..<<<<<<.........
    """,
        memory="pageable",
        size_bytes=4_500,
    )
    assert found.blocking.tolist() == [True, False, True]
    pinned = with_pinned(found)
    assert pinned.blocking.tolist() == [False, False, True]
    after = replay(pinned, exactly(rate=1, copy_call=1))
    # The copy in takes [3, 9), 2 behind the return of its call; the kernel [10, 16), a gap of 1 behind it; the copy out
    # [17, 23), its call returns 4 later, and the range ends 1 behind that, as they did.
    assert us(after.wall) == 28


def test_waits_that_sleep_wake_later_the_longer_they_slept_and_polling_ends_that() -> None:
    asleep = """
        nvtx 1:    [i......................................................].........
        thread 1:  LLSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS.........
        stream 7:  ..##########..................................................
    """
    found = program(asleep)
    assert found.polls is False
    assert found.wake[1, 1] == 46_000.0
    assert us(replay(found, exactly(deeper=30)).wall) == 58
    spinning = replay(with_spinning(found), exactly(spin=5))
    assert us(spinning.wall) == 12 + 5


def test_a_wait_for_an_earlier_request_is_told_from_one_for_its_own() -> None:
    two = """
        nvtx 1:    ....[i.....]..................
        thread 1:  SSSSLLL.......................
        stream 7:  .......####################...
        stream 8:  ..............................
    """
    trace = loop(two)
    found = program_of(trace)
    assert found is not None
    assert found[1].lag.tolist()[0] == 1
    assert found[1].own == 1


WAITED_AT_ONCE = """
    nvtx 1:    [i........].....
    thread 1:  LLA..SS.........
    stream 7:  .###............
"""
"""The GPU is done before the host waits: only the event's record tells what the wait is for."""


@pytest.mark.parametrize("back", [0, 1, 2, 6])
def test_a_pipeline_is_told_by_what_its_waits_are_for(back: int) -> None:
    events = [each for turn in range(REQUESTS) for each in ((turn % 9, 7), ((turn - back) % 9, None))]
    options = {"sync_api": "cudaEventSynchronize", "events": events}
    assert program(WAITED_AT_ONCE, **options).lag.tolist() == [0, back]
    assert program(WAITED_AT_ONCE, **options, tables={"event_records": table("event_records", [])}).lag.tolist() == [
        0,
        0,
    ]


def test_a_wait_for_the_middle_of_a_request_is_for_none_as_a_whole() -> None:
    middle = """
        nvtx 1:    [i.................].....
        thread 1:  CALLSSSS................
        stream 7:  .>>>>>>.................
        stream 8:  ........###########.....
    """
    options = {"sync_api": "cudaEventSynchronize", "events": [(1, 7), (1, None)] * REQUESTS}
    assert program(middle, **options).lag.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("own", "after"), [(True, [-1, 0]), (False, [-1, -1])])
def test_a_stream_waits_for_its_own_requests_work_or_for_anothers(own: bool, after: list[int]) -> None:
    copied = """
        nvtx 1:    [i..................].....
        thread 1:  CAaL..SSSSSSSSSSSSSS......
        stream 7:  .>>>>....................
        stream 8:  .........#########.......
    """
    events = [each for turn in range(REQUESTS) for each in ((turn, 7), (turn if own else turn - 1, 8))]
    options = {"other_api": ["cudaEventRecord", "cudaStreamWaitEvent"] * REQUESTS, "events": events}
    assert program(copied, **options).after.tolist() == after
    untold = program(copied, **options, tables={"event_records": table("event_records", [])})
    assert untold.after.tolist() == [-1, 0]


def test_requests_that_differ_are_no_loop() -> None:
    once = loop(STARVED, requests=3)
    assert program_of(once) is None
