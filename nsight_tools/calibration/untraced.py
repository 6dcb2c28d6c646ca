"""What the runner of a capture measured without the profiler, and what tracing added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Ints, ints, words
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import at_a_time
from nsight_tools.units import duration

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

FEWEST = 10
"""Untraced inferences of which a median says something."""

ALONE = 1.25
"""Inferences at a time from which on they overlap: a run of one at a time has no more than 1."""
SAME_WALL = 0.1
"""How far the runner's median wall may lie from that of the report's windows for both to be of the same thing: it was
1 to 2 % with one inference at a time, and several times as long with several in flight."""


@dataclass(frozen=True)
class Span:
    """An estimate in nanoseconds, least to most."""

    low: float
    point: float
    high: float


@dataclass(frozen=True)
class Untraced:
    """Medians that the runner measured without the profiler, each with its 95 % interval, and what tracing added."""

    inferences: int
    wall: Span
    enqueue: Span | None
    compute: Span | None
    added: Span
    """What tracing added to the wall of the median inference, by the runner's clock in both runs; never negative.

    Where several were in flight, the runner's wall holds the wait for their turn: then what it added to the enqueue.
    """
    added_enqueue: Span | None
    """The same for its enqueue."""
    several: bool
    """Several inferences were in flight on a thread, so that the runner's wall is not an inference's alone."""
    elapsed: float
    """The time that passes for each inference, over all threads and streams, with what lies between them."""
    at_a_time: float
    """How many threads were at what `added` was added to at the same time, 1 or more: they waited beside each other."""

    @property
    def added_elapsed(self) -> Span:
        """What tracing added to the time that passes for each inference, of which each may delay several."""
        return Span(*(each / self.at_a_time for each in (self.added.low, self.added.point, self.added.high)))

    @property
    def alone(self) -> bool:
        """One inference at a time."""
        return not self.several and self.at_a_time < ALONE

    @property
    def source(self) -> str:
        each = f" with several under way, one every {duration(self.elapsed)}" if self.several else ""
        return f"measured by an untraced run of {self.inferences:,} inferences{each}"


def median_span(values: Ints) -> Span:
    """Median of values, shape (n,), and its 95 % interval by order statistics (binomial, normal approximation)."""
    ordered = np.sort(values)
    middle, away = len(ordered) / 2, 1.96 * np.sqrt(len(ordered)) / 2
    low, high = max(int(np.floor(middle - away)) - 1, 0), min(int(np.ceil(middle + away)), len(ordered) - 1)
    return Span(float(ordered[low]), float(np.median(ordered)), float(ordered[high]))


def untraced_run(trace: Trace) -> Untraced | None:
    """What an untraced run of the same measured; None where the dataset has none."""
    table = trace.table("benchmark", ["run", "start_ns", "wall_ns", "enqueue_ns", "compute_ns"])
    run = words(table["run"])
    real, traced = (np.flatnonzero(run.among(name)) for name in ("benchmark", "timing"))
    if min(len(real), len(traced)) < FEWEST:
        return None
    wall, enqueue, compute = (ints(table[name]) for name in ("wall_ns", "enqueue_ns", "compute_ns"))
    of_enqueue, of_compute = (
        median_span(column[real]) if (column[real] >= 0).all() else None for column in (enqueue, compute)
    )
    of_wall = median_span(wall[real])
    both = of_enqueue is not None and bool((enqueue[traced] >= 0).all())
    of_traced = median_span(wall[traced])
    added = _added(of_traced, of_wall)
    added_enqueue = _added(median_span(enqueue[traced]), of_enqueue) if of_enqueue and both else None
    requests = Run.of(trace).requests
    windows = requests.wall[requests.judged]
    several = not windows.size or abs(of_traced.point / max(float(np.median(windows)), 1.0) - 1) > SAME_WALL
    if several:
        if added_enqueue is None:
            return None
        added = added_enqueue
    start, lasts = ints(table["start_ns"])[real], (enqueue if several else wall)[real]
    elapsed = float((start + wall[real]).max() - start.min()) / len(real)
    under_way = at_a_time(start, start + lasts)
    return Untraced(len(real), of_wall, of_enqueue, of_compute, added, added_enqueue, several, elapsed, under_way)


def _added(traced: Span, real: Span) -> Span:
    """The difference, from the ends of both intervals that lie nearest to those that lie farthest apart."""
    differences = (traced.low - real.high, traced.point - real.point, traced.high - real.low)
    return Span(*(max(each, 0.0) for each in differences))
