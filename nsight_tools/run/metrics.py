"""Nsight Systems' samples of the GPUs' hardware metrics: the one place that reads them, by what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Ints, ints, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

CLOCK, ACTIVE = "sm_clock", "active"
SHARES = ("sms_active", "sm_issue", "tensor_active", "warps", "dram_read", "dram_write")
"""What limits a kernel, in percent of the hardware's peak, in the order in which it is shown."""


@dataclass(frozen=True)
class Metrics:
    """Samples of the whole GPUs, whoever worked there, in order of time; columns of shape (n,)."""

    time: Ints
    device: Ints
    value: Floats
    metric: Words
    means: Words

    @classmethod
    def of(cls, trace: Trace) -> Metrics:
        """Those of a trace, read once."""
        return trace.once(_metrics)

    def clock(self, device: int) -> tuple[Ints, Floats]:
        """When the clock of a GPU's SMs was sampled, and MHz, shape (n,) each."""
        return self._known(CLOCK, device)

    def active(self, device: int) -> tuple[Ints, Floats]:
        """When a GPU's activity was sampled, and percent of the time since, shape (n,) each."""
        return self._known(ACTIVE, device)

    def sampled(self, device: int) -> bool:
        """Whether the GPU's activity was sampled."""
        return bool(len(self.active(device)[0]))

    @property
    def clocked(self) -> bool:
        """Whether the clock of any GPU's SMs was sampled."""
        return bool(self._meaning[CLOCK].any())

    def _known(self, word: str, device: int) -> tuple[Ints, Floats]:
        here = self._meaning[word] & (self.device == device)
        return self.time[here], self.value[here]

    @cached_property
    def _meaning(self) -> Mapping[str, npt.NDArray[np.bool_]]:
        return {word: self.means.among(word) for word in (CLOCK, ACTIVE)}

    def shares(self, device: int) -> Grid:
        """What a GPU's samples say in percent of a peak, one row a sample.

        What is known by its meaning comes first, in the order of `SHARES`, then all else that its name says is a
        percentage, by that name without the unit; of the latter constant ones (of graphics, say) are left out.
        """
        names = {}
        for code, name in enumerate(self.metric.dictionary):
            rows = np.flatnonzero((self.metric.codes == code) & (self.device == device))
            if not rows.size:
                continue
            word = self.means.at(int(rows[0])) or (name.partition(" [")[0] if name.endswith("%]") else "")
            differs = word in {CLOCK, *SHARES} or (word not in {"", ACTIVE} and np.ptp(self.value[rows]) > 0)
            if differs and word not in names:
                names[word] = rows
        clock = names.pop(CLOCK, np.zeros(0, np.int64))
        order = [*(word for word in SHARES if word in names), *(word for word in names if word not in SHARES)]
        time = np.zeros(0, np.int64)
        for word in order:
            if not np.array_equal(time, self.time[names[word]]):  # all are sampled at once
                time = np.union1d(time, self.time[names[word]])
        value = np.full((time.size, len(order) + 1), np.nan)
        for at, rows in enumerate([*(names[word] for word in order), clock] if time.size else []):
            place = np.minimum(np.searchsorted(time, self.time[rows]), time.size - 1)
            there = time[place] == self.time[rows]
            value[place[there], at] = self.value[rows[there]]
        whole = ~np.isnan(value[:, :-1]).any(axis=1)
        return Grid(time[whole], value[whole, :-1], value[whole, -1], tuple(order))


@dataclass(frozen=True)
class Grid:
    """A GPU's samples in which all metrics are known: when, shape (n,); percent, (n, words); MHz, (n,), perhaps nan."""

    time: Ints
    percent: Floats
    clock: Floats
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def period(self) -> int:
        """Nanoseconds from one sample to the next, median; 0 with fewer than two."""
        return int(np.median(np.diff(self.time))) if len(self) > 1 else 0

    @cached_property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which words have whole percents alone, shape (words,)."""
        whole: npt.NDArray[np.bool_] = (np.rint(self.percent) == self.percent).all(axis=0)
        return whole

    def __getitem__(self, chosen: npt.NDArray[np.bool_] | slice) -> Grid:
        return Grid(self.time[chosen], self.percent[chosen], self.clock[chosen], self.words)

    def of_words(self, chosen: list[int]) -> Grid:
        """The same samples of some of the metrics."""
        return Grid(self.time, self.percent[:, chosen], self.clock, tuple(self.words[at] for at in chosen))


def _metrics(trace: Trace) -> Metrics:
    table = trace.table("gpu_metrics")
    return Metrics(
        ints(table["time_ns"]),
        ints(table["device"]),
        table["value"].to_numpy(),
        words(table["metric"]),
        words(table["means"]),
    )
