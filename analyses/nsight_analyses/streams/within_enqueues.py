"""Kernels that one enqueue puts on several streams: how far they overlap, and what they wait for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints
from nsight_tools.errors import CouldNotRun
from nsight_tools.timeline.accelerator import HOLE_NS
from nsight_tools.timeline.attribution import innermost, joint_key, parents
from nsight_tools.timeline.intervals import distinct, only_distinct
from nsight_tools.worth import Pricing
from nsight_tools.worth.known import OTHER_SHARE

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run import Run
    from nsight_tools.run.work import Work
    from nsight_tools.timeline.intervals import IntArray


@dataclass(frozen=True)
class Parallel:
    """Kernels of the enqueues that use several streams, in order of enqueue and start, shape (n,)."""

    work: Work
    streams: int
    """How many the enqueue with the most of them uses."""
    overlap_ns: int
    """Sum of the streams' busy times less their union, enqueue by enqueue."""
    beside: Bools
    """Which kernels start while another one of their enqueue runs."""
    before: Ints
    """When all those before it in its enqueue have ended; a kernel's own start, where it is the first."""
    behind: Ints
    """Time before each in which its stream waits for another one's work, and the GPU is idle; less a usual gap.

    None where it is longer than a hole: then it waits for something else.
    """
    called: Ints
    """Time before each in which the GPU is idle and the host makes calls that order streams, without the profiler."""

    @property
    def waits(self) -> Ints:
        """Both waits together, shape (n,)."""
        return self.behind + self.called


def parallel(run: Run) -> Parallel | None:
    """Those of the judged inferences; None where each enqueue uses one stream of a GPU."""
    work = run.work
    if only_distinct(work.stream).size < 2:
        return None
    rows = np.flatnonzero(run.judged_work & work.computes & (work.inference >= 0)).astype(np.int32)
    rows = rows[_several(work[rows], work.inference[rows])]
    if not rows.size:
        return None
    enqueue = _enqueues(run, rows)
    rows, enqueue = rows[enqueue >= 0], enqueue[enqueue >= 0]
    chosen = _several(work[rows], enqueue)
    if not chosen.any():
        return None
    rows, lane = rows[chosen], _lane(work[rows[chosen]], enqueue[chosen])
    order = np.lexsort((work.start[rows], lane))
    return _measured(run, work[rows[order]], lane[order])


def _lane(work: Work, number: IntArray) -> IntArray:
    """A number for each pair of such a number and a GPU, shape (n,): what runs on several GPUs is several."""
    lane: IntArray = np.unique(joint_key(number, work.device), return_inverse=True)[1].reshape(-1)
    return lane


def _several(work: Work, number: IntArray) -> Bools:
    """Which of this work has several streams of its GPU under its number, shape (n,)."""
    lane = _lane(work, number)
    size = int(lane.max(initial=-1)) + 1
    least, most = np.full(size, np.iinfo(np.int32).max), np.full(size, np.iinfo(np.int32).min)
    np.minimum.at(least, lane, work.stream)
    np.maximum.at(most, lane, work.stream)
    several: Bools = (least < most)[lane]
    return several


def _enqueues(run: Run, rows: IntArray) -> IntArray:
    """The enqueue that launched each of these pieces of work, shape (n,); -1 where none did.

    An inference of our own runner is one enqueue. Raises CouldNotRun where no enqueue is marked.
    """
    work = run.work
    if (run.trace.manifest.get("run") or {}).get("model"):
        return work.inference[rows]
    table = run.trace.table("enqueues", ["start_ns", "end_ns", "pid", "tid"])
    if not table.num_rows:
        raise CouldNotRun(
            "kernels of an inference run on several streams, and no enqueue is marked that launched them",
            hint="trace NVTX",
        )
    start, end, pid, tid = (ints(table[name]) for name in table.column_names)
    thread, called = joint_key(pid, tid), joint_key(work.pid[rows], work.tid[rows])
    return innermost(start, end, thread, parents(start, end, thread), work.call_start[rows], called)


def _measured(run: Run, work: Work, enqueue: IntArray) -> Parallel:
    before = reach(enqueue, work.start, work.end)
    by_stream = np.lexsort((work.start, work.stream, enqueue))
    _, first, stream = np.unique(joint_key(enqueue, work.stream), return_index=True, return_inverse=True)
    own = np.empty_like(before)
    own[by_stream] = reach(stream.reshape(-1)[by_stream], work.start[by_stream], work.end[by_stream])
    idle = np.maximum(work.start - before, 0)
    for device in distinct(work.device):
        here = np.flatnonzero((work.device == device) & (idle > 0))
        idle[here] -= run.gpus.busy(int(device)).coverage(before[here], work.start[here])
    known = work.call_end >= 0
    late = known & (work.call_end > before)
    waits = known & ~late & (own != before) & (idle <= HOLE_NS)
    return Parallel(
        work,
        int(np.bincount(enqueue[first]).max()),
        _covered(work, own) - _covered(work, before),
        work.start < before,
        before,
        np.where(waits, np.maximum(idle - run.gaps.least, 0), 0),
        np.where(late, np.minimum(idle, _ordering(run, work)) * _host_bound(run), 0).astype(np.int64),
    )


def reach(lane: IntArray, start: Ints, end: Ints) -> Ints:
    """When all those before it in its lane have ended, shape (n,); its own start, where it is the first.

    Intervals are in order of lane and start. Each lane is laid out behind the one before it.
    """
    first = np.append(True, lane[1:] != lane[:-1])
    begins = np.flatnonzero(first)
    longest = np.maximum.reduceat(end, begins) - start[begins] + 1
    shift = (np.append(0, np.cumsum(longest)[:-1]) - start[begins])[np.cumsum(first) - 1]
    ends = np.maximum.accumulate(end + shift)
    before: Ints = np.where(first, start, np.append(0, ends[:-1]) - shift)
    return before


def _covered(work: Work, before: Ints) -> int:
    """Time that work covers, lane by lane, where those before each piece in its lane have ended then."""
    return int(np.maximum(work.end - np.maximum(work.start, before), 0).sum())


def _ordering(run: Run, work: Work) -> Ints:
    """Time of the calls that order streams, from a thread's launch before each piece of work to its own; ns.

    What the profiler makes them longer, likely, is left out.
    """
    calls, ordering = run.calls, np.zeros(len(work))
    launcher, caller = joint_key(work.pid, work.tid), joint_key(calls.pid, calls.tid)
    orders, launches = calls.does.among("record", "stream_wait"), calls.launches
    for thread in distinct(launcher):
        mine, here = launcher == thread, caller == thread
        made, launched = calls[here & orders], calls.start[here & launches]
        so_far = np.append(0, np.cumsum(made.end - made.start))
        called = work.call_start[mine]
        at = np.searchsorted(launched, called)
        since = np.where(at > 0, launched[np.maximum(at - 1, 0)], called) if launched.size else called
        ordering[mine] = so_far[np.searchsorted(made.start, called)] - so_far[np.searchsorted(made.start, since)]
    return (ordering * (1 - OTHER_SHARE.point)).astype(np.int64)


def _host_bound(run: Run) -> float:
    """What share of the GPU's waits for launches is left without the profiler."""
    gaps = run.gaps
    waits = int(np.maximum(gaps.length - gaps.least, 0)[gaps.host].sum())
    saved = Pricing.of(run.trace).shorter.point * run.count
    return max(1 - saved / waits, 0.0) if waits else 0.0
