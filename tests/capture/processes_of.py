"""Which processes of a test are still there: each carries a word in its environment."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

VARIABLE = "NSIGHT_TOOLS_TEST"


def alive(word: str) -> list[str]:
    """Command lines of the processes that were started with `word` in `VARIABLE` and have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = f"{VARIABLE}={word}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if marked and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def none_left(word: str) -> list[str]:
    """What is still alive after a minute, which is less than what is left sleeps; empty as soon as nothing is."""
    deadline = time.monotonic() + 60
    while (left := alive(word)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
