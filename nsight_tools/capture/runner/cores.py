"""How many of the host's cores other programs kept busy while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
IDLE, WAITING, OF_GUESTS = 3, 4, 8
"""Places in its first line: user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's, too."""


class Cores:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._began = self._now()

    def so_far(self) -> dict[str, Any] | None:
        """How many cores there are, and how many others kept busy on average; None where the system does not say."""
        now, cores = self._now(), os.cpu_count()
        if now is None or self._began is None or not cores:
            return None
        seconds, busy, own = (ended - began for ended, began in zip(now, self._began, strict=True))
        others = min(max((busy - own) / seconds, 0.0), float(cores)) if seconds > 0 else 0.0
        return {"count": cores, "busy_with_others": round(others, 2)}

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds that have passed, that all cores were busy, and that this process was."""
        try:
            ticks = [int(word) for word in STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
            busy = sum(ticks[:OF_GUESTS]) - ticks[IDLE] - ticks[WAITING]
            return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()
        except (OSError, ValueError, IndexError, AttributeError):
            return None
