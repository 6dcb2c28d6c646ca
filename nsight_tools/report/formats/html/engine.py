"""The engine's graph as the page has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from nsight_tools.errors import NothingToShow
from nsight_tools.report import figures
from nsight_tools.report.figures.engine import colours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class Graph:
    """The engine's graph on the page, or in its place what is said instead; and the ways to colour it."""

    svg: Markup | None
    caption: str
    modes: Sequence[str] = ()


_GRAPH = (
    "Each box is a layer of the engine, or several that follow one another, and each cell in it a layer; lines are "
    "tensors. It is read downwards, column by column; dashed lines go on in the next column. A frame around a cell "
    "says that its layer only converts a tensor, or quantizes it. Hover over a cell or a line to see what it is."
)


def graph(trace: Trace) -> Graph:
    """The graph of the engine that a trace has."""
    try:
        drawn = figures.engine_graph(trace)
    except NothingToShow as nothing:
        return Graph(None, f"No graph of the engine: {nothing}.")
    svg = Markup(drawn.svg(_GRAPH))  # noqa: S704 (its own, which escapes names)
    return Graph(svg, f"{_GRAPH} {drawn.note}", [mode.name for mode in drawn.modes])


def style() -> str:
    """CSS of all graphs of a page."""
    return colours.style()
