"""What the first bytes of a report tell, without nsys."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from nsight_tools.errors import InputError
from nsight_tools.nsys.versions import Version

if TYPE_CHECKING:
    from pathlib import Path

# Followed by 2024@2@3@38-242334140272v0; by no version, but 1 or 36398880, where a CUDA toolkit's 2022.4 or the copy
# in Nsight Compute 2025.3 wrote it.
_REPORT_HEADER = b"NVIDIA Tegra Profiler Report "
_HEADER_VERSION = re.compile(re.escape(_REPORT_HEADER) + rb"(\d{4}(?:[.@]\d+)+)")


def is_report(path: Path) -> bool:
    """Whether a file begins as every report does, of whatever version."""
    return _head(path).startswith(_REPORT_HEADER)


def report_version(report: Path) -> Version | None:
    """The version of Nsight Systems that captured `report`, by its first bytes; None where they do not say."""
    found = _HEADER_VERSION.match(_head(report))
    return Version.parse(found[1].decode()) if found else None


def _head(report: Path) -> bytes:
    try:
        with report.open("rb") as file:
            return file.read(128)
    except OSError as error:
        raise InputError(report, f"cannot be read: {error.strerror}") from error


def check_report(report: Path) -> None:
    """Raise InputError, with what it is instead, where a file is surely no report: nsys need not be asked."""
    head = _head(report)
    if not head:
        raise InputError(
            report, "the file is empty", hint="the capture or the copy did not finish; capture or copy again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(report, "a pointer of Git LFS, not the report itself", hint="fetch it with git lfs pull")
    if head.startswith(b"SQLite format 3\0"):
        raise InputError(report, "an SQLite file, not a report", hint="if it is an export, name it .sqlite")
    if not head.startswith(_REPORT_HEADER) and _is_text(head):
        raise InputError(report, "a text file, not an Nsight Systems report", hint="give the report, or its export")


def _is_text(head: bytes) -> bool:
    # The first bytes may end within a character.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    return all(each != "\ufffd" and (each.isprintable() or each in "\t\r\n") for each in text)
