from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from nsight_tools.report.formats import TRACE
from nsight_tools.report.formats.json import trace as machine

if TYPE_CHECKING:
    from cli.harness import Run


def test_text_goes_to_standard_output_and_nothing_to_standard_error(run: Run) -> None:
    result = run("analyze", "warm.sqlite")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "warm.sqlite\nAsynchronous copies use pageable host memory; that costs at most 1.20 of 3.85 ms"
    )
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("stem", "statuses"),
    [("hot", (1, 1, 1, 0)), ("warm", (0, 1, 1, 0)), ("mild", (0, 0, 1, 0)), ("fine", (0, 0, 0, 0))],
)
def test_fail_on_is_a_ladder(run: Run, stem: str, statuses: tuple[int, ...]) -> None:
    levels = ("error", "warning", "info", "never")
    assert tuple(run("analyze", f"{stem}.sqlite", "--fail-on", level).exit_code for level in levels) == statuses


def test_one_input_that_fails_leaves_the_others(run: Run) -> None:
    result = run("analyze", "broken.sqlite", "warm.sqlite", "--jobs", 1, "--format", "json", "--fail-on", "info")
    assert result.exit_code == 2
    assert result.stderr == "nsight-tools: error: broken.sqlite: is no SQLite database; export the report again\n"
    said = json.loads(result.stdout)
    Draft202012Validator(machine.schema()).validate(said)
    assert [trace["source"] for trace in said["traces"]] == ["warm.sqlite"]
    assert [(each["label"], each["trace"], each["failed"]) for each in said["fleet"]["reports"]] == [
        ("broken", None, "error: broken.sqlite: is no SQLite database; export the report again"),
        ("warm", 0, None),
    ]


def test_several_inputs_are_laid_beside_each_other(run: Run) -> None:
    result = run("analyze", "warm.sqlite", "fine.sqlite", "--jobs", 1, "--format", "markdown")
    assert [line for line in result.stdout.splitlines() if line.startswith("#")] == ["## nsight-tools: many reports"]
    assert "| at most 1.20 ms (31 %) | 1 of 2 |" in result.stdout
    assert "| warning | PCI001 |" in result.stdout


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("text", "Could be judged in no report what would tell, and about what No GPU metrics were collected whether"),
        ("markdown", "**Could be judged in no report** - No GPU metrics were collected: - The GPU clock drops"),
        ("html", "<h2>Could be judged in no report</h2>"),
    ],
)
def test_what_no_report_could_judge_stands_by_what_would_tell(run: Run, form: str, said: str) -> None:
    page = run("analyze", "warm.sqlite", "fine.sqlite", "--jobs", 1, "--format", form).stdout
    assert said in " ".join(page.split())


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_every_input_gets_its_section_where_asked(run: Run, form: str) -> None:
    together = run("analyze", "warm.sqlite", "fine.sqlite", "--jobs", 1, "--format", form).stdout
    each = run("analyze", "warm.sqlite", "fine.sqlite", "--jobs", 1, "--format", form, "--each").stdout
    assert each.startswith(together)
    for name in ("warm.sqlite", "fine.sqlite"):
        assert run("analyze", name, "--format", form).stdout in each


def test_one_input_has_no_fleet(run: Run) -> None:
    assert list(json.loads(run("analyze", "warm.sqlite", "--format", "json").stdout)) == ["schema", "tool", "traces"]


def test_fail_on_holds_for_any_of_several(run: Run) -> None:
    assert run("analyze", "fine.sqlite", "warm.sqlite", "--jobs", 1, "--fail-on", "warning").exit_code == 1
    assert run("analyze", "fine.sqlite", "warm.sqlite", "--jobs", 1, "--fail-on", "error").exit_code == 0


def test_nothing_is_written_where_every_input_fails(run: Run, tmp_path: Path) -> None:
    result = run("analyze", "broken.sqlite", "-o", tmp_path / "out.txt")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_one_line_without_debug_and_a_traceback_with_it(run: Run) -> None:
    result = run("analyze", "crash.sqlite")
    assert result.exit_code == 2
    assert result.stderr == (
        "nsight-tools: internal error: ZeroDivisionError: a bug of two lines; run again with --debug and report it\n"
    )
    for told in (run("--debug", "analyze", "crash.sqlite"), run("analyze", "crash.sqlite", "--debug")):
        assert told.exit_code == 2
        assert "Traceback (most recent call last)" in told.stderr


def test_an_interruption_is_one_line(run: Run) -> None:
    result = run("analyze", "interrupted.sqlite")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "nsight-tools: interrupted; nothing half-written was left behind\n"


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ([], ["PCI001", "PCI003", "THR001"]),
        (["--select", "pci"], ["PCI001", "PCI003"]),
        (["--select", "PCI003,THR"], ["PCI003", "THR001"]),
        (["--select", "PCI003", "--select", " THR001 "], ["PCI003", "THR001"]),
        (["--ignore", "PCI"], ["THR001"]),
        (["--select", "PCI", "--ignore", "PCI001"], ["PCI003"]),
    ],
)
def test_codes_are_chosen(run: Run, options: list[str], codes: list[str]) -> None:
    result = run("analyze", "fine.sqlite", "--format", "json", *options)
    assert [outcome["code"] for outcome in json.loads(result.stdout)["traces"][0]["outcomes"]] == codes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["analyze"], "Missing argument 'INPUT...'; see nsight-tools analyze --help"),
        (["analyze", "x", "--format", "pdf"], f"'pdf' is not one of {', '.join(map(repr, TRACE.names()))}"),
        (["analyze", "x", "--select", "XYZ"], "no analysis has the code 'XYZ'; the codes are PCI001, PCI003, THR001"),
        (["analyze", "x", "--format", "jsn"], "; did you mean 'json'? see nsight-tools analyze --help"),
        (["explain", "walll"], "there is no code or word 'walll'; did you mean 'wall'?"),
        (["explain", "PCL001"], "the code 'PCL001'; did you mean 'PCI001' or 'PCI003'?"),
        (["capture", "nope.engine"], "nope.engine: does not exist"),
        (["analyse", "x"], "there is no command 'analyse'; did you mean 'analyze'? see nsight-tools --help"),
        (["zzz", "x"], "there is no command 'zzz'; see nsight-tools --help"),
        (
            ["analyze", "x", "--select", "PCL001"],
            "the code 'PCL001'; did you mean 'PCI001' or 'PCI003'?",
        ),
        (["analyze", "x\x1b[31m\nnsight-tools: all is well", "--nope"], "No such option"),
    ],
)
def test_misuse_is_one_line_and_2(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("nsight-tools: error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_hostile_paths_cannot_forge_lines(run: Run, tmp_path: Path) -> None:
    result = run("analyze", tmp_path / "a\x1b[31m\nnsight-tools: all is well" / "broken.sqlite")
    assert result.stderr.count("\n") == 1
    assert "\\x1b[31m nsight-tools: all is well" in result.stderr


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_a_file_appears_whole(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("older")
    target.chmod(0o640)
    result = run("analyze", "warm.sqlite", "--format", "json", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(target.read_text())["schema"] == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_leaves_the_older_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.json"
    target.write_text("older")

    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    result = run("analyze", "warm.sqlite", "-o", target)
    assert result.exit_code == 2
    assert "cannot be written: No space left on device" in result.stderr
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["missing/out.txt", "folder"])
def test_an_unwritable_file_is_an_error_before_any_work(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    result = run("analyze", "interrupted.sqlite", "-o", tmp_path / name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"nsight-tools: error: {tmp_path / name}: ")
    assert result.stderr.count("\n") == 1


def test_a_device_is_written_not_replaced(run: Run) -> None:
    assert run("analyze", "warm.sqlite", "-o", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_stays_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run("analyze", "warm.sqlite", "-o", tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().startswith("warm.sqlite\n")


def test_colour_on_demand(run: Run, tmp_path: Path) -> None:
    assert "\x1b[" in run("analyze", "warm.sqlite", "--color", "always").stdout
    assert "\x1b[" not in run("analyze", "warm.sqlite", "--color", "never").stdout
    assert "\x1b[" not in run("analyze", "warm.sqlite", "--color", "always", "--format", "json").stdout
    run("analyze", "warm.sqlite", "-o", tmp_path / "out")
    assert "\x1b[" not in (tmp_path / "out").read_text()
