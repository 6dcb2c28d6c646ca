"""What NVML said of a GPU while this process kept it busy: clocks, why they are low, power, heat, the link."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.hardware import REASONS, SETTINGS

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.run import Run
    from nsight_tools.timeline.intervals import Intervals
    from nsight_tools.trace import Trace

IDLE = 0x1
POWER = frozenset({0x4, 0x80, 0x200})
HEAT = frozenset({0x20, 0x40})
BUSY_SHARE = 0.1
"""A GPU that works a tenth of the time does not clock down: it does after tens of milliseconds without any work."""
FEWEST_HELD = 3
"""One or two samples may be chance; of three that were seen the true share is above a quarter (95 %, Poisson)."""
FEWEST_BUSY = 60
"""None seen in n samples leaves up to 3/n unseen (95 %, "rule of three"): in 60, 5 % of the busy time."""


@dataclass(frozen=True)
class Samples:
    """Samples of one GPU in order of time, shape (n,), and in which of them this process keeps it busy.

    Busy is a sample around which, half a sampling period either side, this process' kernels and copies run for a tenth
    of the time; or any of them, where NVML itself counts a tenth of the time and more. NVML's own "idle" is not.
    """

    table: pa.Table
    time: Ints
    busy: Bools
    period: int
    """Nanoseconds from one sample to the next, median."""

    @classmethod
    def of(cls, run: Run, device: int) -> Samples:
        """The samples of a GPU; none where the trace has no telemetry of it."""
        table = run.trace.table("telemetry")
        numbers = ints(table["device"])
        working = run.gpus.devices
        if (numbers < 0).all() and len(working) == 1 and len(table["bus_id"].unique()) == 1:
            # One GPU was sampled and one worked: the report only does not know it by its bus.
            numbers = np.full(len(numbers), working[0])
        table = table.filter(numbers == device)
        time = ints(table["time_ns"])
        if len(time) < 2:
            return cls(table, time, np.zeros(len(time), np.bool_), 0)
        period = max(int(np.median(np.diff(time))), 2)
        work = run.gpus.busy(device).intersection(run.window)
        ran = work.coverage(time - period // 2, time - period // 2 + period)
        used = ints(table["gpu_utilization_percent"]) >= 100 * BUSY_SHARE
        reasons = ints(table["clock_event_reasons"])
        idle = (reasons >= 0) & (reasons & IDLE > 0)
        return cls(table, time, ((ran >= BUSY_SHARE * period) | ((ran > 0) & used)) & ~idle, period)

    def known(self, column: str) -> tuple[Ints, Ints]:
        """Times and values of a column in the busy samples that have one, shape (n,) each."""
        value = ints(self.table[column])
        chosen = self.busy & (value >= 0)
        return self.time[chosen], value[chosen]

    def near(self, time: Intervals) -> Bools:
        """Samples no further than half a period from any of this time."""
        close: Bools = time.coverage(self.time - self.period // 2, self.time - self.period // 2 + self.period) > 0
        return close

    def highest(self, column: str) -> int | None:
        """The largest value of a column, busy or not; None where none was recorded."""
        value = ints(self.table[column])
        return int(value.max()) if len(value) and value.max() >= 0 else None

    def violation(self, column: str) -> tuple[int, int]:
        """Growth of a cumulative counter up to the busy samples that have it, and the time over which; nanoseconds.

        It is counted from the sample before that has it. The time is 0 where it was not recorded. A counter that falls
        was reset, and says nothing of that step.
        """
        value = ints(self.table[column])
        known = value >= 0  # the counter is read in some of the samples only
        grown, passed = np.diff(value[known]), np.diff(self.time[known])
        chosen = self.busy[known][1:] & (grown >= 0)
        return int(grown[chosen].sum()), int(passed[chosen].sum())


@dataclass(frozen=True)
class Reasons:
    """Clock-event reasons in busy samples: how many samples, and the mask of each."""

    mask: Ints

    @classmethod
    def of(cls, samples: Samples) -> Reasons:
        return cls(samples.known("clock_event_reasons")[1])

    def __len__(self) -> int:
        return len(self.mask)

    @cached_property
    def held(self) -> Bools:
        """Samples in which the GPU itself holds its clocks back, for whatever reason: also one that is not known."""
        settings = sum(SETTINGS) | IDLE
        found: Bools = self.mask & ~settings > 0
        return found

    @property
    def share(self) -> float:
        """Share of the busy samples in which it does."""
        return float(self.held.mean()) if len(self.mask) else 0.0

    def counts(self, *, settings: bool = False) -> dict[int, int]:
        """Samples by bit, most frequent first: of holding back, or of limits that somebody set."""
        bits = [1 << at for at in range(63) if (1 << at in SETTINGS) == settings and 1 << at != IDLE]
        found = {bit: int((self.mask & bit > 0).sum()) for bit in bits}
        return {bit: count for bit, count in sorted(found.items(), key=lambda item: -item[1]) if count}

    def named(self, *, settings: bool = False) -> str:
        """Each reason with its share of the busy samples, as "software power cap (94 of 100 busy samples)"."""
        return " and ".join(
            f"{name_of(bit)} ({count} of {len(self)} busy samples)"
            for bit, count in self.counts(settings=settings).items()
        )


def name_of(bit: int) -> str:
    """A clock-event reason's name; its bit, where it has none here."""
    return REASONS.get(bit) or SETTINGS.get(bit) or f"reason {bit:#x}"


def why_low(run: Run, device: int) -> str:
    """Why a GPU's clock was low while it was busy, by NVML's samples; what is missing, where they do not say."""
    reasons = Reasons.of(Samples.of(run, device))
    if reasons.counts():
        few = "" if reasons.held.sum() >= FEWEST_HELD else ", too few to be sure"
        return f"NVML names {reasons.named()}{few}"
    if reasons.counts(settings=True):
        return f"NVML names a limit that was set: {reasons.named(settings=True)}"
    if len(reasons):
        return f"NVML names no reason in {len(reasons)} busy samples: a clock that was locked lower looks so"
    return "why the clock is low is not recorded"


def sampled(trace: Trace) -> bool:
    """Whether NVML was sampled beside the report."""
    return trace.rows("telemetry") > 0
