"""Tasks that die in the middle, for pools and clusters: functions that a worker can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools.fleet import tasks

if TYPE_CHECKING:
    from nsight_tools.fleet.results import Result
    from nsight_tools.fleet.tasks import Task

ANALYSES = ("CAP001", "PCI001", "STR001")
PATIENCE_S = 60


def marker(source: str) -> Path:
    """Stands beside a report whose worker is to die."""
    return Path(f"{source}.kill")


def killed(task: Task) -> Result:
    """Dies while it imports, as long as the marker stands: once, if that is empty."""
    mark = marker(task.member.source)

    def progress(_stage: str, _share: float | None) -> None:
        if mark.exists():
            if not mark.read_text():
                mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    return tasks.run(task, progress=progress)


def awaiting_death(task: Task) -> Result:
    """Says in the marker who is at it, and waits to be killed; done by the next one that tries."""
    mark = marker(task.member.source)

    def progress(_stage: str, _share: float | None) -> None:
        if mark.exists() and not mark.read_text():
            mark.write_text(str(os.getpid()))
            time.sleep(PATIENCE_S)
            raise AssertionError("nobody killed it")

    return tasks.run(task, progress=progress)
