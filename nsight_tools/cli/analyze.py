"""`nsight-tools analyze`: reports, exports or datasets into findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.findings import Severity
from nsight_tools.report import formats
from nsight_tools.report.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nsight_tools.fleet.results import Result

_LADDER = {
    "error": {Severity.ERROR},
    "warning": {Severity.ERROR, Severity.WARNING},
    "info": set(Severity),
    "never": set[Severity](),
}

select_option = click.option(
    "--select", "chosen", metavar="CODES", multiple=True, help="Only these: PCI001,STR or several --select."
)
ignore_option = click.option(
    "--ignore", "ignored", metavar="CODES", multiple=True, help="Not these; a prefix as PCI means the family."
)


@click.command(
    "analyze",
    short_help="Find what costs time, why, and what to change.",
    epilog="""\b
Example:
  nsight-tools analyze report.nsys-rep
  nsight-tools analyze model.capture --select PCI,STR --fail-on warning
  nsight-tools analyze RUN/*.nsys-rep --dataset RUN/fleet
""",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path())
@output.format_option(formats.TRACE)
@output.file_option
@select_option
@ignore_option
@click.option(
    "--fail-on",
    type=click.Choice(list(_LADDER)),
    default="never",
    show_default=True,
    help="Exit with 1 where a finding is this severe or more; what could not be judged does not count.",
)
@importing.options()
@importing.untraced_option
@output.all_option
@output.colour_option
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    help="Reports analyzed at a time, each in a process of its own; default: one for each CPU.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Analyze on the Dask cluster of this scheduler: tcp://HOST:8786.")
@click.option(
    "--dataset",
    metavar="FOLDER",
    type=click.Path(),
    help="Put the tables of all reports into this folder (or URL) too, partitioned by report.",
)
@click.option(
    "--label-pattern",
    metavar="REGEX",
    help="What tells rank and host in a path: '(?P<host>[^/]+)/(?P<rank>[0-9]+)'; default: by their usual names.",
)
@click.option("--each", is_flag=True, help="Of several reports, show each one too, after what they have in common.")
@click.pass_obj
def command(
    debug: bool,
    inputs: tuple[str, ...],
    form: str,
    path: str | None,
    chosen: tuple[str, ...],
    ignored: tuple[str, ...],
    fail_on: str,
    untraced: Path | None,
    color: str,
    *,
    imported: importing.Imported,
    everything: bool,
    jobs: int | None,
    scheduler: str | None,
    dataset: str | None,
    label_pattern: str | None,
    each: bool,
) -> None:
    """Say where the time went in each INPUT, what could be won, and what to change for it.

    An INPUT is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of capture, or a
    dataset (.trace); what trtexec wrote as JSON (--exportTimes, --exportProfile, --exportLayerInfo), or the engine that
    it stands beside (model.engine.profile.json); a folder of those; a list of them (.txt or .list, one a line); or a
    URL that fsspec reads.
    Several, as the ranks of a run, are analyzed side by side and compared with each other: which one is slower than the
    others, in what and since when, and which findings they share. Where one fails, its error goes to standard error,
    the others are analyzed all the same, and the exit status is 2.
    """
    from nsight_tools.fleet import assembly  # pulls in pyarrow; --help goes without
    from nsight_tools.fleet import formats as of_many
    from nsight_tools.fleet.results import Failed

    formats.TRACE.find(form)  # says what it lacks before anything is read
    codes = tuple(nsight_tools.select(nsight_tools.registry(), _codes(chosen), _codes(ignored)))
    given: dict[str, Any] = {**imported, "untraced": untraced}
    options = {name: None if value is None else str(value) for name, value in given.items()}
    wanted = assembly.Wanted(codes, options, form, jobs, scheduler, dataset)
    statuses = [0]
    members = assembly.members(
        inputs, label_pattern, lambda error: statuses.append(failures.report(error, debug=debug))
    )
    if untraced is not None and (len(members) > 1 or dataset is not None):
        raise click.UsageError("--untraced is of one report, and goes into no --dataset")

    def came(result: Result) -> None:
        if isinstance(result, Failed):
            statuses.append(failures.say(result.because, result.traceback, result.status, debug=debug))

    with output.opened(path) as write, assembly.assembled(members, wanted, came, progress.shown) as fleet:
        if not fleet.done:
            raise click.exceptions.Exit(statuses[-1])
        look = output.look(color, to_file=path is not None and path != "-", everything=everything)
        write(of_many.render(fleet, form, Context(look, each=each, failing=_LADDER[fail_on])))
    reached = any(f.severity in _LADDER[fail_on] for report in fleet.reports for f in report.all_findings)
    raise click.exceptions.Exit(statuses[-1] or int(reached))


def _codes(options: Iterable[str]) -> list[str]:
    return [code.strip().upper() for option in options for code in option.split(",") if code.strip()]
