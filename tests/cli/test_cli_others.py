"""import, explain, doctor, and the program as a process."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nsight_tools
from nsight_tools import importer, nsys
from nsight_tools.cli import COMMANDS, doctor
from nsight_tools.errors import InputError, NsysError

if TYPE_CHECKING:
    from cli.harness import Run

PROGRAM = (sys.executable, "-c", "from nsight_tools.cli import main; main()")
HEAVY = {"pyarrow", "pandas", "duckdb", "numpy", "rich", "matplotlib", "jinja2"}


def test_import_prints_each_dataset(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def fake(source: Path, output: Path | None = None, **options: object) -> Path:
        calls.append((source.name, output, options["force"], options["keep_environment"]))
        if source.stem == "broken":
            raise InputError(source, "is empty", hint="capture again")
        return (output or source.parent) / f"{source.name}.trace"

    monkeypatch.setattr(nsight_tools, "import_report", fake, raising=False)
    result = run("import", "broken.nsys-rep", "b.sqlite", "-o", tmp_path, "--force")
    assert result.exit_code == 2
    assert result.stdout == f"{tmp_path}/b.sqlite.trace\n"
    assert result.stderr == "nsight-tools: error: broken.nsys-rep: is empty; capture again\n"
    assert calls == [("broken.nsys-rep", tmp_path, True, False), ("b.sqlite", tmp_path, True, False)]
    assert run("import", "b.sqlite").stdout == "b.sqlite.trace\n"
    assert run("import", "x/b.sqlite", "y/b.sqlite", "-o", tmp_path).exit_code == 2


def test_explain_lists_and_explains(run: Run) -> None:
    listed = run("explain")
    assert listed.exit_code == 0
    assert "PCI001  Asynchronous copies use pageable host memory\n" in listed.stdout
    assert run("explain", "pci001").stdout == (
        "PCI001 Asynchronous copies use pageable host memory\n\n"
        "Measures\n  Copies whose `src_memory` is pageable, over all copies.\n\n"
        "Why it matters\n  They block.\n\n"
        "Remedy\n  * cudaHostAlloc\n  * pagelocked_empty\n\n"
        "Blind spots\n  None.\n\n"
        "Needs the tables: memory_ops\n"
    )
    assert run("explain", "PCI").stdout.count("Measures\n") == 2
    assert run("explain", "Wall").stdout.startswith("wall\n  The time of one inference, ")
    unknown = run("explain", "NIX")
    assert unknown.exit_code == 2
    assert unknown.stderr == (
        "nsight-tools: error: no analysis has the code 'NIX'; the codes are PCI001, PCI003, THR001\n"
    )


def test_doctor_says_what_each_absence_costs(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(_explicit: object) -> nsys.Nsys:
        raise NsysError("no nsys on PATH", hint="install Nsight Systems")

    monkeypatch.setattr(nsys, "find", none)
    monkeypatch.setattr(importer, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(doctor, "_version", lambda _names: "")
    result = run("doctor")
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert "absent nsys no nsys on PATH: .nsys-rep reports cannot be read" in said
    assert "absent tensorrt not installed: no engine can be built, run or captured" in said
    assert "absent onnxruntime not installed: outputs are compared with no model (--reference onnxruntime)" in said
    assert said.endswith("Ready to analyze .sqlite exports and datasets.")


@pytest.mark.parametrize(("nvtx", "bad"), [("0.2.15", True), ("0.2.11", False)])
def test_doctor_knows_the_pair_that_loses_ranges(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nvtx: str, bad: bool
) -> None:
    old = nsys.Nsys(Path("/opt/nsys"), nsys.Version((2023, 4, 4)))
    monkeypatch.setattr(nsys, "find", lambda _explicit: old)
    monkeypatch.setattr(importer, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(doctor, "_version", lambda names: nvtx if "nvtx" in names else "")
    said = " ".join(run("doctor").stdout.split())
    assert "ok nsys 2023.4.4, /opt/nsys" in said
    assert (f"problem nvtx and nsys nvtx {nvtx} under nsys 2023.4.4: every range" in said) is bad
    assert "import .nsys-rep reports" in said


def test_doctor_says_which_nvtx_to_install_where_there_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importer, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(doctor, "_version", lambda _names: "")
    for version, brings in (((2023, 4, 4), "pip install nvtx==0.2.11"), ((2025, 3, 1), "pip install nvtx ")):
        found = nsys.Nsys(Path("/opt/nsys"), nsys.Version(version))
        monkeypatch.setattr(nsys, "find", lambda _explicit, found=found: found)
        said = " ".join(run("doctor").stdout.split())
        assert re.search(f"absent nvtx not installed: [^;]*; {brings}", said)
    for extra in ("html", "pandas", "graph", "distributed", "remote", "accuracy", "capture"):
        assert f"pip install 'nsight-tools[{extra}]'" in said


def test_doctor_sees_a_cache_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(importer, "cache_folder", lambda: tmp_path / "file" / "cache")
    said = " ".join(run("doctor").stdout.split())
    assert "problem cache folder" in said
    assert said.endswith("Not ready: see above.")


@pytest.mark.parametrize(
    ("says", "line"),
    [
        ("0: Hopper GH100 | NVIDIA H200", "ok GPU metrics allowed: captures sample them"),
        (
            "None of the installed GPUs are supported: NVIDIA GB10 - Insufficient privilege, see ERR_NVGPUCTRPERM",
            "needs permission: captures do not tell what limits layers; run as root, or have",
        ),
    ],
)
def test_doctor_says_whether_gpu_metrics_are_allowed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, line: str
) -> None:
    program = tmp_path / "nsys"
    program.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(nsys, "find", lambda _explicit: nsys.Nsys(program, nsys.Version((2025, 3))))
    monkeypatch.setattr(doctor, "_driver", lambda: doctor.Check("driver", "ok", "580.95, 1 GPU"))
    monkeypatch.setattr(importer, "cache_folder", lambda: tmp_path)
    assert line in " ".join(run("doctor").stdout.split())


def test_version(run: Run) -> None:
    assert run("-V").stdout == run("--version").stdout == f"nsight-tools {nsight_tools.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["analyze", "--help"], ["report", "--help"], ["import", "-h"], ["doctor", "-h"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    seen = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in seen.stderr.splitlines()}
    assert "click" in imported
    assert imported & HEAVY == set()


def test_a_pipe_that_closes_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([*PROGRAM, "doctor"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


def test_output_that_knows_only_ascii() -> None:
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = subprocess.run(
        [*PROGRAM, "analyze", "--format", "nö"], capture_output=True, env=surroundings, check=False
    )
    assert process.returncode == 2
    assert process.stderr.startswith(b"nsight-tools: error: Invalid value for '--format': 'n\\xf6' is not one of")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal(variables: dict[str, str], coloured: bool) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours, theirs = pty.openpty()
    subprocess.run([*PROGRAM, "doctor"], stdout=theirs, check=True, env=surroundings | {"TERM": "xterm"} | variables)
    os.close(theirs)
    assert (b"\x1b[" in os.read(ours, 1 << 16)) is coloured
    os.close(ours)


def test_an_interruption_from_outside_is_one_line(tmp_path: Path) -> None:
    code = (
        "import os, signal, nsight_tools; from nsight_tools.cli import main; "
        "nsight_tools.import_report = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT); main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "import", str(tmp_path)], capture_output=True, check=False, text=True
    )
    assert process.returncode == 130
    assert process.stderr == "nsight-tools: interrupted; nothing half-written was left behind\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_has_an_example(run: Run, command: str) -> None:
    shown = run(*([command] if command else []), "--help").stdout
    assert re.search(rf"Examples?:\n +nsight-tools {command or 'analyze'}", shown)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("an", ["analyze", "annotate"]), ("analyze --fail", ["--fail-on"]), ("analyze --fail-on w", ["warning"])],
)
def test_bash_completes(typed: str, offered: list[str], tmp_path: Path) -> None:
    program = tmp_path / "nsight-tools"
    program.write_text(f"#!{sys.executable}\nfrom nsight_tools.cli import main\nmain()\n")
    program.chmod(0o755)
    script = f"""
        eval "$(_NSIGHT_TOOLS_COMPLETE=bash_source nsight-tools)"
        COMP_WORDS=(nsight-tools {typed}) COMP_CWORD={len(typed.split())}
        _nsight_tools_completion nsight-tools 2> /dev/null  # compopt has no say outside of a key press
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    bash = ["bash", "--norc", "-c", script]
    done = subprocess.run(bash, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == offered
