"""Many results into one: per report and over reports, what stands out, what they share, what failed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from statistics import mode
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.analysis import Status
from nsight_tools.findings import SEVERITIES, Finding, Severity
from nsight_tools.fleet.numbers import QUANTITIES
from nsight_tools.fleet.peers import Peers, peers
from nsight_tools.fleet.results import Done, Failed
from nsight_tools.fleet.stragglers import Group, Straggler, groups, stragglers
from nsight_tools.report import unjudged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.fleet.numbers import Numbers
    from nsight_tools.fleet.results import Result
    from nsight_tools.report.content import TraceReport
    from nsight_tools.summary import Summary

CLOCKS = "clock"
"""The topic of the analysis that says whether a GPU's clock dropped while it worked, and why."""


@dataclass(frozen=True)
class Spread:
    """One quantity over the reports of a group, of their typical inferences, in nanoseconds."""

    quantity: str
    median: float
    lowest: tuple[str, float]
    highest: tuple[str, float]


@dataclass(frozen=True)
class Common:
    """One analysis' findings over the fleet: who has it, who could not be judged, and the largest of them."""

    code: str
    severity: Severity
    labels: tuple[str, ...]
    unjudged: tuple[str, ...]
    largest: Finding
    largest_in: str
    recoverable_ns_per_inference: float | None
    """Median over the reports that have it and bound it."""
    share: float | None
    """The same, of their median inferences."""


@dataclass(frozen=True)
class Throttled:
    """A GPU whose clock dropped while it worked, by a report; `gpus` are those of the report that worked."""

    host: str | None
    label: str
    gpus: tuple[str, ...]
    finding: Finding


@dataclass(frozen=True)
class Fleet:
    """What came of every report, in the order that they were given in."""

    results: Sequence[Result]

    @cached_property
    def done(self) -> list[Done]:
        return [result for result in self.results if isinstance(result, Done)]

    @cached_property
    def failed(self) -> list[Failed]:
        return [result for result in self.results if isinstance(result, Failed)]

    @property
    def reports(self) -> list[TraceReport]:
        return [done.report for done in self.done]

    @cached_property
    def numbers(self) -> Mapping[str, Numbers]:
        return {done.member.label: done.numbers for done in self.done if done.numbers is not None}

    @cached_property
    def groups(self) -> list[Group]:
        """Reports that can be compared with each other, the largest group first."""
        return groups(self.numbers)

    @cached_property
    def stragglers(self) -> list[Straggler]:
        return [straggler for group in self.groups for straggler in stragglers(group, self.numbers)]

    @cached_property
    def peers(self) -> list[Peers]:
        """Ranks of different reports that take part in the same collectives."""
        return peers({done.member.label: done.ranks for done in self.done if done.ranks})

    def others_ns(self, label: str) -> float | None:
        """The median wall of the reports that one can be compared with; None where there are no others."""
        group = next((group for group in self.groups if label in group.labels), None)
        if group is None or len(group.labels) < 2:
            return None
        return float(np.median([self.numbers[other].wall for other in group.labels]))

    def spreads(self, group: Group) -> list[Spread]:
        """The wall and each bucket that takes time, over a group's reports."""
        values = np.array([self.numbers[label].typical for label in group.labels])
        return [
            Spread(name, float(np.median(column)), *((group.labels[at], float(column[at])) for at in ends))
            for name, column in zip(QUANTITIES, values.T, strict=True)
            if column.any()
            for ends in ((int(np.argmin(column)), int(np.argmax(column))),)
        ]

    @cached_property
    def common(self) -> list[Common]:
        """Findings by analysis: errors first, then what most reports have, then what is worth most."""
        by_code: dict[str, list[tuple[str, TraceReport, Finding]]] = defaultdict(list)
        unjudged: dict[str, list[str]] = defaultdict(list)
        for done in self.done:
            for finding in done.report.findings:
                by_code[finding.code].append((done.member.label, done.report, finding))
            for outcome in done.report.with_status(Status.COULD_NOT_RUN):
                unjudged[outcome.code].append(done.member.label)
        commons = [_common(code, rows, tuple(unjudged[code])) for code, rows in by_code.items()]
        return sorted(
            commons, key=lambda c: (c.severity is not Severity.ERROR, -len(c.labels), -(c.share or 0.0), c.code)
        )

    @cached_property
    def throttled(self) -> list[Throttled]:
        """By host, those whose host is known first."""
        throttled = [
            Throttled(done.member.host, done.member.label, _gpus(done.report.summary), finding)
            for done in self.done
            for outcome in done.report.outcomes
            if outcome.topic == CLOCKS
            for finding in done.report.ranked(outcome.findings)
        ]
        return sorted(throttled, key=lambda throttled: (throttled.host is None, throttled.host or ""))

    @cached_property
    def unjudged_everywhere(self) -> list[tuple[str, list[Outcome]]]:
        """Analyses that could judge no report, as they ended in most, by what would tell: as a report has its own."""
        ended: dict[str, list[Outcome]] = defaultdict(list)
        for report in self.reports:
            for outcome in report.with_status(Status.COULD_NOT_RUN):
                ended[outcome.code].append(outcome)
        return unjudged.grouped(_usual(all_) for _, all_ in sorted(ended.items()) if len(all_) == len(self.reports))

    @cached_property
    def clocks_unjudged(self) -> list[str]:
        """The reports of which it is not known whether their GPU was throttled."""
        return [
            done.member.label
            for done in self.done
            if any(o.topic == CLOCKS and o.status is Status.COULD_NOT_RUN for o in done.report.outcomes)
        ]

    def alone_in(self, label: str) -> list[Finding]:
        """Findings that only this report has, of at least three."""
        if len(self.done) < 3:
            return []
        codes = {common.code for common in self.common if common.labels == (label,)}
        mine = next(done.report for done in self.done if done.member.label == label)
        return [finding for finding in mine.findings if finding.code in codes]


def _common(code: str, rows: Sequence[tuple[str, TraceReport, Finding]], unjudged: tuple[str, ...]) -> Common:
    worst = min((finding.severity for _, _, finding in rows), key=SEVERITIES.index)
    largest_in, _, largest = max(rows, key=lambda row: (row[1].worth_ns(row[2]), -SEVERITIES.index(row[2].severity)))
    # A report can have several findings of one analysis, which may count the same time: the largest stands for them.
    worth: dict[str, tuple[int, float]] = {}
    for label, report, finding in rows:
        lost, share = finding.recoverable_ns_per_inference, report.share(finding)
        if lost is not None and share is not None:
            worth[label] = max(worth.get(label, (0, 0.0)), (lost, share))
    return Common(
        code,
        worst,
        tuple(dict.fromkeys(label for label, _, _ in rows)),
        unjudged,
        largest,
        largest_in,
        float(np.median([lost for lost, _ in worth.values()])) if worth else None,
        float(np.median([share for _, share in worth.values()])) if worth else None,
    )


def _usual(outcomes: Sequence[Outcome]) -> Outcome:
    """The first that could not judge for what most lack."""
    lacking = [outcome.remedy or outcome.reason for outcome in outcomes]
    return outcomes[lacking.index(mode(lacking))]


def _gpus(summary: Summary) -> tuple[str, ...]:
    """Names of the GPUs that worked, with their place on the bus, which is the same for every process of a host."""
    gpus = []
    for gpu in summary.gpus:
        place = f" at {gpu['bus_id']}" if gpu.get("bus_id") else ""
        gpus.append(f"{gpu.get('name') or 'unnamed GPU'}{place}")
    return tuple(gpus)
