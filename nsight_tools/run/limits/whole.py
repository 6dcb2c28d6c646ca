"""Shares of samples in whole percents: each tells between what its value lies, and no more.

What is above 0 and below 1.5 is shown as 1, all else is rounded (H200, nsys 2025.3: predicted by Nsight Compute's
counters, 99 of 100 samples of what a mixture has at 0.25 to 0.75 % show 1, and none 0). So nothing averages out where
samples hardly change: an idle unit seems to have a percent. The shares are those under which the samples are the most
likely, normal about the mixture and then rounded (expectation-maximization: Dempster, Laird and Rubin, 1977); what is
known beforehand is how far the shares of this metric lie apart, which comes from them (empirical Bayes).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.bounded import solve
from nsight_tools.run.limits.mixture import PEAK, PRIOR, ROUNDING, Entries, Normal, chunks

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

PASSES = 12
"""Over the samples: what thirty gave on three engines of an H200 was no better."""
FEWEST = 2
"""Passes over many samples, of which rounding averages out. The first takes the middle of where each may be."""
READ = 60_000
"""Samples that all passes together read: half a second of one processor core, with some hundreds of unknowns."""
FINEST = ROUNDING / 32
"""No samples scatter less, as a variance: a twentieth of a percent."""
SURE = 0.02
"""No metric's samples tell less than this of what they would without rounding: else all is what is known beforehand."""
_FAR = 6.0
"""Standard deviations beyond which nothing is."""
_EVEN = 0.1
"""Standard deviations over which a normal distribution is as good as flat."""
_STEPS = np.linspace(-_FAR, _FAR, 2401)
_BELOW = np.array([NormalDist().cdf(at) for at in _STEPS.tolist()])


@dataclass(frozen=True)
class Solved:
    """What the samples tell of some metrics: `share` is (unknowns, words) in percent, all else (words,).

    `scatter` is the variance of samples, before they are rounded, about the mixture; `prior` how far the shares lie
    apart, as a variance; `kept` the part that rounding leaves of what the samples tell; `whole` whether they are whole.
    """

    share: Floats
    scatter: Floats
    prior: Floats
    kept: Floats
    whole: Bools

    def rest(self, percent: Floats, mixture: Floats) -> Floats:
        """What samples have beside the mixture, as far as they tell it; all (n, words)."""
        return expected(percent, mixture, self.scatter, self.whole)[0] - mixture


def expected(percent: Floats, mixture: Floats, scatter: Floats, whole: Bools) -> tuple[Floats, Floats]:
    """Mean and variance of what rounded samples were, normal about a mixture; all (n, words) but the last two."""
    value, variance = percent.copy(), np.zeros_like(percent)
    at, of_word = np.nonzero(whole & (percent > 0))
    shown, about, spread = percent[at, of_word], mixture[at, of_word], np.sqrt(scatter)[of_word]
    low, high = np.where(shown == 1, 0.0, shown - 0.5), shown + 0.5
    begin, end = (np.clip((side - about) / spread, -_FAR, _FAR) for side in (low, high))
    inside = np.interp(end, _STEPS, _BELOW) - np.interp(begin, _STEPS, _BELOW)
    even = high - low < _EVEN * spread  # as likely at either end
    likely = (inside > 1e-6) & ~even
    inside = np.where(likely, inside, 1.0)
    density = [np.exp(-side * side / 2) / np.sqrt(2 * np.pi) for side in (begin, end)]
    moved = (density[0] - density[1]) / inside
    left = np.clip(1 + (begin * density[0] - end * density[1]) / inside - moved**2, 0, 1)
    mean = np.where(even, (low + high) / 2, np.where(likely, about + spread * moved, about))
    value[at, of_word] = np.clip(mean, low, high)
    variance[at, of_word] = np.where(even, (high - low) ** 2 / 12, np.where(likely, spread**2 * left, 0.0))
    return value, variance


def solved(normal: Normal, entries: Entries, idle: Floats, percent: Floats, own: int) -> Solved:
    """The shares of metrics, `percent` (n, words), from their normal equations and mixture; `own` come first in it.

    Other unknowns are not what the shares of kernels are like.
    """
    words, unknowns, samples = percent.shape[1], len(normal.matrix), max(normal.samples, 1)
    whole = (np.rint(percent) == percent).all(axis=0)
    values, vectors = np.linalg.eigh(normal.matrix)
    values, squared = np.maximum(values, 0), vectors[:own] ** 2
    told = Solved(np.zeros((unknowns, words)), np.full(words, PEAK**2), np.full(words, PRIOR), np.ones(words), whole)
    begin: list[npt.NDArray[np.int8] | None] = [None] * words
    for _ in range(int(np.clip(READ // samples, FEWEST, PASSES))):
        right, squares, open_ = _read(told, entries, idle, percent)
        share, prior = told.share.copy(), told.prior.copy()
        if told.share.any():
            scatter = np.maximum(squares / samples, FINEST)
            kept = np.clip(1 - open_ / samples / scatter, SURE, 1)
        else:  # nothing was known, and each value was taken for the middle of where it may be
            scatter, kept = np.full(words, ROUNDING), np.ones(words)
        for word in range(words):
            ridge = scatter[word] / prior[word]
            mean = right[:, word].sum() / max(normal.matrix.sum(), 1e-300)
            matrix = normal.matrix + np.eye(unknowns) * ridge
            found = solve(matrix, right[:, word] + ridge * mean, np.full(unknowns, PEAK), begin[word])
            share[:, word], begin[word] = found.x, found.at
            unknown = squared @ (1 / (values * kept[word] / scatter[word] + 1 / prior[word]))
            apart = float(np.mean((share[:own, word] - mean) ** 2 + unknown))
            prior[word] = np.clip(apart, ROUNDING, PRIOR)
        told = Solved(share, scatter, prior, kept, whole)
    return told


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
