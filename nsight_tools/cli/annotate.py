"""`nsight-tools annotate`: findings onto the timeline that Nsight Systems itself shows."""

from __future__ import annotations

from pathlib import Path

import click

import nsight_tools
from nsight_tools.cli import importing, output, progress
from nsight_tools.report import safe


@click.command(
    "annotate",
    short_help="Put the findings onto Nsight Systems' own timeline.",
    epilog="""\b
Example:
  nsight-tools annotate report.nsys-rep -o annotated.nsys-rep
  nsys-ui annotated.nsys-rep""",
)
@click.argument("source", metavar="REPORT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The annotated report, which must not exist yet; it appears whole or not at all.",
)
@importing.options()
def command(source: Path, path: Path, imported: importing.Imported) -> None:
    """Copy REPORT (.nsys-rep or .qdrep) with rows for its findings and slowest inferences.

    In Nsight Systems' window they stand at the top, under Target (0:0): one row for each finding, what gives most time
    back first, with the places to look at; and one for each of the slowest inferences, with what ran for it on the GPU
    and where nothing did. Needs the full Nsight Systems, which brings ImportNvtxt.
    """
    from nsight_tools import nsys as nsight_systems  # these pull in pyarrow; --help goes without
    from nsight_tools.errors import InputError
    from nsight_tools.report import nvtxt
    from nsight_tools.report.content import TraceReport

    if source.is_file() and not nsight_systems.is_report(source):
        raise InputError(source, "is no report", hint="annotate takes the .nsys-rep that Nsight Systems wrote")
    installed = nsight_systems.find(imported["nsys"])
    installed.nvtxt_importer(source, path)  # before minutes of work
    with progress.shown(source.name) as callback:
        trace = nsight_tools.open_trace(source, progress=callback, **imported)
        report = TraceReport.of(source.name, trace)
        text, events = nvtxt.render(report, trace)
        if not events:
            raise InputError(
                source, "has neither findings nor inferences to show", hint="nsight-tools analyze says what it lacks"
            )
        taken = installed.import_nvtxt(source, text, path, progress=callback)
    left = f" ({events - taken:,} lie outside of the session)" if taken < events else ""
    output.show(f"{safe.visible(path, 10_000)}: {taken:,} events added{left}\n")
