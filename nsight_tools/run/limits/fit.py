"""What each kernel of a request takes of the hardware, from samples that each hold many kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.limits.doubt import doubt, repeats
from nsight_tools.run.limits.mixture import (
    EDGE_NS,
    PEAK,
    PRIOR,
    ROUNDING,
    Entries,
    Normal,
    Pieces,
    Timing,
    chunks,
    find_inner,
    find_timing,
    idle_share,
)
from nsight_tools.run.limits.whole import solved

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Ints
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
"""Points of the peak to either side: what is known no better is told as one with a neighbour. Limits are told apart
at 30 and 60 % (`verdict`): a share of 45 +- 20 is on neither side."""
MOST = 400
"""Unknowns at most: a linear system of so many takes 5 ms, and there are some hundreds. Of more kernels, neighbours
are solved as one from the beginning."""
PART_NS = 2_000
"""A kernel is not as active at each moment: its blocks start one after the other, and the last ones leave SMs empty. A
sample that ends within it holds the part before, so that a kernel is solved in parts, or its neighbours pay for it.
How different these are is found with them (`whole`): shorter ones are all edge (`EDGE_NS`)."""
MOST_PARTS = 8
"""Of one kernel: one as long as a sample then has its first and last waves for themselves."""
PARTED = 256
"""Unknowns at most for the sake of parts: longer ones where they are more."""
SAMPLES_EACH = 4
"""Samples of each unknown, for the sake of parts."""
WORK = 4e9
"""Multiplications of the normal equations at most for the sake of parts: half a second."""
SAMPLES_TIMED = 16
"""Samples of each unknown where the timing is found."""
MOST_TIMED = 160
"""Unknowns at most where the timing is found: it is the same for all kernels."""
WORKING = frozenset({"sm_issue", "tensor_active", "dram_read", "dram_write"})
"""What a kernel has nothing of while it waits for the one before on its stream: its blocks keep SMs and warps then."""
INNER = frozenset({"tensor_active"})
"""What begins later than the SMs' activity and ends earlier: a kernel loads its first operands and stores its last
results without Tensor Cores, 2 us before and up to 1.5 after on an H200."""
BLOCKS = 100
"""Of requests that are drawn again: more of them change no percentile of `DRAWS`."""


@dataclass(frozen=True)
class Fit:
    """Shares of the peak in percent, of groups of positions: what is solved as one.

    `group`, shape (positions,), is each position's, and `kind` what it repeats; `share` (groups, words) its share over
    the kernels' time, as traced, `half` (groups,) half of the interval that the samples of the first metric leave, in
    points; `draws` (draws, groups, words) are shares of resamples, with all other doubts. `idle` (words,) is what the
    samples show while the GPU runs nothing that was traced, `idle_low` the least of it that is likely, and `idle_ns`
    for how long that is.
    """

    group: Ints
    kind: Ints
    share: Floats
    half: Floats
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


@dataclass(frozen=True)
class _Ran:
    """What ran: `mine`, a column for each position, solved in so many `parts`; what else did, and when anything did."""

    mine: Pieces
    parts: Ints
    others: Pieces
    busy: Intervals

    def mixture(self, timing: Timing, grid: Grid) -> tuple[Entries, Floats]:
        """What is active in each sample, and the share of it in which nothing runs."""
        active = self.mine.active(timing).parted(self.parts).beside(self.others.active(timing))
        return Entries.of(active, grid.time, grid.period), idle_share(self.busy, grid.time, grid.period, timing)


def fit(grid: Grid, positions: Positions, others: Pieces, busy: Intervals) -> Fit:
    """Solve the mixture. `others` is what ran besides, a column of it for each kind; `busy` all that ran."""
    count = len(positions)
    mine = Pieces(positions.start, positions.end, positions.of.astype(np.int64), count, positions.before)
    timing, inner = _timing(grid, mine, positions.time, busy)
    column: Ints = by_time(positions.time, MOST)
    kind = repeats(positions.time, positions.alike) if count <= MOST else column
    of_column = kind[np.unique(column, return_index=True)[1]]
    long = (np.bincount(kind, positions.time) / np.bincount(kind))[of_column]
    most = min(PARTED, len(grid) // SAMPLES_EACH, round((WORK / max(len(grid), 1)) ** 0.5))
    parts = _parts(long, PART_NS, most)
    ran = _Ran(mine.merged(column), parts, others, busy)
    entries, idle = ran.mixture(timing, grid)
    normal = Normal.of(entries, grid.percent, idle)
    own = doubt(*_by_themselves(normal, parts, column), positions, kind, timing)
    parts_of_kind = parts[np.unique(of_column, return_index=True)[1]]
    normal, new = _merged(normal, _repeated(parts, of_column))  # the same work is one unknown, part by part
    time_of_kind = np.bincount(kind, positions.time)
    into = _told_apart(normal, parts_of_kind, time_of_kind)
    group = into[kind]
    weight = _means(parts_of_kind, into, time_of_kind, len(normal.matrix))
    time = mine.merged(group).time
    share, lengths = np.empty(normal.right.shape), np.empty((len(weight), len(grid.words)))
    steps = np.empty((DRAWS, *share.shape))
    for when, words in _together(grid.words, timing, inner, early=bool(positions.overlap.any())).items():
        active, rest = (entries, idle) if when == timing else ran.mixture(when, grid)
        some, active = grid.of_words(words), active.merged(new[:-1])
        share[:, words], steps[:, :, words] = _solved(active, rest, some, positions, parts_of_kind)
        lengths[:, words] = (mine.active(when).merged(group).time / np.maximum(time, 1))[:, None]
    mean = weight @ share
    draws = (mean + weight @ steps) * lengths
    half = np.diff(np.percentile(draws[:, :, 0], CHANCE, axis=0), axis=0)[0] / 2
    draws += np.random.default_rng(1).normal(size=draws.shape) * _of_groups(own, group, positions.time)
    return Fit(
        group,
        kind,
        mean * lengths,
        half,
        np.clip(draws, 0, PEAK),
        share[-1],
        np.percentile(np.clip(share[-1] + steps[:, -1], 0, PEAK), CHANCE[0], axis=0),
        round(float(idle.sum()) * grid.period),
        timing,
        len(grid),
    )


def _together(words: tuple[str, ...], timing: Timing, inner: Timing, *, early: bool) -> dict[Timing, list[int]]:
    """Which words are solved together; `early` is whether kernels are launched before the one before has ended."""
    together: dict[Timing, list[int]] = {}
    for at, word in enumerate(words):
        waits = timing.ends if early and word in WORKING else None
        when = replace(inner if word in INNER else timing, waits=waits)
        together.setdefault(when, []).append(at)
    return together


def _parts(time: Floats | Ints, length: int, most: int) -> Ints:
    """In how many parts each column is solved, shape (columns,): of `length` ns, longer where these are too many."""
    while True:
        parts: Ints = np.clip(np.rint(time / length), 1, MOST_PARTS).astype(np.int64)
        if parts.sum() <= most or parts.max() == 1:
            return parts
        length *= 2


def _repeated(parts: Ints, kind: Ints) -> Ints:
    """The same number for the same part of the same kind, in order of kinds, shape (parts,)."""
    first = np.unique(kind, return_index=True)[1]
    begins = np.cumsum(parts[first]) - parts[first]
    turn = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    found: Ints = np.repeat(begins[kind], parts) + turn
    return found


def _means(parts: Ints, into: Ints, time: Floats | Ints, unknowns: int) -> Floats:
    """The weight of each unknown in the share of each group, (groups, unknowns): that of its time.

    `parts`, `into` (a group) and `time` are of what the groups are of.
    """
    found = np.zeros((int(into.max(initial=-1)) + 1, unknowns))
    found[np.repeat(into, parts), np.arange(parts.sum())] = np.repeat(np.maximum(time, 1) / parts, parts)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


def _by_themselves(normal: Normal, parts: Ints, column: Ints) -> tuple[Floats, Floats]:
    """Each position's shares and their variances, (positions, words), by the samples' scatter, no repeat as one."""
    words = range(normal.right.shape[1])
    x = np.stack([normal.solved(word).x for word in words], axis=1)
    weight = _means(parts, np.arange(parts.size), np.ones(parts.size), len(x))
    variance = np.stack([((weight @ _known(normal, x[:, word], word)) * weight).sum(axis=1) for word in words], axis=1)
    return (weight @ x)[column], variance[column]


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


def _timing(grid: Grid, mine: Pieces, time: Ints, busy: Intervals) -> tuple[Timing, Timing]:
    """That of the SMs, and that of what is active inside of it, `INNER`.

    Found on some of the samples, from the middle of the run, with neighbours as one.
    """
    most = min(MOST_TIMED, max(len(grid) // SAMPLES_TIMED, 1))
    into = by_time(time, most)
    pieces, parts = mine.merged(into), _parts(np.bincount(into, time), 2 * EDGE_NS, most)
    wanted = SAMPLES_TIMED * int(parts.sum())
    first = max((len(grid) - wanted) // 2, 0)
    some = grid[first : first + wanted]
    edge = 3 * grid.period
    since, until = int(some.time[0]) - edge, int(some.time[-1]) + edge
    near = pieces.within(since, until), parts, busy.clip(since, until)
    timing = find_timing(some, *near, range(min(2, len(grid.words))))
    words = [at for at, word in enumerate(grid.words) if word in INNER]
    return timing, find_inner(some, *near, words, timing) if words else timing


def _of_groups(doubt: Floats, group: Ints, time: Ints) -> Floats:
    """The doubt of groups, (groups, words), from that of their positions: what repeats is off by the same each time."""
    area = np.zeros((int(group.max(initial=-1)) + 1, doubt.shape[1]))
    np.add.at(area, group, doubt * time[:, None])
    return area / np.maximum(np.bincount(group, time), 1)[:, None]


def _told_apart(normal: Normal, parts: Ints, time: Floats | Ints) -> Ints:
    """Which kinds are told by themselves: a new number for each. `parts` and `time` have the shape (kinds,).

    As long as one's interval is wide, it is told as one with the neighbour that it is mixed up with the most: of those
    that are not known by themselves, too.
    """
    into = np.arange(parts.size)
    known = _known(normal, normal.solved(0).x, 0)
    while True:
        weight = _means(parts, into, time, len(known))
        of_groups = weight @ known @ weight.T
        half = IN_ONE * np.sqrt(np.diag(of_groups))
        pairs = _pairs(half, of_groups, np.bincount(into) > 1)
        if not pairs.any():
            return into
        into = (np.cumsum(np.append(True, ~pairs)) - 1)[into]


def _pairs(half: Floats, known: Floats, together: Bools) -> Bools:
    """Which groups are told as one with the next from now on, shape (groups - 1,); none of them twice.

    What is `together` already takes more of what is known no better than `WIDE`.
    """
    chosen = np.zeros(max(half.size - 1, 0), np.bool_)
    beside = np.diag(known, 1)  # below 0 where what one has more, the other has less
    open_, taken = (half > WIDE) | together, np.zeros(half.size, np.bool_)
    for at in np.argsort(-half, kind="stable"):
        if half[at] <= WIDE:
            break
        sides = [side for side in (at - 1, at) if 0 <= side < chosen.size and not (taken[side] or taken[side + 1])]
        sides = [side for side in sides if open_[side] and open_[side + 1]]
        if sides and not taken[at]:
            side = min(sides, key=lambda side: beside[side])
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


def _solved(entries: Entries, idle: Floats, grid: Grid, positions: Positions, parts: Ints) -> tuple[Floats, Floats]:
    """Shares of the grid's metrics, (unknowns, words), and by how much those of resampled requests differ from them.

    The latter, (draws, unknowns, words), take one step of Newton's method from the whole's solution: what a request's
    samples leave unexplained pulls as often as the request was drawn (a bootstrap by its score function). Of many
    requests, as many neighbours are drawn together as make `BLOCKS` of them. Where the samples say little, a share is
    near the others, and as uncertain as these lie apart.
    """
    normal = Normal.of(entries, grid.percent, idle)
    told = solved(normal, entries, idle, grid, parts)
    x = told.share
    blocks = min(positions.requests, BLOCKS)
    began = np.full(positions.requests, np.iinfo(np.int64).max)
    np.minimum.at(began, positions.request, positions.start)
    request = np.maximum(np.searchsorted(np.sort(began), grid.time, "right") - 1, 0)
    whose = request * blocks // max(positions.requests, 1)
    pull = np.zeros((blocks, *x.shape))
    for lo, hi, part in chunks(entries, idle):
        rest = told.rest(grid.percent[lo:hi], part @ x)
        for block in range(int(whose[lo]), int(whose[hi - 1]) + 1):
            mine = slice(*np.searchsorted(whose[lo:hi], (block, block + 1)))
            pull[block] += part[mine].T @ rest[mine]
    random = np.random.default_rng(0)
    times = random.multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS) - 1.0
    steps = np.empty((DRAWS, *x.shape))
    for word, (scatter, kept) in enumerate(zip(told.scatter, told.kept, strict=True)):
        # A share at a bound moves too: that the whole's lies there is as uncertain as any other.
        before = told.beforehand(word)
        known = np.linalg.inv(kept * normal.matrix + scatter * before)
        beforehand = random.normal(size=(DRAWS, len(x))) @ np.linalg.cholesky(before).T * scatter
        steps[:, :, word] = (times @ pull[:, :, word] + beforehand) @ known
    return x, steps
