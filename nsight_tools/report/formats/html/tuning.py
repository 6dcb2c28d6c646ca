"""A tuning as one HTML page: the way from first to last, what was promised beside what came."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nsight_tools.report import tuned
from nsight_tools.report.context import PLAIN
from nsight_tools.report.figures.tuned import way
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from nsight_tools.report.context import Context
    from nsight_tools.tune.ledger import Ledger

_CAPTION = (
    "From first to last: the time that is left after each step. A filled bar is what a step that was kept saved; one "
    "that was not kept is a line. The diamond and its whiskers are what was promised, laid off from the time before."
)
_MOODS = {"faster": "good", "slower": "warning", "noise": "info"}
"""The look of an outcome; all others are failures."""


def render(ledger: Ledger, context: Context = PLAIN) -> str:
    """The tuning as a page that holds all that it shows."""
    figure = pages.drawn(partial(way, ledger), "u1", _CAPTION)
    section = pages.rendered(
        "tuning.html.j2",
        ledger=ledger,
        headline=tuned.headline(ledger),
        mood="good" if ledger.gained() else "info",
        figure=figure,
        lines=tuned.lines(ledger),
        moods=_MOODS,
        paste=list(tuned.to_paste(ledger)),
    )
    return pages.page([section], "tuning")
