"""Draws docs/analyze.svg: what `nsight-tools analyze` prints for a sample trace, on a terminal.

    python docs/picture.py

The evidence is cut short where it names single layers, whose names fill lines; nothing else is changed.
"""

from __future__ import annotations

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
CUT = " " * 14 + "[… 5 layers …]"
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def output() -> list[str]:
    """The lines that the command prints, with its colours."""
    program = ("-c", "from nsight_tools.cli import main; main()", *COMMAND[1:], "--color", "always")
    done = subprocess.run([sys.executable, *program], cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True)  # noqa: S603
    return done.stdout.splitlines()


def shortened(lines: list[str]) -> list[str]:
    """The lines without the evidence that names single layers."""
    plain = [Text.from_ansi(line).plain for line in lines]
    kept: list[str] = []
    inside = False
    for line, text in zip(lines, plain, strict=True):
        starts = re.match(r" {14}layer  ", text) is not None
        inside = starts or (inside and bool(text.strip()))
        if not inside:
            kept.append(line)
        elif starts and kept[-1] != CUT:
            kept.append(CUT)
    return kept


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=WIDTH, file=Path("/dev/null").open("w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold green"), " ".join(COMMAND)))
    for line in shortened(output()):
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ignore", crop=False)
    # Fonts of the reader's own machine: a picture loads nothing from elsewhere.
    frame = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    frame = re.sub(r"<!--.*?-->\s*", "", frame)
    frame = re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", frame)
    TARGET.write_text(console.export_svg(title="nsight-tools", code_format=frame, unique_id="t"), encoding="utf-8")


if __name__ == "__main__":
    main()
