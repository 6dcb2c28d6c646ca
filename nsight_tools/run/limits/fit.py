"""What each kernel of a request takes of the hardware, from samples that each hold many kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.doubt import doubt, repeats, rounding
from nsight_tools.run.limits.mixture import (
    PEAK,
    PRIOR,
    ROUNDING,
    Entries,
    Normal,
    Pieces,
    Timing,
    chunks,
    find_timing,
    idle_share,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Ints
    from nsight_tools.run.limits.bounded import Solution
    from nsight_tools.run.limits.positions import Positions
    from nsight_tools.run.metrics import Grid
    from nsight_tools.timeline.intervals import Intervals

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

DRAWS = 200
"""Resamples of the requests: their 5th and 95th percentile are those of ten draws at each end."""
CHANCE = (5, 95)
"""Percentiles: an interval holds nine times in ten, as all of ours."""
IN_ONE = 1.645
"""Standard deviations from the middle to either percentile, of a normal distribution."""
WIDE = 20.0
"""Points of the peak to either side: what is known no better is solved as one with a neighbour. Limits are told apart
at 30 and 60 % (`verdict`): a share of 45 +- 20 is on neither side."""
MOST = 400
"""Unknowns at most: a linear system of so many takes 5 ms, and there are some hundreds. Of more kernels, neighbours
are solved as one from the beginning."""
MOST_TIMED = 160
"""Unknowns at most, and 16 samples of each, where the timing is found: it is the same for all kernels."""
SAMPLES_EACH = 16
BLOCKS = 100
"""Of requests that are drawn again: more of them change no percentile of `DRAWS`."""


@dataclass(frozen=True)
class Fit:
    """Shares of the peak in percent, of groups of positions: what is solved as one.

    `group`, shape (positions,), is each position's, and `kind` what it repeats; `share` (groups, words) its share over
    the kernels' time, as traced; `draws` (draws, groups, words) the same of resamples. `idle` (words,) is what the
    samples show while the GPU runs nothing that was traced, `idle_low` the least of it that is likely, and `idle_ns`
    for how long that is.
    """

    group: Ints
    kind: Ints
    share: Floats
    draws: Floats
    idle: Floats
    idle_low: Floats
    idle_ns: int
    timing: Timing
    samples: int

    @property
    def kinds(self) -> Ints:
        """How many kinds of work are told as one, by group: 1 where only repeats of the same are; shape (groups,)."""
        first = np.unique(self.kind, return_index=True)[1]
        return np.bincount(self.group[first], minlength=len(self.share))

    @property
    def half(self) -> Floats:
        """Half of each group's interval of the first metric, in points, shape (groups,)."""
        low, high = np.percentile(self.draws[:, :, 0], CHANCE, axis=0)
        return np.asarray((high - low) / 2, np.float64)


def fit(grid: Grid, positions: Positions, others: Pieces, busy: Intervals) -> Fit:
    """Solve the mixture. `others` is what ran besides, a column of it for each kind; `busy` all that ran."""
    period, count = grid.period, len(positions)
    mine = Pieces(positions.start, positions.end, positions.of.astype(np.int64), count)
    timing = _timing(grid, mine, positions.time, busy)
    group = by_time(positions.time, MOST)
    kind = repeats(positions.time, positions.alike) if count <= MOST else group
    entries = Entries.of(_with(mine.merged(group), others), grid.time, period, timing)
    idle = idle_share(busy, grid.time, period, timing)
    normal = Normal.of(entries, grid.percent, idle)
    own = np.hypot(
        doubt(*_by_themselves(normal, group), positions.time, kind, timing),
        rounding(grid.percent, period, positions.time),
    )
    first = np.unique(group, return_index=True)[1]
    normal, column = _merged(normal, kind[first])  # the same work is one unknown
    into = _told_apart(normal, int(kind.max(initial=-1)) + 1)
    normal, again = _merged(normal, into)
    group, groups = into[kind], int(into.max(initial=-1)) + 1
    solutions = [normal.solved(word, ROUNDING) for word in range(len(grid.words))]
    drawn = _drawn(normal, solutions, entries.merged(again[column][:-1]), idle, grid, positions)
    share = np.stack([solution.x for solution in solutions], axis=1)
    lengths = mine.merged(group).lengths(timing)[:, None]
    draws = drawn[:, :groups] * lengths
    draws += np.random.default_rng(1).normal(size=draws.shape) * _of_groups(own, group, positions.time)
    return Fit(
        group,
        kind,
        share[:groups] * lengths,
        np.clip(draws, 0, PEAK),
        share[-1],
        np.percentile(drawn[:, -1], CHANCE[0], axis=0),
        round(float(idle.sum()) * period),
        timing,
        len(grid),
    )


def _by_themselves(normal: Normal, group: Ints) -> tuple[Floats, Floats]:
    """Each position's shares and their variances, (positions, words), by the samples' scatter, no repeat as one."""
    words = range(normal.right.shape[1])
    x = np.stack([normal.solved(word, ROUNDING).x for word in words], axis=1)
    variance = np.empty_like(x)
    for word in words:
        variance[:, word] = np.diag(_known(normal, x[:, word], word))
    return x[group], variance[group]


def _known(normal: Normal, x: Floats, word: int) -> Floats:
    """The covariance of a metric's shares, (k, k), by what they leave of the samples and what is known beforehand."""
    scatter = max(normal.residual(x, word) / max(normal.samples - len(x), 1), ROUNDING)
    return np.asarray(np.linalg.inv(normal.matrix / scatter + np.eye(len(x)) / PRIOR), np.float64)


def by_time(time: Ints, most: int) -> Ints:
    """A group for each position, neighbours together where there are more than `most`: of about the same time each."""
    if len(time) <= most:
        return np.arange(len(time))
    middle = np.cumsum(time) - time / 2
    return np.unique(np.floor(middle * most / max(time.sum(), 1)), return_inverse=True)[1].reshape(-1)


def _with(mine: Pieces, others: Pieces) -> Pieces:
    """Both, the columns of `others` behind ours."""
    return Pieces(
        np.concatenate([mine.start, others.start]),
        np.concatenate([mine.end, others.end]),
        np.concatenate([mine.column, others.column + mine.columns]),
        mine.columns + others.columns,
    )


def _timing(grid: Grid, mine: Pieces, time: Ints, busy: Intervals) -> Timing:
    """Found on some of the samples, from the middle of the run, with neighbours as one."""
    into = by_time(time, min(MOST_TIMED, max(len(grid) // SAMPLES_EACH, 1)))
    pieces = mine.merged(into)
    wanted = SAMPLES_EACH * pieces.columns
    first = max((len(grid) - wanted) // 2, 0)
    some = grid[first : first + wanted]
    edge = 3 * grid.period
    since, until = int(some.time[0]) - edge, int(some.time[-1]) + edge
    return find_timing(some, pieces.within(since, until), busy.clip(since, until), range(min(2, len(grid.words))))


def _of_groups(doubt: Floats, group: Ints, time: Ints) -> Floats:
    """The doubt of groups, (groups, words), from that of their positions: what repeats is off by the same each time."""
    area = np.zeros((int(group.max(initial=-1)) + 1, doubt.shape[1]))
    np.add.at(area, group, doubt * time[:, None])
    return area / np.maximum(np.bincount(group, time), 1)[:, None]


def _told_apart(normal: Normal, groups: int) -> Ints:
    """Which groups stay by themselves: a new number for each.

    As long as one's interval is wide, it is solved as one with the neighbour that it is mixed up with the most.
    """
    into = np.arange(groups)
    while True:
        merged, _ = _merged(normal, into)
        count = int(into.max(initial=-1)) + 1
        known = _known(merged, merged.solved(0, ROUNDING).x, 0)[:count, :count]
        half = IN_ONE * np.sqrt(np.diag(known))
        pairs = _pairs(half, known)
        if not pairs.any():
            return into
        into = (np.cumsum(np.append(True, ~pairs)) - 1)[into]


def _pairs(half: Floats, known: Floats) -> Bools:
    """Which groups are solved as one with the next from now on, shape (groups - 1,); none of them twice."""
    chosen = np.zeros(max(half.size - 1, 0), np.bool_)
    neighbours = np.diag(known, 1)  # below 0 where what one has more, the other has less
    taken = np.zeros(half.size, np.bool_)
    for at in np.argsort(-half, kind="stable"):
        if half[at] <= WIDE:
            break
        sides = [side for side in (at - 1, at) if 0 <= side < chosen.size and not (taken[side] or taken[side + 1])]
        if sides and not taken[at]:
            side = min(sides, key=lambda side: neighbours[side])
            chosen[side] = taken[side] = taken[side + 1] = True
    return chosen


def _merged(normal: Normal, into: Ints) -> tuple[Normal, Ints]:
    """The normal equations with groups as one, and each old column's new one; others' and idle time stay."""
    count = int(into.max(initial=-1)) + 1
    rest = np.arange(len(normal.matrix) - into.size) + count
    column = np.concatenate([into, rest])
    to = np.zeros((column.size, count + rest.size))
    to[np.arange(column.size), column] = 1
    return Normal(to.T @ normal.matrix @ to, to.T @ normal.right, normal.square, normal.samples), column


def _drawn(
    normal: Normal, solutions: list[Solution], entries: Entries, idle: Floats, grid: Grid, positions: Positions
) -> Floats:
    """The solutions of resampled requests, shape (draws, unknowns, words).

    One step of Newton's method from the whole's solution: what a request's samples leave unexplained pulls as often as
    the request was drawn (a bootstrap by its score function). Of many requests, as many neighbours are drawn together
    as make `BLOCKS` of them.
    """
    blocks = min(positions.requests, BLOCKS)
    began = np.full(positions.requests, np.iinfo(np.int64).max)
    np.minimum.at(began, positions.request, positions.start)
    request = np.maximum(np.searchsorted(np.sort(began), grid.time, "right") - 1, 0)
    whose = request * blocks // max(positions.requests, 1)
    x = np.stack([solution.x for solution in solutions], axis=1)
    pull = np.zeros((blocks, *x.shape))
    for lo, hi, part in chunks(entries, idle):
        rest = grid.percent[lo:hi] - part @ x
        for block in range(int(whose[lo]), int(whose[hi - 1]) + 1):
            mine = slice(*np.searchsorted(whose[lo:hi], (block, block + 1)))
            pull[block] += part[mine].T @ rest[mine]
    times = np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS)
    draws = np.empty((DRAWS, *x.shape))
    # A share at a bound moves too: that the whole's lies there is as uncertain as any other.
    matrix = normal.matrix + np.eye(len(x)) * (ROUNDING / PRIOR)
    moved = np.linalg.solve(matrix, pull.transpose(1, 0, 2).reshape(len(x), -1)).reshape(len(x), blocks, -1)
    for word, solution in enumerate(solutions):
        step = (times - 1) @ moved[:, :, word].T
        draws[:, :, word] = np.clip(solution.x + step, 0, PEAK)
    return draws
