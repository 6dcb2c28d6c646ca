"""The run without the profiler: its accounting, the gaps between its kernels, and what a CUDA graph recovers of it.

Where the dataset holds an untraced run of the same (`benchmark`, of a capture), that is the truth and the estimate of
`timeline.observer` only says where it was lost; elsewhere the estimate stands alone, with its interval.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.calibration.costs import TracingCosts
from nsight_tools.calibration.untraced import Span
from nsight_tools.columns import Ints, ints
from nsight_tools.cuda_names import CallKind
from nsight_tools.run import Run
from nsight_tools.run.gaps import Gaps, by_device, gaps_of
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import pieces, reaches, windows
from nsight_tools.timeline.observer import Accounted, FloatArray, calibrate, savings

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.columns import Bools
    from nsight_tools.trace import Trace

__all__ = ["DEPENDENCY_NS", "IN_GRAPH_NS", "Calibrated", "Span"]

DEPENDENCY_NS = 1_000
"""Between dependent kernels of a stream, launched one by one: 1.0 to 1.1 µs on an H200."""
IN_GRAPH_NS = 100
"""The same between kernels of a CUDA graph: 96 ns on an H200."""
PAUSE_NS = 50_000
"""From one launch to the next TensorRT takes the host 5 to 15 µs (NVIDIA), an eager framework 15 to 50 µs: who takes
longer did something else."""
PAUSE_TIMES = 10
"""And longer than so many times what the thread usually takes: a slow thread, as Python's, launches slowly."""
ENOUGH = 20
"""Gaps of which a median says something."""
REPLAY_SPREAD = 0.25
"""How far what a CUDA graph really recovers may lie from the idle time between kernels that an untraced run measured:
80, 105 and 107 % of it came back with three engines on an H200."""
DEPENDENCY_SPREAD = 0.2
"""How far a dependency gap without the profiler may lie from the traced one: 0.9 µs in runs whose traces have 1.06."""


class Calibrated(TracingCosts):
    """A trace's host side without the profiler; read when first asked for, once for all analyses."""

    @classmethod
    def of(cls, trace: Trace) -> Calibrated:
        """Of `trace`, the same object for every analysis."""
        return trace.once(_calibrated)

    @cached_property
    def gaps(self) -> Gaps:
        """The gaps of all GPUs; see `Gaps`."""
        work = self._run.work
        parts = [gaps_of(work, self._run.judged_work, rows) for rows in by_device(work)]
        graphs = self._run.calls.kind == CallKind.GRAPH_LAUNCH
        names = ("start", "end", "host", "call", "inference")
        if not parts:
            none = np.zeros(0, np.int64)
            return Gaps(none, none, none, none > 0, none > 0, none > 0, none, none)
        columns = parts[0] if len(parts) == 1 else {n: np.concatenate([part[n] for part in parts]) for n in names}
        key = columns["inference"]
        if len(parts) > 1:
            key = joint_key(np.repeat(np.arange(len(parts)), [len(part["start"]) for part in parts]), key)
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            key, columns = key[order], {name: column[order] for name, column in columns.items()}
        lane = np.cumsum(np.append(False, key[1:] != key[:-1]), dtype=np.int32) if key.size else key
        host, call = columns["host"], columns["call"]
        graph, paused = np.zeros(len(host), np.bool_), np.zeros(len(host), np.bool_)
        if graphs.any():
            graph = graphs[call] & (call >= 0)
        rows = np.flatnonzero(host)
        paused[rows] = self._paused(call[rows], PAUSE_NS, PAUSE_TIMES)
        return Gaps(columns["start"], columns["end"], lane, host, paused, graph, call, columns["inference"])

    @cached_property
    def left(self) -> tuple[FloatArray, ...]:
        """Length of each gap without the profiler, shape (n,), if tracing costs least, likely, most.

        An untraced run says what tracing cost in all: then what is estimated to be left is taken between the estimates
        that come nearest, so that the median inference loses as much.
        """
        if self.untraced is None or not self.gaps.length.size:
            return self._left_estimated
        length = self.gaps.length.astype(np.float64)
        anchors, saved = [length, *self._left_estimated], [0.0]
        for first, left in zip(self._first_costs, self._left_estimated, strict=True):
            lost = first + self._shorter(left)
            saved.append(max(float(np.median(lost)), saved[-1]))
        added = self.untraced.added_elapsed
        return tuple(_between(saved, anchors, each) for each in (added.low, added.point, added.high))

    @cached_property
    def _left_estimated(self) -> tuple[FloatArray, ...]:
        """As `left`, from the trace alone.

        Gaps between work that was launched before stay as they are, those that waited for the host shrink by what
        their launch comes earlier, down to such a dependency gap.
        """
        gaps, calls = self.gaps, self._run.calls
        left = tuple(gaps.length.astype(np.float64) for _ in range(3))
        thread, begin = self.owners
        for part in windows(gaps.lane):
            rows = part.start + np.flatnonzero(gaps.host[part])
            if not rows.size:
                continue
            lane, inference = gaps.lane[rows] - gaps.lane[part.start], gaps.inference[rows]
            length = gaps.end[rows] - gaps.start[rows]
            costs = self.cost(thread[inference], begin[inference], calls.start[gaps.call[rows]] + 1)
            heads = np.append(True, lane[1:] != lane[:-1])
            for one, cost, begun in zip(left, costs, self._first_costs, strict=True):
                first = np.zeros(int(lane[-1]) + 1)
                first[lane[heads]] = np.minimum(cost[heads], begun[inference[heads]])
                earlier = savings(lane, length - self._least, cost, first)
                before = np.where(heads, first[lane], np.append(0.0, earlier[:-1]))
                one[rows] = np.maximum(length - (earlier - before), 0.0)
        return left

    def _by_inference(self, value: Callable[[slice], FloatArray]) -> FloatArray:
        """Sums of the gaps' values, asked for piece by piece, by inference."""
        sums = np.zeros(len(self.owners[0]))
        for piece in pieces(len(self.gaps.lane)):
            np.add.at(sums, self.gaps.inference[piece], value(piece))
        return sums

    @cached_property
    def shorter(self) -> tuple[FloatArray, ...]:
        """How much shorter the gaps of each inference are in all without the profiler; as `left`."""
        return tuple(self._shorter(left) for left in self.left)

    def _shorter(self, left: FloatArray) -> FloatArray:
        return self._by_inference(lambda piece: (self.gaps.end[piece] - self.gaps.start[piece]) - left[piece])

    @cached_property
    def _first_costs(self) -> tuple[FloatArray, ...]:
        """Tracing until the first kernel of each inference was launched; 0 where that waited for the GPU."""
        work = self._run.work
        thread, begin = self.owners
        first: Ints = np.full(len(begin), -1)
        busy_until = first.copy()
        for piece, before in reaches(work.end):
            chosen = (work.inference[piece] >= 0) & work.computes[piece] & (work.api_call[piece] >= 0)
            rows = np.flatnonzero(chosen)[::-1]
            whose = work.inference[piece][rows]
            rows, whose = rows[first[whose] < 0], whose[first[whose] < 0]
            first[whose], busy_until[whose] = piece.start + rows, before[rows]  # the earliest is written last
        there = np.flatnonzero(first >= 0)
        first = first[there]
        waited = work.call_end[first] > busy_until[there]
        costs = tuple(np.zeros(len(begin)) for _ in range(3))
        for all_of, cost in zip(costs, self.cost(thread[there], begin[there], work.call_start[first] + 1), strict=True):
            all_of[there] = np.where(waited, cost, 0.0)
        return costs

    @cached_property
    def _least(self) -> int:
        """How long a gap between dependent kernels is in this trace: no gap gets shorter without the profiler."""
        gaps = self.gaps
        dependent = gaps.length[~gaps.host & ~gaps.graph]
        if dependent.size < ENOUGH:
            return DEPENDENCY_NS
        return min(int(np.median(dependent, overwrite_input=True)), 2 * DEPENDENCY_NS)

    @cached_property
    def accounting(self) -> tuple[Accounted, ...]:
        """The accounting of the inferences without the profiler, if tracing costs least, likely, most.

        Kernels and copies stay; launch and host lose what the wall does, and with an untraced run the wait, too, where
        those two do not hold all of it.
        """
        names = ["wall_ns", "launch_ns", "host_ns", "sync_ns"]
        table = self._run.trace.table("inferences", names)
        buckets = {name: ints(table[name]) for name in names}
        count = table.num_rows
        if self.untraced is not None:
            added = self.untraced.added
            return tuple(
                calibrate(buckets, np.full(count, each), waits=True) for each in (added.low, added.point, added.high)
            )
        firsts = self._first_costs if count else ((np.zeros(0),) * 3)
        return tuple(calibrate(buckets, first + less) for first, less in zip(firsts, self.shorter, strict=True))

    @cached_property
    def stretch(self) -> float:
        """How many times as long tracing made the median inference, at least; 1 where no untraced run says so."""
        judged = self._run.requests.judged
        if self.untraced is None or not judged.any():
            return 1.0
        wall = float(np.median(self._run.requests.wall[judged]))
        return max(wall / max(float(np.median(self.accounting[0].wall[judged])), 1.0), 1.0)

    @cached_property
    def host_occupied(self) -> int:
        """As `Run.host_occupied`, less what tracing is likely to have added to that thread's calls and ranges."""
        window = self._run.window
        most = 0
        for thread, occupied in self._run.occupied.items():
            _, cost, _ = self.cost(np.full(len(window.start), joint_key(*thread)), window.start, window.end)
            most = max(most, occupied - round(float(cost.sum())))
        return most

    def time_left_by_host(self) -> int:
        """Time of the steady state, as it is without the profiler, in which the busiest launching thread is free.

        Nothing on the GPU can win more. The steady state shrinks with the host's time, down to what the GPU works.
        """
        run, occupied = self._run, self.host_occupied
        faster = run.window.total - (run.host_occupied - occupied)
        works = run.work.busy().intersection(run.window).total
        return max(faster, works, occupied) - occupied

    @property
    def host_share(self) -> float:
        """Share of the steady state without the profiler in which the busiest launching thread is occupied."""
        return self.host_occupied / max(self.host_occupied + self.time_left_by_host(), 1)

    @cached_property
    def graph_gain(self) -> Span:
        """What a CUDA graph recovers of an inference's GPU time without the profiler; the median, since outliers stay.

        It takes all of the gaps but 0.1 µs each; nothing of those that are inside of a graph already, or in which the
        thread was not launching. How long the gaps are without the profiler is measured where an untraced run timed
        compute by events, and estimated elsewhere; it is no more than `room`.
        """
        gain, room = self._gain_of_gaps(), self.room
        return gain if room is None else Span(*(min(each, room) for each in (gain.low, gain.point, gain.high)))

    def _gain_of_gaps(self) -> Span:
        gaps = self.gaps
        if not len(gaps.start):
            return Span(0, 0, 0)
        ours, everywhere = ~(gaps.graph | gaps.paused | gaps.hole), np.ones(len(gaps.host), np.bool_)
        if (idle := self.idle_untraced) is not None:
            real = max(idle - self._median(partial(_replayed, self.left[1], ours), everywhere), 0.0)
            return Span(real * (1 - REPLAY_SPREAD), real, min(real * (1 + REPLAY_SPREAD), idle))
        high, point, low = (self._median(partial(_gain, left, ours), everywhere) for left in self.left)
        most = self._median(lambda piece: self.left[0][piece], everywhere)
        return Span(low * (1 - DEPENDENCY_SPREAD), point, min(high * (1 + DEPENDENCY_SPREAD), most))

    @cached_property
    def room(self) -> float | None:
        """How long the GPU can be idle for each inference without the profiler; None where no untraced run tells.

        The time that passes there for one, less what its work takes in the trace, nanoseconds. None is left where the
        work of several streams ran side by side, as it did not in the trace.
        """
        run = self._run
        if self.untraced is None or not run.count:
            return None
        works = run.work.busy().intersection(run.window).total / run.count
        return max(self.untraced.elapsed - works, 0.0)

    @cached_property
    def idle_untraced(self) -> float | None:
        """How long the GPU idles between the kernels of an inference, by an untraced run; None where it does not tell.

        The time between the events around its compute, less what its kernels take: medians, nanoseconds. Of several
        inferences in flight the events time each other's kernels, too.
        """
        if self.untraced is None or self.untraced.compute is None or not self.untraced.alone:
            return None
        table = self._run.trace.table("inferences", ["compute_ns", "exposed_communication_ns"])
        both = ints(table["compute_ns"]) + ints(table["exposed_communication_ns"])
        busy = both[self._run.requests.judged & (self._run.requests.kernels > 0)]
        return max(self.untraced.compute.point - float(np.median(busy)), 0.0) if busy.size else None

    @cached_property
    def starved(self) -> float:
        """How long an inference's kernels wait for their launch alone, at the likely cost of tracing; the median."""
        chosen, left = self.gaps.host & ~self.gaps.paused, self.left[1]
        return self._median(lambda piece: np.maximum(left[piece] - self._least, 0) * chosen[piece], chosen)

    def wait(self, left: FloatArray) -> FloatArray:
        """What of each gap is left for the host, over and above the gap between dependent kernels; of one of `left`."""
        wait = np.maximum(left - self._least, 0)
        wait *= self.gaps.host
        return wait

    def _median(self, value: Callable[[slice], FloatArray], chosen: Bools) -> float:
        """Median of the sums by inference; those without a chosen gap that the GPU worked for count as 0."""
        if not chosen.any():
            return 0.0
        there = np.zeros(len(self.owners[0]), np.bool_)
        there[self.gaps.inference[chosen]] = True
        sums = self._by_inference(value)[there]
        without = max(self._run.count - len(sums), 0)
        return float(np.median(np.append(sums, np.zeros(without))))


def _calibrated(trace: Trace) -> Calibrated:
    return Calibrated(Run.of(trace))


def _replayed(left: FloatArray, ours: Bools, piece: slice) -> FloatArray:
    """What a graph leaves of a piece of the gaps: all of those that are not its to take."""
    return np.where(ours[piece], IN_GRAPH_NS, left[piece])


def _gain(left: FloatArray, ours: Bools, piece: slice) -> FloatArray:
    """What a graph takes of a piece of the gaps, where they are its to take."""
    return np.where(ours[piece], np.maximum(left[piece] - IN_GRAPH_NS, 0.0), 0.0)


def _between(saved: list[float], anchors: list[FloatArray], wanted: float) -> FloatArray:
    """The arrays that save `saved` (ascending), interpolated for a saving of `wanted`; the last one beyond that."""
    for at in range(1, len(saved)):
        if wanted <= saved[at] and saved[at] > saved[at - 1]:
            share = (wanted - saved[at - 1]) / (saved[at] - saved[at - 1])
            return anchors[at - 1] * (1 - share) + anchors[at] * share
    return anchors[-1]
