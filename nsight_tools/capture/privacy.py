"""Keeping the caller's environment out of the report.

Nsight Systems embeds the environment that it is started with, the output of what it starts, and of every process that
it can read in /proc the environment that it was started with. `profiler.py` starts it with next to nothing; `hide`
takes care of our own process. Of others, as the shell that started us, nothing can be hidden.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

EMBEDDED = (
    "names of host and user, command lines of processes, and of other processes that nsys may read, as the shell that "
    "started this, the environment that they were started with"
)
"""What a report still holds, for `run.json`."""

_ENV_START = 49  # fields 50 and 51 of /proc/self/stat, counted from 0 (man 5 proc)


def hide() -> None:
    """Blank the environment of this process as /proc/PID/environ shows it; it stays what it is for us and our children.

    Linux shows the memory into which the program's first environment was put. Each variable is copied elsewhere first,
    as the C library does for one that is set.
    """
    for name, value in os.environ.items():
        os.putenv(name, value)
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        start, end = (int(fields[_ENV_START - 2 + at]) for at in (0, 1))
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)
