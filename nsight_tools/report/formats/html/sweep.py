"""A sweep as one HTML page: the front of throughput against p99, and every setting."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nsight_tools.report import swept
from nsight_tools.report.figures.swept import settings_front
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from nsight_tools.report.formats import Context
    from nsight_tools.report.swept import Swept
    from nsight_tools.tune.measuring import Measurement

_CAPTION = (
    "Each mark is a setting, the median of its runs. The line joins those that no other beats in throughput and p99 at "
    "once; the ring is its knee, from where more throughput costs more p99."
)


def render(found: Swept, context: Context = PLAIN) -> str:
    """The sweep as a page that holds all that it shows."""
    figure = pages.drawn(partial(settings_front, found), "s1", _CAPTION)
    front, knee = found.front, found.knee
    ordered = sorted(found.points, key=lambda point: -point.middle.throughput_per_s)
    section = pages.rendered(
        "sweep.html.j2",
        found=found,
        answers=list(swept.answers(found)),
        figure=figure,
        head=swept.HEAD,
        rows=[(point, _cells(point.middle), point in front, point is knee) for point in ordered],
    )
    return pages.page([section], "sweep")


def _cells(found: Measurement) -> list[tuple[str, float]]:
    """A measurement as the table shows it, each with what it sorts by."""
    values = (found.throughput_per_s, found.p50_ns, found.p99_ns, found.memory_bytes, found.energy_j)
    return list(zip(swept.cells(found), (-1.0 if each is None else each for each in values), strict=True))
