"""How requests follow one another: how many are under way, how often one is done, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.run.calls import OS_WAITS, os_waits
from nsight_tools.timeline.intervals import Intervals, at_a_time

if TYPE_CHECKING:
    from nsight_tools.run import Run
    from nsight_tools.run.calls import HostCalls, Thread
    from nsight_tools.timeline.intervals import IntArray

SEVERAL = 1.5
"""Requests under way at a time on a GPU, on average, from which on what each adds counts, and not how long it takes."""
PAUSE = 10
"""A gap this many times longer than a thread's median request and median gap together is a pause between runs."""
REGULAR = 0.1
"""Starts lie on a grid where they are off by less than this share of the gaps before them: a clock, or another program,
sets them. What a thread does between two requests varies by more, or is added up."""


@dataclass(frozen=True)
class Turns:
    """Judged requests of a thread with what leads to each: rows of them, and the end of the request before, shape (n,).

    `paused` where the program paused in between. The first of a thread has nothing before it: its own start stands.
    """

    rows: IntArray
    before: Ints
    paused: Bools

    def gaps(self, start: Ints) -> Intervals:
        """Time between requests, pauses left out."""
        here = ~self.paused
        return Intervals.union(self.before[here], start[self.rows][here])


@dataclass(frozen=True)
class Between:
    """Time between a thread's requests in which no GPU works and the thread is in no call that the GPU needs.

    `waits` is how much of it the threads wait in the operating system, None where its calls were not traced; `regular`
    whether requests start on a grid, and `every_ns` that grid's step.
    """

    gaps: Intervals
    count: int
    waits: int | None
    regular: bool
    every_ns: int

    @property
    def waited_for(self) -> bool:
        """Requests come at a pace that is not the program's own: its threads wait for them in the operating system."""
        return self.waits is not None and 2 * self.waits >= self.gaps.total > 0

    @property
    def each_ns(self) -> int:
        """The gap before one request, on average."""
        return round(self.gaps.total / max(self.count, 1))


class Flow:
    """The flow of a run's judged requests; everything is worked out when first asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def at_a_time(self) -> float:
        """Requests under way at a time on a GPU, on average while any is; 1 without any."""
        requests = self._run.requests
        rows = np.flatnonzero(requests.judged)
        start, end, device = requests.start[rows], requests.end[rows], requests.device[rows]
        each = [
            (at_a_time(start[here], end[here]), int(here.sum()))
            for one in np.unique(device)
            for here in (device == one,)
        ]
        return float(np.average([one for one, _ in each], weights=[count for _, count in each])) if each else 1.0

    @property
    def several(self) -> bool:
        """Whether several are under way on a GPU, so that the period is judged and not the latency."""
        return self.at_a_time >= SEVERAL

    @cached_property
    def turns(self) -> dict[Thread, Turns]:
        """The judged requests of each thread, with what leads to them."""
        requests, calls = self._run.requests, self._run.calls
        found = {}
        for thread, rows in requests.of_threads().items():
            start, end = requests.start[rows], np.maximum.accumulate(requests.end[rows])
            before = np.append(start[:1], end[:-1])
            gap = np.maximum(start - before, 0)
            its = calls.of_thread(thread)
            # A thread that is in a call for long, as one that allocates, does not pause.
            free = gap - its.time().coverage(np.minimum(before, start), start)
            usual = np.median(gap[1:]) + np.median(requests.wall[rows]) if rows.size > 1 else 0
            judged = requests.judged[rows]
            # What leads to the first request behind the warm-up is as much the program's as any.
            paused = free > PAUSE * usual if rows.size > 1 else np.ones(rows.size, np.bool_)
            found[thread] = Turns(rows[judged], np.minimum(before, start)[judged], paused[judged])
        return {thread: turns for thread, turns in found.items() if turns.rows.size}

    @cached_property
    def loops(self) -> dict[Thread, Intervals]:
        """For each thread its judged requests with the time that leads to each, pauses left out, until it is done.

        That is where its last range has ended, and its last launch or wait: what it does while the GPU still works for
        that request, as to free its memory, is the end of the run.
        """
        requests, calls = self._run.requests, self._run.calls
        needed = calls[calls.launches | calls.waits | calls.does.among("copy", "set")]
        found = {}
        for thread, turns in self.turns.items():
            line = Intervals.union(
                np.where(turns.paused, requests.start[turns.rows], turns.before), requests.end[turns.rows]
            )
            its = needed.of_thread(thread)
            last = its.end[its.start < line.end[-1]].max(initial=requests.range_end[turns.rows].max())
            found[thread] = line.clip(int(line.start[0]), int(last)) if last > line.start[0] else line
        return found

    def during(self, calls: HostCalls) -> HostCalls:
        """Those of the calls that their thread makes in its loop."""
        keep = np.zeros(len(calls), np.bool_)
        for (pid, tid), line in self.loops.items():
            keep |= (calls.pid == pid) & (calls.tid == tid) & line.contains(calls.start)
        return calls[keep]

    @cached_property
    def late_ns(self) -> Ints:
        """How long after the GPU was done each judged request's thread came back from waiting for it, shape (judged,).

        That is the end of the wait (a synchronization, or a blocking copy) that was under way when the request's last
        work ended, less that; -1 where its thread did not wait then.
        """
        run, requests = self._run, self._run.requests
        last = np.full(len(requests), -1)
        mine = np.flatnonzero(run.judged_work & (run.work.inference >= 0))
        np.maximum.at(last, run.work.inference[mine], run.work.end[mine])
        late = np.full(len(requests), -1)
        for thread, turns in self.turns.items():
            its = run.calls.of_thread(thread)
            its = its[its.waits]
            if not len(its):
                continue
            at = np.searchsorted(its.start, last[turns.rows], side="right") - 1
            behind = its.end[np.maximum(at, 0)] - last[turns.rows]
            inside = its.start[np.maximum(at, 0)] >= requests.start[turns.rows]
            late[turns.rows] = np.where((at >= 0) & inside & (behind >= 0), behind, -1)
        found: Ints = late[requests.judged]
        return found

    @cached_property
    def period_ns(self) -> int:
        """From one completion on a GPU to the next, on average, pauses left out; 0 without requests."""
        requests = self._run.requests
        rate: dict[int, float] = {}
        for thread in self.turns:
            mine = np.flatnonzero((requests.pid == thread[0]) & (requests.tid == thread[1]) & requests.counted)
            done = mine[np.argsort(requests.end[mine], kind="stable")]
            since = np.diff(requests.end[done])
            usual = np.median(since) + np.median(requests.wall[done]) if since.size else 0.0
            chosen = requests.judged[done[1:]] & (since <= PAUSE * usual)
            if chosen.any():
                device = int(requests.device[done[-1]])
                rate[device] = rate.get(device, 0.0) + 1 / max(float(since[chosen].mean()), 1.0)
        if not rate:
            walls = requests.wall[requests.judged]
            return round(float(np.median(walls))) if walls.size else 0
        return round(float(np.mean([1 / each for each in rate.values()])))

    @cached_property
    def between(self) -> Between:
        """What lies between the requests of each thread that makes several."""
        run, requests = self._run, self._run.requests
        inside = Intervals.union(requests.start, requests.end)
        gaps, count, waits = Intervals.union([], []), 0, Intervals.union([], [])
        regular, step = [], []
        for thread, turns in self.turns.items():
            its = run.calls.of_thread(thread)
            busy = its[~its.does.among("other", "record", "query")].time()
            free = turns.gaps(requests.start).subtract(inside).subtract(busy)
            gaps = Intervals.any_of([gaps, free])
            count += int((~turns.paused).sum())
            waits = Intervals.any_of([waits, os_waits(run.trace, thread, OS_WAITS).intersection(free)])
            of_thread = _grid(requests.start[turns.rows][~turns.paused], turns.before[~turns.paused])
            if of_thread is not None:
                regular.append(of_thread[0])
                step.append(of_thread[1])
        overhead = run.trace.table("profiler_overhead", ["start_ns", "end_ns"])
        gaps = gaps.subtract(run.work.busy())
        gaps = gaps.subtract(Intervals.union(ints(overhead["start_ns"]), ints(overhead["end_ns"])))
        known = bool(run.trace.rows("osrt_calls"))
        return Between(
            gaps,
            count,
            waits.intersection(gaps).total if known else None,
            bool(regular) and all(regular),
            round(float(np.median(step))) if step else 0,
        )


def _grid(start: Ints, before: Ints) -> tuple[bool, int] | None:
    """Whether starts lie on a grid, and its step; None of too few.

    On a grid a late start does not make the next one late. What each is off by is held against the gap before it.
    """
    if start.size < 5:
        return None
    number = np.arange(start.size)
    step, first = np.polyfit(number, start - start[0], 1)
    off = start - start[0] - (step * number + first)
    gap = np.maximum(np.median(start - before), 1.0)
    return bool(np.max(np.abs(off)) <= max(REGULAR * gap, 1.0)), round(float(step))
