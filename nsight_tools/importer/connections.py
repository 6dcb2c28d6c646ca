"""Opening an SQLite file that somebody else made: read-only, and nothing that its schema says is run.

Only ordinary tables are read. A schema can also hold views, virtual tables and generated columns, which compute what
they give: billions of rows, or values of a gigabyte, from a file of a few pages.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from nsight_tools.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from adbc_driver_manager.dbapi import Connection, Cursor

FENCES = ("PRAGMA trusted_schema = OFF", "PRAGMA query_only = ON", "PRAGMA cell_size_check = ON")
"""No function of a schema's own that has effects, nothing written, and damaged pages are found when they are read."""

_LIMITS = {
    "SQLITE_LIMIT_LENGTH": 1 << 28,  # bytes of one value, and of one row
    "SQLITE_LIMIT_SQL_LENGTH": 1 << 20,
    "SQLITE_LIMIT_ATTACHED": 0,
    "SQLITE_LIMIT_TRIGGER_DEPTH": 1,
    "SQLITE_LIMIT_WORKER_THREADS": 0,
}


def journals(path: Path) -> list[Path]:
    """What a writer keeps beside a file that is not finished without it."""
    whole = path.resolve()
    files = []
    for end in ("-wal", "-journal"):
        with suppress(OSError):  # it may go at any moment
            file = whole.with_name(f"{whole.name}{end}")
            files += [file] if file.stat().st_size else []
    return files


def finished(path: Path, to: Path) -> Path:
    """A copy at `to` of `path` with what its journal adds.

    Such a file is read by one connection alone. The library below ADBC is not the one below `sqlite3`: in one process
    each takes the other's locks on a WAL away, and its index from under it.

    Raises InputError where it cannot be read, OSError where there is no room for the copy.
    """
    to.touch()  # OSError, where it cannot be made
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as connection, closing(sqlite3.connect(to)) as copy:
            connection.execute("SELECT count(*) FROM sqlite_master")  # a backup would wait for a lock for ever
            connection.backup(copy, pages=COPIED_PAGES, progress=_moves_on())
    except sqlite3.Error as error:
        if "full" in str(error) or getattr(error, "sqlite_errorname", "") in _OF_THE_COPY:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), to) from error
        names = " and ".join(file.name for file in journals(path)) or "its journal"
        raise InputError(
            path,
            f"cannot be read with {names} beside it: {error}",
            hint="close what writes it; or open a copy of both with sqlite3 once, where you may write, and give that",
        ) from error
    return to


COPIED_PAGES = 4096
"""Pages that are copied at a time; in between somebody may interrupt, and a lock is found."""
_MOST_WAITS = 20
"""Times, a quarter of a second each, in which nothing could be copied: somebody has locked the file."""
_OF_THE_COPY = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE")


def _moves_on() -> Callable[[int, int, int], None]:
    left, waits = None, 0

    def look(_status: int, remaining: int, _total: int) -> None:
        nonlocal left, waits
        waits = waits + 1 if remaining == left else 0
        left = remaining
        if waits > _MOST_WAITS:
            raise sqlite3.OperationalError("database is locked")

    return look


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.resolve()))}?mode=ro"


def uri(path: Path) -> str:
    """The URI that opens a finished `path` read-only; one in WAL mode has its reader make no file beside it."""
    return f"{_uri(path)}&immutable=1"


def opened(path: Path) -> sqlite3.Connection:
    """A connection whose statements can only read, with SQLite's own limits as low as an export allows."""
    connection = sqlite3.connect(uri(path), uri=True)
    try:
        connection.text_factory = lambda name: name.decode(errors="replace")
        if sys.version_info >= (3, 11):
            for name, most in _LIMITS.items():
                connection.setlimit(getattr(sqlite3, name), most)
        if sys.version_info >= (3, 12):
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        for fence in FENCES:
            connection.execute(fence)
    except BaseException:
        connection.close()
        raise
    return connection


def opened_for_arrow(path: Path) -> Connection:
    """The same through ADBC, which has no limits to set: extensions are off in it, as it comes."""
    from adbc_driver_sqlite import dbapi

    connection = dbapi.connect(uri(path))
    try:
        with connection.cursor() as cursor:
            for fence in FENCES:
                cursor.execute(fence)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def cursor_for_arrow(path: Path) -> Iterator[Cursor]:
    """A cursor on such a connection; both are closed at the end."""
    with opened_for_arrow(path) as connection:
        cursor = connection.cursor()
        try:
            yield cursor
        finally:
            try:
                cursor.close()
            except Exception:
                cursor._closed = True  # noqa: SLF001 (before 1.13 each further closing fails, when it is collected too)
                raise


def tables(path: Path) -> Mapping[str, frozenset[str]]:
    """The ordinary tables of a file, each with its stored columns.

    Raises InputError where a table hides its rowid behind a column of that name.
    """
    stored_tables = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"  # a virtual table has no page
    )
    columns = "SELECT name FROM pragma_table_info(?)"  # without those that are generated
    with closing(opened(path)) as connection:
        names = [name for (name,) in connection.execute(stored_tables)]
        columns_of = {name: frozenset(column for (column,) in connection.execute(columns, (name,))) for name in names}
    for name, names_of_columns in columns_of.items():
        if any(column.lower() == "rowid" for column in names_of_columns):
            raise InputError(path, f"has a column rowid in table {name}, which Nsight Systems does not write")
    return columns_of
