"""What limits the layers, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.run.limits import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.report.terminal import Page
    from nsight_tools.run.limits import LayerLimit
    from nsight_tools.summary import Summary

ROWS = 5
"""Layers whose limit a page names unless it shows everything."""


def add(page: Page, summary: Summary) -> None:
    """Add the layers that take the most time to a page of text, and what limits each."""
    if not summary.limits:
        if summary.limits_notes and page.look.everything:
            page.rows([[page.text(note, "dim")] for note in summary.limits_notes])
        return
    count = len(summary.limits) if page.look.everything else ROWS
    page.heading("What limits the layers", _by_limit(summary.limits))
    page.rows(
        (
            [
                page.fitted(layer.name, page.width // 3),
                page.text(units.duration(layer.time_ns)),
                page.text(f"{NAMES[layer.limit]}: {layer.because}"),
            ]
            for layer in summary.limits[:count]
        ),
        right=(1,),
    )
    page.rows([[page.text(note, "dim")] for note in summary.limits_notes])


def _by_limit(limits: Sequence[LayerLimit]) -> str:
    """The time of an inference by what limits it, as "latency 320 µs, memory 41 µs", the longest first."""
    time: dict[str, int] = {}
    for layer in limits:
        time[layer.limit] = time.get(layer.limit, 0) + layer.time_ns
    longest = sorted(time.items(), key=lambda item: -item[1])
    return "of an inference: " + ", ".join(f"{NAMES[limit]} {units.duration(ns)}" for limit, ns in longest)
