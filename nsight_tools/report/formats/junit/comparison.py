"""Comparisons as suites of tests: whether the two can be compared, throughput, latency, and each promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.comparison.result import regressed
from nsight_tools.report import compared, safe
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.junit.document import LIMIT, Case, document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.comparison.result import Comparison
    from nsight_tools.report.formats import Context


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """Comparisons, a suite each; a verdict of `context.metric` fails where time grew by more than `context.limit`."""
    return document((compared.title(each), _cases(each, context.limit, context.metric)) for each in comparisons)


def _cases(comparison: Comparison, percent: float | None, metric: str | None) -> list[Case]:
    reasons = "\n".join(
        safe.visible(f"{each.aspect}: {each.before} -> {each.after}: {each.why}", LIMIT) for each in comparison.setup
    )
    comparable = Case("comparable", output=reasons)
    gated = comparison.chosen(metric)
    blocked = [each for each in comparison.blocking if any(one.metric in each.blocks for one in gated)]
    if blocked:
        aspects = ", ".join(each.aspect for each in blocked)
        comparable = Case("comparable", "skipped" if percent is None else "error", aspects, reasons)
    cases = [comparable]
    notes = "\n".join(safe.visible(note, LIMIT) for note in comparison.notes)
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
        yield Case(f"promise of {each.code}", output=safe.visible(told, LIMIT))
