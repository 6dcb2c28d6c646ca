"""Work in a copy of the process: its result and its errors come back, and it never outlives who began it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_S, wait_until

from nsight_tools import memory
from nsight_tools.importer.forking import forked

SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_cuda_graph.sqlite"
TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing runs beside")
PRELUDE = """
import os, signal, sys, threading, time
from nsight_tools import memory
from nsight_tools.errors import InputError, NsightToolsError
from nsight_tools.importer.forking import forked
fence = memory.fenced()
fence.__enter__()
"""


def ran(program: str, *arguments: str | Path) -> str:
    """What a program of its own prints: the threads of a test runner forbid a copy of it."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout


@TWO_CORES
def test_the_result_of_another_process() -> None:
    said = ran("""
with forked(lambda: (os.getpid(), {"rows": 3}), worthwhile=True) as result:
    mine = os.getpid()
pid, rows = None, None
with forked(lambda: (os.getpid(), {"rows": 3}), worthwhile=True) as result:
    pid, rows = result()
print(pid != mine, rows)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nothing is left")
""")
    assert said.splitlines() == ["True {'rows': 3}", "nothing is left"]


@TWO_CORES
def test_its_error_is_raised_here_as_it_was() -> None:
    said = ran("""
def work():
    raise InputError("/a/report", "is damaged", hint="copy it again")
try:
    with forked(work, worthwhile=True) as result:
        result()
except InputError as error:
    print(error, error.path, error.problem, error.hint, sep=" | ")
    print("in work" in str(error.__cause__))
""")
    assert said.splitlines() == [
        "/a/report: is damaged; copy it again | /a/report | is damaged | copy it again",
        "True",
    ]


@TWO_CORES
def test_an_error_that_cannot_be_pickled() -> None:
    said = ran("""
class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.lock = threading.Lock()
def work():
    raise Odd("this", "that")
try:
    with forked(work, worthwhile=True) as result:
        result()
except RuntimeError as error:
    print(error)
""")
    assert said == "Odd: this\n"


@TWO_CORES
def test_one_that_is_killed() -> None:
    said = ran("""
try:
    with forked(lambda: os.kill(os.getpid(), signal.SIGKILL), worthwhile=True) as result:
        result()
except NsightToolsError as error:
    print(error)
""")
    assert "was killed" in said
    assert "--max-memory" in said


@TWO_CORES
def test_what_ends_it_is_told() -> None:
    said = ran("""
class TwoArguments(Exception):
    def __init__(self, one, *, two):
        super().__init__(one)
for ending in (lambda: sys.exit(3), lambda: (_ for _ in ()).throw(TwoArguments("this", two=2))):
    try:
        with forked(ending, worthwhile=True) as result:
            result()
    except BaseException as error:
        print(type(error).__name__, error)
""")
    assert said.splitlines() == ["SystemExit 3", "RuntimeError TwoArguments: this"]


@TWO_CORES
def test_no_output_to_flush_and_no_process_to_have() -> None:
    said = ran("""
out, sys.stdout = sys.stdout, None
with forked(os.getpid, worthwhile=True) as result:
    other = result()
sys.stdout = out
def refused():
    raise BlockingIOError(11, "no more processes")
os.fork = refused
with forked(os.getpid, worthwhile=True) as result:
    print(other != os.getpid(), result() == os.getpid())
""")
    assert said == "True True\n"


@TWO_CORES
def test_it_is_gone_when_the_block_is_left() -> None:
    said = ran("""
read, write = os.pipe()
def work():
    os.write(write, str(os.getpid()).encode())
    time.sleep(60)
try:
    with forked(work, worthwhile=True):
        pid = int(os.read(read, 20))
        raise ValueError
except ValueError:
    print(os.path.exists(f"/proc/{pid}"))
""")
    assert said == "False\n"


@TWO_CORES
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_with_who_began_it(by: signal.Signals) -> None:
    program = """
def work():
    print(os.getpid(), flush=True)
    time.sleep(3600)
with forked(work, worthwhile=True) as result:
    result()
"""
    with subprocess.Popen([sys.executable, "-c", PRELUDE + program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        copy = Path(f"/proc/{int(process.stdout.readline())}")
        assert copy.exists()
        process.send_signal(by)
        assert process.wait() == -by
    wait_until(lambda: ended(copy))


def ended(process: Path) -> bool:
    try:
        return "Z (zombie)" in (process / "status").read_text()
    except OSError:
        return True


def test_a_library_copies_nobodys_process() -> None:
    assert (
        ran("""
fence.__exit__(None, None, None)
with forked(os.getpid, worthwhile=True) as result:
    print(result() == os.getpid())
""")
        == "True\n"
    )


def done_here(*, worthwhile: bool = True) -> bool:
    with memory.fenced(), forked(os.getpid, worthwhile=worthwhile) as result:
        return result() == os.getpid()


def test_it_is_done_here_where_it_is_not_worthwhile() -> None:
    assert done_here(worthwhile=False)


def test_it_is_done_here_where_there_are_other_threads() -> None:
    """One of them may hold a lock that nobody could open in the copy."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert done_here()
    finally:
        over.set()
        thread.join()


def test_it_is_done_here_where_memory_is_limited() -> None:
    """The limit is this process's: a copy would have it once more."""
    with memory.limited(memory.LEAST):
        assert done_here()


@TWO_CORES
def test_an_import_by_two_processes_is_the_same(tmp_path: Path) -> None:
    program = """
from nsight_tools.importer import import_report, streaming
taken = []
real = streaming.forked
def counted(work, *, worthwhile):
    taken.append(worthwhile)
    return real(work, worthwhile=worthwhile)
streaming.forked, streaming.FORK_ROWS = counted, int(sys.argv[3])
import_report(sys.argv[1], sys.argv[2])
print(taken)
"""
    datasets = []
    for least, said in ((1, "[True]\n"), (1 << 40, "[False]\n")):
        assert ran(program, SAMPLE, tmp_path / str(least), least) == said
        files = sorted((tmp_path / str(least)).glob("*.trace/*.parquet"))
        datasets.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert len(datasets[0]) > 5
    assert datasets[0] == datasets[1]
