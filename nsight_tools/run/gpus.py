"""The GPUs of a run: what is known of each, and when it is busy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.hardware import NEWEST_LINK
from nsight_tools.timeline.intervals import Intervals, only_distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.recorded import Recorded
    from nsight_tools.run.work import Copies


@dataclass(frozen=True)
class GpuFacts:
    """A row of `gpus`; None where the report does not say."""

    device: int
    name: str | None = None
    compute_major: int | None = None
    sm_count: int | None = None
    max_sm_clock_mhz: float | None = None
    max_warps_per_sm: int | None = None
    max_blocks_per_sm: int | None = None
    max_registers_per_sm: int | None = None
    max_shared_memory_per_sm_bytes: int | None = None
    memory_bandwidth_bytes_per_s: int | None = None
    l2_cache_bytes: int | None = None
    integrated: bool | None = None

    @property
    def newest_link(self) -> int | None:
        """PCIe generation that it supports at most; None where its compute capability is not known."""
        return None if self.compute_major is None else NEWEST_LINK.get(self.compute_major)


class Gpus:
    """When each GPU runs what: unions, so that concurrent work counts once."""

    def __init__(self, run: Recorded) -> None:
        self._run = run
        self._lines: dict[tuple[int, str], Intervals] = {}
        self._windows: dict[int, Intervals] = {}

    @cached_property
    def devices(self) -> tuple[int, ...]:
        """The GPUs that ran anything, in order."""
        return tuple(only_distinct(self._run.work.device).tolist())

    @cached_property
    def facts(self) -> dict[int, GpuFacts]:
        """What the report says of each of its GPUs, by number."""
        names = {field.name for field in fields(GpuFacts)}
        rows = self._run.trace.table("gpus").to_pylist()
        return {row["device"]: GpuFacts(**{k: v for k, v in row.items() if k in names}) for row in rows}

    def of(self, device: int) -> GpuFacts:
        """What is known of a GPU."""
        return self.facts.get(device, GpuFacts(device))

    def busy(self, device: int) -> Intervals:
        """Time in which a GPU runs anything."""
        if self.devices == (device,):
            return self._run.work.busy()
        return self._line(device, "busy")

    def computing(self, device: int) -> Intervals:
        """Time in which a GPU runs kernels that compute (or whole graphs)."""
        return self._line(device, "computing")

    def _line(self, device: int, what: str) -> Intervals:
        if (device, what) not in self._lines:
            work = self._run.work
            mine: Bools = work.device == device
            if what != "busy":
                mine = mine & (work.computes if what == "computing" else work.communicates)
            self._lines[device, what] = Intervals.union(work.start[mine], work.end[mine])
        return self._lines[device, what]

    def window(self, device: int) -> Intervals:
        """The steady state of a GPU: the windows of the judged requests that it works for."""
        run = self._run
        if len(self.devices) < 2 or not run.count:
            return run.window
        if device not in self._windows:
            rows = np.flatnonzero(run.judged_work & (run.work.device == device))
            whose = only_distinct(run.work.inference[rows])
            self._windows[device] = Intervals.union(run.requests.start[whose], run.requests.end[whose])
        return self._windows[device]

    def idle(self, device: int) -> Intervals:
        """Time of the window in which a GPU runs nothing that was traced."""
        return self.window(device).subtract(self.busy(device))

    def exposed(self, copies: Copies) -> int:
        """Time in which any of `copies` runs while its GPU runs no kernel; nanoseconds, summed over the GPUs."""
        return self.uncovered(copies.device, copies.start, copies.end)

    def uncovered(self, device: Ints, start: Ints, end: Ints) -> int:
        """Time of these stretches, each on a GPU, in which it runs no kernel; nanoseconds, summed over the GPUs.

        Only what lies in the GPU's window counts.
        """
        return sum(
            Intervals.union(start[here], end[here])
            .intersection(self.window(number))
            .subtract(self.computing(number))
            .total
            for number in only_distinct(device).tolist()
            for here in (device == number,)
        )

    def share(self, total: int, device: Ints) -> float:
        """`total`, summed over the GPUs that `device` names, as a share of their windows."""
        return total / max(sum(self.window(number).total for number in only_distinct(np.asarray(device)).tolist()), 1)
