"""Damaged inputs: whatever is wrong with them, the importer answers with an error of ours, or with a dataset."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsight_tools import import_report, open_trace
from nsight_tools.errors import NsightToolsError
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
SAMPLE = SAMPLES / "classifier_whole_graph.sqlite"
FUZZED = int(os.environ.get("NSIGHT_TOOLS_FUZZED", "60"))
SEED = int(os.environ.get("NSIGHT_TOOLS_SEED", "1"))
BATCHES = 4

ODD_VALUES = (
    None,
    -1,
    0,
    1,
    2**31,
    2**63 - 1,
    -(2**63),
    1.5,
    float("inf"),
    "",
    "text",
    b"\xff\xfe\x00",
    "\x00",
    "x" * 5000,
)


def bytes_damaged(path: Path, chosen: random.Random) -> None:
    """Some bytes of the file are others, or are missing at its end."""
    content = bytearray(path.read_bytes())
    for _ in range(chosen.randint(1, 40)):
        content[chosen.randrange(len(content))] = chosen.randrange(256)
    if chosen.random() < 0.2:
        del content[chosen.randrange(len(content)) :]
    path.write_bytes(content)


def tables_of(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def values_damaged(path: Path, chosen: random.Random) -> None:
    """A valid database with values that nobody writes, of any type in any column."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for _ in range(chosen.randint(1, 6)):
            table = chosen.choice(tables_of(database))
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            column, value = chosen.choice(columns), chosen.choice(ODD_VALUES)
            where = "" if chosen.random() < 0.3 else f"WHERE rowid % {chosen.randint(2, 50)} = 0"
            with contextlib.suppress(sqlite3.IntegrityError):
                database.execute(f'UPDATE "{table}" SET "{column}" = ? {where}', (value,))


def schema_damaged(path: Path, chosen: random.Random) -> None:
    """A valid database in which tables or columns are missing, empty or named otherwise."""
    with contextlib.closing(sqlite3.connect(path)) as database, contextlib.suppress(sqlite3.DatabaseError), database:
        for _ in range(chosen.randint(1, 3)):
            table = chosen.choice(tables_of(database))
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            change = chosen.choice(
                (
                    f'DROP TABLE "{table}"',
                    f'DELETE FROM "{table}"',
                    f'ALTER TABLE "{table}" RENAME TO "x{chosen.randrange(10**6)}"',
                    f'ALTER TABLE "{table}" RENAME COLUMN "{chosen.choice(columns)}" TO "x{chosen.randrange(10**6)}"',
                    f'INSERT INTO "{table}" SELECT * FROM "{table}" LIMIT 100',
                )
            )
            with contextlib.suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
                database.execute(change)


def layers_damaged(path: Path, chosen: random.Random) -> None:
    """The inspector's JSON with other values, other nesting, or other bytes."""
    layers = path.with_name(f"{path.stem}.layers.json")
    text = (SAMPLES / "classifier_whole_graph.layers.json").read_text(encoding="utf-8")
    if chosen.random() < 0.5:
        at = chosen.randrange(len(text))
        layers.write_bytes(
            text[:at].encode() + bytes([chosen.randrange(256)]) + text[at + chosen.randint(0, 9) :].encode()
        )
        return
    content = json.loads(text, strict=False)
    odd = chosen.choice(
        (None, 3, "text", [], {}, [[]], [None], {"Layers": 3}, {"Layers": [3]}, {"Layers": [{"Name": 3}]})
    )
    if chosen.random() < 0.3:
        content = odd
    else:
        layer = chosen.choice(content["Layers"])
        if isinstance(layer, dict):
            layer[chosen.choice(list(layer))] = odd
    layers.write_text(json.dumps(content), encoding="utf-8")


def outcome(path: Path) -> str | None:
    """What the error says; None where the import succeeded and its tables can be read."""
    try:
        trace = open_trace(import_report(path))
        for table in TABLES:
            assert trace.table(table).num_rows == trace.rows(table)
    except NsightToolsError as error:
        return str(error)
    return None


# ADBC's own, of cursors that read a damaged page.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Failed to close:ResourceWarning")
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("damage", [bytes_damaged, values_damaged, schema_damaged, layers_damaged])
def test_only_errors_of_ours(
    tmp_path: Path, damage: Callable[[Path, random.Random], None], batch: int, record_property: Callable[..., None]
) -> None:
    imported = refused = 0
    for number in range(max(1, FUZZED // (4 * BATCHES))):
        seed = f"{SEED} {damage.__name__} {batch} {number}"
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "run.sqlite"
        shutil.copy(SAMPLE, path)
        damage(path, random.Random(seed))  # noqa: S311 (damage, not secrets)
        if (said := outcome(path)) is None:
            imported += 1
        else:
            assert said, seed
            refused += 1
            assert {each.suffix for each in folder.iterdir()} <= {".sqlite", ".json"}, seed
        shutil.rmtree(folder)
    record_property("imported", imported)
    record_property("refused", refused)
    assert imported + refused > 0
