"""What a comparison says: data without behaviour, for every format to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nsight_tools.comparison.builds import Builds
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
    NOT_COMPARABLE = "not_comparable"
    """What was measured is not the same thing twice: the difference is given, but not put down to the change."""
    CANNOT_TELL = "cannot_tell"
    """No inferences, or too few."""


class Effect(str, Enum):
    """What a difference in set-up means for the comparison."""

    BLOCKS = "blocks"
    """The two do not measure the same thing."""
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


@dataclass(frozen=True)
class Prediction:
    """What a finding on BEFORE said could be recovered, and what was.

    `promised_ns` is its bound or estimate for one inference, `remaining_ns` that of the same code on AFTER: 0 where it
    is gone, None where AFTER could not be judged or bounds nothing. `came` is the difference of the `buckets` that it
    concerns together, or of the time from one inference to the next where that was promised; `shared_with` are codes
    that promised time from the same buckets, and are gone or smaller as well.
    """

    code: str
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
class TracingCost:
    """Host time that tracing added to an inference: nanoseconds, least to most."""

    low_ns: float
    point_ns: float
    high_ns: float


@dataclass(frozen=True)
class Side:
    """One of the two traces."""

    name: str
    summary: Summary
    inferences: int
    """Compared: without warm-up, and without those that the GPU did nothing for."""
    left_out: int
    tracing: TracingCost | None = None
    walls: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """Of the compared inferences in order of time, shape (n,), ns: those that `Comparison.wall_source` names."""


@dataclass(frozen=True)
class Comparison:
    """Two traces compared: what AFTER is beside BEFORE."""

    before: Side
    after: Side
    verdict: Verdict
    """The answer."""
    measured: Verdict
    """What the wall alone says, whether or not the two are comparable."""
    wall: Difference | None = None
    """Of the untraced benchmark where both have one, else as traced: `wall_source` is benchmark or trace."""
    wall_source: str = "trace"
    untraced: tuple[float, float] | None = None
    """Where the difference of the walls lies without the profiler, where that cost the two sides differently; ns."""
    setup: tuple[SetupDifference, ...] = ()
    walls: tuple[Difference, ...] = ()
    """The wall by other measures: median, mean, 99th percentile, time from one inference to the next."""
    buckets: tuple[Difference, ...] = ()
    """Of the traced wall, to which they sum."""
    traced_wall: Difference | None = None
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

    @property
    def blocking(self) -> tuple[SetupDifference, ...]:
        return tuple(each for each in self.setup if each.effect is Effect.BLOCKS)


def regressed(comparison: Comparison, percent: float) -> bool | None:
    """Whether the wall became longer by more than `percent`, beyond noise; None where that cannot be judged.

    It is judged where the two are comparable and have inferences enough.
    """
    if comparison.verdict in {Verdict.NOT_COMPARABLE, Verdict.CANNOT_TELL} or comparison.wall is None:
        return None
    grown = comparison.wall.relative(comparison.wall.difference)
    return comparison.verdict is Verdict.SLOWER and grown is not None and 100 * grown > percent
