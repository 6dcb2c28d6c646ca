"""Single columns of the tables that stand in a dataset already, each in as little memory as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools.columns import words
from nsight_tools.tables import TABLES
from nsight_tools.timeline.attribution import NEVER, Words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Rows = npt.NDArray[Any]
    """Integers of any width."""


BATCH_ROWS = 1 << 16
"""Rows that are held a second time while a column is read."""


class StoredTables:
    """The tables that stand in a dataset, none of which changes while this is used: each file is opened once."""

    def __init__(self, dataset: Path) -> None:
        self.dataset = dataset
        self._files: dict[str, pq.ParquetFile | None] = {}

    def rows(self, table: str) -> int:
        """How many rows a table has; 0 where it is not there."""
        file = self._file(table)
        return file.metadata.num_rows if file else 0

    def column(self, table: str, name: str, null: int = -1) -> npt.NDArray[Any]:
        """One column of integers in its own width, nulls as `null`; nothing else of the table is held.

        Where all values are the same, as the process and the GPU mostly are, it is one value that stands for all rows.
        """
        file = self._file(table)
        at = TABLES[table].schema.get_field_index(name)
        kind = np.dtype(TABLES[table].schema.field(at).type.to_pandas_dtype())
        if file is None:
            return np.zeros(0, kind)
        rows = file.metadata.num_rows
        if (only := _only_value(file, at, null)) is not None:
            return np.broadcast_to(kind.type(only), rows)
        values, filled = np.empty(rows, kind), 0
        for batch in file.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
            chunk = batch.column(0)
            values[filled : filled + len(chunk)] = pc.fill_null(chunk, null) if chunk.null_count else chunk
            filled += len(chunk)
        return values

    def on_threads(self, table: str) -> tuple[Rows, Rows, Rows, Rows]:
        """Start, end (NEVER for null), pid and tid of events on threads."""
        start, pid, tid = (self.column(table, name) for name in ("start_ns", "pid", "tid"))
        return start, self.column(table, "end_ns", NEVER), pid, tid

    def words(self, table: str, name: str) -> Words:
        """One column of words, its codes as narrow as the dictionary allows."""
        file = self._file(table)
        if file is None:
            return Words(np.zeros(0, np.int8), [])
        found = words(file.read([name]).column(0))
        return Words(found.codes.astype(np.min_scalar_type(-len(found.dictionary) - 1)), found.dictionary)

    def _file(self, table: str) -> pq.ParquetFile | None:
        if table not in self._files:
            path = self.dataset / f"{table}.parquet"
            self._files[table] = pq.ParquetFile(path) if path.exists() else None
        return self._files[table]


def _only_value(file: pq.ParquetFile, at: int, null: int) -> int | None:
    """The value that all rows have in a column, by its number, where the row groups' statistics say so."""
    distinct: set[int] = set()
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        told = group.column(at).statistics
        if told is None or not told.has_null_count:
            return None
        if told.null_count:
            distinct.add(null)
        if told.null_count < group.num_rows:
            if not told.has_min_max:
                return None
            distinct |= {told.min, told.max}
        if len(distinct) > 1:
            return None
    return distinct.pop() if distinct else None


def joined(parts: Sequence[Rows], order: Rows | None) -> Rows:
    """Columns one behind the other, in this order (None: as they stand); one value stands for all where it may."""
    filled = [part for part in parts if part.size]
    if not filled:
        return parts[0]
    if all(part.strides == (0,) and part[0] == filled[0][0] for part in filled):
        return np.broadcast_to(filled[0][0], sum(part.size for part in filled))
    values: Rows = filled[0] if len(filled) == 1 else np.concatenate(filled)
    return values if order is None else values[order]
