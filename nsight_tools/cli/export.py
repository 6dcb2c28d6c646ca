"""`nsight-tools export`: a trace and its findings for another viewer."""

from __future__ import annotations

from pathlib import Path

import click

import nsight_tools
from nsight_tools.cli import importing, output, progress


@click.command(
    "export",
    short_help="Write the timeline and the findings for Perfetto.",
    epilog="""\b
Example:
  nsight-tools export report.nsys-rep --format perfetto -o trace.perfetto-trace
Then open the file in https://ui.perfetto.dev: it stays in the browser.""",
)
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["perfetto"]),
    default="perfetto",
    show_default=True,
    help="perfetto: protobuf, for ui.perfetto.dev and trace_processor.",
)
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Write to this file, - for standard output; it appears whole or not at all.",
)
@importing.options
def command(
    source: Path,
    form: str,  # noqa: ARG001 (there is one)
    path: Path,
    layers: Path | None,
    layer_pass: Path | None,
    inference_range: str | None,
    group_by: str | None,
    nsys: Path | None,
) -> None:
    """Write what INPUT holds and what the analyses find in it as one timeline for another viewer.

    Tracks for the findings with their windows (the largest recoverable time first), the inferences with their
    accounting, threads with API calls and NVTX ranges, GPUs with their streams, counters; and arrows from each launch
    to what it launched.

    An INPUT is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of
    capture, or a dataset (.trace).
    """
    from nsight_tools.report import perfetto  # pulls in pyarrow; --help goes without
    from nsight_tools.report.content import TraceReport

    with output.opened_binary(path) as write, progress.shown(source.name) as callback:
        trace = nsight_tools.open_trace(
            source,
            nsys=nsys,
            layers=layers,
            layer_pass=layer_pass,
            inference_range=inference_range,
            group_by=group_by,
            progress=callback,
        )
        report = TraceReport.of(source.name, trace)
        if callback:
            callback("writing the timeline", None)
        perfetto.write(report, trace, write)
