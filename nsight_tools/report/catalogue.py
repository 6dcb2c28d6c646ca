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
    ordered = sorted(analyses, key=lambda each: each.code)
    lines = [_HEAD, "|code|what it finds|", "|---|---|"]
    lines += [f"|[{each.code}](#{each.code.lower()})|{each.summary}|" for each in ordered]
    for family, members in groupby(sorted(ordered, key=_family), _family):
        chosen = list(members)
        lines += ["", f"## {family}", "", _about(chosen[0])]
        for each in chosen:
            lines += ["", f"### {each.code}", "", f"**{each.summary}.** {_needs(each)}", "", _body(each)]
            lines += [f"\n**Change:** {changes.said(change)}" for change in each.change]
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
