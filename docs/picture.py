"""Draws docs/analyze.svg and docs/page.png: what `analyze` prints of a sample trace, and the page that `report` writes.

python docs/picture.py

The page is drawn by Chromium, where there is one: by its name in NSIGHT_TOOLS_BROWSER, or on PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "docs" / "analyze.svg"
COMMAND = ("nsight-tools", "analyze", "sample_traces/detector_pageable.sqlite")
PAGE = TARGET.with_name("page.png")
SAMPLE = REPOSITORY / "sample_traces" / "detector_pageable.capture"
PAGE_SIZE = (1280, 840)
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


def page() -> bool:
    """Draw the top of the report's page; False where there is no Chromium."""
    names = (os.environ.get("NSIGHT_TOOLS_BROWSER"), "chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if name and (found := shutil.which(name))), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(SAMPLE, Path(scratch) / SAMPLE.name)
        html = Path(scratch) / "report.html"
        program = ("-c", "from nsight_tools.cli import main; main()", "report", SAMPLE.name, "-o", html)
        subprocess.run([sys.executable, *program], cwd=copy.parent, check=True)  # noqa: S603
        size = ",".join(map(str, PAGE_SIZE))
        looks = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}")
        subprocess.run(  # noqa: S603
            [browser, *looks, f"--user-data-dir={scratch}/browser", f"--screenshot={PAGE}", html.as_uri()],
            capture_output=True,
            check=True,
        )
    return True


def main() -> None:
    """Write the pictures."""
    if not page():
        sys.stderr.write(f"no Chromium: {PAGE.name} stays as it is\n")
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
