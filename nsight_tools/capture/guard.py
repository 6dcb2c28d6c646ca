"""Runs a command so that nothing of it is left behind, whichever way this or its parent ends.

    python guard.py PARENT_PID COMMAND…

A program of its own, started by path, that needs nothing but Linux: it adopts every process that the command starts
(also those that double-fork, as Nsight Systems' agent), ends when its parent dies, even by SIGKILL, and takes them all
along. It ends with the command's exit code, 128 + N where signal N ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 3.0
"""How long what the command left running may take to end by itself."""


def main() -> int:
    """Run the command of the arguments; returns the exit code."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        return 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    grace = 0.0
    try:
        process = subprocess.Popen(command, preexec_fn=_default_interrupt)  # noqa: PLW1509, S603 (no thread runs here)
        code = process.wait()
        grace = GRACE_S
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        code = 127
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _take_along(grace)
    return 128 - code if code < 0 else code


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _take_along(grace_s: float) -> None:
    """Wait for every descendant to end, and kill those that have not within `grace_s`."""
    deadline = time.monotonic() + grace_s
    while pids := _living():
        if time.monotonic() >= deadline + GRACE_S:
            return  # what cannot be killed: it waits inside of the kernel
        if time.monotonic() >= deadline:
            _kill(pids)
        _reap()
        time.sleep(0.01)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _living() -> list[int]:
    _reap()
    return descendants(os.getpid())


def descendants(ancestor: int) -> list[int]:
    """Every process below `ancestor`; one that ends meanwhile is passed over, whatever its files then say."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
    found, new = set[int](), {ancestor}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main())
