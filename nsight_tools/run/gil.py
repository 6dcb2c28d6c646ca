"""Python's interpreter lock (GIL): which thread waits for it and which holds it, where Nsight Systems traced it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.importer import dialects
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.columns import Bools
    from nsight_tools.trace import Trace

OPTION = "--trace=cuda,nvtx,python-gil"
"""Of `nsys profile`, from 2023.4 on."""


class Gil:
    """The lock of every Python process of a trace; all is empty where it was not traced."""

    def __init__(self, trace: Trace) -> None:
        table = trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "domain", "name", "kind"])
        told = words(table["kind"]).among(dialects.OF_PROFILER) & words(table["domain"]).among(dialects.GIL_DOMAIN)
        rows = np.flatnonzero(told)
        name = words(table["name"])[rows]
        self._start, self._end, self._pid, self._tid = (
            ints(table[column])[rows] for column in ("start_ns", "end_ns", "pid", "tid")
        )
        self._waits, self._holds = name.among(dialects.GIL_WAITING), name.among(dialects.GIL_HOLDING)

    @classmethod
    def of(cls, trace: Trace) -> Gil:
        """The lock of `trace`; the same object for all who ask."""
        return trace.once(cls)

    @property
    def traced(self) -> bool:
        """Whether the trace tells anything of it."""
        return bool(len(self._start))

    def waiting(self, pid: int, tid: int) -> Intervals:
        """Time in which a thread waits for the lock."""
        return self._spans(self._waits & (self._pid == pid) & (self._tid == tid))

    def holders(self, pid: int, tid: int, within: Intervals) -> tuple[tuple[int, int], ...]:
        """Other threads that hold the lock `within` these times: thread and nanoseconds, the longest first."""
        others = self._holds & (self._pid == pid) & (self._tid != tid)
        held = [
            (int(tid), self._spans(others & (self._tid == tid)).intersection(within).total)
            for tid in np.unique(self._tid[others])
        ]
        return tuple(sorted((holder for holder in held if holder[1]), key=lambda holder: (-holder[1], holder[0])))

    def _spans(self, chosen: Bools) -> Intervals:
        ended = chosen & (self._end > self._start)
        return Intervals.union(self._start[ended], self._end[ended])
