"""What the figures show of a trace, as arrays, read once; and how to put more of it into a picture than has pixels."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.errors import NothingToShow
from nsight_tools.run import Run
from nsight_tools.tables import BUCKETS
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.findings import Finding
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

Floats = npt.NDArray[np.float64]
COLUMNS = 700
"""Columns that a plot is cut into where more is to be drawn than it has room for."""
NEAR = 0.05
"""How far from the median, in time and in ranks by it, inferences are near it."""


def roles(work: Work) -> list[tuple[str, Bools]]:
    """What to draw GPU work in: (role, which of it)."""
    compute, up, down = work.computes, work.kind.among("h2d"), work.kind.among("d2h")
    talks = work.communicates
    others = ~(compute | talks | up | down)
    return [("compute", compute), ("communication", talks), ("h2d", up), ("d2h", down), ("copy", others)]


class Shown:
    """One trace's columns as the figures need them."""

    def __init__(self, trace: Trace) -> None:
        run = Run.of(trace)
        self.work, self._judged, self._warms_up = run.work, run.requests.judged, run.requests.warm_up
        names = ["start_ns", "end_ns", "wall_ns", "pid", "tid", "mark"]
        self.inferences = trace.table("inferences", [*names, *(f"{bucket}_ns" for bucket in BUCKETS)])

    @classmethod
    def of(cls, trace: Trace) -> Shown:
        """The columns of `trace`, for as long as somebody holds it."""
        return trace.once(cls)

    @cached_property
    def wall(self) -> Ints:
        return ints(self.inferences["wall_ns"])

    @cached_property
    def windows(self) -> tuple[Ints, Ints]:
        """Start and end of every inference, shape (inferences,)."""
        return ints(self.inferences["start_ns"]), ints(self.inferences["end_ns"])

    @cached_property
    def buckets(self) -> dict[str, Ints]:
        """Nanoseconds of every inference by bucket."""
        return {bucket: ints(self.inferences[f"{bucket}_ns"]) for bucket in BUCKETS}

    @cached_property
    def by_wall(self) -> Ints:
        """The judged inferences, from the fastest to the slowest."""
        rows = np.flatnonzero(self._judged)
        order: Ints = rows[np.argsort(self.wall[rows], kind="stable")]
        return order

    @property
    def p99(self) -> int | None:
        """The inference of the 99th percentile by time, as in `summarize`; None without inferences."""
        return int(self.by_wall[_rank(0.99, len(self.by_wall))]) if len(self.by_wall) else None

    @cached_property
    def typical(self) -> int | None:
        """Of the inferences whose time is near the median, that whose parts differ least from their medians.

        The median inference by itself may owe its time to parts that others have not. None without inferences.
        """
        if not (count := len(self.by_wall)):
            return None
        near = self.by_wall[_rank(0.5 - NEAR, count) : _rank(0.5 + NEAR, count) + 1]
        middle = self.wall[self.by_wall[_rank(0.5, count)]]
        near = near[np.abs(self.wall[near] - middle) <= NEAR * middle]
        off = sum(np.abs(times[near] - np.median(times[self.by_wall])) for times in self.buckets.values())
        return int(near[np.argmin(off)])

    @property
    def span(self) -> tuple[int, int]:
        """From the first to the last: of the inferences, else of the GPU work."""
        start, end = self.windows if len(self.wall) else (self.work.start, self.work.end)
        if not start.size:
            raise NothingToShow("neither GPU work nor inferences are in this trace")
        return int(start.min()), int(end.max())

    def worst_window(self, finding: Finding | None) -> tuple[int, int] | None:
        """The longest stretch of time that a finding points to; one that is no warm-up, where there is any."""
        windows = places(finding)
        usual = [place for place in windows if not self._is_warm_up(self.inference_of(*place[1:]))]
        return max(usual or windows)[1:] if windows else None

    def _is_warm_up(self, row: int | None) -> bool:
        return row is not None and bool(self._warms_up[row])

    def around(self, finding: Finding | None) -> tuple[int, int, str]:
        """A window worth looking at, and what it is: the inference with the worst case of a finding.

        Where no finding has one, or only in a warm-up, an inference near the median.

        Without inferences, the surroundings of the worst place, else everything.
        """
        window = self.worst_window(finding)
        if window is not None and self._is_warm_up(self.inference_of(*window)) and self.typical is not None:
            window = None  # what only a warm-up shows is no picture of the finding
        row = self.typical if window is None else self.inference_of(*window)
        if row is not None:
            lo, hi = int(self.windows[0][row]), int(self.windows[1][row])
            reasons = ["near the median"] if row == self.typical else []
            if window is not None:
                worse = window != max(places(finding))[1:]
                reasons += [f"where the worst case lies{' but for the warm-up' * worse}"]
            return lo, hi, f"Inference {row}, {', '.join(reasons)}"
        lo, hi = self.span
        if window is None:
            return lo, hi, "The whole trace"
        room = max(2 * (window[1] - window[0]), 10_000)
        return max(lo, window[0] - room), min(hi, window[1] + room), "The worst case and what is around it"

    def inference_of(self, lo: int, hi: int) -> int | None:
        """The inference that has most of this stretch in its window; None where none has any."""
        start, end = self.windows
        if not start.size:
            return None
        shared = np.minimum(end, hi) - np.maximum(start, lo)
        row = int(np.argmax(shared))
        return row if shared[row] > 0 else None


def places(finding: Finding | None) -> list[tuple[int, int, int]]:
    """Length, start and end of every stretch of time that a finding points to."""
    return [
        (evidence.end_ns - evidence.start_ns, evidence.start_ns, evidence.end_ns)
        for evidence in (finding.evidence if finding else ())
        if evidence.start_ns is not None and evidence.end_ns is not None and evidence.end_ns > evidence.start_ns
    ]


def _rank(quantile: float, count: int) -> int:
    return max(math.ceil(quantile * count - 1e-9) - 1, 0)


def occupancy(start: Ints, end: Ints, lo: int, hi: int, columns: int = COLUMNS) -> tuple[Floats, Floats]:
    """The share of each of `columns` equal parts of `[lo, hi)` in which anything runs, and the parts' edges."""
    edges: Floats = np.linspace(lo, hi, columns + 1, dtype=np.float64)
    cuts = edges.round().astype(np.int64)
    busy = Intervals.union(start, end).coverage(cuts[:-1], cuts[1:])
    return busy / np.maximum(np.diff(cuts), 1), edges


def envelope(time: Ints, value: Floats, lo: int, hi: int, columns: int = COLUMNS) -> tuple[Floats, Floats, Floats]:
    """The middles of those of `columns` equal parts of `[lo, hi)` that have samples, with their least and greatest."""
    inside = (time >= lo) & (time <= hi)
    time, value = time[inside], value[inside]
    if not time.size:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    order = np.argsort(time, kind="stable")
    column = np.minimum(((time[order] - lo) * columns) // max(hi - lo, 1), columns - 1)
    first = np.flatnonzero(np.append(True, column[1:] != column[:-1]))
    value = value[order]
    middles = lo + (column[first] + 0.5) * (hi - lo) / columns
    return middles, np.minimum.reduceat(value, first), np.maximum.reduceat(value, first)
