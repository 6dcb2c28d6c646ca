"""How far the shares may be off besides the samples' scatter: no kernel begins and ends exactly as all others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.limits.mixture import Timing

    Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Repeats that tell the error: of ten its size is known to a quarter (a variance of n has a spread of sqrt(2 / n))."""
AS_LONG = 0.1
"""Share by which the times of a kernel's repeats differ at most: one that takes longer has other work, whatever its
grid."""


def doubt(share: Floats, draws: Floats, time: Ints, alike: Ints, timing: Timing) -> Floats:
    """Standard deviation of each share, in points, beside what the draws have; shape (positions, words).

    The same kernel takes the same share wherever it stands in a request. By how much its repeats differ, more than
    their draws do, is the model's own error: activity that is counted to a neighbour, which moves a share the less the
    longer a kernel is. Where too few repeat, each kernel's activity may begin and end otherwise than all others' on
    average by half of what these differ from the timestamps.

    `share` is (positions, words), `draws` (draws, positions, words), `time` and `alike` (positions,).
    """
    length = np.maximum(time, 1)[:, None]
    own = draws.var(axis=0)
    differ = np.zeros(share.shape[1])
    count = 0
    for kind in np.flatnonzero(np.bincount(alike) > 1).tolist():
        mine = np.flatnonzero(alike == kind)
        mine = mine[np.abs(time[mine] / np.median(time[mine]) - 1) <= AS_LONG]
        if mine.size < 2:
            continue
        off = (share[mine] - share[mine].mean(axis=0)) * length[mine]
        differ += np.maximum((off**2).sum(axis=0) - (mine.size - 1) * (own[mine] * length[mine] ** 2).mean(axis=0), 0)
        count += mine.size - 1
    if count >= FEWEST:
        found: Floats = np.sqrt(differ / count) / length
        return found
    level: Floats = np.sqrt(np.average(share**2, axis=0, weights=length[:, 0]))
    return abs(timing.ends - timing.begins) / 2 * level / length


def rounding(percent: Floats, period: int, time: Ints) -> Floats:
    """What rounding to whole percents adds, in points, shape (positions, words); nothing of samples that have parts.

    Rounding averages out over samples that differ, and not over ones that are all but the same: of values that scatter
    by s steps an error of exp(-2 (pi s)^2) / pi steps stays (the first harmonic of a rounded value's mean). A kernel
    that fills a hundredth of a sample has a hundred times that. Half of the scatter counts: the rest is other kernels'.
    """
    scatter = percent.std(axis=0) / 2
    stays = np.exp(-2 * (np.pi * scatter) ** 2) / np.pi
    whole = (np.rint(percent) == percent).all(axis=0)
    return np.where(whole, stays, 0)[None, :] * (period / np.maximum(time, 1))[:, None]
