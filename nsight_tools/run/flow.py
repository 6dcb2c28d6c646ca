"""How requests follow one another: how many are under way, how often one is done, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run.calls import OS_WAITS, os_waits
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, at_a_time, distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.calls import HostCalls, Thread
    from nsight_tools.run.gpus import Gpus
    from nsight_tools.run.recorded import Recorded
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

    `paused` where the program paused in between. The first of a thread has nothing before it: its own start stands, and
    it counts as paused.
    """

    rows: IntArray
    before: Ints
    paused: Bools

    def __getitem__(self, chosen: Bools) -> Turns:
        return Turns(self.rows[chosen], self.before[chosen], self.paused[chosen])

    def gaps(self, start: Ints) -> Intervals:
        """Time between requests, pauses left out."""
        here = ~self.paused
        return Intervals.union(self.before[here], start[self.rows][here])


@dataclass(frozen=True)
class Between:
    """Time between a thread's requests in which their GPU does not work and the thread is in no call that it needs.

    `total_ns` is summed over the GPUs, and so is `whole_ns`, with the requests themselves; `count` is how many requests
    it leads to; `gaps` say when any GPU has such time.
    `waits` is how much of it the threads wait in the operating system, None where its calls were not traced; `regular`
    whether requests start on a grid, and `every_ns` that grid's step.
    """

    gaps: Intervals
    total_ns: int
    whole_ns: int
    count: int
    waits: int | None
    regular: bool
    every_ns: int

    @property
    def waited_for(self) -> bool:
        """Requests come at a pace that is not the program's own: its threads wait for them in the operating system."""
        return self.waits is not None and 2 * self.waits >= self.total_ns > 0

    @property
    def each_ns(self) -> int:
        """The gap before one request, on average."""
        return round(self.total_ns / max(self.count, 1))


class Flow:
    """The flow of a run's judged requests; everything is worked out when first asked for."""

    def __init__(self, run: Recorded, gpus: Gpus) -> None:
        self._run, self._gpus = run, gpus

    @cached_property
    def at_a_time(self) -> float:
        """Requests under way at a time on a GPU, on average while any is; 1 without any."""
        requests = self._run.requests
        rows = np.flatnonzero(requests.judged)
        start, end, device = requests.start[rows], requests.end[rows], requests.device[rows]
        by_gpu = [
            (at_a_time(start[here], end[here]), int(here.sum()))
            for gpu in np.unique(device)
            for here in (device == gpu,)
        ]
        return (
            float(np.average([level for level, _ in by_gpu], weights=[count for _, count in by_gpu])) if by_gpu else 1.0
        )

    @property
    def several(self) -> bool:
        """Whether several are under way on a GPU, so that the period is judged and not the latency."""
        return self.at_a_time >= SEVERAL

    @cached_property
    def turns(self) -> dict[Thread, Turns]:
        """The judged requests of each thread, with what leads to them."""
        requests, calls = self._run.requests, self._run.calls
        turns_of = {}
        for thread, rows in requests.of_threads().items():
            start, end = requests.start[rows], np.maximum.accumulate(requests.end[rows])
            before = np.append(start[:1], end[:-1])
            gap = np.maximum(start - before, 0)
            own_calls = calls.of_thread(thread)
            # A thread that is in a call for long, as one that allocates, does not pause.
            free = gap - own_calls.time().coverage(np.minimum(before, start), start)
            usual = np.median(gap[1:]) + np.median(requests.wall[rows]) if rows.size > 1 else 0
            judged = requests.judged[rows]
            # What leads to the first request behind the warm-up is as much the program's as any.
            paused = np.append(True, free[1:] > PAUSE * usual)
            turns_of[thread] = Turns(rows[judged], np.minimum(before, start)[judged], paused[judged])
        return {thread: turns for thread, turns in turns_of.items() if turns.rows.size}

    @cached_property
    def loops(self) -> dict[Thread, Intervals]:
        """For each thread its judged requests with the time that leads to each, pauses left out, until it is done.

        That is where its last range has ended, and its last launch or wait: what it does while the GPU still works for
        that request, as to free its memory, is the end of the run.
        """
        requests, calls = self._run.requests, self._run.calls
        needed = calls[calls.launches | calls.waits | calls.does.among("copy", "set")]
        line_of = {}
        for thread, turns in self.turns.items():
            line = Intervals.union(
                np.where(turns.paused, requests.start[turns.rows], turns.before), requests.end[turns.rows]
            )
            own_calls = needed.of_thread(thread)
            last = own_calls.end[own_calls.start < line.end[-1]].max(initial=requests.range_end[turns.rows].max())
            line_of[thread] = line.clip(int(line.start[0]), int(last)) if last > line.start[0] else line
        return line_of

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
        rows = np.flatnonzero(run.judged_work & (run.work.inference >= 0))
        np.maximum.at(last, run.work.inference[rows], run.work.end[rows])
        late = np.full(len(requests), -1)
        for thread, turns in self.turns.items():
            own_calls = run.calls.of_thread(thread)
            own_calls = own_calls[own_calls.waits]
            if not len(own_calls):
                continue
            at = np.searchsorted(own_calls.start, last[turns.rows], side="right") - 1
            behind = own_calls.end[np.maximum(at, 0)] - last[turns.rows]
            inside = own_calls.start[np.maximum(at, 0)] >= requests.start[turns.rows]
            late[turns.rows] = np.where((at >= 0) & inside & (behind >= 0), behind, -1)
        late_of_judged: Ints = late[requests.judged]
        return late_of_judged

    @cached_property
    def period_ns(self) -> int:
        """From one completion on a GPU to the next, on average, pauses left out; 0 without requests."""
        requests = self._run.requests
        rate: dict[int, float] = {}
        for taking_turns in self._in_turn():
            done = taking_turns[np.argsort(requests.end[taking_turns], kind="stable")]
            since = np.diff(requests.end[done])
            chosen = requests.judged[done[1:]] & ~pauses(since, requests.wall[done])
            if chosen.any():
                device = int(requests.device[done[-1]])
                rate[device] = rate.get(device, 0.0) + 1 / max(float(since[chosen].mean()), 1.0)
        if not rate:
            walls = requests.wall[requests.judged]
            return round(float(np.median(walls))) if walls.size else 0
        return round(float(np.mean([1 / per_s for per_s in rate.values()])))

    @cached_property
    def periods(self) -> Ints:
        """`completions` of the judged requests: their mean is the time that passes on a GPU for each; ns."""
        return self.completions(self._run.requests.judged)

    def completions(self, chosen: Bools) -> Ints:
        """Time from one completion on a GPU to the next there, of all threads and streams, in order of time; ns.

        To those of the requests `chosen`, shape (requests,); pauses are left out.
        """
        requests = self._run.requests
        periods, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for device in np.unique(requests.device[chosen]).tolist():
            rows = np.flatnonzero(requests.counted & (requests.device == device))
            rows = rows[np.argsort(requests.end[rows], kind="stable")]
            since = np.diff(requests.end[rows])
            kept = chosen[rows[1:]] & ~pauses(since, requests.wall[rows])
            periods.append(since[kept])
            ends.append(requests.end[rows[1:]][kept])
        series: Ints = np.concatenate(periods)[np.argsort(np.concatenate(ends), kind="stable")]
        return series

    @cached_property
    def lanes(self) -> int:
        """Pairs of thread and stream that judged requests' kernels run on; at least 1."""
        work = self._run.work[np.flatnonzero(self._run.judged_work & self._run.work.computes)]
        return max(len(distinct(joint_key(work.tid, work.stream))), 1)

    def _in_turn(self) -> list[IntArray]:
        """Rows of the requests that follow one another: of a thread; where each has one of its own, of a GPU."""
        requests = self._run.requests
        threads = [rows[requests.counted[rows]] for rows in requests.of_threads().values()]
        alone = np.concatenate([np.zeros(0, np.int64), *(rows for rows in threads if rows.size == 1)])
        of_gpu = [alone[requests.device[alone] == gpu] for gpu in np.unique(requests.device[alone])]
        return [*(rows for rows in threads if rows.size > 1), *of_gpu]

    @cached_property
    def between(self) -> Between:
        """What lies between the requests of each thread that makes several, on each GPU by itself."""
        run, requests = self._run, self._run.requests
        parts, whole, count, waited, grids = [], 0, 0, 0, []
        for device in np.unique(requests.device[requests.judged]).tolist():
            here = requests.device == device
            taken = Intervals.any_of(
                [Intervals.union(requests.start[here], requests.end[here]), self._gpus.busy(device), run.profiler]
            )
            gaps, waits = [], []
            for thread, every in self.turns.items():
                own_calls, turns = run.calls.of_thread(thread), every[here[every.rows]]
                busy = own_calls[~own_calls.does.among("other", "record", "query")].time()
                gaps.append(turns.gaps(requests.start).subtract(taken).subtract(busy))
                waits.append(os_waits(run.trace, thread, OS_WAITS).intersection(gaps[-1]))
                count += int((~turns.paused).sum())
                grids.append(_grid(requests.start[turns.rows], turns.before, turns.paused))
            parts.append(Intervals.any_of(gaps))
            judged = here & requests.judged
            window = Intervals.union(requests.start[judged], requests.end[judged])
            whole += Intervals.any_of([parts[-1], window]).total
            waited += Intervals.any_of(waits).total
        known = [grid for grid in grids if grid is not None]
        return Between(
            Intervals.any_of(parts),
            sum(part.total for part in parts),
            whole,
            count,
            waited if run.trace.rows("osrt_calls") else None,
            bool(known) and all(regular for regular, _ in known),
            round(float(np.median([step for _, step in known]))) if known else 0,
        )


def pauses(since: Ints, wall: Ints) -> Bools:
    """Which times from one completion to the next hold a pause between runs; `wall` is of the same requests."""
    pauses: Bools = since > PAUSE * (np.median(since) + np.median(wall)) if since.size else np.zeros(0, np.bool_)
    return pauses


def _grid(start: Ints, before: Ints, paused: Bools) -> tuple[bool, int] | None:
    """Whether starts lie on a grid, pauses taken out, and its step; None of too few.

    On a grid a late start does not make the next one late. What each is off by is held against the gap before it.
    """
    gap = start - before
    if np.sum(~paused) < 5:
        return None
    usual = max(float(np.median(gap[~paused])), 1.0)
    start = start - start[0] - np.cumsum(np.where(paused & (gap > 0), gap - usual, 0.0))
    number = np.arange(start.size)
    step, first = np.polyfit(number, start, 1)
    off = np.abs(start - (step * number + first))
    return bool(off.max() <= max(REGULAR * usual, 1.0)), round(float(step))
