"""Arrow columns as NumPy arrays, which `timeline` and the analyses work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.timeline.attribution import Words, joint_key, split_key
from nsight_tools.timeline.intervals import distinct, only_distinct, pieces

if TYPE_CHECKING:
    from nsight_tools.timeline.intervals import IntArray

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def ints(column: pa.ChunkedArray, null: int = -1) -> Ints:
    """A column of integers as int64, nulls as `null`; shape (rows,)."""
    if column.type != pa.int64():
        column = column.cast(pa.int64())
    values: Ints = (pc.fill_null(column, null) if column.null_count else column).to_numpy()
    return values


def words(column: pa.ChunkedArray) -> Words:
    """A dictionary-encoded column as codes and the words that they stand for; nulls have the code -1."""
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return Words(np.zeros(0, np.int32), [])
    dictionary = column.chunk(0).dictionary.to_pylist()
    kind = code_type(len(dictionary))
    codes = [pc.fill_null(chunk.indices, -1).to_numpy().astype(kind) for chunk in column.chunks]
    return Words(np.concatenate(codes), dictionary)


def code_type(words: int) -> npt.DTypeLike:
    """The shortest integer that holds a code of each of so many words, and -1."""
    return np.min_scalar_type(-words - 1)


def pairs_in(high: IntArray, low: IntArray) -> list[tuple[int, int]]:
    """The pairs of values that occur in two columns, in order."""
    keys = [only_distinct(joint_key(high[rows], low[rows])) for rows in pieces(len(high))]
    return [split_key(key) for key in distinct(np.concatenate(keys)).tolist()] if keys else []


def where_both(one: IntArray, value: int, other: IntArray, its_value: int) -> IntArray | slice:
    """Rows at which two columns have these values; a slice, which copies nothing, where all have."""
    both = (one == value) & (other == its_value)
    return slice(None) if both.all() else np.flatnonzero(both)
