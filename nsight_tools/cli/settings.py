"""Options of `capture` as a sweep and a tuning take them: some fixed, some with several values at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nsight_tools import files
from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.cli import capture, output
from nsight_tools.errors import MissingPackageError
from nsight_tools.report import formats, safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nsight_tools.capture.supervised import Interrupts

_Measured = TypeVar("_Measured")
GOES_ON = "the same command goes on from here"
RUN = (
    *("batch", "streams", "threads", "use_cuda_graph", "use_spin_wait", "no_data_transfers", "overlap_transfers"),
    *("default_stream", "pageable"),
)
"""How an engine is run, where that is a number or a switch."""
BUILD = tuple(name for name, row in BY_NAME.items() if row.read is None or row.metavar == "N")
"""The same of how it is built and loaded."""
GIVEN = (
    *("shapes", "iterations", "duration", "warm_up", "idle_time", "load_inputs", "device"),
    *(name for name in BY_NAME if name not in BUILD),
    "runtime",
)
"""What all settings share."""
OUTPUTS = ("reference", "accuracy")
"""What outputs are compared with."""
PROGRAM = ("telemetry_hz", "python")
_BOTH = {"both": (False, True), "yes": (True,), "no": (False,)}


class Several(click.ParamType):  # type: ignore[type-arg]
    """Values of an option with commas between them; a switch takes yes, no or both."""

    name = "values"

    def __init__(self, option: click.Option) -> None:
        self._switch, self._type = option.is_flag, option.type
        row = BY_NAME.get(option.name or "")
        self._read = row.read if row else None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        if self._switch:
            if value not in _BOTH:
                self.fail(f"'{value}' is none of {', '.join(_BOTH)}; the MODEL comes first", param, ctx)
            return _BOTH[value]
        return tuple(dict.fromkeys(self._one(text, param, ctx) for text in str(value).split(",")))

    def _one(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self._read is None:
            return self._type.convert(text, param, ctx)
        try:
            return self._read(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def add(command: click.Command, names: Iterable[str], *, several: bool = False) -> None:
    """Give a command the options of these names, as `capture` has them, or each with several values."""
    known = {option.name: option for option in capture.command.params if isinstance(option, click.Option)}
    command.params += [_several(known[name]) if several else known[name] for name in names]


def _several(option: click.Option) -> click.Option:
    kind = Several(option)
    if option.is_flag:
        return click.Option(
            [*option.opts, option.name or ""],
            type=kind,
            is_flag=False,
            flag_value="yes",
            metavar="[both]",
            help=option.help,
        )
    return click.Option([*option.opts, option.name or ""], type=kind, metavar="N,…", help=option.help)


_NANOSECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1e6, "s": 1e9, "m": 60e9, "min": 60e9, "h": 3600e9}


def time_of(text: str, *units: str) -> float | None:
    """A time as `5ms`, in ns, in one of these units; None of what is none, and of no time at all."""
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(units)})\s*", text)
    return float(match[1]) * _NANOSECONDS[match[2]] or None if match else None


WHOLE = 10_000
"""Characters of a line on standard output: what is to be pasted loses nothing."""


retry_failed = click.option("--retry-failed", is_flag=True, help="Try again what failed before.")


def failed_before(count: int) -> str:
    """What becomes of so many settings that failed before."""
    return f"{count} failed before, and {'is' if count == 1 else 'are'} not tried again without --retry-failed"


def tell(line: str) -> None:
    """A line of the result, on standard output."""
    output.show(f"{safe.visible(line, WHOLE)}\n")


def interrupts() -> Interrupts:
    """What Ctrl-C and SIGTERM mean: each run that was made is in the table or the ledger by then."""
    from nsight_tools.capture.supervised import Interrupts

    return Interrupts(output.say, stopped="dropping it", left=GOES_ON)


def write_page(path: Path, kind: formats.Kind[formats.Format[_Measured]], measured: _Measured) -> None:
    """Write the page of what was measured; where the extra that draws it is missing, say so: all else is kept."""
    try:
        page = kind.find("html")
    except MissingPackageError as error:
        output.say(str(error))
        return
    files.write(path, page.render(measured))


def given(
    ctx: click.Context, options: Mapping[str, Any], names: Iterable[str] = GIVEN
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all settings share: options by name as they were read, and those that were given as they were typed."""
    read = {name: options[name] for name in names if not _is_nothing(options[name])}
    raw = ctx.meta.get(capture.AS_TYPED, {})
    line = click.core.ParameterSource.COMMANDLINE
    typed = {name: _text(raw.get(name, read[name])) for name in read if ctx.get_parameter_source(name) is line}
    return read, typed


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value in ((), [])


def _text(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, tuple) else str(value)
