"""A comparison for a pull request's comment: the verdict, what makes it doubtful, the buckets; the rest folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.report import compared, compared_builds
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.markdown.escaped import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.comparison.result import Comparison, Difference
    from nsight_tools.report.formats import Context

_HEAD = ("| | before | after | difference | interval | part | |", "|---|---:|---:|---:|---:|---:|---|")


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The comparisons as GitHub-flavoured Markdown, one section each."""
    return "\n".join("\n".join(_section(each)) + "\n" for each in comparisons)


def _section(comparison: Comparison) -> list[str]:
    title = f"## nsight-tools: {escape(compared.title(comparison))}"
    first, *others = (escape(said, 1200) for said in compared.verdicts(comparison))
    lines = [title, "", f"**{first}**", ""]
    lines += [part for said in others for part in (said, "")]
    lines += _setup(comparison)
    lines += [f"- {escape(note, 1200)}" for note in comparison.notes]
    if comparison.wall is not None:
        rows = [(compared.label(each), each) for each in compared.shown(comparison.buckets)]
        lines += ["", *_HEAD, *(_row(name, each) for name, each in (*rows, *compared.walls(comparison)))]
        lines += ["", f"Of {escape(compared.TYPICAL)}."]
    for name, count, judgements in compared.populations(comparison):
        lines += [
            "",
            f"Inferences of kind {escape(name)}, {count}:",
            "",
            *(f"- {escape(each, 1200)}" for each in judgements),
        ]
    lines += _predictions(comparison)
    work = compared.shown(comparison.work)
    lines += _folded("Work and conditions", [_row(each.name, each) for each in (*work, *comparison.conditions)])
    measured = [_row(each.name, each) for each in comparison.measurements]
    lines += _folded("Measured without the profiler", measured)
    lines += _builds(comparison)
    for name, parts in (("Layers", comparison.layers), ("Kernels", comparison.kernels)):
        chosen = compared.changed(parts)[: compared.ROWS_SHOWN]
        rest = compared.unshown(parts)
        lines += _folded(name, [_row(compared.named(each), each) for each in chosen], rest)
    if comparison.untold:
        lines += ["", "What these two cannot tell:", "", *(f"- {escape(each, 1200)}" for each in comparison.untold)]
    return lines


def _setup(comparison: Comparison) -> list[str]:
    if not comparison.setup:
        return []
    rows = (
        f"| {compared.effect_of(each)} | {escape(each.aspect)} | {escape(each.before, 200)} | "
        f"{escape(each.after, 200)} | {escape(each.why)} |"
        for each in comparison.setup
    )
    return ["| | What else differs | before | after | why |", "|---|---|---|---|---|", *rows, ""]


def _row(name: str, each: Difference) -> str:
    cells = (
        name,
        units.quantity(each.before, each.unit),
        units.quantity(each.after, each.unit),
        compared.signed_value(each),
        compared.interval(each),
        compared.part(each),
        compared.CHANGES[each.change],
    )
    return f"| {' | '.join(escape(cell, 200) for cell in cells)} |"


def _predictions(comparison: Comparison) -> list[str]:
    if not comparison.predictions:
        return []
    lines = ["", "| Finding of BEFORE | AFTER | promised | came | |", "|---|---|---:|---:|---|"]
    for each in comparison.predictions:
        cells = (each.code, *compared.promise(each), compared.outcome(comparison, each))
        lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
    if compared.not_put_down(comparison):
        lines += ["", f"{escape(compared.NOT_PUT_DOWN)}."]
    return lines


def _builds(comparison: Comparison) -> list[str]:
    builds = comparison.builds
    if builds is None:
        return []
    lines = ["", f"**{compared_builds.TITLE}**: {escape(compared_builds.answer(builds), 1200)}."]
    lines += _folded(f"By {compared_builds.NOTE}", [_row(each.name, each) for each in compared.shown(builds.totals)])
    rows = ["", "| region | changed | before | after | difference |", "|---|---|---|---|---:|"]
    for each in builds.regions[: compared.ROWS_SHOWN]:
        sides = (f"{units.quantity(time, 'ns')}: {compared_builds.built(side)}" for time, side in
                 ((each.time.before, each.before), (each.time.after, each.after)))  # fmt: skip
        cells = (compared_builds.name(each), compared_builds.changed(each), *sides, compared.change(each.time))
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
