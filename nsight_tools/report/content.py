"""What every format says about a trace: its outcomes in order of worth, the verdict, the header's facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from nsight_tools import changes, units
from nsight_tools.analysis import Outcome, Status, analyze
from nsight_tools.findings import SEVERITIES, Finding, Severity, follows
from nsight_tools.report import accurate, layer_times, measurements, safe, trtexec
from nsight_tools.report.ncu import HandOver, hand_over
from nsight_tools.shown import Shown
from nsight_tools.summary import summarize
from nsight_tools.units import plural
from nsight_tools.worth import plan
from nsight_tools.worth.untraced import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nsight_tools.analysis import Analysis
    from nsight_tools.summary import Summary, Times
    from nsight_tools.trace import Trace
    from nsight_tools.worth import Plan

BUCKETS = {
    "compute": "compute",
    "exposed_communication": "exposed communication between GPUs",
    "exposed_h2d": "exposed copies to the GPU",
    "exposed_d2h": "exposed copies to the host",
    "exposed_other_copy": "exposed other copies and sets",
    "accelerator": "the GPU waits for the DLA",
    "other_work": "behind other work on the GPU",
    "launch": "no GPU work: launch or copy calls",
    "sync": "no GPU work: host waiting for it",
    "host": "no GPU work: host between calls",
    "unattributed": "unattributed",
}
"""The buckets of an inference in their order of precedence, in words."""

OVERLAPPING = 1.02
"""Inferences at a time, on average, from which on they are said to overlap."""

KINDS = {
    "graphs": "whole graphs",
    "h2d": "copies to the GPU",
    "d2h": "copies to the host",
    "sets": "memory sets",
    "idle": "no traced work",
}
"""The kinds of GPU time that need words of their own."""

WINDOW = "from the first GPU work to the last"
HOST_BUCKETS = ("launch", "sync", "host")
OVERLAP_NOTE = "Do not add them up: two may count the same time."
EVIDENCE_NOTE = "Measurements are of the whole trace, unless they say otherwise."

_AS_IN = {
    "this trace": "other inferences",
    "layer pass": "the layer pass (another run, with layer ranges)",
    "layer list": "the engine's list of layers",
}
_REQUESTS = {
    "inference_range": "the NVTX range {name}",
    "program_range": "the program's own NVTX range {name}, which holds the launches of each turn",
    "enqueue_pattern": "{enqueues} that come in a fixed order on their thread",
    "enqueue_range": "one enqueue, by TensorRT's ranges",
    "graph_launch": "one launch of a CUDA graph",
    "iteration": "an iteration, found in what repeats on the GPU ({alike} alike)",
}


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
    """Of the median inference."""
    untraced: str


@dataclass(frozen=True)
class TraceReport(Shown):
    """One analyzed input: its name as the user gave it, what it holds at a glance, and the outcomes.

    `plan` is what the changes of its findings give together, where that can be told. `hand_over` is how Nsight Compute
    profiles the kernels of the layers that take the most time.
    """

    name: str
    summary: Summary
    outcomes: Sequence[Outcome]
    plan: Plan | None = None
    hand_over: Sequence[HandOver] = ()

    def __repr__(self) -> str:
        return f"<TraceReport {self.name}: {plural(len(self.all_findings), 'finding')}>"

    @classmethod
    def of(cls, name: str, trace: Trace, analyses: Iterable[Analysis] | None = None) -> TraceReport:
        """The report on a trace, by `analyses` (every installed one, where None)."""
        summary, outcomes = summarize(trace), analyze(trace, analyses)
        found = cls(name, summary, outcomes)
        return replace(found, plan=plan(trace, found.findings), hand_over=hand_over(trace))

    @property
    def all_findings(self) -> list[Finding]:
        """Every finding: what spoils all others, then the largest recoverable time, the most severe, and by code."""
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

    def _rank(self, finding: Finding) -> tuple[bool, int, int, str]:
        severity = SEVERITIES.index(finding.severity)
        return not self._spoils(finding), -self.worth_ns(finding), severity, finding.code

    def _spoils(self, finding: Finding) -> bool:
        """Whether it is an error without a recoverable time: until it is mended, other times mean little."""
        return finding.severity is Severity.ERROR and self.worth_ns(finding) <= 0

    def with_status(self, status: Status) -> list[Outcome]:
        return sorted((o for o in self.outcomes if o.status is status), key=lambda o: o.code)

    def unjudged(self) -> list[tuple[str, list[Outcome]]]:
        """What could not be judged, by the reason, the one that stands in the way of most first.

        Nothing where there is no trace: the verdict says so once.
        """
        if self.summary.trtexec:
            return []
        ordered = sorted(self.with_status(Status.COULD_NOT_RUN), key=lambda o: (o.reason, o.code))
        groups = [(reason, list(group)) for reason, group in groupby(ordered, lambda o: o.reason)]
        return sorted(groups, key=lambda group: (-len(group[1]), group[1][0].code))

    def worth_ns(self, finding: Finding) -> int:
        """The time that `finding` could give back over the whole trace; -1 where nothing bounds it."""
        if finding.recoverable_ns is not None:
            return finding.recoverable_ns
        if finding.recoverable_ns_per_inference is not None:
            return finding.recoverable_ns_per_inference * max(1, self._judged)
        return -1

    @property
    def one_takes_ns(self) -> int | None:
        """What is recovered of an inference is a part of: its wall, or of several under way the time that each adds.

        The median's wall, without the profiler where that is known; None without inferences.
        """
        times = self.summary.times
        if times is None:
            return None
        if times.several:
            return times.every_ns
        return round(times.untraced.wall_ns.point) if times.untraced else times.wall_median_ns

    @property
    def _several(self) -> bool:
        return self.summary.times is not None and self.summary.times.several

    @property
    def _judged(self) -> int:
        """How many inferences the numbers are about."""
        return self.summary.times.of if self.summary.times else 0

    def share(self, finding: Finding) -> float | None:
        """What comes back of an inference's time, of that from one to the next, or of the run's; None if unknown."""
        part, whole = self._part_and_whole(finding)
        return part / whole if part is not None and whole else None

    def _part_and_whole(self, finding: Finding) -> tuple[int | None, int | None]:
        """What comes back, and of what: of an inference where that is known, else of the run."""
        if finding.recoverable_ns_per_inference is None:
            return finding.recoverable_ns, self.window_ns
        return finding.recoverable_ns_per_inference, finding.of_ns or self.one_takes_ns

    def _per_inference(self, finding: Finding) -> str:
        """`1.20 ms of 4.00 ms per inference (30 %)`: of what one takes, or of the time from one to the next."""
        times, part = self.summary.times, finding.recoverable_ns_per_inference or 0
        whole = finding.of_ns or self.one_takes_ns
        if finding.per == "period":
            return f"{units.duration(part)}{_of(part, whole)} from one inference to the next{_share(part, whole)}"
        of, how = _of(part, whole), ""
        if of and self._several:
            how = " of several under way"
        elif of and times and units.duration(whole) != units.duration(times.wall_median_ns):
            how = " without the profiler"
        return f"{units.duration(part)}{of} per inference{how}{_share(part, whole)}"

    @property
    def window_ns(self) -> int | None:
        """From the first GPU work to the last; the whole trace where that is not known."""
        return self.summary.window_ns or self.summary.duration_ns

    def worth(self, finding: Finding) -> str:
        """What it could give back: `at most 1.20 ms of 4.00 ms per inference (30 %)`; empty where nothing bounds it."""
        if self.worth_ns(finding) == 0:
            return "nothing by itself"
        if finding.recoverable_ns_per_inference is not None:
            return _claimed(finding, self._per_inference(finding))
        if finding.recoverable_ns is not None:
            return _claimed(finding, _in_all(finding.recoverable_ns, self.window_ns))
        return ""

    @property
    def verdict(self) -> str:
        """What a hurried reader reads: what to change first and what it is worth, then what all changes give."""
        if self.summary.trtexec:
            return trtexec.verdict(self.summary, len(self.findings))
        if not (findings := self.findings):
            return self._verdict_without_findings()
        spoilers = self.spoilers
        said = [self.act(each) for each in spoilers]
        said += ["until that is right, other times mean little"] if spoilers else []
        rest = findings[len(spoilers) :]
        if rest and self.worth_ns(rest[0]) > 0:
            costs = ": " if rest[0].change else "; that costs "
            said += [f"{self.act(rest[0])}{costs}{self.gain(rest[0])}", self._besides(rest[0])]
        elif not said:
            said = [f"no time to recover; the first of {plural(len(findings), 'finding')}: {self.act(rest[0])}"]
        return ". ".join(units.sentence(each) for each in said if each)

    @property
    def tally(self) -> str:
        """How many findings there are, how severe, and how much was not looked at: `3 (1 warning, 2 info) …`."""
        findings, unjudged = self.findings, len(self.with_status(Status.COULD_NOT_RUN))
        follow = len(self.all_findings) - len(findings)
        hence = f", and {follow} that follow{'s' if follow == 1 else ''} from them" if follow else ""
        behind = f"; {unjudged} of {len(self.outcomes)} analyses could not be judged" if unjudged else ""
        return f"{len(findings)} ({_severities(findings)}){hence}{behind}"

    def act(self, finding: Finding) -> str:
        """What to do about it, in a few words: its changes, else what its analysis looks for.

        Where that found several things, each by what its own message begins with: no two are called the same.
        """
        if finding.change:
            return " and ".join(changes.done(each) for each in finding.change)
        outcome = next((each for each in self.outcomes if finding in each.findings), None)
        if outcome is None or not outcome.summary:
            return finding.message
        several = sum(not each.change for each in outcome.findings) > 1
        return finding.message.partition(": ")[0] if several else outcome.summary

    def gain(self, finding: Finding) -> str:
        """What it could give back, in short: `about 0.214 of 1.46 ms an inference (15 %)`."""
        known, whole = self._part_and_whole(finding)
        part = known or 0
        of = "an inference of several under way" if self._several else "an inference"
        if finding.recoverable_ns_per_inference is None:
            of = WINDOW
        elif finding.per == "period":
            of = "from one inference to the next"
        if not whole or part > whole:
            return f"{claim(finding)} {units.duration(part)} {of}"
        return f"{claim(finding)} {units.part(part, whole)} {of} ({units.share(part / whole)})"

    def _besides(self, first: Finding) -> str:
        """What the plan's other changes give on top of the first finding's; empty where there are none."""
        others = [each for each in self.plan.changes if each not in first.change] if self.plan else []
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
        largest = max((self.share(each) or 0.0 for each in self.findings), default=0.0)
        return round(worth.point_ns) / max(round(worth.before_ns), 1) >= largest

    @property
    def together(self) -> str:
        """What the plan's changes give, in their order: `pin the host's buffers, then …: 5.80 → 1.40 ms …`."""
        if self.plan is None:
            return ""
        what = "an inference" if self.plan.worth.per == "wall" else "from one inference to the next"
        return f"{', then '.join(map(changes.done, self.plan.changes))}: {self._before_and_after} {what}"

    @property
    def _before_and_after(self) -> str:
        """`5.80 → 1.40 ms (1.20 to 1.50 ms)`; of a report with a plan."""
        worth = self._plan.worth
        before, after, least, most = (
            worth.before_ns - each for each in (0.0, worth.point_ns, worth.high_ns, worth.low_ns)
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
        return [f"{changes.done(each.change)}: {units.duration(each.after_ns)}" for each in self.plan.stages]

    @property
    def beside_the_sum(self) -> str:
        """Which findings with a time to recover are not in what the plan gives; empty where all of them are.

        Empty too where no sum is printed: the plan is the first finding's change alone.
        """
        made = set(self.plan.changes) if self.plan else set()
        if len(made) < 2 and self.plan_leads:
            return ""
        others = [each for each in self.findings if self.worth_ns(each) > 0 and not made.intersection(each.change)]
        codes = ", ".join(dict.fromkeys(each.code for each in others))
        return f"Not in this sum, for no replay tells what it adds: {codes}." if codes and self.plan else ""

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
    def spoilers(self) -> list[Finding]:
        """The findings that spoil the numbers of all others: they come first."""
        return [finding for finding in self.findings if self._spoils(finding)]

    @property
    def facts(self) -> list[str]:
        """The header: what ran, what was recorded, and what was taken for an inference."""
        return [*self.about, *self.measured]

    @property
    def about(self) -> list[str]:
        """What ran, what was recorded, and what was taken for an inference."""
        if self.summary.trtexec:
            return trtexec.facts(self.summary)
        lines = [" · ".join(self._machine()), " · ".join(self._recorded())]
        return [*lines, " · ".join(self._requests())] if self.summary.inferences else lines

    @property
    def measured(self) -> list[str]:
        """What was measured without the profiler."""
        found = self.summary.measured
        layers = layer_times.told(self.summary.layer_times) if self.summary.layer_times else ""
        if self.summary.trtexec:
            return [layers] if layers else []
        told = (self.untraced_run, measurements.again(found), measurements.takes(found), layers)
        accuracy = [accurate.told(found.accuracy)] if found.accuracy else []
        return [*filter(None, told), *accuracy, *accurate.odd(found.outputs)]

    def _machine(self) -> list[str]:
        s = self.summary
        facts = [_gpus(s.gpus)]
        facts += [
            f"{label} {safe.elided(str(version), 40)}"
            for version, label in ((s.driver, "driver"), (s.cuda, "CUDA"))
            if version
        ]
        # An export names the version that exported it, a report the one that captured it.
        done = "captured" if s.captured_by else "exported"
        return [*facts, *s.clocks, f"{done} by nsys {safe.elided(str(s.nsys_version or 'of unknown version'), 40)}"]

    def _recorded(self) -> list[str]:
        s, counts = self.summary, self.summary.counts
        facts = ["duration not recorded" if s.duration_ns is None else f"{units.duration(s.duration_ns)} traced"]
        facts += [plural(counts.get("kernels") or 0, "kernel")]
        if counts.get("graph_launches"):
            facts.append(plural(counts["graph_launches"], "whole-graph launch", "whole-graph launches"))
        facts += [plural(s.inferences, "inference"), plural(s.streams, "stream")]
        if s.processes > 1:
            facts.append(plural(s.processes, "process", "processes"))
        if s.layers_by_order:
            facts.append(_by_order(s.layers_by_order))
        return facts

    def _requests(self) -> list[str]:
        """What an inference is here and why, which of them are judged, and the options that say otherwise."""
        s = self.summary
        known = {
            "name": f"'{safe.elided(s.inference_name, 60)}'" if s.inference_name else "a range",
            "enqueues": f"{plural(s.enqueues, 'enqueue')} of {plural(s.engines, 'engine')}",
            "alike": units.share(s.alike),
        }
        sources = str(s.inference_source or "").split(" and ")
        facts = ["an inference is " + " or ".join(_REQUESTS.get(each, each).format(**known) for each in sources)]
        if s.enqueues > 1 and "enqueue_pattern" not in sources:
            facts.append(f"{known['enqueues']} in each")
        if len(s.populations) > 1:
            judged, *others = s.populations
            part = sum(each.time_ns for each in others) / max(sum(each.time_ns for each in s.populations), 1)
            each = f" ({plural(judged.kernels, 'kernel')} each)" if judged.kernels else ""
            rest = f"{sum(other.count for other in others):,} do other work, {units.share(part)} of the time"
            facts.append(
                f"judged: {judged.count:,} that take the most time{each}; {rest} "
                "(--group-by tells them apart in another way)"
            )
        other = f"'{safe.elided(s.other_name, 60)}'" if s.other_name else "NAME"
        return [*facts, f"others: --inference-range {other}"]

    @property
    def untraced_run(self) -> str:
        """How fast the run without the profiler was and who timed it, or why that is not taken; empty without one."""
        run = self.summary.untraced_run
        if run is None:
            return ""
        if run.program_ns is not None:
            return f"without the profiler: {self._program(run.program_ns)}"
        by = SOURCES.get(run.measured_by, run.measured_by)
        where = f" ({safe.elided(run.file, 60)})" if run.file else ""
        if run.problem:
            return f"without the profiler: times by {by}{where} are not taken, for {run.problem}"
        timed = f"{plural(run.inferences, 'inference')} timed by {by}{where}"
        speed = self.summary.measured.speed
        return (
            f"without the profiler: {measurements.told(speed)}; {timed}" if speed else f"without the profiler: {timed}"
        )

    def _program(self, took_ns: int) -> str:
        """What the time of a whole program says: no more than a bound, where all that it does are inferences alike."""
        s = self.summary
        said = f"the program took {units.duration(took_ns)} in all; its inferences were not timed"
        if s.inferences and len(s.populations) == 1:
            said += f", and take {units.duration(took_ns / s.inferences)} each at most, if it did the same"
        return f"{said} (nsight_tools.inference() times them)"

    @property
    def tail(self) -> str:
        """What the 99th percentile of the inferences' times is called."""
        return tail(self._judged)

    def buckets(self) -> list[Bucket]:
        """Each bucket that took time."""
        times = self.summary.times
        if times is None:
            return []
        wall, known = times.wall_median_ns, self.tracing_lengthens
        rows = []
        for bucket, label in BUCKETS.items():
            median, p99 = times.median.get(bucket, 0), times.p99.get(bucket, 0)
            if median or p99:
                share = median / wall if wall else 0.0
                untraced = (self._untraced(bucket) or units.duration(median)) if known else ""
                rows.append(Bucket(label, median, p99, share, untraced))
        return rows

    def _untraced(self, name: str) -> str:
        """A median without the profiler, with its interval; empty where nothing is known of it."""
        times = self.summary.times
        span = getattr(times.untraced, name, None) if times and times.untraced else None
        if span is None:
            return ""
        low, point, high = (units.duration(each) for each in (span.low, span.point, span.high))
        return point if low == point == high else f"{point} ({low} to {high})"

    @property
    def tracing_lengthens(self) -> bool:
        """Whether the median inference is shorter without the profiler, by what is printed of it."""
        times = self.summary.times
        if times is None or times.untraced is None:
            return False
        real, traced = times.untraced.wall_ns, units.duration(times.wall_median_ns)
        return any(units.duration(each) != traced for each in (real.low, real.point, real.high))

    @property
    def untraced_wall(self) -> str:
        """The median inference without the profiler, with its interval; empty where tracing does not lengthen it."""
        return self._untraced("wall_ns") if self.tracing_lengthens else ""

    @property
    def observer_note(self) -> str:
        """`observer`, below a table with all that is known."""
        return self.observer()

    def observer(self, *, intervals: bool = True) -> str:
        """Where the column without the profiler comes from, or why there is none; empty without the host's share.

        `intervals`: whether the table above shows them, where there are some.
        """
        times = self.summary.times
        source = times.untraced.source if times and times.untraced else ""
        if not source or not self.host_time_shown:
            return ""
        if self.tracing_lengthens:
            shown = intervals and any(
                "(" in each for each in (self.untraced_wall, *(b.untraced for b in self.buckets()))
            )
            brackets = "; in brackets, between which times that may lie" if shown else ""
            return f"Tracing lengthens the parts without GPU work. Without it: {source}{brackets}."
        return f"Without the profiler nothing is shorter: {source}."

    @property
    def beside(self) -> str:
        """What is measured beside the buckets; empty without inferences that the GPU was seen to work for."""
        times = self.summary.times
        if times is None or not times.gpu_busy_share:
            return ""
        parts = [f"a GPU works for {units.share(times.gpu_busy_share)} of it"]
        if times.hidden_copy_ns:
            parts.append(f"{units.duration(times.hidden_copy_ns)} of copies run beside its kernels")
        parts.append(f"the host's calls are {units.duration(times.queue_delay_ns)} ahead of its work")
        return f"{_left_out(times)}Beside, in the median inference: {', '.join(parts)}.{_overlap(times)}"

    @property
    def host_time_shown(self) -> bool:
        return self.summary.times is not None and any(self.summary.times.median.get(each) for each in HOST_BUCKETS)


def _left_out(times: Times) -> str:
    """How many inferences are left out, for they launched nothing, or warm up."""
    left_out = (
        f"{plural(times.without_work, 'inference')} that launched nothing left out. " if times.without_work else ""
    )
    if times.warm_up:
        left_out += (
            f"{plural(times.warm_up, 'inference')} of the warm-up left out, which took "
            f"{units.duration(times.warm_up_ns)} longer. "
        )
    return left_out


def _overlap(times: Times) -> str:
    """How many inferences are under way at a time, and how often one ends then, where they overlap."""
    if times.at_a_time < OVERLAPPING:
        return ""
    often = units.duration(times.every_ns)
    return f" Inferences overlap: {times.at_a_time:.2f} at a time, so that one ends every {often} on average."


def _by_order(ordered: Mapping[str, Any]) -> str:
    """How the layers of kernels are known that have no layer range around them."""
    sources, kernels = ordered["attributed"], ordered["kernels"]
    if not sources:
        least = units.share(ordered["in_common"])
        return (
            f"layers of {plural(kernels, 'kernel')} unknown: what has layers has {least} of the kernels' order at most"
        )
    known = units.share(sum(sources.values()) / kernels)
    where = " and ".join(_AS_IN.get(one, one) for one in sources)
    return f"layers of {known} of {plural(kernels, 'kernel')} told by their order, as in {where}"


def claim(finding: Finding) -> str:
    """How what is recoverable is meant: as a bound or as an estimate."""
    return "at most" if finding.recoverable_between_ns is None else "about"


def _claimed(finding: Finding, worth: str) -> str:
    """`at most 1.20 ms of …`, or `about 1.20 ms of …, between 0.90 ms and 1.50 ms`."""
    between = finding.recoverable_between_ns
    ends = f", between {units.duration(between[0])} and {units.duration(between[1])}" if between else ""
    return f"{claim(finding)} {worth}{ends}"


def _in_all(part_ns: int, window_ns: int | None) -> str:
    if not (whole := _of(part_ns, window_ns)):
        return f"{units.duration(part_ns)} in all"
    return f"{units.duration(part_ns)}{whole} {WINDOW}{_share(part_ns, window_ns)}"


def _of(part_ns: int, whole_ns: int | None) -> str:
    """The whole is left out where there is none, and where the bound lies above it."""
    return f" of {units.duration(whole_ns)}" if whole_ns and part_ns <= whole_ns else ""


def _share(part_ns: int, whole_ns: int | None) -> str:
    return f" ({units.share(part_ns / whole_ns)})" if whole_ns and part_ns <= whole_ns else ""


def _severities(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    words = {
        Severity.ERROR: ("error", "errors"),
        Severity.WARNING: ("warning", "warnings"),
        Severity.INFO: ("info",) * 2,
    }
    return ", ".join(plural(counts[severity], *words[severity]) for severity in SEVERITIES if counts[severity])


def _gpus(gpus: Sequence[Mapping[str, Any]]) -> str:
    if not gpus:
        return "GPU not recorded"
    names = Counter(safe.elided(str(gpu.get("name") or "unnamed GPU"), 80) for gpu in gpus)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())
