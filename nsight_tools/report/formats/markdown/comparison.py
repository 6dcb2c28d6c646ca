"""A comparison for a pull request's comment: the verdict, what makes it doubtful, the buckets; the rest folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.report import compared, compared_builds
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.markdown.escaped import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.comparison.result import Comparison, Difference
    from nsight_tools.report.context import Context

_HEAD = ("| | before | after | difference | interval | part | |", "|---|---:|---:|---:|---:|---:|---|")


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The comparisons as GitHub-flavoured Markdown, one section each."""
    return "\n".join("\n".join(_section(comparison)) + "\n" for comparison in comparisons)


def _section(comparison: Comparison) -> list[str]:
    title = f"## nsight-tools: {escape(compared.title(comparison))}"
    first, *others = (escape(verdict, 1200) for verdict in compared.verdicts(comparison))
    lines = [title, "", f"**{first}**", ""]
    lines += [line for verdict in others for line in (verdict, "")]
    lines += _setup(comparison)
    lines += [f"- {escape(note, 1200)}" for note in comparison.notes]
    if comparison.wall is not None:
        rows = [(compared.label(bucket), bucket) for bucket in compared.shown(comparison.buckets)]
        lines += ["", *_HEAD, *(_row(name, wall) for name, wall in (*rows, *compared.walls(comparison)))]
        lines += ["", f"Of {escape(compared.TYPICAL)}."]
    for name, count, judgements in compared.populations(comparison):
        lines += [
            "",
            f"Inferences of kind {escape(name)}, {count}:",
            "",
            *(f"- {escape(judgement, 1200)}" for judgement in judgements),
        ]
    lines += _predictions(comparison)
    work = compared.shown(comparison.work)
    lines += _folded(
        "Work and conditions", [_row(difference.name, difference) for difference in (*work, *comparison.conditions)]
    )
    measured = [_row(measurement.name, measurement) for measurement in comparison.measurements]
    lines += _folded("Measured without the profiler", measured)
    lines += _builds(comparison)
    for name, parts in (("Layers", comparison.layers), ("Kernels", comparison.kernels)):
        chosen = compared.changed(parts)[: compared.ROWS_SHOWN]
        rest = compared.unshown(parts)
        lines += _folded(name, [_row(compared.named(difference), difference) for difference in chosen], rest)
    if comparison.untold:
        lines += ["", "What these two cannot tell:", "", *(f"- {escape(reason, 1200)}" for reason in comparison.untold)]
    return lines


def _setup(comparison: Comparison) -> list[str]:
    if not comparison.setup:
        return []
    rows = (
        f"| {compared.effect_of(difference)} | {escape(difference.aspect)} | {escape(difference.before, 200)} | "
        f"{escape(difference.after, 200)} | {escape(difference.why)} |"
        for difference in comparison.setup
    )
    return ["| | What else differs | before | after | why |", "|---|---|---|---|---|", *rows, ""]


def _row(name: str, difference: Difference) -> str:
    cells = (
        name,
        units.quantity(difference.before, difference.unit),
        units.quantity(difference.after, difference.unit),
        compared.signed_value(difference),
        compared.interval(difference),
        compared.part(difference),
        compared.CHANGES[difference.change],
    )
    return f"| {' | '.join(escape(cell, 200) for cell in cells)} |"


def _predictions(comparison: Comparison) -> list[str]:
    if not comparison.predictions:
        return []
    lines = [
        "",
        "| What BEFORE's report said to do | in AFTER | promised | came | what came of it | Code |",
        "|---|---|---:|---:|---|---|",
    ]
    for prediction in comparison.predictions:
        act, told = units.sentence(prediction.act), compared.outcome(comparison, prediction)
        cells = (act, *compared.promise(prediction), told, prediction.code)
        lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
    if compared.not_put_down(comparison):
        lines += ["", f"{escape(compared.NOT_PUT_DOWN)}."]
    return lines


def _builds(comparison: Comparison) -> list[str]:
    builds = comparison.builds
    if builds is None:
        return []
    lines = ["", f"**{compared_builds.TITLE}**: {escape(compared_builds.answer(builds), 1200)}."]
    lines += _folded(f"By {compared_builds.NOTE}", [_row(total.name, total) for total in compared.shown(builds.totals)])
    rows = ["", "| region | changed | before | after | difference |", "|---|---|---|---|---:|"]
    for region in builds.regions[: compared.ROWS_SHOWN]:
        sides = (f"{units.quantity(time, 'ns')}: {compared_builds.built(side)}" for time, side in
                 ((region.time.before, region.before), (region.time.after, region.after)))  # fmt: skip
        cells = (compared_builds.name(region), compared_builds.changed(region), *sides, compared.change(region.time))
        rows.append(f"| {' | '.join(escape(cell, 300) for cell in cells)} |")
    rest = compared_builds.unshown(builds, compared.ROWS_SHOWN)
    tail = ["", escape(rest)] if rest else []
    return [*lines, "", f"<details><summary>{compared_builds.REGIONS}</summary>", *rows, *tail, "", "</details>"]


def _folded(title: str, rows: Iterable[str], rest: str = "") -> list[str]:
    rows = list(rows)
    if not rows and not rest:
        return []
    table = ["", *_HEAD, *rows] if rows else []
    tail = ["", escape(rest)] if rest else []
    return ["", f"<details><summary>{title}</summary>", *table, *tail, "", "</details>"]
