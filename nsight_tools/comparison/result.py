"""What a comparison says: data without behaviour, for every format to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.errors import ArgumentError, NsightToolsError
from nsight_tools.shown import Shown

if TYPE_CHECKING:
    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.summary import Summary


class Change(str, Enum):
    """What became of one quantity."""

    LESS = "less"
    MORE = "more"
    NOISE = "noise"
    """Its interval holds 0, or it is smaller than what either run drifts by itself."""
    SAME = "same"
    UNKNOWN = "unknown"
    """Both values are known, but not how much they vary."""


class Verdict(str, Enum):
    """The answer: did AFTER become faster?"""

    FASTER = "faster"
    SLOWER = "slower"
    NOISE = "noise"
    UNDECIDED = "undecided"
    """All of the difference may be the profiler's: without an untraced run of both nobody can tell."""
    NOT_COMPARABLE = "not_comparable"
    """What was measured is not the same thing twice: the difference is given, but not put down to the change."""
    CANNOT_TELL = "cannot_tell"
    """No inferences, or too few."""


class Metric(str, Enum):
    """What is judged: each answers another question, and a change can make one better and the other worse."""

    THROUGHPUT = "throughput"
    """The time that passes for each input, from one completion on a GPU to the next, over all threads and streams."""
    LATENCY = "latency"
    """The wall of an inference."""


BOTH = tuple(Metric)


class Effect(str, Enum):
    """What a difference in set-up means for the comparison."""

    BLOCKS = "blocks"
    """The two do not measure the same thing, for one of the verdicts at least."""
    CONFOUNDS = "confounds"
    """It may have caused the difference, beside the change that is judged."""
    CHANGE = "change"
    """It may be the change that is judged."""


@dataclass(frozen=True)
class Difference:
    """One quantity before and after, in `unit`; of the typical inference where nothing else is said.

    `low` and `high` bound `difference` (None where nothing tells the spread); `drift` is how far the two
    halves of either run lie apart by themselves. `effect` is Cliff's delta, -1 to 1: over all
    inferences for the wall, else over at most 5,000 from all of the run. `share` is its part of the wall's difference,
    where that is one. `detail` says what the numbers cannot.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    drift: float | None = None
    change: Change = Change.UNKNOWN
    effect: float | None = None
    share: float | None = None
    detail: str = ""

    def relative(self, value: float | None) -> float | None:
        """`value`, as the difference or one of its bounds, as a share of what was before."""
        return None if value is None or not self.before else value / self.before


@dataclass(frozen=True)
class SetupDifference:
    """Something besides the times that differs between the two."""

    aspect: str
    before: str
    after: str
    effect: Effect
    why: str
    blocks: tuple[Metric, ...] = ()
    """Of which there is no verdict for that."""


@dataclass(frozen=True)
class Judgement:
    """One of the two verdicts: `verdict` is the answer, `measured` what the times alone say.

    `difference` is of the times that it rests on, in ns: without the profiler, as measured, or as estimated from the
    traces, and then its interval holds what the profiler may have cost. `traced` is the same as traced.
    """

    metric: Metric
    verdict: Verdict = Verdict.CANNOT_TELL
    measured: Verdict = Verdict.CANNOT_TELL
    difference: Difference | None = None
    traced: Difference | None = None
    source: str = "trace"
    """untraced, where both sides were measured without the profiler; trace; mixed, where one was."""
    level: float | None = None
    """Of the interval."""
    why: str = ""
    """What leaves it undecided, or unjudged."""
    repeats: tuple[int, int] = (0, 0)
    """Of how many runs without the profiler the time of each side is the mean; 0 where it is estimated."""

    @property
    def judged(self) -> bool:
        """Whether there is an answer: faster, slower or noise."""
        return self.verdict in {Verdict.FASTER, Verdict.SLOWER, Verdict.NOISE}


@dataclass(frozen=True)
class OfPopulation:
    """The two verdicts on one population of inferences, where there are several: those that do the same work."""

    name: str
    before: int
    """How many of them are compared."""
    after: int
    throughput: Judgement
    latency: Judgement


@dataclass(frozen=True)
class Prediction:
    """What a finding on BEFORE said could be recovered, and what was.

    `act` says in a few words what to do about it, as the report on BEFORE does.
    `promised_ns` is its bound or estimate for one inference, `remaining_ns` that of the same code on AFTER: 0 where it
    is gone, None where AFTER could not be judged or bounds nothing. `came` is the difference of the `buckets` that it
    concerns together, or of the time from one inference to the next where that was promised; `shared_with` are codes
    that promised time from the same buckets, and are gone or smaller as well.
    """

    code: str
    act: str
    message: str
    status: str
    """gone, smaller, still_there, unjudged"""
    promised_ns: int
    remaining_ns: int | None
    buckets: tuple[str, ...]
    came: Difference | None
    shared_with: tuple[str, ...] = ()
    estimate: bool = False
    """Whether what was promised is an estimate, and no bound."""


@dataclass(frozen=True)
class Built:
    """How one build made a region."""

    layers: tuple[str, ...]
    """Those that compute, by name."""
    reformats: int
    precision: str
    """Types that its layers read, as `FP16, FP32`; empty where the engine does not tell."""
    tactics: tuple[str, ...]
    """Kernels that the builder chose, of layers that have a choice."""


@dataclass(frozen=True)
class Rebuilt:
    """A region that the two builds made in different ways."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    before: Built
    after: Built
    changed: tuple[str, ...]
    """Of fusion, precision, reformats, tactic, format: what differs, but for what follows from another."""
    time: Difference
    """Of its kernels."""


@dataclass(frozen=True)
class Builds:
    """Two builds of one model, side by side."""

    regions: tuple[Rebuilt, ...]
    """Those that were built otherwise, the largest difference first."""
    rebuilt: int
    """How many were."""
    alike: int
    """How many were not."""
    totals: tuple[Difference, ...]
    """Sums over regions by what changed in them, and what was built alike; then reformats, which are in the others."""
    reformats: tuple[int, int]
    """Layers of each build that only reformat."""


@dataclass(frozen=True)
class Side:
    """One of the two traces."""

    name: str
    summary: Summary
    inferences: int
    """Compared: without warm-up, and without those that the GPU did nothing for."""
    left_out: int
    in_flight: float = 1.0
    """Under way at a time, without the profiler where that is known."""
    inputs: float = 1.0
    """Inputs that an inference carries: its batch, where both sides tell; else as a multiple of BEFORE's."""
    walls: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """Of the compared inferences in order of time, shape (n,), ns: those that `Comparison.wall_source` names."""


@dataclass(frozen=True)
class Comparison(Shown):
    """Two traces compared: what AFTER is beside BEFORE.

    Example:
        >>> from nsight_tools import compare
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> both.verdict.value, both.leads.value
        ('faster', 'latency')
        >>> [part.name for part in both.buckets][:2]
        ['compute', 'exposed_communication']
    """

    before: Side
    after: Side
    throughput: Judgement = Judgement(Metric.THROUGHPUT)
    latency: Judgement = Judgement(Metric.LATENCY)
    leads: Metric = Metric.LATENCY
    """The verdict to begin with: throughput where several are in flight on either side, or the batch differs."""
    populations: tuple[OfPopulation, ...] = ()
    """Of each kind of inference, where either side has several; the verdicts above are on the one with most time."""
    setup: tuple[SetupDifference, ...] = ()
    walls: tuple[Difference, ...] = ()
    """The traced wall by other measures: median, mean, 99th percentile."""
    buckets: tuple[Difference, ...] = ()
    """Of the traced wall, to which they sum."""
    work: tuple[Difference, ...] = ()
    """Kernels, launches, copies and bytes."""
    conditions: tuple[Difference, ...] = ()
    """Clocks, power, temperature."""
    measurements: tuple[Difference, ...] = ()
    """Speed, memory, energy and time to build, without the profiler, where both captures have them."""
    layers: tuple[Difference, ...] = ()
    kernels: tuple[Difference, ...] = ()
    builds: Builds | None = None
    """What the build changed, where the two ran different builds of one model, and tell their layers' tensors."""
    predictions: tuple[Prediction, ...] = ()
    notes: tuple[str, ...] = ()
    untold: tuple[str, ...] = field(default=())
    """What cannot be said, and why."""

    def __repr__(self) -> str:
        return f"<Comparison {self.after.name} against {self.before.name}: {self.verdict.value}>"

    @property
    def blocking(self) -> tuple[SetupDifference, ...]:
        return tuple(difference for difference in self.setup if difference.effect is Effect.BLOCKS)

    @property
    def judgements(self) -> tuple[Judgement, Judgement]:
        """Both verdicts, the leading one first."""
        both = self.throughput, self.latency
        return both if self.leads is Metric.THROUGHPUT else (both[1], both[0])

    @property
    def verdict(self) -> Verdict:
        """The leading verdict."""
        return self.judgements[0].verdict

    @property
    def wall(self) -> Difference | None:
        """Of the latency, as it is judged."""
        return self.latency.difference

    @property
    def traced_wall(self) -> Difference | None:
        """Of the latency as traced, to which the buckets sum."""
        return self.latency.traced

    def chosen(self, metric: str | None) -> tuple[Judgement, ...]:
        """The verdicts that `metric` names: throughput, latency or both; the leading one where it is None.

        Example:
            >>> from nsight_tools import compare
            >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
            >>> [each.metric.value for each in both.chosen("both")]
            ['latency', 'throughput']
        """
        if metric is None:
            return self.judgements[:1]
        if metric != "both" and metric not in {each.value for each in Metric}:
            raise NsightToolsError(f"there is no verdict on {metric!r}", hint="throughput, latency or both")
        return self.judgements if metric == "both" else tuple(j for j in self.judgements if j.metric.value == metric)


def as_comparison(given: Comparison, taker: str) -> Comparison:
    """The comparison as it is; raises ArgumentError where it is none. `taker` is the function that was given it."""
    if not hasattr(given, "judgements"):
        raise ArgumentError(f"{taker} takes a comparison", given, hint="compare(before, after) gives one")
    return given


def regressed(comparison: Comparison, percent: float, metric: str | None = None) -> bool | None:
    """Whether time grew by more than `percent`, beyond noise; None where that cannot be judged.

    Of the verdicts that `metric` names: throughput, latency or both; the leading one where it is None. One that became
    worse is enough. What is undecided is no regression where its whole interval is below the limit.
    """
    judged = [_regressed(judgement, percent) for judgement in comparison.chosen(metric)]
    return True if any(judged) else None if None in judged else False


def _regressed(judgement: Judgement, percent: float) -> bool | None:
    difference = judgement.difference
    if difference is None or not (judgement.judged or judgement.verdict is Verdict.UNDECIDED):
        return None
    grown, high = (100 * (difference.relative(change) or 0.0) for change in (difference.difference, difference.high))
    if judgement.judged:
        return judgement.verdict is Verdict.SLOWER and grown > percent
    return False if high <= percent else None
