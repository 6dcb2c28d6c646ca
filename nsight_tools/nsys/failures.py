"""What the words and the exit code of an nsys that failed mean."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

from nsight_tools.errors import InputError, NsightToolsError, NsysError, OutputError
from nsight_tools.nsys.reports import is_report, report_version
from nsight_tools.nsys.versions import Version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NEWER = re.compile(r"version\s+\(([^)]+)\),\s+newer than your current version")
# What 2022.4, and 2023.4 and later, say of a newer report whose header does not tell its version.
_UNKNOWN_FORMAT = re.compile(r"Version not supported|missing required fields")
_DISK_FULL = re.compile(r"disk is full|No space left|Error writing bytes to file|Disk quota exceeded", re.IGNORECASE)
_CORRUPT = re.compile(r"magic number|outside of the allowed range|Version tag|Cannot read|decompression|Protobuf")


def disk_full(said: Sequence[str]) -> bool:
    """Whether nsys says that its output has no room: a parquetdir on a full disk exits with 0."""
    return _DISK_FULL.search("\n".join(said)) is not None


def failure(nsys: Path, version: Version, report: Path, to: Path, code: int, said: Sequence[str]) -> NsightToolsError:
    """What the words and the exit code of the nsys of this path and version mean."""
    text = "\n".join(said)
    errors = [line.removeprefix("Exportation error: ") for line in said if line.startswith("Exportation error: ")]
    short = next(iter(errors or said[-1:]), "it gave no reason")[:300]
    if _DISK_FULL.search(text):
        free_mb = shutil.disk_usage(to.parent).free // 1_000_000
        problem = f"the disk is full or refuses writing ({free_mb} MB free; nsys: {short})"
        return OutputError(to, problem, hint="free some space, or export to another disk")
    captured = report_version(report)
    told = _NEWER.search(text)
    if told or (captured and captured > version):
        newer = (told and Version.parse(told[1])) or captured
        return NsysError(
            f"{report}: captured by Nsight Systems {newer}, newer than the nsys at {nsys} ({version})",
            hint=f"name an nsys {newer} or later with --nsys, or export it to .sqlite where it was captured",
        )
    headed = is_report(report)
    if headed and captured is None and (unknown := _UNKNOWN_FORMAT.search(text)):
        return NsysError(
            f"{report}: the nsys at {nsys} ({version}) does not know its format (nsys: {unknown[0]}); "
            "a newer Nsight Systems captured it, or it is damaged",
            hint="name a newer nsys with --nsys, or export it to .sqlite where it was captured",
        )
    if _CORRUPT.search(text) or (not headed and code > 0):
        what = "the report is corrupt or cut short" if headed else "not an Nsight Systems report"
        return InputError(report, f"{what} (nsys: {short})", hint="copy it again, or capture again")
    ended = f"was killed by signal {-code}, out of memory?" if code < 0 else f"failed with exit code {code}"
    by_hand = shlex.join([str(nsys), "export", "--type=sqlite", str(report)])
    return NsysError(f"{report}: nsys {version} {ended}: {short}", hint=f"see what it says by hand: {by_hand}")
