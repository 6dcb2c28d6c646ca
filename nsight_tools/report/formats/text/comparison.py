"""A comparison for a terminal: the verdict first, then what makes it doubtful, then where the time went.

What would not change a decision is left out unless `Look.everything` asks for it, and the last line says what that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.comparison.notes import signed
from nsight_tools.comparison.result import Change, Effect, Verdict
from nsight_tools.report import compared, compared_builds
from nsight_tools.report.context import PLAIN
from nsight_tools.report.terminal import ROOMY, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from nsight_tools.comparison.result import Comparison, Difference
    from nsight_tools.report.context import Context

MOOD = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.NOISE: "cyan"}
STYLE = {Change.LESS: "green", Change.MORE: "red", Change.NOISE: "dim", Change.SAME: "dim", Change.UNKNOWN: "yellow"}
_SETUP = 16
"""Columns around what a difference of the set-up went from and to."""
_HEAD = ("", "before", "after", "difference", "interval", "part", "is")
ROWS = 5
"""Layers and kernels that a page shows unless it shows everything."""
EFFECT = {Effect.BLOCKS: "bold red", Effect.CONFOUNDS: "yellow", Effect.CHANGE: "cyan"}


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The comparisons as one page, each a section of its own, in lines of at most `look.width` columns."""
    page = Page(context.look)
    for comparison in page.parted(comparisons):
        _section(page, comparison)
    return str(page)


def _section(page: Page, comparison: Comparison) -> None:
    page.line(page.text(compared.title(comparison), "bold"))
    for at, (judgement, verdict) in enumerate(zip(comparison.judgements, compared.verdicts(comparison), strict=False)):
        mood = MOOD.get(judgement.verdict, "yellow")
        page.line(page.text(verdict, mood if at else f"bold {mood}", limit=1200))
    page.rows([[page.text(compared.counted(comparison), "dim")]])
    _setup(page, comparison)
    if comparison.notes:
        page.heading("Notes")
        page.rows([[page.text("-"), page.text(note, limit=1200)] for note in comparison.notes])
    if comparison.wall is not None:
        _wall(page, comparison)
    _populations(page, comparison)
    _predictions(page, comparison)
    whole = comparison.wall is not None
    every = (*comparison.measurements, *comparison.work, *comparison.conditions)
    kept = [] if page.look.everything else [difference for difference in every if difference.change is Change.SAME]
    measured = [measurement for measurement in comparison.measurements if measurement not in kept]
    _table(page, "Measured without the profiler", measured, note=compared.NO_INTERVAL)
    work = [difference for difference in compared.shown(comparison.work) if difference not in kept]
    title, note = ("Work of an inference", "") if whole else ("The GPUs", compared.NO_INTERVAL)
    _table(page, title, work, note=note)
    _table(page, "Conditions", [condition for condition in comparison.conditions if condition not in kept])
    _builds(page, comparison)
    _parts(page, "Layers", "kernel time of the typical inference", comparison.layers)
    _parts(page, "Kernels", "of the typical inference" if whole else compared.CALLS, comparison.kernels)
    if comparison.untold:
        page.heading("What these two cannot tell")
        page.rows([[page.text("-"), page.text(reason, limit=1200)] for reason in comparison.untold])
    if not page.look.everything and (left_out := _left_out(comparison, kept)):
        page.blank()
        page.line(page.text(f"Left out: {left_out}. --all shows it.", "dim"))


def _left_out(comparison: Comparison, same: Sequence[Difference]) -> str:
    """What of the comparison the short page does not say."""
    parts = [
        f"{more:,} {what} that changed"
        for what, differences in (("layers", comparison.layers), ("kernels", comparison.kernels))
        if (more := len(compared.changed(differences)) - ROWS) > 0
    ]
    if names := [difference.name for difference in same if difference.before or difference.after]:
        parts.append(f"what is the same ({', '.join(names)})")
    return ", ".join(parts)


def _setup(page: Page, comparison: Comparison) -> None:
    if not comparison.setup:
        return
    page.heading("What else differs", "what makes them not comparable first")
    for difference in comparison.setup:
        effect = page.text(f"  {compared.effect_of(difference)}: ", EFFECT[difference.effect])
        page.line(effect, page.text(difference.aspect, "bold"))
        rows = [("before", difference.before), ("after", difference.after), ("why", difference.why)]
        if len(both := f"{difference.before} → {difference.after}") <= page.width - _SETUP:
            rows[:2] = [("from", both)]
        page.labelled([(label, page.text(text)) for label, text in rows], indent=5, label_width=7)


def _wall(page: Page, comparison: Comparison) -> None:
    roomy, judged = page.width >= ROOMY, comparison.judgements
    named = [(compared.label(bucket), bucket) for bucket in compared.shown(comparison.buckets)] + compared.walls(
        comparison
    )
    unit, cells = compared.in_one_unit([difference for _, difference in named])
    typical = compared.TYPICAL.partition(": ")[2]
    typical = typical if roomy else typical.partition(",")[0]
    page.heading("Time of an inference", f"in {unit}; {typical}")
    rows = [
        _row(
            page,
            difference,
            cell,
            name=name,
            style="bold" if any(difference is judgement.difference for judgement in judged) else "",
        )
        for (name, difference), cell in zip(named, cells, strict=True)
    ]
    head = [page.text(text, "dim") for text in _HEAD]
    table = [head, *rows] if roomy else [[*row[:4], row[-1]] for row in (head, *rows)]
    page.rows(table, right=(1, 2, 3, 4, 5) if roomy else (1, 2, 3))


def _row(page: Page, difference: Difference, cells: compared.Cells, *, name: str = "", style: str = "") -> list[Text]:
    return [
        page.text(name or compared.label(difference), style),
        page.text(cells.before, style),
        page.text(cells.after, style),
        page.text(cells.difference, style),
        page.text(cells.interval, "dim"),
        page.text(compared.part(difference)),
        page.text(compared.CHANGES[difference.change], STYLE[difference.change]),
    ]


def _populations(page: Page, comparison: Comparison) -> None:
    if not comparison.populations:
        return
    page.heading("Kinds of inferences", "the verdicts above are on the one with the most time")
    for name, count, judgements in compared.populations(comparison):
        page.line(page.text(f"  {name}", "bold"), page.text(f", {count}", "dim"))
        page.rows([[page.text("-"), page.text(verdict, limit=1200)] for verdict in judgements])


def _predictions(page: Page, comparison: Comparison) -> None:
    if not comparison.predictions:
        return
    page.heading("What BEFORE's findings promised, and what came", "per inference")
    if compared.not_put_down(comparison):
        page.rows([[page.text(compared.NOT_PUT_DOWN, "yellow")]])
    rows = [[page.text(head, "dim") for head in ("", "", "in AFTER", "promised", "came", "")]]
    told = []
    for number, prediction in enumerate(comparison.predictions, 1):
        status, promised, came = compared.promise(prediction)
        at, act = page.text(f"{number}.", "dim"), page.text(units.sentence(prediction.act), "green")
        rows.append([at, act, *map(page.text, (status, promised, came)), page.text(prediction.code, "bold")])
        if came_to := compared.outcome(comparison, prediction):
            told.append([at, page.text(units.sentence(came_to), limit=600)])
    page.rows(rows, indent=0, right=(0, 3, 4))
    page.rows(told)


def _table(page: Page, title: str, differences: Sequence[Difference], *, note: str = "") -> None:
    if not differences:
        return
    page.heading(title, note)
    rows = [
        [
            page.text(difference.name),
            page.text(units.quantity(difference.before, difference.unit)),
            page.text(units.quantity(difference.after, difference.unit)),
            page.text(compared.signed_value(difference)),
            page.text(compared.known(difference), STYLE[difference.change]),
        ]
        for difference in differences
    ]
    page.rows(rows, right=(1, 2, 3))


def _builds(page: Page, comparison: Comparison) -> None:
    builds = comparison.builds
    if builds is None:
        return
    totals = compared.shown(builds.totals)
    unit, cells = compared.in_one_unit(totals)
    page.heading(compared_builds.TITLE, f"in {unit}; {compared_builds.NOTE}")
    page.rows([[page.text(compared_builds.answer(builds), "bold", limit=1200)]])
    head = [page.text(text, "dim") for text in _HEAD]
    rows = [head, *(_row(page, total, cell) for total, cell in zip(totals, cells, strict=True))]
    table = [[*row[: 5 if page.width >= ROOMY else 4], row[-1]] for row in rows]
    page.rows(table, right=range(1, len(table[0]) - 1))
    page.heading(compared_builds.REGIONS, compared_builds.REGIONS_NOTE)
    count = len(builds.regions) if page.look.everything else ROWS
    for region in builds.regions[:count]:
        difference = page.text(f"  {signed(region.time.difference, 'ns')}", STYLE[region.time.change])
        name = page.text(f"  {compared_builds.name(region)}: ", "bold")
        page.line(difference, name, page.text(compared_builds.changed(region)))
        sides = [("before", region.before), ("after", region.after)]
        told = [
            ("time", compared_builds.times(region)),
            *((label, compared_builds.built(side)) for label, side in sides),
        ]
        limit = 4000 if page.look.everything else 160
        page.labelled([(label, page.text(text, limit=limit)) for label, text in told], indent=5, label_width=7)
    if rest := compared_builds.unshown(builds, count):
        page.rows([[page.text(rest, "dim")]])


def _parts(page: Page, title: str, note: str, differences: Sequence[Difference]) -> None:
    if not differences:
        return
    page.heading(title, note)
    changed = compared.changed(differences)
    count = len(changed) if page.look.everything else ROWS
    cells = [
        (
            page.text(signed(difference.difference, difference.unit), STYLE[difference.change]),
            page.text(compared.relative(difference)),
            page.text(
                " → ".join(units.quantity(value, difference.unit) for value in (difference.before, difference.after))
            ),
        )
        for difference in changed[:count]
    ]
    taken = sum(max(cell.cell_len for cell in column) + 2 for column in zip(*cells, strict=True))
    names = [compared.named(difference) for difference in changed[:count]]
    rows = [[*row, page.fitted(name, page.width - 2 - taken)] for row, name in zip(cells, names, strict=True)]
    page.rows(rows, right=(0, 1))
    if rest := compared.unshown(differences, count):
        page.rows([[page.text(rest, "dim")]])
