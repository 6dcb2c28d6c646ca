from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawn_columns import BUCKETS, Drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nsight_tools.cuda_names import CallKind
from nsight_tools.tables import TABLES
from nsight_tools.timeline.accelerator import Served
from nsight_tools.timeline.accounting import account
from nsight_tools.timeline.attribution import (
    Calls,
    ThreadSpans,
    Work,
    WorkKind,
)
from nsight_tools.timeline.ownership import assign_work
from nsight_tools.timeline.populations import marks
from nsight_tools.timeline.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable


def test_one_inference() -> None:
    drawn = Drawn("""
        stream 7:    ....>>>...####%%..
        stream 8:    .............=====<<<
        thread 1:    .CCL..l.C.c....SSSSSS..
        nvtx 1:      [inference............]
    """)
    (row,) = drawn.rows()
    assert drawn.buckets() == [
        {
            "compute": 6,  #             10 to 16
            "exposed_h2d": 3,  #          4 to 7
            "exposed_d2h": 3,  #         18 to 21
            "exposed_other_copy": 2,  #  16 to 18; 13 to 16 is hidden
            "launch": 4,  #               1 to 4, 8
            "host": 5,  #                 0, 7, 9, and 21 to 23
        }
    ]
    assert row["wall"] == row["end"] == 23
    assert row["hidden_copy"] == 3
    assert row["queue"] == (4 - 3) + (10 - 4) + (14 - 7) + (13 - 9) + (18 - 11)
    assert (row["kernels"], row["copies"], row["streams"], row["source"]) == (2, 3, 2, "inference_range")


def test_synchronization_and_what_the_profiler_takes() -> None:
    drawn = Drawn(
        """
        stream 7:    .........##...
        thread 1:    L..AA.SS....SS
        nvtx 1:      [inference...]
        """,
        overhead=((4, 7), (11, 12)),
    )
    # Overhead inside of a synchronization is synchronization; inside of other calls or none it is unattributed.
    assert drawn.buckets() == [{"compute": 2, "launch": 1, "sync": 4, "host": 4, "unattributed": 3}]


def test_two_in_flight_wait_behind_each_other() -> None:
    drawn = Drawn(
        """
        stream 7:    ....####......##
        stream 8:    ......##..##....
        thread 1:    L...l...........
        thread 2:    ..L....l....SS..
        nvtx 1:      [inference.....]
        nvtx 2:      ..[inference..].
        """,
        options={"kernel_calls": [0, 1, 3, 2]},
    )
    assert drawn.buckets() == [
        # Its second kernel is submitted at 5 and starts at 14; meanwhile the other's alone runs from 10 to 12.
        {"compute": 6, "other_work": 2, "launch": 1, "host": 7},
        # Its first is submitted at 3 and starts at 6; the other's runs from 4 on.
        {"compute": 4, "other_work": 2, "launch": 1, "sync": 2, "host": 4},
    ]


def test_only_work_on_the_same_gpu_is_waited_behind() -> None:
    drawn = Drawn("""
        stream 7:                      ..........##
        stream 8 device 1 pid 2000:    ..####......
        stream 9 pid 2000:             ......##....
        thread 1:                      L...........
        nvtx 1:                        [inference.]
    """)
    assert drawn.buckets() == [{"compute": 2, "other_work": 2, "launch": 1, "host": 7}]


def test_each_wait_is_for_its_own_gpu() -> None:
    drawn = Drawn(
        """
        stream 7:                      ........##..
        stream 8 device 1:             ..........##
        stream 9 pid 2000:             .....##.....
        stream 6 device 1 pid 2000:    ..##.##.....
        thread 1:                      L.l.........
        nvtx 1:                        [inference.]
        """
    )
    # Device 1 is waited for from 3 on: its work counts from 3 to 4 and, with device 0's, from 5 to 7.
    assert drawn.buckets() == [{"compute": 4, "other_work": 3, "launch": 2, "host": 3}]


def test_an_enqueue_takes_the_copies_around_it() -> None:
    drawn = Drawn(
        """
        stream 7:             ..>>0##<<=....>>.##<<..
        thread 1:             Cc.L.CcA....C..L.C.....
        nvtx 1 TensorRT:      ..[e].........[e]......
        """
    )
    first, second = drawn.rows()
    assert [row["source"] for row in (first, second)] == ["enqueue_range"] * 2
    assert [(row.get("start", 0), row["end"]) for row in (first, second)] == [(0, 10), (12, 21)]
    assert [row["copies"] for row in (first, second)] == [4, 2]


def test_copies_before_the_first_and_after_the_last_enqueue() -> None:
    drawn = Drawn("""
        stream 7:             .<.##..>
        thread 1:             C.L..C..
        nvtx 1 TensorRT:      ..[e]...
    """)
    assert assign_work(drawn.inferences(), drawn.calls, drawn.work).tolist() == [0, -1, -1]


def test_an_inference_range_takes_only_what_is_launched_inside() -> None:
    drawn = Drawn("""
        stream 7:             ..>.##..<
        thread 1:             C..L...C.
        nvtx 1:               ..[x]....
        nvtx 1 TensorRT:      ...[]....
    """)
    assert [(row["start"], row["end"], row["kernels"], row.get("copies", 0)) for row in drawn.rows()] == [(2, 6, 1, 0)]


def test_whole_graphs() -> None:
    drawn = Drawn("""
        stream 7:    ..ggg...ggg
        thread 1:    G.....G....
    """)
    assert drawn.buckets() == [{"compute": 3, "launch": 1, "host": 1}] * 2
    assert [(row["source"], row["graphs"]) for row in drawn.rows()] == [("graph_launch", 1)] * 2


CAPTURED = """
    stream 7:             ..##........nmn.nmn
    thread 1:             .L........G...G....
    nvtx 1 TensorRT:      [e]..[e]...........
"""


def test_an_enqueue_that_was_captured_gives_way_to_the_launches_of_its_graph() -> None:
    rows = Drawn(CAPTURED).rows()
    assert [(row["source"], row["kernels"]) for row in rows] == [
        ("enqueue_range", 1),
        ("graph_launch", 3),
        ("graph_launch", 3),
    ]


def test_graph_launches_behind_all_enqueues_were_captured_before() -> None:
    rows = Drawn(CAPTURED.replace("[e]..[e]", "[e].....")).rows()
    assert [row["source"] for row in rows] == ["enqueue_range", "graph_launch", "graph_launch"]


def test_graph_launches_beside_enqueues_that_work_are_somebody_elses() -> None:
    rows = Drawn("""
        stream 7:             ..##......nmn..##
        thread 1:             .L......G....L...
        nvtx 1 TensorRT:      [e].........[e]..
    """).rows()
    assert [row["source"] for row in rows] == ["enqueue_range", "enqueue_range"]


def test_an_enqueue_that_launches_nothing_is_an_inference_where_no_graph_is_launched() -> None:
    drawn = Drawn("""
        thread 1:             .A.....
        nvtx 1 TensorRT:      [e.]...
    """)
    assert drawn.buckets() == [{"host": 4}]
    assert drawn.account()["device"].tolist() == [-1]


def test_which_ranges_are_inferences() -> None:
    def found(text: str) -> list[tuple[int, int, str]]:
        one = Drawn(text).inferences()
        return list(zip(one.start // 1000, one.end // 1000, one.source.tolist(), strict=True))

    outermost = """
        nvtx 1 TensorRT:    [e........][e]
        nvtx 1 TensorRT:    .[e..]........
        nvtx 2 TensorRT:    .[e]..........
        nvtx 1 other:       ...........[e]
    """
    assert found(outermost) == [(0, 11, "enqueue_range"), (1, 4, "enqueue_range"), (11, 14, "enqueue_range")]
    assert found("nvtx 1 default: .[e]") == [(1, 4, "enqueue_range")]
    assert found("nvtx 1 other: .[inference]") == []
    assert found("nvtx 1: [inference.][inference") == [(0, 12, "inference_range")]
    assert found("nvtx 1: [x..]\nnvtx 1 TensorRT: [e].") == [(0, 5, "inference_range")]
    assert found("nvtx 1 start_end: [inference.]") == [(0, 12, "inference_range")]


def test_without_traced_calls_the_host_is_unknown() -> None:
    assert Drawn("nvtx 1: [inference.]").buckets() == [{"unattributed": 12}]


def test_nothing_at_all() -> None:
    columns = Drawn("stream 7: ...#").account()
    assert {name: values.size for name, values in columns.items() if values.size} == {}


def test_the_columns_are_those_of_the_table() -> None:
    beside = {"population", "mark", "enqueues"}  # what needs more than one request
    assert set(Drawn("nvtx 1: [inference.]").account()) == set(TABLES["inferences"].names) - beside


# The definitions once more, nanosecond by nanosecond.

small = st.integers(0, 25)
LENGTHS = st.integers(0, 12)
HELD = {CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY}
EXPOSED = {
    WorkKind.KERNEL: "compute_ns",
    WorkKind.GRAPH: "compute_ns",
    WorkKind.COMMUNICATION: "exposed_communication_ns",
    WorkKind.H2D: "exposed_h2d_ns",
    WorkKind.D2H: "exposed_d2h_ns",
    WorkKind.OTHER_COPY: "exposed_other_copy_ns",
    WorkKind.SET: "exposed_other_copy_ns",
}


@st.composite
def spans(draw_one: Callable[[Any], Any], *more: Any, most: int) -> list[tuple[int, ...]]:
    """Rows of start, end, and what else is asked for."""
    rows = draw_one(st.lists(st.tuples(small, LENGTHS, *more), max_size=most))
    return [(start, start + length, *rest) for start, length, *rest in rows]


def columns_of(rows: list[tuple[int, ...]], width: int) -> list[np.ndarray]:
    return list(np.array(rows, np.int64).reshape(-1, width).T)


def plain_owner(ranges: list[tuple], sources: list[str], calls: list[tuple], work: list[tuple]) -> list[int]:
    """The request of each piece of work, one after the other."""
    owner, loose = [-1] * len(work), []
    for row, one in enumerate(work):
        if one[-1] < 0:
            continue
        time, thread = calls[one[-1]][0], calls[one[-1]][2:4]
        same = [at for at, it in enumerate(ranges) if it[2:] == thread]
        inside = [at for at in same if ranges[at][0] <= time < ranges[at][1]]
        if inside:
            owner[row] = inside[-1]
        elif not same:
            owner[row] = helped(ranges, thread[0], time)
        elif calls[one[-1]][4] != CallKind.GRAPH_LAUNCH:
            loose.append((time, row, thread))
    for thread in {each[2] for each in loose}:
        takers = [at for at, one in enumerate(ranges) if one[2:] == thread and sources[at] != "inference_range"]
        waits = sorted(one[0] for one in calls if one[2:4] == thread and one[4] == CallKind.SYNC)
        mine = sorted(each[:2] for each in loose if each[2] == thread)
        for row, whose in between([ranges[at] for at in takers], mine, waits, work):
            owner[row] = takers[whose] if 0 <= whose < len(takers) else -1
    return owner


def helped(ranges: list[tuple], process: int, time: int) -> int:
    """The only request of a process that is open then; none where requests of it overlap."""
    mine = sorted((one[0], at) for at, one in enumerate(ranges) if one[2] == process)
    reach = None
    for start, at in mine:
        if reach is not None and start < reach:
            return -1
        reach = max(reach or ranges[at][1], ranges[at][1])
    open_then = [at for start, at in mine if start <= time < ranges[at][1]]
    return open_then[-1] if open_then else -1


def between(
    takers: list[tuple], mine: list[tuple[int, int]], waits: list[int], work: list[tuple]
) -> list[tuple[int, int]]:
    """The place among the thread's requests of each loose piece, given in order of its launch."""
    found, ahead, leads = [], (WorkKind.H2D, WorkKind.SET), {}
    places = [(time, row, sum(one[0] <= time for one in takers) - 1) for time, row in mine]
    for gap in range(-1, len(takers)):
        here = [(time, row) for time, row, place in places if place == gap]
        end = takers[max(gap, 0)][1] if takers else 0
        until = takers[min(gap + 1, len(takers) - 1)][0] if takers else 0
        since = [sum(end <= wait < time for wait in waits) for time, _ in here]
        followed = [sum(time <= wait < until for wait in waits) for time, _ in here]
        kinds = [work[row][2] for _, row in here]
        copied = [WorkKind.D2H in kinds[:at] for at in range(len(here))]
        uploads = [k in ahead and (c or s > 0) for k, c, s in zip(kinds, copied, since, strict=True)]
        begun = False
        for at, (time, row) in enumerate(here):
            other = kinds[at] not in {*ahead, WorkKind.D2H}
            begun = begun or uploads[at] or (other and copied[at] and not any(uploads))
            third = kinds[at] == WorkKind.D2H and since[at] >= 2 and followed[at] > 0
            later = gap < 0 or kinds[at] in ahead or begun or third
            if later and gap >= 0:
                leads[gap] = max(leads.get(gap, 0), until - time)
            doubtful = gap < 0 and (followed[at] > 0 or kinds[at] == WorkKind.D2H)
            found.append((row, gap + 1 if later else gap, until - time if doubtful else None))
    usual = [lead for lead in leads.values() if lead > 0]
    lead = 1.5 * float(np.median(usual)) if usual else 0.0
    return [(row, -1 if before is not None and before > lead else place) for row, place, before in found]


def plain_bucket(  # noqa: PLR0911 (one for each bucket)
    time: int,
    one: tuple,
    own: list[tuple],
    calls: list[tuple],
    work: list[tuple],
    overhead: list[tuple],
    waits: list[tuple],
) -> str:
    """The bucket of one nanosecond of one inference."""
    running = {EXPOSED[w[2]] for w in own if w[0] <= time < w[1]}
    for name in BUCKETS[:5]:
        if name in running:
            return name
    if any(start <= time < end for start, end in waits):
        return "accelerator_ns"
    for mine in own:
        submitted = mine[5] >= 0 and calls[mine[5]][1] <= time < mine[0]
        if submitted and any(w[3] == mine[3] and w[0] <= time < w[1] for w in work):
            return "other_work_ns"
    _, _, pid, tid = one
    if tid < 0 or not any(call[2] == pid for call in calls):
        return "unattributed_ns"
    inside = {call[4] for call in calls if call[2:4] == (pid, tid) and call[0] <= time < call[1]}
    if inside & HELD:
        return "launch_ns"
    if CallKind.SYNC in inside:
        return "sync_ns"
    return "unattributed_ns" if any(o[2:] == (pid, tid) and o[0] <= time < o[1] for o in overhead) else "host_ns"


@settings(max_examples=150)
@given(st.data())
def test_the_accounting_agrees_with_its_definition(data: st.DataObject) -> None:
    pid, tid = st.integers(1, 2), st.integers(-1, 1)
    ranges = sorted(data.draw(spans(pid, tid, most=5)), key=lambda one: (one[0], -one[1]))
    sources = [data.draw(st.sampled_from(["inference_range", "enqueue_range", "graph_launch"])) for _ in ranges]
    calls = data.draw(spans(pid, st.integers(0, 1), st.sampled_from(CallKind), most=10))
    call = st.integers(-1, len(calls) - 1)
    work = data.draw(spans(st.sampled_from(WorkKind), st.integers(0, 2), st.integers(7, 8), call, most=12))
    overhead = data.draw(spans(pid, st.integers(0, 1), most=3))

    none = np.full(len(ranges), -1)
    found = Requests(*columns_of(ranges, 4), none, np.array(sources, "U16"))
    traced, ran = Calls(*columns_of(calls, 5)), Work(*columns_of(work, 6))
    owner = assign_work(found, traced, ran)
    assert owner.tolist() == plain_owner(ranges, sources, calls, work)

    row = st.integers(0, max(len(work) - 1, 0))
    waits = [each for each in data.draw(spans(row, most=4)) if work and each[1] <= work[each[2]][0]]
    waits = [each for each in waits if owner[each[2]] >= 0]
    start, end, behind = columns_of(waits, 3)
    served = Served(behind, start, end)
    columns = account(found, traced, ran, owner, ThreadSpans(*columns_of(overhead, 4)), None, served)
    assert (sum(columns[name] for name in BUCKETS) == columns["wall_ns"]).all()
    for at, one in enumerate(ranges):
        own = [w for w, its in zip(work, owner, strict=True) if its == at]
        launched = [calls[w[5]] for w in own if w[5] >= 0]
        events = [row[:2] for row in (one, *own, *launched)]
        lo, hi = min(start for start, _ in events), max(end for _, end in events)
        its_waits = [each[:2] for each in waits if owner[each[2]] == at]
        times = [plain_bucket(time, one, own, calls, work, overhead, its_waits) for time in range(lo, hi)]
        got = {name: int(columns[name][at]) for name in BUCKETS}
        assert got == {name: times.count(name) for name in BUCKETS}
        assert (columns["start_ns"][at], columns["end_ns"][at]) == (lo, hi)
        copies = [w for w in own if w[2] >= WorkKind.H2D]
        kernels = [w for w in own if w[2] < WorkKind.H2D]
        hidden = [t for t in range(lo, hi) if all(any(w[0] <= t < w[1] for w in some) for some in (copies, kernels))]
        assert columns["hidden_copy_ns"][at] == len(hidden)
        talks = {t for w in own if w[2] == WorkKind.COMMUNICATION for t in range(w[0], w[1])}
        assert columns["hidden_communication_ns"][at] == len(talks) - got["exposed_communication_ns"]
        own_work = sum(got[name] for name in BUCKETS[:5])
        assert columns["gpu_busy_ns"][at] == own_work
        assert columns["queue_ns"][at] == sum(max(0, w[0] - calls[w[5]][1]) for w in own if w[5] >= 0)
        assert columns["streams"][at] == len({w[4] for w in own})
        assert columns["copies"][at] == len(copies)
        assert columns["kernels"][at] + columns["graphs"][at] == len(kernels)
        first = min((w[0] for w in own), default=None)
        assert columns["device"][at] in ({w[3] for w in own if w[0] == first} or {-1})


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        ([100] * 8, [""] * 8),
        ([300, 200, 100, 101, 99, 100, 150, 100], ["warm_up", "warm_up", "", "", "", "", "outlier", ""]),
        ([100, 100, 100, 100, 119], ["", "", "", "", ""]),  # within 1.2 times the median
        ([100, 160, 60, 130, 80, 110, 150], [""] * 7),  # scatter, and nothing that stands out of it
        ([100, 100, 100, 900], [""] * 4),  # too few to tell
    ],
)
def test_marks(wall: list[int], expected: list[str]) -> None:
    none = np.zeros(len(wall), np.int64)
    assert marks(none, none, none, np.array(wall)).tolist() == expected


def test_marks_of_each_thread_by_itself() -> None:
    wall = np.array([10, 100] * 6)
    none = np.zeros(12, np.int64)
    assert marks(np.array([1, 2] * 6), none, none, wall).tolist() == [""] * 12


def test_marks_of_each_population_by_itself() -> None:
    """Two engines take turns, then one of them meets another shape twice: its first there is a change of shape."""
    population = np.array([0, 1] * 6 + [2] * 6 + [0] * 6)
    engine = np.array([0, 1] * 6 + [0] * 12)
    wall = np.array([10, 100] * 6 + [900, *[20] * 5] + [900, *[10] * 5])
    found = marks(np.zeros(24, np.int64), population, engine, wall)
    assert {at: mark for at, mark in enumerate(found.tolist()) if mark} == {12: "shape_change", 18: "shape_change"}
