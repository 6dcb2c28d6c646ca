"""What the benchmark of the import runs, each in a process of its own: `python stages.py STAGE SOURCE FOLDER`.

A stage that needs a package imports it when it runs; ImportError says that a peer is not installed.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeat import REPEATED

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_ROWS = 1 << 17
NOT_INSTALLED = 69
"""Exit status of a stage whose package is not there."""
DERIVED_AT = "derived tables begin at "


def tables_of(database: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """The tables with events and strings, each with its columns and their declared types."""
    matches = " OR ".join("name GLOB ?" for _ in REPEATED)
    names = database.execute(
        f"SELECT name FROM sqlite_master WHERE type = 'table' AND (name = 'StringIds' OR {matches})", REPEATED
    ).fetchall()
    return {name: {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({name})")} for (name,) in names}


def floor(source: Path, _folder: Path) -> None:
    """SQLite reads every column of every table, and throws it away."""
    with closing(sqlite3.connect(source)) as database:
        for table, columns in tables_of(database).items():
            counts = ", ".join(f'count("{column}")' for column in columns)
            database.execute(f"SELECT {counts} FROM {table}").fetchall()


def python_sqlite3(source: Path, folder: Path) -> None:
    """Python's sqlite3 fetches all rows, in batches, and pyarrow writes them to Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"INTEGER": pa.int64(), "REAL": pa.float64()}
    with closing(sqlite3.connect(source)) as database:
        for table, columns in tables_of(database).items():
            schema = pa.schema([(name, kinds.get(kind, pa.string())) for name, kind in columns.items()])
            cursor = database.execute(f"SELECT * FROM {table}")
            with pq.ParquetWriter(folder / f"{table}.parquet", schema, compression="zstd") as writer:
                while rows := cursor.fetchmany(BATCH_ROWS):
                    values = zip(*rows, strict=True)
                    arrays = [pa.array(each, field.type) for each, field in zip(values, schema, strict=True)]
                    writer.write_batch(pa.record_batch(arrays, schema=schema))


def adbc(source: Path, folder: Path) -> None:
    """ADBC reads every table, and pyarrow writes it to Parquet, batch by batch, on one thread."""
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


def connectorx(source: Path, folder: Path) -> None:
    """connectorx reads every table in two parts side by side, whole, and pyarrow writes it to Parquet."""
    import connectorx as cx
    import pyarrow.parquet as pq

    with closing(sqlite3.connect(source)) as database:
        tables = tables_of(database)
    for table, columns in tables.items():
        # It takes a column's type from its first rows, and stops where those are null: nulls become 0 and ''.
        empty = {"INTEGER": "0", "REAL": "0.0"}
        values = ", ".join(
            f'coalesce("{name}", {empty.get(kind, repr(""))}) "{name}"' for name, kind in columns.items()
        )
        query = f"SELECT rowid AS part, {values} FROM {table}"
        rows: Any = cx.read_sql(f"sqlite://{source}", query, return_type="arrow", partition_on="part", partition_num=2)
        pq.write_table(rows, folder / f"{table}.parquet", compression="zstd")


def nsys_ai(source: Path, folder: Path) -> None:
    """nsys-ai builds what it keeps beside a trace: its Parquet cache and the map from kernels to NVTX ranges."""
    import shutil
    import subprocess

    command = Path(sys.executable).with_name("nsys-ai")
    if not command.exists():
        raise ImportError("nsys-ai")
    copied = folder / source.name
    shutil.copyfile(source, copied)  # counted, a tenth of a second: its cache lands beside the trace
    done = subprocess.run([str(command), "warm", str(copied)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit((done.stderr or done.stdout).strip().split("\n")[0])


def imported(source: Path, folder: Path) -> None:
    """What is measured: `nsight-tools import`. Prints when, in Unix time, the derived tables begin."""
    from nsight_tools import import_report, memory

    def noted(stage: str, _share: float | None) -> None:
        if stage.startswith("attributing"):
            print(f"{DERIVED_AT}{time.time()}", flush=True)

    with memory.fenced():  # as the command does
        import_report(source, folder, progress=noted)


STAGES: dict[str, Callable[[Path, Path], None]] = {
    "floor": floor,
    "sqlite3": python_sqlite3,
    "adbc": adbc,
    "connectorx": connectorx,
    "nsys-ai": nsys_ai,
    "import": imported,
}

if __name__ == "__main__":
    try:
        STAGES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
