"""What Nsight Compute counted of each kernel of an inference, beside what samples of a trace tell."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools import layer_limits

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from nsight_tools import Trace

    Floats = npt.NDArray[np.float64]

COUNTERS = {
    "sms_active": "sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm_issue": "sm__inst_issued.avg.pct_of_peak_sustained_elapsed",
    "tensor_active": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
}
LARGE = 0.01
"""Share of an inference's time from which on a kernel is judged."""


@dataclass(frozen=True)
class Beside:
    """One metric of the large kernels, in percent: as told, from where to where, and Nsight Compute's, (kernels,) each.

    `scaled` is its share times its own duration over the trace's; `raw` as it stands.
    """

    told: Floats
    low: Floats
    high: Floats
    scaled: Floats
    raw: Floats

    @classmethod
    def of(cls, trace: Trace, truth: Path, metric: str) -> Beside:
        rows = counted(truth)
        frame = layer_limits(trace).to_pandas()
        mine = frame[(frame["of"] == "kernel") & (frame["metric"] == metric)].sort_values("position")
        assert len(mine) == len(rows)
        time = mine["time_ns"].to_numpy()
        raw = np.array([float(row[COUNTERS[metric]]) for row in rows])
        scaled = np.minimum(raw * [float(row["gpu__time_duration.sum"]) for row in rows] / time, 100)
        large = time > LARGE * time.sum()
        told, low, high = (100 * mine[name].to_numpy()[large] for name in ("share", "low", "high"))
        return cls(told, low, high, scaled[large], raw[large])

    @property
    def off(self) -> Floats:
        return np.abs(self.told - self.scaled)

    @property
    def held(self) -> float:
        """Share of the kernels whose interval holds the scaled truth."""
        return float(((self.low <= self.scaled + 1e-9) & (self.scaled <= self.high + 1e-9)).mean())


def counted(truth: Path) -> list[dict[str, str]]:
    """The kernels of the first inference, in order."""
    with truth.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [row for row in rows if row.get("inference", "0") == "0"]


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's, of values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])
