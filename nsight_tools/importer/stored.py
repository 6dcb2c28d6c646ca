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
    from pathlib import Path

    import numpy.typing as npt

    Rows = npt.NDArray[Any]
    """Integers of any width."""


BATCH_ROWS = 1 << 16
"""Rows that are held a second time while a column is read."""


def _file(dataset: Path, table: str, as_words: list[str] | None = None) -> pq.ParquetFile | None:
    path = dataset / f"{table}.parquet"
    return pq.ParquetFile(path, read_dictionary=as_words) if path.exists() else None


def row_count(dataset: Path, table: str) -> int:
    """How many rows a table has; 0 where it is not there."""
    file = _file(dataset, table)
    return file.metadata.num_rows if file else 0


def column(dataset: Path, table: str, name: str, null: int = -1) -> npt.NDArray[Any]:
    """One column of integers in its own width, nulls as `null`; nothing else of the table is held."""
    file = _file(dataset, table)
    if file is None:
        return np.zeros(0, TABLES[table].schema.field(name).type.to_pandas_dtype())
    if _without_values(file, name):
        return np.full(file.metadata.num_rows, null, file.schema_arrow.field(name).type.to_pandas_dtype())
    values = np.empty(file.metadata.num_rows, file.schema_arrow.field(name).type.to_pandas_dtype())
    at = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
        part = batch.column(0)
        values[at : at + len(part)] = pc.fill_null(part, null) if part.null_count else part
        at += len(part)
    return values


def _without_values(file: pq.ParquetFile, name: str) -> bool:
    """Whether a column is known to be all null: most graph node ids are, say."""
    at = file.schema_arrow.get_field_index(name)
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    return all((told := group.column(at).statistics) and told.null_count == group.num_rows for group in groups)


def thread_columns(dataset: Path, table: str) -> tuple[Rows, Rows, Rows, Rows]:
    """Start, end (NEVER for null), pid and tid of events on threads."""
    start, pid, tid = (column(dataset, table, name) for name in ("start_ns", "pid", "tid"))
    return start, column(dataset, table, "end_ns", NEVER), pid, tid


def stored_words(dataset: Path, table: str, name: str) -> Words:
    """One column of words, its codes as narrow as the dictionary allows."""
    file = _file(dataset, table, [name])
    if file is None:
        return Words(np.zeros(0, np.int8), [])
    found = words(file.read([name]).column(0))
    return Words(found.codes.astype(np.min_scalar_type(-len(found.dictionary) - 1)), found.dictionary)
