"""What the clock does to kernels: the same ones, compared at different clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Ints, ints, words
from nsight_tools.findings import Evidence
from nsight_tools.run.samples import Samples
from nsight_tools.timeline.intervals import Intervals, shared
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.run import Run
    from nsight_tools.run.metrics import Metrics
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

FEWEST_KERNELS = 100
"""Fewer kernels than this do not tell a clock's effect from chance."""
SPREAD = 0.01
"""A clock has to vary by this much (standard deviation) to show what it does to kernels; a steady one has 0.2 %."""
FEWEST_CLOCKS = 45
"""Samples of the clock: so many kernels between two samples say it once, and 0.3 is chance for fewer, 2 / sqrt(n)."""
MOST_KERNELS = 100_000
"""Kernels that are looked at for the clock's effect: it does not become clearer with more."""
STRETCHED = 1.5
"""Kernels that take this many times their usual time have been interrupted, or share the SMs; clocks do not do that."""


@dataclass(frozen=True)
class Clock:
    """What the clock does to the kernels of a GPU: times in nanoseconds; `slope` is None where it cannot be told.

    `variation` is the clock's coefficient of variation while kernels run.
    """

    device: int
    slope: float | None
    variation: float
    cost: int
    kernel_time: int
    median: float
    stretched: int
    stretched_time: int
    examples: Intervals

    @property
    def aside(self) -> str:
        """What part the clock has in it, in words."""
        if self.slope is None:
            return "the clock is steady, and has no part in it"
        return f"the clock accounts for only {share(self.cost / max(self.kernel_time, 1))} of the kernels' time"

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        told = Evidence("slope of log duration over log clock", self.slope or 0.0, "", detail="-1 is proportional")
        return (
            Evidence("kernel time lost to the clock", self.cost, "ns", detail=f"of {duration(self.kernel_time)}"),
            *((told,) if self.slope is not None else ()),
        )


def clock_effect(run: Run, device: int, metrics: Metrics) -> Clock | None:
    """Slope of the kernels' duration over the clock, and what the clock costs; None where neither can be told."""
    time, value = metrics.clock(device)
    if not len(time):
        time, sampled = Samples.of(run, device).known("sm_clock_mhz")
        value = sampled.astype(np.float64)
    if len(time) < FEWEST_CLOCKS:
        return None
    work = run.work
    mine = np.flatnonzero(work.kind.among("kernel") & (work.device == device) & (work.end > work.start))
    start, end, inference = work.start[mine], work.end[mine], work.inference[mine]
    middle = (start + end) // 2
    repeats = bool(run.count)  # else kernels of one name and grid are compared, whatever for
    chosen = run.judges(inference) & (middle >= time[0]) & (middle <= time[-1])
    if (start[1:] < np.maximum.accumulate(end)[:-1]).any():
        chosen &= shared(start, end).coverage(start, end) == 0
    # Every so many-th inference, from the whole of the trace.
    turn = inference if repeats else np.arange(len(mine))
    chosen &= turn % (chosen.sum() // MOST_KERNELS + 1) == 0
    kernels, middle = work[mine[chosen]], middle[chosen]
    if len(middle) < FEWEST_KERNELS:
        return None
    length = (kernels.end - kernels.start).astype(float)
    clock = np.maximum(np.interp(middle, time, value), 1.0)
    group = _same_work(run.trace, kernels, by_place=repeats)
    cycles = length * clock
    usual = _by_group(group, cycles)[group]
    stretched = (cycles > STRETCHED * usual) & repeats
    plain = ~stretched
    slope = _slope(group[plain], np.log(clock[plain]), np.log(length[plain]), usual[plain] / clock[plain])
    highest = run.gpus.of(device).max_sm_clock_mhz or float(value.max())
    # What was looked at stands for all: the share of its time that is lost is taken to be everybody's.
    lost = float((length * np.maximum(1 - clock / highest, 0)).sum() / length.sum()) * min(-(slope or 0.0), 1.0)
    busy = Intervals.union(start, end).intersection(run.window).total
    excess = float(((cycles - usual) / clock)[stretched].sum() / length.sum())
    return Clock(
        device,
        slope,
        float(clock.std() / clock.mean()),
        round(lost * busy),
        busy,
        float(np.median(clock)),
        int(stretched.sum()),
        round(excess * busy),
        Intervals(kernels.start[stretched], kernels.end[stretched]),
    )


def _same_work(trace: Trace, kernels: Work, *, by_place: bool) -> Ints:
    """A number for each kernel, the same for those with one name, grid and (if asked) place within their inferences."""
    table = trace.table("kernels", ["name", "grid_x", "grid_y", "grid_z"])
    name = words(table["name"]).codes[kernels.row].astype(np.int64)
    for axis in "xyz":
        name = name * 1_000_003 + ints(table[f"grid_{axis}"])[kernels.row]
    _, kind = np.unique(name, return_inverse=True)
    kind = kind.reshape(-1).astype(np.int64)
    if not by_place:
        return kind
    order = np.lexsort((kernels.start, kind, kernels.inference))
    at = np.arange(len(order))
    begins = np.append(True, (np.diff(kind[order]) != 0) | (np.diff(kernels.inference[order]) != 0))
    place = np.zeros(len(order), np.int64)
    place[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    _, group = np.unique(kind * (int(place.max()) + 1) + place, return_inverse=True)
    found: Ints = group.reshape(-1).astype(np.int64)
    return found


def _by_group(group: Ints, value: Floats) -> Floats:
    """The median of each group's values."""
    order = np.lexsort((value, group))
    count = np.bincount(group)
    first = np.cumsum(count) - count
    low, high = value[order][first + (count - 1) // 2], value[order][first + count // 2]
    median: Floats = (low + high) / 2
    return median


def _slope(group: Ints, clock: Floats, length: Floats, weight: Floats) -> float | None:
    """The slope within groups, if durations follow the clock; None where they do not, or the clock hardly varies."""
    count = np.maximum(np.bincount(group), 1)
    x, y = (value - (np.bincount(group, value) / count)[group] for value in (clock, length))
    if x.std() < SPREAD or not y.std():
        return None
    slope = float((weight * x * y).sum() / (weight * x * x).sum())
    return slope if slope <= -0.5 and np.corrcoef(x, y)[0, 1] <= -0.3 else None
