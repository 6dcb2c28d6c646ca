"""Nsight Systems' command line: where it is, what its version can do, exporting a report and adding events to one.

Nothing else in the package starts nsys, but for a capture. Messages and exit codes are those of 2022.4.2, 2023.4.4 and
2024.2.3.
"""

from __future__ import annotations

from nsight_tools.nsys.finding import find
from nsight_tools.nsys.installed import ExportKind, Nsys
from nsight_tools.nsys.reports import check_report, is_report, report_version
from nsight_tools.nsys.running import ENVIRONMENT_VARIABLE, HOW_TO_GET, Progress
from nsight_tools.nsys.versions import Ability, Version

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "HOW_TO_GET",
    "Ability",
    "ExportKind",
    "Nsys",
    "Progress",
    "Version",
    "check_report",
    "find",
    "is_report",
    "report_version",
]
