"""Samples of the GPUs: clock, activity, power, heat, and why clocks are held back.

NVML's are read here, and those of GPU metrics in `metrics`.

A GPU's samples count while it is busy with this process' work in the steady state. The clock is Nsight Systems' own
where GPU metrics were collected, else NVML's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.hardware import REASONS, SETTINGS
from nsight_tools.run.metrics import Metrics

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from nsight_tools.run import Run
    from nsight_tools.timeline.intervals import Intervals
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

IDLE = 0x1
APPLICATION_CLOCKS = 0x2
POWER = frozenset({0x4, 0x80, 0x200})
HEAT = frozenset({0x20, 0x40})
BUSY_SHARE = 0.1
"""A GPU that works a tenth of the time does not clock down: it does after tens of milliseconds without any work."""
FEWEST_HELD = 3
"""One or two samples may be chance; of three that were seen the true share is above a quarter (95 %, Poisson)."""
FEWEST_BUSY = 60
"""None seen in n samples leaves up to 3/n unseen (95 %, "rule of three"): in 60, 5 % of the busy time."""


DROP = 0.05
"""A clock that is this far below the GPU's highest is a drop: boost clocks vary by 2 to 3 % under light load."""
SAMPLES = 20
"""Fewer samples inside of kernels than this say nothing of a share of 1 %, which is the threshold."""
NVML = "NVML"
"""The source of few samples, 20 ms apart at 50 Hz."""
HELD_SHARE = 0.01
"""Of the busy time; a clock that is held back more rarely changes no median and no throughput."""


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
        kept = run.trace.once(_kept)
        if device not in kept:
            kept[device] = cls.read(run, device)
        return kept[device]

    @classmethod
    def read(cls, run: Run, device: int) -> Samples:
        """The same, read now."""
        table = run.trace.table("telemetry")
        table = table.filter(ints(table["device"]) == device)
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


def _kept(_trace: Trace) -> dict[int, Samples]:
    """What `Samples.of` read of a trace, by GPU."""
    return {}


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
        is_held: Bools = self.mask & ~settings > 0
        return is_held

    @property
    def share(self) -> float:
        """Share of the busy samples in which it does."""
        return float(self.held.mean()) if len(self.mask) else 0.0

    def counts(self, *, settings: bool = False) -> dict[int, int]:
        """Samples by bit, most frequent first: of holding back, or of limits that somebody set."""
        bits = [1 << at for at in range(63) if (1 << at in SETTINGS) == settings and 1 << at != IDLE]
        by_bit = {bit: int((self.mask & bit > 0).sum()) for bit in bits}
        return {bit: count for bit, count in sorted(by_bit.items(), key=lambda item: -item[1]) if count}

    def named(self, *, settings: bool = False) -> str:
        """Each reason with its share of the busy samples, as "software power cap (94 of 100 busy samples)"."""
        return " and ".join(
            f"{name_of(bit)} ({count} of {len(self)} busy samples)"
            for bit, count in self.counts(settings=settings).items()
        )


def name_of(bit: int) -> str:
    """A clock-event reason's name; its bit, where it has none here."""
    return REASONS.get(bit) or SETTINGS.get(bit) or f"reason {bit:#x}"


@dataclass(frozen=True)
class Lock:
    """An SM clock that stays below the GPU's highest while it is busy, and that the GPU itself does not hold back."""

    mhz: int
    named: bool
    """Whether NVML names the setting; else a clock that was locked is the likely reason."""

    def __str__(self) -> str:
        sentence = f"the SM clock is locked at {self.mhz:,} MHz"
        return sentence if self.named else f"{sentence}, it seems: it never moves, and NVML names no reason"


def locked(run: Run, device: int) -> Lock | None:
    """The clock that somebody locked a GPU at; None where it floats, is at its highest, or too few samples tell.

    It may differ in 1 % of the busy samples. NVML's own word for a setting is enough; else it takes a drop, and so many
    samples that a reason of the GPU's own would have been seen.
    """
    samples = Samples.of(run, device)
    reasons, clock = Reasons.of(samples), samples.known("sm_clock_mhz")[1]
    highest = samples.highest("max_sm_clock_mhz") or run.gpus.of(device).max_sm_clock_mhz
    if len(clock) < FEWEST_HELD or not len(reasons) or highest is None or reasons.held.any():
        return None
    usual = int(np.argmax(np.bincount(clock)))
    if usual >= highest or (clock != usual).mean() >= HELD_SHARE:
        return None
    settings = reasons.counts(settings=True)
    named = settings.get(APPLICATION_CLOCKS, 0) > (1 - HELD_SHARE) * len(reasons)
    likely = not settings and len(reasons) >= FEWEST_BUSY and usual < (1 - DROP) * highest
    return Lock(usual, named) if named or likely else None


def why_low(run: Run, device: int) -> str:
    """Why a GPU's clock was low while it was busy, by NVML's samples; what is missing, where they do not say."""
    reasons = Reasons.of(Samples.of(run, device))
    if reasons.counts():
        few = "" if reasons.held.sum() >= FEWEST_HELD else ", too few to be sure"
        return f"NVML names {reasons.named()}{few}"
    lock = locked(run, device)
    if reasons.counts(settings=True):
        named = f"NVML names a limit that was set: {reasons.named(settings=True)}"
        return f"{lock}; {named}" if lock else named
    if lock:
        return f"{lock} in {len(reasons)} busy samples"
    if len(reasons):
        return f"NVML names no reason in {len(reasons)} busy samples: a clock that was locked lower looks so"
    return "why the clock is low is not recorded"


def sampled(trace: Trace) -> bool:
    """Whether NVML was sampled beside the report."""
    return trace.rows("telemetry") > 0


@dataclass(frozen=True)
class SmClock:
    """Samples of the SM clock while a GPU is busy: when (nanoseconds), MHz, the highest it has, and who sampled it."""

    time: Ints
    value: Floats
    highest: float
    source: str

    @property
    def low(self) -> float:
        """Share of the samples that lie more than 5 % below the highest."""
        return float((self.value < (1 - DROP) * self.highest).mean())

    @property
    def drops(self) -> bool:
        """Whether they are so many that it is worth a word; of NVML's few samples three at least."""
        fewest = FEWEST_HELD if self.source == NVML else 1
        return self.low >= HELD_SHARE and self.low * len(self.value) >= fewest

    @property
    def enough(self) -> bool:
        """Whether so many samples, were none of them low, would clear the GPU."""
        return self.source != NVML or len(self.value) >= FEWEST_BUSY

    @property
    def shortfall(self) -> float:
        """How far below the highest it is on average, as a share of it."""
        return float(np.mean(np.maximum(1 - self.value / self.highest, 0)))


def clock_samples(run: Run, device: int) -> tuple[Ints, Floats, str] | None:
    """When the clock was sampled while a GPU computes in the steady state, MHz, and who sampled it.

    By its metrics, else NVML's busy samples; None with too few of both.
    """
    time, value = Metrics.of(run.trace).clock(device)
    inside = run.gpus.computing(device).intersection(run.window).contains(time)
    if inside.sum() >= SAMPLES:
        return time[inside], value[inside], "GPU metrics"
    time, known = Samples.of(run, device).known("sm_clock_mhz")
    return (time, known.astype(np.float64), NVML) if len(time) >= SAMPLES else None


def busy_clock(run: Run, device: int) -> SmClock | None:
    """The clock while a GPU computes in the steady state; None with too few samples, or an unknown highest clock."""
    highest = run.gpus.of(device).max_sm_clock_mhz or Samples.of(run, device).highest("max_sm_clock_mhz")
    samples = clock_samples(run, device) if highest else None
    return SmClock(samples[0], samples[1], float(highest or 0), samples[2]) if samples else None


def nvml_metric(run: Run, device: int, metric: str) -> Floats:
    """Values of Nsight Systems' nvml_metrics plugin for a GPU from the steady state's first moment to its last."""
    table = run.trace.table("nvml_metrics")
    time = ints(table["time_ns"])
    during = (time >= run.window.start[0]) & (time <= run.window.end[-1])
    chosen = during & (ints(table["device"]) == device) & words(table["metric"]).among(metric)
    values: Floats = table["value"].to_numpy()[chosen]
    return values
