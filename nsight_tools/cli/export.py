"""`nsight-tools export`: a trace and its findings for another viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import importing, output, progress
from nsight_tools.report import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools import Trace
    from nsight_tools.importer.dataset import Progress


@click.command(
    "export",
    short_help="Write the timeline and the findings for Perfetto, or what trtexec would have written.",
    epilog="""\b
Example:
  nsight-tools export report.nsys-rep --format perfetto -o trace.perfetto-trace
Then open the file in https://ui.perfetto.dev: it stays in the browser.

\b
  nsight-tools export model.capture --format trtexec -o exported
writes exported/model.engine.timing.json, .profile.json and .graph.json.""",
)
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["perfetto", "trtexec"]),
    default="perfetto",
    show_default=True,
    help="perfetto: protobuf, for ui.perfetto.dev and trace_processor; trtexec: its --exportTimes, --exportProfile and "
    "--exportLayerInfo, into a folder.",
)
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Write to this file, - for standard output, for trtexec to this new folder; it appears whole or not at all.",
)
@importing.options
def command(
    source: Path,
    form: str,
    path: Path,
    layers: Path | None,
    layer_pass: Path | None,
    inference_range: str | None,
    group_by: str | None,
    nsys: Path | None,
) -> None:
    """Write what INPUT holds and what the analyses find in it for another viewer, or as trtexec's files.

    For Perfetto: one timeline with tracks for the findings with their windows (the largest recoverable time first), the
    inferences with their accounting, threads with API calls and NVTX ranges, GPUs with their streams, counters; and
    arrows from each launch to what it launched.

    trtexec's files are for tools that read those: times of inferences (of the run without the profiler where there is
    one), layer times (by TensorRT's own profiler where `capture --profiler` ran it), and the engine's layers.

    An INPUT is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of
    capture, or a dataset (.trace).
    """
    from nsight_tools.report.content import TraceReport  # pulls in pyarrow; --help goes without

    def opened(progress: Progress | None) -> Trace:
        return nsight_tools.open_trace(
            source,
            nsys=nsys,
            layers=layers,
            layer_pass=layer_pass,
            inference_range=inference_range,
            group_by=group_by,
            progress=progress,
        )

    if form == "trtexec":
        _as_trtexec(opened, path)
        return
    from nsight_tools.report import perfetto

    with output.opened_binary(path) as write, progress.shown(source.name) as callback:
        trace = opened(callback)
        report = TraceReport.of(source.name, trace)
        if callback:
            callback("writing the timeline", None)
        perfetto.write(report, trace, write)


def _as_trtexec(opened: Callable[[Progress | None], Trace], path: Path) -> None:
    """Write trtexec's files of a trace into a new folder, and say what each of them holds."""
    from nsight_tools.report import trtexec_files

    with output.new_folder(path) as write:
        with progress.shown(path.name) as callback:
            written = trtexec_files.files(opened(callback))
        for file in written:
            write(file.name, file.text)
    for file in written:
        click.echo(f"nsight-tools: {path / file.name}: {safe.visible(file.said, 200)}", err=True)
