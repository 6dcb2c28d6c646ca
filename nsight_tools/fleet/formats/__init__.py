"""Formats of many reports: a module here for each, named as in `report.formats`, which shows a single one.

A format that has none shows many reports each by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsight_tools.report import formats

if TYPE_CHECKING:
    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.report.context import Context
    from nsight_tools.report.formats import Format, Kind

FLEET: Kind[Format[Fleet]] = formats.Kind(__name__)


def render(fleet: Fleet, name: str, context: Context) -> str:
    """The fleet in the format of this name."""
    if len(fleet.results) > 1 and name in FLEET.names():
        return FLEET.find(name).render(fleet, context)
    sections = [done.section for done in fleet.done]
    return formats.TRACE.find(name).render(fleet.reports, replace(context, sections=sections))
