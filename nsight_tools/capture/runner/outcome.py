"""What a process of the runner leaves behind: result.json, always, and files that are whole or absent."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LOG_LINES = 200
_unfinished: set[Path] = set()


class Failure(Exception):  # noqa: N818 (it is reported in result.json under this word)
    """What went wrong, where, and what to do next; `log` is the line of TensorRT's log that matters."""

    def __init__(self, what: str, *, where: str = "", hint: str = "", log: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.hint, self.log = what, where, hint, log

    def as_json(self) -> dict[str, str | None]:
        return {"what": self.what, "where": self.where, "hint": self.hint, "log": self.log}


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it; `path` holds everything or is untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _unfinished.add(temporary)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Failure(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            hint="check the folder, its rights and its space",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def remove_unfinished() -> None:
    """Delete what is being written, by any thread, because the process is about to end."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)


class Result:
    """result.json, filled in step by step; `write` may be called by any thread, and the last call holds."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.log: list[str] = []
        self.content: dict[str, Any] = {"versions": {}, "device": None, "engine": None, "run": None}

    def write(self, status: str, error: Failure | None = None) -> None:
        content = {"status": status, "error": error.as_json() if error else None, **self.content}
        content["log"] = self.log[-LOG_LINES:]
        text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
        write_atomically(self.output / "result.json", text.encode("utf-8", "surrogateescape"))
