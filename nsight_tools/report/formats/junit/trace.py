"""Traces as suites of tests: an analysis is a test case.

It fails where a finding is of a severity that fails, is skipped where it could not be judged or had nothing to look
for, and passes otherwise, its findings in the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.analysis import Status
from nsight_tools.report import safe
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.junit.document import LIMIT, Case, document

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.findings import Finding, Severity
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context


def render(reports: Sequence[TraceReport], context: Context = PLAIN) -> str:
    """Analyzed traces, a suite each; findings of `context.failing` fail their case."""
    return document(
        (report.name, [_analysis(report, o, context.failing) for o in report.outcomes]) for report in reports
    )


def _analysis(report: TraceReport, outcome: Outcome, failing: Collection[Severity]) -> Case:
    name = f"{outcome.code} {outcome.summary}"
    if outcome.status in {Status.COULD_NOT_RUN, Status.NOT_APPLICABLE}:
        return Case(name, "skipped", outcome.reason)
    text = "\n\n".join(_finding(report, finding) for finding in outcome.findings)
    worst = next((finding for finding in outcome.findings if finding.severity in failing), None)
    return Case(name, "failure", worst.message, text) if worst else Case(name, output=text)


def _finding(report: TraceReport, finding: Finding) -> str:
    parts = (f"{finding.severity.value}: {finding.message}", report.worth(finding), finding.cause)
    lines = [safe.visible(text, LIMIT) for text in (*parts, finding.recommendation) if text]
    return "\n".join(lines)
