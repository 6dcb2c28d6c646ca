"""Comparisons as one page, each a section of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.comparison.result import Change, Effect, Verdict
from nsight_tools.report import compared, compared_builds, figures
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsight_tools.comparison.result import Comparison, Difference
    from nsight_tools.report.context import Context

TITLE = "comparison"
MOOD = {Verdict.FASTER: "good", Verdict.SLOWER: "error", Verdict.NOISE: "info"}
"""The look of a verdict; all others are warnings."""
BADGE = {Effect.BLOCKS: "error", Effect.CONFOUNDS: "warning", Effect.CHANGE: "info"}
BETTER = {Change.LESS: "less", Change.MORE: "more"}
_WALLS = (
    "How many inferences took no longer than so much. Vertical lines stand at the typical inferences, dots at the "
    "medians. The band is the 99 % interval of the difference, laid off from BEFORE: where it covers BEFORE's line, "
    "the difference is within chance."
)
_OVER_TIME = (
    "Both runs from their first inference to their last: what drifts, warms up or comes in bursts makes a difference "
    "that another capture would not show."
)
_BUCKETS = (
    "The typical inference of both sides, every nanosecond in exactly one part; below, what each part changed by, with "
    "its 99 % interval. What is grey is no more than noise."
)
_PARTS = "What changed most beyond noise; marks are 99 % intervals."

_FIGURES: tuple[tuple[Callable[[Comparison], figures.Drawing], str], ...] = (
    (figures.compared_walls, _WALLS),
    (figures.compared_over_time, _OVER_TIME),
    (figures.compared_buckets, _BUCKETS),
    (partial(figures.compared_parts, parts="layers"), _PARTS),
    (partial(figures.compared_parts, parts="kernels"), _PARTS),
)


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The comparisons as one page, each a section of its own."""
    sections = [_section(comparison, number) for number, comparison in enumerate(comparisons, 1)]
    return pages.page(sections, TITLE, _overview(comparisons) if len(comparisons) > 1 else "")


def _overview(comparisons: Sequence[Comparison]) -> str:
    """What several comparisons say, a row each."""
    rows = [
        (comparison, number, MOOD.get(comparison.verdict, "warning"))
        for number, comparison in enumerate(comparisons, 1)
    ]
    return pages.rendered("comparisons.html.j2", rows=rows, compared=compared)


def _section(comparison: Comparison, number: int = 1) -> str:
    """What the page says of one comparison; `number` tells it from the page's others."""
    drawn = (
        pages.drawn(partial(draw, comparison), f"c{number}f{at}", caption)
        for at, (draw, caption) in enumerate(_FIGURES, 1)
    )
    walls, over_time, buckets, layers, kernels = drawn
    parts = [("layers", layers, comparison.layers), ("kernels", kernels, comparison.kernels)]
    return pages.rendered(
        "comparison.html.j2",
        comparison=comparison,
        number=number,
        compared=compared,
        mood=MOOD.get(comparison.verdict, "warning"),
        badge=BADGE,
        figures_of_walls=(walls, over_time) if walls.svg else (walls,),
        buckets=buckets,
        bucket_rows=[_Row(compared.label(bucket), bucket) for bucket in compared.shown(comparison.buckets)],
        wall_rows=[_Row(name, wall) for name, wall in compared.walls(comparison)],
        parts=[
            (
                title,
                figure,
                [_Row(compared.named(difference), difference) for difference in compared.changed(differences)],
                differences,
            )
            for title, figure, differences in parts
        ],
        words=compared_builds,
        build_rows=[_Row(total.name, total) for total in comparison.builds.totals] if comparison.builds else [],
        measured_rows=[_Row(measurement.name, measurement) for measurement in comparison.measurements],
        work_rows=[
            _Row(difference.name, difference)
            for difference in (*compared.shown(comparison.work), *comparison.conditions)
        ],
        predictions=[
            (prediction, *compared.promise(prediction), compared.outcome(comparison, prediction))
            for prediction in comparison.predictions
        ],
        not_put_down=compared.not_put_down(comparison),
    )


class _Row:
    """A difference as the cells of a table."""

    def __init__(self, name: str, difference: Difference) -> None:
        self.name, self.detail = name, difference.detail
        self.before = units.quantity(difference.before, difference.unit)
        self.after = units.quantity(difference.after, difference.unit)
        self.difference = compared.signed_value(difference)
        self.relative = compared.relative(difference)
        self.interval = compared.interval(difference)
        self.part = compared.part(difference)
        self.change = compared.CHANGES[difference.change]
        self.look = BETTER.get(difference.change, "quiet")
        self.values = _values(difference)
        """What it sorts by."""


def _values(difference: Difference) -> dict[str, float]:
    relative = difference.relative(difference.difference)
    numbers = {"before": difference.before, "after": difference.after}
    numbers |= {"difference": difference.difference, "relative": relative}
    return {name: 0.0 if value is None else value for name, value in numbers.items()}
