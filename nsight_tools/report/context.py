"""What a format is given beside what it shows, and what one is given that writes files for another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.report.look import USUAL, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from nsight_tools.findings import Severity
    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class Context:
    """What a format may need to know beside what it shows. Each takes of it what it needs."""

    look: Look = USUAL
    each: bool = False
    """Of many reports, each by itself too, behind what they have together."""
    failing: Collection[Severity] = ()
    """The severities that fail an analysis."""
    limit: float | None = None
    """The growth of time, in percent, from which on a comparison fails; None where none does."""
    metric: str | None = None
    """Which verdict of a comparison that is about: throughput, latency or both; None: the one that leads."""
    sections: Sequence[str] = ()
    """What the format's `section` made of each trace, where it has one."""


PLAIN = Context()
"""For a pipe, and nothing fails."""


@dataclass(frozen=True)
class Exported:
    """A trace on its way to another program."""

    source: Path
    """The input, as the user named it."""
    trace: Trace
    onnx: Path | None = None
    """The ONNX model of its engine, where the user names it."""
    progress: Callable[[str, float | None], None] | None = None
    """Is told what is being done."""
