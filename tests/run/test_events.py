"""What waits for events are for: drawn, against plain loops, and against what Nsight Systems itself says of each."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn
from shared_corpus import CORPUS, decompress

from nsight_tools import open_trace
from nsight_tools.run import Run
from nsight_tools.run.events import NOTHING, UNKNOWN, place
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

RECORD, WAIT = "cudaEventRecord", "cudaStreamWaitEvent"
HOST = {"sync_api": "cudaEventSynchronize"}


def waited_for(text: str, **options: Any) -> list[int]:
    """When the work started that each wait is for, in microseconds; UNKNOWN or NOTHING."""
    run = Run.of(trace := drawn(text, **options))
    found = run.events.waits.behind
    assert trace is run.trace
    return [run.work.start[row].item() // 1000 if row >= 0 else row for row in found.tolist()]


def test_a_wait_is_for_the_last_work_of_the_records_stream() -> None:
    text = """
        thread 1: LlLAalSS...........
        stream 7: ..###.####.........
        stream 8: ...........###.....
    """
    events = [(5, 7), (5, 8), (5, None)]
    options = {"other_api": [RECORD, WAIT], "kernel_calls": [0, 1, 2], "events": events, **HOST}
    assert waited_for(text, **options) == [6, 6]
    assert waited_for(text.replace("7:", "9:"), **options) == [NOTHING, NOTHING]
    assert waited_for(text, **options | {"events": [(4, 7), (5, 8), (5, None)]}) == [UNKNOWN, UNKNOWN]


def test_an_event_that_is_recorded_again_is_waited_for_as_it_was_last() -> None:
    text = """
        thread 1: LALaSSALSS..............
        stream 7: ..##.##.##..............
    """
    events = [(5, 7), (5, 7), (5, None), (5, 7), (5, None)]
    assert waited_for(text, events=events, **HOST) == [5, 5]
    assert waited_for(text, events=[(6, 7), *events[1:]], **HOST) == [5, 5]
    assert waited_for(text, events=[events[0], (6, 7), *events[2:]], **HOST) == [2, 5]


def test_another_processs_event_of_the_same_number_is_another() -> None:
    text = """
        thread 1:           LA...SS.
        stream 7:           ..##....
        thread 2 pid 2000:  ..LA....
        stream 7 pid 2000:  ....##..
    """
    assert waited_for(text, events=[(1, 7), (1, 7), (1, None)], **HOST) == [2]


def test_of_several_waits_the_one_for_what_ends_last_counts() -> None:
    text = """
        thread 1: LAlAaAl..............
        stream 7: .########............
        stream 8: ...###...............
        stream 9: ..........###........
    """
    events = [(1, 7), (2, 8), (1, 9), (2, 9)]
    run = Run.of(trace := drawn(text, other_api=[RECORD, RECORD, WAIT, WAIT], events=events))
    assert run.trace is trace
    stream = place(np.array([1000]), np.array([0]), np.array([9]))
    for since, until, told, start in ((0, 9, True, 1), (5, 9, True, 3), (4, 5, True, 1), (6, 9, False, None)):
        found, row = run.events.of_stream(stream, np.array([since * 1000]), np.array([until * 1000]))
        assert found.tolist() == [told]
        assert row.tolist() == [UNKNOWN] if start is None else run.work.start[row].tolist() == [start * 1000]


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_loops(seed: int) -> None:
    draw = np.random.default_rng(seed)
    at = draw.permutation(3000) + 1
    place_of = lambda: {"pid": int(draw.integers(1, 3)), "device": int(draw.integers(2)), "context": 1}  # noqa: E731
    works = [
        place_of() | {"call_start_ns": t, "call_end_ns": t, "start_ns": t, "end_ns": t + 9, "stream": t % 3, "row": 0}
        for t in at[:100].tolist()
    ]
    records = [place_of() | {"time_ns": t, "event_id": t % 7, "stream": t % 3} for t in at[100:200].tolist()]
    waits = [
        place_of() | {"start_ns": t, "end_ns": t, "event_id": t % 7, "stream": -1, "kind": "event"}
        for t in at[200:300].tolist()
    ]
    launches = table("launches", [work | {"work": "graph"} for work in works])
    tables = {"event_records": table("event_records", records), "synchronizations": table("synchronizations", waits)}
    trace = Trace.from_tables(tables | {"launches": launches})
    run = Run.of(trace)
    want = [_behind(wait, records, works) for wait in sorted(waits, key=lambda wait: wait["start_ns"])]
    start = [run.work.start[row].item() if row >= 0 else row for row in run.events.waits.behind.tolist()]
    assert start == want
    assert {UNKNOWN, NOTHING} < set(want)


def _behind(wait: dict[str, Any], records: list[dict[str, Any]], works: list[dict[str, Any]]) -> int:
    its = [
        record
        for record in records
        if (record["pid"], record["event_id"]) == (wait["pid"], wait["event_id"])
        and record["time_ns"] < wait["start_ns"]
    ]
    if not its:
        return UNKNOWN
    last = max(its, key=lambda record: record["time_ns"])
    before = [
        work["start_ns"]
        for work in works
        if all(work[name] == last[name] for name in ("pid", "device", "stream"))
        and work["call_start_ns"] < last["time_ns"]
    ]
    return max(before, default=NOTHING)


LINKED = """
    SELECT s.correlationId, e.correlationId FROM CUPTI_ACTIVITY_KIND_SYNCHRONIZATION s
    JOIN CUPTI_ACTIVITY_KIND_CUDA_EVENT e ON e.eventSyncId = s.eventSyncId AND e.globalPid = s.globalPid
"""


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["pairs/det_static_overlap", "programs/eventchain", "nccl/straggler_rank0"])
def test_against_the_links_that_newer_reports_have(name: str, tmp_path: Path) -> None:
    decompress(CORPUS / f"{name}.sqlite.zst", export := tmp_path / "report.sqlite")
    with closing(sqlite3.connect(export)) as database:
        linked = dict(database.execute(LINKED).fetchall())
    trace = open_trace(export)
    waits, recorded = Run.of(trace).events.waits, trace.numbers("event_records", "correlation_id")
    called = trace.numbers("api_calls", "correlation_id")[waits.call]
    assert dict(zip(called.tolist(), recorded[waits.record].tolist(), strict=True)) == linked
    assert len(linked) > 100
