"""The catalogue of analyses as Markdown: what their docstrings and declarations say, by family."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from typing import TYPE_CHECKING

from nsight_tools import changes
from nsight_tools.analysis import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.analysis import Analysis

_HEAD = """\
# Analyses

Names in code type are tables and columns of the dataset; the *steady state* is the time inside of any inference's
window; a bound is what could be recovered at most.
"""
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):", re.MULTILINE)


def render(analyses: Iterable[Analysis]) -> str:
    """A table of all analyses by code, then each family with what its analyses measure."""
    ordered = sorted(analyses, key=lambda analysis: analysis.code)
    lines = [_HEAD, "|code|what it finds|", "|---|---|"]
    lines += [f"|[{analysis.code}](#{analysis.code.lower()})|{analysis.summary}|" for analysis in ordered]
    for family, members in groupby(sorted(ordered, key=_family), _family):
        chosen = list(members)
        lines += ["", f"## {family}", "", _about(chosen[0])]
        for analysis in chosen:
            lines += [
                "",
                f"### {analysis.code}",
                "",
                f"**{analysis.summary}.** {_needs(analysis)}",
                "",
                _body(analysis),
            ]
            lines += [f"\n**Change:** {changes.said(change)}" for change in analysis.change]
    return "\n".join(lines) + "\n"


def _family(analysis: Analysis) -> str:
    return analysis.family or analysis.code[:3]


def _about(analysis: Analysis) -> str:
    """The first line of the docstring of the family's folder; of the module, where that stands in none."""
    module = sys.modules[analysis.function.__module__]
    package = module.__name__.rpartition(".")[0]
    home = sys.modules[package] if package.endswith(f".{analysis.family}") else module
    return (home.__doc__ or "").partition("\n")[0]


def _needs(analysis: Analysis) -> str:
    tables = ", ".join(f"`{table}`" for table in sorted(analysis.needs))
    return f"Needs {tables}." if tables else "Needs no table in particular."


def _body(analysis: Analysis) -> str:
    return _SECTION.sub(r"**\1:**", analysis.doc.partition("\n")[2].strip())
