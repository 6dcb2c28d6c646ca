"""Reading the tables of an SQLite file from its pages, many rows at a time, as arrays.

SQLite hands out one value of one row after the other; here the records of some hundred pages are taken apart column by
column, which is three times as fast, and lets threads work beside each other. This knows the plain case alone:
a file at rest, in UTF-8, its tables ordinary ones whose records lie within their pages, are whole, and hold what is
asked for. Whatever else it meets raises UnusualError, and is left to SQLite, with its checks and its errors.

The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]

_ROLLBACK_JOURNAL, _UTF8 = b"\x01\x01", 1
_LEAF, _INTERIOR = 13, 5
_MOST_VARINT = 4
"""Bytes of a length or a type here, at most: more than that are no sizes within a page."""

_NULL, _REAL, _ZERO, _ONE, _BLOB = 0, 7, 8, 9, 12
_WIDTH = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0], np.int64)
"""Bytes of a value by its type; blobs and texts, from 12 on, say their length by it."""
_UNUSED_BITS = np.array([64, 56, 48, 40, 32, 16, 0, 0, 0, 0, 0, 0], np.int64)
"""What has to be shifted out of eight bytes that begin with an integer of a type."""
_IN_BYTES = np.array([0, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0], np.int64)
_IN_TYPE = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], np.int64)
"""Zero and one stand in the type alone: what is to be kept of the bytes, and what is to be added."""


class UnusualError(Exception):
    """Something that only SQLite itself should read."""


@dataclass(frozen=True)
class Leaves:
    """Some leaf pages of a table, one after the other, and the rowids that they hold: from `first` up to `end`."""

    pages: Numbers
    first: int
    end: int


class PageFile:
    """An SQLite file that nobody writes to."""

    def __init__(self, path: Path) -> None:
        """Raises UnusualError where it is of a kind, or in a state, that is left to SQLite."""
        if any(path.with_name(path.name + ending).exists() for ending in ("-journal", "-wal")):
            raise UnusualError("there is a journal")
        with path.open("rb") as file:
            head = file.read(100)
            self._bytes = os.fstat(file.fileno()).st_size
        if head[18:20] != _ROLLBACK_JOURNAL or int.from_bytes(head[56:60], "big") != _UTF8:
            raise UnusualError("it has a write-ahead log, or is not in UTF-8")
        size = int.from_bytes(head[16:18], "big")
        self._page_size = 1 << 16 if size == 1 else size
        if self._page_size < 512 or self._bytes % self._page_size:
            raise UnusualError("it does not consist of pages")
        self._usable = self._page_size - head[20]
        self._path = path

    def leaves(self, root: int, rows_each: int) -> list[Leaves]:
        """The leaf pages of the table whose tree begins at page `root`, in portions of about so many rows."""
        pages = self._leaf_pages(root)
        firsts, counts = zip(*(self._first_rowid(page) for page in (pages[0], pages[-1])), strict=True)
        end = firsts[1] + counts[1]
        step = max(1, rows_each * len(pages) // max(end - firsts[0], 1))
        portions = [pages[at : at + step] for at in range(0, len(pages), step)]
        starts = [self._first_rowid(portion[0])[0] for portion in portions]
        bounds = [*starts, np.iinfo(np.int64).max]
        if any(later <= earlier for earlier, later in pairwise(bounds)):
            raise UnusualError("rows are out of order")
        return [Leaves(*of) for of in zip(portions, bounds, bounds[1:], strict=False)]

    def read(self, leaves: Leaves, numbers: Collection[int], texts: Collection[int]) -> Mapping[int, pa.Array]:
        """The columns with these positions in the table, as int64 and binary; a row is null where its value is."""
        rows = _Rows(self._load(leaves.pages), len(leaves.pages), self._page_size, self._usable)
        return rows.columns(frozenset(numbers), frozenset(texts))

    def _leaf_pages(self, root: int) -> Numbers:
        level, seen = np.array([root]), 1
        while (kind := self._load(level[:1])[0]) == _INTERIOR:
            pages = self._load(level)[: len(level) * self._page_size].reshape(-1, self._page_size)
            if (pages[:, 0] != _INTERIOR).any():
                raise UnusualError("the tree is uneven")
            level = np.concatenate([_children(page, self._usable) for page in pages])
            seen += len(level)
            if seen > self._bytes // self._page_size:
                raise UnusualError("the tree has more pages than the file")
        if kind != _LEAF:
            raise UnusualError("the table is no tree of rows")
        if np.unique(level).size < level.size:
            raise UnusualError("the tree leads to a page twice")
        return level

    def _first_rowid(self, page: int) -> tuple[int, int]:
        """Rowid of the first row of a leaf page, and how many rows it has."""
        data = self._load(np.array([page]))[: self._page_size].tobytes()
        count, at = int.from_bytes(data[3:5], "big"), int.from_bytes(data[8:10], "big")
        if data[0] != _LEAF or not count:
            raise UnusualError("a page has no rows")
        length = next((place for place in range(at, at + 9) if data[place : place + 1] < b"\x80"), at)
        rowid = 0
        for byte in data[length + 1 : length + 9]:  # of the nine bytes of a negative one the last is not seen
            rowid = rowid << 7 | byte & 0x7F
            if byte < 0x80:
                return rowid, count
        raise UnusualError("a rowid is damaged, or negative")

    def _load(self, pages: Numbers) -> Bytes:
        """Pages one behind the other, and eight bytes more, so that eight can be read wherever a value begins."""
        size = self._page_size
        if not pages.size or pages.min() < 2 or pages.max() > self._bytes // size:
            raise UnusualError("a page is not in the file")
        loaded = np.zeros(len(pages) * size + 8, np.uint8)
        view, at = memoryview(loaded), 0  # type: ignore[arg-type]
        with self._path.open("rb", buffering=0) as file:
            for run in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1):
                length = len(run) * size
                if os.preadv(file.fileno(), [view[at : at + length]], (int(run[0]) - 1) * size) != length:
                    raise UnusualError("a page is cut off")
                at += length
        return loaded


def _children(page: Bytes, usable: int) -> Numbers:
    """Numbers of the pages below an interior page, in order."""
    count = int(page[3]) << 8 | int(page[4])
    at = page[12 : 12 + 2 * count].reshape(-1, 2).astype(np.int64) @ (256, 1)
    if len(at) != count or at.max(initial=0) + 4 > usable:
        raise UnusualError("a page is damaged")
    at = np.append(at, 8)  # the last child stands in the page's header
    return np.column_stack([page[at + place] for place in range(4)]).astype(np.int64) @ (1 << 24, 1 << 16, 1 << 8, 1)


class _Rows:
    """The records of some leaf pages, which lie one behind the other in `data`; positions are indices of it."""

    def __init__(self, data: Bytes, pages: int, page_size: int, usable: int) -> None:
        self._data = data
        self._eight = np.ndarray((len(data) - 7,), ">i8", data, 0, (1,))
        """The eight bytes from each position on, as one number."""
        self._find(data[: pages * page_size].reshape(pages, page_size), page_size, usable)

    def _find(self, pages: Bytes, page_size: int, usable: int) -> None:
        """Set where each record's types begin, its values begin, and it ends."""
        count = pages[:, 3].astype(np.int32) << 8 | pages[:, 4]
        if (pages[:, 0] != _LEAF).any() or (8 + 2 * count > usable).any():
            raise UnusualError("a page is damaged")
        page = np.repeat(np.arange(len(pages)) * page_size, count)
        slot = page + 8 + 2 * (np.arange(len(page)) - np.repeat(np.cumsum(count) - count, count))
        at: Positions = page + (self._bytes(slot).astype(np.int64) << 8 | self._bytes(slot + 1))
        length = self._varint(at)
        if (length > usable - 35).any():
            raise UnusualError("a record continues on other pages")
        self._skip_varint(at)
        self._end = at + length
        if (self._end > page + usable).any():
            raise UnusualError("a record lies outside of its page")
        begin = at.copy()
        self._value = begin + self._varint(at)
        self._type = at

    def columns(self, numbers: frozenset[int], texts: frozenset[int]) -> Mapping[int, pa.Array]:
        arrays: dict[int, pa.Array] = {}
        at, value = self._type.copy(), self._value.copy()
        for column in range(max(numbers | texts, default=-1) + 1):
            kind = self._varint(at)
            low, high = (int(kind.min()), int(kind.max())) if len(kind) else (_NULL, _NULL)
            width = _width(kind, low, high)
            if column in numbers:
                arrays[column] = self._numbers(kind, low, high, value)
            elif column in texts:
                arrays[column] = self._texts(kind, low, value, width)
            value += width
        if (at > self._value).any() or (value > self._end).any():
            raise UnusualError("a record is shorter than its table's columns")
        return arrays

    def _bytes(self, at: Positions) -> Bytes:
        """The bytes at these positions; some other where a position is none, which is found out in the end."""
        return self._data.take(at, mode="clip")

    def _numbers(self, kind: Any, low: int, high: int, at: Positions) -> pa.Array:
        if high == _NULL:
            return pa.nulls(len(at), pa.int64())
        if high > _ONE or (high >= _REAL and (kind == _REAL).any()):
            raise UnusualError("a value is no integer")
        if low >= _ZERO:
            return pa.array(_IN_TYPE.take(kind))
        if low == high == 1:
            return pa.array(self._bytes(at).view(np.int8).astype(np.int64))
        values: Numbers = self._eight[np.minimum(at, len(self._eight) - 1)].astype(np.int64)
        if low == high:
            values >>= _UNUSED_BITS[low]
            return pa.array(values)
        values >>= _UNUSED_BITS.take(kind)
        if high >= _ZERO:
            values &= _IN_BYTES.take(kind)
            values |= _IN_TYPE.take(kind)
        return pa.array(values, mask=kind == _NULL if low == _NULL else None)

    def _texts(self, kind: Any, low: int, at: Positions, width: Any) -> pa.Array:
        """Texts, as the bytes that they consist of; blobs too."""
        null = kind == _NULL
        if null.all():
            return pa.nulls(len(at), pa.binary())
        if ((kind < _BLOB) & ~null).any():
            raise UnusualError("a value is no text")
        width = np.broadcast_to(width, len(at))
        ends = np.cumsum(width)
        if (at + width > self._end).any() or ends[-1] > len(self._data):
            raise UnusualError("a text lies outside of its record, or records lie upon each other")
        letters = np.repeat(at - (ends - width), width) + np.arange(ends[-1])
        parts = (np.append(0, ends).astype(np.int32), self._bytes(letters))
        valid = None if low != _NULL else pa.array(~null).buffers()[1]
        return pa.Array.from_buffers(pa.binary(), len(at), [valid, *map(pa.py_buffer, parts)])

    def _varint(self, at: Positions) -> Any:
        """The numbers that stand at `at`, which moves behind them; bytes, as long as none is longer than one."""
        value = self._bytes(at)
        at += 1
        if not len(value) or value.max() < 0x80:
            return value
        longer = np.flatnonzero(value >= 0x80)
        value = value.astype(np.int64)
        value[longer] &= 0x7F
        for _ in range(_MOST_VARINT - 1):
            byte = self._bytes(at[longer])
            at[longer] += 1
            value[longer] = value[longer] << 7 | byte & 0x7F
            longer = longer[byte >= 0x80]
            if not longer.size:
                return value
        raise UnusualError("a size is larger than a page")

    def _skip_varint(self, at: Positions) -> None:
        longer = np.flatnonzero(self._bytes(at) >= 0x80)
        at += 1
        for _ in range(8):
            if not longer.size:
                return
            byte = self._bytes(at[longer])
            at[longer] += 1
            longer = longer[byte >= 0x80]


def _width(kind: Any, low: int, high: int) -> Any:
    """Bytes of the values of these types: one number where all have the same."""
    if low == high:
        return _WIDTH[low] if low < _BLOB else np.int64((low - _BLOB) >> 1)
    if high < _BLOB:
        return _WIDTH.take(kind)
    return np.where(kind < _BLOB, _WIDTH.take(kind, mode="clip"), (kind.astype(np.int64) - _BLOB) >> 1)
