"""A trace and its findings as one Perfetto file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.perfetto import timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.report.context import Exported

FOLDER = False
TAKES_ONNX = False


def write(exported: Exported, to: Callable[[bytes], None]) -> list[tuple[str, str]]:
    """Analyze the trace, and write its timeline with what was found, piece by piece; there is nothing to tell."""
    report = TraceReport.of(exported.source.name, exported.trace)
    if exported.progress:
        exported.progress("writing the timeline", None)
    timeline.write(report, exported.trace, to)
    return []
