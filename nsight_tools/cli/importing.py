"""The options of an import, which every command that imports takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from nsight_tools import memory

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., object]")


def requests_options(command: Command) -> Command:
    """Add `--inference-range` and `--group-by` to a command."""
    named = click.option(
        "--inference-range",
        metavar="NAME[@DOMAIN]",
        help="NVTX ranges that are inferences, * for anything; default: what the trace itself shows.",
    )
    grouped = click.option(
        "--group-by",
        metavar="TEXT",
        help="The number beside this text in the ranges' names tells kinds of inferences apart: 'ctx reqs'.",
    )
    return named(grouped(command))


def nsys_option(command: Command) -> Command:
    """Add `--nsys` to a command."""
    return click.option(
        "--nsys", metavar="PATH", type=click.Path(path_type=Path), help="The nsys to export reports with."
    )(command)


def _fenced(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    try:
        ctx.with_resource(memory.limited(memory.parsed(value) if value is not None else None))
        ctx.with_resource(memory.fenced())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def max_memory_option(command: Command) -> Command:
    """Add `--max-memory` to a command, which holds for as long as that runs."""
    return click.option(
        "--max-memory",
        metavar="SIZE",
        callback=_fenced,
        expose_value=False,
        help="Stop with an error where more memory is needed, as 8G (all processes together); default: 3/4 of the "
        "machine's.",
    )(command)


def untraced_option(command: Command) -> Command:
    """Add `--untraced` to a command."""
    return click.option(
        "--untraced",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Times of the same run without the profiler: trtexec's --exportTimes, what a program wrote that ran with "
        "NSIGHT_TOOLS_TIMES=times.json, or a benchmark.parquet.",
    )(command)


def options(command: Command) -> Command:
    """Add `--layers`, `--layer-pass`, `--inference-range`, `--group-by`, `--max-memory` and `--nsys` to a command."""
    layers = click.option(
        "--layers",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The engine inspector's JSON (trtexec --exportLayerInfo); default: <stem>.layers.json beside the report.",
    )
    layer_pass = click.option(
        "--layer-pass",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A run of the same engine with layer ranges, from which the kernels of CUDA graphs get their layers.",
    )
    return layers(layer_pass(requests_options(max_memory_option(nsys_option(command)))))
