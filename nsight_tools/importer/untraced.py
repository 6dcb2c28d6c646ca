"""Times of a run without the profiler, as rows of table `benchmark`: what a program, trtexec or a capture wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools import self_timing
from nsight_tools.errors import InputError
from nsight_tools.importer import trtexec
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.importer.writer import cast_to
from nsight_tools.tables import TABLES
from nsight_tools.timeline.populations import marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nsight_tools.columns import Bools, Ints

_UNTRACED = "^(benchmark(_[0-9]+)?|throughput|warm_up|program)$"
"""Values of `run` that are no traced run."""
RESOLVED = 0.05
"""A time is taken from two moments of trtexec where their last digit is no more than this share of it."""
_KINDS = (
    "give trtexec's --exportTimes, a benchmark.parquet, or what a program wrote that ran with "
    f"{self_timing.VARIABLE}=times.json"
)
_NS_PER_MS = 1e6
_MOST = 1 << 62
_MOST_MS = 1e12
"""What is more than 30 years is no time of an inference."""
_SCHEMA = TABLES["benchmark"].schema


def read(path: Path) -> pa.Table:
    """The untraced run in a file that somebody names. Raises InputError where there is none in it."""
    if path.is_dir():
        raise InputError(path, "is a folder", hint="name a file in it, as benchmark.parquet")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}", hint=_KINDS) from error
    rows = of_parquet(path) if is_parquet else of_json([path])
    rows = rows.filter(without_profiler(rows))
    if not rows.num_rows:
        raise InputError(path, "holds no inference without the profiler", hint=_KINDS)
    return rows


def without_profiler(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows of table `benchmark` are of no traced run."""
    return pc.match_substring_regex(rows["run"].cast(pa.string()), _UNTRACED)


def of_parquet(path: Path) -> pa.Table:
    """The rows that a dataset or a run directory holds; those of the latter are the runner's. Raises InputError."""
    try:
        rows = pq.read_table(path)
        if "measured_by" not in rows.column_names:
            rows = by_runner(rows)
        missing = [name for name in _SCHEMA.names if name not in rows.column_names]
        if missing:
            raise InputError(path, f"has no column {missing[0]}: it is no benchmark.parquet", hint=_KINDS)
        return cast_to(rows.select(_SCHEMA.names), _SCHEMA)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(path, f"is no benchmark.parquet: {str(error).splitlines()[0]}", hint=_KINDS) from error


def by_runner(rows: pa.Table) -> pa.Table:
    """What a capture's runner wrote, with the column that says so."""
    return rows.append_column("measured_by", pa.array(["runner"] * rows.num_rows, pa.string()))


def of_json(paths: Sequence[Path]) -> pa.Table:
    """The rows of what one run left as JSON: trtexec's file, or one of each process that timed itself.

    Those before it was steady are called its warm-up. Raises InputError where a file is neither.
    """
    columns: dict[str, list[Any]] = {name: [] for name in self_timing.COLUMNS}
    threads: list[tuple[int, Any]] = []
    by_events = False
    for path in paths:
        value = _parsed(path)
        if not (isinstance(value, dict) and self_timing.FORMAT in value):
            return _of_trtexec(path)
        checked = _checked(path, value)
        by_events |= any(time is not None for time in checked["gpu_ns"])
        threads += [(value.get("pid", 0), thread) for thread in checked.pop("thread")]
        for name, values in checked.items():
            columns[name] += values
    numbers = {thread: at for at, thread in enumerate(dict.fromkeys(threads))}
    columns["thread"] = [numbers[thread] for thread in threads]
    columns["inference"] = columns.pop("number")
    columns["stream"] = columns["thread"]
    return _rows(columns, "benchmark", "cuda_events" if by_events else "host_clock")


def of_process(seconds: float) -> pa.Table:
    """The row of a program that was timed as a whole."""
    took = round(seconds * 1e9)
    values = {"inference": [0], "start_ns": [0], "wall_ns": [took], "thread": [0], "stream": [0]}
    return _rows(values, "program", "process")


def _parsed(path: Path) -> Any:
    try:
        return parsed(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no JSON: {error}", hint=_KINDS) from error


def _checked(path: Path, value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns of a program's own times. Raises InputError where it wrote others."""
    if value[self_timing.FORMAT] != self_timing.VERSION:
        raise InputError(path, "was written by another version of nsight-tools", hint="time the program again")
    columns: Any = value.get("columns")
    known = isinstance(columns, dict) and all(isinstance(columns.get(name), list) for name in self_timing.COLUMNS)
    if not known or len({len(columns[name]) for name in self_timing.COLUMNS}) != 1:
        raise InputError(path, "is damaged: its columns are no lists of one length", hint="time the program again")
    for name in self_timing.COLUMNS:
        nullable = name in _SCHEMA.names and _SCHEMA.field(name).nullable
        least = 0 if name.endswith("_ns") else -_MOST
        for value_of_row in columns[name]:
            if not (type(value_of_row) is int and least <= value_of_row <= _MOST) and not (
                nullable and value_of_row is None
            ):
                raise InputError(
                    path, f"is damaged: {name} holds {value_of_row!r}"[:200], hint="time the program again"
                )
    return {name: list(columns[name]) for name in self_timing.COLUMNS}


def _of_trtexec(path: Path) -> pa.Table:
    """The rows of trtexec's `--exportTimes`.

    A moment has six digits, so that those of a long run are coarse: what they do not resolve is left out, and the wall
    is then copies and compute together, without what lies between them.
    """
    times = trtexec.read(path, trtexec.Times).inferences

    def column(name: str) -> Any:
        values = np.array([getattr(time, name) for time in times], np.float64)  # None becomes NaN
        return np.where(np.abs(values) < _MOST_MS, values, np.nan)

    start_h2d, start_enqueue, end_enqueue, end = map(
        column, ("start_h2d_ms", "start_enqueue_ms", "end_enqueue_ms", "end_d2h_ms")
    )
    latency, start = column("latency_ms"), np.fmin(start_h2d, start_enqueue)
    start, end = np.fmin(start, column("start_compute_ms")), np.fmax(end, column("end_compute_ms"))
    whole = _resolved(end - start, end)
    wall = latency if whole is None else whole
    if np.isnan(start).any() or np.isnan(wall).any():
        raise InputError(path, "lacks when inferences begin and end", hint=trtexec.Times.how)
    enqueue = _resolved(end_enqueue - start_enqueue, end)
    times_by_name = {
        "start_ns": start - start.min(),
        "wall_ns": wall,
        "enqueue_ns": enqueue,
        "gpu_ns": _resolved(end - start_h2d, end),
        **{f"{name}_ns": column(f"{name}_ms") for name in ("h2d", "compute", "d2h")},
    }
    columns = {name: _nanoseconds(values) for name, values in times_by_name.items() if values is not None}
    zeros = [0] * len(times)
    return _rows(columns | {"thread": zeros, "stream": zeros}, "benchmark", "trtexec")


def _resolved(times: Any, moments: Any) -> Any:
    """Times between moments of six digits, ms, shape (n,); None where these are too coarse for them, or absent."""
    latest = np.nanmax(moments) if not np.isnan(moments).all() else np.nan
    digit = 10.0 ** (np.floor(np.log10(max(latest, 1.0))) - 5)
    return times if not np.isnan(times).any() and digit <= RESOLVED * np.median(times) else None


def _nanoseconds(ms: Any) -> list[int | None]:
    return [None if np.isnan(time) else max(round(time * _NS_PER_MS), 0) for time in ms.tolist()]


def _rows(columns: Mapping[str, Iterable[Any]], run: str, measured_by: str) -> pa.Table:
    """Rows of the table, in order of start and from the first one on; those before it was steady are its warm-up."""
    start = np.array(columns["start_ns"], np.int64)
    order, count = np.argsort(start, kind="stable"), len(start)
    arrays = {name: pa.array(list(values)).take(pa.array(order)) for name, values in columns.items()}
    arrays["start_ns"] = pa.array(start[order] - start.min(initial=0 if not count else start[0]))
    number = arrays.get("inference")
    if number is None or max(map(abs, number.to_pylist()), default=0) >= 1 << 31:
        arrays["inference"] = pa.array(range(count), pa.int32())
    runs = np.full(count, run, object)
    if run == "benchmark":
        thread, wall = (np.asarray(arrays[name], np.int64) for name in ("thread", "wall_ns"))
        runs[_warm_up(thread, wall)] = "warm_up"
    words = {"run": pa.array(runs, pa.string()), "measured_by": pa.array([measured_by] * count, pa.string())}
    nothing = pa.nulls(count)
    table = pa.table({name: words.get(name, arrays.get(name, nothing)) for name in _SCHEMA.names})
    return cast_to(table, _SCHEMA)


def _warm_up(thread: Ints, wall: Ints) -> Bools:
    """Those that lead their thread and are far slower than what follows, shape (n,), in order of start."""
    alike = np.zeros(len(wall), np.int64)
    leads: Bools = marks(thread, alike, alike, wall) == "warm_up"
    return leads
