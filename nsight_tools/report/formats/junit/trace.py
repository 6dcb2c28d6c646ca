"""JUnit XML: what Jenkins, GitLab, Azure Pipelines and CircleCI show as test results, GitHub through an action.

Not SARIF: a result of SARIF stands at a line of a file, and a trace has neither. An analysis is a test case: it fails
where a finding reaches `--fail-on`, is skipped where it could not be judged or had nothing to look for, and passes
otherwise, its findings in the output. A comparison is several: whether the two can be compared, throughput, latency,
and each promise of BEFORE's findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from nsight_tools.analysis import Status
from nsight_tools.comparison.result import regressed
from nsight_tools.report import compared, safe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison.result import Comparison
    from nsight_tools.findings import Finding, Severity
    from nsight_tools.report.content import TraceReport

_LIMIT = 1200
_TALLIES = {"failure": "failures", "error": "errors", "skipped": "skipped"}


@dataclass(frozen=True)
class Case:
    """A test case: `state` is failure, error or skipped, or empty where it passes."""

    name: str
    state: str = ""
    message: str = ""
    output: str = ""


def render(reports: Sequence[TraceReport], failing: Collection[Severity]) -> str:
    """Analyzed traces, a suite each; findings of the severities `failing` fail their case."""
    return _document((report.name, [_analysis(report, o, failing) for o in report.outcomes]) for report in reports)


def render_comparisons(comparisons: Sequence[Comparison], percent: float | None, metric: str | None = None) -> str:
    """Comparisons, a suite each; a verdict fails where time grew by more than `percent` (never, where None).

    `metric` says which of them can: throughput, latency or both; the leading one where it is None.
    """
    return _document((compared.title(each), _cases(each, percent, metric)) for each in comparisons)


def _analysis(report: TraceReport, outcome: Outcome, failing: Collection[Severity]) -> Case:
    name = f"{outcome.code} {outcome.summary}"
    if outcome.status in {Status.COULD_NOT_RUN, Status.NOT_APPLICABLE}:
        return Case(name, "skipped", outcome.reason)
    text = "\n\n".join(_finding(report, finding) for finding in outcome.findings)
    worst = next((finding for finding in outcome.findings if finding.severity in failing), None)
    return Case(name, "failure", worst.message, text) if worst else Case(name, output=text)


def _finding(report: TraceReport, finding: Finding) -> str:
    parts = (f"{finding.severity.value}: {finding.message}", report.worth(finding), finding.cause)
    lines = [safe.visible(part, _LIMIT) for part in (*parts, finding.recommendation) if part]
    return "\n".join(lines)


def _cases(comparison: Comparison, percent: float | None, metric: str | None) -> list[Case]:
    reasons = "\n".join(
        safe.visible(f"{each.aspect}: {each.before} -> {each.after}: {each.why}", _LIMIT) for each in comparison.setup
    )
    comparable = Case("comparable", output=reasons)
    gated = comparison.chosen(metric)
    blocked = [each for each in comparison.blocking if any(one.metric in each.blocks for one in gated)]
    if blocked:
        aspects = ", ".join(each.aspect for each in blocked)
        comparable = Case("comparable", "skipped" if percent is None else "error", aspects, reasons)
    cases = [comparable]
    notes = "\n".join(safe.visible(note, _LIMIT) for note in comparison.notes)
    told = compared.verdicts(comparison)
    for each in comparison.judgements:
        said = compared.said(each) if len(told) > 1 else told[0]
        judged = regressed(comparison, percent or 0.0, each.metric.value)
        fails = judged and percent is not None and each in gated
        state = "skipped" if judged is None else "failure" if fails else ""
        cases.append(Case(each.metric.value, state, said if state else "", "\n".join(filter(None, (said, notes)))))
    return [*cases, *_promises(comparison)]


def _promises(comparison: Comparison) -> Iterable[Case]:
    for each in comparison.predictions:
        status, promised, came = compared.promise(each)
        told = "; ".join(part for part in (f"{status}, {promised}, {came}", compared.outcome(comparison, each)) if part)
        yield Case(f"promise of {each.code}", output=safe.visible(told, _LIMIT))


def _document(suites: Iterable[tuple[str, Sequence[Case]]]) -> str:
    root = ET.Element("testsuites", name="nsight-tools")
    for name, cases in suites:
        shown = safe.visible(name)
        suite = ET.SubElement(root, "testsuite", name=shown, tests=str(len(cases)))
        for state, tally in _TALLIES.items():
            suite.set(tally, str(sum(case.state == state for case in cases)))
        for case in cases:
            element = ET.SubElement(suite, "testcase", classname=shown, name=safe.visible(case.name), time="0")
            if case.state:
                mark = ET.SubElement(element, case.state, message=safe.visible(case.message, _LIMIT))
                mark.text = case.output if case.state != "skipped" else None
            elif case.output:
                ET.SubElement(element, "system-out").text = case.output
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
