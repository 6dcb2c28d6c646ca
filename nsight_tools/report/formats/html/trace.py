"""Traces as one page: a section of each is made while it is open, and the page of the sections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.html.pages import page, section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context

__all__ = ["render", "section"]


def render(reports: Sequence[TraceReport], context: Context = PLAIN) -> str:
    """The page of `context.sections`, which `section` made of the reports."""
    return page(context.sections)
