"""What a run without the profiler measured, and whether that was of what the trace holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsight_tools.columns import ints, words
from nsight_tools.run import Run
from nsight_tools.run.flow import SEVERAL
from nsight_tools.timeline.intervals import at_a_time
from nsight_tools.units import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace
    from nsight_tools.worth.ranges import Range

FEWEST = 10
"""Untraced requests of which a median says something."""


SLOWER = 1.5
"""Without the profiler nothing takes this much longer: 1.04 times was the most in 20 captures of five engines, the five
of B in `sample_traces` among them. Off by two, the times of another program are taken for this one's."""
LEAST_WORK = 0.5
"""Nor does a request that runs alone take less than this share of its GPU's work in the trace: 1.18 was the least in
the same captures, and a power cap takes a third of an H200's clock. Off by two: as `SLOWER`."""
WAITED = 1.02
"""A request's window ends with its range, where the program waits in it, up to this share. Off by two, one that waits
for half of its work is taken."""

SOURCES = {
    "runner": "the runner, by the host's clock and CUDA events",
    "host_clock": "nsight_tools.inference(), by the host's clock",
    "cuda_events": "nsight_tools.inference(), by the host's clock and CUDA events",
    "trtexec": "trtexec --exportTimes",
}
"""What stands behind an untraced run, by `measured_by` of the dataset's `benchmark`."""

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
    source: str = "runner"
    """Who measured it, one of SOURCES."""

    @classmethod
    def of(cls, trace: Trace) -> Untraced | None:
        """From the dataset's `benchmark`; None where it has none, or one that is not of this trace's requests."""
        return Known.of(trace).untraced

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


@dataclass(frozen=True)
class Known:
    """What a trace's dataset knows of a run without the profiler."""

    untraced: Untraced | None = None
    problem: str = ""
    """Why there is none, although something was measured."""
    program: float | None = None
    """How long the program ran as a whole, ns, where that is all that was measured."""
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    """Which rows of the table `benchmark` the times are of; none where they are not taken."""

    @classmethod
    def of(cls, trace: Trace) -> Known:
        """Of a trace; the same object for all who ask."""
        return trace.once(_known)


def _known(trace: Trace) -> Known:
    names = [f"{name}_ns" for name in TIMES]
    table = trace.table("benchmark", ["run", "measured_by", "inference", "start_ns", *names])
    run = words(table["run"])
    whole = np.flatnonzero(run.among("program"))
    if len(whole):
        return Known(program=float(ints(table["wall_ns"])[whole[0]]))
    rows = np.flatnonzero(run.among("benchmark"))
    if not len(rows):
        return Known()
    source = next(iter(words(table["measured_by"].take(pa.array(rows[:1]))).counts()), "runner")
    columns = {name: ints(table[name]) for name in ("inference", "start_ns", *names)}
    if source in ("host_clock", "cuda_events"):
        rows = rows[_judged(trace, columns["inference"][rows])]
    if len(rows) < FEWEST:
        return Known(problem=f"it has {len(rows)} of the {FEWEST} inferences that are needed")
    medians: dict[str, Any] = {}
    for name in names:
        values = columns[name][rows]
        medians[name.removesuffix("_ns")] = float(np.median(values)) if (values >= 0).all() else None
    overlapped = np.flatnonzero(run.among("throughput"))
    medians["period"] = _period(columns, rows)
    medians["overlapped"] = _period(columns, overlapped) if len(overlapped) >= FEWEST else None
    untraced = Untraced(**medians, requests=len(rows), source=source)
    start = columns["start_ns"][rows]
    problem = _problem(trace, untraced, at_a_time(start, start + columns["wall_ns"][rows]))
    return Known(problem=problem) if problem else Known(untraced, rows=rows)


def _judged(trace: Trace, number: Ints) -> Bools:
    """Which of these numbers of inferences are of the trace's judged population, shape (n,).

    All of them where the trace has one population, or carries no numbers.
    """
    requests = Run.of(trace).requests
    if len(requests.populations) < 2:
        return np.ones(len(number), np.bool_)
    row, payload = trace.numbers("inferences", "nvtx_range"), trace.numbers("nvtx_ranges", "payload")
    if (row < 0).any() or (payload[row] < 0).any():
        return np.ones(len(number), np.bool_)
    others = payload[row[requests.counted & (requests.population != requests.populations[0].number)]]
    judged: Bools = np.isin(number, payload[row[requests.judged]]) & ~np.isin(number, others)
    return judged


def _problem(trace: Trace, untraced: Untraced, under_way: float) -> str:
    """Why these times cannot be of the trace's requests; empty where they can."""
    run = Run.of(trace)
    requests = run.requests
    judged = requests.judged
    if not judged.any():
        return ""
    if untraced.source == "host_clock":
        wall = np.median(requests.wall[judged])
        waited = np.median(requests.range_end[judged] - requests.start[judged])
        if wall > WAITED * waited:
            return (
                "nsight_tools.inference() ends before the GPU is done: wait for the result in it, or hand it the stream"
            )
    busy = run.work.busy().intersection(run.window).total / max(run.count, 1)
    several = max(under_way, run.flow.at_a_time) >= SEVERAL
    if several and judged.sum() < FEWEST:
        return ""  # so few have no period
    traced, took = (
        (run.flow.period_ns, untraced.period or 0.0)
        if several
        else (float(np.median(requests.wall[judged])), untraced.wall)
    )
    what = "one is done every" if several else "one takes"
    if took > SLOWER * traced:
        return f"{what} {duration(took)} there and {duration(traced)} in the trace, which tracing makes no shorter"
    if not several and took < LEAST_WORK * busy:
        return f"{what} {duration(took)} there, and its work on the GPU {duration(busy)} in the trace"
    return ""


def _period(columns: Mapping[str, Ints], rows: Ints) -> float:
    """What passes for each of these requests, ns, over all threads and streams."""
    start, wall = columns["start_ns"][rows], columns["wall_ns"][rows]
    return float((start + wall).max() - start.min()) / len(rows)


@dataclass(frozen=True)
class Wall:
    """A request's time without the profiler, ns: a range that holds it nine times in ten, and how it is known."""

    wall: Range
    source: str
