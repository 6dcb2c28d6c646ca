"""Perfetto's traces, read back with Perfetto's own definitions and counted against the export that they come from."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from drawing import table
from drawn_trace import drawn
from hypothesis import given
from hypothesis import strategies as st
from report import fakes
from report.perfetto_reader import Read, read

from nsight_tools import Outcome, Status, Trace, analyze, open_trace
from nsight_tools.findings import Evidence
from nsight_tools.report import safe
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.perfetto import timeline as perfetto
from nsight_tools.report.formats.perfetto.track_events import Annotation, Arrows, Writer
from nsight_tools.summary import summarize

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
THREAD = {"pid": 1000, "tid": 1}


def report_of(trace: Trace, *findings: object) -> TraceReport:
    outcomes = [Outcome(f.code, "what it looks for", Status.FINDINGS, "", (f,)) for f in findings]  # type: ignore[attr-defined]
    return TraceReport("drawn", summarize(trace), outcomes)


def written(trace: Trace, *findings: object) -> Read:
    pieces: list[bytes] = []
    perfetto.write(report_of(trace, *findings), trace, pieces.append)
    return read(b"".join(pieces))


def ranges(*rows: dict[str, object]) -> Trace:
    return Trace.from_tables(
        {"nvtx_ranges": table("nvtx_ranges", [{"domain": "", "kind": "push_pop"} | r for r in rows])}
    )


# ---- against the export


@pytest.fixture(scope="module", params=sorted(path.stem for path in SAMPLES.glob("*.sqlite")))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Read]:
    export = tmp_path_factory.mktemp("perfetto") / f"{request.param}.sqlite"
    shutil.copy(SAMPLES / export.name, export)
    trace = open_trace(export)
    pieces: list[bytes] = []
    events = perfetto.write(TraceReport("x", summarize(trace), analyze(trace)), trace, pieces.append)
    found = read(b"".join(pieces))
    assert events == len(found.slices) + sum(map(len, found.counters.values()))
    return export, found


def times(found: Read, category: str) -> Counter[tuple[int, int | None]]:
    return Counter((one.start, one.end) for one in found.slices if one.category in category.split())


def counted(export: Path, *queries: str) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    with closing(sqlite3.connect(export)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        for query in queries:
            if query.split(" FROM ")[1].split()[0] in tables:
                counts.update(database.execute(query))
    return counts


def test_every_piece_of_gpu_work_is_there_once(sample: tuple[Path, Read]) -> None:
    export, found = sample
    tables = {"kernel": ["KERNEL"], "copy": ["MEMCPY", "MEMSET"], "graph": ["GRAPH_TRACE"]}
    for category, names in tables.items():
        queries = [f"SELECT start, end FROM CUPTI_ACTIVITY_KIND_{name}" for name in names]
        assert times(found, category) == counted(export, *queries)
    on_gpu = [one for one in found.slices if one.category in tables]
    assert on_gpu
    assert all(found.path(one.track).startswith("GPU 0") for one in on_gpu)
    assert all(one.depth == 0 for one in on_gpu if one.start != one.end)


def test_every_api_call_and_range_is_there_once(sample: tuple[Path, Read]) -> None:
    export, found = sample
    assert times(found, "runtime driver") == counted(export, "SELECT start, end FROM CUPTI_ACTIVITY_KIND_RUNTIME")
    query = "SELECT start, coalesce(end, start) FROM NVTX_EVENTS WHERE eventType IN (59, 60)"
    ended = {one: count for one, count in times(found, "nvtx").items() if one[1] is not None}
    assert ended == counted(export, query)


def test_an_arrow_leads_from_the_call_to_its_work(sample: tuple[Path, Read]) -> None:
    """The pairs of times are those that a join of the export by process and correlation id gives."""
    export, found = sample
    sources = {arrow: one for one in found.slices for arrow in one.leaving}
    targets = {arrow: one for one in found.slices for arrow in one.arriving}
    assert sources.keys() == targets.keys()
    arrows = Counter((sources[arrow].start, targets[arrow].start) for arrow in sources)
    queries = [
        f"SELECT r.start, k.start FROM CUPTI_ACTIVITY_KIND_{name} k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r ON "
        "k.correlationId = r.correlationId AND k.globalPid = r.globalTid & 0xFFFFFFFFFF000000 AND k.start >= r.start"
        for name in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE")
    ]
    assert arrows == counted(export, *queries)
    assert arrows


@pytest.mark.parametrize("source", ["GPU metrics", "NVML"])
def test_counters_are_the_samples(source: str, tmp_path: Path) -> None:
    if source == "NVML":
        power = [{"time_ns": 250 * at, "device": 0, "metric": "Power", "value": 70.5 + at % 3} for at in range(40)]
        trace = drawn("stream 7: #########", tables={"nvml_metrics": table("nvml_metrics", power)})
    else:
        trace = open_trace(shutil.copy(SAMPLES / "limits" / "detector_metrics.sqlite", tmp_path))
    found = written(trace)
    rows = trace.sql("SELECT time_ns, value FROM gpu_metrics UNION ALL SELECT time_ns, value FROM nvml_metrics")
    told = found.on("nsight-tools")[0].args["time shift"].split()[0]
    shift = 0 if told == "none" else int(told)
    values = Counter((time - shift, value) for one in found.counters.values() for time, value in one)
    assert values
    assert values == Counter(zip(rows["time_ns"].to_pylist(), rows["value"].to_pylist(), strict=True))


# ---- what must not cross


def test_nodes_of_a_graph_that_overlap_lie_side_by_side() -> None:
    found = written(
        drawn("""
        thread 1: G...............
        stream 7: ..nnnnnnnn......
        stream 7: ....mmmmmmmm....
        stream 7: ......nnnnnn..mm
        """)
    )
    work = [one for one in found.slices if one.category == "kernel"]
    assert Counter(found.tracks[one.track].name.split(" (")[0] for one in work) == {"stream 7": 4}
    assert len({one.track for one in work}) == 3
    assert [one.depth for one in work] == [0] * 4
    (call,) = (one for one in found.slices if one.name == "cudaGraphLaunch")
    assert sorted(call.leaving) == sorted(arrow for one in work for arrow in one.arriving)
    assert len(call.leaving) == 4


def test_ranges_of_two_domains_cross_on_tracks_of_their_own() -> None:
    found = written(
        drawn("""
        nvtx 1 app: ..[a.....].....
        nvtx 1 trt: .....[b.....]..
        nvtx 1 app: ...[c].........
        """)
    )
    got = [
        (one.name, one.start, one.end, one.depth, found.path(one.track))
        for one in found.slices
        if one.category == "nvtx"
    ]
    assert got == [
        ("a", 2000, 10000, 0, "process 1000 / thread 1 / NVTX app"),
        ("c", 3000, 6000, 1, "process 1000 / thread 1 / NVTX app"),
        ("b", 5000, 13000, 0, "process 1000 / thread 1 / NVTX trt"),
    ]


def test_start_end_ranges_that_cross_and_one_that_never_ends() -> None:
    found = written(
        drawn("""
        nvtx 1 app start_end: [a...]......
        nvtx 2 app start_end: ..[b...]....
        nvtx 1 app:           ....[open
        """)
    )
    got = [(one.name, one.end, one.depth, one.args) for one in found.on("NVTX app start/end")]
    assert got == [("a", 6000, 0, {}), ("b", 8000, 0, {}), ("open", 8000, 0, {"never ended": 1})]


def test_negative_times_are_shifted_and_the_shift_is_told() -> None:
    found = written(ranges({"start_ns": -500, "end_ns": 1500, "name": "early", **THREAD}))
    (about,), (early,) = found.on("nsight-tools"), found.on("NVTX")
    assert (early.start, early.end) == (0, 2000)
    assert "500 ns were added" in about.args["time shift"]


def test_a_trace_without_anything() -> None:
    found = written(Trace.from_tables({}))
    assert [one.category for one in found.slices] == ["nsight-tools"]


def test_marks_payloads_and_negative_numbers() -> None:
    mark = {"start_ns": 5, "end_ns": 5, "name": "here", "kind": "mark", "payload": -3, **THREAD}
    (one,) = written(ranges(mark)).on("NVTX")
    assert (one.name, one.start, one.end, one.args) == ("here", 5, None, {"payload": -3})


# ---- findings


def test_findings_have_tracks_in_order_of_worth_with_their_windows() -> None:
    small = fakes.finding(code="FUS002", recoverable_ns=5, recoverable_ns_per_inference=None, evidence=())
    windows = (
        Evidence("slow", 3000, "ns", 2000, 5000),
        Evidence("crossing", 1, "", 4000, 7000),
        Evidence("at", 1, "", 9000),
    )
    large = fakes.finding(recoverable_ns=500, recoverable_ns_per_inference=None, evidence=windows)
    found = written(drawn("stream 7: #########"), small, large)
    tracks = [
        one for one in found.tracks.values() if one.parent_uuid and found.tracks[one.parent_uuid].name == "Findings"
    ]
    assert [one.name.split(":")[0] for one in tracks] == ["1. PCI001 warning", "2. FUS002 warning"]
    assert [one.sibling_order_rank for one in tracks] == [1, 2]
    got = [(one.name, one.start, one.end) for one in found.on("1. PCI001")]
    assert got[0][1:] == (2000, 9000)
    assert got[1:] == [("slow: 3.00 µs", 2000, 5000), ("crossing: 1", 4000, 7000), ("at: 1", 9000, 9000)]
    assert found.on("1. PCI001")[0].args["recommendation"] == large.recommendation
    assert [(one.start, one.end) for one in found.on("2. FUS002")] == [(0, 9000)]


# ---- hostile names


def test_hostile_names_are_inert() -> None:
    hostile = [
        fakes.HOSTILE,
        fakes.LONG * 2,
        "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
        "nul\0nul",
        "\ud800 lone",
        "",
        "\"'\\",
    ]
    rows = [
        {"start_ns": at, "end_ns": at + 1, "name": n.encode("utf-8", "replace").decode(), **THREAD}
        for at, n in enumerate(hostile)
    ]
    pieces: list[bytes] = []
    trace = ranges(*rows, {"start_ns": 99, "end_ns": 99, "name": "m", "domain": fakes.HOSTILE, **THREAD})
    perfetto.write(fakes.hostile(), trace, pieces.append)
    found = read(b"".join(pieces))
    assert found.strings
    for text in found.strings:
        assert text == safe.visible(text, len(text) or 1)
        assert len(text) <= 2100
    assert "\\u202egnp.exe" in [one.name for one in found.on("NVTX")]


# ---- the encoder


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**62),
            st.integers(0, 5),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.text(st.characters(codec="utf-8"), max_size=5),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_written_is_read(rows: list[tuple[int, int, int, bool, str, int]]) -> None:
    """Rows that are apart, with every combination of fields, come back as they were."""
    pieces: list[bytes] = []
    writer = Writer(pieces.append)
    track = np.array([writer.track(f"track {at}") for at in range(len(rows))])
    start, length, value, present, text, leaving = (list(column) for column in zip(*rows, strict=True))
    counts = np.array(leaving, np.int64)
    arrows = Arrows(np.arange(counts.sum()) + 1, counts, np.where(present, np.arange(len(rows)) + 1, 0))
    starts = np.array(start, np.int64)
    annotations = {
        "value": Annotation(np.array(value, np.int64), np.array(present)),
        "text": Annotation.of_text(writer.text(text)),
    }
    names, categories = writer.names(text), writer.categories(["one"] * len(rows))
    writer.slices(track, starts, starts + np.array(length), names, categories, annotations, arrows)
    found = {one.track: one for one in read(b"".join(pieces)).slices}
    at = 0
    for number, row in enumerate(rows):
        one = found[int(track[number])]
        assert (one.start, one.end, one.name) == (row[0], row[0] + row[1], safe.visible(row[4]))
        assert one.args == {"text": safe.visible(row[4])} | ({"value": row[2]} if row[3] else {})
        assert one.leaving == list(range(at + 1, at + row[5] + 1))
        assert one.arriving == ([number + 1] if row[3] else [])
        at += row[5]


def test_arrow_tables_with_nulls_are_no_obstacle() -> None:
    trace = drawn("stream 7: ####", kernel_calls=[None])
    kernels = trace.table("kernels").set_column(4, "stream", pa.array([7], pa.int32()))
    found = written(Trace.from_tables({"kernels": kernels, "launches": trace.table("launches")}))
    (one,) = (one for one in found.slices if one.category == "kernel")
    assert one.arriving == []
    assert one.args["launched as"].startswith("grid ")
