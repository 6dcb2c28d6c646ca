"""Each sample as a mixture of the kernels that ran in it, and when samples and kernels really were.

A sample is an average over an interval, in which each kernel ran for a known share of it. The intervals' place relative
to the kernels' timestamps is not documented: it is found where the mixture explains the samples best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.bounded import Solution, solve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.metrics import Grid
    from nsight_tools.timeline.intervals import Intervals

    Floats = npt.NDArray[np.float64]
    _Allowed = Callable[[int, int], bool]

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
    """By how much activity begins and ends after the kernels' timestamps on the samples' clock, in nanoseconds.

    `waits` is how long after the end of the one before on its stream a kernel begins; None where that is at its own
    start, whatever the one before does.
    """

    begins: int
    ends: int
    waits: int | None = None


@dataclass(frozen=True)
class Pieces:
    """What ran: `start`, `end` and `column` of shape (n,), in order of start.

    `before`, (n,), is when the one before each on its stream ended, where that is of interest.
    """

    start: Ints
    end: Ints
    column: Ints
    columns: int
    before: Ints | None = None

    def active(self, timing: Timing) -> Pieces:
        """When each was active: at least half as long as it ran, or as was left of that, however short it is."""
        start, long = self.start + timing.begins, self.end - self.start
        if timing.waits is not None and self.before is not None:
            late = np.clip(self.before + timing.waits - start, 0, long) * (self.before > self.start)
            start, long = start + late, long - late
        return Pieces(start, np.maximum(self.end + timing.ends, start + (long + 1) // 2), self.column, self.columns)

    @property
    def time(self) -> Floats:
        """How long each column lasts, shape (columns,)."""
        return np.bincount(self.column, self.end - self.start, self.columns).astype(np.float64)

    def parted(self, parts: Ints) -> Pieces:
        """Each piece as `parts`, shape (columns,), of its column, of equal length and with a column each."""
        count = parts[self.column]
        whose = np.repeat(np.arange(count.size), count)
        turn = np.arange(whose.size) - np.repeat(np.cumsum(count) - count, count)
        start, long = self.start[whose], (self.end - self.start)[whose]
        first = np.cumsum(parts) - parts
        return Pieces(
            start + long * turn // count[whose],
            start + long * (turn + 1) // count[whose],
            first[self.column[whose]] + turn,
            int(parts.sum()),
        )

    def beside(self, others: Pieces) -> Pieces:
        """Both, the columns of `others` behind ours."""
        return Pieces(
            np.concatenate([self.start, others.start]),
            np.concatenate([self.end, others.end]),
            np.concatenate([self.column, others.column + self.columns]),
            self.columns + others.columns,
        )

    def merged(self, into: Ints) -> Pieces:
        """The same with several columns in one: `into`, shape (columns,), says in which."""
        return replace(self, column=into[self.column], columns=int(into.max(initial=-1)) + 1)

    def within(self, lo: int, hi: int) -> Pieces:
        """Those that lie between two times, in part at least."""
        near = (self.end > lo) & (self.start < hi)
        before = None if self.before is None else self.before[near]
        return Pieces(self.start[near], self.end[near], self.column[near], self.columns, before)


@dataclass(frozen=True)
class Entries:
    """For each sample and each piece that was active in it: their row and column, and the share of the sample."""

    row: Ints
    column: Ints
    share: Floats
    columns: int

    @classmethod
    def of(cls, active: Pieces, time: Ints, period: int) -> Entries:
        """Of samples that begin at `time`, in order, and last for `period`."""
        start, end = active.start, active.end
        first = np.searchsorted(time + period, start, "right")
        count = np.maximum(np.searchsorted(time, end, "left") - first, 0)
        which = np.repeat(np.arange(count.size), count)
        row = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count) + first[which]
        part = np.minimum(end[which], time[row] + period) - np.maximum(start[which], time[row])
        order = np.argsort(row, kind="stable")
        return cls(row[order], active.column[which][order], part[order] / period, active.columns)

    def merged(self, into: Ints) -> Entries:
        """The same with several columns in one: `into`, shape (columns,), says in which."""
        return Entries(self.row, into[self.column], self.share, int(into.max(initial=-1)) + 1)

    def every(self, step: int) -> Entries:
        """Those of each `step`-th sample."""
        mine = self.row % step == 0
        return Entries(self.row[mine] // step, self.column[mine], self.share[mine], self.columns)

    def dense(self, lo: int, hi: int, idle: Floats) -> Floats:
        """The rows from `lo` up to `hi` with the share of idle time in a last column, shape (hi - lo, columns + 1)."""
        here, columns = slice(*np.searchsorted(self.row, (lo, hi))), self.columns + 1
        key = (self.row[here] - lo) * columns + self.column[here]
        flat: Floats = np.bincount(key, self.share[here], (hi - lo) * columns).astype(np.float64, copy=False)
        found = flat.reshape(hi - lo, columns)
        found[:, -1] = idle[lo:hi]
        return found


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

    def solved(self, word: int, begin: Solution | None = None) -> Solution:
        """Shares of one metric within their bounds; what the samples do not say lies about the mean of all."""
        matrix = self.matrix + np.eye(len(self.matrix)) * (ROUNDING / PRIOR)
        mean = self.right[:, word].sum() / max(self.matrix.sum(), 1e-300)
        right = self.right[:, word] + ROUNDING / PRIOR * mean
        return solve(matrix, right, np.full(len(right), PEAK), None if begin is None else begin.at)


def chunks(entries: Entries, idle: Floats) -> Iterator[tuple[int, int, Floats]]:
    """The mixture with its idle column, some thousand samples at a time."""
    for lo in range(0, idle.size, ROWS):
        hi = min(lo + ROWS, idle.size)
        yield lo, hi, entries.dense(lo, hi, idle)


def idle_share(busy: Intervals, time: Ints, period: int, timing: Timing) -> Floats:
    """The share of each sample in which the GPU ran nothing that was traced, shape (n,)."""
    begin = time - timing.begins
    return 1 - busy.coverage(begin, begin + period) / period


_ENDS = (-1, 0), (1, 0), (0, -1), (0, 1)
"""Moves of either end of a kernel's activity."""


class _Search:
    """What the mixture leaves of some metrics, by timing; each timing is tried once."""

    def __init__(
        self, grid: Grid, pieces: Pieces, parts: Ints, busy: Intervals, words: Sequence[int], waits: int | None = None
    ) -> None:
        self._grid, self._pieces, self._parts, self._busy, self._words = grid, pieces, parts, busy, words
        self._waits = waits
        self._left: dict[tuple[int, int], float] = {}
        self._near: dict[int, Solution] = {}

    def left(self, at: tuple[int, int]) -> float:
        """The sum over the metrics of the logarithm of the squares that are left: their likelihood, turned round."""
        if at not in self._left:
            timing, grid = Timing(*at, self._waits), self._grid
            entries = Entries.of(self._pieces.active(timing).parted(self._parts), grid.time, grid.period)
            idle = idle_share(self._busy, grid.time, grid.period, timing)
            normal = Normal.of(entries, grid.percent, idle)
            self._left[at] = 0.0
            for word in self._words:
                self._near[word] = normal.solved(word, self._near.get(word))
                self._left[at] += float(np.log(normal.residual(self._near[word].x, word)))
        return self._left[at]

    def best(
        self, at: tuple[int, int], moves: Sequence[tuple[int, int]], step: int, last: int, allowed: _Allowed
    ) -> tuple[int, int]:
        """The best that is reached by moves of a step, which halves down to `last` where none is better."""
        while step >= last:
            tried = [at, *((at[0] + one * step, at[1] + other * step) for one, other in moves)]
            best = min((each for each in tried if allowed(*each)), key=self.left)
            step = step // 2 if best == at else step
            at = best
        return at


def find_timing(grid: Grid, pieces: Pieces, parts: Ints, busy: Intervals, words: Sequence[int]) -> Timing:
    """When activity begins and ends: where the mixture leaves the least of these metrics.

    First the lag of the samples, up to two intervals either way, by a third of them; then both ends, by less than
    kernels differ in them. `pieces` are solved in so many `parts`, shape (columns,): far fewer than there are samples.
    """
    search, period = _Search(grid[: len(grid) // 3], pieces, parts, busy, words), grid.period

    def allowed(begins: int, ends: int) -> bool:
        return abs(ends - begins) <= EDGE_NS

    lag = min(((at * period // 4,) * 2 for at in range(-8, 9)), key=search.left)
    lag = search.best(lag, ((-1, -1), (1, 1)), period // 8, STEP_NS, allowed)
    search = _Search(grid, pieces, parts, busy, words)
    return Timing(*search.best(lag, (*_ENDS, (1, -1)), EDGE_NS // 2, STEP_NS, allowed))


def find_inner(
    grid: Grid, pieces: Pieces, parts: Ints, busy: Intervals, words: Sequence[int], timing: Timing
) -> Timing:
    """The same of metrics that are active within this timing: less than an edge later, and earlier."""
    search = _Search(grid, pieces, parts, busy, words, timing.ends)

    def allowed(begins: int, ends: int) -> bool:
        return 0 <= begins - timing.begins <= EDGE_NS and 0 <= timing.ends - ends <= EDGE_NS

    return Timing(*search.best((timing.begins, timing.ends), _ENDS, EDGE_NS // 2, STEP_NS, allowed))
