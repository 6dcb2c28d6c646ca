"""`nsight-tools demo`: a small capture that comes with the package, analyzed, and what each part of the text says."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsight_tools.cli import analyze, output
from nsight_tools.report import safe

if TYPE_CHECKING:
    from zipfile import ZipFile

CAPTURE = Path(__file__).with_name("demo.zip")
"""Made by `sample_traces/make_demo.py`."""
NAME = "demo.capture"

_PARTS = (
    ("First lines", "the change to make, and what an inference gains; then what several changes give together"),
    ("Time", "where the time of an inference went, in one bar; the parts stand below the findings"),
    ("Findings", "the changes by their worth; then what was measured, why it happens, what to change, where to look"),
    ("Not judged", "what this capture cannot tell, and how to capture it: not the same as clear"),
    ("Clear", "what was looked for and is not here, by code: explain CODE says how"),
    ("The run", "what was traced, on which GPU, and what counts as an inference"),
)
_ON = (
    ("explain PCI001", "how the first finding is measured, and where it is blind"),
    ("report {} -o demo.html", "the same as one page with figures"),
    ("analyze report.nsys-rep", "a report of your own"),
    ("capture model.engine", "makes one, on a machine with a GPU"),
    ("doctor", "what is found here, and what is missing"),
)


@click.command(
    "demo",
    short_help="Analyze a small capture that comes along, and say what each part means.",
    epilog="""\b
Example:
  nsight-tools demo
""",
)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Put the capture there; default: into your cache folder.",
)
@output.colour_option
@click.pass_context
def command(ctx: click.Context, folder: Path | None, color: str) -> None:
    """Analyze a small capture that comes with nsight-tools, and say what each part of the text means.

    It is a text detector on an H200: 50 inferences, whose host buffers are not page-locked. No GPU is needed.
    """
    from nsight_tools.importer import cache_folder
    from nsight_tools.report.terminal import Page  # rich takes its time; --help goes without

    there = folder or cache_folder() / NAME
    _put(there)
    path = _typed(there)
    head = Page(output.look(color))
    head.line(head.text("A text detector on an H200, traced for 50 inferences. What analyze says of it:", "bold"))
    output.show(f"{head}{_command(f'analyze {path}')}\n")
    try:
        ctx.invoke(analyze.command, inputs=(str(there),), imported={}, color=color)
    except click.exceptions.Exit as ended:
        if ended.exit_code:
            raise
    page = Page(output.look(color))
    page.rule()
    page.heading("What each part says")
    page.labelled([(name, page.text(meaning)) for name, meaning in _PARTS], label_width=13)
    page.heading("Go on")
    output.show(str(page))
    for line, purpose in _ON:
        output.show(f"  {_command(line.format(path))}    {purpose}\n")


def _command(line: str) -> str:
    """A line to copy, which is not broken, however wide the terminal is."""
    return f"$ nsight-tools {safe.visible(line, 10_000)}\n"


def _typed(path: Path) -> str:
    """The path as one types it in a shell."""
    with suppress(RuntimeError, ValueError):
        return f"~/{shlex.quote(str(path.relative_to(Path.home())))}"
    return shlex.quote(str(path))


def _put(folder: Path) -> None:
    """The capture as a run directory at `folder`; one that lies there already is used again."""
    from zipfile import ZipFile

    with ZipFile(CAPTURE) as archive:
        if _holds(folder, archive):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with output.new_folder(folder) as write:
            for name in archive.namelist():
                write(name, archive.read(name))


def _holds(folder: Path, archive: ZipFile) -> bool:
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())
