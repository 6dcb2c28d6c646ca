"""A trace: the handle that notebooks, scripts and analyses hold on a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, TypeVar

from nsight_tools import allocator as _allocator  # noqa: F401 isort: skip (before anything that loads Arrow)

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import memory
from nsight_tools.errors import ArgumentError, CouldNotRun, DatasetError, QueryError, need
from nsight_tools.importer import import_report
from nsight_tools.importer.captured import dataset_alone
from nsight_tools.importer.manifest import MANIFEST, read_manifest
from nsight_tools.importer.untraced import read as read_untraced
from nsight_tools.importer.untraced import without_profiler
from nsight_tools.shown import Shown
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb
    import numpy.typing as npt
    import pandas as pd
    import pyarrow.dataset as ds

    from nsight_tools.importer.streaming import Progress


Made = TypeVar("Made")
BATCH_ROWS = 1 << 17
"""Rows of a column that are read at a time."""


def open_trace(
    path: Path | str,
    *,
    nsys: Path | str | None = None,
    progress: Progress | None = None,
    force: bool = False,
    layers: Path | str | None = None,
    layer_pass: Path | str | None = None,
    inference_range: str | None = None,
    group_by: str | None = None,
    untraced: Path | str | None = None,
) -> Trace:
    """Open a report, an export, or a dataset.

    `path` is a `.nsys-rep` or `.qdrep`, an SQLite export, a parquetdir folder, or a dataset (`….trace/`). All but the
    last are imported first, unless their dataset stands beside them already (`import_report` says where it is put, and
    what `layers`, `layer_pass`, `inference_range` and `group_by` are). A run directory whose report is gone is its
    dataset.

    `untraced` is a file with times of a run without the profiler: trtexec's `--exportTimes`, what a program wrote that
    timed itself, or another's `benchmark.parquet`. It stands for the untraced run of this trace, and the dataset stays
    as it is.

    Raises what `import_report` raises, InputError where `untraced` holds no such times, and DatasetError where a
    dataset is damaged or of another version.

    Example:
        >>> from nsight_tools import open_trace
        >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
        >>> trace
        <Trace detector_pageable.sqlite: 50 inferences, 6,500 kernels>
    """
    if not isinstance(path, (str, PathLike)):
        raise ArgumentError("open_trace takes the path of a report", path, hint="a trace that is open needs no opening")
    if untraced is not None and not isinstance(untraced, (str, PathLike)):
        raise ArgumentError("untraced is the path of a file with times", untraced)
    path = dataset_alone(Path(path)) or Path(path)
    times = read_untraced(Path(untraced)) if untraced is not None else None
    if not (path / MANIFEST).is_file():
        path = import_report(
            path,
            force=force,
            layers=layers,
            layer_pass=layer_pass,
            inference_range=inference_range,
            group_by=group_by,
            nsys=nsys,
            progress=progress,
        )
        pa.default_memory_pool().release_unused()  # what the import held is not what the analyses need
    elif any(option is not None for option in (layers, layer_pass, inference_range, group_by)):
        raise DatasetError(f"{path}: is imported already", hint="give the report that it was made from")
    trace = Trace(path, read_manifest(path))
    return trace if times is None else trace.with_untraced(times, Path(str(untraced)).name)


def as_trace(given: Trace | PathLike[str] | str, taker: str) -> Trace:
    """A trace as it is, and of a path the trace that stands there; `taker` is the function that was given it.

    Raises ArgumentError where it is neither, and what `open_trace` raises.
    """
    if isinstance(given, (str, PathLike)):
        return open_trace(Path(given))
    if not hasattr(given, "once"):  # what answers as a trace is one
        raise ArgumentError(f"{taker} takes a trace or the path of a report", given, hint="open_trace(path) gives one")
    return given


class Trace(Shown):
    """The tables of one dataset (`nsight_tools.tables` has their columns), as Arrow, pandas, or through SQL.

    A table that the report has no data for has no rows; `missing` tells why. Tables are read when first asked for and
    not kept, but for those that `table` is asked for again with the same columns while someone holds them.

    Example:
        >>> from nsight_tools import open_trace
        >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
        >>> trace.manifest["source"]["name"]
        'detector_pageable.sqlite'
        >>> trace
        <Trace detector_pageable.sqlite: 50 inferences, 6,500 kernels>
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        """What was imported: source, versions, machine, and each table's rows, status and reason."""
        self._given: Mapping[str, pa.Table] = {}
        self._made: dict[Callable[[Trace], Any], Any] = {}

    @classmethod
    def from_tables(cls, tables: Mapping[str, pa.Table], *, missing: Mapping[str, str] | None = None) -> Trace:
        """A trace in memory, of `tables` by name; all others are empty, for the reasons that `missing` gives.

        Example:
            >>> from nsight_tools import Trace
            >>> from nsight_tools.tables import TABLES
            >>> nothing = TABLES["kernels"].empty()
            >>> Trace.from_tables({"kernels": nothing}, missing={"gpu_metrics": "never sampled"}).missing("gpu_metrics")
            'never sampled'
        """
        for given, what in ((tables, "tables by name"), (missing or {}, "reasons by the name of a table, as missing")):
            if not isinstance(given, Mapping):
                raise ArgumentError(f"Trace.from_tables takes {what}", given)
        for name, table in tables.items():
            if not isinstance(table, pa.Table):
                raise ArgumentError(f"table {_known(name)} is a pyarrow.Table", table)
        states = {
            name: {
                "rows": tables[name].num_rows if name in tables else 0,
                "status": "not_collected" if name in (missing or {}) else "present" if name in tables else "empty",
                "reason": (missing or {}).get(name),
            }
            for name in TABLES
        }
        trace = cls(Path("in memory"), {"source": {"name": "in memory"}, "tables": states})
        trace._given = {name: _whole(name, table).cast(TABLES[name].schema) for name, table in tables.items()}
        return trace

    def with_untraced(self, rows: pa.Table, name: str) -> Trace:
        """This trace with another untraced run: rows of table `benchmark`, from a file of this name.

        Example:
            >>> from nsight_tools import open_trace
            >>> captured = open_trace("sample_traces/detector_pageable.capture")
            >>> traced = open_trace("sample_traces/detector_pageable.sqlite")
            >>> rows = captured.table("benchmark")
            >>> traced.with_untraced(rows, "times of another run").rows("benchmark") == rows.num_rows
            True
        """
        if not isinstance(rows, pa.Table):
            raise ArgumentError("with_untraced takes rows of table benchmark, as a pyarrow.Table", rows)
        mine = self.table("benchmark")
        traced = mine.filter(pc.invert(without_profiler(mine)))
        both = pa.concat_tables([traced, rows]).unify_dictionaries()
        state = {"rows": both.num_rows, "status": "present", "reason": None}
        tables = self.manifest["tables"] | {"benchmark": state}
        trace = Trace(self.path, {**self.manifest, "tables": tables, "untraced_file": name})
        trace._given = {**self._given, "benchmark": both}
        return trace

    def __repr__(self) -> str:
        rows = (f"{self.rows(name):,} {name}" for name in ("inferences", "kernels") if self.rows(name))
        return f"<Trace {': '.join(filter(None, (self.manifest['source']['name'], ', '.join(rows))))}>"

    def once(self, make: Callable[[Trace], Made]) -> Made:
        """What `make` makes of this trace: once, for all who ask for the same, and for as long as the trace is held.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> def kernels(of):
            ...     print("counted")
            ...     return of.rows("kernels")
            >>> trace.once(kernels), trace.once(kernels)
            counted
            (6500, 6500)
        """
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    def missing(self, table: str) -> str | None:
        """Why the report has no data for `table`; None where it has, or where it looked and there was nothing.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.missing("gpu_metrics")
            'capture with --gpu-metrics-devices=all (up to 2024.2 --gpu-metrics-device=all), with permission'
            >>> trace.missing("kernels") is None
            True
        """
        state = self.manifest["tables"].get(_known(table))
        reason: str | None = (
            state["reason"] if state else "the dataset was written by an older version; import it again"
        )
        return reason

    def lacking(self, table: str) -> CouldNotRun | None:
        """Why what needs `table` cannot be judged, to be raised: what `missing` says, with what would bring it as hint.

        Example:
            >>> from nsight_tools import open_trace
            >>> lacking = open_trace("sample_traces/classifier_whole_graph.sqlite").lacking("kernels")
            >>> lacking.message, lacking.hint
            ('the report traced 50 whole CUDA graphs, not their kernels', 'capture with --cuda-graph-trace=node')
        """
        if (reason := self.missing(table)) is None:
            return None
        remedy = self.manifest["tables"].get(table, {}).get("remedy", "")
        return CouldNotRun(reason.removesuffix(remedy).removesuffix("; "), hint=remedy)

    def rows(self, table: str) -> int:
        """How many rows `table` has.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.rows("kernels"), trace.rows("gpu_metrics")
            (6500, 0)
        """
        state = self.manifest["tables"].get(_known(table))
        return int(state["rows"]) if state else 0

    def table(self, name: str, columns: Iterable[str] | None = None, *, rows: int | None = None) -> pa.Table:
        """A table as Arrow, in the schema's order; words are dictionary-encoded, with one dictionary a column.

        `rows` reads no more than the first so many.
        Raises QueryError where there is no such table or column, or `rows` is no number of rows; ArgumentError where
        `columns` are no names.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.table("memory_ops", ["kind", "size_bytes"], rows=2).to_pylist()
            [{'kind': 'h2d', 'size_bytes': 19660800}, {'kind': 'memset', 'size_bytes': 4}]
        """
        schema = TABLES[_known(name)].schema
        if isinstance(columns, str) or not isinstance(columns, (Iterable, type(None))):
            raise ArgumentError("columns are names in a list, as ['start_ns']", columns)
        _check_rows(rows)
        wanted = list(columns) if columns is not None else schema.names
        for column in wanted:
            if column not in schema.names:
                raise QueryError(f"table {name} has no column {column}", hint=f"it has {', '.join(schema.names)}")
        if name in self._given:
            return self._given[name].select(wanted).slice(0, rows).unify_dictionaries()
        if not self.rows(name):
            return schema.empty_table().select(wanted)
        try:
            if rows is None:
                table = self._opened(name, wanted).read(wanted).select(wanted)
            else:
                table = self._scanned(name).head(rows, columns=wanted)
            table = table.cast(pa.schema([schema.field(column) for column in wanted])).unify_dictionaries()
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(name, error) from error
        return table

    def _opened(self, name: str, columns: Iterable[str]) -> pq.ParquetFile:
        """A table's file, whose words are read with their dictionary.

        Raises DatasetError where it has other rows than the manifest says, or more than memory may hold.
        """
        file = pq.ParquetFile(self._file(name), read_dictionary=_words(name, columns))
        rows = file.metadata.num_rows
        if rows != self.rows(name):
            raise self._damaged(name, f"{rows} rows, where the manifest says {self.rows(name)}")
        types = [TABLES[name].schema.field(column).type for column in columns]
        size = rows * sum(
            4 if pa.types.is_dictionary(t) else t.bit_width // 8 if pa.types.is_primitive(t) else 16 for t in types
        )
        if (problem := memory.too_much(size)) is not None:
            hint = f"ask for fewer columns, or {memory.ALLOW_MORE}"
            raise DatasetError(f"{self._file(name)}: with {len(types)} columns it {problem}", hint=hint)
        return file

    def numbers(self, name: str, column: str, dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
        """A column of integers as NumPy, shape (rows,), nulls as -1; beside it nothing of the table is held.

        Raises QueryError where there is no such table or column, or it holds words.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.numbers("inferences", "wall_ns").shape
            (50,)
            >>> trace.numbers("gpus", "sm_count")
            array([132])
        """
        if column in TABLES[_known(name)].names and _words(name, [column]):
            raise QueryError(f"column {column} of table {name} holds words, no numbers", hint="table() gives them")
        values = np.empty(self.rows(name), dtype)
        at = 0
        for batch in self._batches(name, column):
            part = batch.column(0)
            part = pc.fill_null(part, -1) if part.null_count else part
            values[at : at + len(part)] = part.to_numpy()
            at += len(part)
        return values

    def _batches(self, name: str, column: str) -> Iterator[pa.RecordBatch]:
        if name in self._given or not self.rows(name) or column not in TABLES[name].names:
            yield from self.table(name, [column]).to_batches()
            return
        try:
            yield from self._opened(name, [column]).iter_batches(BATCH_ROWS, columns=[column])
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(name, error) from error

    def frame(self, name: str, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """A table as pandas: words are categories, integers that can be null are nullable integers.

        pandas is no part of the light core: raises MissingPackageError where it is not installed. `table` gives the
        same as Arrow.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.frame("inferences", ["wall_ns", "compute_ns"]).head(2)
               wall_ns  compute_ns
            0  5473261     1776123
            1  5271897     1787769
        """
        need("pandas", "Trace.frame")
        import pandas as pd

        nullable = {pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
        table = self.table(name, columns)
        frame: pd.DataFrame = table.to_pandas()
        for field in table.schema:
            if field.nullable and field.type in nullable:
                frame[field.name] = table[field.name].to_pandas(types_mapper=nullable.get)
        return frame

    def sql(self, query: str, *, rows: int | None = None, seconds: float | None = None) -> pa.Table:
        """The result of a DuckDB query; every table of the dataset is a view.

        Nothing but the dataset's files can be read, and nothing can be written, not even what memory does not hold: it
        takes at most what `nsight_tools.memory.limit` says. `rows` gives no more than the first so many, and `seconds`
        is how long the query may take. Raises QueryError with DuckDB's own message where the query fails, and where one
        of these is no such number; ArgumentError where the query is no text.

        Example:
            >>> from nsight_tools import open_trace
            >>> trace = open_trace("sample_traces/detector_pageable.sqlite")
            >>> trace.sql("SELECT kind, count(*) AS n FROM memory_ops GROUP BY kind ORDER BY kind").to_pylist()
            [{'kind': 'd2h', 'n': 50}, {'kind': 'h2d', 'n': 50}, {'kind': 'memset', 'n': 50}]
            >>> trace.sql("SELECT start_ns FROM kernels", rows=2, seconds=10).num_rows
            2
        """
        import duckdb

        if not isinstance(query, str):
            raise ArgumentError("sql takes a query as text", query)
        _check_rows(rows)
        if seconds is not None and (not isinstance(seconds, (int, float)) or seconds <= 0):
            raise QueryError(f"seconds is a number above 0, not {seconds!r}")
        try:
            with _stopped(self._database, seconds):
                result = self._database.sql(query)
                result = result if result is None or rows is None else result.limit(rows)
                return pa.table({}) if result is None else result.to_arrow_table()
        except duckdb.InterruptException as error:
            if seconds is None:
                raise
            hint = "ask for less: fewer tables at once, or a part of the time"
            raise QueryError(f"the query took more than {seconds:g} s and was stopped", hint=hint) from error
        except duckdb.Error as error:
            raise QueryError(f"the query failed: {error}") from error

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        # Arrow reads the files: DuckDB itself could only be allowed to read them together with writing them.
        # What it may write for itself it may write for a query, too: it has no folder for what memory does not hold.
        config: dict[str, Any] = {"temp_directory": "", "memory_limit": f"{memory.limit() >> 20}MiB"}
        config |= dict.fromkeys(("autoinstall_known_extensions", "autoload_known_extensions"), "false")
        database = duckdb.connect(config=config)
        database.execute("SET enable_external_access = false")
        for name in TABLES:
            database.register(name, self._scanned(name) if self.rows(name) else self.table(name))
        database.execute("SET lock_configuration = true")
        return database

    def _scanned(self, name: str) -> pa.Table | ds.Dataset:
        """A table as DuckDB reads it: from its file, and only what a query asks for."""
        if name in self._given:
            return self.table(name)
        import pyarrow.dataset as ds

        words = _words(name, TABLES[name].names)
        reading = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=words))
        try:
            return ds.dataset(self._file(name), format=reading)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception | str) -> DatasetError:
        problem = f"{self._file(name)}: cannot be read: {str(error).splitlines()[0]}"
        return DatasetError(problem, hint="import the report again")

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.parquet"


@contextmanager
def _stopped(database: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt what `database` does when it has taken so long."""
    if seconds is None:
        yield
        return
    alarm = Timer(seconds, database.interrupt)
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _whole(name: str, rows: pa.Table) -> pa.Table:
    """Rows of a table that somebody made, numbered where they are not yet."""
    return rows if "row" in rows.column_names else TABLES[name].numbered(rows)


def _words(name: str, columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold words."""
    return [column for column in columns if pa.types.is_dictionary(TABLES[name].schema.field(column).type)]


def _check_rows(rows: int | None) -> None:
    if rows is not None and (not hasattr(rows, "__index__") or rows < 0):
        raise QueryError(f"rows is a whole number from 0 on, not {rows!r}")


def _known(table: str) -> str:
    if not isinstance(table, str) or table not in TABLES:
        raise QueryError(f"there is no table {table}", hint=f"the tables are {', '.join(TABLES)}")
    return table
