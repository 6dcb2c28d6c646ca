"""Comparisons as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.report.compared_html import page
from nsight_tools.report.formats import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.result import Comparison
    from nsight_tools.report.formats import Context


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The page, which holds all that it shows."""
    return page(comparisons)
