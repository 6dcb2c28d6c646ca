"""`nsight-tools mcp`: what the other commands say, as tools for coding agents."""

from __future__ import annotations

from pathlib import Path

import click

from nsight_tools.cli import importing, output
from nsight_tools.errors import need


@click.command(
    "mcp",
    short_help="Serve the verdicts to coding agents (Model Context Protocol).",
    epilog="""\b
Example:
  nsight-tools mcp --folder ~/captures
  nsight-tools mcp --skill > SKILL.md
""",
)
@click.option(
    "--folder",
    "folders",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read only reports in this folder (or these: several --folder); default: any report that you can read.",
)
@click.option("--skill", is_flag=True, help="Print the text that tells an agent how to use the tools, and end.")
@importing.options("nsys")
def command(folders: tuple[Path, ...], imported: importing.Imported, *, skill: bool) -> None:
    """Serve tools for coding agents on standard input and output, until the agent closes them.

    The tools are analyze, explain, compare, layers, windows and sql. They only read: a report that is opened for the
    first time gets its dataset beside it, as with every command. An agent starts this command by itself; its settings
    want the command `nsight-tools` with the argument `mcp`.
    """
    from nsight_tools.agents.skill import skill as text

    if skill:
        output.show(text())
        return
    need("mcp", "nsight-tools mcp")
    from nsight_tools.agents.answers import Reports
    from nsight_tools.agents.server import server

    server(Reports(folders, imported["nsys"])).run("stdio")
