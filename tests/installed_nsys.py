"""The versions of Nsight Systems that tests run with, and reports of programs profiled by them.

The main one is the one that nsight-tools finds: NSIGHT_TOOLS_NSYS, PATH, the usual places. NSIGHT_TOOLS_NSYS_OTHERS
names more of them, a list as PATH is one, which only the tests across versions use.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from patience import PATIENCE_S

from nsight_tools.errors import NsysError
from nsight_tools.nsys import ENVIRONMENT_VARIABLE, Nsys, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OTHERS = "NSIGHT_TOOLS_NSYS_OTHERS"
ATTEMPTS = 5
"""One start in about a hundred fails where several nsys run at once: `Connection to Agent lost`, or other words. Or it
makes no report, or one that lacks NVTX ranges of one of the program's processes, or all, and nothing is said. What is
so each time is no accident."""
MARK, PUSH_POP, START_END = 34, 59, 60
"""What `NVTX_EVENTS.eventType` calls them."""


def main() -> Nsys:
    """The main one; skips where there is none. One that was asked for and is broken is no reason to skip."""
    try:
        return find()
    except NsysError as error:
        if ENVIRONMENT_VARIABLE in os.environ:
            raise
        pytest.skip(error.message)


def installed() -> list[Nsys]:
    """All of them, the oldest first, one a version."""
    found = [find(path) for path in os.environ.get(OTHERS, "").split(os.pathsep) if path]
    try:
        found.append(find())
    except NsysError:
        if ENVIRONMENT_VARIABLE in os.environ:
            raise
    return [nsys for _, nsys in sorted({nsys.version: nsys for nsys in found}.items())]


def profile(
    nsys: Nsys,
    report: Path,
    program: Sequence[object],
    expected: int | None,
    *,
    traces: str = "nvtx,osrt",
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Run a program, given by its command line, which makes `expected` NVTX ranges and marks (None: any number), under
    nsys to `report`.

    Nothing but NVTX and OS calls are traced. The report of the last attempt is as it is: tests then say what it lacks.
    """
    options = ["-s", "none", "--cpuctxsw=none", "--resolve-symbols=false", "-o", str(report.with_suffix(""))]
    command = [str(nsys.path), "profile", "-t", traces, *options, *map(str, program)]
    for left in reversed(range(ATTEMPTS)):
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=PATIENCE_S)
        written = done.returncode == 0 and report.exists()
        if written and (not left or expected is None or events(nsys, report) == expected):
            return report
        report.unlink(missing_ok=True)
    raise AssertionError(done.stderr.decode(errors="replace")[-2000:])


def events(nsys: Nsys, report: Path) -> int:
    """How many NVTX ranges and marks it holds."""
    export = report.with_name(f"{report.name}.seen.sqlite")
    counted = f"SELECT count(*) FROM NVTX_EVENTS WHERE eventType IN ({MARK}, {PUSH_POP}, {START_END})"
    try:
        with closing(sqlite3.connect(nsys.export(report, export, kind="sqlite"))) as database:
            there = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'NVTX_EVENTS'").fetchone()[0]
            return int(database.execute(counted).fetchone()[0]) if there else 0
    finally:
        export.unlink(missing_ok=True)
