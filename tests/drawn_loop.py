"""Loops as drawn timelines: one request, repeated; and what is assumed of them, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from drawing import US
from drawn_trace import drawn

from nsight_tools.worth.assumptions import DRAWN, Assumptions
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.reading import program_of

if TYPE_CHECKING:
    from nsight_tools.trace import Trace
    from nsight_tools.worth.program import Program

REQUESTS = 12


def loop(text: str, requests: int = REQUESTS, **options: Any) -> Trace:
    """The trace of so many of the drawn requests, one behind the other; every line is as long as the longest."""
    lines = [line.split(":", 1) for line in text.strip().splitlines()]
    pictures = [(label.strip(), picture.strip()) for label, picture in lines]
    long = max(len(picture) for _, picture in pictures)
    return drawn(
        "\n".join(f"{label + ':':24}{picture.ljust(long, '.') * requests}" for label, picture in pictures), **options
    )


def program(text: str, **options: Any) -> Program:
    """The program of a drawn loop."""
    found = program_of(loop(text, **options))
    assert found is not None
    return found[1]


def exactly(**values: float) -> Assumptions:
    """Assumptions without a doubt, in µs (but shares, and bytes a ns); nothing costs anything where it is not given."""
    plain = {"other", "rate"}
    known = {name: value if name in plain else value * US for name, value in values.items() if name in DRAWN}
    ranges = {name: Range(value, value, value) for name, value in known.items()}
    return Assumptions.drawn(ranges, values.get("sleeps", 0.0), 3)


def us(times: Any) -> float:
    """The likely one of some times, in µs."""
    return float(np.round(times[0] / US, 3))
