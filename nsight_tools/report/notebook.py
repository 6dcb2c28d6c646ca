"""What the objects of the API show of themselves in a notebook: a small piece of HTML, without scripts.

Texts come from traces, and pass `safe.visible` and an escape on their way.
"""

from __future__ import annotations

from functools import singledispatch
from html import escape
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Outcome
from nsight_tools.comparison.result import Comparison
from nsight_tools.findings import Evidence, Finding
from nsight_tools.report import safe
from nsight_tools.report.content import TraceReport
from nsight_tools.report.evidence import where
from nsight_tools.report.formats.text import comparison as comparison_text
from nsight_tools.report.formats.text import trace as trace_text
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_EVIDENCE = 8
"""Rows of evidence that a finding shows; `evidence` has all."""


@singledispatch
def html(shown: object) -> str:
    """The HTML of a Trace, Finding, Outcome, TraceReport or Comparison; of anything else, its `repr`."""
    return f"<code>{_safe(repr(shown))}</code>"


@html.register
def _(trace: Trace) -> str:
    tables = trace.manifest["tables"]
    rows = ((name, f"{state['rows']:,}") for name, state in tables.items() if state["rows"])
    empty = ", ".join(name for name, state in tables.items() if not state["rows"])
    told = f"<p>No rows: {_safe(empty)}</p>" if empty else ""
    return f"<p><b>{_safe(trace.manifest['source']['name'])}</b></p>{_table(('table', 'rows'), rows)}{told}"


@html.register
def _(finding: Finding) -> str:
    worth = finding.recoverable_ns_per_inference
    gain = f" ({finding.bound} {units.duration(worth)} an inference)" if worth else ""
    parts = [f"<p><b>{finding.code}</b> {finding.severity.value}: {_safe(finding.message)}{_safe(gain)}</p>"]
    parts += [f"<p><i>Why</i> {_safe(finding.cause)}</p>", f"<p><i>Change</i> {_safe(finding.recommendation)}</p>"]
    if finding.evidence:
        parts.append(_table(("measured", "value", ""), map(_evidence, finding.evidence[:MOST_EVIDENCE])))
    return "".join(parts)


@html.register
def _(outcome: Outcome) -> str:
    reason = f": {outcome.reason}" if outcome.reason else ""
    ended = f"{outcome.summary}: {outcome.status.value.replace('_', ' ')}{reason}"
    return f"<p><b>{outcome.code}</b> {_safe(ended)}</p>" + "".join(map(html, outcome.findings))


@html.register
def _(report: TraceReport) -> str:
    return _printed(trace_text.render([report]))


@html.register
def _(comparison: Comparison) -> str:
    return _printed(comparison_text.render([comparison]))


def _evidence(evidence: Evidence) -> tuple[str, str, str]:
    return evidence.metric, units.quantity(evidence.value, evidence.unit), where(evidence)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{_safe(cell)}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def _printed(page: str) -> str:
    return f"<pre>{escape(page)}</pre>"


def _safe(value: str) -> str:
    return escape(safe.visible(value))
