"""One dataset of many reports: a folder for each table, in it one for each report, as Hive lays them out.

    FOLDER/kernels/report=rank0/part-0.parquet
    FOLDER/inferences/report=rank0/part-0.parquet
    FOLDER/reports.parquet       a row for each report: what it is, its typical inference, or why it failed
    FOLDER/findings.parquet      a row for each finding

DuckDB, pandas and Dask read `FOLDER/kernels` as one table with a column `report`. Tables are linked where the file
system can, and copied where it cannot. A folder appears whole or not at all; at a URL, reports.parquet comes last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nsight_tools.errors import OutputError
from nsight_tools.files import put_in_place
from nsight_tools.fleet import remote
from nsight_tools.fleet.members import RESULT
from nsight_tools.fleet.numbers import QUANTITIES
from nsight_tools.fleet.results import Done, Result
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.trace import Trace

REPORTS = RESULT
FINDINGS = "findings.parquet"
_MARK = ".fleet"
"""Stands in a folder that is being filled: a worker that does not see it writes to another machine's disk."""


@contextlib.contextmanager
def opened(target: str | None) -> Iterator[str | None]:
    """Give where tasks put their tables, `finish` it there, and have it in place at the block's end.

    Nothing stays where the block fails. Raises OutputError where `target` cannot be written, or is a folder that is no
    fleet's dataset.
    """
    if target is None:
        yield None
        return
    if remote.is_url(target):
        if remote.exists(target) and not remote.exists(f"{target.rstrip('/')}/{REPORTS}"):
            raise OutputError(target, "is there, and no dataset of a fleet", hint="name another one")
        remote.remove(target)
        try:
            yield target.rstrip("/")
        except BaseException:
            remote.remove(target)
            raise
        return
    folder = Path(target).absolute()
    if os.path.lexists(folder) and not _replaceable(folder):
        raise OutputError(target, "is there, and no dataset of a fleet", hint="name another folder")
    with _errors(target):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        (partial / _MARK).touch()
    try:
        yield str(partial)
        with _errors(target):
            (partial / _MARK).unlink()
            partial.chmod(0o755)
            put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _errors(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(target, f"cannot be written: {error.strerror or error}") from error


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / REPORTS).is_file() or not any(folder.iterdir()))


def add(dataset: str, label: str, trace: Trace) -> None:
    """Put a report's tables into the fleet's dataset. Once more, they replace what is there."""
    if not remote.is_url(dataset) and not (Path(dataset) / _MARK).is_file():
        raise OutputError(dataset, "is not seen by this worker", hint="name a folder that all workers share, or a URL")
    for name in TABLES:
        file = trace.path / f"{name}.parquet"
        if not file.is_file():
            continue
        place = f"{name}/report={label}/part-0.parquet"
        if remote.is_url(dataset):
            remote.put(file, f"{dataset}/{place}")
        else:
            _link(file, Path(dataset) / place)


def _link(file: Path, to: Path) -> None:
    """A second name for a file, or a copy of it, that is whole as soon as it is there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    new = to.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        try:
            os.link(file, new)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, new)
        new.replace(to)
    finally:
        new.unlink(missing_ok=True)  # a rename between two names of one file does nothing, and leaves both


def finish(dataset: str | None, results: Sequence[Result]) -> None:
    """Write the tables of reports and findings; what a report that failed has put there goes."""
    if dataset is None:
        return
    for result in results:
        if not isinstance(result, Done):
            _drop(dataset, result.member.label)
    for name, rows, schema in ((FINDINGS, _findings(results), FINDINGS_SCHEMA), (REPORTS, _reports(results), _SCHEMA)):
        table = pa.Table.from_pylist(rows, schema)
        if not remote.is_url(dataset):
            pq.write_table(table, Path(dataset) / name, compression="zstd")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            pq.write_table(table, Path(scratch) / name, compression="zstd")
            remote.put(Path(scratch) / name, f"{dataset}/{name}")


def _drop(dataset: str, label: str) -> None:
    for name in TABLES:
        place = f"{dataset}/{name}/report={label}"
        if remote.is_url(dataset):
            remote.remove(place)
        else:
            shutil.rmtree(place, ignore_errors=True)


_WORD = pa.string()
_SCHEMA = pa.schema(
    [
        pa.field("report", _WORD, nullable=False, metadata={"meaning": "label, as in the tables' folders"}),
        pa.field("rank", pa.int64(), metadata={"meaning": "rank, where it is known"}),
        pa.field("host", _WORD, metadata={"meaning": "host, where it is known"}),
        pa.field("source", _WORD, nullable=False, metadata={"meaning": "path or URL, as it was given"}),
        pa.field("failed", _WORD, metadata={"meaning": "why nothing came of it; null where something did"}),
        pa.field("gpus", _WORD, metadata={"meaning": "names of the GPUs that worked"}),
        pa.field("session_utc_ns", pa.int64(), metadata={"meaning": "when its session began, nanoseconds since 1970"}),
        pa.field("inferences", pa.int64(), metadata={"meaning": "inferences, without warm-up"}),
        *(
            pa.field(f"{name}_ns", pa.float64(), metadata={"meaning": f"{name} of the typical inference, nanoseconds"})
            for name in QUANTITIES
        ),
    ]
)
FINDINGS_SCHEMA = pa.schema(
    [
        pa.field("report", _WORD, nullable=False, metadata={"meaning": "label"}),
        pa.field("code", _WORD, nullable=False, metadata={"meaning": "analysis"}),
        pa.field("severity", _WORD, nullable=False, metadata={"meaning": "error, warning or info"}),
        pa.field("confidence", _WORD, nullable=False, metadata={"meaning": "high, medium or low"}),
        pa.field("message", _WORD, nullable=False, metadata={"meaning": "what was seen"}),
        pa.field("cause", _WORD, metadata={"meaning": "why"}),
        pa.field("recommendation", _WORD, metadata={"meaning": "what to change"}),
        pa.field("recoverable_ns", pa.int64(), metadata={"meaning": "at most, over the whole trace"}),
        pa.field("recoverable_ns_per_inference", pa.int64(), metadata={"meaning": "at most, for one inference"}),
    ]
)


def _reports(results: Sequence[Result]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        member = result.member
        row: dict[str, Any] = {"report": member.label, "rank": member.rank, "host": member.host}
        row["source"] = _text(member.source)
        if not isinstance(result, Done):
            rows.append(row | {"failed": _text(result.because)})
            continue
        row["gpus"] = ", ".join(_text(gpu.get("name") or "unnamed GPU") for gpu in result.report.summary.gpus)
        if numbers := result.numbers:
            row |= {"session_utc_ns": numbers.began_utc_ns, "inferences": numbers.inferences}
            row |= {f"{name}_ns": value for name, value in zip(QUANTITIES, numbers.typical, strict=True)}
        rows.append(row)
    return rows


def _findings(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {"report": result.member.label}
        | {name: _text(getattr(finding, name)) for name in ("code", "message", "cause", "recommendation")}
        | {name: getattr(finding, name).value for name in ("severity", "confidence")}
        | {name: getattr(finding, name) for name in ("recoverable_ns", "recoverable_ns_per_inference")}
        for result in results
        if isinstance(result, Done)
        for finding in result.report.all_findings
    ]


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
