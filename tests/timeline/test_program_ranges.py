"""Which NVTX ranges of a program's own are its requests, and what is taken where none are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawing import draw
from drawn_columns import Drawn, repeated, words_of

from nsight_tools.timeline.populations import name_keys
from nsight_tools.timeline.requests import kinds_of

if TYPE_CHECKING:
    from nsight_tools.timeline.requests import Found


def found(text: str, times: int = 6) -> Found:
    return Drawn(repeated(times, text)).found()


def about(one: Found) -> tuple[set[str], int, str, str]:
    """Source and number of the requests, the name that they have, and the other candidate's."""
    return set(one.requests.source.tolist()), len(one.requests), one.name, one.other


def test_a_range_around_each_enqueue() -> None:
    one = found("""
        stream 7:           ...##.....
        thread 1:           ..L.......
        nvtx 1 TensorRT:    ..[e].....
        nvtx 1 app:         [frame.]..
    """)
    assert about(one) == ({"program_range"}, 6, "frame@app", "")
    assert (one.requests.start // 1000).tolist() == [0, 10, 20, 30, 40, 50]
    assert (one.requests.end // 1000).tolist() == [8, 18, 28, 38, 48, 58]


def test_a_range_around_all_gpu_work_of_a_program_without_enqueues() -> None:
    one = found("""
        stream 7:          .>>##.##<<..
        thread 1:          CL.LL...C...
        nvtx 1 default:    [step.....].
    """)
    assert about(one) == ({"program_range"}, 6, "step", "")


def test_of_nested_ranges_the_outermost_is_the_request_and_the_next_one_the_other_candidate() -> None:
    nested = """
        stream 7:           ...##.........
        thread 1:           ..L...........
        nvtx 1 TensorRT:    ..[e].........
        nvtx 1 app:         .[model]......
        nvtx 1 app:         [frame....]...
    """
    assert about(found(nested)) == ({"program_range"}, 6, "frame@app", "model@app")


def test_a_range_that_holds_many_requests_is_an_epoch_where_there_are_few_of_it() -> None:
    """The range that encloses ten steps stands around all work as well; but there are only five of it."""
    step = repeated(10, "stream 7: .##..\nthread 1: L....\nnvtx 1 app: [st].")
    width = max(len(line.split(":")[1].strip()) for line in step.splitlines())
    epoch = f"{step}\n{'nvtx 1 app':<28}: [epoch{'.' * (width - 7)}]"
    assert about(found(epoch, times=5)) == ({"program_range"}, 50, "st@app", "epoch@app")
    assert about(found(epoch, times=10)) == ({"program_range"}, 10 * 1, "epoch@app", "st@app")


def test_names_that_differ_in_numbers_are_one_kind() -> None:
    names = {str(at): f"step {at}: {at % 3} ctx reqs" for at in range(6)}
    text = "\n".join(
        [
            repeated(6, "stream 7: .##...\nthread 1: L....."),
            f"{'nvtx 1 app':<28}: " + "".join(f"[{at}..]." for at in range(6)),
        ]
    )
    assert about(Drawn(text, names=names).found()) == ({"program_range"}, 6, "step *: * ctx reqs@app", "")


def test_what_a_helper_thread_launches_lies_in_the_range_that_is_open_then() -> None:
    """As autograd's backward pass: half of the launches come from a thread without ranges."""
    step = """
        stream 7:      ..##.##.....
        thread 1:      .L.......SS.
        thread 2:      ....L.......
        nvtx 1 app:    [step.....].
    """
    assert about(found(step)) == ({"program_range"}, 6, "step@app", "")
    drawn = Drawn(repeated(6, step))
    assert [row["kernels"] for row in drawn.rows()] == [2] * 6


@pytest.mark.parametrize(
    "text",
    [
        # Around one of two kernels.
        "stream 7: .##.##...\nthread 1: L..L.....\nnvtx 1 app: [a]......",
        # Around the work of one of two threads, both of which have such ranges.
        """
        stream 7:      .##..##...
        thread 1:      L.........
        thread 2:      ....L.....
        nvtx 1 app:    [a]......
        nvtx 2 app:    [a]......
        """,
        # Around nothing that launches.
        "stream 7: ......##.\nthread 1: .....L...\nnvtx 1 app: [a]......",
    ],
)
def test_ranges_around_a_part_of_the_work_are_no_requests(text: str) -> None:
    assert "program_range" not in set(found(text).requests.source.tolist())


def test_fewer_than_five_are_parts_of_a_run() -> None:
    text = "stream 7: .##..\nthread 1: L....\nnvtx 1 app: [st]."
    assert len(found(text, times=4).requests) == 0
    assert len(found(text, times=5).requests) == 5


def test_ranges_of_libraries_are_no_requests() -> None:
    text = "stream 7: .##..\nthread 1: L....\nnvtx 1 NCCL: [st]."
    assert len(found(text).requests) == 0


def test_layers_around_the_only_kernel_of_an_enqueue_are_no_requests() -> None:
    assert about(
        found("""
        stream 7:           ...##.....
        thread 1:           ..L.......
        nvtx 1 TensorRT:    [e......].
        nvtx 1 TensorRT:    .[conv]...
    """)
    ) == ({"enqueue_range"}, 6, "", "")


EVERYTHING = """
    stream 7:               ...##.##....ggg..
    thread 1:               ..L..L.....G.....
    nvtx 1 nsight_tools:    [x..............]
    nvtx 1 app:             [frame..........]
    nvtx 1 TensorRT:        ..[e]............
    nvtx 1 TensorRT:        .....[f].........
"""


def without(*labels: str) -> str:
    return "\n".join(
        line for line in EVERYTHING.splitlines() if line.strip() and not any(one in line for one in labels)
    )


@pytest.mark.parametrize(
    ("text", "source", "count"),
    [
        (without(), "inference_range", 6),
        (without("nsight_tools"), "program_range", 6),
        (without("nsight_tools", "app"), "enqueue_pattern", 6),
        (without("nsight_tools", "app", "[f]"), "enqueue_range", 6),
        (without("nvtx"), "graph_launch", 6),
    ],
)
def test_the_best_source_is_taken(text: str, source: str, count: int) -> None:
    """Ours, the program's own, a fixed order of two engines, one enqueue, one graph."""
    drawn = Drawn(
        repeated(6, text),
        options={"kernel_names": ["one", "two"] * 6},
        names={"f": "ExecutionContext::enqueueV3"},
    )
    one = drawn.found()
    assert (set(one.requests.source.tolist()), len(one.requests)) == ({source}, count)


def test_iterations_of_a_program_that_marks_nothing() -> None:
    """A copy up, three kernels and a copy down: the turn begins with the copy up."""
    text = repeated(
        8,
        """
        stream 7:    ..>>##.##.##<<....
        thread 1:    .C.L..L..L.C.SS...
        """,
    )
    one = Drawn(text, options={"kernel_names": ["a", "b", "c"] * 8}).found()
    assert about(one) == ({"iteration"}, 8, "", "")
    assert one.alike == 1.0
    assert (one.requests.start // 1000 % 18).tolist() == [1] * 8
    rows = Drawn(text, options={"kernel_names": ["a", "b", "c"] * 8}).rows()
    assert {(row["kernels"], row["copies"]) for row in rows} == {(3, 2)}


def test_a_program_that_repeats_nothing_has_no_requests() -> None:
    text = repeated(8, "stream 7: ..>>##.##.##<<....\nthread 1: .C.L..L..L.C.SS...")
    options = {"kernel_names": [f"kernel {at * at % 97}" for at in range(24)], "size_bytes": list(range(16))}
    assert len(Drawn(text, options=options).found().requests) == 0


# What names say


def keys(names: list[str], group_by: str | None = None) -> list[int]:
    words = words_of(draw("nvtx 1: " + "".join(f"[{at:03}]" for at in range(len(names))))["nvtx_ranges"]["name"])
    words = type(words)(words.codes, names)
    said = name_keys(words, np.arange(len(names)), group_by)
    return [said.tolist().index(one) for one in said.tolist()]


def test_a_number_that_counts_up_says_nothing() -> None:
    assert keys([f"step {at}" for at in range(6)]) == [0] * 6
    assert keys([f"step {at} of 6" for at in range(6)]) == [0] * 6


def test_of_other_numbers_counts_whether_they_are_zero() -> None:
    """Prefill and decode of one server, told apart by its own words."""
    batches = [(3, 5), (0, 8), (2, 6), (0, 8), (0, 7), (3, 5), (0, 8), (2, 6)]
    names = [f"_forward_step {at}: {ctx} ctx reqs, {gen} gen reqs" for at, (ctx, gen) in enumerate(batches)]
    assert keys(names) == [0, 1, 0, 1, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("text", "expected"), [("ctx reqs", [0, 1, 2, 1]), ("gen reqs", [0, 1, 0, 1]), ("batch", [0, 0, 0, 0])]
)
def test_the_number_that_the_user_names_counts_with_its_value(text: str, expected: list[int]) -> None:
    names = ["0: 3 ctx reqs, 5 gen reqs", "1: 0 ctx reqs, 8 gen reqs", "2: 2 ctx reqs, 5 gen reqs"]
    assert keys([*names, "3: 0 ctx reqs, 8 gen reqs"], text) == expected


def test_a_named_number_may_stand_behind_its_text() -> None:
    assert keys(["batch=1 seq=7", "batch=2 seq=8", "batch=1 seq=9"], "batch") == [0, 1, 0]


def test_names_without_numbers_are_of_one_kind() -> None:
    words = words_of(draw("nvtx 1: [a 1][b 2.5][a 22][a]")["nvtx_ranges"]["name"])
    assert [kinds_of(words).at(at) for at in range(4)] == ["a *", "b *", "a *", "a"]
