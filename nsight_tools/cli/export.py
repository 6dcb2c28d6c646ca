"""`nsight-tools export`: a trace and its findings for another viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import importing, output, progress
from nsight_tools.report import formats, safe
from nsight_tools.report.context import Exported

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


@click.command(
    "export",
    short_help="Write the timeline and the findings for Perfetto, or what trtexec would have written.",
    epilog="""\b
Example:
  nsight-tools export report.nsys-rep --format perfetto -o trace.perfetto-trace
Then open the file in https://ui.perfetto.dev: it stays in the browser.

\b
  nsight-tools export model.capture --format trtexec -o exported
writes exported/model.engine.timing.json, .profile.json and .graph.json.

\b
  nsight-tools export model.capture --format dl-designer --onnx model.onnx -o nodes""",
)
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@output.format_option(formats.EXPORT, default="perfetto")
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="perfetto: this file, - for standard output; others: this new folder. It appears whole or not at all.",
)
@click.option(
    "--onnx",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="dl-designer: the ONNX model that the engine was built from, to stand beside the table of its nodes.",
)
@importing.options()
def command(source: Path, form: str, path: Path, onnx: Path | None, imported: importing.Imported) -> None:
    """Write what INPUT holds and what the analyses find in it for another viewer, or as trtexec's files.

    For Perfetto: one timeline with tracks for the findings with their windows (what gives most time back first), the
    inferences with their accounting, threads with API calls and NVTX ranges, GPUs with their streams, counters; and
    arrows from each launch to what it launched.

    For Nsight Deep Learning Designer: a table of the ONNX nodes with the layers that they became and what those take,
    the model (--onnx), the engine where a run directory holds it, and the steps.

    trtexec's files are for tools that read those: times of inferences (of the run without the profiler where there is
    one), layer times (by TensorRT's own profiler where `capture --profiler` ran it), and the engine's layers.

    An INPUT is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of
    capture, or a dataset (.trace).
    """
    exporter = formats.EXPORT.find(form)
    if onnx is not None and not exporter.TAKES_ONNX:
        takers = (name for name in formats.EXPORT.names() if formats.EXPORT.find(name).TAKES_ONNX)
        raise click.UsageError(f"--onnx is an option of --format {' or '.join(takers)}")
    with _target(path, folder=exporter.FOLDER) as write, progress.shown(source.name) as callback:
        trace = nsight_tools.open_trace(source, progress=callback, **imported)
        told = exporter.write(Exported(source, trace, onnx, callback), write)
    for name, note in told:
        click.echo(f"nsight-tools: {path / name}: {safe.visible(note, 200)}", err=True)


def _target(path: Path, *, folder: bool) -> AbstractContextManager[Callable[..., None]]:
    return output.new_folder(path) if folder else output.opened_binary(path)
