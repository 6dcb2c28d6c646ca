"""What went wrong, in one line on standard error: what, where, what next. A traceback only with `--debug`."""

from __future__ import annotations

import sys
import traceback

import click

from nsight_tools import memory, units
from nsight_tools.errors import NsightToolsError
from nsight_tools.report import safe

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

_PREFIX = "nsight-tools: "
_LIMIT = 1000


def report(error: Exception, *, debug: bool) -> int:
    """Say what `error` means for the user; returns the exit status."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, NsightToolsError):
        return _say(f"error: {error}", error.exit_code)
    if isinstance(error, MemoryError):
        what = f"it takes more memory than the {units.size(memory.limit())} that may be used"
        return _say(f"error: {what}; {memory.ALLOW_MORE}, or trace for a shorter time", NsightToolsError.exit_code)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _say(f"error: {where}{error.strerror}", NsightToolsError.exit_code)
    next_step = (
        "please report it with the traceback above" if debug else "run again as nsight-tools --debug … and report it"
    )
    return _say(f"internal error: {type(error).__name__}: {error}; {next_step}", NsightToolsError.exit_code)


def usage(error: click.ClickException) -> int:
    """Say how a command was misused, and which help to read; returns the exit status."""
    ctx: click.Context | None = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "nsight-tools"
    return _say(f"error: {error.format_message().rstrip('.')}; see {path} --help", NsightToolsError.exit_code)


def interrupted() -> int:
    """Say that the user ended it; returns the exit status."""
    return _say("interrupted; nothing half-written was left behind", INTERRUPTED)


def _say(line: str, status: int) -> int:
    # Paths and messages can hold names that others chose: one line, nothing a terminal would obey.
    click.echo(_encodable(f"{_PREFIX}{safe.visible(line, _LIMIT)}"), err=True)
    return status


def _encodable(line: str) -> str:
    try:
        line.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return safe.as_ascii(line)
    return line
