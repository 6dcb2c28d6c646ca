"""The pages of the documentation that are made: of commands, rules, tables and the API, and of files outside of docs/.

A hook of MkDocs (`mkdocs.yml` names it). What is printed is taken from where it is said once: the commands' help, the
rules' docstrings, `tables.py`, the public names of `nsight_tools`.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from mkdocs.structure.files import File

import nsight_tools
from nsight_tools.cli import COMMANDS, PROGRAM, program
from nsight_tools.report import catalogue
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
BESIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "analyses/README.md": "families.md",
    "sample_traces/README.md": "samples.md",
}
"""Documents that stand elsewhere in the repository, and the page that each is."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def commands() -> str:
    """The help of every command."""
    said = ["# Commands\n", _help(program, PROGRAM)]
    with click.Context(program, info_name=PROGRAM) as root:
        for name in COMMANDS:
            command = program.get_command(root, name)
            assert command is not None
            said.append(f"## {name}\n\n{_help(command, name, root)}")
    return "\n".join(said)


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    return f"```text\n{command.get_help(context)}\n```\n"


def rules() -> str:
    """The catalogue of the rules that come along."""
    return catalogue.render(
        each for each in nsight_tools.registry().values() if "nsight_analyses" in each.function.__module__
    )


def tables() -> str:
    """Every table of a dataset, with its columns."""
    said = [
        "# Tables\n",
        "What a dataset holds: a Parquet file for each table. Times are nanoseconds since the session started.\n",
    ]
    for table in TABLES.values():
        said += [f"## {table.name}\n", f"{_sentence(table.meaning)}\n", "|column|type|meaning|", "|---|---|---|"]
        said += [f"|`{c.name}`|{_kind(c.type)}{', or null' if c.nullable else ''}|{c.meaning}|" for c in table.columns]
        said.append("")
    return "\n".join(said)


def _kind(kind: Any) -> str:
    return "word" if str(kind).startswith("dictionary") else str(kind)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def api() -> str:
    """Every public name, from its docstring."""
    said = ["# The API\n", "All that `import nsight_tools` offers. Each is loaded when it is first used.\n"]
    groups: dict[str, list[str]] = {}
    for name in nsight_tools.__all__:
        home = nsight_tools._HOME.get(name)  # noqa: SLF001 (the one place that knows)
        if home is not None and name != "__version__":
            groups.setdefault(home, []).append(name)
    for home, names in groups.items():
        said += [f"## nsight_tools.{home}\n", *(f"::: {_where(home, name)}\n" for name in names)]
    figures = importlib.import_module("nsight_tools.report.figures")
    said += ["## nsight_tools.figures\n", f"{(figures.__doc__ or '').strip()}\n"]
    drawn = [name for name in figures.__all__ if callable(getattr(figures, name)) and name.islower()]
    said += [f"::: {_where('report.figures', name)}\n" for name in drawn]
    return "\n".join(said)


def _where(home: str, name: str) -> str:
    """Where a name is defined, which documents it: what a package only hands on has no docstring there."""
    thing = getattr(importlib.import_module(f"nsight_tools.{home}"), name)
    return f"{thing.__module__}.{thing.__name__}"


MADE: dict[str, Callable[[], str]] = {"commands.md": commands, "rules.md": rules, "tables.md": tables, "api.md": api}
"""Pages that are made, and of what."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those that stand elsewhere in the repository."""
    pages = {name: make() for name, make in MADE.items()}
    pages |= {page: (REPOSITORY / path).read_text("utf-8") for path, page in BESIDE.items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (MkDocs' names)
    """Lead links to other documents of the repository to their pages; of any other file, name its path."""
    there = next((path for path, name in BESIDE.items() if name == page.file.src_uri), "docs/index.md")
    folder = Path(there).parent
    return _LINK.sub(lambda link: _relinked(link, folder), markdown)


def _relinked(link: re.Match[str], folder: Path) -> str:
    image, text, target = link.groups()
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return link.group()
    inside = os.path.normpath(folder / path)
    if inside.startswith("docs/"):
        return f"{image}[{text}]({os.path.relpath(inside, 'docs')}{f'#{anchor}' if anchor else ''})"
    if inside == "README.md":
        return f"[{text}](index.md)"
    if inside in BESIDE:
        return f"[{text}]({BESIDE[inside]}{f'#{anchor}' if anchor else ''})"
    return f"{text} (`{inside}`)" if inside not in text else f"`{text}`"
