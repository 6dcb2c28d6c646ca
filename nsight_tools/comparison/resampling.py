"""Did it change, or is it noise? Intervals for the difference between two runs, by a bootstrap in blocks.

The inferences of one run depend on each other (a clock that drifts, a queue that fills, a neighbour's time slices), so
that resampling them one by one would understate the interval. Runs of consecutive inferences are drawn instead: the
circular block bootstrap (Politis and Romano, 1992), its blocks as long as the run's own autocorrelation asks for
(Politis and White, 2004, with the correction of Patton, Politis and White, 2009).

The typical inference is the mean over the middle half by wall time. As robust as it needs to be against stalls, it adds
up where medians do not: what its buckets changed by sums to what its wall changed by, in every resample too. Intervals
are symmetric around the difference (Hall, 1988), widened for few blocks as Student's t is for few observations. Where
several quantities are judged together, the largest of their studentised deviations sets the width for all (Romano and
Wolf, 2005): the chance that any of the intervals misses is `1 - LEVEL`, however they depend on each other.

A run of more than `MOST` inferences is not resampled one inference at a time: with so many blocks, what a resample does
to a mean is normal. Its chunks, none shorter than a block, get random weights instead (the multiplier bootstrap:
Chernozhukov, Chetverikov and Kato, 2013). For a mean of the middle half they act on what each inference contributes to
it, its quartiles moving too (Huber, 1981, section 3.3); a quantile is the order statistic that they move it to
(Woodruff, 1952). All inferences count, and neither time nor memory grows with their number times that of the resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, pi, sqrt, tan
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nsight_tools.comparison.quantities import Quantities

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = NDArray[np.float64]
Series: TypeAlias = "tuple[Floats, Floats | Quantities]"
"""A run: wall times in order of time, shape (n,), and other quantities of the same inferences, (n, k)."""

LEVEL = 0.99
"""Of all intervals: one comparison of two equal runs in a hundred says otherwise."""
RESAMPLES = 2_000
MOST = 5_000
"""Inferences of a run that are resampled one by one; of a longer one, chunks are weighted."""
CHUNKS = 1_000
"""At most so many: they tell a standard error to 2 %, as the resamples do."""
ENOUGH = 20
"""Inferences of a run below which nothing is said: blocks of them repeat the same few."""
BATCH = 1 << 17
"""Weights that are held at a time: a megabyte, which a core keeps near."""
SEED = 20_040
"""Fixed: the same two traces give the same answer."""
TAIL = 0.99
WALLS = 3
"""What `statistics` puts in front of the typical values: median, mean and 99th percentile of the wall."""


@dataclass(frozen=True)
class Estimates:
    """Differences of k quantities, after less before, each array of shape (k,); `low` and `high` bound them."""

    before: Floats
    after: Floats
    low: Floats
    high: Floats
    drift: Floats
    """How far the two halves of one run lie apart, the larger of both runs: what no difference can be told from."""

    @property
    def difference(self) -> Floats:
        return self.after - self.before


def statistics(wall: Floats, values: Floats | Quantities, weights: Floats) -> Floats:
    """Of each resample: median, mean, 99th percentile of `wall`, then the typical value of each column of `values`.

    `wall` has shape (n,), `values` (n, k), `weights` (r, n): how often each resample holds each inference. The result
    has shape (r, WALLS + k). Typical is the mean over the inferences between the quartiles by wall time; the two at the
    quartiles count in part.
    """
    order = np.argsort(wall, kind="stable")
    walls, middle = _sorted_statistics(wall[order], weights[:, order])
    back = np.empty_like(middle)
    back[:, order] = middle
    sums = _quantities(values, wall.size).weighted(back)
    return np.concatenate([walls, sums / middle.sum(axis=1, keepdims=True)], axis=1)


def _sorted_statistics(wall: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The first `WALLS` statistics, shape (r, WALLS), and what each inference counts for a typical value, (r, n).

    Inferences are in order of wall time.
    """
    reach = np.cumsum(weights, axis=1)
    total = reach[:, -1:]
    middle = np.diff(np.clip(reach, 0.25 * total, 0.75 * total), axis=1, prepend=0.25 * total)
    quantiles = [wall[np.argmax(reach >= share * total, axis=1)] for share in (0.5, TAIL)]
    mean = weights @ wall / total[:, 0]
    return np.stack([quantiles[0], mean, quantiles[1]], axis=1), middle


def _quantities(values: Floats | Quantities, inferences: int) -> Quantities:
    return values if isinstance(values, Quantities) else Quantities(inferences, [values])


def estimate(
    before: Series, after: Series, families: NDArray[np.int64], *, beside: int = 1, level: float = LEVEL
) -> Estimates:
    """The differences between two runs, each given as wall (n,) and values (n, k) in order of time.

    `families` has shape (WALLS + k,): quantities of one family are judged together; `beside` is how many calls of this
    function are (by Bonferroni); `level` is the intervals'. Deterministic. Both runs need `ENOUGH` inferences.
    """
    runs = before, after
    points = [statistics(*run, np.ones((1, run[0].size)))[0] for run in runs]
    halves = [_halves(*run) for run in runs]
    blocks = [block_length(wall) for wall, _ in runs]
    random = np.random.default_rng(SEED)
    drawn = [
        (resampled if run[0].size <= MOST else weighted)(*run, block, random)
        for run, block in zip(runs, blocks, strict=True)
    ]
    difference = points[1] - points[0]
    deviation = drawn[1] - drawn[0]
    deviation -= deviation.mean(axis=0)
    error = deviation.std(axis=0)
    studentised = np.abs(deviation) / np.where(error > 0, error, 1)
    normal = NormalDist().inv_cdf((1 + level) / 2)
    widen = student(min(wall.size / block for (wall, _), block in zip(runs, blocks, strict=True)) - 1, level) / normal
    widen *= NormalDist().inv_cdf(1 - (1 - level) / 2 / beside) / normal
    width = np.zeros(error.size)
    for family in np.unique(families):
        mine = families == family
        width[mine] = np.quantile(studentised[:, mine].max(axis=1), level) * widen * error[mine]
    return Estimates(points[0], points[1], difference - width, difference + width, np.maximum(*halves))


def resampled(wall: Floats, values: Floats | Quantities, block: int, random: np.random.Generator) -> Floats:
    """`statistics` of `RESAMPLES` resamples in blocks of consecutive inferences, shape (RESAMPLES, WALLS + k)."""
    order = np.argsort(wall, kind="stable")
    dense = _quantities(values, wall.size).every(1)[order]
    draws = []
    for weights in resamples(wall.size, block, RESAMPLES, random):
        walls, middle = _sorted_statistics(wall[order], weights[:, order])
        draws.append(np.concatenate([walls, middle @ dense / middle.sum(axis=1, keepdims=True)], axis=1))
    return np.concatenate(draws)


def weighted(wall: Floats, values: Floats | Quantities, block: int, random: np.random.Generator) -> Floats:
    """What `resampled` gives, for long runs, less a constant: `RESAMPLES` times, chunks of the run get random weights.

    What an inference contributes to a typical value is `2 (below75 (v - m75) - below25 (v - m25))`: below75 says
    whether it is below the upper quartile of the wall, m75 is what inferences at that quartile have.
    """
    n = wall.size
    order = np.argsort(wall, kind="stable")
    quantities = _quantities(values, n)
    shares = (0.25, 0.5, 0.75, TAIL)
    below, at = np.zeros((len(shares), n)), np.zeros((2, n))
    for row, share in zip(below, shares, strict=True):
        row[order] = np.clip(share * n - np.arange(n), 0, 1)
    for row, share in zip(at, (0.25, 0.75), strict=True):
        near = order[round(share * n) - isqrt(n) : round(share * n) + isqrt(n)]
        row[near] = 1
    low, high = quantities.weighted(at) / at.sum(axis=1, keepdims=True)
    starts = np.linspace(0, n, max(min(CHUNKS, n // block), 2), endpoint=False).astype(np.int64)
    counts = np.add.reduceat(below, starts, axis=1)
    typical = quantities.chunked(2 * (below[2] - below[0]), starts)
    typical += 2 * (np.outer(counts[0], low) - np.outer(counts[2], high))
    parts = np.column_stack([counts[1], np.add.reduceat(wall, starts), counts[3], typical])
    parts -= np.outer(np.diff(np.append(starts, n)), parts.sum(axis=0) / n)
    moved: Floats = random.standard_normal((RESAMPLES, starts.size)) @ parts / n
    for column, share in ((0, 0.5), (2, TAIL)):
        place = np.ceil((share - moved[:, column]) * n).astype(np.int64) - 1
        moved[:, column] = wall[order[np.clip(place, 0, n - 1)]]
    return moved


def resamples(n: int, block: int, count: int, random: np.random.Generator) -> Iterator[Floats]:
    """Weights of `count` resamples of n inferences in circular blocks, in batches of shape (some, n)."""
    blocks = -(-n // block)
    for begin in range(0, count, size := max(1, BATCH // n)):
        some = min(size, count - begin)
        start = random.integers(0, n, (some, blocks)) + np.arange(0, some * n, n)[:, np.newaxis]
        begun = np.bincount(start.ravel(), minlength=some * n).reshape(some, n).cumsum(axis=1)
        # What begins in the last `block` inferences up to each holds it; before the first of them stand the last ones.
        weights = np.empty((some, n))
        np.subtract(begun[:, block:], begun[:, :-block], out=weights[:, block:])
        np.subtract(begun[:, :block] + blocks, begun[:, -block:], out=weights[:, :block])
        yield weights


def block_length(series: Floats) -> int:
    """Length of the blocks for a run of wall times, shape (n,): between 1 and a third of it.

    Of the series clipped at its quartiles, which is what the mean over the middle half responds to.
    """
    n = series.size
    clipped = np.clip(series, *np.quantile(series, [0.25, 0.75]))
    clipped -= clipped.mean()
    most = int(min(np.ceil(3 * np.sqrt(n)), n // 3))
    lags = min(int(np.ceil(np.sqrt(n))) + max(5, int(np.sqrt(np.log10(n)))), n - 1)
    covariance = _autocovariance(clipped, 2 * lags)
    if covariance[0] <= 0:
        return 1
    bound = 2 * np.sqrt(np.log10(n) / n)
    quiet = max(5, int(np.sqrt(np.log10(n))))
    small = np.abs(covariance[1:] / covariance[0]) < bound
    still = [lag for lag in range(lags) if small[lag : lag + quiet].all()]
    reach = min(2 * max(still[0] if still else lags, 1), 2 * lags)
    lag = np.arange(1, reach + 1)
    flat_top = np.clip(2 * (1 - lag / reach), 0, 1)
    weighted = flat_top * covariance[1 : reach + 1]
    spectrum = covariance[0] + 2 * weighted.sum()
    slope = 2 * (lag * weighted).sum()
    if spectrum <= 0:
        return most
    length = (2 * slope**2 / (4 / 3 * spectrum**2) * n) ** (1 / 3)
    return int(np.clip(np.ceil(length), 1, max(most, 1)))


def student(freedom: float, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t at `level` (Abramowitz and Stegun, 26.7.5, all four terms).

    No run has fewer than 2 degrees of freedom, since a block is at most a third of it; there it is 4 % too small, from
    3 on less than 1 %.
    """
    z, freedom = NormalDist().inv_cdf((1 + level) / 2), max(freedom, 2.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def quantile(freedom: int, level: float = LEVEL) -> float:
    """Student's t, two-sided: exact for 1 and 2 degrees of freedom, else as `student` has it."""
    if freedom == 1:
        return tan(pi / 2 * level)
    if freedom == 2:
        return level * sqrt(2 / (1 - level**2))
    return student(freedom, level)


def cliffs_delta(before: Floats, after: Floats) -> float:
    """How often a value of `after` exceeds one of `before`, less how often it falls short: -1 to 1 (Cliff, 1993)."""
    ordered = np.sort(before)
    below, upto = (np.searchsorted(ordered, after, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / ordered.size - 1)


def thinned(series: Floats, most: int = 2_000) -> Floats:
    """A long series as at most `most` means of neighbours."""
    if series.size <= most:
        return series
    starts = np.linspace(0, series.size, most, endpoint=False).astype(np.int64)
    means: Floats = np.add.reduceat(series, starts) / np.diff(np.append(starts, series.size))
    return means


def _halves(wall: Floats, values: Floats | Quantities) -> Floats:
    first = np.arange(wall.size) < wall.size // 2
    both = statistics(wall, values, np.stack([first, ~first]).astype(np.float64))
    apart: Floats = np.abs(both[0] - both[1])
    return apart


def _autocovariance(series: Floats, lags: int) -> Floats:
    """At lags 0 to `lags`, shape (lags + 1,)."""
    size = 1 << int(2 * series.size - 1).bit_length()
    spectrum: NDArray[Any] = np.fft.rfft(series, size)
    full: Floats = np.fft.irfft(spectrum * spectrum.conj(), size)[: lags + 1] / series.size
    return full
