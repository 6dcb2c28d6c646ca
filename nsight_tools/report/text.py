"""The report for a terminal: the verdict first, then where the time went, then what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.findings import Evidence, Finding, Severity
from nsight_tools.report import content
from nsight_tools.report.terminal import Look, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from nsight_tools.report.content import TraceReport

EVIDENCE_SHOWN = 8
"""Measurements of one finding that the page shows; JSON has all."""

COLOUR = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}


def render(reports: Sequence[TraceReport], look: Look | None = None) -> str:
    """The reports as one page, each a section of its own, in lines of at most `look.width` columns."""
    page = Page(look or Look())
    for position, report in enumerate(reports):
        if position:
            page.rule()
        _section(page, report)
    return str(page)


def _section(page: Page, report: TraceReport) -> None:
    _head(page, report)
    _time(page, report)
    _inference(page, report)
    _findings(page, report)
    _unjudged(page, report)
    _clear(page, report)


def _head(page: Page, report: TraceReport) -> None:
    page.line(page.text(f"{report.name}: ", "bold"), page.text(report.verdict, f"bold {_mood(report)}".strip()))
    for finding in report.spoilers:
        page.line(page.text(f"Read first: {finding.code} ", "bold red"), page.text(finding.message))
    page.rows([[page.text(fact, "dim")] for fact in report.facts])


def _mood(report: TraceReport) -> str:
    severities = {finding.severity for finding in report.findings}
    if severities:
        return next(
            {"error": "red", "warning": "yellow", "info": "cyan"}[s] for s in content.SEVERITIES if s in severities
        )
    return "green" if report.with_status(Status.CLEAR) else "yellow"


def _time(page: Page, report: TraceReport) -> None:
    kinds = [row for row in report.summary.get("time") or () if row.get("busy_ns") or row.get("count")]
    if not kinds:
        return
    gpus = len(report.summary.get("gpus") or ())
    where = f"share of {units.duration(report.window_ns)} {content.WINDOW}{' on every GPU' if gpus > 1 else ''}"
    page.heading("Time by kind", f"{where}; kinds can overlap")
    page.rows(
        (
            [
                page.text(content.KINDS.get(row.get("kind", ""), row.get("kind", ""))),
                page.text("" if row.get("count") is None else f"{row['count']:,}"),
                page.text(units.duration(row.get("busy_ns"))),
                page.text(units.share(row.get("share"))),
                page.bar(row.get("share") or 0.0, style="bright_black" if row.get("kind") == "idle" else "cyan"),
            ]
            for row in kinds
        ),
        right=(1, 2, 3),
    )


def _inference(page: Page, report: TraceReport) -> None:
    if not (buckets := report.buckets()):
        return
    times = report.summary["inference_time"]
    page.heading("Time of an inference", "each median and p99 by itself; share of the median inference")
    columns = ("", "median", "p99", "", "", "without the profiler" if times.get("untraced") else "")
    head = [page.text(column, "dim") for column in columns]
    rows = [
        [
            page.text(bucket.label),
            page.text(units.duration(bucket.median)),
            page.text(units.duration(bucket.p99)),
            page.text(units.share(bucket.share)),
            page.bar(bucket.share, style="green" if bucket.label == "compute" else "yellow", most=8),
            page.text(bucket.untraced, "dim"),
        ]
        for bucket in buckets
    ]
    walls = (units.duration(times.get(key)) for key in ("wall_median_ns", "wall_p99_ns"))
    whole = [
        page.text("from first to last event", "bold"),
        *(page.text(w, "bold") for w in walls),
        page.text(""),
        page.text(""),
        page.text(report.untraced_wall, "bold"),
    ]
    page.rows([head, *rows, whole], right=(1, 2, 3))
    page.rows([[page.text(note, "dim")] for note in (report.beside, report.observer_note) if note])


def _findings(page: Page, report: TraceReport) -> None:
    if not (findings := report.findings):
        return
    page.heading(
        "Findings", "largest recoverable time first" + (f". {content.OVERLAP_NOTE}" if len(findings) > 1 else "")
    )
    for number, finding in enumerate(findings, 1):
        if number > 1:
            page.blank()
        _finding(page, report, finding, number)


def _finding(page: Page, report: TraceReport, finding: Finding, number: int) -> None:
    head = page.text(f"{finding.code} {finding.severity.value}", COLOUR[finding.severity])
    page.labelled([(f"{number}.", page.grid([[head, page.text(finding.message, "bold")]]))], indent=0, label_width=2)
    worth = report.worth(finding) or "no time to recover is claimed"
    rows: list[tuple[str, Text]] = [
        ("Worth", page.text(f"{worth}; confidence {finding.confidence.value}")),
        ("Bound by", page.text(finding.bound)),
        ("Cause", page.text(finding.cause, limit=1200)),
        ("Change", page.text(finding.recommendation, "green", limit=1200)),
    ]
    rows += [
        ("Hence also", page.text(f"{f.code} {f.severity.value}: {f.message}", limit=600))
        for f in report.following(finding)
    ]
    page.labelled([row for row in rows if row[1].plain], indent=3)
    if finding.evidence:
        page.labelled([("Evidence", page.grid(_evidence(page, finding.evidence), right=(1,)))], indent=3)


def _evidence(page: Page, evidence: Sequence[Evidence]) -> list[list[Text]]:
    rows = [
        [
            page.text(each.metric, limit=120),
            page.text(units.quantity(each.value, each.unit), limit=120),
            page.text("; ".join(part for part in (window(each), each.detail) if part)),
        ]
        for each in evidence[:EVIDENCE_SHOWN]
    ]
    if (more := len(evidence) - EVIDENCE_SHOWN) > 0:
        rows.append([page.text(f"and {more} more in --format json", "dim"), page.text(""), page.text("")])
    return rows


def window(evidence: Evidence) -> str:
    """Where to jump to in Nsight Systems' window: "at 1.234567 s for 12.3 µs"."""
    if evidence.start_ns is None:
        return ""
    where = f"at {units.moment(evidence.start_ns)}"
    length = 0 if evidence.end_ns is None else evidence.end_ns - evidence.start_ns
    said = length == evidence.value and evidence.unit == "ns"
    return f"{where} for {units.duration(length)}" if length > 0 and not said else where


def _unjudged(page: Page, report: TraceReport) -> None:
    if not (unjudged := report.with_status(Status.COULD_NOT_RUN)):
        return
    page.heading("Could not be judged")
    page.rows([page.text(o.code, "yellow"), page.text(f"{o.summary}: {o.reason}")] for o in unjudged)


def _clear(page: Page, report: TraceReport) -> None:
    if clear := report.with_status(Status.CLEAR):
        page.heading("Clear", "looked at, and nothing found")
        page.rows([[page.text(", ".join(o.code for o in clear), "green", limit=2000)]])
