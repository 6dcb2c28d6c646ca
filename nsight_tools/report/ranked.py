"""What the analyses found in a trace, in order of worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nsight_tools.analysis import Outcome, Status
from nsight_tools.findings import SEVERITIES, Finding, Severity, expected, follows
from nsight_tools.report import unjudged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.summary import Summary


@dataclass(frozen=True)
class Ranked:
    """The outcomes of a trace: which findings come first, which follow from others, what each is worth."""

    name: str
    summary: Summary
    outcomes: Sequence[Outcome]

    @property
    def all_findings(self) -> list[Finding]:
        """Every finding: what spoils all others, then what gives most, the most severe, and by code.

        Of a bound only a part is counted on (`findings.expected`): an estimate of as much is firmer.
        """
        return self.ranked(finding for outcome in self.outcomes for finding in outcome.findings)

    def ranked(self, findings: Iterable[Finding]) -> list[Finding]:
        """These findings in the same order."""
        return sorted(findings, key=self._rank)

    @cached_property
    def grouped(self) -> list[tuple[Finding, list[Finding]]]:
        """The findings that follow from no other, in the same order, each with those that follow from it."""
        waiting = self.all_findings
        groups = []
        while waiting:
            roots = [f for f in waiting if not any(follows(f, g) for g in waiting)]
            root = (roots or waiting)[0]  # findings that explain each other in a circle: the largest of them
            group = [root]
            for finding in group:  # grows while it is walked through: what follows from what follows
                group += [f for f in waiting if follows(f, finding) and not any(f is g for g in group)]
            waiting = [f for f in waiting if not any(f is g for g in group)]
            groups.append((root, group[1:]))
        return sorted(groups, key=lambda group: self._rank(group[0]))

    @property
    def findings(self) -> list[Finding]:
        """The findings that follow from no other, in the same order."""
        return [root for root, _ in self.grouped]

    def following(self, finding: Finding) -> list[Finding]:
        """What follows from `finding`, and is reported under it."""
        return next((following for root, following in self.grouped if root is finding), [])

    def _rank(self, finding: Finding) -> tuple[bool, float, int, str]:
        worth, severity = self.worth_ns(finding), SEVERITIES.index(finding.severity)
        gives = worth * expected(finding) if worth > 0 else worth
        return not self._spoils(finding), -gives, severity, finding.code

    def _spoils(self, finding: Finding) -> bool:
        """Whether it is an error without a recoverable time: until it is mended, other times mean little."""
        return finding.severity is Severity.ERROR and self.worth_ns(finding) <= 0

    def with_status(self, status: Status) -> list[Outcome]:
        return sorted((o for o in self.outcomes if o.status is status), key=lambda o: o.code)

    def unjudged(self) -> list[tuple[str, list[Outcome]]]:
        """What could not be judged, as `unjudged.grouped` has it; nothing without a trace: the verdict says so once."""
        return [] if self.summary.trtexec else unjudged.grouped(self.with_status(Status.COULD_NOT_RUN))

    def worth_ns(self, finding: Finding) -> int:
        """The time that `finding` could give back over the whole trace; -1 where nothing bounds it."""
        if finding.recoverable_ns is not None:
            return finding.recoverable_ns
        if finding.recoverable_ns_per_inference is not None:
            return finding.recoverable_ns_per_inference * max(1, self.judged)
        return -1

    @property
    def one_takes_ns(self) -> int | None:
        """What is recovered is a part of: an inference's wall, or the time from one to the next where that is judged.

        Without the profiler where that is known, of the median inference; None without inferences.
        """
        times = self.summary.times
        if times is None:
            return None
        wall_ns = round(times.untraced.wall_ns.point) if times.untraced else times.wall_median_ns
        return times.period_ns or wall_ns

    def by_period(self, finding: Finding) -> bool:
        """Whether what comes back is of the time from one inference to the next."""
        times = self.summary.times
        return finding.per == "period" or (times is not None and times.period_ns is not None)

    @property
    def judged(self) -> int:
        """How many inferences the numbers are about."""
        return self.summary.times.of if self.summary.times else 0

    def share(self, finding: Finding) -> float | None:
        """What comes back of an inference's time, of that from one to the next, or of the run's; None if unknown."""
        recovered, whole = self.part_and_whole(finding)
        return recovered / whole if recovered is not None and whole else None

    def expected_share(self, finding: Finding) -> float:
        """What is counted on of that share: 0 where it is unknown."""
        return (self.share(finding) or 0.0) * expected(finding)

    def part_and_whole(self, finding: Finding) -> tuple[int | None, int | None]:
        """What comes back, and of what: of an inference where that is known, else of the run."""
        if finding.recoverable_ns_per_inference is None:
            return finding.recoverable_ns, self.window_ns
        return finding.recoverable_ns_per_inference, finding.of_ns or self.one_takes_ns

    @property
    def window_ns(self) -> int | None:
        """From the first GPU work to the last; the whole trace where that is not known."""
        return self.summary.window_ns or self.summary.duration_ns

    @property
    def spoilers(self) -> list[Finding]:
        """The findings that spoil the numbers of all others: they come first."""
        return [finding for finding in self.findings if self._spoils(finding)]
