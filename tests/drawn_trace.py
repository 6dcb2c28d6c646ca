"""Drawn timelines as traces that analyses judge, and what they are expected to say."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from drawing import US, draw

from nsight_tools.analysis import Status
from nsight_tools.importer.inferences import write_inferences
from nsight_tools.importer.layers import on_dla
from nsight_tools.importer.writer import write_table
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from nsight_tools.analysis import Analysis
    from nsight_tools.findings import Confidence, Evidence, Finding, Severity

LONG = {"i": "inference", "e": "ExecutionContext::enqueue"}
"""Names of NVTX ranges that need more room than a picture has."""


def drawn(
    text: str,
    *,
    tables: Mapping[str, pa.Table] | None = None,
    missing: Mapping[str, str] | None = None,
    **options: Any,
) -> Trace:
    """The trace that a drawing shows, with `launches` and `inferences` as the importer derives them.

    `tables` stand beside the drawn ones, or in their place; `missing` gives the tables that were not collected and the
    reason; `[i]` is an inference and `[e]` an enqueue; all other options are those of `draw`.
    """
    options["names"] = LONG | options.get("names", {})
    return derived(draw(text, **options) | dict(tables or {}), missing)


def derived(tables: Mapping[str, pa.Table], missing: Mapping[str, str] | None = None) -> Trace:
    """The trace of these tables, with `launches`, `inferences` and `enqueues` as the importer derives them."""
    found = dict(tables)
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in found.items():
            write_table(Path(folder) / f"{name}.parquet", TABLES[name], rows)
        made = write_inferences(Path(folder), on_dla=on_dla(found["layers"]) if "layers" in found else ())
        for name in ("launches", "inferences", "enqueues"):
            if (file := Path(folder) / f"{name}.parquet").exists():
                found[name] = pq.ParquetFile(file).read(use_threads=False)
    trace = Trace.from_tables(found, missing=missing)
    trace.manifest["requests"] = made.requests
    return trace


@dataclass(frozen=True)
class Case:
    """A drawing and the one finding that an analysis has on it, times in microseconds; clear where `severity` is None.

    Where the drawing has nothing that the analysis looks at, `applies` is false.
    `evidence` gives values by metric, in the finding's own units but for those in ns, which are in microseconds too.
    """

    about: str
    text: str
    severity: Severity | None = None
    recoverable: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    confidence: Confidence | None = None
    says: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    applies: bool = True

    def __str__(self) -> str:
        return self.about

    def check(self, analysis: Analysis) -> None:
        """Run the analysis on the drawing, and compare."""
        outcome = analysis.run(drawn(self.text, **self.options))
        if not self.applies:
            assert outcome.status == Status.NOT_APPLICABLE
            return
        if self.severity is None:
            assert (outcome.status, outcome.reason) == (Status.CLEAR, "")
            return
        assert outcome.status == Status.FINDINGS, outcome.reason
        (finding,) = outcome.findings
        assert finding.code == analysis.code
        assert finding.severity == self.severity
        assert self.confidence in {None, finding.confidence}
        assert finding.recoverable_ns == (None if self.recoverable is None else round(self.recoverable * US))
        assert {metric: in_pictures(evidence_of(finding, metric)) for metric in self.evidence} == self.evidence
        assert self.says in f"{finding.message}\n{finding.cause}\n{finding.recommendation}"


def only(analysis: Analysis, trace: Trace) -> Finding:
    """The one finding that an analysis has on a trace."""
    outcome = analysis.run(trace)
    assert outcome.status == Status.FINDINGS, outcome.reason
    (finding,) = outcome.findings
    return finding


def evidence_of(finding: Finding, metric: str) -> Evidence:
    """The first evidence of a finding that is named so."""
    return next(evidence for evidence in finding.evidence if evidence.metric == metric)


def in_pictures(evidence: Evidence) -> float | int | str:
    """Its value, in microseconds where it is a time."""
    if evidence.unit == "ns" and not isinstance(evidence.value, str):
        return evidence.value / US
    return evidence.value
