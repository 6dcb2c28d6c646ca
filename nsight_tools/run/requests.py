"""The requests of a trace (called inferences in what is printed): engines, populations, phases.

A request is what the user counts. Those that do the same work are a population; what leads a thread, an engine or a
population before it is steady is its warm-up. One population at a time is judged, the one that takes the most time: a
number about several kinds of requests is true of none of them. Nothing outside of it, and no warm-up, counts in any
median, share, sum or worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import IntArray, Intervals

if TYPE_CHECKING:
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

NOT_STEADY = ("warm_up", "shape_change")
"""Marks of requests that lead their population: slow for reasons of their own."""

_COLUMNS = ("start_ns", "end_ns", "wall_ns", "range_start_ns", "range_end_ns", "pid", "tid", "device", "population")
_COUNTS = ("kernels", "graphs", "copies", "enqueues")


@dataclass(frozen=True)
class Population:
    """Requests that do the same work: its number, how many there are and are steady, and medians of the steady ones."""

    number: int
    count: int
    steady: int
    wall_ns: int
    kernels: int
    time_ns: int
    """Summed over the steady ones."""


class Requests:
    """Rows of `inferences` as arrays of shape (n,), in order of start; -1 where something is unknown."""

    def __init__(self, trace: Trace) -> None:
        table = trace.table("inferences", [*_COLUMNS, *_COUNTS, "source", "mark"])
        columns = {name.removesuffix("_ns"): ints(table[name]) for name in (*_COLUMNS, *_COUNTS)}
        self.start: Ints = columns["start"]
        self.end: Ints = columns["end"]
        self.wall: Ints = columns["wall"]
        self.range_start: Ints = columns["range_start"]
        self.range_end: Ints = columns["range_end"]
        self.pid: Ints = columns["pid"]
        self.tid: Ints = columns["tid"]
        self.device: Ints = columns["device"]
        self.population: Ints = columns["population"]
        self.enqueues: Ints = columns["enqueues"]
        self.worked: Bools = columns["kernels"] + columns["graphs"] > 0
        """Whether the GPU worked for a request: it launched a kernel or a graph."""
        self.kernels: Ints = columns["kernels"]
        self.source: Words = words(table["source"])
        self.mark: Words = words(table["mark"])
        self.about: dict[str, Any] = trace.manifest.get("requests") or {}

    def __len__(self) -> int:
        return len(self.start)

    @property
    def thread(self) -> Ints:
        return joint_key(self.pid, self.tid)

    @cached_property
    def counted(self) -> Bools:
        """Requests whose times count: those that the GPU worked for; all of them where it worked for none."""
        return self.worked if self.worked.any() else ~self.worked

    @cached_property
    def warm_up(self) -> Bools:
        """Those that lead a thread, an engine or a population before it is steady."""
        return self.mark.among(*NOT_STEADY) & self.counted

    @property
    def outlier(self) -> Bools:
        """Those that are far slower than others of their population, and lead nothing."""
        return self.mark.among("outlier")

    @cached_property
    def steady(self) -> Bools:
        """Those that count and are no warm-up."""
        steady: Bools = self.counted & ~self.warm_up
        return steady

    @cached_property
    def populations(self) -> tuple[Population, ...]:
        """All populations with a steady request, the one with the most time first: its median as often as it comes."""
        rows = []
        for number in np.unique(self.population[self.steady]).tolist():
            mine = self.population == number
            steady = mine & self.steady
            rows.append(
                Population(
                    number,
                    int((mine & self.counted).sum()),
                    int(steady.sum()),
                    round(float(np.median(self.wall[steady]))),
                    round(float(np.median(self.kernels[steady]))),
                    int(self.wall[steady].sum()),
                )
            )
        return tuple(sorted(rows, key=lambda population: (-population.steady * population.wall_ns, population.number)))

    @cached_property
    def judged(self) -> Bools:
        """The steady requests of the population that takes the most time: what every number is about."""
        if not self.populations:
            return np.zeros(len(self), np.bool_)
        judged: Bools = self.steady & (self.population == self.populations[0].number)
        return judged

    @cached_property
    def window(self) -> Intervals:
        """Time inside of any judged request's window."""
        return Intervals.union(self.start[self.judged], self.end[self.judged])

    def of_threads(self) -> dict[tuple[int, int], IntArray]:
        """The rows of each thread's requests, in order of start; not of unknown threads."""
        by_thread: dict[tuple[int, int], IntArray] = {}
        for pid, tid in np.unique(np.stack([self.pid, self.tid])[:, self.tid >= 0], axis=1).T.tolist():
            rows = np.flatnonzero((self.pid == pid) & (self.tid == tid))
            by_thread[pid, tid] = rows[np.argsort(self.start[rows], kind="stable")]
        return by_thread
