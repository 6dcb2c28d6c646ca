"""`nsight-tools import`: reports and exports into datasets."""

from __future__ import annotations

from pathlib import Path

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.report import safe


@click.command(
    "import",
    short_help="Turn reports into datasets, which are quick to analyze again.",
    epilog="""\b
Example:
  nsight-tools import report.nsys-rep -o datasets/
""",
)
@click.argument("reports", metavar="REPORT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the datasets into this folder, each as <report>.trace; default: beside its report.",
)
@click.option("--force", is_flag=True, help="Import again what is imported already and unchanged.")
@click.option(
    "--keep-environment",
    is_flag=True,
    help="Keep environment variables, user, host, command line and process output; default: left out.",
)
@importing.options()
@click.pass_obj
def command(
    debug: bool,
    reports: tuple[Path, ...],
    folder: Path | None,
    imported: importing.Imported,
    *,
    force: bool,
    keep_environment: bool,
) -> None:
    """Turn each REPORT into a dataset, and print its path.

    A REPORT is an .nsys-rep or .qdrep file (which takes an nsys that is at least as new), a .sqlite export, an nsys
    parquetdir, or a run directory of capture. What is imported already is used again unless it changed. Where one
    REPORT fails, the others are imported all the same, and the exit status is 2.
    """
    reports = tuple(dict.fromkeys(reports))
    if folder is not None and len({report.name for report in reports}) < len(reports):
        raise click.UsageError("two reports of one name would become one dataset: give each a folder of its own")
    status = 0
    for report in reports:
        try:
            with progress.shown(report.name) as callback:
                written = nsight_tools.import_report(
                    report,
                    folder,
                    force=force,
                    keep_environment=keep_environment,
                    progress=callback,
                    **imported,
                )
        except Exception as error:  # noqa: BLE001 (the others are imported all the same)
            status = failures.report(error, debug=debug)
        else:
            output.show(f"{safe.visible(written, 10_000)}\n")
    click.get_current_context().exit(status)
