"""Each sample as a mixture of the kernels that ran in it, and when samples and kernels really were.

A sample is an average over an interval, in which each kernel ran for a known share of it. The intervals' place relative
to the kernels' timestamps is not documented: it is found where the mixture explains the samples best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.bounded import Solution, solve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.metrics import Grid
    from nsight_tools.timeline.intervals import Intervals

    Floats = npt.NDArray[np.float64]

PEAK = 100.0
"""The samples are in percent."""
PRIOR = PEAK**2 / 12
"""Variance of what is anywhere between 0 and the peak with equal chance: what is known of a kernel beforehand."""
ROWS = 4096
"""Samples of which the mixture is written out at a time: 13 MB with 400 unknowns."""
EDGE_NS = 2_000
"""What lies between a kernel's activity and its timestamps at most: launch and completion take about a microsecond (the
time of a kernel by Nsight Compute is 1.0 us longer than by Nsight Systems: H200, 137 kernels, median)."""
STEP_NS = 100
"""Steps in which the timing is told at last: a tenth of an edge."""
ROUNDING = 1 / 12
"""Variance of rounding to whole percents, as the samples are: no residual is smaller for long."""


@dataclass(frozen=True)
class Timing:
    """By how much activity begins and ends after the kernels' timestamps on the samples' clock, in nanoseconds."""

    begins: int
    ends: int


@dataclass(frozen=True)
class Pieces:
    """What ran: `start`, `end` and `column` of shape (n,), in order of start."""

    start: Ints
    end: Ints
    column: Ints
    columns: int

    def active(self, timing: Timing) -> tuple[Ints, Ints]:
        """When each was active: at least half as long as it ran, however short it is."""
        start = self.start + timing.begins
        return start, np.maximum(self.end + timing.ends, start + (self.end - self.start + 1) // 2)

    def lengths(self, timing: Timing) -> Floats:
        """The active share of each column's time, shape (columns,)."""
        start, end = self.active(timing)
        ran = np.bincount(self.column, self.end - self.start, self.columns)
        return np.bincount(self.column, end - start, self.columns) / np.maximum(ran, 1)

    def merged(self, into: Ints) -> Pieces:
        """The same with several columns in one: `into`, shape (columns,), says in which."""
        return Pieces(self.start, self.end, into[self.column], int(into.max(initial=-1)) + 1)

    def within(self, lo: int, hi: int) -> Pieces:
        """Those that lie between two times, in part at least."""
        near = (self.end > lo) & (self.start < hi)
        return Pieces(self.start[near], self.end[near], self.column[near], self.columns)


@dataclass(frozen=True)
class Entries:
    """For each sample and each piece that was active in it: their row and column, and the share of the sample."""

    row: Ints
    column: Ints
    share: Floats
    columns: int

    @classmethod
    def of(cls, pieces: Pieces, time: Ints, period: int, timing: Timing) -> Entries:
        """Of samples that begin at `time`, in order, and last for `period`."""
        start, end = pieces.active(timing)
        first = np.searchsorted(time + period, start, "right")
        count = np.maximum(np.searchsorted(time, end, "left") - first, 0)
        which = np.repeat(np.arange(count.size), count)
        row = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count) + first[which]
        overlap = np.minimum(end[which], time[row] + period) - np.maximum(start[which], time[row])
        order = np.argsort(row, kind="stable")
        return cls(row[order], pieces.column[which][order], overlap[order] / period, pieces.columns)

    def merged(self, into: Ints) -> Entries:
        """The same with several columns in one: `into`, shape (columns,), says in which."""
        return Entries(self.row, into[self.column], self.share, int(into.max(initial=-1)) + 1)

    def dense(self, lo: int, hi: int) -> Floats:
        """The rows from `lo` up to `hi`, shape (hi - lo, columns)."""
        here = slice(*np.searchsorted(self.row, (lo, hi)))
        key = (self.row[here] - lo) * self.columns + self.column[here]
        shares = np.bincount(key, self.share[here], (hi - lo) * self.columns).astype(np.float64)
        return shares.reshape(hi - lo, self.columns)


@dataclass(frozen=True)
class Normal:
    """Normal equations of n samples: `matrix` (k, k), `right` (k, words), `square` (words,) of the samples alone."""

    matrix: Floats
    right: Floats
    square: Floats
    samples: int

    @classmethod
    def of(cls, entries: Entries, percent: Floats, idle: Floats) -> Normal:
        """The last unknown is what the samples show in idle time, whose share of each sample is `idle`, shape (n,)."""
        columns = entries.columns + 1
        matrix, right = np.zeros((columns, columns)), np.zeros((columns, percent.shape[1]))
        for lo, hi, part in chunks(entries, idle):
            matrix += part.T @ part
            right += part.T @ percent[lo:hi]
        return cls(matrix, right, np.square(percent).sum(axis=0), len(percent))

    def residual(self, x: Floats, word: int) -> float:
        """Sum of the squares that x leaves of a metric."""
        rest = self.square[word] - 2 * x @ self.right[:, word] + x @ self.matrix @ x
        return max(float(rest), self.samples * ROUNDING / 100)

    def solved(self, word: int, variance: float, begin: Solution | None = None) -> Solution:
        """Shares of one metric within their bounds; the prior tells of what the samples do not say."""
        matrix = self.matrix + np.eye(len(self.matrix)) * (variance / PRIOR)
        right = self.right[:, word] + variance / PRIOR * PEAK / 2
        return solve(matrix, right, np.full(len(right), PEAK), None if begin is None else begin.at)


def chunks(entries: Entries, idle: Floats) -> Iterator[tuple[int, int, Floats]]:
    """The mixture with its idle column, some thousand samples at a time."""
    for lo in range(0, idle.size, ROWS):
        hi = min(lo + ROWS, idle.size)
        yield lo, hi, np.concatenate([entries.dense(lo, hi), idle[lo:hi, None]], axis=1)


def idle_share(busy: Intervals, time: Ints, period: int, timing: Timing) -> Floats:
    """The share of each sample in which the GPU ran nothing that was traced, shape (n,)."""
    begin = time - timing.begins
    return 1 - busy.coverage(begin, begin + period) / period


class _Search:
    """What the mixture leaves of some metrics, by timing; each timing is tried once."""

    def __init__(self, grid: Grid, pieces: Pieces, busy: Intervals, words: Sequence[int]) -> None:
        self._grid, self._pieces, self._busy, self._words = grid, pieces, busy, words
        self._left: dict[tuple[int, int], float] = {}
        self._near: dict[int, Solution] = {}

    def left(self, at: tuple[int, int]) -> float:
        """The sum over the metrics of the logarithm of the squares that are left: their likelihood, turned round."""
        if at not in self._left:
            timing, grid = Timing(*at), self._grid
            entries = Entries.of(self._pieces, grid.time, grid.period, timing)
            idle = idle_share(self._busy, grid.time, grid.period, timing)
            normal = Normal.of(entries, grid.percent, idle)
            self._left[at] = 0.0
            for word in self._words:
                self._near[word] = normal.solved(word, ROUNDING, self._near.get(word))
                self._left[at] += float(np.log(normal.residual(self._near[word].x, word)))
        return self._left[at]

    def best(self, at: tuple[int, int], moves: Sequence[tuple[int, int]], step: int, last: int) -> tuple[int, int]:
        """The best that is reached by moves of a step, which halves down to `last` where none is better."""
        while step >= last:
            tried = [at, *((at[0] + lag_step * step, at[1] + other * step) for lag_step, other in moves)]
            best = min((pair for pair in tried if abs(pair[1] - pair[0]) <= EDGE_NS), key=self.left)
            step = step // 2 if best == at else step
            at = best
        return at


def find_timing(grid: Grid, pieces: Pieces, busy: Intervals, words: Sequence[int]) -> Timing:
    """When activity begins and ends: where the mixture leaves the least of these metrics.

    First the lag of the samples, up to two intervals either way; then both ends, by less than kernels differ in them.
    `pieces` must have far fewer columns than there are samples.
    """
    search, period = _Search(grid, pieces, busy, words), grid.period
    lag = min(((at * period // 4,) * 2 for at in range(-8, 9)), key=search.left)
    lag = search.best(lag, ((-1, -1), (1, 1)), period // 8, STEP_NS)
    return Timing(*search.best(lag, ((-1, 0), (1, 0), (0, -1), (0, 1), (1, -1)), EDGE_NS // 2, STEP_NS))
