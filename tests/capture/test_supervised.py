"""Processes of a capture: what ends them, what they leave, what Ctrl-C means."""

from __future__ import annotations

import errno
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from capture.processes_of import VARIABLE, none_left
from patience import PATIENCE_S, wait_until

from nsight_tools.capture import supervised
from nsight_tools.capture.guard import descendants
from nsight_tools.capture.launch import merged
from nsight_tools.capture.supervised import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILY = """
    import os, subprocess, sys, time
    # a child, a grandchild that is orphaned at once, and one that leaves its session
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    orphan = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True)"
    subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; {orphan}"]).wait()
    open(sys.argv[1], "w").close()
    time.sleep(float(sys.argv[2]))
    sys.exit(7)
"""


@pytest.fixture
def word(monkeypatch: pytest.MonkeyPatch) -> str:
    word = uuid.uuid4().hex
    monkeypatch.setenv(VARIABLE, word)
    return word


def family(folder: Path, seconds: float) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(FAMILY), str(folder / "ready"), str(seconds)]


def quietly() -> Interrupts:
    return Interrupts(lambda _text: None)


def test_output_and_exit_code() -> None:
    program = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    ended = supervised.run([sys.executable, "-u", "-c", program], interrupts=quietly())
    assert ended == supervised.Ended(3, ("one", "two"), interrupted=False)


def test_a_signal_ends_it_as_shells_say() -> None:
    ended = supervised.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], interrupts=quietly())
    assert ended.code == 128 + signal.SIGKILL


def test_no_such_program() -> None:
    ended = supervised.run(["/no/such/program"], interrupts=quietly())
    assert ended.code == 127
    assert "No such file" in ended.said[-1]


def test_what_a_command_leaves_running_goes_with_it(tmp_path: Path, word: str) -> None:
    assert supervised.run(family(tmp_path, 0), interrupts=quietly()).code == 7
    assert none_left(word) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_the_tool(tmp_path: Path, word: str, number: signal.Signals) -> None:
    program = f"""
        from nsight_tools.capture import supervised
        interrupts = supervised.Interrupts(print)
        with interrupts.handled():
            supervised.run({family(tmp_path, 300)!r}, interrupts=interrupts)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    wait_until((tmp_path / "ready").exists)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) in (-number, 128 + number)
    assert none_left(word) == []


def interrupted_run(program: str, presses: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that supervises `program` and gets SIGINT `presses` times once `ready` is there."""
    tool = f"""
        from pathlib import Path
        from nsight_tools.capture import supervised
        def say(text):
            print("said:", text, flush=True)
            Path({str(folder / "said")!r}).touch()
        interrupts = supervised.Interrupts(say)
        with interrupts.handled():
            command = [{sys.executable!r}, "-c", {textwrap.dedent(program)!r}, {str(folder / "ready")!r}]
            ended = supervised.run(command, interrupts=interrupts)
        print(ended.code, ended.interrupted, ended.said)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(tool)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until((folder / "ready").exists)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        wait_until((folder / "said").exists)
    out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_the_first_interrupt_lets_the_program_finish(tmp_path: Path, word: str) -> None:
    program = """
        import sys, time
        try:
            open(sys.argv[1], "w").close()
            time.sleep(300)
        except KeyboardInterrupt:
            print("saved")
            sys.exit(130)
    """
    done = interrupted_run(program, 1, tmp_path)
    assert "said: interrupted" in done.stdout
    assert "130 True ('saved',)" in done.stdout
    assert none_left(word) == []


def test_the_second_interrupt_kills(tmp_path: Path, word: str) -> None:
    program = """
        import signal, sys, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        open(sys.argv[1], "w").close()
        time.sleep(300)
    """
    done = interrupted_run(program, 2, tmp_path)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert none_left(word) == []


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        interrupts = quietly()
        with interrupts.handled():
            seen.append(supervised.run([sys.executable, "-c", ""], interrupts=interrupts).code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0]
    assert signal.getsignal(signal.SIGINT) is before


def test_environment_is_the_users_with_what_nsys_added() -> None:
    users = {"PATH": "/mine", "LD_PRELOAD": "mine.so", "LD_LIBRARY_PATH": "/lib/mine", "TOKEN": "x", "HOME": "/home/me"}
    given = {"PATH": "/bin", "HOME": "/scratch", "LD_LIBRARY_PATH": "/lib/mine"}
    now = {**given, "LD_PRELOAD": "nsys.so", "LD_LIBRARY_PATH": "/lib/mine:/cuda", "NVTX_INJECTION64_PATH": "i.so"}
    assert merged(users, given, now) == {
        "PATH": "/mine",
        "LD_PRELOAD": "nsys.so:mine.so",
        "LD_LIBRARY_PATH": "/lib/mine:/cuda",
        "TOKEN": "x",
        "HOME": "/home/me",
        "NVTX_INJECTION64_PATH": "i.so",
    }


def test_a_process_that_ends_while_all_are_looked_at_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux then says ESRCH of what lies below its folder, also to who only asks whether that exists."""
    looked_at = []

    def of_one_that_stays(path: Path, then: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if path.match("/proc/[0-9]*/stat") and path.parent.name != str(process.pid):
            looked_at.append(path)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return then(path, *arguments, **named)

    for name in ("stat", "read_text"):
        then = getattr(Path, name)
        monkeypatch.setattr(Path, name, functools.partialmethod(of_one_that_stays, then))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert descendants(os.getpid()) == [process.pid]
        process.kill()
    assert looked_at


def test_no_process_is_started_with_a_dead_parent(tmp_path: Path) -> None:
    guard = Path(supervised.__file__).with_name("guard.py")
    not_the_parent = os.getpid() + 1
    made = tmp_path / "made"
    code = subprocess.call([sys.executable, str(guard), str(not_the_parent), "touch", str(made)])
    assert code == 128 + signal.SIGTERM
    assert not made.exists()
