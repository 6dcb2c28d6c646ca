"""Text events for ImportNvtxt: rows in order, ranges that nest, buckets that are those of the accounting."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from drawn_trace import drawn
from report import fakes

from nsight_tools import Outcome, Status, Trace, open_trace
from nsight_tools.findings import Evidence, Finding, Severity
from nsight_tools.report import nvtxt
from nsight_tools.report.content import BUCKETS, TraceReport
from nsight_tools.summary import summarize

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
_LINE = re.compile(
    r'SetFileDisplayName, "(?P<display>[^"\\]*)"|NameProcess, (?P<p>\d+), "(?P<process>[^"\\]*)"'
    r'|NameOsThread, (?P<tp>\d+), (?P<tt>\d+), "(?P<thread>[^"\\]*)"'
    r'|(?P<what>RangePush|Marker), (?P<time>\d+), (?P<pid>\d+), (?P<tid>\d+), 1, (?P<colour>\w+), "(?P<text>[^"\\]*)"'
    r"|RangePop, (?P<end>\d+), (?P<epid>\d+), (?P<etid>\d+)|@Range(Push|Pop), .*|@Marker, .*|TimeBase = Relative|"
)


@dataclass
class Events:
    """What ImportNvtxt would make of the text: by process and thread (start, end, colour, text), and the names."""

    rows: dict[tuple[int, int], list[tuple[int, int, str, str]]] = field(default_factory=lambda: defaultdict(list))
    threads: dict[tuple[int, int], str] = field(default_factory=dict)
    processes: dict[int, str] = field(default_factory=dict)
    count: int = 0

    def on(self, pid: int) -> dict[str, list[tuple[int, int, str, str]]]:
        return {name: self.rows[key] for key, name in sorted(self.threads.items()) if key[0] == pid}


def parsed(text: str) -> Events:
    found, stacks = Events(), defaultdict(list)
    before: dict[tuple[int, int], int] = defaultdict(int)
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        assert match, line
        if match["process"]:
            found.processes[int(match["p"])] = match["process"]
        elif match["thread"]:
            found.threads[int(match["tp"]), int(match["tt"])] = match["thread"]
        elif match["what"] or match["end"]:
            found.count += 1
            row = int(match["pid"] or match["epid"]), int(match["tid"] or match["etid"])
            time = int(match["time"] or match["end"])
            assert time >= before[row], "out of order"
            before[row] = time
            if match["what"] == "Marker":
                found.rows[row].append((time, time, match["colour"], match["text"]))
            elif match["what"]:
                stacks[row].append((time, match["colour"], match["text"]))
            else:
                start, *rest = stacks[row].pop()
                found.rows[row].append((start, time, *rest))
    assert not any(stacks.values())
    assert found.rows.keys() <= found.threads.keys()
    return found


def events(trace: Trace, *findings: Finding) -> Events:
    outcomes = [Outcome(f.code, "what it looks for", Status.FINDINGS, "", (f,)) for f in findings]
    text, count = nvtxt.render(TraceReport("drawn", summarize(trace), outcomes), trace)
    found = parsed(text)
    assert found.count == count
    return found


DRAWN = """
    thread 1: LL..............LL........
    stream 7: ..##..##..........####....
    nvtx 1:   [i........].....[i........]
"""


def test_the_first_row_is_the_costliest_finding() -> None:
    small = fakes.finding(code="FUS002", severity=Severity.INFO, recoverable_ns=5, evidence=())
    places = (
        Evidence("slow", 3000, "ns", 2000, 5000),
        Evidence("crossing", 1, "", 4000, 7000),
        Evidence("at", 1, "", 9000),
    )
    found = events(drawn(DRAWN), small, fakes.finding(recoverable_ns=10**9, evidence=places))
    assert found.processes[1].startswith("findings")
    assert [name.split(":")[0] for name in found.on(1)] == ["PCI001 warning", "PCI001 warning", "FUS002 info"]
    assert [name.endswith("(more)") for name in found.on(1)] == [False, True, False]
    rows = list(found.on(1).values())
    drawn_places = {(start, end) for row in rows[:2] for start, end, _, _ in row}
    assert drawn_places == {(2000, 9000), (2000, 5000), (4000, 7000), (9000, 9000)}
    assert {colour for _, _, colour, _ in rows[-1]} == {nvtxt.COLOUR[Severity.INFO]}


def test_what_lies_outside_of_the_session_is_cut() -> None:
    trace = drawn(DRAWN)
    found = events(trace, fakes.finding(evidence=(Evidence("early and late", 1, "", -5000, 10**9),)))
    (last,) = trace.sql("SELECT max(end_ns) AS last FROM nvtx_ranges")["last"].to_pylist()
    assert {(start, end) for start, end, _, _ in next(iter(found.on(1).values()))} == {(0, last)}


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.sqlite")))
def test_buckets_are_those_of_the_accounting(name: str, tmp_path: Path) -> None:
    """Their lengths sum to the columns of `inferences`, and all of them to the window."""
    shutil.copy(SAMPLES / f"{name}.sqlite", tmp_path)
    trace = open_trace(tmp_path / f"{name}.sqlite")
    rows = events(trace).on(2)
    table = {row["inference"]: row for row in trace.table("inferences").to_pylist()}
    assert len(rows) == min(nvtxt.SLOWEST, sum(row["mark"] != "warm_up" for row in table.values()))
    walls = []
    for label, ranges in rows.items():
        inference = table[int(label.split()[1].rstrip(":"))]
        walls.append(inference["wall_ns"])
        lengths: dict[str, int] = defaultdict(int)
        for start, end, _, text in ranges:
            lengths[text.split(";")[0].split(":")[0]] += end - start
        assert lengths.pop(f"inference {inference['inference']}") == inference["wall_ns"]
        idle = sum(inference[f"{bucket}_ns"] for bucket in ("other_work", "launch", "sync", "host", "unattributed"))
        own = ("compute", "exposed_communication", "exposed_h2d", "exposed_d2h", "exposed_other_copy")
        expected = {BUCKETS[bucket]: inference[f"{bucket}_ns"] for bucket in own}
        expected["nothing of it is seen on the GPU"] = idle
        assert lengths == {text: length for text, length in expected.items() if length}
    assert walls == sorted(walls, reverse=True)


def test_hostile_texts_stay_strings() -> None:
    trace = drawn(DRAWN)
    text, count = nvtxt.render(fakes.hostile(fakes.HOSTILE + '"\\"\r\n@Marker, 1, 1\n" ' + "\0"), trace)
    assert parsed(text).count == count
    assert "\0" not in text
    assert max(map(len, text.split("\n"))) < 600
