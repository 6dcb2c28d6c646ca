"""How far the shares may be off besides the samples' scatter: no kernel begins and ends exactly as all others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.limits.mixture import Timing
    from nsight_tools.run.limits.positions import Positions

    Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Repeats that tell the error: of ten its size is known to a quarter (a variance of n has a spread of sqrt(2 / n))."""
AS_LONG = 0.03
"""Share by which the times of a kernel's repeats differ at most: one that takes longer has other work, whatever its
grid. The same work on three engines of an H200 took the same time within 2 %; at 10 % nothing else came of it."""


def repeats(time: Ints, alike: Ints) -> Ints:
    """A number for each position, (positions,): the same for what does the same work, launched alike and as long."""
    order = np.lexsort((time, alike))
    number, first, numbers = -1, order[:1], np.empty(order.size, np.int64)
    for at in order.tolist():
        if number < 0 or alike[at] != alike[first] or time[at] > (1 + AS_LONG) * time[first]:
            number, first = number + 1, at
        numbers[at] = number
    _, begins, which = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(begins.size, np.int64)
    rank[np.argsort(begins)] = np.arange(begins.size)  # in order of their first position
    return rank[which.reshape(-1)]


def doubt(share: Floats, variance: Floats, positions: Positions, kind: Ints, timing: Timing) -> Floats:
    """Standard deviation of each share, in points, beside what the samples' scatter has; shape (positions, words).

    Each kernel's activity begins and ends otherwise than all others' on average, by half of what these differ from the
    timestamps: that moves a share the less the longer the kernel is. So does half of the time that two kernels of one
    stream have in common: whose the activity is then, no sample tells. And the same kernel takes the same share
    wherever it stands in a request: by how much its repeats differ when each is solved by itself, more than the
    scatter explains, is activity that is counted to a neighbour. It is not known, and left out, where too few repeat.

    `share` and its `variance` are (positions, words), `kind` (`repeats`) is (positions,).
    """
    length = np.maximum(positions.time, 1)[:, None]
    level: Floats = np.sqrt(np.average(share**2, axis=0, weights=length[:, 0]))
    edges = (abs(timing.ends - timing.begins) + positions.overlap[:, None]) / 2 * level / length
    count = np.bincount(kind)
    again = count[kind] > 1
    degrees = int((count[count > 1] - 1).sum())
    if degrees < FEWEST:
        return edges
    mean = np.stack([np.bincount(kind, column) for column in share.T], axis=1) / count[:, None]
    off = ((share - mean[kind]) * length)[again]
    scatter = (variance * length**2 * (1 - 1 / count[kind])[:, None])[again]
    leaks = np.sqrt(np.maximum((off**2 - scatter).sum(axis=0), 0) / degrees) / length
    doubts: Floats = np.hypot(edges, leaks)
    return doubts
