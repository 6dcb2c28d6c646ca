"""A figure as SVG that is fit to stand in a page beside others: small, inert, in the page's own font and colours."""

from __future__ import annotations

import io
import itertools
import re
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import matplotlib as mpl

from nsight_tools.errors import ArgumentError
from nsight_tools.report.figures.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_GEOMETRY = ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "transform", "viewBox")
_DIGITS = re.compile(r"(\.\d\d)\d+")
_ROLES = {light: role for role, (light, _) in COLOURS.items()}
_COLOUR = re.compile("|".join(_ROLES))
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_numbers = itertools.count(1)
TIP = "tip: "
"""What the id of an artist begins with that says what is shown where one points at it."""


def svg(figure: Figure, prefix: str = "", label: str = "") -> str:
    """The figure as an `<svg>` element: text as text, colours as CSS variables `--ROLE`, ids that begin with `prefix`.

    Without a prefix it gets one that no other figure of this process has. `label` tells what cannot see it.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.transfers(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> figures.svg(figure, label="copies").startswith("<svg")
        True
    """
    if not hasattr(figure, "savefig"):
        raise ArgumentError("svg takes a figure", figure, hint="figures.transfers(trace) gives one")
    prefix = prefix or f"figure{next(_numbers)}"
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        # Names in any script: the browser's font has the glyphs that the one measured with lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    # The text is matplotlib's; names in it are escaped and hold no control characters (`style.name`).
    root = ET.fromstring(out.getvalue())  # noqa: S314
    used = _references(root)
    for element in list(root.iter()):
        for child in [c for c in element if c.tag.endswith(("metadata", "style"))]:
            element.remove(child)
        _tidy(element, prefix, used)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    root.set("role", "img")
    root.set("xmlns", _SVG[1:-1])
    if label:
        root.set("aria-label", label)
    return ET.tostring(root, encoding="unicode")


def _presented(style: str) -> Iterator[tuple[str, str]]:
    """What a `style` attribute says, as attributes of their own: a page's policy may allow no style of an element."""
    for declaration in style.split(";"):
        key, _, value = (text.strip() for text in declaration.partition(":"))
        if key != "font":
            yield from [(key, value)] if key else []
            continue
        for word in value.split("'")[0].split():  # as 700 8.5px 'DejaVu Sans'
            if word.endswith("px"):
                yield "font-size", word
            elif word.isdigit() or word in {"bold", "bolder", "lighter"}:
                yield "font-weight", word
            elif word in {"italic", "oblique"}:
                yield "font-style", word


def _references(root: ET.Element) -> set[str]:
    """The ids that something refers to."""
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == _HREF:
                used.add(value.removeprefix("#"))
            elif value.startswith("url(#") or "url(#" in value:
                used.update(re.findall(r"url\(#([^)]+)\)", value))
    return used


def _tidy(element: ET.Element, prefix: str, used: set[str]) -> None:
    """Only attributes change here, never text: a name may look like an id or a colour."""
    element.tag = element.tag.removeprefix(_SVG)
    attributes = element.attrib
    if "id" in attributes:
        name = attributes.pop("id")
        if name.startswith(TIP):
            title = ET.Element("title")
            title.text = name.removeprefix(TIP)
            element.insert(0, title)
        elif name in used:
            attributes["id"] = f"{prefix}-{name}"
    if _HREF in attributes:
        attributes["href"] = f"#{prefix}-{attributes.pop(_HREF).removeprefix('#')}"
    for key, value in list(attributes.items()):
        if "url(#" in value:
            attributes[key] = value.replace("url(#", f"url(#{prefix}-")
        elif key in _GEOMETRY:
            attributes[key] = _DIGITS.sub(r"\1", value).replace(" \n", " ").strip()
    if "style" in attributes:
        style = _FONT.sub("", attributes.pop("style"))
        style = _COLOUR.sub(lambda match: f"var(--{_ROLES[match[0]]},{match[0]})", style)
        attributes.update(_presented(style))
    if element.tag not in {"text", "tspan"}:
        element.text = None
    element.tail = None
