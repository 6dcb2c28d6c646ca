"""The run directory: written under another name, and there under its own only when it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools import files
from nsight_tools.errors import OutputError
from nsight_tools.run_files import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def made(target: Path, *, force: bool) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end of the block if that wrote `run.json`, and goes otherwise.

    It is `<target>.partial`, and what a capture that was killed left there goes first.

    Raises:
        OutputError: `target` exists and `force` is not set, another capture is writing it, or nothing can be written
            there.
    """
    if not force and os.path.lexists(target):
        raise OutputError(target, "already exists", hint="name another with -o, or replace it with --force")
    partial = partial_of(target)
    hint = "name another folder with -o"
    for left in (partial, partial.with_name(f"{partial.name}.old{files.PARTIAL}")):
        if not files.remove_unless_held(left):
            raise OutputError(left, "is being written by another capture, or cannot be removed", hint=hint)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(target, f"cannot be made: {error.strerror}", hint=hint) from error
    lock = files.held(partial)
    try:
        yield partial
        if (partial / RUN).exists():
            _put(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def partial_of(target: Path) -> Path:
    """Where a capture is written until it is whole."""
    return target.with_name(f"{target.name}{files.PARTIAL}")


def _put(partial: Path, target: Path) -> None:
    try:
        files.put_in_place(partial, target)
    except OSError as error:
        raise OutputError(target, f"cannot be put in place: {error.strerror}") from error


def write_run(folder: Path, run: dict[str, Any]) -> None:
    """Write `run.json`; the user's part of home folders is left out."""
    text = json.dumps(run, indent=1, ensure_ascii=False, default=str)
    with contextlib.suppress(RuntimeError):
        text = re.sub(rf"(?<=[\"=:,]){re.escape(str(Path.home()))}(?=[/\"])", "~", text)
    (folder / RUN).write_text(text + "\n", encoding="utf-8")


def now() -> str:
    """The time, in UTC, as ISO 8601 has it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
