"""What a run without the profiler measured, and how a trace's run would have gone without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import ints, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.columns import Ints
    from nsight_tools.trace import Trace
    from nsight_tools.worth.ranges import Range

FEWEST = 10
"""Untraced requests of which a median says something."""


TIMES = ("wall", "enqueue", "compute", "gpu", "h2d", "d2h")
"""What a request is timed by: by the host's clock (wall, enqueue), and by CUDA events."""


@dataclass(frozen=True)
class Untraced:
    """Medians over the requests of a run without the profiler, ns; None where it did not measure it."""

    wall: float
    enqueue: float | None = None
    compute: float | None = None
    gpu: float | None = None
    h2d: float | None = None
    d2h: float | None = None
    period: float | None = None
    """The time that passes for each request, over all threads and streams."""
    overlapped: float | None = None
    """The same of a run with transfers overlapped."""
    requests: int = 0

    @classmethod
    def of(cls, trace: Trace) -> Untraced | None:
        """From the dataset's `benchmark`; None where it has none."""
        names = [f"{name}_ns" for name in TIMES]
        table = trace.table("benchmark", ["run", "start_ns", *names])
        run = words(table["run"])
        rows = np.flatnonzero(run.among("benchmark"))
        if len(rows) < FEWEST:
            return None
        columns = {name: ints(table[name]) for name in ("start_ns", *names)}
        found: dict[str, Any] = {}
        for name in names:
            values = columns[name][rows]
            found[name.removesuffix("_ns")] = float(np.median(values)) if (values >= 0).all() else None
        overlapped = np.flatnonzero(run.among("throughput"))
        found["period"] = _period(columns, rows)
        found["overlapped"] = _period(columns, overlapped) if len(overlapped) >= FEWEST else None
        return cls(**found, requests=len(rows))

    @classmethod
    def from_medians(cls, untraced: Mapping[str, Any]) -> Untraced:
        """From `median_us` (wall, enqueue, compute, gpu, h2d, d2h, in µs) and rates, as a capture's summary has them.

        Raises ValueError where there is no wall.
        """
        medians = untraced["median_us"]
        if medians.get("wall") is None:
            raise ValueError("an untraced run without a wall says nothing")
        known: dict[str, Any] = {name: 1e3 * medians[name] for name in TIMES if medians.get(name) is not None}
        rates = {"period": "throughput_per_s", "overlapped": "throughput_overlapped_per_s"}
        known |= {name: 1e9 / untraced[key] for name, key in rates.items() if untraced.get(key)}
        return cls(**known, requests=int(untraced.get("inferences", 0)))


def _period(columns: Mapping[str, Ints], rows: Ints) -> float:
    """What passes for each of these requests, ns, over all threads and streams."""
    start, wall = columns["start_ns"][rows], columns["wall_ns"][rows]
    return float((start + wall).max() - start.min()) / len(rows)


@dataclass(frozen=True)
class Wall:
    """A request's time without the profiler, ns: a range that holds it nine times in ten, and how it is known."""

    wall: Range
    source: str
