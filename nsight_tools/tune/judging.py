"""Is B faster than A? Both were run in turn, A B A B, so that what drifts meanwhile is seen, and taken out.

Each run is a process of its own and gives one number: its inferences depend on each other, and what one process does
differently from the next (where its memory lies, which core it is on) is in all of them alike, so that no resampling
within a run tells how far the next one would lie. The logarithms of the numbers are fitted by least squares as a level,
a drift that is even over the runs, and what B differs by; the interval of that is Student's t of the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.resampling import LEVEL, quantile
from nsight_tools.findings import NOISE_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS = (2, 3, 5, 8)
"""Rounds of A and B after which it is asked whether that is enough; after the last one it has to be. Two are the fewest
of which an interval can be told (one degree of freedom), and tell a change of a half or more; three tell one of eight
times the standard deviation of runs of the same, five one of three times, and eight one of twice."""
_MOST = 50.0
"""Of a logarithm: what two rounds do not know may be more than a float holds."""
GIVE_UP = 0.9
"""Level of the interval by which a change is given up for less than noise: one in twenty that would gain `NOISE_SHARE`
is lost, and none is called faster by it."""
_FITTED = 3
"""A level, a drift, and a difference."""


@dataclass(frozen=True)
class Times:
    """What became of a time: as a share of what it was before, B's less A's, with its interval; below 0 is faster."""

    before_ns: float
    share: float
    low: float
    high: float

    def saved_ns(self) -> tuple[float, float, float]:
        """What B saves: low end, point and high end."""
        return -self.high * self.before_ns, -self.share * self.before_ns, -self.low * self.before_ns


def times(sides: Sequence[bool], values: Sequence[float], level: float | None = None) -> Times:
    """Of runs in the order in which they were made: whether each is one of B, and its time in ns.

    `level` is that of the interval; by default that of `LEVEL` for all `LOOKS` together (Bonferroni). Raises ValueError
    for fewer than four runs, or of one side alone.
    """
    if len(values) <= _FITTED or len(set(sides)) < 2:
        raise ValueError("runs of both sides, two each, are needed")
    later, log = np.array(sides, np.float64), np.log(np.array(values, np.float64))
    number = np.arange(len(log)) - (len(log) - 1) / 2
    design = np.column_stack([np.ones(len(log)), number, later])
    fit, _, _, _ = np.linalg.lstsq(design, log, rcond=None)
    freedom = len(log) - _FITTED
    residual = log - design @ fit
    error = sqrt(float(residual @ residual) / freedom * float(np.linalg.inv(design.T @ design)[2, 2]))
    width = quantile(freedom, 1 - (1 - LEVEL) / len(LOOKS) if level is None else level) * error
    before = exp(float(log[~np.array(sides)].mean()))
    return Times(before, *(exp(min(float(fit[2]) + each, _MOST)) - 1 for each in (0.0, -width, width)))


def verdict(sides: Sequence[bool], values: Sequence[float]) -> str:
    """faster, slower or noise; empty where more runs would tell. `values` are times, as in `times`."""
    rounds = min(sum(sides), len(sides) - sum(sides))
    if rounds not in LOOKS or sum(sides) * 2 != len(sides):
        return ""
    found = times(sides, values)
    if found.high < 0:
        return "faster"
    if found.low > 0:
        return "slower"
    if rounds == LOOKS[-1] or (rounds > LOOKS[0] and times(sides, values, GIVE_UP).low > -NOISE_SHARE):
        return "noise"
    return ""
