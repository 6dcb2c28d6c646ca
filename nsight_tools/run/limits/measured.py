"""The limits of one GPU's kernels: which samples count, what else ran, and when nothing can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from nsight_tools.errors import CouldNotRun
from nsight_tools.run.limits.fit import CHANCE, WIDE, Fit, fit
from nsight_tools.run.limits.mixture import EDGE_NS, PEAK, Pieces
from nsight_tools.run.limits.positions import Positions
from nsight_tools.run.metrics import Metrics
from nsight_tools.run.samples import DROP, HELD_SHARE, SAMPLES
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.run import Run
    from nsight_tools.run.metrics import Grid

    Floats = npt.NDArray[np.float64]

OTHERS = 5.0
"""Percent of the SMs that are active for sure while nothing of ours runs: another process. Ours leave at most 1 there,
the samples' rounding; if that is off by two, a process that takes a tenth of the GPU is still found."""
OVERLAP = 0.02
"""Share of the kernels' time from which on it is worth a word that they overlap: below it no share moves by a point."""
TOLD = 0.5
"""Share of the kernels' time that has to be known to some points: of a run of which less is, nothing is said."""


@dataclass(frozen=True)
class Measured:
    """What is told of a GPU's kernels: shares of the peak from 0 to 1, low and high hold nine times in ten.

    `low` and `high` have the shape of `fit.share`: (groups, words).
    """

    device: int
    words: tuple[str, ...]
    positions: Positions
    fit: Fit
    steps: Floats
    """What the samples are rounded to, by word, (words,): 1 where they are whole percents, else 0."""
    hz: float
    notes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, device: int) -> Measured:
        """Raises CouldNotRun where nothing can be told, and says why."""
        grid = Metrics.of(run.trace).shares(device)
        if not len(grid) or not grid.words:
            lacking = run.trace.lacking("gpu_metrics")
            raise lacking or CouldNotRun(f"the GPU metrics hold no share of a peak of GPU {device}")
        if not run.count:
            raise CouldNotRun("no inference repeats, and one run of a kernel has too few samples")
        positions = Positions.of_run(run, device)
        if positions.copies.all():
            raise CouldNotRun(f"no kernel of an inference ran on GPU {device} by itself: graphs were traced as a whole")
        grid, notes = _usable(grid, positions)
        if len(grid) < SAMPLES:
            raise CouldNotRun(
                f"only {len(grid)} samples of GPU metrics lie in the inferences, and it takes {SAMPLES} at least",
                hint="capture longer or at a higher frequency",
            )
        others, busy = _others(run, device, positions), run.gpus.busy(device)
        with threadpool_limits(1, "blas"):  # hundreds of small systems: threads cost more than they bring, and much
            fitted = fit(grid, positions, others, busy)  # more where other processes have the cores
        _refuse_others(grid, fitted, run.gpus.busy(device))
        _refuse_few(fitted, positions)
        steps = np.where(grid.whole, 1.0, 0.0)
        notes += _said(positions, fitted)
        return cls(device, grid.words, positions, fitted, steps, 1e9 / grid.period, notes)

    def shares(self, weight: Floats) -> tuple[Floats, Floats, Floats]:
        """Share, low and high of sums of groups, from 0 to 1, shape (sums, words); `weight` is (sums, groups).

        Samples of whole percents call 1 all that is above 0, and hardly change where little happens, so that rounding
        does not average out: one percent more to either side.
        """
        value = weight @ self.fit.share
        low, high = np.percentile(weight @ self.fit.draws, CHANCE, axis=0)
        low, high = np.minimum(low, value) - self.steps, np.maximum(high, value) + self.steps
        low = np.where(low <= self.steps, 0, low)
        return value / PEAK, np.clip(low, 0, PEAK) / PEAK, np.clip(high, 0, PEAK) / PEAK


def _usable(grid: Grid, positions: Positions) -> tuple[Grid, tuple[str, ...]]:
    """Samples from the first kernel to the last, at the clock that the run usually has."""
    edge = 2 * grid.period  # by which the samples' clock may be off
    inside = (grid.time >= positions.start.min() + edge) & (grid.time + grid.period <= positions.end.max() - edge)
    grid = grid[inside]
    known = ~np.isnan(grid.clock)
    if not known.any():
        return grid, ()
    usual = np.median(grid.clock[known])
    off = known & (np.abs(grid.clock / usual - 1) > DROP)
    if off.mean() < HELD_SHARE:
        return grid[~off], ()
    return grid[~off], (
        f"the clock changes: only the {share(1 - off.mean())} of the samples near {usual:,.0f} MHz count",
    )


def _others(run: Run, device: int, positions: Positions) -> Pieces:
    """What ran besides on the GPU, of no judged inference: a column for each kind of copy, and one for kernels."""
    work = run.work
    mine = np.zeros(len(work), np.bool_)
    mine[positions.row] = True
    rows = np.flatnonzero((work.device == device) & ~mine)
    kinds, column = np.unique(work.kind.codes[rows], return_inverse=True)
    return Pieces(work.start[rows], work.end[rows], column.reshape(-1).astype(np.int64), kinds.size)


def _refuse_others(grid: Grid, fitted: Fit, busy: Intervals) -> None:
    if "sms_active" not in grid.words or fitted.idle_ns < SAMPLES * grid.period:
        return
    idle = busy.clip(int(grid.time[0]), int(grid.time[-1])).gaps()
    # Of a stretch of idle time its edges say nothing: a neighbour's activity may reach into it.
    edges = PEAK * EDGE_NS * len(idle) / max(idle.total, 1)
    low = fitted.idle_low[grid.words.index("sms_active")] - edges
    if low > OTHERS:
        raise CouldNotRun(
            f"another process works on the GPU: {low:.0f} % of its SMs at least are active while this one runs "
            "nothing, and the samples hold both",
            hint="capture it while nothing else uses the GPU",
        )


def _refuse_few(fitted: Fit, positions: Positions) -> None:
    """A group tells of the work that takes most of its time, if any does."""
    time = np.bincount(fitted.group, positions.time, fitted.half.size)
    first = np.unique(fitted.kind, return_index=True)[1]
    longest = np.zeros(time.size)
    np.maximum.at(longest, fitted.group[first], np.bincount(fitted.kind, positions.time))
    if time[(fitted.half <= WIDE) & (longest >= TOLD * time)].sum() < TOLD * time.sum():
        raise CouldNotRun(
            f"{fitted.samples:,} samples of GPU metrics are too few for {len(positions):,} kernels of "
            f"{duration(time.sum() / len(positions))}",
            hint="capture longer or at a higher frequency",
        )


def _said(positions: Positions, fitted: Fit) -> tuple[str, ...]:
    """What has to be known beside the shares."""
    notes = []
    total = int((positions.end - positions.start).sum())
    overlapped = total - Intervals.union(positions.start, positions.end).total
    if overlapped > OVERLAP * total:
        notes.append(
            f"kernels overlap for {share(overlapped / total)} of their time: each is told as it runs beside the others"
        )
    together = fitted.kinds[fitted.group] > 1
    if together.any():
        time = positions.time[together].sum() / max(positions.time.sum(), 1)
        notes.append(
            f"{together.sum():,} of {len(positions):,} kernels, {share(float(time))} of the time, are too short beside "
            "a sample to be told from their neighbours, and are told together with them"
        )
    return tuple(notes)
