"""What is read from SQLite's pages is what SQLite says; where that is not sure, SQLite is asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsight_tools.errors import InputError
from nsight_tools.importer.exports import SqliteExport
from nsight_tools.importer.exports.reading import INT, STRING, Raw, read_columns
from nsight_tools.importer.pages import PageFile, UnusualError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

COLUMNS = {"a": Raw(("a",), INT), "t": Raw(("t",), STRING), "b": Raw(("b", "c"), INT), "none": Raw(("x",), INT)}
EDGES = [edge + near for bits in (7, 15, 23, 31, 47, 63) for edge in (1 << bits, -(1 << bits)) for near in (-1, 0, 1)]
INTEGERS = st.one_of(
    st.none(),
    st.sampled_from([0, 1, *(edge for edge in EDGES if -(1 << 63) <= edge < 1 << 63)]),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
TEXTS = st.one_of(st.none(), st.text(max_size=200).filter(lambda text: "\0" not in text))


def database(path: Path, rows: Sequence[Sequence[Any]], *before: str) -> SqliteExport:
    """An export with the rows (a, t, b, c) in a table `many`, after these statements."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in before:
            connection.execute(statement)
        connection.execute("CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT)")
        connection.execute("CREATE TABLE many (a INTEGER, t TEXT, b INTEGER, c INTEGER)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO many VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    return SqliteExport(path)


def by_sqlite(path: Path, columns: dict[str, Raw], table: str = "many") -> pa.Table:
    export = SqliteExport(path)
    export.__dict__["_page_file"] = None
    return read(export, columns, table)


def read(export: SqliteExport, columns: dict[str, Raw], table: str = "many") -> pa.Table:
    return read_columns(export, table, columns).combine_chunks()


def all_from_pages(export: SqliteExport, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite may not be asked for rows."""
    monkeypatch.setattr(export, "_execute", lambda *_: pytest.fail("SQLite was asked for rows"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(INTEGERS, TEXTS, INTEGERS, INTEGERS), min_size=1, max_size=60),
    st.sampled_from([512, 1024, 4096, 65536]),
)
def test_as_sqlite(tmp_path: Path, rows: list[tuple[Any, ...]], page_size: int) -> None:
    export = database(tmp_path / "x.sqlite", rows, f"PRAGMA page_size = {page_size}")
    found = read(export, COLUMNS)
    assert found.equals(by_sqlite(export.path, COLUMNS))
    assert found["a"].to_pylist() == [row[0] for row in rows]
    assert found["t"].to_pylist() == [row[1] for row in rows]
    assert found["b"].to_pylist() == [row[2] if row[2] is not None else row[3] for row in rows]
    assert found["none"].null_count == len(rows)


def test_many_rows_with_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, pages of two tables in turn, freed space in between."""
    dice = np.random.default_rng(3)
    path = tmp_path / "x.sqlite"
    database(path, [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (t TEXT)")
        for _ in range(40):
            rows = [
                (int(dice.integers(1 << int(dice.integers(60)))), "t" * int(dice.integers(90)), 1, 0)
                for _ in range(2500)
            ]
            connection.executemany("INSERT INTO many VALUES (?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO other VALUES (?)", [("o" * 50,)] * 500)
        connection.execute("DELETE FROM many WHERE a % 7 = 3")
        connection.commit()
    export = SqliteExport(path)
    assert len(export.chunks("many", COLUMNS)) > 2
    all_from_pages(export, monkeypatch)
    assert read(export, COLUMNS).equals(by_sqlite(path, COLUMNS))


@pytest.mark.parametrize(
    "unusual",
    [
        ("INSERT INTO many VALUES (1, ?, 2, 3)", ("long " * 2000,)),  # continues on other pages
        ("INSERT INTO many VALUES (1, x'00ff41', 2, 3)", ()),  # a blob, not in UTF-8
        ("ALTER TABLE many ADD COLUMN x INTEGER DEFAULT 7", ()),  # not in the records that are there
        ("CREATE TABLE y (i INTEGER PRIMARY KEY, t TEXT)", ()),
        ("PRAGMA journal_mode = WAL", ()),
    ],
    ids=["overflow", "blob", "added column", "other table", "log"],
)
def test_what_is_left_to_sqlite(tmp_path: Path, unusual: tuple[str, tuple[str, ...]]) -> None:
    path = tmp_path / "x.sqlite"
    database(path, [(number, f"text {number}", number, None) for number in range(3000)])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(*unusual)
        found = read(SqliteExport(path), COLUMNS)
        assert found.equals(by_sqlite(path, COLUMNS))
        assert found.num_rows in (3000, 3001)


def test_no_integer(tmp_path: Path) -> None:
    export = database(tmp_path / "x.sqlite", [(1, "a", 2, 3), (1.5, "b", 2, 3)])
    with pytest.raises(InputError, match="many"):
        read(export, COLUMNS)


def test_rowid_and_generated_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    database(path, [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE k (id INTEGER PRIMARY KEY, n INTEGER)")
        connection.execute("CREATE TABLE w (id INTEGER PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        connection.execute("CREATE TABLE g (id INTEGER, h INTEGER AS (id + 1) STORED, n INTEGER)")
        connection.executemany("INSERT INTO k VALUES (?, ?)", [(10, 1), (20, 2)])
        connection.execute("INSERT INTO g (id, n) VALUES (10, 1), (20, 2)")
        connection.commit()
    for table in ("k", "g"):
        found = read(SqliteExport(path), {name: Raw((name,), INT) for name in ("id", "n")}, table)
        assert found.to_pydict() == {"id": [10, 20], "n": [1, 2]}


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_never_read_as_rows(tmp_path: Path, seed: int) -> None:
    """Whatever a byte is changed to: the rows that SQLite would give, or an error."""
    path = tmp_path / "x.sqlite"
    database(path, [(n * 1000, f"text {n}", n, None) for n in range(2000)], "PRAGMA page_size = 1024")
    data = bytearray(path.read_bytes())
    dice = np.random.default_rng(seed)
    for _ in range(20):
        page = int(dice.integers(2, len(data) // 1024))
        data[page * 1024 + int(dice.integers(40 if dice.random() < 0.7 else 1024))] = int(dice.integers(256))
    path.write_bytes(data)
    said: list[pa.Table | str] = []
    for way in (read, lambda export, columns: by_sqlite(export.path, columns)):
        try:
            said.append(way(SqliteExport(path), COLUMNS))
        except InputError as error:
            said.append(error.problem)
    assert isinstance(said[0], str) or said[0] == said[1]


def test_cut_off(tmp_path: Path) -> None:
    export = database(tmp_path / "x.sqlite", [(number, None, number, None) for number in range(20000)])
    file = PageFile(export.path)
    pages = file.leaves(export._stored["many"].root, 1000)
    assert len(pages) > 10
    with export.path.open("r+b") as stream:
        stream.truncate(int(pages[-1].pages[0] - 1) * 4096 + 100)
    with pytest.raises(UnusualError, match="cut off"):
        file.read(pages[-1], {0}, {1})
