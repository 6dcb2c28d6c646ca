"""The samples of GPU metrics that several analyses look at: the clock of the SMs, and everybody's activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.columns import Bools, Ints, ints, words

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

CLOCKS = ("GPC Clock Frequency", "SM Clock Frequency", "SM Frequency")
"""What Nsight Systems has called the clock of the SMs, by metric set."""

ACTIVE = ("GR Active", "GPC Active")
"""What Nsight Systems has called the share of time in which the GPU's engine works, for whomever."""


@dataclass(frozen=True)
class Metrics:
    """Samples of the clock and of everybody's activity, in order of time."""

    time: Ints
    device: Ints
    value: Floats
    is_clock: Bools
    is_active: Bools

    @classmethod
    def of(cls, trace: Trace) -> Metrics:
        table = trace.table("gpu_metrics")
        metric = words(table["metric"])
        clock = metric.where(lambda name: name.startswith(CLOCKS))
        active = metric.where(lambda name: name.startswith(ACTIVE))
        return cls(ints(table["time_ns"]), ints(table["device"]), table["value"].to_numpy(), clock, active)

    def clock(self, device: int) -> tuple[Ints, Floats]:
        here = self.is_clock & (self.device == device)
        return self.time[here], self.value[here]

    def active(self, device: int) -> tuple[Ints, Floats]:
        here = self.is_active & (self.device == device)
        return self.time[here], self.value[here]

    def sampled(self, device: int) -> bool:
        return bool(len(self.active(device)[0]))
