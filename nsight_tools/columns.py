"""Arrow columns as NumPy arrays, which `timeline` and the analyses work on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.timeline.attribution import Words

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
    codes = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in column.chunks]
    return Words(np.concatenate(codes), column.chunk(0).dictionary.to_pylist())
