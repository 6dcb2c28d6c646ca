"""A sweep as one HTML page: the front of throughput against p99, and every setting."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nsight_tools.report import swept
from nsight_tools.report.context import PLAIN
from nsight_tools.report.figures.swept import settings_front
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from nsight_tools.report.context import Context
    from nsight_tools.report.swept import Swept
    from nsight_tools.tune.measuring import Measurement

_CAPTION = (
    "Each mark is a setting, the median of its runs. The line joins those that no other beats in throughput and p99 at "
    "once; the ring is its knee, from where more throughput costs more p99."
)


def render(sweep: Swept, context: Context = PLAIN) -> str:
    """The sweep as a page that holds all that it shows."""
    figure = pages.drawn(partial(settings_front, sweep), "s1", _CAPTION)
    front, knee = sweep.front, sweep.knee
    ordered = sorted(sweep.points, key=lambda point: -point.middle.throughput_per_s)
    section = pages.rendered(
        "sweep.html.j2",
        found=sweep,
        answers=list(swept.answers(sweep)),
        figure=figure,
        head=swept.HEAD,
        rows=[(point, _cells(point.middle), point in front, point is knee) for point in ordered],
    )
    return pages.page([section], "sweep")


def _cells(measurement: Measurement) -> list[tuple[str, float]]:
    """A measurement as the table shows it, each with what it sorts by."""
    values = (
        measurement.throughput_per_s,
        measurement.p50_ns,
        measurement.p99_ns,
        measurement.memory_bytes,
        measurement.energy_j,
    )
    return list(zip(swept.cells(measurement), (-1.0 if value is None else value for value in values), strict=True))
