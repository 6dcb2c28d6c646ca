"""Sets of time: half-open `[start, end)` intervals in int64 nanoseconds, as arrays.

Everything here is O(n log n) and vectorised. A set of intervals answers "how much of it lies in each of these
windows" by prefix sums, so that what many windows share never has to be copied into each of them.

Long arrays are worked through in pieces of `CHUNK`, which lie in the cache: beside its arguments and its result no
operation needs memory that grows with them (but for a sort, where raw intervals come out of order). All of it is
arithmetic of integers, so that the result does not depend on the pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.signedinteger[Any]]
"""Rows, which need no 64 bits."""
BoolArray = NDArray[np.bool_]
CHUNK = 1 << 16
"""Events that are worked on at a time."""
_Keys = TypeVar("_Keys", Int64Array, IntArray)


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
        start, end = _in_order(start, end)
        starts, ends = Growing(start.size, np.int64), Growing(start.size, np.int64)
        for piece, before in reaches(end):
            # A new member begins where everything before it has already ended; touching intervals are one member.
            first = np.flatnonzero(start[piece] > before)
            starts.append(start[piece][first])
            ends.append(before[first[int(piece.start == 0) :]])
        ends.append(end.max(keepdims=True))
        return cls(starts.values, ends.values)

    @classmethod
    def any_of(cls, sets: Iterable[Intervals]) -> Intervals:
        """The time that at least one of several sets covers; none, where there is no set."""
        none = cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        sets = [none, *sets]
        return cls.union(np.concatenate([line.start for line in sets]), np.concatenate([line.end for line in sets]))

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
        if len(self) > len(other):
            return other.intersection(self)
        first = np.searchsorted(other.end, self.start, side="right")
        last = np.searchsorted(other.start, self.end, side="left")
        starts, ends = [self.start[:0]], [self.end[:0]]
        for mine, theirs in _pairs(first, last):
            starts.append(np.maximum(self.start[mine], other.start[theirs]))
            ends.append(np.minimum(self.end[mine], other.end[theirs]))
        return Intervals(np.concatenate(starts), np.concatenate(ends))

    def subtract(self, other: Intervals) -> Intervals:
        """What is in this set and not in the other."""
        if len(self) == 0 or len(other) == 0:
            return self
        begin, end = int(self.start[0]), int(self.end[-1])
        before, after = self.clip(begin, int(other.start[0])), self.clip(int(other.end[-1]), end)
        parts = (before, self.intersection(other.gaps()), after)
        return Intervals(np.concatenate([part.start for part in parts]), np.concatenate([part.end for part in parts]))

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
        before = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.end - self.start, out=before[1:])
        covered = np.empty(lo.shape, np.int64)
        for piece in pieces(lo.size):
            covered[piece] = self._covered_until(hi[piece], before) - self._covered_until(lo[piece], before)
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
        inside = np.empty(time.shape, np.bool_)
        for piece in pieces(time.size):
            begun = np.searchsorted(self.start, time[piece], side="right")
            inside[piece] = (begun > 0) & (time[piece] < self.end[begun - 1])
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


class Growing:
    """An array of up to `most` values that comes piece by piece; what is not written takes no memory."""

    def __init__(self, most: int, dtype: DTypeLike) -> None:
        self._room, self._count = np.empty(most, dtype), 0

    def append(self, values: NDArray[Any]) -> None:
        """Add these at the end."""
        self._room[self._count : self._count + values.size] = values
        self._count += values.size

    @property
    def values(self) -> NDArray[Any]:
        """All of them; of their own, where they are few for the room that was made."""
        values = self._room[: self._count]
        return values.copy() if 2 * self._count < self._room.size else values


def pieces(count: int) -> Iterator[slice]:
    """Slices of `CHUNK` rows, one behind the other, that `count` rows consist of."""
    for begin in range(0, count, CHUNK):
        yield slice(begin, min(begin + CHUNK, count))


def windows(lane: IntArray) -> Iterator[slice]:
    """The same of rows whose lanes ascend, so that no lane is cut: a piece is some `CHUNK` rows, or a longer lane."""
    begin = 0
    while begin < lane.size:
        end = begin + CHUNK
        if end < lane.size:
            end = int(np.searchsorted(lane, lane[end]))
            if end <= begin:
                end = int(np.searchsorted(lane, lane[begin], side="right"))
        yield slice(begin, min(end, lane.size))
        begin = end


def reaches(end: Int64Array, rows: IntArray | None = None) -> Iterator[tuple[slice, Int64Array]]:
    """Piece by piece of intervals in order of start, how far those before each one reach; nowhere, the least int64.

    With `rows`, of these intervals alone; the pieces are of `rows` then.
    """
    so_far = np.full(1, np.iinfo(np.int64).min)
    for piece in pieces(end.size if rows is None else rows.size):
        reach = np.maximum.accumulate(np.append(so_far, end[piece if rows is None else rows[piece]]))
        so_far = reach[-1:]
        yield piece, reach[:-1]


def covered(start: ArrayLike, end: ArrayLike) -> int:
    """How many nanoseconds at least one of the raw intervals covers: the total of their union."""
    start, end = _in_order(*_raw(start, end))
    total = 0
    for piece, before in reaches(end):
        total += int(np.maximum(end[piece] - np.maximum(start[piece], before), 0).sum())
    return total


def at_a_time(start: ArrayLike, end: ArrayLike) -> float:
    """How many of the raw intervals are under way at a time, on average while any is; 1 where none has a length."""
    start, end = _raw(start, end)
    whole = covered(start, end)
    return float(np.maximum(end - start, 0).sum() / whole) if whole else 1.0


def shared(start: ArrayLike, end: ArrayLike) -> Intervals:
    """The time in which two or more of the raw intervals are open at once.

    That is what each has in common with those that started before it, of which the one that reaches furthest is enough.
    """
    start, end = _in_order(*_raw(start, end))
    none = start[:0]
    both = [(none, none)]
    for piece, before in reaches(end):
        meets = np.flatnonzero(start[piece] < before)
        both.append((start[piece][meets], np.minimum(end[piece], before)[meets]))
    return Intervals.union(*(np.concatenate(column) for column in zip(*both, strict=True)))


def _in_order(start: Int64Array, end: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Intervals in order of start."""
    if not np.any(start[1:] < start[:-1]):
        return start, end
    order = np.argsort(start, kind="stable")
    return start[order], end[order]


def _raw(start: ArrayLike, end: ArrayLike) -> tuple[Int64Array, Int64Array]:
    """Raw intervals as int64 arrays, without those that have no length."""
    lo, hi = np.asarray(start, np.int64), np.asarray(end, np.int64)
    keep = hi > lo
    return (lo, hi) if keep.all() else (lo[keep], hi[keep])


def _pairs(first: NDArray[np.intp], last: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Row i beside each of `first[i]` … `last[i] - 1`, one pair after the other, piece by piece."""
    until = np.cumsum(np.maximum(last - first, 0))
    for piece in pieces(int(until[-1]) if until.size else 0):
        pair = np.arange(piece.start, piece.stop)
        row = np.searchsorted(until, pair, side="right")
        yield row, last[row] - until[row] + pair


def distinct(values: _Keys) -> _Keys:
    """What `np.unique` gives; several times faster on times that are nearly sorted, where it would hash them."""
    values = np.sort(values, kind="stable")
    distinct: _Keys = values[np.append(values[1:] != values[:-1], np.ones(min(values.size, 1), np.bool_))]
    return distinct


def only_distinct(keys: _Keys) -> _Keys:
    """The distinct keys in order; fast where there is one."""
    return keys[:1] if keys.size and (keys == keys[0]).all() else distinct(keys)
