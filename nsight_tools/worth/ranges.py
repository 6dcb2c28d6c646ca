"""Values that are known to a range, and draws of several at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

Floats = np.ndarray[Any, np.dtype[np.float64]]

NINE_IN_TEN = 1.645
"""Standard deviations to either side of a normal distribution's mean that hold nine in ten."""


@dataclass(frozen=True)
class Range:
    """A value that is known to lie between `low` and `high`, nine times in ten, and most likely at `point`."""

    low: float
    point: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.point <= self.high:
            raise ValueError(f"not a range: {self.low}, {self.point}, {self.high}")

    @classmethod
    def over(cls, values: Iterable[float], beside: float) -> Range:
        """Where one more value lies among these: from the least to the most, and so far beside; likely their mean."""
        known = list(values)
        return cls(min(known) - beside, sum(known) / len(known), max(known) + beside)

    def at(self, share: Floats) -> Floats:
        """The values below which lie so many of all, as two halves of normal distributions; shape of `share`."""
        away = _normal(share) / NINE_IN_TEN
        drawn: Floats = self.point + np.where(away < 0, self.point - self.low, self.high - self.point) * away
        return drawn


def shares(columns: int, count: int) -> Floats:
    """Shares of distributions, shape (columns, count): each of `count` equal parts once, in an order of its own.

    A Latin hypercube of fixed seed: the same at every call, so that an interval takes no luck.
    """
    orders = np.tile(np.arange(count), (columns, 1))
    drawn: Floats = (np.random.default_rng(columns).permuted(orders, axis=1) + 0.5) / count
    return drawn


def _normal(share: Floats) -> Floats:
    """The standard normal's quantiles, to 0.0005 (Abramowitz and Stegun 26.2.23)."""
    tail = np.sqrt(-2 * np.log(np.minimum(share, 1 - share)))
    above = 2.515517 + 0.802853 * tail + 0.010328 * tail**2
    below = 1 + 1.432788 * tail + 0.189269 * tail**2 + 0.001308 * tail**3
    drawn: Floats = np.sign(share - 0.5) * (tail - above / below)
    return drawn
