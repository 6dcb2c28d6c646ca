"""Sets of time: half-open `[start, end)` intervals in int64 nanoseconds, as arrays.

Everything here is O(n log n) and vectorised. A set of intervals answers "how much of it lies in each of these
windows" by prefix sums, so that what many windows share never has to be copied into each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.signedinteger[Any]]
"""Rows, which need no 64 bits."""
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Intervals:
    """A set of nanoseconds as its maximal intervals: sorted, disjoint, none empty, no two that touch.

    Both arrays have shape (n,). Build one from raw intervals with `union`; the constructor trusts its arguments.
    """

    start: Int64Array
    end: Int64Array

    @classmethod
    def union(cls, start: ArrayLike, end: ArrayLike) -> Intervals:
        """The time that at least one of the raw intervals covers.

        Raw intervals may come in any order and overlap; those without length (`end <= start`) cover nothing.
        """
        start, end = _raw(start, end)
        if start.size == 0:
            return cls(start, end)
        if np.any(start[1:] < start[:-1]):
            order = np.argsort(start, kind="stable")
            start, end = start[order], end[order]
        reach = np.maximum.accumulate(end)
        # A new member begins where everything before it has already ended; touching intervals are one member.
        first = np.concatenate([[True], start[1:] > reach[:-1]])
        last = np.concatenate([first[1:], [True]])
        return cls(start[first], reach[last])

    @classmethod
    def any_of(cls, sets: Iterable[Intervals]) -> Intervals:
        """The time that at least one of several sets covers; none, where there is no set."""
        none = cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        sets = [none, *sets]
        return cls.union(np.concatenate([one.start for one in sets]), np.concatenate([one.end for one in sets]))

    def __len__(self) -> int:
        return int(self.start.size)

    @property
    def total(self) -> int:
        """Nanoseconds in the set."""
        return int((self.end - self.start).sum())

    def gaps(self) -> Intervals:
        """What lies between the members."""
        return Intervals(self.end[:-1], self.start[1:])

    def complement(self, lo: int, hi: int) -> Intervals:
        """What of `[lo, hi)` is not in the set."""
        inside = self.clip(lo, hi)
        if hi <= lo:
            return inside
        start = np.concatenate([[lo], inside.end])
        end = np.concatenate([inside.start, [hi]])
        keep = end > start
        return Intervals(start[keep], end[keep])

    def intersection(self, other: Intervals) -> Intervals:
        """What is in both sets."""
        first = np.searchsorted(other.end, self.start, side="right")
        last = np.searchsorted(other.start, self.end, side="left")
        mine, theirs = _pairs(first, last)
        start = np.maximum(self.start[mine], other.start[theirs])
        end = np.minimum(self.end[mine], other.end[theirs])
        return Intervals(start, end)

    def subtract(self, other: Intervals) -> Intervals:
        """What is in this set and not in the other."""
        if len(self) == 0:
            return self
        return self.intersection(other.complement(int(self.start[0]), int(self.end[-1])))

    def clip(self, lo: int, hi: int) -> Intervals:
        """What of the set lies in `[lo, hi)`."""
        first = np.searchsorted(self.end, lo, side="right")
        last = max(first, np.searchsorted(self.start, hi, side="left")) if hi > lo else first
        return Intervals(np.maximum(self.start[first:last], lo), np.minimum(self.end[first:last], hi))

    def coverage(self, start: ArrayLike, end: ArrayLike) -> Int64Array:
        """How many nanoseconds of each window `[start, end)` are in the set.

        The windows, shape (m,), may come in any order and overlap; one without length has 0.
        """
        lo = np.asarray(start, np.int64)
        hi = np.maximum(np.asarray(end, np.int64), lo)
        if len(self) == 0:
            return np.zeros(lo.shape, np.int64)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.end - self.start)])
        covered: Int64Array = self._covered_until(hi, before) - self._covered_until(lo, before)
        return covered

    def _covered_until(self, time: Int64Array, before: Int64Array) -> Int64Array:
        """Nanoseconds of the set that lie before each time: whole members, less what the last one has to go."""
        begun = np.searchsorted(self.start, time, side="right")
        to_go = np.maximum(self.end[begun - 1] - time, 0)
        until: Int64Array = before[begun] - np.where(begun > 0, to_go, 0)
        return until

    def contains(self, points: ArrayLike) -> BoolArray:
        """Whether each point in time, shape (m,), is in the set."""
        time = np.asarray(points, np.int64)
        if len(self) == 0:
            return np.zeros(time.shape, np.bool_)
        begun = np.searchsorted(self.start, time, side="right")
        inside: BoolArray = (begun > 0) & (time < self.end[begun - 1])
        return inside


@dataclass(frozen=True, eq=False)
class Timeline:
    """Events in order of start, of which stretches are asked for; `reach` is the running maximum of the ends."""

    rows: IntArray
    start: Int64Array
    reach: Int64Array

    @classmethod
    def of(cls, rows: IntArray, start: Int64Array, end: Int64Array) -> Timeline:
        """The events `rows`, distinct and ascending, of these columns."""
        everything = rows.size == start.size
        begun = start if everything else start[rows]
        if np.any(begun[1:] < begun[:-1]):
            rows = rows[np.argsort(begun, kind="stable")]
            begun, everything = start[rows], False
        return cls(rows.astype(np.int32), begun, np.maximum.accumulate(end if everything else end[rows]))

    def within(self, lo: int, hi: int) -> IntArray:
        """Rows of the events that may touch `[lo, hi)`: all that do, and few others."""
        return self.rows[np.searchsorted(self.reach, lo, side="right") : np.searchsorted(self.start, hi, side="left")]


def concurrency(start: ArrayLike, end: ArrayLike, at_least: int) -> Intervals:
    """The time in which at least so many (one or more) of the raw intervals are open at once."""
    if at_least < 1:
        raise ValueError(f"at_least is {at_least}; the time with 0 open intervals has no bounds")
    start, end = _raw(start, end)
    time = np.concatenate([start, end])
    order = np.argsort(time, kind="stable")
    time = time[order]
    open_now = np.cumsum(np.where(order < start.size, 1, -1))
    # Of several changes at one instant only the last counts: an end and a start there are no interruption.
    settled = np.concatenate([time[1:] != time[:-1], np.ones(min(time.size, 1), np.bool_)])
    time, enough = time[settled], open_now[settled] >= at_least
    was_enough = np.concatenate([np.zeros(min(time.size, 1), np.bool_), enough[:-1]])
    return Intervals(time[enough & ~was_enough], time[was_enough & ~enough])


def _raw(start: ArrayLike, end: ArrayLike) -> tuple[Int64Array, Int64Array]:
    """Raw intervals as int64 arrays, without those that have no length."""
    lo, hi = np.asarray(start, np.int64), np.asarray(end, np.int64)
    keep = hi > lo
    return (lo, hi) if keep.all() else (lo[keep], hi[keep])


def _pairs(first: NDArray[np.intp], last: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row i beside each of `first[i]` … `last[i] - 1`, one pair after the other."""
    count = np.maximum(last - first, 0)
    row = np.repeat(np.arange(count.size), count)
    within = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    return row, first[row] + within


def distinct(values: Int64Array) -> Int64Array:
    """What `np.unique` gives; several times faster on times that are nearly sorted, where it would hash them."""
    values = np.sort(values, kind="stable")
    distinct: Int64Array = values[np.append(values[1:] != values[:-1], np.ones(min(values.size, 1), np.bool_))]
    return distinct
