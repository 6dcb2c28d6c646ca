"""Reading an export column-wise: an SQLite file, or the folder of Parquet files that `--type=parquetdir` writes.

An export is read in chunks of rows, each an independent piece of work that any thread may do. Column types come
from the caller, never from the data.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import memory
from nsight_tools.errors import InputError
from nsight_tools.importer import connections, dialects
from nsight_tools.importer.pages import Leaves, PageFile, UnusualError

if TYPE_CHECKING:
    from pathlib import Path

    from adbc_driver_manager import AdbcStatement

    from nsight_tools.importer.dialects import Listing

CHUNK_ROWS = 1 << 15
INT, FLOAT, STRING = pa.int64(), pa.float64(), pa.string()

SQLITE_MAGIC = b"SQLite format 3\0"
LFS_MAGIC = b"version https://git-lfs"
EXPORT_AGAIN = "export the report again with 'nsys export --type=sqlite'"


@dataclass(frozen=True)
class Raw:
    """A column to read: the first non-null of `names` in each row, as `type`."""

    names: tuple[str, ...]
    type: pa.DataType


Chunk = Callable[[], pa.Table]
"""Reads some rows of one table, when called."""


class Export(Protocol):
    """An export that can be read."""

    path: Path

    @property
    def tables(self) -> Mapping[str, frozenset[str]]:
        """The export's tables, each with its columns."""

    def rows(self, table: str) -> int:
        """How many rows `table` has at most."""

    def chunks(self, table: str, columns: Mapping[str, Raw]) -> list[Chunk]:
        """The whole of `table` in pieces of at most CHUNK_ROWS rows, in the order in which they stand there.

        Each piece has the columns' keys as names and their types; a column of which no name exists is null.
        """

    def rows_with(self, table: str, columns: Mapping[str, Raw], name: str, value: int) -> pa.Table:
        """The rows of `table` whose column `name` has this value, which are to be few; as `chunks` gives them."""


def raw(listing: Listing) -> dict[str, Raw]:
    """The columns of a listing, as they are to be read."""
    kinds = ((listing.integers, INT), (listing.reals, FLOAT), (listing.texts, STRING))
    return {name: Raw(names, kind) for columns, kind in kinds for name, names in columns.items()}


def read(export: Export, listing: Listing) -> pa.Table:
    """The whole of a short table at once; no rows where the export lacks it."""
    columns = raw(listing)
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    if listing.table not in export.tables:
        return schema.empty_table()
    chunks = export.chunks(listing.table, columns)
    return pa.concat_tables([schema.empty_table(), *(chunk() for chunk in chunks)])


def open_export(path: Path) -> Export:
    """Open `path`, an SQLite export or a parquetdir folder.

    Raises InputError where it is neither, or holds nothing of Nsight Systems.
    """
    export: Export = ParquetExport(path) if path.is_dir() else SqliteExport(path)
    if not dialects.of_nsight_systems(export.tables):
        raise InputError(path, "holds no table of Nsight Systems", hint="give an export made by 'nsys export'")
    return export


SPARSE = 64
"""Row numbers for each byte of the file, at most. Rows take more than a byte; tables that were trimmed have gaps."""


@dataclass(frozen=True)
class _Stored:
    """Where a table of an SQLite file stands: the root of its tree, and the place of each column in its records."""

    root: int
    place: Mapping[str, int]


LEAST_ROW_BYTES = 8
"""What a row takes of a file at least: its place, its length, its number, its header, and its values."""


class SqliteExport:
    """An SQLite export, opened read-only and read in ranges of rowid: from its pages, or else through ADBC."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_sqlite_file(path)

    @cached_property
    def tables(self) -> Mapping[str, frozenset[str]]:
        with self._errors():
            return connections.tables(self.path)

    def rows(self, table: str) -> int:
        first, last = self._ends(table)
        return min(last - first + 1, self.path.stat().st_size // LEAST_ROW_BYTES)

    def _ends(self, table: str) -> tuple[int, int]:
        """The first and the last row number; the first is one more where there are no rows."""
        with self._errors(), closing(connections.opened(self.path)) as connection:
            # One sub-query each: SQLite looks up a single minimum or maximum, and scans the table for both at once.
            ends = f'SELECT (SELECT min(rowid) FROM "{table}"), (SELECT max(rowid) FROM "{table}")'
            first, last = connection.execute(ends).fetchone()
        return (1, 0) if first is None else (first, last)

    def chunks(self, table: str, columns: Mapping[str, Raw]) -> list[Chunk]:
        first, last = self._ends(table)
        if last < first:
            return []
        if last - first > SPARSE * self.path.stat().st_size:
            raise InputError(self.path, f"is damaged in table {table}: it numbers rows to {last}", hint=EXPORT_AGAIN)
        if (portions := self._portions(table, columns)) is not None:
            return [self._paged_chunk(table, columns, leaves) for leaves in portions]
        starts = range(first, last + 1, CHUNK_ROWS)
        return [self._chunk(table, columns, start, start + CHUNK_ROWS - 1) for start in starts]

    @cached_property
    def _page_file(self) -> PageFile | None:
        try:
            return PageFile(self.path)
        except (UnusualError, OSError):
            return None

    @cached_property
    def _stored(self) -> Mapping[str, _Stored]:
        """The tables that can be read from their pages."""
        with self._errors(), closing(connections.opened(self.path)) as connection:
            roots = connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
            query = "SELECT name, cid, pk, hidden FROM pragma_table_xinfo(?)"
            columns = {name: connection.execute(query, (name,)).fetchall() for name, _ in roots}
        return {
            # A primary key may be the rowid, which is not in the record; a generated column is not there, either.
            name: _Stored(root, {column: place for column, place, key, _ in columns[name] if not key})
            for name, root in roots
            if not any(hidden for *_, hidden in columns[name])
        }

    def _portions(self, table: str, columns: Mapping[str, Raw]) -> list[Leaves] | None:
        """The pages of a table's chunks; None where SQLite has to read it."""
        stored = self._stored.get(table)
        kinds: dict[str, set[pa.DataType]] = {}
        for raw in columns.values():
            for name in self.tables[table].intersection(raw.names):
                kinds.setdefault(name, set()).add(raw.type)
        if self._page_file is None or stored is None or not kinds or not kinds.keys() <= stored.place.keys():
            return None
        if any(len(each) > 1 or FLOAT in each for each in kinds.values()):
            return None
        try:
            return self._page_file.leaves(stored.root, CHUNK_ROWS)
        except (UnusualError, OSError):
            return None

    def _paged_chunk(self, table: str, columns: Mapping[str, Raw], leaves: Leaves) -> Chunk:
        by_sqlite = self._chunk(table, columns, leaves.first, leaves.end - 1)

        def load() -> pa.Table:
            try:
                return self._from_pages(self._stored[table].place, columns, leaves)
            except (UnusualError, OSError):
                return by_sqlite()

        return load

    def _from_pages(self, place: Mapping[str, int], columns: Mapping[str, Raw], leaves: Leaves) -> pa.Table:
        assert self._page_file is not None
        wanted = {
            kind: {place[name] for raw in columns.values() if raw.type == kind for name in raw.names if name in place}
            for kind in (INT, STRING)
        }
        read = self._page_file.read(leaves, wanted[INT], wanted[STRING])
        rows = len(next(iter(read.values()), ()))
        typed = []
        for raw in columns.values():
            there = [read[place[name]] for name in raw.names if name in place]
            value = pc.coalesce(*there) if there else pa.nulls(rows, raw.type)
            typed.append(_typed(pa.chunked_array([value]), raw.type))
        return pa.table(typed, names=list(columns))

    def _chunk(self, table: str, columns: Mapping[str, Raw], first: int, last: int) -> Chunk:
        query = self._query(table, columns, f"rowid BETWEEN {first} AND {last}", last - first + 1)
        return lambda: self._execute(table, query, columns)

    def rows_with(self, table: str, columns: Mapping[str, Raw], name: str, value: int) -> pa.Table:
        query = self._query(table, columns, f'"{name}" = {value}', self.rows(table))
        return self._execute(table, query, columns)

    def _query(self, table: str, columns: Mapping[str, Raw], where: str, numbers: int) -> str:
        # ADBC takes a column's type from its first row: a row of our own types goes first, and is sliced off.
        sample = ", ".join({INT: "0", FLOAT: "0.0", STRING: "x''"}[raw.type] for raw in columns.values())
        wanted = ", ".join(self._expression(table, raw) for raw in columns.values())
        # A damaged tree can lead to a page twice: no more rows come of it than there are numbers, or room in the file.
        most = min(numbers, self.path.stat().st_size // LEAST_ROW_BYTES)
        return f'SELECT {sample} UNION ALL SELECT {wanted} FROM "{table}" WHERE {where} LIMIT {most + 1}'

    def _expression(self, table: str, raw: Raw) -> str:
        there = [f'"{name}"' for name in raw.names if name in self.tables[table]]
        value = "NULL" if not there else there[0] if len(there) == 1 else f"coalesce({', '.join(there)})"
        # Text is read as bytes: it need not be UTF-8.
        return f"CAST({value} AS BLOB)" if raw.type == STRING else value

    def _execute(self, table: str, query: str, columns: Mapping[str, Raw]) -> pa.Table:
        with self._errors(table), connections.cursor_for_arrow(self.path) as cursor:
            statement: AdbcStatement = cursor.adbc_statement
            statement.set_options(**{"adbc.sqlite.query.batch_rows": str(CHUNK_ROWS + 1)})
            cursor.execute(query)
            result = cursor.fetch_arrow_table().slice(1)
            typed = [_typed(result.column(i), raw.type) for i, raw in enumerate(columns.values())]
        return pa.table(typed, names=list(columns))

    @contextmanager
    def _errors(self, table: str = "") -> Iterator[None]:
        from adbc_driver_manager import Error as AdbcError

        where = f" in table {table}" if table else ""
        try:
            yield
        except pa.ArrowInvalid as error:
            problem = f"holds a value{where} that Nsight Systems does not write: {error}"
            raise InputError(self.path, problem, hint=EXPORT_AGAIN) from error
        except (sqlite3.DatabaseError, AdbcError) as error:
            text = str(error)
            if re.search("not a database|malformed|disk I/O", text):
                raise InputError(self.path, f"is damaged or truncated{where}", hint=EXPORT_AGAIN) from error
            raise InputError(self.path, f"cannot be read{where}: {text.splitlines()[0]}", hint=EXPORT_AGAIN) from error
        except UnicodeDecodeError as error:  # sqlite3 cannot say what SQLite says of a name that is not UTF-8
            raise InputError(self.path, f"is damaged or truncated{where}", hint=EXPORT_AGAIN) from error


class ParquetExport:
    """The folder of Parquet files that `nsys export --type=parquetdir` writes: one file a table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = {file.stem: file for file in sorted(path.glob("*.parquet"))}
        if not self._files:
            raise InputError(path, "is a folder without Parquet files", hint="give a report, an export or a dataset")

    @cached_property
    def tables(self) -> Mapping[str, frozenset[str]]:
        found = {}
        for name, file in self._files.items():
            try:
                columns = self._open(name).schema_arrow.names
            except UnicodeDecodeError as error:
                raise InputError(file, "has a column whose name is no text", hint="export the report again") from error
            found[name] = frozenset(columns)
            if len(found[name]) < len(columns):
                raise InputError(file, "has a column twice", hint="export the report again")
        return found

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
        found = []
        asked = {name: Raw((name,), INT)}
        for chunk, key in zip(self.chunks(table, columns), self.chunks(table, asked), strict=True):
            chosen = pc.equal(key()[name], value)
            if pc.any(chosen).as_py():
                found.append(chunk().filter(chosen))
        schema = pa.schema([(name, raw.type) for name, raw in columns.items()])
        return pa.concat_tables([schema.empty_table(), *found])

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


def check_sqlite_file(path: Path) -> None:
    """Raise InputError, with what the file is instead, where `path` is no SQLite database."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    if not head:
        raise InputError(path, "is empty", hint=EXPORT_AGAIN)
    if head.startswith(LFS_MAGIC):
        raise InputError(path, "is a Git LFS pointer, not the file itself", hint="fetch it with 'git lfs pull'")
    if not head.startswith(SQLITE_MAGIC):
        raise InputError(
            path, "is no SQLite database", hint="give a .nsys-rep, an .sqlite export or a parquetdir folder"
        )


_VALUE_BYTES = 8


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column, also where each stands in its dictionary only once."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(each.cast(pa.int64())).as_py() or 0 for each in lengths)


def _coalesced(rows: pa.Table, raw: Raw) -> pa.ChunkedArray:
    there = [_typed(rows.column(name), raw.type) for name in raw.names if name in rows.column_names]
    if not there:
        return pa.chunked_array([pa.nulls(rows.num_rows, raw.type)])
    return there[0] if len(there) == 1 else pc.coalesce(*there)


def _typed(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """`column` as `wanted`: bytes become text, what is not UTF-8 in them U+FFFD; integers stay exact."""
    if wanted != STRING:
        # Identifiers are unsigned in some exports: the same 64 bits, read as signed.
        return column.cast(wanted, safe=not pa.types.is_uint64(column.type))
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return column.cast(pa.binary()).cast(STRING)
    except pa.ArrowInvalid:
        return pa.chunked_array([_replaced(chunk.cast(pa.binary())) for chunk in column.chunks], STRING)


def _replaced(values: Sequence[pa.Scalar]) -> pa.Array:
    return pa.array([None if (v := value.as_py()) is None else v.decode(errors="replace") for value in values], STRING)
