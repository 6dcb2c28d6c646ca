"""Every installed Nsight Systems: what it writes, what it reads of the others', and what of that reaches the dataset.

Each of them profiles each program, and each export of that report, by whichever version and in either form, has to give
the dataset that the newest version's SQLite export gives, but for what the older ones do not export (`lacking`).
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import inference_program
import nvtx_program
import pytest
from installed_nsys import OTHERS, installed, profile
from same_dataset import differing
from shared_corpus import REPOSITORY, once

from nsight_tools import analyze
from nsight_tools.errors import InputError, NsysError
from nsight_tools.importer import import_report
from nsight_tools.nsys import ExportKind, Nsys, report_version
from nsight_tools.report import nvtxt
from nsight_tools.report.content import TraceReport
from nsight_tools.summary import summarize
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.nsys

Case = TypeVar("Case")

# Under a Python for which only a newer nvtx has wheels, an older nsys would lose all that the programs mark.
INSTALLED = [nsys for nsys in installed() if not nsys.loses_python_nvtx(version("nvtx"))]
PROGRAMS = {"events": nvtx_program, "inferences": inference_program}
ROWS = {
    # program: what a trace of it must hold
    "events": {
        "nvtx_ranges": nvtx_program.EVENTS,
        "inferences": nvtx_program.THREADS * nvtx_program.INFERENCES_PER_THREAD,
    },
    "inferences": {
        "nvtx_ranges": inference_program.EVENTS,
        "inferences": sum(inference_program.INFERENCES.values()),
    },
}
SAMPLES = sorted((REPOSITORY / "sample_traces").glob("*.capture/report.nsys-rep"))
SAMPLES_BY = (2025, 3)
CAPTURE_OPTIONS_SINCE: dict[ExportKind, tuple[int, ...]] = {"sqlite": (2023, 3), "parquetdir": (2024, 2)}
"""The version whose exports begin to hold META_DATA_CAPTURE, which says what was to be traced."""
DIAGNOSTICS_SINCE = (2024, 2)


def kinds(nsys: Nsys) -> list[ExportKind]:
    return ["sqlite", "parquetdir"] if nsys.can("parquetdir") else ["sqlite"]


READS = [
    (writer, reader, kind)
    for writer, reader in product(INSTALLED, INSTALLED)
    for kind in kinds(reader)
    if reader.version >= writer.version
]
REFUSES = [(writer, reader) for writer, reader in product(INSTALLED, INSTALLED) if reader.version < writer.version]


def each(names: str, found: list[Case], why: str) -> pytest.MarkDecorator:
    """A test for each of the cases; where there are none, one that skips and says why."""
    nothing = pytest.param(*[None] * len(names.split(",")), marks=pytest.mark.skip(reason=why))
    return pytest.mark.parametrize(names, found or [nothing], ids=_id)


def _id(value: object) -> str | None:
    if isinstance(value, Nsys):
        return str(value.version)
    return value.parent.stem if isinstance(value, Path) else None


each_reading = each("writer,reader,kind", READS, "no nsys here")
each_refusal = each("writer,reader", REFUSES, f"no nsys here that is older than another; name more in {OTHERS}")
each_nsys = each("nsys", INSTALLED, "no nsys here")
each_program = pytest.mark.parametrize("program", PROGRAMS)


def lacking(nsys: Nsys, kind: ExportKind) -> set[str]:
    """What of the dataset an export by this version does not hold."""
    since = {"diagnostics": DIAGNOSTICS_SINCE, "capture": CAPTURE_OPTIONS_SINCE[kind]}
    return {what for what, version in since.items() if nsys.version < version}


@pytest.fixture(scope="session")
def report(session_folder: Path) -> Callable[[Nsys, str], Path]:
    """Gives the report that a version writes of a program, profiled once a session."""

    def get(writer: Nsys, program: str) -> Path:
        run, events = [sys.executable, PROGRAMS[program].__file__], ROWS[program]["nvtx_ranges"]
        suffix = ".nsys-rep" if writer.version >= (2021, 4) else ".qdrep"
        target = session_folder / "profiled" / str(writer.version) / f"{program}{suffix}"
        return once(target, lambda made: profile(writer, made, run, events))

    return get


@pytest.fixture(scope="session")
def exported(session_folder: Path, report: Callable[[Nsys, str], Path]) -> Callable[..., Trace]:
    """Gives the trace of a version's report, exported by another version, in one form or the other."""

    def get(writer: Nsys, program: str, reader: Nsys, kind: ExportKind) -> Trace:
        source = report(writer, program)
        target = session_folder / "exported" / str(writer.version) / str(reader.version) / f"{program}.{kind}"
        return open_trace(once(target, lambda made: reader.export(source, made, kind=kind)))

    return get


@each_program
@each_reading
def test_every_export_gives_one_dataset(
    writer: Nsys, reader: Nsys, kind: ExportKind, program: str, exported: Callable[..., Trace]
) -> None:
    trace = exported(writer, program, reader, kind)
    assert {table: trace.rows(table) for table in ROWS[program]} == ROWS[program]
    assert trace.manifest["nsys"]["version"] == str(reader.version)
    newest = exported(writer, program, INSTALLED[-1], "sqlite")
    lacks = lacking(reader, kind) - lacking(INSTALLED[-1], "sqlite")
    different = differing(trace, newest)
    assert different.keys() == lacks, different
    if "diagnostics" in lacks:
        assert trace.missing("diagnostics") == "export with Nsight Systems 2024.2 or newer"
    if "capture" in lacks:
        assert set(trace.manifest["capture"].values()) == {None}
    elif newest.manifest["capture"]["nvtx_trace"]:
        assert trace.manifest["capture"]["nvtx_trace"] == "true"
    if not lacks:
        assert analyze(trace) == analyze(newest)


@each_program
@each_nsys
def test_a_report_is_what_its_export_is(
    nsys: Nsys, program: str, report: Callable[[Nsys, str], Path], exported: Callable[..., Trace], tmp_path: Path
) -> None:
    copy = Path(shutil.copy(report(nsys, program), tmp_path))
    trace = open_trace(copy, nsys=nsys.path)
    assert differing(trace, exported(nsys, program, nsys, kinds(nsys)[-1])) == {}
    assert report_version(copy) in {nsys.version, None}  # not every one names itself
    assert trace.manifest["source"]["captured_by"] in {str(nsys.version), None}


@each_nsys
def test_processes_of_the_program(nsys: Nsys, exported: Callable[..., Trace]) -> None:
    trace = exported(nsys, "inferences", nsys, "sqlite")
    counts = trace.sql("select count(*) as count from inferences group by pid, tid order by count").to_pylist()
    assert [row["count"] for row in counts] == sorted(inference_program.INFERENCES.values())
    phases = trace.sql("select name, count(*) as count from nvtx_ranges where depth = 1 group by all").to_pylist()
    assert {row["name"]: row["count"] for row in phases} == dict.fromkeys(
        inference_program.PHASES, ROWS["inferences"]["inferences"]
    )


def refuses(reader: Nsys, source: Path, folder: Path, version: object) -> None:
    """A report that is newer than an nsys: said so, with what to do, and nothing is left."""
    known = f"captured by Nsight Systems {version}, newer than the nsys at .*{reader.version}.*name an nsys {version}"
    unknown = rf"{reader.version}\) does not know its format.*a newer Nsight Systems captured it.*name a newer nsys"
    for kind in kinds(reader):
        with pytest.raises(NsysError, match=f"{known}|{unknown}"):
            reader.export(source, folder / "export", kind=kind)
    with pytest.raises(NsysError, match=f"{known}|{unknown}"):
        import_report(source, folder, nsys=reader.path)
    assert list(folder.iterdir()) == []


@each_refusal
def test_a_newer_report_is_refused(
    writer: Nsys, reader: Nsys, report: Callable[[Nsys, str], Path], tmp_path: Path
) -> None:
    refuses(reader, report(writer, "events"), tmp_path, writer.version)


@each_nsys
@pytest.mark.parametrize("sample", SAMPLES, ids=_id)
def test_sample_reports(nsys: Nsys, sample: Path, tmp_path: Path) -> None:
    """They name no version: one of 2025.3 or newer reads them, any other says that they are newer than it is."""
    given = tmp_path / "given"
    given.mkdir()
    source = Path(shutil.copy(sample, given))
    if nsys.version < SAMPLES_BY:
        refused = tmp_path / "refused"
        refused.mkdir()
        refuses(nsys, source, refused, "")
        return
    trace = open_trace(source, nsys=nsys.path)
    beside = open_trace(shutil.copy(sample.with_suffix(".sqlite"), given / "beside.sqlite"))
    scrubbed = {"threads", "diagnostics"}
    assert differing(trace, beside).keys() <= scrubbed | lacking(nsys, "parquetdir")


@each_nsys
@pytest.mark.parametrize("damage", ["cut short", "only a header", "garbage", "overwritten"])
def test_a_damaged_report(damage: str, nsys: Nsys, report: Callable[[Nsys, str], Path], tmp_path: Path) -> None:
    content = report(nsys, "events").read_bytes()
    damaged = {
        "cut short": content[: len(content) // 2],
        "only a header": content[:200],
        "garbage": bytes(range(256)) * 400,
        "overwritten": content[:-4000] + bytes(4000),
    }[damage]
    path = tmp_path / "damaged.nsys-rep"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="not an Nsight Systems" if damage == "garbage" else "corrupt or cut short"):
        nsys.export(path, tmp_path / "export")
    assert list(tmp_path.iterdir()) == [path]


@each_nsys
def test_a_report_takes_every_event(nsys: Nsys, report: Callable[[Nsys, str], Path], tmp_path: Path) -> None:
    """The whole way: analyses, text events, ImportNvtxt; its count is ours, and the result is a report."""
    copy = Path(shutil.copy(report(nsys, "events"), tmp_path))
    trace = open_trace(copy, nsys=nsys.path, inference_range="inference@app")
    text, count = nvtxt.render(TraceReport(copy.name, summarize(trace), analyze(trace)), trace)
    assert trace.rows("inferences") == nvtx_program.THREADS * nvtx_program.INFERENCES_PER_THREAD
    assert count > 2 * nvtxt.SLOWEST
    annotated = tmp_path / "annotated.nsys-rep"
    try:
        taken = nsys.import_nvtxt(copy, text, annotated)
    except NsysError as error:
        if "brings no ImportNvtxt" in error.message:
            pytest.skip(error.message)
        raise
    assert taken == count
    assert report_version(annotated) == report_version(copy)
    again, before = (
        open_trace(nsys.export(each, tmp_path / f"{each.stem}.sqlite", kind="sqlite")) for each in (annotated, copy)
    )
    different = differing(again, before)
    assert different.keys() <= {"threads", "diagnostics", "nvtx_ranges"}, different
    ranges = f"""select * replace (case when name not in {nvtx_program.NEVER_ENDS} then end_ns end as end_ns)
        from nvtx_ranges"""  # which end nsys makes up for the others is not always the same in the two
    assert again.sql(ranges).to_pylist() == before.sql(ranges).to_pylist()
    with pytest.raises(InputError, match="several targets"):
        nsys.import_nvtxt(annotated, text, tmp_path / "twice.nsys-rep")
