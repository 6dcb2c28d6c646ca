"""The engine's graph as SVG: boxes of layers, a cell for each, lines for tensors."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING

from nsight_tools.report import safe
from nsight_tools.report.figures.style import fitted, layer_name, name, wide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from nsight_tools.report.figures.engine.colours import Mode
    from nsight_tools.report.figures.engine.places import Placed, Point

BOX = 150.0
"""Width of a box: three columns of two boxes beside each other fill a page."""
_PAD, _LINE, _CELL, _GAP = 5.0, 12.0, 10.0, 2.0
_LETTERS, _NOTE = 21, 25
"""Of a name, and of the line below it, that a box has room for at most; of wide ones fewer."""
_SIZE, _SMALL = 11.0, 10.0
"""Of their letters, as `colours.style` has it."""
_ROOM = BOX - 2 * _PAD
_EDGE = 1.0
"""Around all of it: half of a frame's line is outside of its box."""
TERMINAL = (BOX, 18.0)
"""Size of what stands for an input or output of the engine."""


def size(rows: int) -> Point:
    """Width and height of a box with so many rows of cells."""
    return BOX, 2 * _LINE + rows * (_CELL + _GAP) + 2 * _PAD - _GAP


def box(
    at: Point, layer: str, line: tuple[str, str], rows: Sequence[Sequence[tuple[str, str]]], kind: str, hover: str
) -> str:
    """A box named after a layer, what it is and its time below that, and for each layer a cell (its classes, words)."""
    width, height = size(len(rows))
    title = fitted(partial(layer_name, layer), _LETTERS, _ROOM, _SIZE)
    behind = f" · {line[1]}" if line[0] and line[1] else line[1]
    what = fitted(lambda n: name(line[0], n), _NOTE, _ROOM - wide(behind, _SMALL), _SMALL) + behind
    x, y = at[0] - width / 2, at[1] - height / 2
    parts = [
        f'<g class="box{kind}">',
        f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:g}" height="{height:g}" rx="3"/>',
        f"<title>{_text(hover)}</title>",
        f'<text x="{x + _PAD:.1f}" y="{y + _PAD + 9:.1f}">{escape(title)}</text>',
        f'<text class="note" x="{x + _PAD:.1f}" y="{y + _PAD + 9 + _LINE:.1f}">{escape(what)}</text>',
        *_cells(x + _PAD, y + _PAD + 2 * _LINE, width - 2 * _PAD, rows),
        "</g>",
    ]
    return "".join(parts)


def _cells(x: float, y: float, width: float, rows: Sequence[Sequence[tuple[str, str]]]) -> Iterator[str]:
    cell_width = width / max(len(row) for row in rows)
    gap = min(_GAP, cell_width / 4)
    for number, row in enumerate(rows):
        for place, (classes, hover) in enumerate(row):
            left, top = x + place * cell_width, y + number * (_CELL + _GAP)
            yield (
                f'<rect class="{classes}" x="{left:.1f}" y="{top:.1f}" width="{cell_width - gap:.1f}" '
                f'height="{_CELL:g}">'
                f"<title>{_text(hover)}</title></rect>"
            )


def terminal(at: Point, title: str, hover: str) -> str:
    """An input or output of the engine."""
    width, height = TERMINAL
    x, y = at[0] - width / 2, at[1] - height / 2
    return (
        f'<g class="terminal">'
        f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:g}" height="{height:g}" rx="9"/>'
        f'<title>{_text(hover)}</title><text text-anchor="middle" x="{at[0]:.1f}" y="{at[1] + 4:.1f}">'
        f"{escape(fitted(partial(name, title), _LETTERS, _ROOM, _SIZE))}</text></g>"
    )


def curve(points: Sequence[Point], hover: str) -> str:
    """A tensor's line, as Bézier curves."""
    (x, y), rest = points[0], " ".join(f"{x:.1f} {y:.1f}" for x, y in points[1:])
    return f'<path d="M{x:.1f} {y:.1f}C{rest}"><title>{_text(hover)}</title></path>'


def bend(points: Iterable[Point], hover: str) -> str:
    """A line that goes on in the next column."""
    corners = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="on" d="M{corners}"><title>{_text(hover)}</title></path>'


def legend(mode: Mode, top: float, used: Collection[str], also: Sequence[tuple[str, str]]) -> str:
    """What the colours that are used of a mode mean, and the frames of cells (class, words), in one line."""
    parts, x = (
        [f'<text class="note" x="0" y="{top + 9:.1f}">{escape(mode.shows)}</text>'],
        12 + wide(mode.shows, _SMALL),
    )
    for classes, words in [*((style, label) for style, (_, label) in mode.classes.items() if style in used), *also]:
        parts.append(f'<rect class="cell {classes}" x="{x:.1f}" y="{top:.1f}" width="11" height="11"/>')
        parts.append(f'<text class="note" x="{x + 15:.1f}" y="{top + 9:.1f}">{escape(words)}</text>')
        x += 27 + wide(words, _SMALL)
    return f'<g class="of of-{mode.name}">{"".join(parts)}</g>'


def svg(parts: Iterable[str], picture: Placed, width: float, label: str, style: str = "") -> str:
    """All of it as one element."""
    across, down = max(picture.width, width) + 2 * _EDGE, picture.height + 2 * _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-{_EDGE:g} -{_EDGE:g} {across:.0f} {down:.0f}" role="img" '
        f'aria-label="{escape(label)}" class="engine" width="{across:.0f}">{style}{"".join(parts)}</svg>'
    )


def _text(words: str) -> str:
    return escape(safe.visible(words))
