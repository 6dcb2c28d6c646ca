"""Draws docs/analyze.svg: what `nsight-tools analyze` prints for a sample trace, on a terminal.

python docs/picture.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "docs" / "analyze.svg"
COMMAND = ("nsight-tools", "analyze", "sample_traces/detector_pageable.sqlite")
WIDTH = 101  # the page's, and one column of air
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def output() -> list[str]:
    """The lines that the command prints, with its colours."""
    program = ("-c", "from nsight_tools.cli import main; main()", *COMMAND[1:], "--color", "always")
    done = subprocess.run(  # noqa: S603
        [sys.executable, *program],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": str(WIDTH - 1)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.splitlines()


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=WIDTH, file=Path("/dev/null").open("w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold green"), " ".join(COMMAND)))
    for line in output():
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ignore", crop=False)
    # Fonts of the reader's own machine: a picture loads nothing from elsewhere.
    frame = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    frame = re.sub(r"<!--.*?-->\s*", "", frame)
    frame = re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", frame)
    TARGET.write_text(console.export_svg(title="nsight-tools", code_format=frame, unique_id="t"), encoding="utf-8")


if __name__ == "__main__":
    main()
