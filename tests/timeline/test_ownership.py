"""Whose the work around an enqueue is, by drawings: requests that nobody marked take copies and kernels around them."""

from __future__ import annotations

import pytest
from drawn_columns import Drawn, repeated

from nsight_tools.timeline.ownership import assign_work


def pieces_of(text: str, times: int = 4) -> list[str]:
    """For each request the pieces of work that are its own, as places within its turn: 0 is the turn's first piece.

    A piece of the turn before stands with a minus, one of the next with a plus.
    """
    drawn = Drawn(repeated(times, text))
    owner = assign_work(drawn.inferences(), drawn.calls, drawn.work)
    order = drawn.work.start.argsort()
    each = len(order) // times
    found: list[list[str]] = [[] for _ in drawn.inferences().start]
    for place, row in enumerate(order.tolist()):
        mine, turn = int(owner[row]), place // each
        if mine >= 0:
            found[mine].append("+" * (turn - mine) + "-" * (mine - turn) + str(place % each))
    return [" ".join(one) for one in found]


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (
            "a copy each way around it",
            """
            stream 7:           .>>.##.<<.....
            thread 1:           C..L...C.SS...
            nvtx 1 TensorRT:    ..[e].........
            """,
        ),
        (
            "pre-processing behind the input, post-processing before the output",
            """
            stream 7:           .>>.##.##.##.<<.....
            thread 1:           C..L..L..L...C.SS...
            nvtx 1 TensorRT:    .....[e]............
            """,
        ),
        (
            "a copy to the host before the enqueue, which the host waits for: it reads a number of what to enqueue",
            """
            stream 7:           .>>.##.<......##.<<.....
            thread 1:           C..L..C.SS...L..C..SS...
            nvtx 1 TensorRT:    ............[e].........
            """,
        ),
        (
            "no input is copied: pre-processing follows the copy of the result before",
            """
            stream 7:           .##.....##..<<.....
            thread 1:           L.......L...C..SS..
            nvtx 1 TensorRT:    .......[e].........
            """,
        ),
        (
            "a set before, and copies on the GPU on both sides",
            """
            stream 7:           .00.>>.##.==.<<....
            thread 1:           C..C...L..C..C.SS..
            nvtx 1 TensorRT:    ......[e]..........
            """,
        ),
        (
            "two waits and two copies behind it: boxes, then what they hold",
            """
            stream 7:           .>>.##.<<......<<.....
            thread 1:           C..L...C.SS...C..SS...
            nvtx 1 TensorRT:    ..[e].................
            """,
        ),
    ],
)
def test_each_request_owns_what_lies_around_it(about: str, text: str) -> None:
    drawn = Drawn(text)
    whole = " ".join(map(str, range(len(drawn.work.start))))
    first, *rest = pieces_of(text)
    assert rest == [whole] * 3, about
    assert first == whole or set(first.split()) <= set(whole.split()), about  # nothing came before it to tell by


def test_the_next_input_is_copied_before_this_ones_result() -> None:
    """Two inputs in turns: the copy up belongs to the next request, the copy down to this one."""
    text = """
        stream 7:           .##.......<<...
        stream 8:           ...>>>.........
        thread 1:           L..C......C.SS.
        nvtx 1 TensorRT:    [e]............
    """
    assert pieces_of(text) == ["0 2", "-1 0 2", "-1 0 2", "-1 0 2"]


def test_a_copy_to_the_host_behind_two_waits_is_not_the_earlier_ones() -> None:
    """Its result is there, and was waited for; what is copied then, and waited for, is read to enqueue the next."""
    text = """
        stream 7:           .##.<<...........<....
        thread 1:           L..C..SS..SS...C..SS..
        nvtx 1 TensorRT:    [e]...................
    """
    assert pieces_of(text) == ["0 1", "-2 0 1", "-2 0 1", "-2 0 1 2"]  # behind the last one nothing says so


def test_what_a_graph_launches_between_two_enqueues_is_somebody_elses() -> None:
    text = """
        stream 7:           .>>.##.<<.gg......
        thread 1:           C..L...C..G.SS....
        nvtx 1 TensorRT:    ..[e].............
    """
    assert pieces_of(text) == ["0 1 2"] * 4


def test_work_of_other_threads_is_nobodys_while_none_is_open() -> None:
    text = """
        stream 7:           .>>.##.<<.....
        stream 8:           ...........##.
        thread 1:           C..L...C.SS...
        thread 2:           ..........L...
        nvtx 1 TensorRT:    ..[e].........
    """
    assert pieces_of(text) == ["0 1 2"] * 4


# When the host knew


def ends(text: str) -> list[int]:
    return [row["end"] for row in Drawn(text).rows()]


def test_the_wait_in_which_the_host_learns_of_the_end_is_part_of_the_request() -> None:
    text = """
        stream 7:           .>>.##.<<........
        thread 1:           C..L...C.SSSSSS..
        nvtx 1 TensorRT:    ..[e]............
    """
    assert ends(text) == [15]
    assert ends(text.replace(".SSSSSS.", "..SSSSSS")) == [9]  # all is done when the wait begins


def test_it_ends_with_the_wait_that_had_begun_when_its_last_work_ended() -> None:
    text = """
        stream 7:           .##.<<............
        thread 1:           L..CSSSSS..SSSS...
        nvtx 1 TensorRT:    [e]...............
    """
    assert ends(text) == [9]


def test_a_wait_of_another_thread_or_behind_the_next_request_says_nothing() -> None:
    other = """
        stream 7:           .##.<<.......
        thread 1:           L..C.........
        thread 2:           ....SSSSS....
        nvtx 1 TensorRT:    [e]..........
    """
    assert ends(other) == [6]
    later = """
        stream 7:           ....##........
        stream 8:           .......##.....
        thread 1:           L..L....SSSSS.
        nvtx 1 TensorRT:    [e]...........
        nvtx 1 TensorRT:    ...[e]........
    """
    assert ends(later) == [6, 13]  # the first was done before, and nobody waited for it


def test_a_marked_request_ends_as_marked() -> None:
    text = """
        stream 7:    .##.<<.......
        thread 1:    L..CSSSSS....
        nvtx 1:      [x].[x]......
    """
    assert ends(text) == [3, 7]
