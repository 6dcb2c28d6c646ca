"""The report for a pull request's comment: a verdict, a table of findings, the details folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.report import content, unjudged
from nsight_tools.report.context import PLAIN
from nsight_tools.report.evidence import SHOWN as EVIDENCE_SHOWN
from nsight_tools.report.evidence import window
from nsight_tools.report.formats.markdown.escaped import escape, html

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.findings import Finding
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context


def render(reports: Sequence[TraceReport], context: Context = PLAIN) -> str:
    """The reports as GitHub-flavoured Markdown, one section each."""
    return "\n".join("\n".join(_section(report)) + "\n" for report in reports)


def _section(report: TraceReport) -> list[str]:
    lines = [f"## nsight-tools: {escape(report.name)}", "", f"**{escape(report.verdict)}**", ""]
    for finding in report.spoilers:
        lines += [f"**Read first:** {escape(finding.message)} ({escape(finding.code)})", ""]
    lines += [f"{escape(fact)}  " for fact in report.facts]
    lines += _together(report)
    lines += _table(report)
    for number, finding in enumerate(report.findings, 1):
        lines += _details(report, finding, number)
    return lines + _accounting(report) + _ends(report)


def _together(report: TraceReport) -> list[str]:
    """What the findings' changes give together, step by step."""
    if report.plan is None:
        return []
    together = "" if report.plan_leads else f"**{report.of_these}:** {escape(report.together, 600)}"
    steps = "\n".join(f"{at}. {escape(step)}" for at, step in enumerate(report.steps, 1))
    return [
        line for paragraph in (together, steps, escape(report.beside_the_sum)) if paragraph for line in ("", paragraph)
    ]


def _table(report: TraceReport) -> list[str]:
    if not (findings := report.findings):
        return []
    lines = ["", "| | What to do | Recoverable | Finding | Severity | Code |", "|---:|---|---|---|---|---|"]
    for number, finding in enumerate(findings, 1):
        act, worth = escape(units.sentence(report.act(finding)), 200), escape(report.worth(finding)) or "none claimed"
        seen = f"{escape(finding.message, 200)} | {finding.severity.value} | {escape(finding.code)}"
        lines.append(f"| {number} | {act} | {worth} | {seen} |")
    return [*lines, "", content.OVERLAP_NOTE] if len(findings) > 1 else lines


def _details(report: TraceReport, finding: Finding, number: int) -> list[str]:
    claims = {
        "Worth": f"{report.worth(finding) or 'no time to recover is claimed'}; confidence {finding.confidence.value}",
        "Known by": finding.bound,
        "Cause": finding.cause,
        "Change": finding.recommendation,
    }
    lines = ["", f"<details><summary>{number}. {html(finding.message, 200)} ({html(finding.code, 200)})</summary>", ""]
    lines += [f"- **{label}:** {escape(text, 1200)}" for label, text in claims.items() if text]
    lines += [f"- **Also:** {escape(f.message, 600)} ({escape(f.code)})" for f in report.following(finding)]
    if finding.evidence:
        lines += ["", "| Evidence | Value | Where |", "|---|---:|---|"]
    for evidence in finding.evidence[:EVIDENCE_SHOWN]:
        where = "; ".join(text for text in (window(evidence), evidence.detail) if text)
        value = escape(units.quantity(evidence.value, evidence.unit), 120)
        lines.append(f"| {escape(evidence.metric, 120)} | {value} | {escape(where)} |")
    if (more := len(finding.evidence) - EVIDENCE_SHOWN) > 0:
        lines.append(f"| and {more} more in `--format json` | | |")
    return [*lines, "", "</details>"]


def _accounting(report: TraceReport) -> list[str]:
    times = report.summary.times
    if times is None or not (buckets := report.buckets()):
        return []
    lines = [
        "",
        "<details><summary>Time of an inference</summary>",
        "",
        f"| | median | {report.tail} | share | without the profiler |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {b.label} | {units.duration(b.median)} | {units.duration(b.p99)} | {units.share(b.share)} | {b.untraced} |"
        for b in buckets
    ]
    walls = " | ".join(units.duration(wall_ns) for wall_ns in (times.wall_median_ns, times.wall_p99_ns))
    lines.append(f"| **from first to last event** | {walls} | | {report.untraced_wall} |")
    parts = f"{units.sentence(content.PARTS_NOTE)}."
    for note in filter(None, (parts, report.beside, report.observer_note)):
        lines += ["", note]
    return [*lines, "", "</details>"]


def not_judged(title: str, groups: Sequence[tuple[str, Sequence[Outcome]]]) -> list[str]:
    """What could not be judged, by what would tell."""
    lines = ["", f"**{title}**", ""] if groups else []
    for remedy, outcomes in groups:
        lines.append(f"- {escape(units.sentence(remedy))}:")
        for outcome in outcomes:
            told = ": ".join(map(escape, filter(None, (outcome.summary, unjudged.matter(outcome)))))
            lines.append(f"  - {told} ({escape(outcome.code)})")
    return lines


def _ends(report: TraceReport) -> list[str]:
    lines = not_judged("Could not be judged", report.unjudged())
    if clear := report.with_status(Status.CLEAR):
        lines += ["", f"**Clear:** {', '.join(escape(o.code) for o in clear)}"]
    return lines
