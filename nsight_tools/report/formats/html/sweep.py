"""A sweep as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.report.formats import PLAIN
from nsight_tools.report.swept_html import page

if TYPE_CHECKING:
    from nsight_tools.report.formats import Context
    from nsight_tools.report.swept import Swept


def render(found: Swept, context: Context = PLAIN) -> str:
    """The page, which holds all that it shows."""
    return page(found)
