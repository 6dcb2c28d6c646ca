"""Shares of samples in whole percents: each tells between what its value lies, and no more.

What is above 0 and below 1.5 is shown as 1, all else is rounded (H200, nsys 2025.3: predicted by Nsight Compute's
counters, 99 of 100 samples of what a mixture has at 0.25 to 0.75 % show 1, and none 0). So nothing averages out where
samples hardly change: an idle unit seems to have a percent. The shares are those under which the samples are the most
likely, normal about the mixture and then rounded (expectation-maximization: Dempster, Laird and Rubin, 1977). What is
known beforehand is how far the shares of kernels lie apart in this metric, and those of a kernel's parts, which comes
from them (empirical Bayes): so parts may be short, and are as different as the samples say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, erfc
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.bounded import solve
from nsight_tools.run.limits.mixture import PEAK, PRIOR, ROUNDING, Entries, Normal, chunks

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.metrics import Grid

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

PASSES = 12
"""Over the samples: four times as many changed no rank of the shares beside Nsight Compute's by more than 0.025."""
LAST = 2
"""Passes over all samples where they are many: the passes before these take some of them."""
READ = 200_000
"""Samples that all passes before the last read: half a second of one processor core, with some hundreds of unknowns."""
STEP = 1.8
"""How much further than to its result a pass may go: these lie on the way to the end, and less than twice as far leads
nowhere else (Salakhutdinov and Roweis, 2003)."""
LEARNED = 4
"""Passes from one time to the next that it is learned how far shares lie apart: that moves slowly."""
UNEVEN = 0.001, 1.0
"""How far the parts of a kernel lie apart, beside the square of its share: by 3 % of that at least, by all at most."""
FINEST = ROUNDING / 32
"""No samples scatter less, as a variance: a twentieth of a percent."""
SURE = 0.02
"""No metric's samples tell less than this of what they would without rounding: else all is what is known beforehand."""
_FAR = 6.0
"""Standard deviations beyond which nothing is."""
_POINTS = 512
"""Of a curve: the nearest is less than a hundredth of a percent off."""


@dataclass(frozen=True)
class Solved:
    """What the samples tell of some metrics: `share` is (unknowns, words) in percent, `parts` (kernels,).

    All else is (words,): `scatter` is the variance of samples, before they are rounded, about the mixture; `apart` how
    far the shares of kernels lie apart, as a variance, and `within` how far those of a kernel's parts do, beside the
    square of the kernel's; `kept` the part that rounding leaves of what the samples tell; `whole` whether they are
    whole.
    """

    share: Floats
    scatter: Floats
    apart: Floats
    within: Floats
    kept: Floats
    whole: Bools
    parts: Ints

    def beforehand(self, word: int) -> Floats:
        """The inverse of the shares' covariance without any sample, (unknowns, unknowns).

        A kernel's parts have its level in common.
        """
        whose = np.repeat(np.arange(self.parts.size), self.parts)
        level = np.bincount(whose, self.share[: whose.size, word]) / self.parts
        within = np.maximum(self.within[word] * level**2, ROUNDING)[whose]
        shared = (whose[:, None] == whose) * (self.apart[word] / (within + self.apart[word] * self.parts[whose]))
        known = np.eye(len(self.share)) / PRIOR
        known[: whose.size, : whose.size] = (np.eye(whose.size) - shared) / within
        return known

    def rest(self, percent: Floats, mixture: Floats) -> Floats:
        """What samples have beside the mixture, as far as they tell it; all (n, words)."""
        return expected(percent, mixture, self.scatter, self.whole)[0] - mixture


def expected(percent: Floats, mixture: Floats, scatter: Floats, whole: Bools) -> tuple[Floats, Floats]:
    """Mean and variance of what rounded samples were, normal about a mixture; all (n, words) but the last two."""
    value, variance = percent.copy(), np.zeros_like(percent)
    for word in np.flatnonzero(whole).tolist():
        shown, spread = percent[:, word], float(scatter[word]) ** 0.5
        for some, width, middle in ((shown == 1, 1.5, shown - 0.25), (shown > 1, 1.0, shown)):
            away = mixture[some, word] - middle[some]
            far, mean, left = _rounded(width, spread)
            point = np.minimum(np.abs(away) * ((_POINTS - 1) / far) + 0.5, _POINTS - 1).astype(np.intp)
            value[some, word] = middle[some] + np.copysign(mean[point], away)
            variance[some, word] = left[point]
    return value, variance


@lru_cache(maxsize=64)
def _rounded(width: float, spread: float) -> tuple[float, Floats, Floats]:
    """What is normal and within an interval, by how far the distribution's middle lies from that of the interval.

    How far at most, and for `_POINTS` of the way there, (points,): how far the mean lies from the interval's middle,
    and the variance.
    """
    far = width / 2 + _FAR * spread
    distance = np.linspace(0, far, _POINTS)
    begin, end = (-width / 2 - distance) / spread, (width / 2 - distance) / spread
    below = [np.array([erfc(-at * 0.5**0.5) / 2 for at in side.tolist()]) for side in (begin, end)]
    density = [np.exp(-side * side / 2) / (2 * np.pi) ** 0.5 for side in (begin, end)]
    likely = below[1] - below[0]
    moved = (density[0] - density[1]) / likely
    left = 1 + (begin * density[0] - end * density[1]) / likely - moved**2
    most = width / 2
    return far, np.clip(distance + spread * moved, 0, most), np.clip(spread**2 * left, 0, most**2)


def solved(normal: Normal, entries: Entries, idle: Floats, grid: Grid, parts: Ints) -> Solved:
    """The shares of the grid's metrics from their normal equations and mixture.

    The unknowns begin with those of kernels, each in so many `parts`, shape (kernels,), and end with idle time: others
    are not what the shares of kernels are like. It begins with the same share for all and nothing in idle time, which
    is what remains where the samples tell nothing. Of many samples, all but the `LAST` passes take some.
    """
    percent, words, unknowns = grid.percent, len(grid.words), len(normal.matrix)
    share, ones = np.zeros((unknowns, words)), np.ones(words)
    busy = max(1 - float(idle.mean()), 0.01)
    share[:-1] = np.minimum(np.where(grid.whole & (percent == 1), 0.75, percent).mean(axis=0) / busy, PEAK)
    told = Solved(share, ROUNDING * ones, PRIOR * ones, ones, ones, grid.whole, parts)
    every = ceil(PASSES * len(percent) / READ)
    if every == 1:
        return _improved(told, normal, entries, idle, percent, PASSES)
    some = entries.every(every), idle[::every], percent[::every]
    told = _improved(told, Normal.of(some[0], some[2], some[1]), *some, PASSES)
    return _improved(told, normal, entries, idle, percent, LAST)


def _improved(told: Solved, normal: Normal, entries: Entries, idle: Floats, percent: Floats, passes: int) -> Solved:
    """The shares after some passes of expectation and maximization over these samples."""
    words, unknowns, samples = percent.shape[1], len(normal.matrix), max(normal.samples, 1)
    total, most = max(normal.matrix.sum(), 1e-300), np.full(unknowns, PEAK)
    begin: list[npt.NDArray[np.int8] | None] = [None] * words
    for turn in range(passes):
        right, squares, open_ = _read(told, entries, idle, percent)
        share, apart, within = told.share.copy(), told.apart.copy(), told.within.copy()
        scatter, kept = told.scatter, told.kept
        if turn:  # before that, it is the scatter about one share for all
            scatter = np.maximum(squares / samples, FINEST)
            kept = np.clip(1 - open_ / samples / scatter, SURE, 1)
        for word in range(words):
            ridge = scatter[word] * told.beforehand(word)
            mean = right[:, word].sum() / total
            near = right[:, word] + ridge.sum(axis=1) * mean
            found = solve(normal.matrix + ridge, near, most, begin[word])
            further = min(1 / kept[word], STEP)
            share[:, word] = np.clip(share[:, word] + further * (found.x - share[:, word]), 0, PEAK)
            begin[word] = found.at
            if turn % LEARNED == LEARNED - 1:
                variance = np.linalg.inv((kept[word] * normal.matrix + ridge) / scatter[word])
                apart[word], within[word] = _spread(share[:, word], mean, variance, told.parts)
        told = replace(told, share=share, scatter=scatter, apart=apart, within=within, kept=kept)
    return told


def _spread(share: Floats, mean: float, variance: Floats, parts: Ints) -> tuple[float, float]:
    """How far kernels lie apart, as a variance, and their parts, beside the square of their kernel's share.

    Of shares, (unknowns,), that are about a mean and known to a `variance`, (unknowns, unknowns).
    """
    whose = np.repeat(np.arange(parts.size), parts)
    share, variance = share[: whose.size], variance[: whose.size, : whose.size]
    to = np.zeros((parts.size, whose.size))
    to[whose, np.arange(whose.size)] = 1 / parts[whose]
    level, of_level = to @ share, ((to @ variance) * to).sum(axis=1)
    beside = (share - level[whose]) ** 2 + np.diag(variance) - of_level[whose]
    squares = (level**2 + of_level) @ (parts - 1)
    within = float(np.clip(beside.sum() / squares, *UNEVEN)) if squares > 0 else UNEVEN[1]
    apart = float(np.mean((level - mean) ** 2 + of_level))
    return float(np.clip(apart, ROUNDING, PRIOR)), within


def _read(told: Solved, entries: Entries, idle: Floats, percent: Floats) -> tuple[Floats, Floats, Floats]:
    """What the samples were, as the right side of normal equations, (unknowns, words).

    And, (words,) each, the squares that they have beside the mixture, and what of these is not known.
    """
    right = np.zeros_like(told.share)
    squares, open_ = np.zeros(percent.shape[1]), np.zeros(percent.shape[1])
    for lo, hi, part in chunks(entries, idle):
        mixture = part @ told.share
        value, variance = expected(percent[lo:hi], mixture, told.scatter, told.whole)
        right += part.T @ value
        squares += (np.square(value - mixture) + variance).sum(axis=0)
        open_ += variance.sum(axis=0)
    return right, squares, open_
