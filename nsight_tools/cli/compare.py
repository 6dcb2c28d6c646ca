"""`nsight-tools compare`: a trace before a change and traces after it into what changed."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison import Comparison
    from nsight_tools.report.terminal import Look
    from nsight_tools.trace import Trace

REGRESSED = 1
NOT_JUDGED = 2


def _percent(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A percentage of 0 or more, with or without its sign."""
    if value is None:
        return None
    with suppress(ValueError):
        if 0 <= (number := float(value.strip().removesuffix("%"))) < float("inf"):
            return number
    raise click.BadParameter(f"'{value}' is no percentage of 0 or more, as 5%")


@click.command(
    "compare",
    short_help="Say what a change did: faster, slower, or noise.",
    epilog="""\b
Example:
  nsight-tools compare before.capture after.capture --fail-on-regression 5%
""",
)
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=Path))
@click.argument("afters", metavar="AFTER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "html", "junit"]),
    default="text",
    show_default=True,
    help="text for a terminal, json for machines, markdown for a pull request, html: one page with figures, junit for "
    "a CI system's test page.",
)
@output.file_option
@click.option(
    "--fail-on-regression",
    "limit",
    metavar="PERCENT",
    callback=_percent,
    help="Exit with 1 where inferences became slower by more, beyond noise; with 2 where that cannot be judged.",
)
@importing.requests_options
@importing.max_memory_option
@importing.nsys_option
@output.all_option
@output.colour_option
@click.pass_obj
def command(
    debug: bool,
    before: Path,
    afters: tuple[Path, ...],
    form: str,
    path: str | None,
    limit: float | None,
    inference_range: str | None,
    group_by: str | None,
    nsys: Path | None,
    color: str,
    *,
    everything: bool,
) -> None:
    """Say what changed from BEFORE to each AFTER, and whether that is more than noise.

    Each is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of capture, or a
    dataset (.trace). Differences are those of the typical inference, with 99 % intervals. What makes two traces not
    comparable (another GPU, another batch, another load on the GPU) comes first, and no verdict is given then:
    --fail-on-regression exits with 2, as it does where there are no inferences, or too few.
    """
    opened = partial(nsight_tools.open_trace, nsys=nsys, inference_range=inference_range, group_by=group_by)
    found: list[Comparison] = []
    status = 0
    with output.opened(path) as write:
        first, outcomes = _analyzed(before, opened)
        for each in afters:
            try:
                found.append(_compared((before, first, outcomes), each, opened))
            except Exception as error:  # noqa: BLE001 (the others are compared all the same)
                status = failures.report(error, debug=debug)
        if not found:
            raise click.exceptions.Exit(status)
        look = partial(output.look, color, to_file=path is not None and str(path) != "-", everything=everything)
        write(_rendered(found, form, limit, look))
    raise click.exceptions.Exit(status or _gate(found, limit))


def _analyzed(source: Path, opened: Callable[..., Trace]) -> tuple[Trace, list[Outcome]]:
    with progress.shown(source.name) as callback:
        trace = opened(source, progress=callback)
        if callback:
            callback("analyzing", None)
        return trace, nsight_tools.analyze(trace, nsight_tools.registry().values())


def _compared(before: tuple[Path, Trace, Sequence[Outcome]], after: Path, opened: Callable[..., Trace]) -> Comparison:
    trace, outcomes = _analyzed(after, opened)
    with progress.shown(after.name) as callback:
        if callback:
            callback("comparing", None)
        names = str(before[0]), str(after)
        return nsight_tools.compare(before[1], trace, names=names, outcomes=(before[2], outcomes))


def _gate(found: Sequence[Comparison], limit: float | None) -> int:
    """The exit status: a regression weighs more than what could not be judged."""
    if limit is None:
        return 0
    from nsight_tools.comparison import regressed

    judged = [regressed(each, limit) for each in found]
    for each, regression in zip(found, judged, strict=True):
        if regression is None:
            why = ", ".join(difference.aspect for difference in each.blocking) or "too few inferences"
            problem = f"{each.after.name}: whether it became slower cannot be judged: {why}"
            failures.report(
                NsightToolsError(problem, hint="compare captures of the same work on the same GPU"), debug=False
            )
    return REGRESSED if any(judged) else NOT_JUDGED if None in judged else 0


def _rendered(found: list[Comparison], form: str, limit: float | None, look: Callable[[], Look]) -> str:
    # Each format's module is imported where it is asked for: rich for text only.
    if form == "json":
        from nsight_tools.report import compared_machine

        return compared_machine.render(found)
    if form == "markdown":
        from nsight_tools.report import compared_markdown

        return compared_markdown.render(found)
    if form == "html":
        from nsight_tools.report import compared_html

        return compared_html.page(found)
    if form == "junit":
        from nsight_tools.report import junit

        return junit.render_comparisons(found, limit)
    from nsight_tools.report import compared_text

    return compared_text.render(found, look())
