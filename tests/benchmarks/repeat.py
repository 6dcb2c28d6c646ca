"""Makes a long SQLite export out of a short one: repeats its events in time.

    python tests/benchmarks/repeat.py SRC.sqlite DST.sqlite --times 240
    python tests/benchmarks/repeat.py SRC.sqlite DST.sqlite --kernels 5000000

Each copy lies one period after the one before it. Correlation ids, range ids and keys are unique over all copies;
strings, processes, GPUs, graph nodes and NVTX domains stay as they are. SQLite streams the rows: 18 MB, whatever
the size.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

REPEATED = (
    "CUPTI_ACTIVITY_KIND_*",
    "GENERIC_EVENTS",
    "GENERIC_EVENT_DATA",
    "GPU_METRICS",
    "NVTX_EVENTS",
    "OSRT_API",
    "PROFILER_OVERHEAD",
    "SCHED_EVENTS",
)
KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"
TIMES = ("start", "end", "timestamp", "rawTimestamp")
UNIQUE = ("correlationId", "rangeId", "genericEventId")
NVTX_RANGES_AND_MARKS = "eventType IN (34, 59, 60)"  # not what creates domains and names threads
ROUND_UP_NS = 1_000_000


def repeat(source: Path, target: Path, times: int) -> int:
    """Write `source`, its events `times` times over, to `target`; return the period in nanoseconds."""
    shutil.copyfile(source, target)
    target.chmod(0o644)
    with closing(sqlite3.connect(target, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("ATTACH ? AS short", (str(source),))
        tables = _tables(database)
        period = _period(database, tables)
        stride = _stride(database, tables)
        database.execute("BEGIN")
        shifts = dict.fromkeys(TIMES, period) | stride
        for table, columns in tables.items():
            _repeat_table(database, table, columns, times, shifts)
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'ANALYSIS_DETAILS'").fetchone():
            longer = (times - 1) * period
            database.execute(
                "UPDATE ANALYSIS_DETAILS SET duration = duration + ?, stopTime = stopTime + ?", (longer, longer)
            )
        database.execute("COMMIT")
    return period


def _tables(database: sqlite3.Connection) -> dict[str, list[str]]:
    """The tables to repeat, each with its columns."""
    matches = " OR ".join("name GLOB ?" for _ in REPEATED)
    names = database.execute(f"SELECT name FROM sqlite_master WHERE type = 'table' AND ({matches})", REPEATED)
    return {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for (name,) in names.fetchall()}


def _where(table: str) -> str:
    return f"WHERE {NVTX_RANGES_AND_MARKS}" if table == "NVTX_EVENTS" else ""


def _period(database: sqlite3.Connection, tables: dict[str, list[str]]) -> int:
    """From the first event to the end of the last, rounded up, so that copies do not touch."""
    first, last = [], []
    for table, columns in tables.items():
        times = [column for column in columns if column in ("start", "end", "timestamp")]
        for column in times:
            low, high = database.execute(
                f"SELECT min({column}), max({column}) FROM short.{table} {_where(table)}"
            ).fetchone()
            if low is not None:
                first.append(low)
                last.append(high)
    return -(-(max(last, default=0) - min(first, default=0) + 1) // ROUND_UP_NS) * ROUND_UP_NS


def _stride(database: sqlite3.Connection, tables: dict[str, list[str]]) -> dict[str, int]:
    """By how much an id grows from one copy to the next: more than any that the tables hold."""
    highest = dict.fromkeys(UNIQUE, 0)
    for table, columns in tables.items():
        for column in set(columns) & set(UNIQUE):
            (value,) = database.execute(f"SELECT max({column}) FROM short.{table}").fetchone()
            highest[column] = max(highest[column], value or 0)
    return {column: value + 1 for column, value in highest.items()}


def kernels_of(export: Path) -> int:
    """Kernel rows of an export; 0 where it lacks the table."""
    with closing(sqlite3.connect(export)) as database:
        there = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (KERNELS,)).fetchone()
        return int(database.execute(f"SELECT count(*) FROM {KERNELS}").fetchone()[0]) if there else 0


def times_for(export: Path, kernels: int) -> int:
    """How many copies of `export` have about so many kernels. Raises ValueError where it has none."""
    if not (there := kernels_of(export)):
        raise ValueError(f"{export} has no kernels to count: say --times")
    return max(1, round(kernels / there))


def _repeat_table(
    database: sqlite3.Connection, table: str, columns: list[str], times: int, shifts: dict[str, int]
) -> None:
    """Add the second to last copy of a table's rows; `shifts` says by how much a column grows from copy to copy."""
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(
        f'"{column}" + n * {shifts[column]}' if column in shifts else f'"{column}"' for column in columns
    )
    database.execute(
        f"WITH RECURSIVE copies(n) AS"
        f" (SELECT 1 WHERE {times} > 1 UNION ALL SELECT n + 1 FROM copies WHERE n + 1 < {times})"
        f" INSERT INTO main.{table} ({names}) SELECT {values} FROM copies CROSS JOIN short.{table} {_where(table)}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Repeat the events of an SQLite export in time.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--times", type=int, help="so many copies")
    size.add_argument("--kernels", type=int, help="as many copies as have about so many kernels")
    arguments = parser.parse_args()
    try:
        times = arguments.times or times_for(arguments.source, arguments.kernels)
    except ValueError as error:
        parser.error(str(error))
    period = repeat(arguments.source, arguments.target, times)
    print(f"{arguments.target}: {times} copies, one each {period / 1e6:.0f} ms")


if __name__ == "__main__":
    main()
