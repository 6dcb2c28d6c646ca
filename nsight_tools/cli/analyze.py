"""`nsight-tools analyze`: reports, exports or datasets into findings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nsight_tools.analysis import Analysis
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.terminal import Look
    from nsight_tools.trace import Trace

_LADDER = {
    "error": {Severity.ERROR},
    "warning": {Severity.ERROR, Severity.WARNING},
    "info": set(Severity),
    "never": set[Severity](),
}


@click.command(
    "analyze",
    short_help="Find what costs time, why, and what to change.",
    epilog="""\b
Example:
  nsight-tools analyze report.nsys-rep
  nsight-tools analyze model.capture --select PCI,STR --fail-on warning
""",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
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
@click.option("--select", "chosen", metavar="CODES", multiple=True, help="Only these: PCI001,STR or several --select.")
@click.option(
    "--ignore", "ignored", metavar="CODES", multiple=True, help="Not these; a prefix as PCI means the family."
)
@click.option(
    "--fail-on",
    type=click.Choice(list(_LADDER)),
    default="never",
    show_default=True,
    help="Exit with 1 where a finding is this severe or more; what could not be judged does not count.",
)
@importing.options
@output.all_option
@output.colour_option
@click.pass_obj
def command(
    debug: bool,
    inputs: tuple[Path, ...],
    form: str,
    path: Path | None,
    chosen: tuple[str, ...],
    ignored: tuple[str, ...],
    fail_on: str,
    layers: Path | None,
    layer_pass: Path | None,
    inference_range: str | None,
    nsys: Path | None,
    color: str,
    *,
    everything: bool,
) -> None:
    """Say where the time went in each INPUT, what could be won, and what to change for it.

    An INPUT is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of capture, or a
    dataset (.trace). Each gets a section of its own. Where one fails, its error goes to standard error, the others are
    analyzed all the same, and the exit status is 2.
    """
    analyses = list(nsight_tools.select(nsight_tools.registry(), _codes(chosen), _codes(ignored)).values())
    opened = partial(
        nsight_tools.open_trace, nsys=nsys, layers=layers, layer_pass=layer_pass, inference_range=inference_range
    )
    reports: list[TraceReport] = []
    sections: list[str] = []
    status = 0
    with output.opened(path) as write:
        for each in inputs:
            try:
                report, section = _analyzed(each, analyses, opened, len(reports) + 1 if form == "html" else None)
                reports.append(report)
                sections.append(section)
            except Exception as error:  # noqa: BLE001 (the others are analyzed all the same)
                status = failures.report(error, debug=debug)
        if not reports:
            raise click.exceptions.Exit(status)
        if form == "html":
            from nsight_tools.report import html

            write(html.page(sections))
        else:
            look = partial(output.look, color, to_file=path is not None and str(path) != "-", everything=everything)
            write(_rendered(reports, form, fail_on, look))
    reached = any(f.severity in _LADDER[fail_on] for report in reports for f in report.all_findings)
    raise click.exceptions.Exit(status or int(reached))


def _codes(options: Iterable[str]) -> list[str]:
    return [code.strip().upper() for option in options for code in option.split(",") if code.strip()]


def _analyzed(
    source: Path, analyses: Sequence[Analysis], opened: Callable[..., Trace], position: int | None
) -> tuple[TraceReport, str]:
    """The report of one input, and its section at this position of a page where one is asked for."""
    from nsight_tools.report.content import TraceReport  # pulls in pyarrow; --help goes without

    with progress.shown(source.name) as callback:
        trace = opened(source, progress=callback)
        outcomes = []
        for done, analysis in enumerate(analyses):
            if callback:
                callback(f"{analysis.code} {analysis.name}", done / len(analyses))
            outcomes += nsight_tools.analyze(trace, [analysis])
        report = TraceReport(str(source), trace.summary(), outcomes)
        if position is None:
            return report, ""
        if callback:
            callback("figures", 1.0)
        from nsight_tools.report import html  # pulls in matplotlib

        return report, html.section(report, trace, position)  # now: no trace is held for longer than its own section


def _rendered(reports: list[TraceReport], form: str, fail_on: str, look: Callable[[], Look]) -> str:
    # Each format's module is imported where it is asked for: rich for text only.
    if form == "json":
        from nsight_tools.report import machine

        return machine.render(reports)
    if form == "markdown":
        from nsight_tools.report import markdown

        return markdown.render(reports)
    if form == "junit":
        from nsight_tools.report import junit

        return junit.render(reports, _LADDER[fail_on])
    from nsight_tools.report import text

    return text.render(reports, look())
