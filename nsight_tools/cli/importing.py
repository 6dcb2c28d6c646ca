"""The options of an import, which every command that imports takes as one value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from nsight_tools import memory

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., object]")


class Imported(TypedDict, total=False):
    """How a report is to be imported: keywords of `open_trace` and `import_report`, of the options that there are."""

    layers: Path | None
    layer_pass: Path | None
    inference_range: str | None
    group_by: str | None
    nsys: Path | None


_PATH = click.Path(path_type=Path)
_OPTIONS: dict[str, dict[str, Any]] = {
    "layers": {
        "metavar": "FILE",
        "type": _PATH,
        "help": "The engine inspector's JSON (trtexec --exportLayerInfo); default: <stem>.layers.json beside the "
        "report.",
    },
    "layer_pass": {
        "metavar": "FILE",
        "type": _PATH,
        "help": "A run of the same engine with layer ranges, from which the kernels of CUDA graphs get their layers.",
    },
    "inference_range": {
        "metavar": "NAME[@DOMAIN]",
        "help": "NVTX ranges that are inferences, * for anything; default: what the trace itself shows.",
    },
    "group_by": {
        "metavar": "TEXT",
        "help": "The number beside this text in the ranges' names tells kinds of inferences apart: 'ctx reqs'.",
    },
    "max_memory": {
        "metavar": "SIZE",
        "help": "Stop with an error where more memory is needed, as 8G (all processes together); default: 3/4 of the "
        "machine's.",
    },
    "nsys": {"metavar": "PATH", "type": _PATH, "help": "The nsys to export reports with."},
}
"""In the order of `--help`."""
REQUESTS = ("inference_range", "group_by")
"""What tells inferences."""


def options(*names: str) -> Callable[[Command], Command]:
    """Give a command these options of an import (all, where none is named), and `--max-memory`.

    It takes their values as one, `imported`; `--max-memory` holds for as long as it runs.
    """

    def add(command: Command) -> Command:
        for name in reversed(_OPTIONS):
            if name == "max_memory":
                command = _option(name, callback=_fenced, expose_value=False)(command)
            elif name in names or not names:
                command = _option(name, callback=_collected, expose_value=False)(command)
        return command

    return add


def requests_options(command: Command) -> Command:
    """Give a command the options that tell inferences, each a value of its own."""
    for name in reversed(REQUESTS):
        command = _option(name)(command)
    return command


def untraced_option(command: Command) -> Command:
    """Give a command `--untraced`."""
    return click.option(
        "--untraced",
        metavar="FILE",
        type=_PATH,
        help="Times of the same run without the profiler: trtexec's --exportTimes, what a program wrote that ran with "
        "NSIGHT_TOOLS_TIMES=times.json, or a benchmark.parquet.",
    )(command)


def _option(name: str, **how: Any) -> Callable[[Command], Command]:
    return click.option(f"--{name.replace('_', '-')}", **_OPTIONS[name], **how)


def _collected(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    ctx.params.setdefault("imported", {})[parameter.name] = value


def _fenced(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    try:
        ctx.with_resource(memory.limited(memory.parsed(value) if value is not None else None))
        ctx.with_resource(memory.fenced())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
