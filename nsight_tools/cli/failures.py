"""What went wrong, in one line on standard error: what, where, what next. A traceback only with `--debug`."""

from __future__ import annotations

import re
import sys
import traceback

import click

from nsight_tools import memory
from nsight_tools.errors import INTERNAL, INTERRUPTED, NsightToolsError, explained, meant
from nsight_tools.report import safe

_CHOICE = re.compile(r"'([^']*)' is not one of (.*)$")
"""How click refuses what is none of an option's values."""
_PREFIX = "nsight-tools: "
_LIMIT = 1000


def report(error: Exception, *, debug: bool) -> int:
    """Say what `error` means for the user; returns the exit status."""
    message, status = explained(memory.exceeded() if isinstance(error, MemoryError) else error)
    return say(message, "".join(traceback.format_exception(error)), status, debug=debug)


def say(message: str, trace: str, status: int, *, debug: bool) -> int:
    """Say what failed, here or in another process, with its traceback where that is asked for; returns the status."""
    if debug and trace:
        click.echo(trace, err=True, nl=False)
    if message.startswith(INTERNAL):
        again = "please report it with the traceback above"
        message += f"; {again if debug else 'run again with --debug and report it'}"
    return _say(message, status)


def usage(error: click.ClickException) -> int:
    """Say how a command was misused, and which help to read; returns the exit status."""
    ctx: click.Context | None = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "nsight-tools"
    message = error.format_message().rstrip(".")
    if choice := _CHOICE.search(message):
        message = f"{message}; {near}" if (near := meant(choice[1], re.findall(r"'(.*?)'", choice[2]))) else message
    return _say(f"error: {message}{'' if message.endswith('?') else ';'} see {path} --help", NsightToolsError.exit_code)


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
