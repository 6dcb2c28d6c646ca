"""Traces of loops that never ran: inferences one after the other, drawn, as long as a test wants each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from drawn_trace import drawn

from nsight_tools.analysis import Outcome, Status, registry
from nsight_tools.findings import Confidence, Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.trace import Trace


def loop(kernels: Sequence[int], *, copy: int = 2, name: str = "kernel", tables: Any = None, **options: Any) -> Trace:
    """Inferences of one copy of `copy` µs and one kernel each, of so many µs, synchronized: one stream, one thread."""
    lines = {"stream 7": "", "thread 1": "", "nvtx 1": ""}
    for length in kernels:
        # C launches the copy, L the kernel; S waits until it ends. A microsecond passes between two inferences.
        lines["stream 7"] += "...." + ">" * copy + "#" * length + "..."
        lines["thread 1"] += ".C.L" + "." * copy + "S" * length + "S.."
        lines["nvtx 1"] += "[i" + "." * (copy + length + 3) + "]."
    text = "\n".join(f"{label + ':':<10} {line}" for label, line in lines.items())
    return drawn(text, kernel_names=name, tables=tables, **options)


def jitter(count: int, center: int, spread: int = 1, seed: int = 0) -> list[int]:
    """So many lengths around `center`."""
    return [center + int(each) for each in np.random.default_rng(seed).integers(-spread, spread + 1, count)]


def outcome(code: str, promised: int | None = None, *, severity: Severity = Severity.WARNING) -> Outcome:
    """An analysis that found something worth `promised` ns an inference; clear where that is None."""
    if promised is None:
        return _declared(code, Status.CLEAR)
    finding = Finding(code, severity, Confidence.HIGH, f"{code} says so", "cause", "change it", None, promised, "bound")
    return replace(_declared(code, Status.FINDINGS), findings=(finding,))


def unjudged(code: str) -> Outcome:
    return replace(_declared(code, Status.COULD_NOT_RUN), reason="not collected")


def _declared(code: str, status: Status) -> Outcome:
    """An outcome that is about what the analysis of this code declares, where there is one."""
    if (known := registry().get(code)) is None:
        return Outcome(code, "an analysis", status)
    return Outcome(code, "an analysis", status, topic=known.topic, bucket=known.bucket)
