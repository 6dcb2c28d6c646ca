"""How much of what the profiler costs is the same on both sides: that takes nothing from their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.inputs import WORK_SHARE
from nsight_tools.worth.known import TWICE

if TYPE_CHECKING:
    from nsight_tools.comparison.runs import ComparedRun

    Pair = tuple[ComparedRun, ComparedRun]

IN_FLIGHT = 1.25
"""Inferences in flight, as a ratio, above which one waits for others that it did not wait for before."""


@dataclass(frozen=True)
class Alike:
    """What both sides share, so that nobody has to know it to tell them apart."""

    tracing: bool = True
    """The machine and the profiler: what a traced call costs, and how late a wait returns."""
    launching: bool = True
    """The way that they launch and wait, too: as many calls, on as many threads and streams."""
    working: bool = True
    """How long the GPU works for an inference, too: tracing, and what it hides, is the same then."""


def alike(runs: Pair) -> Alike:
    """How much of what the profiler costs is the same on both sides."""
    about, ways = [], []
    for run in runs:
        system, capture = (dict(run.trace.manifest.get(name) or {}) for name in ("system", "capture"))
        traced = [capture.get(name) for name in ("graph_trace", "memory_usage", "cpu_sampling_hz")]
        about.append([run.summary.nsys_version, *traced, *(system.get(name) for name in ("driver", "cpu", "os"))])
        ways.append([run.graphs, run.threads, run.run.flow.lanes, run.host_memory(), run.sources, run.polls])
    calls = [float(run.launch_calls.mean()) for run in runs]
    # Of several threads that launch one waits for another, and what tracing costs is that of all.
    tracing = about[0] == about[1] and runs[0].threads == runs[1].threads
    as_many = abs(calls[0] - calls[1]) <= WORK_SHARE * max(calls)
    flights = sorted(run.in_flight for run in runs)
    launching = tracing and ways[0] == ways[1] and as_many and flights[1] <= IN_FLIGHT * flights[0]
    busy = [float(np.median(run.column("gpu_busy_ns"))) for run in runs]
    return Alike(tracing, launching, launching and abs(busy[0] - busy[1]) <= TWICE * max(busy))
