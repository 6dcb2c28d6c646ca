"""An export to an SQLite file."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.errors import InputError
from nsight_tools.importer import connections
from nsight_tools.importer.exports.reading import CHUNK_ROWS, EXPORT_AGAIN, FLOAT, INT, STRING, Chunk, Raw, typed
from nsight_tools.importer.pages import Leaves, PageFile, UnusualError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from adbc_driver_manager import AdbcStatement

SQLITE_MAGIC = b"SQLite format 3\0"
LFS_MAGIC = b"version https://git-lfs"
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
        held = self._stored.get(table)
        kinds: dict[str, set[pa.DataType]] = {}
        for raw in columns.values():
            for name in self.tables[table].intersection(raw.names):
                kinds.setdefault(name, set()).add(raw.type)
        if self._page_file is None or held is None or not kinds or not kinds.keys() <= held.place.keys():
            return None
        if any(len(types) > 1 or FLOAT in types for types in kinds.values()):
            return None
        try:
            return self._page_file.leaves(held.root, CHUNK_ROWS)
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
        values = []
        for raw in columns.values():
            there = [read[place[name]] for name in raw.names if name in place]
            value = pc.coalesce(*there) if there else pa.nulls(rows, raw.type)
            values.append(typed(pa.chunked_array([value]), raw.type))
        return pa.table(values, names=list(columns))

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
            values = [typed(result.column(i), raw.type) for i, raw in enumerate(columns.values())]
        return pa.table(values, names=list(columns))

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
