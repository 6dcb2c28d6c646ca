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

    `scaled` is its share times its own duration over the trace's; `raw` as it stands. `level` is its share over its own
    duration without the launch, of which it measures as much more of every kernel (median): what takes longer there
    keeps as many SMs active meanwhile, and issues fewer instructions.
    """

    told: Floats
    low: Floats
    high: Floats
    scaled: Floats
    raw: Floats
    level: Floats

    @classmethod
    def of(cls, trace: Trace, truth: Path, metric: str) -> Beside:
        rows = counted(truth)
        frame = layer_limits(trace).to_pandas()
        mine = frame[(frame["of"] == "kernel") & (frame["metric"] == metric)].sort_values("position")
        assert len(mine) == len(rows)
        time = mine["time_ns"].to_numpy()
        raw, took = shares_and_durations(rows, metric)
        scaled = np.minimum(raw * took / time, 100)
        level = np.minimum(raw * took / (took - np.median(took - time)), 100)
        large = time > LARGE * time.sum()
        told, low, high = (100 * mine[name].to_numpy()[large] for name in ("share", "low", "high"))
        return cls(told, low, high, scaled[large], raw[large], level[large])

    @property
    def off(self) -> Floats:
        return np.abs(self.told - self.scaled)

    @property
    def held(self) -> float:
        """Share of the kernels whose interval holds the scaled truth."""
        return self.holds(self.scaled)

    def holds(self, truth: Floats) -> float:
        """Share of the kernels whose interval holds this."""
        return float(((self.low <= truth + 1e-9) & (truth <= self.high + 1e-9)).mean())


def counted(truth: Path) -> list[dict[str, str]]:
    """The kernels of the first inference, in order."""
    with truth.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [row for row in rows if row.get("inference", "0") == "0"]


def shares_and_durations(rows: list[dict[str, str]], metric: str) -> tuple[Floats, Floats]:
    """What was counted of each kernel, in percent, and how long it took meanwhile, in nanoseconds; (kernels,) each."""
    share, took = ([float(row[name]) for row in rows] for name in (COUNTERS[metric], "gpu__time_duration.sum"))
    return np.array(share), np.array(took)


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's; what is alike has the mean of its ranks."""
    ranks = [
        (values[:, None] > values).sum(axis=1) + (values[:, None] >= values).sum(axis=1) for values in (one, other)
    ]
    return float(np.corrcoef(*ranks)[0, 1])
