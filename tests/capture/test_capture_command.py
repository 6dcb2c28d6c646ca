"""`nsight-tools capture -- COMMAND` with a real Nsight Systems: what it keeps, hides, and leaves running (nothing)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from typing import IO, TYPE_CHECKING

import installed_nsys
import pytest
from capture.processes_of import VARIABLE, none_left
from click.testing import CliRunner
from patience import PATIENCE_S, wait_until

from nsight_tools import open_trace
from nsight_tools.cli import program
from nsight_tools.errors import NsysError
from nsight_tools.nsys import find

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
    import os, sys, time
    import nsight_tools
    print("to standard output", os.environ["PRIVATE_WORD"])
    print("to standard error", sys.stdin.read(), file=sys.stderr)
    for number in range(5):
        with nsight_tools.inference() as one:
            with one.phase("h2d"):
                time.sleep(0.001)
    sys.exit(int(sys.argv[1]))
"""
EVENTS = 10
"""Its NVTX ranges. A report that lacks some is nsys' failure (`installed_nsys.ATTEMPTS`), and one more attempt."""

ENDLESS = """
    import subprocess, sys, time
    import nsight_tools
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    with nsight_tools.inference():
        time.sleep(0.01)
    {before}
    open("ready", "w").close()
    while True:
        time.sleep(0.1)
"""


@pytest.fixture(scope="session")
def real_nsys() -> Path:
    try:
        return find().path
    except NsysError as error:
        pytest.skip(error.message)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Words that no other test's processes have: Nsight Systems looks at every process of the machine."""
    words = {VARIABLE: uuid.uuid4().hex, "PRIVATE_WORD": f"nobody-else-should-read-{uuid.uuid4().hex}"}
    return {**os.environ, **words, "TMPDIR": str(tmp_path)}


def write(folder: Path, source: str) -> list[str]:
    (folder / "a program.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return [sys.executable, "a program.py"]


def capture(folder: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nsight_tools", "capture", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input="typed",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def started(
    folder: Path, *arguments: str, environment: dict[str, str], stderr: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nsight_tools", "capture", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_wrapped_command(tmp_path: Path, environment: dict[str, str]) -> None:
    """It runs as without us, its inferences are found, and nothing private is in the report."""
    private = environment["PRIVATE_WORD"]
    command = write(tmp_path, PROGRAM)
    for _ in range(installed_nsys.ATTEMPTS):
        done = capture(tmp_path, "-o", "run.capture", "--force", "--", *command, "0", environment=environment)
        assert done.returncode == 0, done.stderr
        if installed_nsys.events(find(), tmp_path / "run.capture" / "report.nsys-rep") == EVENTS:
            break
    assert done.stdout.count(f"to standard output {private}\n") == 2  # without the profiler, and under it
    assert done.stderr.count("to standard error typed\n") == 2
    assert "5 inferences" in done.stdout
    run = json.loads((tmp_path / "run.capture" / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "done"
    assert run["passes"][0]["exit_code"] == 0
    assert private not in json.dumps(run)
    trace = open_trace(tmp_path / "run.capture")
    ranges = trace.sql("SELECT payload FROM nvtx_ranges WHERE domain = 'nsight_tools' AND name = 'inference'")
    assert ranges["payload"].to_pylist() == list(range(5))
    exported = tmp_path / "export.sqlite"
    find().export(tmp_path / "run.capture" / "report.nsys-rep", exported, kind="sqlite")
    content = exported.read_bytes()
    assert b"nsight_tools" in content
    assert private.encode() not in content
    assert b"to standard output" not in content
    assert none_left(environment[VARIABLE]) == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_command_that_fails_is_captured_and_said(tmp_path: Path, environment: dict[str, str]) -> None:
    command = write(tmp_path, PROGRAM)
    done = capture(tmp_path, "-o", "run", "--no-untraced", "--no-analyze", "--", *command, "3", environment=environment)
    assert done.returncode == 2
    assert "ended with exit code 3; what it did until then was captured" in done.stderr
    assert (tmp_path / "run" / "report.nsys-rep").exists()
    before = (tmp_path / "run" / "run.json").read_bytes()
    again = capture(tmp_path, "-o", "run", "--no-analyze", "--", *command, "0", environment=environment)
    assert again.returncode == 2
    assert "already exists; name another with -o, or replace it with --force" in again.stderr
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    forced = capture(tmp_path, "-o", "run", "--force", "--no-analyze", "--", *command, "0", environment=environment)
    assert forced.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".partial") == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_an_interrupt_keeps_a_readable_report(tmp_path: Path, environment: dict[str, str]) -> None:
    command = write(tmp_path, ENDLESS.format(before=""))
    for _ in range(installed_nsys.ATTEMPTS):
        process = started(tmp_path, "-o", "run", "--no-untraced", "--force", "--", *command, environment=environment)
        wait_until((tmp_path / "ready").exists)
        (tmp_path / "ready").unlink()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert "interrupted: stopping the run" in said
        assert "interrupted; what was captured until then is in run" in said
        assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
        if inferences := open_trace(tmp_path / "run").rows("inferences"):
            break
    assert inferences == 1
    assert none_left(environment[VARIABLE]) == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
@pytest.mark.parametrize("once", [[], ["--no-untraced"]], ids=["without the profiler", "under it"])
def test_a_second_interrupt_kills(tmp_path: Path, environment: dict[str, str], once: list[str]) -> None:
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    command = write(tmp_path, ENDLESS.format(before=stubborn))
    said = tmp_path / "said"
    with said.open("w", encoding="utf-8") as file:
        process = started(tmp_path, "-o", "run", *once, "--", *command, environment=environment, stderr=file)
    wait_until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "interrupted: " in said.read_text(encoding="utf-8") or process.poll() is not None)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in said.read_text(encoding="utf-8")
    assert none_left(environment[VARIABLE]) == []
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_any_stage_leaves_no_process(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """Killed before, while and after the command runs; the next capture takes away what is left."""
    command = write(tmp_path, PROGRAM)
    chosen = random.Random(number)  # noqa: S311 (moments, not secrets)
    for moment in [chosen.uniform(0.1, 4.0) for _ in range(8)]:
        process = started(
            tmp_path, "-o", "run", "--force", "--no-analyze", "--", *command, "0", environment=environment
        )
        time.sleep(moment)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
        assert none_left(environment[VARIABLE]) == [], moment
        if (tmp_path / "run").exists():
            assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["status"] == "done"
    done = capture(tmp_path, "-o", "run", "--force", "--no-analyze", "--", *command, "0", environment=environment)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a MODEL, or a command after --"),
        (["--"], "give a MODEL, or a command after --"),
        (["model.engine", "--", "ls"], "give a MODEL, or a command after --"),
        (["--streams", "4", "--", "ls"], "--streams is an option of an engine, not of a command"),
        (["--repeat", "2", "--", "ls"], "--repeat is an option of an engine, not of a command"),
        (
            ["--repeat", "2", "--single-pass", "m.onnx"],
            "--repeat makes the benchmark again, and --single-pass leaves it",
        ),
        (["--shapes", "x:1xN", "model.onnx"], "x:1xN: give sizes as 1x3x224x224"),
        (["--load-inputs", "x", "model.onnx"], "x: give it as name:value"),
    ],
)
def test_misuse(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsight_tools.nsys.find", lambda _named: None)
    result = CliRunner().invoke(program, ["capture", *arguments])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_no_such_command(tmp_path: Path, environment: dict[str, str]) -> None:
    done = capture(tmp_path, "--", "no-such-command", environment=environment)
    assert done.returncode == 2
    assert "no-such-command: there is no such command; give it with its path" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []
