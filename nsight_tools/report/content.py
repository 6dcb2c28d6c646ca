"""What every format says about a trace: its outcomes in order of worth, the verdict, the header's facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsight_tools import changes, units
from nsight_tools.analysis import Status, analyze
from nsight_tools.findings import NOISE_SHARE, SEVERITIES, Finding, Severity
from nsight_tools.report import header, inferences, trtexec
from nsight_tools.report.claims import WINDOW, claim, claimed, in_all, is_part, part_of, share_of
from nsight_tools.report.ncu import HandOver, hand_over
from nsight_tools.report.ranked import Ranked
from nsight_tools.shown import Shown
from nsight_tools.summary import summarize
from nsight_tools.units import plural
from nsight_tools.worth import plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.analysis import Analysis
    from nsight_tools.findings import Change
    from nsight_tools.trace import Trace
    from nsight_tools.worth import Plan

BUCKETS = {
    "compute": "compute",
    "exposed_communication": "only communication between GPUs",
    "exposed_h2d": "only copies to the GPU",
    "exposed_d2h": "only copies to the host",
    "exposed_other_copy": "only other copies and sets",
    "accelerator": "the GPU waits for the DLA",
    "other_work": "the GPU does other work first",
    "launch": "no GPU work: launch or copy calls",
    "sync": "no GPU work: host waiting for it",
    "host": "no GPU work: host between calls",
    "unattributed": "unattributed",
}
"""The buckets of an inference in their order of precedence, in words."""

LITTLE = 2 * NOISE_SHARE
"""Share below which a bound is little to gain: what is below half of it, no second measurement would show."""

KINDS = {
    "graphs": "whole graphs",
    "h2d": "copies to the GPU",
    "d2h": "copies to the host",
    "sets": "memory sets",
    "idle": "no traced work",
}
"""The kinds of GPU time that need words of their own."""

HOST_BUCKETS = ("launch", "sync", "host")
PARTS_NOTE = "each row by itself: they need not add up"
"""Of medians and percentiles of parts beside those of the whole."""
OVERLAP_NOTE = "Do not add them up: two may count the same time."
EVIDENCE_NOTE = "Measurements are of the whole trace, unless they say otherwise."


def tail(count: int) -> str:
    """What the 99th percentile of so many inferences is called: of fewer than 100 it is the slowest one."""
    return "slowest" if count < 100 else "p99"


@dataclass(frozen=True)
class Bucket:
    """One part of an inference: medians and p99 in nanoseconds, as traced, and the median without the profiler."""

    label: str
    median: int
    p99: int
    share: float
    """Of the parts' medians together, as the bar shows it: they make 100 %."""
    untraced: str
    untraced_ns: tuple[float, float, float] | None = None
    """The same in nanoseconds: low end, point and high end; None where tracing is not known to lengthen it."""


@dataclass(frozen=True)
class TraceReport(Ranked, Shown):
    """One analyzed input: its name as the user gave it, what it holds at a glance, and the outcomes.

    `plan` is what the changes of its findings give together, where that can be told. `hand_over` is how Nsight Compute
    profiles the kernels of the layers that take the most time.
    """

    plan: Plan | None = None
    hand_over: Sequence[HandOver] = ()

    def __repr__(self) -> str:
        return f"<TraceReport {self.name}: {plural(len(self.all_findings), 'finding')}>"

    @classmethod
    def of(cls, name: str, trace: Trace, analyses: Iterable[Analysis] | None = None) -> TraceReport:
        """The report on a trace, by `analyses` (every installed one, where None)."""
        summary, outcomes = summarize(trace), analyze(trace, analyses)
        report = cls(name, summary, outcomes)
        return replace(report, plan=plan(trace, report.findings), hand_over=hand_over(trace))

    def _per_inference(self, finding: Finding) -> str:
        """`1.20 ms of 4.00 ms per inference (30 %)`: of what one takes, or of the time from one to the next."""
        times, recovered = self.summary.times, finding.recoverable_ns_per_inference or 0
        whole = finding.of_ns or self.one_takes_ns
        if self.by_period(finding):
            return f"{part_of(recovered, whole)} from one inference to the next{share_of(recovered, whole)}"
        lengthened = times is not None and units.duration(whole) != units.duration(times.wall_median_ns)
        how = " without the profiler" if is_part(recovered, whole) and lengthened else ""
        return f"{part_of(recovered, whole)} per inference{how}{share_of(recovered, whole)}"

    def worth(self, finding: Finding) -> str:
        """What it could give back: `at most 1.20 ms of 4.00 ms per inference (30 %)`; empty where nothing bounds it."""
        if self.worth_ns(finding) == 0:
            return "nothing by itself"
        if finding.recoverable_ns_per_inference is not None:
            return claimed(finding, self._per_inference(finding), finding.of_ns or self.one_takes_ns)
        if finding.recoverable_ns is not None:
            return claimed(finding, in_all(finding.recoverable_ns, self.window_ns), self.window_ns)
        return ""

    @property
    def verdict(self) -> str:
        """What a hurried reader reads: what to change first and what it is worth, then what all changes give."""
        if self.summary.trtexec:
            return trtexec.verdict(self.summary, len(self.findings))
        if not (findings := self.findings):
            return self._verdict_without_findings()
        spoilers = self.spoilers
        sentences = [self.act(finding) for finding in spoilers]
        sentences += ["until that is right, other times mean little"] if spoilers else []
        rest = findings[len(spoilers) :]
        if rest and self.worth_ns(rest[0]) > 0:
            costs = ": saves " if rest[0].change or rest[0].act else "; that costs "
            sentences += ["little to gain"] if self._is_little(rest[0]) and not spoilers else []
            sentences += [f"{self.act(rest[0])}{costs}{self.gain(rest[0])}", self._besides(rest[0])]
        elif not sentences:
            which = f"first of {len(findings):,} findings" if len(findings) > 1 else "only finding"
            sentences = ["no time to recover", f"the {which}: {self.act(rest[0])}"]
        return ". ".join(units.sentence(sentence) for sentence in sentences if sentence)

    @property
    def how(self) -> str:
        """How the change that the verdict begins with is made: the call, flag or setting; empty without findings."""
        return self.findings[0].recommendation if self.findings else ""

    @property
    def tally(self) -> str:
        """How many findings there are, how severe, and how much was not looked at: `3 (1 warning, 2 info) …`."""
        findings, unjudged = self.findings, len(self.with_status(Status.COULD_NOT_RUN))
        follow = len(self.all_findings) - len(findings)
        hence = f", and {follow} that follow{'s' if follow == 1 else ''} from them" if follow else ""
        behind = f"; {unjudged} of {len(self.outcomes)} analyses could not be judged" if unjudged else ""
        return f"{len(findings)} ({_severities(findings)}){hence}{behind}"

    def act(self, finding: Finding) -> str:
        """What to do about it, in a few words: as its outcome says it.

        What the default stream does not allow comes behind leaving it, where a finding says that the engine is there.
        """
        outcome = next((outcome for outcome in self.outcomes if finding in outcome.findings), None)
        if outcome is None:
            return finding.message
        first = f"{changes.done(changes.OFF_DEFAULT)} and " if self._needs_a_stream(finding.change) else ""
        return first + outcome.act(finding)

    def _needs_a_stream(self, those: Sequence[Change]) -> bool:
        off = changes.OFF_DEFAULT
        named = any(off in finding.change for finding in self.all_findings)
        return named and off not in those and any(change.option in changes.ONE_STREAM for change in those)

    def gain(self, finding: Finding) -> str:
        """What it could give back, in short: `about 0.214 of 1.46 ms an inference (15 %)`."""
        known, whole = self.part_and_whole(finding)
        part = known or 0
        of = "from one inference to the next" if self.by_period(finding) else "an inference"
        if finding.recoverable_ns_per_inference is None:
            of = WINDOW
        return f"{claim(finding)} {part_of(part, whole)} {of}{share_of(part, whole)}"

    def _is_little(self, finding: Finding) -> bool:
        """Whether what it gives at most is little: then a bound is no reason to begin with it."""
        share = self.share(finding)
        return finding.recoverable_between_ns is None and share is not None and share < LITTLE

    def _besides(self, first: Finding) -> str:
        """What the plan's other changes give on top of the first finding's; empty where there are none."""
        others = [change for change in self.plan.changes if change not in first.change] if self.plan else []
        if not others or not self.plan_leads:
            return ""
        after = "apart from that, " if len(others) == len(self._plan.changes) else "then "
        return f"{after}{', then '.join(map(changes.done, others))}: {self._before_and_after} in all"

    @property
    def plan_leads(self) -> bool:
        """Whether what the changes give together is the most that can be had here: then the verdict says it."""
        if self.plan is None or self.spoilers:
            return False
        worth = self.plan.worth
        largest = max(map(self.expected_share, self.findings), default=0.0)
        return round(worth.point_ns) / max(round(worth.before_ns), 1) >= largest

    @property
    def together(self) -> str:
        """What the plan's changes give, in their order: `pin the host's buffers, then …: 5.80 → 1.40 ms …`."""
        if self.plan is None:
            return ""
        what = "an inference" if self.plan.worth.per == "wall" else "from one inference to the next"
        return f"{', then '.join(map(changes.done, self.plan.changes))}: {self._before_and_after} {what}"

    @property
    def of_these(self) -> str:
        """What stands before `together`."""
        return "Together" if len(self._plan.changes) > 1 else "Of these"

    @property
    def _before_and_after(self) -> str:
        """`5.80 → 1.40 ms (1.20 to 1.50 ms)`; of a report with a plan."""
        worth = self._plan.worth
        before, after, least, most = (
            worth.before_ns - saved_ns for saved_ns in (0.0, worth.point_ns, worth.high_ns, worth.low_ns)
        )
        return f"{units.between(before, after, '→')} ({units.between(least, most)})"

    @property
    def _plan(self) -> Plan:
        assert self.plan is not None
        return self.plan

    @property
    def steps(self) -> list[str]:
        """The plan's changes one by one, each with what is left after it, where there are several."""
        if self.plan is None or len(self.plan.stages) < 2:
            return []
        return [f"{changes.done(stage.change)}: {units.duration(stage.after_ns)}" for stage in self.plan.stages]

    @property
    def beside_the_sum(self) -> str:
        """Which findings with a time to recover are not in what the plan gives; empty where all of them are.

        Empty too where no sum is printed: the plan is the first finding's change alone.
        """
        made = set(self.plan.changes) if self.plan else set()
        if len(made) < 2 and self.plan_leads:
            return ""
        others = [
            finding for finding in self.findings if self.worth_ns(finding) > 0 and not made.intersection(finding.change)
        ]
        if not others or self.plan is None:
            return ""
        numbers = [str(at) for at, finding in enumerate(self.findings, 1) if any(finding is each for each in others)]
        which = f"finding{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        return f"Not in this sum, since it is not known what they add to it: {which}."

    def _verdict_without_findings(self) -> str:
        unjudged, of = len(self.with_status(Status.COULD_NOT_RUN)), len(self.outcomes)
        if not of:
            return "No analyses were run"
        if unjudged == of:
            return f"No verdict: {'the analysis' if of == 1 else f'all {of} analyses'} could not be judged"
        behind = f"; {unjudged} of {of} analyses could not be judged" if unjudged else ""
        if not (clear := len(self.with_status(Status.CLEAR))):
            return f"Nothing to look for in this trace{behind}"
        return f"Nothing found by {'the analysis' if clear == 1 else f'the {clear} analyses'} that could judge{behind}"

    @property
    def facts(self) -> list[str]:
        """The header: what ran, what was recorded, and what was taken for an inference."""
        return [*self.about, *self.measured]

    @property
    def about(self) -> list[str]:
        """What ran, what was recorded, and what was taken for an inference."""
        return header.about(self.summary)

    @property
    def measured(self) -> list[str]:
        """What was measured without the profiler."""
        return header.measured(self.summary)

    @property
    def tail(self) -> str:
        """What the 99th percentile of the inferences' times is called."""
        return tail(self.judged)

    def buckets(self) -> list[Bucket]:
        """Each bucket that took time."""
        times = self.summary.times
        if times is None:
            return []
        known, whole = self.tracing_lengthens, max(sum(times.median.get(bucket, 0) for bucket in BUCKETS), 1)
        rows = []
        for bucket, label in BUCKETS.items():
            median, p99 = times.median.get(bucket, 0), times.p99.get(bucket, 0)
            if median or p99:
                untraced = (self._untraced(bucket) or units.duration(median)) if known else ""
                between = (self._between(bucket) or (median, median, median)) if known else None
                rows.append(Bucket(label, median, p99, median / whole, untraced, between))
        return rows

    def _untraced(self, name: str) -> str:
        """A median without the profiler, with its interval; empty where nothing is known of it."""
        if (between := self._between(name)) is None:
            return ""
        low, point, high = map(units.duration, between)
        return point if low == point == high else f"{point} ({low} to {high})"

    def _between(self, name: str) -> tuple[float, float, float] | None:
        """The low end, the point and the high end of a median without the profiler; None where nothing is known."""
        times = self.summary.times
        span = getattr(times.untraced, name, None) if times and times.untraced else None
        return None if span is None else (span.low, span.point, span.high)

    @property
    def tracing_lengthens(self) -> bool:
        """Whether the median inference is shorter without the profiler, by what is printed of it."""
        times = self.summary.times
        if times is None or times.untraced is None:
            return False
        real, traced = times.untraced.wall_ns, units.duration(times.wall_median_ns)
        return any(units.duration(end_ns) != traced for end_ns in (real.low, real.point, real.high))

    @property
    def untraced_wall(self) -> str:
        """The median inference without the profiler, with its interval; empty where tracing does not lengthen it."""
        return self._untraced("wall_ns") if self.tracing_lengthens else ""

    @property
    def untraced_wall_ns(self) -> tuple[float, float, float] | None:
        """The same in nanoseconds: low end, point and high end."""
        return self._between("wall_ns") if self.tracing_lengthens else None

    @property
    def observer_note(self) -> str:
        """`observer`, below a table with all that is known."""
        return self.observer()

    def observer(self, *, intervals: bool = True) -> str:
        """Where the column without the profiler comes from, or why there is none; empty without the host's share.

        `intervals`: whether the table above shows them, where there are some.
        """
        times = self.summary.times
        if times is None or times.untraced is None or not self.host_time_shown:
            return ""
        source = times.untraced.source
        if self.tracing_lengthens:
            shown = intervals and any(
                "(" in untraced for untraced in (self.untraced_wall, *(b.untraced for b in self.buckets()))
            )
            brackets = "; in brackets, between which times that may lie" if shown else ""
            shorter = times.untraced.wall_ns.point < times.wall_median_ns
            first = "Tracing lengthens the parts without GPU work. Without it" if shorter else "Without the profiler"
            return f"{first}: {source}{brackets}."
        return f"Without the profiler nothing is shorter: {source}."

    @property
    def beside(self) -> str:
        """What is measured beside the buckets; empty without inferences that the GPU was seen to work for."""
        return inferences.beside(self.summary.times)

    @property
    def host_time_shown(self) -> bool:
        return self.summary.times is not None and any(self.summary.times.median.get(bucket) for bucket in HOST_BUCKETS)


def _severities(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    words = {
        Severity.ERROR: ("error", "errors"),
        Severity.WARNING: ("warning", "warnings"),
        Severity.INFO: ("info",) * 2,
    }
    return ", ".join(plural(counts[severity], *words[severity]) for severity in SEVERITIES if counts[severity])
