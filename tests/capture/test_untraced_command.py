"""The run of a command without the profiler, which comes first, with a real Nsight Systems and a stand-in for trtexec.

Its times, its failures and its end by a signal; and a command that may run only once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capture.processes_of import VARIABLE, none_left
from capture.test_capture_command import ENDLESS, capture, environment, real_nsys, started, write
from patience import PATIENCE_S, wait_until

from nsight_tools import open_trace
from nsight_tools.capture import timing
from nsight_tools.capture.starting import Streams, run
from nsight_tools.capture.supervised import Interrupts
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["environment", "real_nsys"]  # fixtures

COUNT = 30
SERVES = """
    import sys, time
    import nsight_tools
    with open("runs", "a") as file:
        file.write("x")
    for _ in range(30):
        with nsight_tools.inference() as one, one.phase("enqueue"):
            time.sleep(0.002)
    if len(open("runs").read()) == int(sys.argv[1]):
        {then}
"""
"""A program that does something else in its so manieth run."""

TRTEXEC = """#!{python}
import json, sys, time
import nvtx
open("arguments", "a").write(json.dumps(sys.argv[1:]) + "\\n")
export = [part.partition("=")[2] for part in sys.argv if part.startswith("--exportTimes=")]
begun, times = time.perf_counter(), []
for _ in range({count}):
    start = 1e3 * (time.perf_counter() - begun)
    with nvtx.annotate("ExecutionContext::enqueue", domain="TensorRT"):
        time.sleep(0.002)
    end = 1e3 * (time.perf_counter() - begun)
    moments = {{"startEnqMs": start, "endEnqMs": end, "startH2dMs": start, "endH2dMs": start}}
    moments |= {{"startComputeMs": start, "endComputeMs": end, "startD2hMs": end, "endD2hMs": end}}
    times.append(moments | {{"h2dMs": 0, "computeMs": end - start, "d2hMs": 0, "latencyMs": end - start}})
if export:
    json.dump(times, open(export[-1], "w"))
"""


@pytest.fixture
def trtexec(tmp_path: Path) -> Path:
    """A program of that name that waits where trtexec would infer, and exports its times as that does."""
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(TRTEXEC.format(python=sys.executable, count=COUNT), encoding="utf-8")
    program.chmod(0o755)
    return program


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(("run.", "nsight-tools-", "a.")))


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_program_that_marks_its_inferences_times_them(tmp_path: Path, environment: dict[str, str]) -> None:
    command = write(tmp_path, SERVES.format(then="pass"))
    done = capture(tmp_path, "-o", "run", "--", *command, "0", environment=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").read_text() == "xx"
    assert "running without the profiler first" in done.stderr
    assert "timed by nsight_tools.inference(), by the host's clock" in " ".join(done.stdout.split())
    rows = open_trace(tmp_path / "run").table("benchmark").to_pylist()
    assert {row["run"] for row in rows} <= {"benchmark", "warm_up"}
    assert sorted(row["inference"] for row in rows) == [*range(COUNT)]
    assert {row["measured_by"] for row in rows} == {"host_clock"}
    untraced = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["untraced"]
    begin, end = (mark["utc_ns"] for mark in untraced["clock"])
    assert (end - begin) / 1e9 == pytest.approx(untraced["seconds"], abs=0.001)
    assert all(row["wall_ns"] >= row["enqueue_ns"] >= 2_000_000 for row in rows)
    assert none_left(environment[VARIABLE]) == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_trtexec_exports_its_times_only_where_it_is_not_traced(
    tmp_path: Path, environment: dict[str, str], trtexec: Path
) -> None:
    done = capture(tmp_path, "-o", "run", "--", str(trtexec), "--fp16", environment=environment)
    assert done.returncode == 0, done.stderr
    untraced, traced = map(json.loads, (tmp_path / "arguments").read_text().splitlines())
    assert traced == ["--fp16"]
    assert untraced[0] == "--fp16"
    assert untraced[1].startswith("--exportTimes=")
    told = summarize(open_trace(tmp_path / "run")).untraced_run
    assert told is not None
    assert (told.measured_by, told.problem) == ("trtexec", "")
    assert 0.8 * COUNT <= told.inferences <= COUNT
    assert "timed by trtexec --exportTimes" in " ".join(done.stdout.split())


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_program_with_neither_is_timed_as_a_whole(tmp_path: Path, environment: dict[str, str]) -> None:
    command = write(tmp_path, "import time; time.sleep(0.5)")
    done = capture(tmp_path, "-o", "run", "--", *command, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "no inference was timed without the profiler: mark them with nsight_tools.inference()" in done.stderr
    assert "its inferences were not timed (nsight_tools.inference() times them)" in " ".join(done.stdout.split())
    told = summarize(open_trace(tmp_path / "run")).untraced_run
    assert told is not None
    assert told.inferences == 0
    assert told.program_ns is not None
    assert 0.5e9 <= told.program_ns < 20e9


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_command_that_must_run_once(tmp_path: Path, environment: dict[str, str]) -> None:
    command = write(tmp_path, SERVES.format(then="sys.exit('a second time')"))
    done = capture(tmp_path, "-o", "run", "--no-untraced", "--", *command, "2", environment=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").read_text() == "x"
    assert open_trace(tmp_path / "run").missing("benchmark") == "no run without the profiler: --no-untraced was given"
    assert "without the profiler: " not in done.stdout.partition("Findings")[0]


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
@pytest.mark.parametrize(
    ("then", "how"),
    [
        ("sys.exit(7)", "ended with exit code 7"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "was killed by signal 9"),
    ],
    ids=["fails", "is killed"],
)
def test_what_fails_without_the_profiler_is_not_traced(
    tmp_path: Path, environment: dict[str, str], then: str, how: str
) -> None:
    command = write(tmp_path, SERVES.format(then=then))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept").touch()
    done = capture(tmp_path, "-o", "run", "--force", "--", *command, "1", environment=environment)
    assert done.returncode == 2
    said = f"{command[0]}: {how} without the profiler, and was not traced; fix that, or trace it anyway with"
    assert f"{said} --no-untraced" in done.stderr
    assert (tmp_path / "runs").read_text() == "x"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]  # what is there is not lost
    assert leftovers(tmp_path) == []
    assert none_left(environment[VARIABLE]) == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
@pytest.mark.parametrize(
    ("then", "code"),
    [("sys.exit(7)", 7), ("__import__('os').kill(__import__('os').getpid(), 9)", 128 + 9)],
    ids=["fails", "is killed"],
)
def test_what_fails_under_the_profiler_keeps_both(
    tmp_path: Path, environment: dict[str, str], then: str, code: int
) -> None:
    command = write(tmp_path, SERVES.format(then=then))
    done = capture(tmp_path, "-o", "run", "--no-analyze", "--", *command, "2", environment=environment)
    assert done.returncode == 2
    assert f"ended with exit code {code}; what it did until then was captured" in done.stderr
    assert (tmp_path / "run" / "untraced-0.json").is_file()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["passes"][0]["exit_code"] == code
    assert leftovers(tmp_path) == []


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_a_whole_time_is_not_told_where_the_traced_run_came_to_another_end(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = write(tmp_path, "open('runs', 'a').write('x')\nraise SystemExit(len(open('runs').read()) - 1)")
    done = capture(tmp_path, "-o", "run", "--no-analyze", "--", *command, environment=environment)
    assert done.returncode == 2
    reason = "no run without the profiler: the traced run did not come to the same end"
    assert open_trace(tmp_path / "run").missing("benchmark") == reason


@pytest.mark.nsys
@pytest.mark.usefixtures("real_nsys")
def test_an_interrupt_without_the_profiler_ends_it_all(tmp_path: Path, environment: dict[str, str]) -> None:
    process = started(tmp_path, "-o", "run", "--", *write(tmp_path, ENDLESS.format(before="")), environment=environment)
    wait_until((tmp_path / "ready").exists)
    (tmp_path / "ready").unlink()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted before anything was traced; nothing was kept" in said
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "ready").exists()  # it did not run again
    assert leftovers(tmp_path) == []
    assert none_left(environment[VARIABLE]) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_without_the_profiler_it_leaves_no_process(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    nsys = tmp_path / "nsys"
    nsys.write_text("#!/bin/sh\necho NVIDIA Nsight Systems version 2024.2.1\n")
    nsys.chmod(0o755)
    command = write(tmp_path, ENDLESS.format(before=""))
    process = started(tmp_path, "--nsys", str(nsys), "-o", "run", "--", *command, environment=environment)
    wait_until((tmp_path / "ready").exists)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert none_left(environment[VARIABLE]) == []
    assert not (tmp_path / "run").exists()


def test_no_untraced_is_of_a_command(tmp_path: Path, environment: dict[str, str]) -> None:
    nsys = tmp_path / "nsys"
    nsys.write_text("#!/bin/sh\necho NVIDIA Nsight Systems version 2024.2.1\n")
    nsys.chmod(0o755)
    done = capture(tmp_path, "--nsys", str(nsys), "--no-untraced", "model.engine", environment=environment)
    assert done.returncode == 2
    assert "--no-untraced is an option of a command; an engine has --single-pass" in done.stderr


class TestAsked:
    def test_trtexec_that_exports_already_keeps_its_file(self, tmp_path: Path) -> None:
        own = tmp_path / "mine.json"
        asked = timing.asked(["/opt/trtexec", f"--exportTimes={own}"], tmp_path)
        assert asked.command == ["/opt/trtexec", f"--exportTimes={own}"]
        assert asked.left() == []
        own.touch()
        assert asked.left() == [own]

    def test_a_file_of_an_earlier_run_is_no_time_of_this_one(self, tmp_path: Path) -> None:
        own = tmp_path / "mine.json"
        own.touch()
        asked = timing.asked(["trtexec", f"--exportTimes={own}"], tmp_path)
        assert asked.left() == []
        os.utime(own, ns=(1, 1))
        assert asked.left() == [own]

    def test_another_program_is_asked_by_its_environment(self, tmp_path: Path) -> None:
        asked = timing.asked(["python", "trtexec.py"], tmp_path)
        assert (asked.command, [*asked.variables.values()]) == (["python", "trtexec.py"], [f"{tmp_path}/%p.json"])


READS = """
    import sys
    sys.path.insert(0, {path!r})
    from nsight_tools.capture.starting import Streams, run
    from nsight_tools.capture.supervised import Interrupts
    streams = Streams()
    for program in {programs!r}:
        ended = run([sys.executable, "-c", program], interrupts=Interrupts(print), streams=streams, variables={{}})
        assert ended.code == 0, ended
"""


def read_by(programs: list[str]) -> Callable[[bytes], bytes]:
    """What programs write that read the same standard input one after the other."""
    root = str(Path(timing.__file__).parents[2])
    script = textwrap.dedent(READS.format(path=root, programs=programs))
    return lambda typed: (
        subprocess.run(
            [sys.executable, "-c", script], input=typed, capture_output=True, check=True, timeout=PATIENCE_S
        ).stdout
    )


ALL = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"


@pytest.mark.parametrize("size", [0, 5, 1_000_000], ids=["nothing", "a word", "more than a pipe holds"])
def test_each_run_reads_the_same_from_a_pipe(size: int) -> None:
    typed = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert read_by([ALL, ALL])(typed) == 2 * typed


def test_what_the_first_run_leaves_is_there_for_the_second() -> None:
    some = "import os, sys; sys.stdout.buffer.write(os.read(0, 3))"
    assert read_by([some, ALL])(b"z" * 300_000) == b"z" * 300_003


def test_a_pipe_that_nobody_ends_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    script = textwrap.dedent(
        READS.format(path=str(Path(timing.__file__).parents[2]), programs=["print('one')", "print('two')"])
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdin=reader, capture_output=True, timeout=PATIENCE_S, check=True
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"one\ntwo\n"


def test_a_program_has_its_environment_with_what_asks_it_for_times(tmp_path: Path) -> None:
    program = "import os; open('said', 'w').write(os.environ['ASKED'] + os.environ['PATH'])"
    ended = run(
        [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {program}"],
        interrupts=Interrupts(print),
        streams=Streams(),
        variables={"ASKED": "yes:"},
    )
    assert ended.code == 0
    assert (tmp_path / "said").read_text() == f"yes:{os.environ['PATH']}"
