"""Each owner of a hole by a drawing: submitted work that waits while nothing that was traced runs."""

from __future__ import annotations

from typing import Any, cast

import pytest
from drawing import table
from drawn_trace import drawn

from nsight_tools.run import Run
from nsight_tools.run.holes import HOLE_NS, Owner, holes

LEAST = 3_000


def found(text: str, device: int = 0, **options: Any) -> list[tuple[int, int, Owner]]:
    """The holes of more than 3 us, in microseconds."""
    trace = drawn(text, **options)
    those = holes(Run.of(trace), device, LEAST)
    return [
        (start // 1000, end // 1000, Owner(owner))
        for start, end, owner in zip(those.start.tolist(), those.end.tolist(), those.owner.tolist(), strict=True)
    ]


PLAIN = """
    stream 7:    .##..........##..
    thread 1:    LL...............
    nvtx 1:      [i.............].
"""


def test_nobodys_where_nothing_says_whose() -> None:
    assert found(PLAIN.replace("LL", "Ll")) == [(3, 13, Owner.UNKNOWN)]


def test_a_host_that_has_not_launched_yet_is_no_hole() -> None:
    assert found(PLAIN.replace("LL...............", "L...........L....")) == []


def test_a_short_wait_is_a_gap() -> None:
    trace = drawn(PLAIN.replace("LL", "Ll"))
    assert HOLE_NS == 50_000
    assert not len(holes(Run.of(trace), 0).start)


def test_outside_of_the_steady_state_there_are_none() -> None:
    text = """
        stream 7:    .##..##..........##..
        thread 1:    L...Ll...............
        nvtx 1:      [i.].................
    """
    assert found(text) == []
    assert found(text.replace("[i.].................", "[i................]..")) == [(7, 17, Owner.UNKNOWN)]


def test_work_of_anybody_on_the_gpu_fills_it() -> None:
    text = """
        stream 7:             .##..........##..
        stream 8 pid 2000:    ......####.......
        thread 1:             Ll...............
        nvtx 1:               [i.............].
    """
    assert found(text) == []  # 3 us and 3 us are left
    assert found(text.replace("####", ".#..")) == [(3, 7, Owner.UNKNOWN), (8, 13, Owner.UNKNOWN)]


def test_each_gpu_has_its_own() -> None:
    text = """
        stream 7:                      .##..........##..
        stream 8 device 1 pid 2000:    .#########.......
        thread 1:                      Ll...............
        nvtx 1:                        [i.............].
    """
    assert found(text) == [(3, 13, Owner.UNKNOWN)]
    assert found(text, device=1) == []


def active(percent: float, device: int = 0) -> Any:
    rows = [
        {"time_ns": 1000 * at, "device": device, "metric": "x", "means": "active", "value": percent} for at in range(16)
    ]
    return {"gpu_metrics": table("gpu_metrics", rows)}


def test_another_process_has_the_gpu_where_its_metrics_say_that_it_is_active() -> None:
    text = PLAIN.replace("LL", "Ll")
    assert found(text, tables=active(90.0)) == [(3, 13, Owner.OTHER_PROCESS)]
    assert found(text, tables=active(4.0)) == [(3, 13, Owner.UNKNOWN)]
    assert found(text, tables=active(90.0, device=1)) == [(3, 13, Owner.UNKNOWN)]


DLA = """
    stream 7:             ..##...........##..
    thread 1:             .L...L....l........
    nvtx 1 TensorRT:      [a].[dla].[b]......
    nvtx 1:               [i...............].
"""


def test_a_layer_that_launches_nothing_runs_on_an_accelerator() -> None:
    assert found(DLA.replace(".L...L....l", ".L........l")) == [(11, 15, Owner.ACCELERATOR)]


def test_a_layer_that_launches_does_not() -> None:
    """Its kernel runs before the hole, in which only a layer without any could be at work."""
    text = DLA.replace("..##...........##..", "..##..##.......##..")
    assert found(text) == [(11, 15, Owner.UNKNOWN)]


def test_a_stream_that_was_told_to_wait_for_an_event() -> None:
    text = PLAIN.replace("LL...............", "LAl..............").replace(".##..........##..", ".##..........##..")
    assert found(text, other_api="cudaStreamWaitEvent") == [(3, 13, Owner.EVENT)]
    assert found(text, other_api="cudaEventRecord") == [(3, 13, Owner.UNKNOWN)]


def test_an_event_that_was_waited_for_before_the_last_launch_says_nothing() -> None:
    text = """
        stream 7:    ...##..........##..
        thread 1:    AL.l...............
        nvtx 1:      [i..............]..
    """
    assert found(text, other_api="cudaStreamWaitEvent") == [(5, 15, Owner.UNKNOWN)]


def test_a_stream_that_waits_for_the_host() -> None:
    text = PLAIN.replace("LL...............", "LAl..............")
    assert found(text, other_api="cudaLaunchHostFunc") == [(3, 13, Owner.CALLBACK)]


def migration(start: int, end: int) -> Any:
    row: dict[str, Any] = {
        "start_ns": start * 1000,
        "end_ns": end * 1000,
        "device": 0,
        "context": 1,
        "stream": 0,
        "pid": 1000,
    }
    row |= {"kind": "managed_h2d", "size_bytes": 65_536, "src_memory": "managed", "dst_memory": "managed"}
    return {"memory_ops": table("memory_ops", [row])}


def test_pages_of_managed_memory_that_move() -> None:
    text = PLAIN.replace("LL", "Ll")
    assert found(text, tables=migration(4, 11)) == [(3, 13, Owner.MIGRATION)]
    assert found(text, tables=migration(4, 5)) == [(3, 13, Owner.UNKNOWN)]


@pytest.mark.parametrize(("system", "owner"), [("Windows 11", Owner.BATCHES), ("Ubuntu 22.04", Owner.UNKNOWN)])
def test_windows_sends_launches_in_batches(system: str, owner: Owner) -> None:
    trace = drawn(PLAIN.replace("LL", "Ll"))
    cast("dict[str, Any]", trace.manifest)["system"] = {"os": system}
    assert holes(Run.of(trace), 0, LEAST).owner.tolist() == [owner]


def test_what_the_profiler_takes_is_no_hole() -> None:
    rows = [{"start_ns": 4_000, "end_ns": 12_000, "pid": 1000, "tid": 1, "name": "buffer flush"}]
    tables = {"profiler_overhead": table("profiler_overhead", rows)}
    assert found(PLAIN.replace("LL", "Ll"), tables=tables) == []


def test_those_of_one_owner() -> None:
    trace = drawn(PLAIN.replace("LL", "Ll"), tables=active(90.0))
    those = holes(Run.of(trace), 0, LEAST)
    assert those.of(Owner.OTHER_PROCESS).total == 10_000
    assert those.of(Owner.EVENT, Owner.UNKNOWN).total == 0
    assert those.length.tolist() == [10_000]
