"""Where on a timeline findings lie, for every viewer that they are shown in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools import units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.findings import Evidence, Finding
    from nsight_tools.report.content import TraceReport

SESSION = (
    "SELECT min(lo) AS lo, max(hi) AS hi FROM ("
    "SELECT min(start_ns) AS lo, max(end_ns) AS hi FROM launches UNION ALL "
    "SELECT min(start_ns), max(greatest(start_ns, coalesce(end_ns, start_ns))) FROM nvtx_ranges UNION ALL "
    "SELECT min(start_ns), max(end_ns) FROM api_calls UNION ALL "
    "SELECT min(start_ns), max(end_ns) FROM osrt_calls UNION ALL "
    "SELECT min(start_ns), max(end_ns) FROM profiler_overhead UNION ALL "
    "SELECT min(start_ns), max(end_ns) FROM inferences UNION ALL "
    "SELECT min(time_ns), max(time_ns) FROM gpu_metrics UNION ALL "
    "SELECT min(time_ns), max(time_ns) FROM nvml_metrics)"
)
"""The first and the last time that anything in a report has, as SQL.

A capture's telemetry began seconds before, with the untraced run: a timeline as long as that would hide the report.
"""


@dataclass(frozen=True)
class Row:
    """A finding as a viewer shows it: `label` names its row, and `evidence` has the places to look at, in order."""

    number: int
    finding: Finding
    label: str
    worth: str
    evidence: tuple[Evidence, ...]

    def hull(self, whole: tuple[int, int]) -> tuple[int, int]:
        """From its first place to its last; `whole`, where it has none or they have no length."""
        starts = [e.start_ns for e in self.evidence if e.start_ns is not None]
        ends = [e.start_ns if e.end_ns is None else e.end_ns for e in self.evidence if e.start_ns is not None]
        return (min(starts), max(ends)) if starts and max(ends) > min(starts) else whole


def rows(report: TraceReport) -> Iterator[Row]:
    """Every finding, the one that gives most time back first, each followed by those that follow from it."""
    number = 0
    for cause, following in report.grouped:
        for finding in (cause, *following):
            number += 1
            hence = f" (follows from {cause.code})" if finding is not cause else ""
            worth = report.worth(finding)
            label = f"{finding.code} {finding.severity.value}{hence}: {finding.message}"
            evidence = tuple(e for e in finding.evidence if e.start_ns is not None)
            yield Row(number, finding, label, worth, evidence)


def place(evidence: Evidence) -> str:
    """What a place is, with its measurement, as `slowest copy: 1.40 ms (4.92 MB on stream 7)`."""
    detail = f" ({evidence.detail})" if evidence.detail else ""
    return f"{evidence.metric}: {units.quantity(evidence.value, evidence.unit)}{detail}"
