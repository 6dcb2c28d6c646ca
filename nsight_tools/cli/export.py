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
    from nsight_tools.importer.streaming import Progress


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
@click.option(
    "--format",
    "form",
    type=click.Choice(["perfetto", "trtexec", "dl-designer"]),
    default="perfetto",
    show_default=True,
    help="perfetto: protobuf, for ui.perfetto.dev and trace_processor; trtexec: its --exportTimes, --exportProfile and "
    "--exportLayerInfo, into a folder; dl-designer: what each ONNX node costs, for Nsight Deep Learning Designer.",
)
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
@importing.options
def command(
    source: Path,
    form: str,
    path: Path,
    onnx: Path | None,
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

    For Nsight Deep Learning Designer: a table of the ONNX nodes with the layers that they became and what those take,
    the model (--onnx), the engine where a run directory holds it, and the steps.

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

    if onnx is not None and form != "dl-designer":
        raise click.UsageError("--onnx is an option of --format dl-designer")
    if form == "trtexec":
        _as_trtexec(opened, path)
        return
    if form == "dl-designer":
        _for_designer(opened, source, onnx, path)
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


def _for_designer(opened: Callable[[Progress | None], Trace], source: Path, onnx: Path | None, path: Path) -> None:
    """Write what each ONNX node costs into a new folder, with the model, the engine, and what to do with them."""
    from nsight_tools import run_files
    from nsight_tools.report import onnx_nodes

    with output.new_folder(path) as write:
        with progress.shown(path.name) as callback:
            found = onnx_nodes.costs(opened(callback))
        folder = source if source.is_dir() else source.parent
        engines = [file for file in sorted(folder.iterdir()) if file.suffix in run_files.ENGINES]
        engine = engines[0] if len(engines) == 1 and (folder / run_files.RUN).is_file() else None
        for file in filter(None, (onnx, engine)):
            write(file.name, file)
        write(onnx_nodes.TABLE, onnx_nodes.table(found))
        write(onnx_nodes.STEPS, onnx_nodes.steps(found, onnx.name if onnx else "", engine.name if engine else ""))
    count = len({node for each in found for node in each.nodes})
    click.echo(
        f"nsight-tools: {path}: {count:,} ONNX nodes in {len(found):,} layers; {onnx_nodes.STEPS} says how", err=True
    )
