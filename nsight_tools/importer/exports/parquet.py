"""An export to a folder of Parquet files."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import memory
from nsight_tools.errors import InputError
from nsight_tools.importer.exports.reading import CHUNK_ROWS, INT, STRING, Chunk, Raw, typed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VALUE_BYTES = 8


class ParquetExport:
    """The folder of Parquet files that `nsys export --type=parquetdir` writes: one file a table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = {file.stem: file for file in sorted(path.glob("*.parquet"))}
        if not self._files:
            raise InputError(path, "is a folder without Parquet files", hint="give a report, an export or a dataset")

    @cached_property
    def tables(self) -> Mapping[str, frozenset[str]]:
        columns_of = {}
        for name, file in self._files.items():
            try:
                columns = self._open(name).schema_arrow.names
            except UnicodeDecodeError as error:
                raise InputError(file, "has a column whose name is no text", hint="export the report again") from error
            columns_of[name] = frozenset(columns)
            if len(columns_of[name]) < len(columns):
                raise InputError(file, "has a column twice", hint="export the report again")
        return columns_of

    def rows(self, table: str) -> int:
        return int(self._open(table).metadata.num_rows)

    def chunks(self, table: str, columns: Mapping[str, Raw]) -> list[Chunk]:
        # nsys writes row groups of 2,048 rows: several make a chunk.
        metadata = self._open(table).metadata
        chunks: list[Chunk] = []
        groups: list[int] = []
        rows = 0
        for group in range(metadata.num_row_groups):
            here = metadata.row_group(group).num_rows
            self._bounded(table, here * len(columns) * _VALUE_BYTES)
            if groups and rows + here > CHUNK_ROWS:
                chunks.append(self._chunk(table, columns, groups, metadata))
                groups, rows = [], 0
            groups, rows = [*groups, group], rows + here
        return [*chunks, self._chunk(table, columns, groups, metadata)] if groups else chunks

    def rows_with(self, table: str, columns: Mapping[str, Raw], name: str, value: int) -> pa.Table:
        # That column is read of all rows, the others only of chunks that have some of these.
        chunks = []
        asked = {name: Raw((name,), INT)}
        for chunk, key in zip(self.chunks(table, columns), self.chunks(table, asked), strict=True):
            chosen = pc.equal(key()[name], value)
            if pc.any(chosen).as_py():
                chunks.append(chunk().filter(chosen))
        schema = pa.schema([(name, raw.type) for name, raw in columns.items()])
        return pa.concat_tables([schema.empty_table(), *chunks])

    def _chunk(self, table: str, columns: Mapping[str, Raw], groups: list[int], metadata: pq.FileMetaData) -> Chunk:
        names = sorted({name for raw in columns.values() for name in raw.names if name in self.tables[table]})
        texts = [name for raw in columns.values() if raw.type == STRING for name in raw.names if name in names]

        def load() -> pa.Table:
            try:
                # A text that repeats stands in a file once: how much the texts are is known before they are made.
                file = pq.ParquetFile(self._files[table], metadata=metadata, read_dictionary=texts)
                rows = file.read_row_groups(groups, columns=names, use_threads=False)
                self._bounded(table, sum(_text_bytes(rows.column(name)) for name in texts))
                return pa.table([_coalesced(rows, raw) for raw in columns.values()], names=list(columns))
            except MemoryError:
                raise
            except (pa.ArrowException, OSError, ValueError, KeyError) as error:
                raise InputError(self._files[table], f"is damaged: {error}", hint="export the report again") from error

        return load

    def _bounded(self, table: str, size: int) -> None:
        if (problem := memory.too_much(size)) is not None:
            raise InputError(self._files[table], f"one piece of it {problem}", hint=memory.ALLOW_MORE)

    def _open(self, table: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._files[table])
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                self._files[table], f"is no Parquet file: {error}", hint="export the report again"
            ) from error


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column, also where each stands in its dictionary only once."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(length.cast(pa.int64())).as_py() or 0 for length in lengths)


def _coalesced(rows: pa.Table, raw: Raw) -> pa.ChunkedArray:
    there = [typed(rows.column(name), raw.type) for name in raw.names if name in rows.column_names]
    if not there:
        return pa.chunked_array([pa.nulls(rows.num_rows, raw.type)])
    return there[0] if len(there) == 1 else pc.coalesce(*there)
