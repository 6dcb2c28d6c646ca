from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from drawn_trace import drawn

from nsight_tools.run import Run
from nsight_tools.run.collectives import Rank, waiting

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

NCCL = "ncclDevKernel_AllReduce_Sum_f16_RING_LL"


def rank(start: list[int], end: list[int], request: list[int], place: list[int], device: int = 0) -> Rank:
    begins, ends, requests, places = (np.array(column, np.int64) for column in (start, end, request, place))
    sums = dict.fromkeys(("time", "exposed", "other", "each", "each_exposed", "each_other"), 0)
    return Rank(1000 + device, device, begins, ends, requests, places, len(set(request)), **sums, kernels={})


def traced(text: str) -> Trace:
    """What is drawn as # are layers, as % collectives."""
    found = [
        (len(label) + run.start(), -len(label) - run.end(), int(label.split()[1]), "#" in run[0])
        for label, _, picture in (line.partition(":") for line in text.splitlines() if "stream" in line)
        for run in re.finditer(r"#+|%+", picture)
    ]
    return drawn(text, kernel_names=["layer" if layer else NCCL for *_, layer in sorted(found)])


TWO_RANKS = """
    stream 7:                      .##%%%%##....##%%##..
    stream 8 device 1 pid 2000:    .##..%%##....##%%##..
    thread 1:                      LlL.........LlL......
    thread 2 pid 2000:             LlL.........LlL......
    nvtx 1:                        [i.......]..[i.....].
    nvtx 2 pid 2000:               [i.......]..[i.....].
"""
"""GPU 0's first collective begins 2 us before its peer's: it waits."""


def test_what_each_rank_communicates() -> None:
    trace = traced(TWO_RANKS)
    first, second = Run.of(trace).ranks
    assert [(one.pid, one.device, one.requests) for one in (first, second)] == [(1000, 0, 2), (2000, 1, 2)]
    assert [(one.time, one.exposed, one.other) for one in (first, second)] == [(6000, 6000, 8000), (4000, 4000, 8000)]
    assert first.request.tolist() == second.request.tolist() == [0, 1]
    assert first.duration.tolist() == [4000, 2000]


def test_what_other_kernels_hide_is_not_exposed() -> None:
    trace = traced("""
        stream 7:    .##%%%%......
        stream 8:    .....####....
        thread 1:    LlL..........
        nvtx 1:      [i.......]...
    """)
    (one,) = Run.of(trace).ranks
    assert (one.time, one.exposed, one.other) == (4000, 2000, 6000)


def test_on_one_clock_a_rank_waits_from_its_own_start_to_the_last_ones() -> None:
    trace = traced(TWO_RANKS)
    found = waiting(Run.of(trace).ranks, one_clock=True)
    assert found is not None
    assert [(one.total, one.each, one.transfer) for one in found] == [(2000, 1000, 2000), (0, 0, 2000)]


def test_without_a_common_clock_it_waits_for_what_it_takes_longer_than_the_shortest() -> None:
    first = rank([0, 100, 200], [90, 130, 230], [0, 0, 1], [0, 1, 0])
    second = rank([7_000, 7_100, 7_200], [7_030, 7_130, 7_260], [0, 0, 1], [0, 1, 0], device=1)
    found = waiting([first, second], one_clock=False)
    assert found is not None
    assert [one.total for one in found] == [60, 30]
    assert [one.each for one in found] == [30, 15]
    assert [one.transfer for one in found] == [45, 45]


def test_no_wait_is_longer_than_the_collective() -> None:
    """A rank that is done before the other begins cannot have waited for it."""
    found = waiting([rank([0], [10], [0], [0]), rank([1_000], [1_050], [0], [0], device=1)], one_clock=True)
    assert found is not None
    assert [one.total for one in found] == [10, 0]


def test_collectives_are_matched_by_request_and_place() -> None:
    """One rank's first collective was not traced: its others are still held against their own partners."""
    first = rank([*range(0, 2000, 100)], [*range(50, 2050, 100)], [*range(20)], [0] * 20)
    late = rank([*range(110, 2010, 100)], [*range(150, 2050, 100)], [*range(1, 20)], [0] * 19, device=1)
    found = waiting([first, late], one_clock=True)
    assert found is not None
    assert [one.each for one in found] == [10, 0]


def test_ranks_of_other_work_are_no_group() -> None:
    one = rank([*range(0, 2000, 100)], [*range(50, 2050, 100)], [*range(20)], [0] * 20)
    assert waiting([one], one_clock=True) is None
    few = rank([0, 100], [50, 150], [0, 1], [0, 0], device=1)
    assert waiting([one, few], one_clock=True) is None


def test_warm_up_of_one_rank_alone_does_not_shift_its_requests() -> None:
    """GPU 1's first request is slow by itself: its second is still held against GPU 0's second."""
    turn = ".##%%##..." * 12
    slow = ".##%%##..." + "." * 120
    text = f"""
        stream 7:                      {slow}{turn}
        stream 8 device 1 pid 2000:    .##{"." * 120}%%##...{turn}
        thread 1:                      {("LlL......." + "." * 120)}{"LlL......." * 12}
        thread 2 pid 2000:             {("LlL......." + "." * 120)}{"LlL......." * 12}
        nvtx 1:                        {"[i.....]..." + "." * 119}{"[i.....].." * 12}
        nvtx 2 pid 2000:               {"[i" + "." * 125 + "].."}{"[i.....].." * 12}
    """
    trace = traced(text)
    first, second = Run.of(trace).ranks
    assert (first.requests, second.requests) == (13, 12)
    assert first.request.tolist() == [*range(13)]
    assert second.request.tolist() == [*range(1, 13)]
    found = waiting([first, second], one_clock=False)
    assert found is not None
    assert replace(found[0], transfer=0) == replace(found[1], transfer=0)
