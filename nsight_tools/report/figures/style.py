"""How figures look, in one place: sizes, colours, fonts, and what stands on their axes."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nsight_tools import units
from nsight_tools.comparison.result import as_comparison
from nsight_tools.report import safe
from nsight_tools.report.figures.inline import TIP, svg
from nsight_tools.report.figures.palette import COLOURS
from nsight_tools.run.engine import COPY_NODE
from nsight_tools.trace import as_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from nsight_tools.comparison.result import Comparison
    from nsight_tools.trace import Trace

WIDTH = 10.0
"""Inches; a page scales it to its own width."""
LEFT, RIGHT = 1.75, 0.25
"""Inches beside the plots, so that all figures of a page begin and end at the same place."""

_NOT_LOOKS = ("backend", "backend_fallback", "interactive", "toolbar", "timezone", "figure.hooks")
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own font
    "svg.image_inline": True,
    "text.parse_math": False,  # names from a trace may hold $
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "font.family": "sans-serif",
    "font.sans-serif": [
        "DejaVu Sans"
    ],  # comes with matplotlib, and wider than what pages use: what fits here fits there
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.edgecolor": COLOURS["grid"][0],
    "axes.labelcolor": COLOURS["muted"][0],
    "axes.titlecolor": COLOURS["text"][0],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": COLOURS["text"][0],
    "xtick.color": COLOURS["muted"][0],
    "ytick.color": COLOURS["muted"][0],
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "grid.color": COLOURS["grid"][0],
    "grid.linewidth": 0.6,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "path.simplify": False,  # what is left out is decided where the data are, extremes kept
}

_BASE: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key not in _NOT_LOOKS}
_P = ParamSpec("_P")
_F = TypeVar("_F")


class Drawing(Figure):
    """A matplotlib figure that notebooks show as SVG.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.grids(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> isinstance(figure, figures.Drawing)
        True
    """

    note: str = ""
    """What has to be known to read it: what was left out or put together, and by which rule."""

    def _repr_svg_(self) -> str:
        return svg(self)


def styled(draw: Callable[_P, _F]) -> Callable[_P, _F]:
    """Draw in this module's style, whatever style the caller's matplotlib is in."""

    @functools.wraps(draw)
    def drawing(*args: _P.args, **kwargs: _P.kwargs) -> _F:
        with mpl.rc_context(_BASE | _STYLE):
            return draw(*args, **kwargs)

    return drawing


def of_trace(draw: Callable[Concatenate[Trace, _P], _F]) -> Callable[Concatenate[Trace | PathLike[str] | str, _P], _F]:
    """As `styled`, for a figure of a trace, which may be given as the path of its report, too."""

    @functools.wraps(draw)
    def drawing(trace: Trace | PathLike[str] | str, /, *args: _P.args, **kwargs: _P.kwargs) -> _F:
        return styled(draw)(as_trace(trace, f"figures.{draw.__name__}"), *args, **kwargs)

    return drawing


def of_comparison(
    draw: Callable[Concatenate[Comparison, _P], _F],
) -> Callable[Concatenate[Comparison, _P], _F]:
    """As `styled`, for a figure of a comparison, which it has to be."""

    @functools.wraps(draw)
    def drawing(comparison: Comparison, /, *args: _P.args, **kwargs: _P.kwargs) -> _F:
        return styled(draw)(as_comparison(comparison, f"figures.{draw.__name__}"), *args, **kwargs)

    return drawing


def colour(role: str) -> str:
    """The colour of a role on a light page."""
    return COLOURS[role][0]


def plots(
    heights: Sequence[float], *, legend: bool = True, title: bool = True, gap: float = 0.34, shared: bool = True
) -> tuple[Drawing, list[Axes]]:
    """Plots one below the other, `heights` in inches, on one x axis or each on its own; room for legend and title."""
    top, bottom = 0.05 + 0.25 * legend + 0.25 * title, 0.5
    height = sum(heights) + gap * (len(heights) - 1) + top + bottom
    figure = Drawing(figsize=(WIDTH, height))
    axes: list[Axes] = []
    at = height - top
    for plot_height in heights:
        at -= plot_height
        place = (LEFT / WIDTH, at / height, (WIDTH - LEFT - RIGHT) / WIDTH, plot_height / height)
        axes.append(figure.add_axes(place, sharex=axes[0] if axes and shared else None))
        at -= gap
    for above in axes[:-1] if shared else ():
        above.tick_params(labelbottom=False, length=0)
    return figure, axes


def legend(figure: Drawing, entries: Iterable[tuple[str, str] | Artist]) -> None:
    """What each role means, as (role, words), above the plots; the figure grows where one line is not enough."""
    handles = [
        entry if not isinstance(entry, tuple) else Patch(color=colour(entry[0]), label=entry[1]) for entry in entries
    ]
    if not handles:
        return
    words = sum(_LETTER * len(str(handle.get_label())) + _KEY for handle in handles)
    left = figure.axes[0].get_position().x0 if figure.axes else LEFT / WIDTH
    lines = math.ceil(words / (WIDTH * (1 - left)))
    _heighten(figure, _LINE * (lines - 1))
    placed = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 1.0),
        ncols=math.ceil(len(handles) / lines),
        borderaxespad=0.2,
        handlelength=1.0,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.4,
        borderpad=0.0,
    )
    placed.set_in_layout(False)


_LETTER, _KEY, _LINE = 0.068, 0.44, 0.2
"""Inches that a letter of a legend takes, its key with the space around it, and a line."""


def _heighten(figure: Drawing, more: float) -> None:
    """Make room above the plots, which stay as they are."""
    if more <= 0:
        return
    tall = figure.get_figheight()
    figure.set_figheight(tall + more)
    for axes in figure.axes:
        place = axes.get_position()
        share = tall / (tall + more)
        axes.set_position((place.x0, place.y0 * share, place.width, place.height * share))


def scale_of(longest_ns: float) -> tuple[float, str]:
    """What to divide nanoseconds by so that an axis up to this reads well, and the unit that it is then in."""
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if longest_ns >= 2 * factor:
            return factor, unit
    return 1.0, "ns"


def time_axis(axes: Axes, lo: int, hi: int, label: str) -> None:
    """An x axis in nanoseconds from `lo`, labelled in the unit that suits it, as time since `lo`."""
    factor, unit = scale_of(hi - lo)
    axes.set_xlim(lo, max(hi, lo + 1))
    steps = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(0, max(hi - lo, 1) / factor)
    axes.set_xticks([lo + step * factor for step in steps if 0 <= step * factor <= hi - lo])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{(x - lo) / factor:,.10g}"))
    axes.set_xlabel(f"{unit} {label}")


def duration_axis(axes: Axes, longest_ns: float, label: str = "") -> None:
    """A y axis in nanoseconds from 0, labelled in the unit that suits it."""
    factor, unit = scale_of(longest_ns)
    axes.set_ylim(0, max(longest_ns, 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0, max(longest_ns, 1.0) / factor)
    axes.set_yticks([tick * factor for tick in ticks if 0 <= tick * factor <= longest_ns])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / factor:,.10g}"))
    axes.set_ylabel(f"{label} ({unit})" if label else unit)
    axes.grid(axis="y")


def tip(artist: Artist, text: str) -> None:
    """What a page says where one points at `artist`: `inline.svg` makes it a title."""
    artist.set_gid(f"{TIP}{text}")


def since(lo: int) -> str:
    """Where an axis begins, as Nsight Systems' window shows it."""
    return f"after {units.moment(lo)} on the timeline of Nsight Systems"


def name(text: object, limit: int = 40) -> str:
    """A name from a trace, inert, on one line, without its middle where it is longer than `limit`."""
    shown = safe.visible(text)
    return shown if len(shown) <= limit else f"{shown[: limit - limit // 4 - 1]}…{shown[-(limit // 4) :]}"


def wide(text: str, points: float) -> float:
    """How wide a text is, in points, in DejaVu Sans, which is wider than what pages use."""
    font = _font()
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 * points / _SIZE


def fitted(shorten: Callable[[int], str], limit: int, room: float, points: float) -> str:
    """What `shorten` makes of a text for so many letters: as many, up to the limit, as fit into so many points."""
    return next((shown for n in range(limit, 4, -1) if wide(shown := shorten(n), points) <= room), shorten(4))


_SIZE = 10.0


@functools.cache
def _font() -> FT2Font:
    font = FT2Font(findfont("DejaVu Sans"))  # of our own: matplotlib sets the sizes of those that it keeps
    font.set_size(_SIZE, 72)
    return font


def layer_name(layer: str, limit: int = 24) -> str:
    """The part of a layer's name that tells it from others: the first of what was fused; what a reformat is for.

    Of a path the end is kept, of all else both ends; inert, at most `limit` letters.
    """
    if layer.startswith(COPY_NODE):
        return name(f"for {layer.partition(' to ')[2] or layer}", limit)
    first, fused, _ = layer.partition(" + ")
    room = limit - 2 * bool(fused)
    first = safe.visible(first)
    path = "/" in first and not first.startswith("{")
    first = f"…{first[1 - room :]}" if path and len(first) > room else name(first, room)
    return f"{first} +" if fused else first
