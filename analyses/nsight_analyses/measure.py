"""What the analyses share: how much a loss weighs, what is noise, and the worst cases as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.calibration import Calibrated
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Evidence, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.columns import Ints
    from nsight_tools.measured import Measured
    from nsight_tools.trace import Trace

EXAMPLES = 3
"""Worst cases that a finding shows."""
NOISE_SHARE = 0.025
"""Of the inference time. What could be recovered and is less, no second measurement would show: from this variation
between runs on, trtexec (TensorRT 10.13.2 and later) calls its own GPU times unstable. Rules do not speak of it."""
EFFORT_SHARE = 0.2
"""A fifth of the inference time: what makes a pipeline with two streams, or another batch, worth its complexity."""


def weigh(share: float, warning: float, measured: Measured | None = None) -> Severity:
    """A loss of at least `warning`, as a share of the steady state, is worth changing a deployment for.

    A loss that tracing does not lengthen, as the GPU's, weighs more in the run without the profiler, which is shorter:
    with `measured` it is judged there.
    """
    if measured is not None:
        share *= Calibrated.of(measured.trace).stretch
    return Severity.WARNING if share >= warning else Severity.INFO


def nothing_repeats(trace: Trace, otherwise: str) -> CouldNotRun:
    """Why there are no inferences to look into: none is marked, or `otherwise`."""
    return CouldNotRun(trace.missing("inferences") or otherwise)


def longest(length: Ints) -> Ints:
    """Rows of the few that are shown, longest first; of those that are as long, the first."""
    rows = np.arange(len(length))
    if len(rows) > EXAMPLES:
        rows = np.flatnonzero(length >= np.partition(length, -EXAMPLES)[-EXAMPLES])
    return rows[np.argsort(-length[rows], kind="stable")][:EXAMPLES]


def worst(metric: str, start: Ints, end: Ints, detail: Callable[[int], str] = lambda _row: "") -> Iterator[Evidence]:
    """The longest of these stretches of time, as evidence with windows to jump to."""
    for row in longest(end - start).tolist():
        yield Evidence(metric, int(end[row] - start[row]), "ns", int(start[row]), int(end[row]), detail(row))
