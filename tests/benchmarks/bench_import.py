"""How long an import takes, and how much memory: beside a bare scan of the export, and a plain ADBC conversion.

    python tests/benchmarks/bench_import.py [--kernels 1200000] [--source EXPORT.sqlite] [--keep FOLDER]

One run measures all three, each in a process of its own, one after the other over the same file:

floor   SQLite reads every column of every table with events, and throws it away
peer    ADBC reads the same tables and pyarrow writes them to Parquet, on one thread; no name is resolved, nothing
        is sorted, joined or derived
import  `nsight_tools.import_report`
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from typing import TYPE_CHECKING

from repeat import REPEATED, repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_sync.sqlite"
BATCH_ROWS = 1 << 17
STARTS = 5


@dataclass(frozen=True)
class Measured:
    """One process, from start to end."""

    stage: str
    wall_s: float
    peak_mb: float
    cpu_s: float


def tables_of(database: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """The tables with events and strings, each with its columns and their declared types."""
    matches = " OR ".join("name GLOB ?" for _ in REPEATED)
    names = database.execute(
        f"SELECT name FROM sqlite_master WHERE type = 'table' AND (name = 'StringIds' OR {matches})", REPEATED
    ).fetchall()
    return {name: {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({name})")} for (name,) in names}


def floor(source: Path, _folder: Path) -> None:
    """Read every column of every table."""
    with closing(sqlite3.connect(source)) as database:
        for table, columns in tables_of(database).items():
            counts = ", ".join(f'count("{column}")' for column in columns)
            database.execute(f"SELECT {counts} FROM {table}").fetchall()


def peer(source: Path, folder: Path) -> None:
    """Convert every table to Parquet through ADBC, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from adbc_driver_sqlite import dbapi

    pa.set_cpu_count(1)
    with closing(sqlite3.connect(source)) as database:
        tables = tables_of(database)
    with dbapi.connect(str(source)) as connection:
        for table, columns in tables.items():
            # ADBC takes a column's type from the first batch: one row with a value of the declared type goes before.
            typed = ", ".join({"INTEGER": "0", "REAL": "0.0"}.get(kind, "''") for kind in columns.values())
            with connection.cursor() as cursor:
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
                cursor.execute(f"SELECT {typed} UNION ALL SELECT * FROM {table}")
                reader = cursor.fetch_record_batch()
                schema = pa.schema(list(zip(columns, reader.schema.types, strict=True)))
                with pq.ParquetWriter(folder / f"{table}.parquet", schema, compression="zstd") as writer:
                    for number, batch in enumerate(reader):
                        rows = batch.slice(1) if number == 0 else batch
                        writer.write_batch(pa.record_batch(rows.columns, schema=schema))


def imported(source: Path, folder: Path) -> None:
    """What is measured: the import."""
    from nsight_tools import import_report

    import_report(source, folder)


STAGES: dict[str, Callable[[Path, Path], None]] = {"floor": floor, "peer": peer, "import": imported}


def run(stage: str, command: Sequence[str]) -> Measured:
    """Run `command`: its time on the clock, and the most memory that it held."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(stage, wall, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def measure(source: Path, folder: Path) -> list[Measured]:
    """Each stage over `source`, which writes below `folder`."""
    measured = []
    for stage in STAGES:
        target = folder / stage
        target.mkdir()
        measured.append(
            run(stage, [sys.executable, __file__, "--stage", stage, "--source", str(source), "--keep", str(target)])
        )
    return measured


def starts() -> list[Measured]:
    """The command line's `--help`, a few times."""
    command = [sys.executable, "-c", "from nsight_tools.cli import main; main()", "--help"]
    return [run("--help", command) for _ in range(STARTS)]


def kernels_of(source: Path) -> int:
    """Kernel rows of an export."""
    with closing(sqlite3.connect(source)) as database:
        (count,) = database.execute("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
        return int(count)


def report(kernels: int, size: int, measured: Sequence[Measured], helps: Sequence[Measured]) -> None:
    """Print the table."""
    peer_s = next(m.wall_s for m in measured if m.stage == "peer")
    floor_s = next(m.wall_s for m in measured if m.stage == "floor")
    print(f"{kernels:,} kernels, {size / 2**20:,.0f} MiB of SQLite")
    print(f"{'stage':<8} {'wall s':>8} {'x floor':>8} {'x peer':>8} {'peak MiB':>9}")
    for m in measured:
        print(f"{m.stage:<8} {m.wall_s:8.2f} {m.wall_s / floor_s:8.2f} {m.wall_s / peer_s:8.2f} {m.peak_mb:9.0f}")
    fastest = min(helps, key=lambda m: m.wall_s)
    print(f"{'--help':<8} {fastest.wall_s:8.2f} {'':>8} {'':>8} {fastest.peak_mb:9.0f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure an import beside a scan and a plain conversion.")
    parser.add_argument("--kernels", type=int, default=1_200_000, help="repeat the source until it has about so many")
    parser.add_argument("--source", type=Path, default=SAMPLE, help="export to repeat")
    parser.add_argument("--keep", type=Path, help="write here, and leave it there")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        STAGES[arguments.stage](arguments.source, arguments.keep)
        return
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        long = folder / "long.sqlite"
        repeat(arguments.source, long, max(1, round(arguments.kernels / kernels_of(arguments.source))))
        report(kernels_of(long), long.stat().st_size, measure(long, folder), starts())


if __name__ == "__main__":
    main()
