"""Writing one table of a dataset: in the schema's order and in bounded memory, whatever order rows come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools.importer.exports.reading import CHUNK_ROWS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from nsight_tools.tables import Table

ROW_GROUP_ROWS = 1 << 18

Ints = npt.NDArray[np.int64]
Finish = Callable[[pa.Table], pa.Table]
"""Completes rows that are in their final order, with what depends on the rows before them."""


class SortedWriter:
    """Writes rows, which arrive almost in order, in order.

    Two chunks are held back, so that rows which are out of place by less than that are put right on the way. Where one
    is further out (an export that lists one process after the other), another sorted run is begun, and the runs are
    merged at the end. Memory: a few chunks, and one for each run.
    """

    def __init__(self, path: Path, table: Table, finish: Callable[[], Finish] = lambda: lambda rows: rows) -> None:
        self.path = path
        self.rows: int = 0
        self._table, self._finish = table, finish
        self._key = table.order[0][0]
        self._held = table.empty()
        self._runs: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._completed: Finish | None = None
        self._encoder = ThreadPoolExecutor(1)
        self._encoding: Future[None] | None = None
        self._written_to = np.iinfo(np.int64).min

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._encoder.shutdown(cancel_futures=True)
            if self._writer is not None:
                self._writer.close()

    def add(self, rows: pa.Table) -> None:
        """Add rows with the table's columns, in any order."""
        if not rows.num_rows:
            return
        rows = pa.Table.from_arrays(rows.select(list(self._table.names)).columns, schema=self._table.schema)
        self.rows += rows.num_rows
        if pc.min(rows[self._key]).as_py() <= self._written_to:
            self._end_run()
        self._held = in_order(pa.concat_tables([self._held, rows]), self._table)
        if (surplus := self._held.num_rows - CHUNK_ROWS) > 0:
            # Cut where the key changes: rows that tie are ordered among themselves, so they stay together.
            key = self._held[self._key].to_numpy()
            cut = int(np.searchsorted(key, key[surplus], side="left"))
            if cut:
                self._written_to = int(key[cut - 1])
                self._write(self._held.slice(0, cut))
                self._held = self._held.slice(cut)

    def close(self) -> int:
        """Finish the file under its name; returns the number of rows. Writes none where there are none."""
        if self._writer is None and not self._held.num_rows:
            return 0
        self._end_run()
        if len(self._runs) == 1:
            self._runs[0].rename(self.path)
        else:
            finish = self._finisher()
            with _open(self.path, self._table) as writer:
                for rows in _merged(self._runs, self._table):
                    writer.write_table(finish(rows), ROW_GROUP_ROWS)
            for run in self._runs:
                run.unlink()
        return self.rows

    def _write(self, rows: pa.Table, *, last: bool = False) -> None:
        if self._writer is None:
            self._runs.append(self.path.with_name(f"{self.path.name}.run{len(self._runs)}"))
            self._writer = _open(self._runs[-1], self._table)
            self._completed = self._finisher()
        assert self._completed is not None
        complete = self._completed(rows)
        self._settle()
        if last:  # nothing is read beside it
            _encode(self._writer, complete)
        else:
            self._encoding = self._encoder.submit(_encode, self._writer, complete)

    def _finisher(self) -> Finish:
        """What completes the rows of one file, from its first."""
        finish, before = self._finish(), 0

        def finished(rows: pa.Table) -> pa.Table:
            nonlocal before
            before += rows.num_rows
            return finish(self._table.numbered(rows, before - rows.num_rows))

        return finished

    def _settle(self) -> None:
        """Wait for what is being encoded beside the reading; an error in it is raised here."""
        if self._encoding is not None:
            self._encoding.result()
        self._encoding = None

    def _end_run(self) -> None:
        if self._held.num_rows:
            self._write(self._held, last=True)
        self._settle()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._held = None, self._table.empty()
        self._written_to = np.iinfo(np.int64).min


def _encode(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    for batch in rows.to_batches():
        writer.write_batch(batch, ROW_GROUP_ROWS)


def cast_to(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with this schema; raises ArrowInvalid where a value does not fit."""
    columns = []
    for column, wanted in zip(rows.columns, schema, strict=True):
        plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        if pa.types.is_dictionary(wanted.type):
            plain = plain.cast(wanted.type.value_type).dictionary_encode()
        if plain.null_count and not wanted.nullable:
            raise pa.ArrowInvalid(f"column {wanted.name} has nulls")
        columns.append(plain.cast(wanted.type))
    return pa.table(columns, schema=schema)


def write_table(path: Path, table: Table, rows: pa.Table) -> int:
    """Write a small table at once, in its order; returns the number of rows. Writes nothing where there are none."""
    rows = pa.Table.from_arrays(rows.select(list(table.names)).columns, schema=table.schema).combine_chunks()
    if rows.num_rows:
        order = np.lexsort([_sort_key(rows[name], way) for name, way in reversed(table.order)])
        with _open(path, table) as writer:
            writer.write_table(table.numbered(rows.take(pa.array(order))), ROW_GROUP_ROWS)
    return int(rows.num_rows)


def in_order(rows: pa.Table, table: Table) -> pa.Table:
    """`rows` in the order of `table`, whatever order they came in: a function of the rows alone."""
    rows = rows.combine_chunks()

    def keys(tied: Ints) -> list[Ints]:
        subset = rows.select([name for name, _ in table.order]).take(pa.array(tied))
        return [_sort_key(subset[name], way) for name, way in table.order[1:]]

    order = ordering(rows[table.order[0][0]].to_numpy(), keys)
    return rows if order is None else rows.take(pa.array(order))


def ordering(first: Ints, others: Callable[[Ints], list[Ints]]) -> Ints | None:
    """The permutation that orders rows by `first`, then by the keys that `others` gives for rows that tie in it.

    None where they are in order. Rows hardly ever tie in their time, so the other keys are made only for those that do.
    """
    step = np.diff(first)
    if np.all(step > 0):
        return None
    order = np.arange(len(first)) if np.all(step >= 0) else np.argsort(first, kind="stable")
    key = first[order]
    tied = np.zeros(len(key), bool)
    tied[1:] = key[1:] == key[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():
        among = order[tied]
        order[tied] = among[np.lexsort([*reversed(others(among)), key[tied]])]
    return None if np.all(order[1:] > order[:-1]) else order


def _sort_key(column: pa.ChunkedArray, way: str) -> Ints:
    """Integers that order as `column` does; nulls first."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        words = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
        rank = np.empty(len(words) + 1, np.int64)
        rank[np.array(words.to_pylist(), dtype=object).argsort() if len(words) else []] = np.arange(len(words))
        rank[-1] = -1
        codes = pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32())
        values: Ints = rank[pc.fill_null(codes, -1).to_numpy()]
    elif pa.types.is_string(column.type):
        values = _sort_key(column.dictionary_encode(), "ascending")
    else:
        values = pc.fill_null(column, np.iinfo(np.int16).min).to_numpy().astype(np.int64)
    return values if way == "ascending" else -values


def _open(path: Path, table: Table) -> pq.ParquetWriter:
    # Words and small integers repeat: a dictionary pays. Times and ids do not, but lie close to those before them.
    growing = [field.name for field in table.schema if field.type == pa.int64()]
    return pq.ParquetWriter(
        path,
        table.schema,
        compression="lz4",
        use_dictionary=[name for name in table.names if name not in growing],
        column_encoding=dict.fromkeys(growing, "DELTA_BINARY_PACKED"),
    )


def _merged(runs: list[Path], table: Table) -> Iterator[pa.Table]:
    """The rows of sorted files, merged: each time what lies before the earliest end of what was read."""
    key = table.order[0][0]
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    batches = [
        pq.ParquetFile(run, read_dictionary=words).iter_batches(CHUNK_ROWS // 2, use_threads=False) for run in runs
    ]
    held = [table.empty() for _ in runs]
    open_runs = set(range(len(runs)))
    while open_runs or any(rows.num_rows for rows in held):
        for i in sorted(open_runs):
            held[i], more = _read_on(held[i], batches[i], key)
            if not more:
                open_runs.discard(i)
        until = min((_last(held[i], key) for i in open_runs), default=None)
        ready = []
        for i, rows in enumerate(held):
            cut = rows.num_rows if until is None else int(np.searchsorted(rows[key].to_numpy(), until, side="left"))
            ready.append(rows.slice(0, cut))
            held[i] = rows.slice(cut)
        merged = in_order(pa.concat_tables(ready), table)
        if merged.num_rows:
            yield merged


def _read_on(rows: pa.Table, batches: Iterator[pa.RecordBatch], key: str) -> tuple[pa.Table, bool]:
    """The rows and those that follow, until there is more than one time in them; and whether there was enough.

    So the earliest end is never all there is.
    """
    while not rows.num_rows or _first(rows, key) == _last(rows, key):
        batch = next(batches, None)
        if batch is None:
            return rows, False
        rows = pa.concat_tables([rows, pa.Table.from_batches([batch]).cast(rows.schema)])
    return rows, True


def _first(rows: pa.Table, key: str) -> int:
    return int(rows[key][0].as_py())


def _last(rows: pa.Table, key: str) -> int:
    return int(rows[key][-1].as_py())
