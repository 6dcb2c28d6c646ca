"""What samples allow: whether they agree with Nsight Compute's counters, and what is told of samples drawn from these.

The first is asked without the method of `nsight_tools.run.limits`, but for the times at which kernels are active.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from limits_truth import COUNTERS, LARGE, counted, shares_and_durations

from nsight_tools.run import Run
from nsight_tools.run.limits.fit import (
    PART_NS,
    PARTED,
    SAMPLES_EACH,
    Fit,
    _parts,
    _Ran,
    _timing,
    _together,
    fit,
)
from nsight_tools.run.limits.measured import _others, _usable
from nsight_tools.run.limits.mixture import PEAK, Entries, Normal, Pieces
from nsight_tools.run.limits.positions import Positions
from nsight_tools.run.metrics import Grid, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from nsight_tools import Trace
    from nsight_tools.columns import Ints

    Floats = npt.NDArray[np.float64]

STIFF = 1e4
"""How much more than a sample it counts that a kernel has its share."""


@dataclass(frozen=True)
class Sampled:
    """A trace's samples, and Nsight Compute's share of each kernel in percent over its time in the trace, by metric."""

    grid: Grid
    positions: Positions
    others: Pieces
    run: Run
    truth: dict[str, Floats]

    @classmethod
    def of(cls, trace: Trace, counters: Path) -> Sampled:
        run = Run.of(trace)
        positions = Positions.of_run(run, 0)
        grid, _ = _usable(Metrics.of(trace).shares(0), positions)
        rows, truth = counted(counters), {}
        for metric in COUNTERS:
            share, took = shares_and_durations(rows, metric)
            truth[metric] = np.zeros(len(positions))
            truth[metric][~positions.copies] = np.minimum(share * took / positions.time[~positions.copies], PEAK)
        return cls(grid, positions, _others(run, 0, positions), run, truth)

    @property
    def large(self) -> Ints:
        """Positions of kernels that are judged."""
        mine = ~self.positions.copies
        return np.flatnonzero(mine & (self.positions.time > LARGE * self.positions.time[mine].sum()))

    def mixtures(self, parts: Ints) -> Iterator[tuple[str, int, Entries, Floats, Floats]]:
        """Each metric and its place, what is active in each sample, the idle share, and each kernel's active part."""
        at = self.positions
        mine = Pieces(at.start, at.end, at.of.astype(np.int64), len(at), at.before)
        timing, inner = _timing(self.grid, mine, at.time, self.run.gpus.busy(0))
        ran = _Ran(mine, parts, self.others, self.run.gpus.busy(0))
        for when, words in _together(self.grid.words, timing, inner, early=bool(at.overlap.any())).items():
            entries, idle = ran.mixture(when, self.grid)
            length = mine.active(when).time / np.maximum(mine.time, 1)
            for word in words:
                if self.grid.words[word] in COUNTERS:
                    yield self.grid.words[word], word, entries, idle, length

    def farther(self) -> dict[str, float]:
        """How much more the samples lie about a mixture that has Nsight Compute's shares than about any, by metric.

        Of all mixtures in which each part of each kernel is free, the one that is nearest to the samples, beside the
        nearest of those in which each large kernel has its share.
        """
        parts = _parts(self.positions.time, PART_NS, min(PARTED, len(self.grid) // SAMPLES_EACH))
        first = np.cumsum(parts) - parts
        found = {}
        for metric, word, entries, idle, length in self.mixtures(parts):
            free = Normal.of(entries, self.grid.percent, idle)
            matrix, right = free.matrix.copy(), free.right.copy()
            weight = STIFF * np.median(np.diag(matrix))
            for kernel in self.large:
                share = np.zeros(len(matrix))
                share[first[kernel] : first[kernel] + parts[kernel]] = length[kernel] / parts[kernel]
                matrix += weight * np.outer(share, share)
                right[:, word] += weight * share * self.truth[metric][kernel]
            held = Normal(matrix, right, free.square, free.samples)
            left = [free.residual(each.solved(word).x, word) for each in (free, held)]
            found[metric] = float(np.sqrt(left[1] / left[0]))
        return found

    def drawn(self) -> dict[str, tuple[Floats, Floats]]:
        """What is told of each large kernel, and what was drawn, in percent, by metric.

        Samples are those of Nsight Compute's shares at the trace's own times, in whole percents as nsys has them.
        """
        percent, drawn = self.grid.percent.copy(), {}
        for metric, word, entries, _, length in self.mixtures(np.ones(len(self.positions), np.int64)):
            level = np.minimum(self.truth[metric] / length, PEAK)
            kernels = entries.column < level.size
            of_kernels = entries.share[kernels] * level[entries.column[kernels]]
            mixture = np.bincount(entries.row[kernels], of_kernels, len(self.grid))
            percent[:, word] = np.where(mixture > 0, np.maximum(np.rint(mixture), 1), 0)
            drawn[metric] = (level * length)[self.large]
        told: Fit = fit(replace(self.grid, percent=percent), self.positions, self.others, self.run.gpus.busy(0))
        share = told.share[told.group][self.large]
        return {metric: (share[:, self.grid.words.index(metric)], values) for metric, values in drawn.items()}
