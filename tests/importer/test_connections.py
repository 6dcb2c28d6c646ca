"""Exports whose schema is hostile: nothing that it computes is read, nothing is run, and no file appears."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import sys
from functools import partial
from pathlib import Path

import pytest

from nsight_tools import import_report, open_trace
from nsight_tools.errors import InputError
from nsight_tools.importer import connections
from nsight_tools.importer.exports import SqliteExport
from nsight_tools.importer.exports.reading import CHUNK_ROWS, INT, Raw

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_whole_graph.sqlite"
ENDLESS = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000000000000) SELECT v"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "run.sqlite"
    shutil.copy(SAMPLE, path)
    return path


def changed(path: Path, *statements: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return path


def test_a_view_is_no_table(export: Path) -> None:
    """A view of 10^12 rows under a table's name is not there at all."""
    before = open_trace(import_report(export)).rows("api_calls")
    assert before > 0
    view = f'CREATE VIEW CUPTI_ACTIVITY_KIND_RUNTIME AS {ENDLESS} AS start, v AS "end", 1 AS nameId FROM n'
    changed(export, "DROP TABLE CUPTI_ACTIVITY_KIND_RUNTIME", view)
    assert "CUPTI_ACTIVITY_KIND_RUNTIME" not in connections.tables(export)
    assert open_trace(import_report(export)).rows("api_calls") == 0


def test_a_virtual_table_is_no_table(export: Path) -> None:
    changed(
        export,
        "DROP TABLE IF EXISTS CUPTI_ACTIVITY_KIND_KERNEL",
        "CREATE VIRTUAL TABLE CUPTI_ACTIVITY_KIND_KERNEL USING fts5(start, end)",
    )
    assert "CUPTI_ACTIVITY_KIND_KERNEL" not in connections.tables(export)
    import_report(export)


def test_a_generated_column_is_no_column(export: Path) -> None:
    """Its value would be 100 MB."""
    changed(
        export,
        "DROP TABLE StringIds",
        "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT AS (hex(zeroblob(50000000 + id))) VIRTUAL)",
        "INSERT INTO StringIds VALUES (1)",
    )
    assert connections.tables(export)["StringIds"] == {"id"}
    import_report(export)


def test_a_column_that_hides_the_row_numbers_is_an_error(export: Path) -> None:
    changed(export, "ALTER TABLE StringIds ADD COLUMN RowId TEXT")
    with pytest.raises(InputError, match="has a column rowid in table StringIds"):
        import_report(export)


def test_a_table_without_row_numbers_is_an_error(export: Path) -> None:
    changed(
        export,
        "DROP TABLE StringIds",
        "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT) WITHOUT ROWID",
    )
    with pytest.raises(InputError, match="no such column: rowid"):
        import_report(export)


@pytest.mark.parametrize("how", ["sqlite3", "adbc"])
def test_nothing_is_written_loaded_or_attached(export: Path, tmp_path: Path, how: str) -> None:
    other = tmp_path / "other.sqlite"
    attacks = [
        "CREATE TABLE x (y)",
        "DELETE FROM StringIds",
        "SELECT load_extension('/tmp/x.so')",
        "PRAGMA journal_mode = WAL",
    ]
    if sys.version_info >= (3, 11):  # before, SQLite's limits cannot be set
        attacks += [f"VACUUM INTO '{other}'", *([f"ATTACH '{other}' AS other"] if how == "sqlite3" else [])]
    content = export.read_bytes()
    for attack in attacks:
        with contextlib.suppress(Exception):
            if how == "sqlite3":
                with contextlib.closing(connections.opened(export)) as connection:
                    connection.execute(attack)
                    connection.commit()
            else:
                with connections.cursor_for_arrow(export) as cursor:
                    cursor.execute(attack)
        assert export.read_bytes() == content, attack
        assert [path.name for path in tmp_path.iterdir()] == [export.name], attack


def test_fences_stand_on_both_connections(export: Path) -> None:
    for opened in (connections.opened, connections.opened_for_arrow):
        with contextlib.closing(opened(export)) as connection:
            cursor = connection.cursor()
            said = []
            for name in ("trusted_schema", "query_only", "cell_size_check"):
                cursor.execute(f"PRAGMA {name}")
                said += [int(value) for (value,) in cursor.fetchall()]
            cursor.close()
            assert said == [0, 1, 1]


def test_a_file_in_wal_mode_gets_none_beside_it(export: Path, tmp_path: Path) -> None:
    changed(export, "PRAGMA journal_mode = WAL")
    assert open_trace(import_report(export, tmp_path / "out")).rows("api_calls") > 0
    assert {path.name for path in tmp_path.iterdir()} == {export.name, "out"}


def test_an_open_journal_is_read_with_its_file(export: Path) -> None:
    """What a writer has committed to the WAL, and not yet moved into the file, is there."""
    with contextlib.closing(sqlite3.connect(export)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("DELETE FROM CUPTI_ACTIVITY_KIND_RUNTIME")
        database.commit()
        assert open_trace(import_report(export)).rows("api_calls") == 0
        database.execute("DELETE FROM NVTX_EVENTS")
        database.commit()
        assert open_trace(import_report(export)).rows("nvtx_ranges") == 0, "only the journal had changed"


def test_a_file_with_a_journal_is_damaged_under_its_own_name(export: Path, tmp_path: Path) -> None:
    content = bytearray(export.read_bytes())
    content[3 * len(content) // 4 :] = bytes(len(content) - 3 * len(content) // 4)
    export.write_bytes(content)
    export.with_name(f"{export.name}-wal").write_bytes(b"no frame of a log")
    with pytest.raises(InputError, match="damaged or truncated") as raised:
        import_report(export, tmp_path / "out")
    assert raised.value.path == export
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"no database", b"version https://git-lfs.github.com/spec/v1"])
def test_what_is_no_database_is_told_before_its_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(content)
    path.with_name("run.sqlite-wal").write_bytes(b"no frame of a log")
    with pytest.raises(InputError, match=r"is no SQLite database|is a Git LFS pointer"):
        import_report(path)


def test_a_file_that_somebody_has_locked_is_not_waited_for_for_ever(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default SQLite waits for five seconds."""
    monkeypatch.setattr(connections.sqlite3, "connect", partial(sqlite3.connect, timeout=0.1))
    changed(export, "PRAGMA journal_mode = DELETE")
    with contextlib.closing(sqlite3.connect(export, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        database.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET nameId = nameId + 1")
        assert connections.journals(export)
        with pytest.raises(InputError, match="database is locked; close what writes it"):
            import_report(export, tmp_path / "out")
        database.execute("ROLLBACK")
    assert not list((tmp_path / "out").iterdir())
    import_report(export)


def test_no_room_for_the_copy(export: Path, tmp_path: Path) -> None:
    export.with_name(f"{export.name}-wal").write_bytes(b"no frame of a log")
    with pytest.raises(OSError, match="Not a directory"):
        connections.finished(export, export / "copy.sqlite")
    assert connections.finished(export, tmp_path / "copy.sqlite").stat().st_size == export.stat().st_size


def test_a_journal_that_goes_while_it_is_looked_at(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = export.with_name(f"{export.name}-journal")
    monkeypatch.setattr(connections, "journals", lambda path: [gone] if path == export else [])
    with pytest.raises(InputError, match=r"changed while it was read|cannot be read"):
        import_report(export)


def test_a_transaction_that_was_never_ended(export: Path, tmp_path: Path) -> None:
    """Its writer was killed: the file is half changed, and only a writer can take that back."""
    killed = tmp_path / "killed"
    killed.mkdir()
    with contextlib.closing(sqlite3.connect(export, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN")
        database.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET nameId = nameId + 1")
        for file in tmp_path.glob("run.sqlite*"):
            shutil.copy(file, killed)
        database.execute("ROLLBACK")
    with pytest.raises(InputError, match=r"run\.sqlite-journal beside it"):
        import_report(killed / "run.sqlite")
    assert {file.name for file in killed.iterdir()} == {"run.sqlite", "run.sqlite-journal"}


def test_a_page_that_is_many_pages_gives_no_more_rows_than_numbers(tmp_path: Path) -> None:
    """All children of a tree's root are made the same leaf: a scan would repeat its rows as often as it has entries."""
    path = tmp_path / "tree.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size = 65536")
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value INT)")
        rows = ((number, number) for number in range(CHUNK_ROWS * 16))
        database.executemany("INSERT INTO StringIds VALUES (?, ?)", rows)
        database.commit()
        root = database.execute("SELECT rootpage FROM sqlite_master").fetchone()[0]
    content = bytearray(path.read_bytes())
    page = (root - 1) * 65536
    assert content[page] == 5, "the root is no interior page"
    cells = struct.unpack_from(">H", content, page + 3)[0]
    places = struct.unpack_from(f">{cells}H", content, page + 12)
    leaf = content[page + places[0] : page + places[0] + 4]
    for place in places:
        content[page + place : page + place + 4] = leaf
    path.write_bytes(content)
    export = SqliteExport(path)
    for chunk in export.chunks("StringIds", {"value": Raw(("value",), INT)}):
        with contextlib.suppress(InputError):
            assert chunk().num_rows <= CHUNK_ROWS
