"""The versions of Nsight Systems that tests run with, and reports of programs profiled by them.

The main one is the one that nsight-tools finds: NSIGHT_TOOLS_NSYS, PATH, the usual places. NSIGHT_TOOLS_NSYS_OTHERS
names more of them, a list as PATH is one, which only the tests across versions use.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nsight_tools.errors import NsysError
from nsight_tools.nsys import ENVIRONMENT_VARIABLE, Nsys, find

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = "NSIGHT_TOOLS_NSYS_OTHERS"
ATTEMPTS = 3
"""One start in about a hundred fails where several nsys run at once: `Connection to Agent lost`, or other words; or its
report has none of the program's NVTX ranges, and nothing is said. What is so each time is no accident."""


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


def profile(nsys: Nsys, report: Path, program: Path, traces: str = "nvtx,osrt") -> Path:
    """Run `program`, which has NVTX ranges, under `nsys` with nothing but NVTX and OS calls traced, into `report`."""
    options = ["-s", "none", "--cpuctxsw=none", "--resolve-symbols=false", "-o", str(report.with_suffix(""))]
    command = [str(nsys.path), "profile", "-t", traces, *options, sys.executable, str(program)]
    for left in reversed(range(ATTEMPTS)):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and (not left or _has_ranges(nsys, report)):
            return report
        report.unlink(missing_ok=True)
    raise AssertionError(done.stderr.decode(errors="replace")[-2000:])


def _has_ranges(nsys: Nsys, report: Path) -> bool:
    export = report.with_name(f"{report.name}.seen.sqlite")
    try:
        with closing(sqlite3.connect(nsys.export(report, export, kind="sqlite"))) as database:
            there = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'NVTX_EVENTS'").fetchone()[0]
            return bool(there and database.execute("SELECT count(*) FROM NVTX_EVENTS").fetchone()[0])
    finally:
        export.unlink(missing_ok=True)
