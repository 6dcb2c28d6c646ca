"""Findings and the slowest inferences as text events (nvtxt), which Nsight Systems' ImportNvtxt adds to a report.

In Nsight Systems' window they are a target of their own at the top, with a process for each group of rows and a thread
for each row: ranges pushed and popped on a thread are drawn on its row, and rows are in order of their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools import units
from nsight_tools.columns import ints
from nsight_tools.findings import Severity
from nsight_tools.report import safe, windows
from nsight_tools.report.content import BUCKETS
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import WorkKind, classify_memory_op
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.timeline.lanes import lanes, sequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nsight_tools.report.content import TraceReport
    from nsight_tools.timeline.intervals import Int64Array
    from nsight_tools.trace import Trace

SLOWEST = 10
"""Inferences that get a row of their own."""

COLOUR = {Severity.ERROR: "Red", Severity.WARNING: "Orange", Severity.INFO: "SkyBlue"}
_OWN = {
    "compute": ("LimeGreen", (WorkKind.KERNEL, WorkKind.GRAPH)),
    "exposed_communication": ("MediumPurple", (WorkKind.COMMUNICATION,)),
    "exposed_h2d": ("Orange", (WorkKind.H2D,)),
    "exposed_d2h": ("Gold", (WorkKind.D2H,)),
    "exposed_other_copy": ("Khaki", (WorkKind.OTHER_COPY, WorkKind.SET)),
}
"""Buckets in which an inference's own work runs, in their order of precedence: colour, and the work."""

_WORDS = {WorkKind.KERNEL: "kernel", WorkKind.GRAPH: "graph", WorkKind.COMMUNICATION: "communication"}
_IDLE = [bucket for bucket in BUCKETS if bucket not in _OWN]
_IDLE_COLOUR, _INFERENCE_COLOUR = "Silver", "SlateBlue"

_DEFINITIONS = """\
@RangePush, Time, ProcessId, ThreadId, CategoryId, Color, Message
TimeBase = Relative

@RangePop, Time, ProcessId, ThreadId
TimeBase = Relative

@Marker, Time, ProcessId, ThreadId, CategoryId, Color, Message
TimeBase = Relative
"""
"""Times are relative to the start of the session, as in an export and in the window. One file has one base."""


@dataclass(frozen=True)
class Range:
    """A coloured range of a row; a mark, where it has no length."""

    start_ns: int
    end_ns: int
    colour: str
    text: str


@dataclass(frozen=True)
class Row:
    """A named row: a range around all others, and those, in any order."""

    name: str
    around: Range
    ranges: Sequence[Range]


def render(report: TraceReport, trace: Trace) -> tuple[str, int]:
    """The events as nvtxt, and how many those are. Nothing lies outside of the session, where ImportNvtxt drops it."""
    seen = trace.sql(windows.SESSION).to_pylist()[0]
    session = max(0, seen["lo"] or 0), report.summary.duration_ns or seen["hi"] or 1
    groups = {"findings, what gives most time back first": _findings(report, session)}
    if slowest := _slowest(trace):
        groups["slowest inferences, and where their time went"] = slowest
    lines: list[str] = []
    events: list[str] = []
    for pid, (name, rows) in enumerate(groups.items(), 1):
        lines.append(f"NameProcess, {pid}, {_quoted(name)}")
        for tid, (row, ranges) in enumerate(_apart(rows), 1):
            lines.append(f"NameOsThread, {pid}, {tid}, {_quoted(row)}")
            events += _events(ranges, f"{pid}, {tid}", session)
    head = f"SetFileDisplayName, {_quoted(f'nsight-tools: {report.verdict}')}\n"
    return "\n".join([head, _DEFINITIONS, *lines, *events, ""]), len(events)


def _findings(report: TraceReport, session: tuple[int, int]) -> list[Row]:
    """A row for each finding: a range from its first place to its last, or over all, and in it the places."""
    rows = []
    for row in windows.rows(report):
        colour = COLOUR[row.finding.severity]
        worth = f", {row.worth}" if row.worth else ""
        whole = Range(*row.hull(session), colour, f"{row.label}{worth}. Change: {row.finding.recommendation}")
        starts = ((e, e.start_ns or 0) for e in row.evidence)
        places = [Range(s, s if e.end_ns is None else e.end_ns, colour, windows.place(e)) for e, s in starts]
        rows.append(Row(row.label, whole, places))
    return rows


def _slowest(trace: Trace) -> list[Row]:
    """The slowest of the judged inferences, else of all: what ran for each, and where nothing did."""
    columns = ["inference", "start_ns", "end_ns", "wall_ns", *(f"{bucket}_ns" for bucket in BUCKETS)]
    table = trace.table("inferences", columns)
    if not table.num_rows:
        return []
    wall, judged = ints(table["wall_ns"]), Run.of(trace).requests.judged
    chosen = np.lexsort((-wall, ~judged))[: min(SLOWEST, max(1, int(judged.sum())))]
    median = float(np.median(wall[judged])) if judged.any() else 0.0
    work = _Work(trace)
    rows = []
    for row in table.take(chosen).to_pylist():
        against = f", {row['wall_ns'] / median:.2f} times the median" if median else ""
        name = f"inference {row['inference']}: {units.duration(row['wall_ns'])}{against}"
        window = Range(row["start_ns"], row["end_ns"], _INFERENCE_COLOUR, f"{name}: {_split(row, BUCKETS)}")
        rows.append(Row(name, window, list(work.buckets(row["inference"], window, _split(row, _IDLE)))))
    return rows


def _split(inference: Mapping[str, int], buckets: Iterable[str]) -> str:
    return ", ".join(
        f"{BUCKETS[bucket]} {units.duration(inference[f'{bucket}_ns'])}"
        for bucket in buckets
        if inference[f"{bucket}_ns"]
    )


class _Work:
    """The GPU work of inferences, by the bucket that it counts in."""

    def __init__(self, trace: Trace) -> None:
        work = Run.of(trace).work
        self._start, self._end, self._inference = work.start, work.end, work.inference
        self._kind = classify_memory_op(work.kind.dictionary)[work.kind.codes]
        for kind, word in _WORDS.items():
            self._kind[work.kind.among(word)] = kind

    def buckets(self, inference: int, window: Range, idle: str) -> Iterator[Range]:
        """What a window consists of: each bucket of its own work, less those before it, and the rest; if it has any."""
        mine = np.flatnonzero(self._inference == inference)
        if not mine.size:
            return
        taken = Intervals.union([], [])
        for bucket, (colour, kinds) in _OWN.items():
            rows = mine[np.isin(self._kind[mine], kinds)]
            line = Intervals.union(self._start[rows], self._end[rows])
            yield from _ranges(line.subtract(taken), colour, BUCKETS[bucket])
            taken = Intervals.any_of([taken, line])
        rest = taken.complement(window.start_ns, window.end_ns)
        yield from _ranges(rest, _IDLE_COLOUR, f"nothing of it is seen on the GPU; all such time together: {idle}")


def _ranges(line: Intervals, colour: str, text: str) -> Iterator[Range]:
    for start, end in zip(line.start.tolist(), line.end.tolist(), strict=True):
        yield Range(start, end, colour, text)


# ---- lines


def _apart(rows: Iterable[Row]) -> Iterator[tuple[str, list[Range]]]:
    """Names and ranges of rows; what would cross others, which pushing and popping cannot say, on further ones."""
    for row in rows:
        start, end = _columns(row.ranges)
        lane = lanes(sequence(start, end), np.zeros(start.size, np.int64), nest=True).tolist()
        for number in range(max(lane, default=0) + 1):
            chosen = [entry for entry, where in zip(row.ranges, lane, strict=True) if where == number]
            yield (f"{row.name} (more)", chosen) if number else (row.name, [row.around, *chosen])


def _columns(ranges: Sequence[Range]) -> tuple[Int64Array, Int64Array]:
    times = np.array([(entry.start_ns, entry.end_ns) for entry in ranges], np.int64).reshape(-1, 2)
    return times[:, 0], times[:, 1]


def _events(ranges: Sequence[Range], where: str, session: tuple[int, int]) -> Iterator[str]:
    start, end = (np.clip(column, *session) for column in _columns(ranges))
    times = np.concatenate([start, end])
    for code in sequence(start, end).tolist():
        entry, time = ranges[code % len(ranges)], times[code]
        if start[code % len(ranges)] == end[code % len(ranges)]:
            if code < len(ranges):
                yield f"Marker, {time}, {where}, 1, {entry.colour}, {_quoted(entry.text)}"
        elif code < len(ranges):
            yield f"RangePush, {time}, {where}, 1, {entry.colour}, {_quoted(entry.text)}"
        else:
            yield f"RangePop, {time}, {where}"


def _quoted(text: str) -> str:
    """A string of nvtxt, which knows no quote and no line end inside of one; a backslash is said as a slash."""
    return '"' + safe.visible(text).replace("\\", "/").replace('"', "'") + '"'
