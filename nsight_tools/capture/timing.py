"""How a command is asked to time its own inferences while it runs without the profiler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools.self_timing import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

TRTEXEC = "trtexec"
_EXPORT = "--exportTimes"


@dataclass(frozen=True)
class Asked:
    """A command that times itself: as it is to be started, and the files that it may leave."""

    command: Sequence[str]
    variables: dict[str, str]
    folder: Path
    export: Path | None = None
    """What trtexec writes."""
    before_ns: int | None = None
    """When that file was written that stood there before."""

    def left(self) -> list[Path]:
        """The files that it left; none where it timed nothing."""
        if self.export is not None:
            return [self.export] if _written_ns(self.export) != self.before_ns else []
        return sorted(self.folder.glob("*.json"))


def asked(command: Sequence[str], folder: Path) -> Asked:
    """The command with what asks it for times, which go into an empty folder.

    trtexec gets `--exportTimes`, unless it has it: then its own file is read. Any other program has
    `nsight_tools.inference()`, or does not know what it is asked for.
    """
    if Path(command[0]).name != TRTEXEC:
        return Asked(command, {VARIABLE: str(folder / "%p.json")}, folder)
    given = [part.partition("=")[2] for part in command if part.startswith(f"{_EXPORT}=")]
    if given:
        own = Path(given[-1])
        return Asked(command, {}, folder, own, _written_ns(own))
    export = folder / "times.json"
    return Asked([*command, f"{_EXPORT}={export}"], {}, folder, export)


def _written_ns(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.is_file() else None
