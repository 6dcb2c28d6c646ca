"""A trace for Perfetto (ui.perfetto.dev, trace_processor): findings, inferences, host threads, GPUs, counters.

Tracks from the top: findings, the costliest first, with their windows; inferences by thread; each process with its
threads' API calls, NVTX ranges and waits; each GPU with its streams and counters. Arrows lead from the call that
launched GPU work to that work. Times are those of the dataset; where some are negative, all are shifted, and the first
slice tells by how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.report import windows
from nsight_tools.report.content import BUCKETS
from nsight_tools.report.formats.perfetto.gpus import counters, gpus
from nsight_tools.report.formats.perfetto.host import Host
from nsight_tools.report.formats.perfetto.layout import Slices, by, category_of, laid_out, text_of
from nsight_tools.report.formats.perfetto.track_events import Annotation, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.report.content import TraceReport
    from nsight_tools.trace import Trace


def write(report: TraceReport, trace: Trace, to: Callable[[bytes], None]) -> int:
    """Write the trace and what was found in it, piece by piece, with `to`; returns how many events those are."""
    session = trace.sql(windows.SESSION).to_pylist()[0]
    first, last = (0, 1) if session["lo"] is None else (int(session["lo"]), int(session["hi"]))
    for row in windows.rows(report):
        lo, hi = row.hull((first, last))
        first, last = min(first, lo), max(last, hi)
    writer = Writer(to, shift_ns=max(0, -first))
    _about(writer, report, (first, last))
    _findings(writer, report, (first, last))
    _inferences(writer, trace)
    Host(writer, trace).write(last)
    gpus(writer, trace)
    counters(writer, trace, (first, last))
    return writer.events


def _about(writer: Writer, report: TraceReport, whole: tuple[int, int]) -> None:
    shift = f"{writer.shift_ns} ns were added to every time, so that none is negative" if writer.shift_ns else "none"
    annotations = {
        "source": report.name,
        "verdict": report.verdict,
        "recorded": "; ".join(report.facts),
        "time shift": shift,
    }
    track = writer.track("nsight-tools", rank=0)
    _one(writer, track, whole, report.verdict, "nsight-tools", annotations)


def _findings(writer: Writer, report: TraceReport, whole: tuple[int, int]) -> None:
    """A track for each finding: a slice from its first window to its last, and in it the windows."""
    parent = writer.track("Findings", rank=1, description="what gives most time back first; do not add them up")
    for row in windows.rows(report):
        finding, label = row.finding, f"{row.number}. {row.label}"
        track = writer.track(label, parent, rank=row.number, description=finding.recommendation)
        annotations = {
            "worth": row.worth,
            "confidence": finding.confidence.value,
            "cause": finding.cause,
            "recommendation": finding.recommendation,
        }
        _one(writer, track, row.hull(whole), row.label, finding.severity.value, annotations)
        places = [(e.start_ns or 0, e.start_ns or 0 if e.end_ns is None else e.end_ns) for e in row.evidence]
        if not places:
            continue
        start, end = np.array(places, np.int64).T
        inner = writer.track("windows", track)
        names, category = writer.names(map(windows.place, row.evidence)), writer.categories([finding.severity.value])
        slices = Slices(np.full(start.size, inner), start, end, names, np.repeat(category, start.size))
        laid_out(writer, slices, lambda _, track=track: writer.track("windows", track), nest=True)  # type: ignore[misc]


def _one(writer: Writer, track: int, window: tuple[int, int], name: str, category: str, facts: dict[str, str]) -> None:
    annotations = {key: Annotation.of_text(writer.text([text])) for key, text in facts.items() if text}
    start, end = (np.array([time]) for time in window)
    writer.slices(np.array([track]), start, end, writer.names([name]), writer.categories([category]), annotations)


def _inferences(writer: Writer, trace: Trace) -> None:
    if not trace.rows("inferences"):
        return
    buckets = {f"{bucket}_ns": label for bucket, label in BUCKETS.items()}
    table = trace.table("inferences", ["inference", "start_ns", "end_ns", "pid", "tid", "kernels", "mark", *buckets])
    parent = writer.track("Inferences", rank=2)
    labels: dict[int, str] = {}

    def declare(pid: int, tid: int) -> int:
        label = f"thread {tid} of process {pid}" if tid >= 0 else f"process {pid}"
        track = writer.track(label, parent)
        labels[track] = label
        return track

    track = by(declare, ints(table["pid"]), ints(table["tid"]))
    number = ints(table["inference"])
    annotations = {label: Annotation.of(ints(table[column])) for column, label in buckets.items()}
    annotations |= {"kernels": Annotation.of(ints(table["kernels"])), "mark": text_of(writer, words(table["mark"]))}
    names = writer.names(f"inference {row}" for row in number.tolist())
    slices = Slices(
        track,
        ints(table["start_ns"]),
        ints(table["end_ns"]),
        names,
        category_of(writer, "inference", table),
        annotations,
    )
    laid_out(writer, slices, lambda track: writer.track(labels[track], parent), nest=False)
