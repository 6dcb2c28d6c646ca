"""Comparisons as suites of tests: whether the two can be compared, throughput, latency, and each promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.comparison.result import regressed
from nsight_tools.report import compared, safe
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.junit.document import LIMIT, Case, document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.comparison.result import Comparison
    from nsight_tools.report.context import Context


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """Comparisons, a suite each; a verdict of `context.metric` fails where time grew by more than `context.limit`."""
    return document(
        (compared.title(comparison), _cases(comparison, context.limit, context.metric)) for comparison in comparisons
    )


def _cases(comparison: Comparison, percent: float | None, metric: str | None) -> list[Case]:
    reasons = "\n".join(
        safe.visible(f"{difference.aspect}: {difference.before} -> {difference.after}: {difference.why}", LIMIT)
        for difference in comparison.setup
    )
    comparable = Case("comparable", output=reasons)
    gated = comparison.chosen(metric)
    blocked = [
        difference
        for difference in comparison.blocking
        if any(judgement.metric in difference.blocks for judgement in gated)
    ]
    if blocked:
        aspects = ", ".join(difference.aspect for difference in blocked)
        comparable = Case("comparable", "skipped" if percent is None else "error", aspects, reasons)
    cases = [comparable]
    notes = "\n".join(safe.visible(note, LIMIT) for note in comparison.notes)
    told = compared.verdicts(comparison)
    for judgement in comparison.judgements:
        verdict = compared.said(judgement) if len(told) > 1 else told[0]
        judged = regressed(comparison, percent or 0.0, judgement.metric.value)
        fails = judged and percent is not None and judgement in gated
        state = "skipped" if judged is None else "failure" if fails else ""
        cases.append(
            Case(judgement.metric.value, state, verdict if state else "", "\n".join(filter(None, (verdict, notes))))
        )
    return [*cases, *_promises(comparison)]


def _promises(comparison: Comparison) -> Iterable[Case]:
    for prediction in comparison.predictions:
        status, promised, came = compared.promise(prediction)
        told = "; ".join(
            text for text in (f"{status}, {promised}, {came}", compared.outcome(comparison, prediction)) if text
        )
        yield Case(f"promised by BEFORE: {prediction.act} ({prediction.code})", output=safe.visible(told, LIMIT))
