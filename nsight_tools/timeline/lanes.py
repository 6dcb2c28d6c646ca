"""Slices as a viewer draws them: begins and ends in one sequence, and side by side where they would cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray


def sequence(start: Int64Array, end: Int64Array) -> IntArray:
    """Begins and ends of n slices in the order in which they happen, shape (2n,).

    `i` stands for the begin of row i and `n + i` for its end. At one instant slices end before others begin, inner ones
    before outer ones; outer ones begin before inner ones; and a slice without length (`end <= start`) follows all of
    that, its end right behind its begin. So a reader that keeps a stack sees nested slices nested.
    """
    rows = start.size
    order = _outer_first(start, end)
    is_empty = end[order] <= start[order]
    real, empty = order[~is_empty], order[is_empty]
    # The sort is stable: what is listed first here comes first at its instant.
    code = np.concatenate([real[::-1] + rows, real, np.stack([empty, empty + rows], axis=1).ravel()])
    time = np.concatenate([end[real[::-1]], start[real], np.repeat(start[empty], 2)])
    happens: IntArray = code[np.argsort(time, kind="stable")]
    return happens


def lanes(happens: IntArray, track: IntArray, *, nest: bool) -> Int64Array:
    """The lane of its track that each slice is drawn on, from 0, shape (n,).

    `happens` is the `sequence` of the slices, `track` the track of each. With `nest`, slices of one lane nest or are
    apart, otherwise all are apart. A stretch of a track without crossings (without overlap) lies on lane 0; in any
    other, slices take the lane that has been free for longest, so that there are as many lanes as slices open at once.
    """
    rows = track.size
    lane = np.zeros(rows, np.int64)
    grouped = happens[np.argsort(track[happens % max(rows, 1)], kind="stable")]
    begins = grouped < rows
    row = grouped % max(rows, 1)
    depth = np.cumsum(np.where(begins, 1, -1))
    # A stretch ends where nothing is open any more. Each track's begins and ends balance, so depth starts at 0 in all.
    stretch = np.concatenate([[0], np.cumsum(depth == 0)[:-1]])[: grouped.size]
    if nest:
        opened = np.empty(rows, np.int64)
        opened[row[begins]] = depth[begins]
        # What begins inside of a slice and ends outside leaves the depth changed: the first that is crossed shows it.
        wrong = ~begins & (depth + 1 != opened[row])
    else:
        wrong = depth > 1
    crossing = np.zeros(int(stretch[-1]) + 1 if grouped.size else 0, np.bool_)
    crossing[stretch[wrong]] = True
    chosen = crossing[stretch]
    if chosen.any():
        lane[row[chosen & begins]] = _apart(row[chosen], begins[chosen], stretch[chosen])
    return lane


def _apart(row: IntArray, begins: BoolArray, stretch: IntArray) -> Int64Array:
    """Lanes of the slices of a sequence in order of begin, so that no two on one lane overlap.

    The i-th slice to begin takes over the lane of the r-th to end, r counting the takeovers before it, if that one has
    ended: c ends lie before its begin, and c > r. So r grows by one where c > r and stays where c = r:
    `r[i + 1] = min(r[i] + 1, c[i])`, which unrolls to a running minimum.
    """
    count = int(begins.sum())
    at = np.arange(count)
    ended = np.flatnonzero(begins) - at
    own = stretch[begins]
    _, own = np.unique(own, return_inverse=True)
    # Every stretch lies below all before it, so that one running minimum serves them all.
    below = own * (count + 1)
    least = np.minimum.accumulate(ended - at - below) + below
    first = np.concatenate([[True], own[1:] != own[:-1]])
    taken = np.where(first, at, np.concatenate([[0], at[:-1] + least[:-1]]))
    fresh = ended <= taken
    number = np.empty(int(row.max()) + 1, np.int64)
    number[row[begins]] = at
    by_end = number[row[~begins]]
    source = np.where(fresh, at, by_end[np.minimum(taken, count - 1)])
    while not np.array_equal(source, further := source[source]):
        source = further
    opened = np.cumsum(fresh)
    lane: Int64Array = opened - opened[np.flatnonzero(first)][own]
    found: Int64Array = lane[source]
    return found


def _outer_first(start: Int64Array, end: Int64Array) -> IntArray:
    """Rows in order of start, of those that start together the longest first."""
    ordered = (start[1:] > start[:-1]) | ((start[1:] == start[:-1]) & (end[1:] <= end[:-1]))
    order: IntArray = np.arange(start.size) if ordered.all() else np.lexsort((-end, start))
    return order
