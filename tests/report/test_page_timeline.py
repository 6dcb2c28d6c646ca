"""The timeline that a page holds: which windows, which lanes, what is packed of them, and where findings lead."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn
from report import fakes

from nsight_tools import Trace, figures
from nsight_tools.analysis import Outcome, Status
from nsight_tools.findings import Evidence
from nsight_tools.report.content import TraceReport
from nsight_tools.report.figures.style import Drawing, plots, tip
from nsight_tools.report.formats.html.explored import policy, timeline
from nsight_tools.report.formats.html.explored.events import Events, pooled
from nsight_tools.report.formats.html.explored.timeline import Timeline, rows

ONE = """
    nvtx 1:            [i.............].
    nvtx 1 TensorRT:   ....[conv]......
    thread 1:          CLlL.......C...SS
    stream 7:          .>>####%%##<<...
"""
TWO = """
    nvtx 1:            [i.............]..[i...................]
    nvtx 1 TensorRT:   ....[conv...]........[conv....].........
    thread 1:          CLlL.......C......CLlLC......C.........S
    stream 7:          .>>####%%##<<......>>####%%##......<<<<.
    stream 8:          .....................00.................
"""


def report(*evidence: Evidence) -> TraceReport:
    """One finding with these places."""
    found = replace(fakes.finding(message="here"), evidence=evidence)
    return TraceReport("x", fakes.SUMMARY, [Outcome(found.code, "x", Status.FINDINGS, "", (found,))])


def made(text: str = TWO, *evidence: Evidence, **options: Any) -> Timeline:
    found = timeline.timeline(drawn(text, **options), report(*evidence))
    assert found is not None
    return found


def test_the_median_the_slowest_and_the_whole_run() -> None:
    found = made()
    assert [each.title.partition(",")[0] for each in found.windows] == ["Inference 0", "Inference 1", "The whole run"]
    first, slowest, whole = found.windows
    assert slowest.look[1] - slowest.look[0] > first.look[1] - first.look[0]
    assert first.lo == first.look[0] - round(0.15 * (first.look[1] - first.look[0]))
    assert whole.lo <= first.look[0] < slowest.look[1] <= whole.hi


def test_waits_for_gpu_work_have_a_lane() -> None:
    where = {"pid": 1, "device": 0, "context": 1, "correlation_id": 1}
    waits = [
        {"start_ns": 5_000, "end_ns": 9_000, "stream": 8, "kind": "stream_wait", "event_id": 3, **where},
        {"start_ns": 9_000, "end_ns": 12_000, "stream": 7, "kind": "stream", "event_id": None, **where},
    ]
    found = made(ONE, tables={"synchronizations": table("synchronizations", waits)})
    lane = next(each for each in found.windows[0].lanes if each.kind == "sync")
    assert lane.label == "waits for GPU work"
    assert [found.texts[each] for each in lane.name] == ["stream 8 waits for an event", "the host waits for stream 7"]


def test_lanes_are_of_the_gpu_then_of_the_host() -> None:
    window = made().windows[1]
    kinds = [(lane.label, lane.kind) for lane in window.lanes]
    assert kinds == [
        ("inferences", "request"),
        ("stream 7", "stream"),
        ("layers of stream 7", "layer"),
        ("stream 8", "stream"),
        ("layers of stream 8", "layer"),
        ("no GPU work", "idle"),
        ("copies to the GPU", "copies"),
        ("copies to the host", "copies"),
        ("thread 1: CUDA calls", "call"),
        ("thread 1: NVTX", "nvtx"),
    ]
    stream = window.lanes[1]
    assert stream.role[:1] == ["h2d"]
    assert stream.role[-1:] == ["d2h"]
    assert stream.queued[-5:] == [0, 1_000, 4_000, 5_000, 5_000]  # from the return of its call to its start
    calls = window.lanes[8]
    assert calls.role[-1] == "sync"


def test_what_is_packed_is_what_was_there() -> None:
    """Unpacked as the page's script does it, each lane is as it was."""
    found = made()
    packed = json.loads(policy.data(found.packed()))
    for window, its in zip(found.windows, packed["windows"], strict=True):
        assert int(its["zero"]) == window.lo
        assert its["span"] == window.hi - window.lo
        for lane, one in zip(window.lanes, its["lanes"], strict=True):
            start = window.lo + np.cumsum(one["s"])
            assert start.tolist() == lane.start.tolist()
            length = one["d"] if isinstance(one["d"], list) else [one["d"]] * len(start)
            assert (start + length).tolist() == lane.end.tolist()
            names = one["n"] if isinstance(one["n"], list) else [one["n"]] * len(start)
            assert names == lane.name


def test_a_finding_leads_to_its_place() -> None:
    place = Evidence("copy", 2_000, "ns", 36_000, 40_000)
    nowhere = Evidence("count", 3, "count")
    beyond = Evidence("later", 1, "ns", 10**9, 10**9 + 5)
    found = made(TWO, place, nowhere, beyond)
    number = found.look(place)
    assert number is not None
    look = found.looks[number]
    assert (look.lo, look.hi) == (36_000, 40_000)
    window = found.windows[look.window]
    assert window.title.startswith("Inference 1")
    assert window.holds(look.lo, look.hi)
    assert found.look(nowhere) is None
    assert found.look(beyond) is not None or all(not each.holds(10**9, 10**9 + 5) for each in found.windows)


def test_no_inferences_and_nothing_at_all() -> None:
    found = made("\n    stream 7:   .>>####%%##<<...\n")
    assert [each.title for each in found.windows] == ["The whole run, 12.0 µs"]
    assert timeline.timeline(Trace.from_tables({}), report()) is None


def test_of_more_pieces_than_a_page_holds_shares_are_told() -> None:
    trace = drawn(ONE)
    lanes = {lane.label: lane for lane in Events(trace).lanes(0, 16_000, 1)}
    stream = lanes["stream 7"]
    assert stream.share
    assert set(stream.name) == {-1}
    assert "layers" not in lanes
    busy = sum(
        (end - start) * share / 100 for start, end, share in zip(stream.start, stream.end, stream.share, strict=True)
    )
    assert busy == pytest.approx(12_000, rel=0.02)


def test_shares_of_roles_are_side_by_side() -> None:
    one, other = np.array([0, 500]), np.array([250, 1000])
    lane = pooled("x", "stream", [("compute", one, other), ("h2d", other[:1], one[1:])], (0, 1000))
    assert set(lane.role) == {"compute", "h2d"}
    assert lane.start.tolist() == sorted(lane.start.tolist())
    assert {share for share, role in zip(lane.share, lane.role, strict=True) if role == "h2d"} == {100}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, 10), (10, 20)], [0, 0]),
        ([(0, 10), (2, 5), (6, 8), (9, 12)], [0, 1, 1, 1]),
        ([(0, 10), (1, 9), (2, 3), (11, 12)], [0, 1, 2, 0]),
    ],
)
def test_what_is_inside_of_another_lies_below_it(pieces: list[tuple[int, int]], expected: list[int]) -> None:
    start, end = (np.array(column) for column in zip(*pieces, strict=True))
    assert rows(start, end) == expected


def test_the_table_says_what_the_lanes_show() -> None:
    found = made()
    told = {row.lane: row for row in timeline.table(found, found.windows[1])}
    assert (told["stream 7"].longest, told["stream 7"].longest_ns) == ("kernel", 4_000)
    assert told["stream 7"].busy_ns == 14_000
    assert (told["stream 8"].pieces, told["stream 8"].longest) == ("1", "memory set")


@pytest.mark.parametrize("text", ["</script><b>", "\u2028\u2029", "<!--", "&amp;", "\ud800", '"\\'])
def test_json_holds_any_name_and_ends_no_script(text: str) -> None:
    written = policy.data({"texts": [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"texts": [text]}


def test_what_is_pointed_at_has_a_title() -> None:
    figure, (axes,) = plots([1.0])
    (bar,) = axes.barh(0, 5)
    tip(bar, "<b>5 µs</b> & more")
    root = ET.fromstring(figures.svg(figure, "x"))
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["<b>5 µs</b> & more"]
    assert isinstance(figure, Drawing)


def test_no_element_of_a_figure_has_a_style() -> None:
    """A page's policy lets none act; weight, size and colour are attributes of their own."""
    figure, (axes,) = plots([1.0])
    axes.set_title("bold", fontweight="bold", fontsize=9)
    axes.plot([0, 1], [0, 1], color="#0072b2", linestyle="--")
    elements = list(ET.fromstring(figures.svg(figure, "x")).iter())
    assert not [each for each in elements if "style" in each.attrib]
    texts = [each for each in elements if each.text == "bold"]
    assert texts[0].get("font-weight") in {"700", "bold"}
    assert texts[0].get("font-size") == "9px"
    assert any(each.get("stroke") == "var(--compute,#0072b2)" and each.get("stroke-dasharray") for each in elements)
