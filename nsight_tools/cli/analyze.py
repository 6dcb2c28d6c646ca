"""`nsight-tools analyze`: reports, exports or datasets into findings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.errors import NsightToolsError, need
from nsight_tools.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.fleet.members import Member
    from nsight_tools.fleet.tasks import Result, Task
    from nsight_tools.report.terminal import Look

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
  nsight-tools analyze RUN/*.nsys-rep --dataset RUN/fleet
""",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path())
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
    help="What says rank and host in a path: '(?P<host>[^/]+)/(?P<rank>[0-9]+)'; default: by their usual names.",
)
@click.option(
    "--each", is_flag=True, help="Of several reports, show each by itself too, behind what they have together."
)
@click.pass_obj
def command(
    debug: bool,
    inputs: tuple[str, ...],
    form: str,
    path: str | None,
    chosen: tuple[str, ...],
    ignored: tuple[str, ...],
    fail_on: str,
    layers: Path | None,
    layer_pass: Path | None,
    inference_range: str | None,
    group_by: str | None,
    untraced: Path | None,
    nsys: Path | None,
    color: str,
    *,
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
    Several, as the ranks of a run, are analyzed side by side and laid beside each other: which one is slower than the
    others, in what and since when, and which findings they share. Where one fails, its error goes to standard error,
    the others are analyzed all the same, and the exit status is 2.
    """
    from nsight_tools.fleet import dataset as fleet_dataset  # pulls in pyarrow; --help goes without
    from nsight_tools.fleet.fold import Fleet

    if form == "html":
        need("html", "a page")
    codes = tuple(nsight_tools.select(nsight_tools.registry(), _codes(chosen), _codes(ignored)))
    given = {
        "layers": layers,
        "layer_pass": layer_pass,
        "inference_range": inference_range,
        "group_by": group_by,
        "untraced": untraced,
        "nsys": nsys,
    }
    options = {name: None if value is None else str(value) for name, value in given.items()}
    members, status = _members(inputs, label_pattern, debug=debug)
    if untraced is not None and (len(members) > 1 or dataset is not None):
        raise click.UsageError("--untraced is of one report, and goes into no --dataset")
    with output.opened(path) as write, fleet_dataset.opened(dataset) as unfinished:
        there = _for_workers(members, options) if scheduler else members
        tasks = _tasks(there, codes, options, unfinished, pages=form == "html")
        results: list[Result] = []
        for result in _run(tasks, jobs, scheduler):
            results.append(result)
            status = _failure(result, debug=debug) or status
        order = {member.label: at for at, member in enumerate(members)}
        fleet = Fleet(sorted(results, key=lambda result: order[result.member.label]))
        if not fleet.done:
            raise click.exceptions.Exit(status)
        fleet_dataset.finish(unfinished, fleet.results)
        look = partial(output.look, color, to_file=path is not None and path != "-", everything=everything)
        write(_rendered(fleet, form, fail_on, look, each=each))
    reached = any(f.severity in _LADDER[fail_on] for report in fleet.reports for f in report.all_findings)
    raise click.exceptions.Exit(status or int(reached))


def _codes(options: Iterable[str]) -> list[str]:
    return [code.strip().upper() for option in options for code in option.split(",") if code.strip()]


def _members(inputs: Iterable[str], pattern: str | None, *, debug: bool) -> tuple[list[Member], int]:
    """The reports that the inputs name, and the exit status that those cause which name none."""
    from nsight_tools.fleet import members

    found, status = [], 0
    for each in inputs:
        try:
            found += members.expanded(str(each))
        except (NsightToolsError, OSError) as error:
            status = failures.report(error, debug=debug)
    return members.labelled(found, pattern=pattern), status


def _tasks(
    members: Sequence[Member],
    codes: tuple[str, ...],
    options: dict[str, str | None],
    dataset: str | None,
    *,
    pages: bool,
) -> list[Task]:
    from nsight_tools.fleet.tasks import Task

    laid_beside = len(members) > 1 or dataset is not None
    return [
        Task(member, codes, options, laid_beside, dataset, at if pages else None)
        for at, member in enumerate(members, 1)
    ]


def _for_workers(members: Sequence[Member], options: dict[str, str | None]) -> list[Member]:
    """Paths as they hold from any folder: workers run in folders of their own."""
    from nsight_tools.fleet.remote import is_url

    for name in ("layers", "layer_pass", "untraced", "nsys"):
        if (path := options[name]) is not None:
            options[name] = str(Path(path).absolute())
    return [m if is_url(m.source) else replace(m, source=str(Path(m.source).absolute())) for m in members]


def _run(tasks: Sequence[Task], jobs: int | None, scheduler: str | None) -> Iterator[Result]:
    """The results as they come: from a cluster, from processes here, or one after the other from this one."""
    from nsight_tools import memory
    from nsight_tools.fleet import cluster, pool
    from nsight_tools.fleet.tasks import run

    if scheduler is None and (jobs == 1 or len(tasks) <= 1):
        for task in tasks:
            with progress.shown(task.member.source.rstrip("/").rpartition("/")[2]) as callback:
                result = run(task, progress=callback)
            yield result
        return
    at_a_time = min(jobs or pool.default_jobs(), len(tasks))
    with progress.shown(f"{len(tasks)} reports") as callback:
        running = (
            cluster.run(_limited(tasks, memory.asked()), scheduler)
            if scheduler
            else pool.run(_limited(tasks, memory.limit() // at_a_time), at_a_time)
        )
        for done, result in enumerate(running, 1):
            if callback:
                callback(f"{done} done, last {result.member.label}", done / len(tasks))
            yield result


def _limited(tasks: Sequence[Task], memory_bytes: int | None) -> list[Task]:
    return [replace(task, memory_bytes=memory_bytes) for task in tasks]


def _failure(result: Result, *, debug: bool) -> int:
    from nsight_tools.fleet.tasks import Failed

    if not isinstance(result, Failed):
        return 0
    return failures.say(result.because, result.traceback, result.status, debug=debug)


def _rendered(fleet: Fleet, form: str, fail_on: str, look: Callable[[], Look], *, each: bool) -> str:
    # Each format's module is imported where it is asked for: rich for text only.
    many = len(fleet.results) > 1
    if form == "html":
        from nsight_tools.report import html

        return html.page([done.section for done in fleet.done])
    if form == "junit":
        from nsight_tools.report import junit

        return junit.render(fleet.reports, _LADDER[fail_on])
    if form == "json":
        from nsight_tools.fleet import machine as fleet_machine
        from nsight_tools.report import machine

        return fleet_machine.render(fleet) if many else machine.render(fleet.reports)
    if form == "markdown":
        from nsight_tools.fleet import markdown as fleet_markdown
        from nsight_tools.report import markdown

        whole = [fleet_markdown.render(fleet)] if many else []
        return "\n".join([*whole, markdown.render(fleet.reports)] if each or not many else whole)
    from nsight_tools.fleet import text as fleet_text
    from nsight_tools.report import text

    if not many:
        return text.render(fleet.reports, look())
    return fleet_text.render(fleet, look(), fleet.reports if each else ())
