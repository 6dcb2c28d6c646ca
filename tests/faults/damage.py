"""Ways to damage what a capture leaves: each takes its run directory, and draws what it does there."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = (None, -1, 0, 1, 2**31, 2**63 - 1, -(2**63), 1.5, float("inf"))
TEXTS = ("", "text", "\x00", "\x1b[2J", "\u202e", "../../x", "x" * 5000)
OF_A_DATABASE = (*NUMBERS, *TEXTS, b"\xff\xfe\x00")
OF_JSON: tuple[Any, ...] = (
    *NUMBERS, *TEXTS, True, 10**400, float("nan"), "\ud800", [], {}, [[]], [None], {"": None}, {"Layers": [3]},
    {"Name": 3}, {"Layers": {"Name": []}},
)  # fmt: skip


def bytes_of(path: Path, chosen: random.Random) -> None:
    """Some bytes of a file are others, or are missing at its end."""
    content = bytearray(path.read_bytes())
    for _ in range(chosen.randint(1, 40)):
        content[chosen.randrange(len(content))] = chosen.randrange(256)
    if chosen.random() < 0.2:
        del content[chosen.randrange(len(content)) :]
    path.write_bytes(content)


def export_bytes(run: Path, chosen: random.Random) -> None:
    """A damaged database."""
    bytes_of(run / "report.sqlite", chosen)


def tables_of(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


@contextlib.contextmanager
def database_of(run: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(run / "report.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        yield database


def export_values(run: Path, chosen: random.Random) -> None:
    """A valid database with values that nobody writes, of any type in any column."""
    with database_of(run) as database:
        for _ in range(chosen.randint(1, 6)):
            table = chosen.choice(tables_of(database))
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            column, value = chosen.choice(columns), chosen.choice(OF_A_DATABASE)
            where = "" if chosen.random() < 0.3 else f"WHERE rowid % {chosen.randint(2, 50)} = 0"
            with contextlib.suppress(sqlite3.IntegrityError):
                database.execute(f'UPDATE "{table}" SET "{column}" = ? {where}', (value,))


def export_schema(run: Path, chosen: random.Random) -> None:
    """A valid database in which tables or columns are missing, empty, named otherwise, or no tables at all."""
    with database_of(run) as database:
        for _ in range(chosen.randint(1, 3)):
            table = chosen.choice(tables_of(database))
            column = chosen.choice([row[1] for row in database.execute(f'PRAGMA table_info("{table}")')])
            other = f"x{chosen.randrange(10**6)}"
            changes = chosen.choice(
                (
                    [f'DROP TABLE "{table}"'],
                    [f'DELETE FROM "{table}"'],
                    [f'ALTER TABLE "{table}" RENAME TO "{other}"'],
                    [f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{other}"'],
                    [f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "rowid"'],
                    [f'ALTER TABLE "{table}" DROP COLUMN "{column}"'],
                    [f'ALTER TABLE "{table}" ADD COLUMN "{other}" AS (abs("{column}"))'],
                    [f'INSERT INTO "{table}" SELECT * FROM "{table}" LIMIT 100'],
                    [f'ALTER TABLE "{table}" RENAME TO "{other}"', f'CREATE VIEW "{table}" AS SELECT * FROM "{other}"'],
                    [f'DROP TABLE "{table}"', f'CREATE VIRTUAL TABLE "{table}" USING fts5("{column}")'],
                    [f'DROP TABLE "{table}"', f'CREATE TABLE "{table}" ("{column}" PRIMARY KEY) WITHOUT ROWID'],
                )
            )
            with contextlib.suppress(sqlite3.DatabaseError):
                for change in changes:
                    database.execute(change)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: its container, and its key or position there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = (
            container if isinstance(container, dict) else range(len(container)) if isinstance(container, list) else ()
        )
        found += [(container, key) for key in keys]
        waiting += [container[key] for key in keys]
    return found


def json_of(path: Path, chosen: random.Random) -> None:
    """Other values anywhere, other names, other nesting; or other bytes."""
    if chosen.random() < 0.3:
        bytes_of(path, chosen)
        return
    content = json.loads(path.read_text(encoding="utf-8"), strict=False)
    for _ in range(chosen.randint(1, 4)):
        places = _places(content)
        if not places or chosen.random() < 0.03:
            content = chosen.choice(OF_JSON)
            break
        container, key = chosen.choice(places)
        change = chosen.random()
        if change < 0.7:
            container[key] = chosen.choice(OF_JSON)
        elif change < 0.8:
            del container[key]
        elif change < 0.9:
            container[key] = [container[key]] * chosen.randint(1, 3)
        elif isinstance(container, dict):
            container[chosen.choice(TEXTS)] = container.pop(key)
    text = json.dumps(content)
    if chosen.random() < 0.03:
        text = chosen.choice(("[", '{"Layers":')) * 200_000 + text
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def layers_json(run: Path, chosen: random.Random) -> None:
    """The engine inspector's JSON."""
    json_of(run / "layers.json", chosen)


def run_json(run: Path, chosen: random.Random) -> None:
    """What the capture says of itself."""
    json_of(run / "run.json", chosen)


def parquet_of(path: Path, chosen: random.Random) -> None:
    """Other bytes; or a valid file with other values, other columns, other types."""
    if chosen.random() < 0.3:
        bytes_of(path, chosen)
        return
    rows = pq.read_table(path)
    for _ in range(chosen.randint(1, 3)):
        if not rows.num_columns:
            break
        at = chosen.randrange(rows.num_columns)
        name = rows.column_names[at]
        change = chosen.random()
        if change < 0.2:
            rows = rows.remove_column(at)
        elif change < 0.3:
            rows = rows.rename_columns([f"{n}x" if i == at else n for i, n in enumerate(rows.column_names)])
        elif change < 0.4:
            rows = rows.append_column(name, rows.column(at))
        elif change < 0.5:
            rows = rows.slice(0, chosen.randrange(3))
        else:
            value = chosen.choice((*OF_A_DATABASE, [1], {"a": 1}))
            with contextlib.suppress(pa.ArrowException):
                column = pa.array([value] * rows.num_rows)
                if chosen.random() < 0.5:
                    column = column.cast(rows.schema.field(at).type)
                rows = rows.set_column(at, name, column)
    pq.write_table(rows, path)


def telemetry(run: Path, chosen: random.Random) -> None:
    """What NVML said meanwhile."""
    parquet_of(run / "telemetry.parquet", chosen)


def benchmark(run: Path, chosen: random.Random) -> None:
    """What the runner measured."""
    parquet_of(run / "benchmark.parquet", chosen)


def manifest(dataset: Path, chosen: random.Random) -> None:
    """What a dataset says of itself."""
    json_of(dataset / "manifest.json", chosen)


def part(dataset: Path, chosen: random.Random, most: int = 1) -> None:
    """Tables of a dataset are damaged, or missing."""
    for path in chosen.sample(sorted(dataset.glob("*.parquet")), chosen.randint(1, most)):
        if chosen.random() < 0.1:
            path.unlink()
        else:
            parquet_of(path, chosen)


def parquetdir(export: Path, chosen: random.Random) -> None:
    """Some tables of an export to Parquet."""
    part(export, chosen, 3)


OF_A_RUN = (export_bytes, export_values, export_schema, layers_json, run_json, telemetry, benchmark)
OF_A_DATASET = (manifest, part)
OF_A_PARQUETDIR = (parquetdir,)
