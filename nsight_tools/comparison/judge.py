"""From estimates to differences: noise is said where it is noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.resampling import ENOUGH, WALLS, cliffs_delta, estimate
from nsight_tools.comparison.result import Change, Difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.resampling import Estimates, Floats


def judged(name: str, unit: str, at: int, estimates: Estimates, *, effect: float | None = None) -> Difference:
    """Quantity `at` of the estimates."""
    fields = ("before", "after", "low", "high", "drift")
    before, after, low, high, drift = (float(getattr(estimates, field)[at]) for field in fields)
    worth = change_of(before, after, low, high, drift)
    return Difference(name, unit, before, after, after - before, low, high, drift, worth, effect)


def change_of(before: float, after: float, low: float, high: float, drift: float) -> Change:
    """What a difference is worth: noise where its interval holds 0, or either run drifts by as much."""
    if before == after and low == high:
        return Change.SAME
    if low <= 0 <= high or abs(after - before) <= drift:
        return Change.NOISE
    return Change.MORE if after > before else Change.LESS


def rest_of(name: str, whole: Difference, parts: Sequence[Difference]) -> Difference:
    """What `whole` changed beside its parts, of which each may be anywhere in its interval."""

    def total(field: str) -> float:
        return sum(float(getattr(part, field) or 0.0) for part in parts)

    before, after = ((value or 0.0) - total(side) for value, side in ((whole.before, "before"), (whole.after, "after")))
    low, high, drift = (whole.low or 0.0) - total("high"), (whole.high or 0.0) - total("low"), whole.drift or 0.0
    worth = change_of(before, after, low, high, drift)
    return Difference(name, whole.unit, before, after, after - before, low, high, drift, worth, whole.effect)


def unjudged(name: str, unit: str, before: float | None, after: float | None, detail: str = "") -> Difference:
    """Two values of which it is not known how much they vary."""
    apart = None if before is None or after is None else after - before
    worth = Change.SAME if apart == 0 else Change.UNKNOWN
    return Difference(name, unit, before, after, apart, change=worth, detail=detail)


def of_series(name: str, unit: str, before: Floats, after: Floats, *, beside: int = 1) -> Difference:
    """The median of a series of measurements before and after, in order of time; `beside` as in `estimate`."""
    if min(before.size, after.size) < ENOUGH:
        medians = [float(np.median(values)) if values.size else None for values in (before, after)]
        return unjudged(name, unit, medians[0], medians[1])
    runs = [(values, np.zeros((values.size, 0))) for values in (before, after)]
    estimates = estimate(runs[0], runs[1], np.arange(WALLS), beside=beside)
    return judged(name, unit, 0, estimates, effect=cliffs_delta(before, after))
