"""The SM clock of a GPU while it is busy, and why it is low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.metrics import CLOCKS
from nsight_analyses.telemetry import FEWEST_BUSY, FEWEST_HELD, Reasons, Samples
from nsight_tools.columns import Ints, ints, words

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.run import Run

    Floats = npt.NDArray[np.float64]

DROP = 0.05
"""A clock that is this far below the GPU's highest is a drop: boost clocks vary by 2 to 3 % under light load."""
SAMPLES = 20
"""Fewer samples inside of kernels than this say nothing of a share of 1 %, which is the threshold."""
NVML = "NVML"
"""The source of few samples, 20 ms apart at 50 Hz."""
HELD_SHARE = 0.01
"""Of the busy time; a clock that is held back more rarely changes no median and no throughput."""


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


@dataclass(frozen=True)
class Gpu:
    """What is known of a working GPU's clock; `clock` is None with too few samples."""

    device: int
    name: str
    clock: SmClock | None
    samples: Samples
    reasons: Reasons

    @classmethod
    def of(cls, run: Run, device: int) -> Gpu:
        """What the trace says of a GPU, by its number."""
        rows = run.trace.table("gpus").to_pylist()
        facts = next((row for row in rows if row["device"] == device), {"name": None, "max_sm_clock_mhz": None})
        samples = Samples.of(run, device)
        highest = facts["max_sm_clock_mhz"] or samples.highest("max_sm_clock_mhz")
        clock = clock_while_busy(run, device, samples, highest) if highest else None
        return cls(device, facts["name"] or "GPU", clock, samples, Reasons.of(samples))

    def violations(self) -> dict[str, tuple[int, int]]:
        """Time held back, and the time in which that was counted, by cause; what was recorded."""
        counted = {what: self.samples.violation(f"{what}_violation_ns") for what in ("power", "thermal")}
        return {what: (held, passed) for what, (held, passed) in counted.items() if passed}


def clock_while_busy(run: Run, device: int, samples: Samples, highest: float) -> SmClock | None:
    """The clock inside of kernels by the GPU metrics, else in NVML's busy samples; None with too few of both."""
    table = run.trace.table("gpu_metrics")
    here = words(table["metric"]).where(lambda name: name.startswith(CLOCKS)) & (ints(table["device"]) == device)
    time, value = ints(table["time_ns"])[here], table["value"].to_numpy()[here]
    inside = run.gpus.computing(device).contains(time)
    if inside.sum() >= SAMPLES:
        return SmClock(time[inside], value[inside], highest, "GPU metrics")
    time, value = samples.known("sm_clock_mhz")
    if len(time) >= SAMPLES:
        return SmClock(time, value.astype(np.float64), highest, NVML)
    return None
