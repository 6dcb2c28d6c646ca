"""The command line. A command's module is imported when it is asked for, and the heavy ones when it runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

import nsight_tools
from nsight_tools.cli import failures
from nsight_tools.errors import NsightToolsError, meant

PROGRAM = "nsight-tools"

COMMANDS = {
    "capture": "capture",
    "sweep": "sweep",
    "tune": "tune",
    "import": "import_",
    "analyze": "analyze",
    "report": "report",
    "compare": "compare",
    "export": "export",
    "annotate": "annotate",
    "explain": "explain",
    "demo": "demo",
    "mcp": "mcp",
    "doctor": "doctor",
}
"""Command to module of this package; the module's `command` is the click command."""


def _debugging(ctx: click.Context, _option: click.Parameter, asked: bool) -> bool:
    """Keep for the command and for what ends it that `--debug` stands before or behind the command's name."""
    if asked:
        ctx.obj = ctx.find_root().obj = True
    return asked


_DEBUG = click.Option(["--debug"], is_flag=True, hidden=True, expose_value=False, callback=_debugging)
"""Of every command: who adds it to a line that failed adds it at the end."""


class Program(click.Group):
    """The group of commands, which turns whatever ends one into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{COMMANDS[cmd_name]}").command
        if _DEBUG not in command.params:
            command.params.append(_DEBUG)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if args and name not in COMMANDS and not name.startswith("-"):
            unknown = NsightToolsError(f"there is no command '{name}'", hint=meant(name, COMMANDS))
            raise click.UsageError(str(unknown), ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Any = None, *_: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run; with `standalone_mode`, end the process with the status that the help tells."""
        extra["prog_name"] = PROGRAM
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            status = super().main(args, standalone_mode=False, **extra)
        except click.ClickException as error:
            sys.exit(failures.usage(error))
        except click.Abort:
            sys.exit(failures.interrupted())
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            ctx.exit(failures.interrupted())
        except Exception as error:  # noqa: BLE001 (the last resort: a line instead of a traceback)
            ctx.exit(failures.report(error, debug=bool(ctx.obj)))


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Example:
  nsight-tools analyze report.nsys-rep
\b
Exit status:
  0    done
  1    analyze --fail-on was reached, or compare --fail-on-regression,
       or the outputs of a capture are outside of --accuracy
  2    could not read or run something: standard error says what, where and what next;
       or compare --fail-on-regression or --accuracy could not be judged
  130  interrupted
""",
)
@click.version_option(nsight_tools.__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_debugging,
    help="Show a traceback with every error; it may stand after the command, too.",
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """Find out where each TensorRT inference's microseconds went, and what to change to get them back.

    Reads reports of NVIDIA Nsight Systems 2020.4 to 2026.2 (.nsys-rep, .qdrep), their exports (.sqlite, parquetdir),
    and the datasets (.trace) that it makes of them.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main() -> None:
    """Run the console script."""
    program()
