"""Broken and incomplete exports: a one-line error and nothing left behind, or a trace that says what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsight_tools.errors import NsightToolsError
from nsight_tools.importer import import_report
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.corpus

ERRORS = {
    # file: what its error must speak of
    "empty_0_bytes": ("empty",),
    "truncated": ("truncated", "damaged"),
    "header_only_garbage": ("truncated", "damaged"),
    "git_lfs_pointer": ("Git LFS",),
    "not_nsys": ("no table of Nsight Systems",),
    "no_stringids_table": ("StringIds",),
    "kernel_table_without_streamId": ("CUPTI_ACTIVITY_KIND_KERNEL", "streamId"),
}
ALL_OF = {"no_stringids_table", "kernel_table_without_streamId"}
IMPORTED = (
    "ok_3_inferences",
    "kernel_table_empty",
    "kernel_table_without_correlationId",
    "only_nvtx",
    "runtime_empty",
    "non_utf8_stringids",
    "open_ranges",
)


@pytest.fixture
def negative(corpus: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Gives a copy of a negative file, in a folder where it is alone."""

    def get(name: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        return Path(shutil.copyfile(corpus / "negative" / f"{name}.sqlite", folder / f"{name}.sqlite"))

    return get


@pytest.fixture
def opened(negative: Callable[[str], Path]) -> Callable[[str], Trace]:
    return lambda name: open_trace(negative(name))


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-c", "from nsight_tools.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_says(text: str, name: str) -> None:
    """One line without a traceback, that names the file and what is wrong with it."""
    assert len(text.splitlines()) == 1, text
    assert f"{name}.sqlite" in text
    assert "Traceback" not in text
    assert "Error:" not in text.replace(f"{name}.sqlite", "").partition(":")[2], "no class name of an exception"
    assert (all if name in ALL_OF else any)(words in text for words in ERRORS[name]), text


def test_every_negative_file_is_tested(corpus: Path) -> None:
    assert {path.stem for path in (corpus / "negative").glob("*.sqlite")} == {*ERRORS, *IMPORTED}


@pytest.mark.parametrize("beside", [True, False], ids=["beside the export", "to a folder"])
@pytest.mark.parametrize("name", ERRORS)
def test_error(negative: Callable[[str], Path], tmp_path: Path, name: str, beside: bool) -> None:
    export = negative(name)
    output = None if beside else tmp_path / "out"
    with pytest.raises(NsightToolsError) as raised:
        import_report(export, output)
    assert_says(str(raised.value), name)
    assert raised.value.exit_code == 2
    assert raised.value.hint
    assert [path.name for path in export.parent.iterdir()] == [export.name]
    assert beside or not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("command", ["import", "analyze"])
@pytest.mark.parametrize("name", ERRORS)
def test_error_of_the_command(negative: Callable[[str], Path], name: str, command: str) -> None:
    export = negative(name)
    done = tool(command, export)
    assert done.returncode == 2
    assert done.stdout == ""
    assert_says(done.stderr.rstrip("\n"), name)
    assert [path.name for path in export.parent.iterdir()] == [export.name]


@pytest.mark.parametrize("name", IMPORTED)
def test_command_judges_what_it_can(negative: Callable[[str], Path], name: str) -> None:
    done = tool("analyze", negative(name))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def status(trace: Trace, table: str) -> str:
    return str(trace.manifest["tables"][table]["status"])


def nulls(trace: Trace, table: str, column: str) -> int:
    return int(trace.table(table, columns=[column]).column(column).null_count)


def test_the_valid_base(opened: Callable[[str], Trace]) -> None:
    trace = opened("ok_3_inferences")
    assert trace.table("kernels").num_rows == 300
    assert trace.table("inferences").num_rows == 3
    assert nulls(trace, "launches", "api_call") == 0
    assert trace.missing("kernels") is None


def test_kernel_table_without_rows(opened: Callable[[str], Trace]) -> None:
    """Launches are there, so there must have been kernels: they were lost, and the GPU was not idle."""
    trace = opened("kernel_table_empty")
    assert trace.table("kernels").num_rows == 0
    assert status(trace, "kernels") == "not_collected"
    assert "300 launches" in str(trace.missing("kernels"))
    assert status(trace, "memory_ops") == "present"
    assert set(trace.table("launches").column("work").to_pylist()) == {"copy"}
    inferences = trace.table("inferences")
    assert inferences.column("kernels").to_pylist() == [0, 0, 0]
    assert inferences.column("compute_ns").to_pylist() == [0, 0, 0]


def test_kernels_that_cannot_be_joined_to_calls(opened: Callable[[str], Trace]) -> None:
    trace = opened("kernel_table_without_correlationId")
    assert nulls(trace, "kernels", "correlation_id") == trace.table("kernels").num_rows == 300
    launches = trace.frame("launches")
    kernels = launches[launches["work"] == "kernel"]
    assert len(kernels) == 300
    assert kernels["api_call"].isna().all()
    assert kernels["layer"].isna().all()
    assert launches[launches["work"] == "copy"]["api_call"].notna().all()


def test_ranges_alone(opened: Callable[[str], Trace]) -> None:
    trace = opened("only_nvtx")
    assert trace.table("nvtx_ranges").num_rows > 0
    for table in ("kernels", "memory_ops", "api_calls", "synchronizations", "launches"):
        assert trace.table(table).num_rows == 0
        assert status(trace, table) == "not_collected", table
        assert trace.missing(table), table
    inferences = trace.table("inferences")
    assert inferences.num_rows == 3
    assert inferences.column("compute_ns").to_pylist() == [0, 0, 0]
    assert inferences.column("launch_ns").to_pylist() == [0, 0, 0]


def test_kernels_without_any_call(opened: Callable[[str], Trace]) -> None:
    trace = opened("runtime_empty")
    assert trace.table("kernels").num_rows == 300
    assert trace.table("api_calls").num_rows == 0
    launches = trace.table("launches")
    assert launches.num_rows == 306
    for column in ("api_call", "call_start_ns", "call_end_ns", "nvtx_range", "layer"):
        assert launches.column(column).null_count == 306, column
    assert set(trace.table("synchronizations").column("kind").to_pylist()) <= {"stream", "context"}


def test_name_that_is_not_utf8(opened: Callable[[str], Trace], negative: Callable[[str], Path]) -> None:
    damaged = opened("non_utf8_stringids")
    whole = open_trace(negative("ok_3_inferences"))
    for column in ("name", "short_name"):
        found, right = (t.table("kernels").column(column).to_pylist() for t in (damaged, whole))
        differ = {a for a, b in zip(found, right, strict=True) if a != b}
        assert all("�" in name for name in differ)
    names = (
        damaged.table("kernels").column("name").to_pylist() + damaged.table("kernels").column("short_name").to_pylist()
    )
    assert any("�" in name for name in names)


def test_ranges_that_never_end(opened: Callable[[str], Trace], negative: Callable[[str], Path]) -> None:
    trace = opened("open_ranges")
    whole = open_trace(negative("ok_3_inferences"))
    ranges = trace.frame("nvtx_ranges")
    assert len(ranges) == whole.table("nvtx_ranges").num_rows
    unfinished = ranges["end_ns"].isna()
    assert unfinished.sum() > 0
    assert trace.table("kernels").equals(whole.table("kernels"))
    finished = int(((ranges["name"] == "inference") & ~unfinished).sum())
    assert finished == 2
    assert trace.table("inferences").slice(0, finished).equals(whole.table("inferences").slice(0, finished))
