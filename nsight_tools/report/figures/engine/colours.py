"""What the cells of the engine's graph are coloured by, and the style that shows one of these ways at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.report.figures.limits import ROLES
from nsight_tools.report.figures.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Mode:
    """One way to colour layers: its name, what it shows, and its classes, each with a CSS colour and words."""

    name: str
    shows: str
    classes: Mapping[str, tuple[str, str]]


def _part(percent: int) -> str:
    return f"color-mix(in srgb, var(--compute) {percent}%, var(--paper))"


STEPS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of all kernel time from which on a layer is darker. The last two are NVIDIA's, from its skill for layer
profiles: a layer of 5 % is worth a look, one of 10 % is hot; from there down each is about half of the one above."""

TIME = Mode(
    "time",
    "share of the kernel time",
    {
        "s0": ("var(--paper)", "none seen"),
        "s1": (_part(10), "below 0.2 %"),
        "s2": (_part(25), "≥ 0.2 %"),
        "s3": (_part(40), "≥ 0.5 %"),
        "s4": (_part(60), "≥ 1 %"),
        "s5": (_part(80), "≥ 2 %"),
        "s6": ("var(--compute)", "≥ 5 %"),
        "s7": ("var(--alarm)", "≥ 10 %"),
    },
)
PRECISION = Mode(
    "precision",
    "datatype of what a layer writes",
    {
        "d0": ("var(--paper)", "other or unknown"),
        "d1": ("var(--unknown)", "FP32"),
        "d2": ("var(--compute)", "FP16"),
        "d3": ("var(--sync)", "BF16"),
        "d4": ("var(--launch)", "INT8"),
        "d5": ("var(--copy)", "FP8"),
        "d6": ("var(--communication)", "4 bits"),
    },
)
LIMIT = Mode(
    "limit",
    "what limits a layer",
    {
        f"l{number}": (f"var(--{role})", limit)
        for number, (limit, role) in enumerate({**ROLES, "not told": "paper"}.items())
    },
)
_LIMITS = {limit: class_ for class_, (_, limit) in LIMIT.classes.items()}
_DTYPES = {"FP32": "d1", "FP16": "d2", "BF16": "d3", "INT8": "d4", "UINT8": "d4", "FP8": "d5"} | dict.fromkeys(
    ("FP4", "INT4", "UINT4"), "d6"
)
MODES = (TIME, PRECISION, LIMIT)


def step(share: float) -> str:
    """The class of a layer with this share of the kernel time."""
    return f"s{sum(share > 0 and share >= bar for bar in STEPS)}"


def datatype(name: str) -> str:
    """The class of a layer that writes this datatype."""
    return _DTYPES.get(name, "d0")


def limit(word: str) -> str:
    """The class of a layer that this limits."""
    return _LIMITS.get(word, _LIMITS["not told"])


def style(scope: str = "") -> str:
    """CSS: what each class of a mode is filled with where that mode's input is checked; `scope` goes before."""
    return LOOKS + "\n".join(_rules(scope))


def _rules(scope: str) -> Iterator[str]:
    for mode in MODES:
        chosen = f"{scope}input.by-{mode.name}:checked ~ * "
        yield f"{chosen}.of-{mode.name} {{ display: inline; }}"
        for name, (colour, _) in mode.classes.items():
            yield f"{chosen}.{name} {{ fill: {colour}; }}"


def alone(mode: Mode) -> str:
    """A `<style>` element for a picture that stands in no page of ours, in this mode and light colours."""
    roles = "".join(f"--{role}:{light};" for role, (light, _) in COLOURS.items())
    fills = "".join(f"svg.engine .{name}{{fill:{colour}}}" for name, (colour, _) in mode.classes.items())
    shown = f"svg.engine .of-{mode.name}{{display:inline}}"
    return f"<style>svg.engine{{{roles}}}{LOOKS}{shown}{fills}</style>"


LOOKS = """
svg.engine { font-size: 11px; }
svg.engine text { fill: var(--text); }
svg.engine text.note { fill: var(--muted); font-size: 10px; }
svg.engine .frame { fill: var(--paper); stroke: var(--grid); stroke-width: 1; }
svg.engine .forks .frame { stroke: var(--muted); }
svg.engine .lines path { fill: none; stroke: var(--unknown); stroke-width: 1.2; }
svg.engine .lines path.on { stroke-dasharray: 4 3; stroke-linejoin: round; }
svg.engine .cell { fill: var(--paper); stroke: var(--grid); stroke-width: .6; }
svg.engine .cell.reformat { stroke: var(--h2d); stroke-width: 2; }
svg.engine .cell.quantize { stroke: var(--text); stroke-width: 2; }
svg.engine .box.reformat .frame { stroke: var(--h2d); stroke-dasharray: 4 2; }
svg.engine .box.quantize .frame { stroke: var(--text); stroke-dasharray: 4 2; }
svg.engine .terminal .frame { fill: var(--tint, none); }
svg.engine .of { display: none; }
"""
"""CSS of the picture, but for what fills the cells."""
