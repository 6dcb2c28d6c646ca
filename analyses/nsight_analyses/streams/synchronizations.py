"""Waits of the host between launches, and what the GPU idles for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.run.flow import PAUSE
from nsight_tools.run.gaps import DEPENDENCY_NS
from nsight_tools.timeline.attribution import Words, joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.run import Run


@dataclass(frozen=True)
class Waits:
    """Synchronizations between launches, shape (n,): what they cost, and when the next work started."""

    start: Ints
    end: Ints
    next: Ints
    cost: Ints
    name: Words


def mostly_within(run: Run, time: Intervals) -> bool:
    """Whether what such waits cost follows in the main from those that lie, in part at least, in this time."""
    waits = between_work(run)
    inside = time.coverage(waits.start, np.maximum(waits.end, waits.start + 1)) > 0
    return 2 * int(waits.cost[inside].sum()) > int(waits.cost.sum())


def between_work(run: Run) -> Waits:
    """The waits of host threads between two launches for one inference, and what the GPU idles for each of them."""
    calls, work = run.calls, run.work
    rows = np.flatnonzero(calls.kind == CallKind.SYNC)
    judged = np.flatnonzero(run.requests.judged)
    begin, until, threads = run.requests.start, run.requests.end, run.requests.thread
    waiter = joint_key(calls.pid[rows], calls.tid[rows])
    launched = (
        np.flatnonzero(run.judged_work & (work.inference >= 0) & (work.api_call >= 0)).astype(np.int32)
        if rows.size
        else rows
    )
    if launched.size and np.any(work.api_call[launched[1:]] < work.api_call[launched[:-1]]):
        launched = launched[np.argsort(work.api_call[launched], kind="stable")]
    columns: list[tuple[Ints, Ints, Ints]] = []
    for thread in distinct(waiter).tolist():
        mine = judged[threads[judged] == thread]
        waits = rows[waiter == thread]
        at = np.searchsorted(begin[mine], calls.start[waits], side="right") - 1
        waits, at = waits[at >= 0], mine[at[at >= 0]]
        inside = calls.start[waits] < until[at]
        waits, at = waits[inside], at[inside]
        # Calls are in order of time: what an inference launched lies before and after the row of the wait.
        theirs = launched[np.isin(work.inference[launched], at)]
        theirs = theirs[joint_key(work.pid[theirs], work.tid[theirs]) == thread]
        after = np.searchsorted(work.api_call[theirs], waits)
        real = (after > 0) & (after < len(theirs))
        waits, at, after = waits[real], at[real], after[real]
        between = (work.inference[theirs[after - 1]] == at) & (work.inference[theirs[after]] == at)
        drained = np.maximum.accumulate(work.end[theirs])[after[between] - 1]
        columns.append((waits[between], theirs[after[between]], drained))
    none = np.zeros(0, np.int64)
    waits, following, drained = (np.concatenate([none, *(column[at] for column in columns)]) for at in range(3))
    return _waits(run, waits, following, drained)


def behind_steps(run: Run) -> Waits:
    """The waits of host threads for steps that hand the host nothing, where it launches the next step right after.

    A step is what a thread launches from one wait to the next. It hands the host something where it copies to it, and
    so may a copy be what follows. Without the wait the next step is launched by so much earlier as the wait lasts: no
    more than that is what the GPU idles for it. What is longer than ten usual ones is a pause between loops.
    """
    calls, work = run.calls, run.work
    rows = np.flatnonzero(calls.kind == CallKind.SYNC)
    waiter = joint_key(calls.pid[rows], calls.tid[rows])
    launched = np.flatnonzero(work.api_call >= 0)
    launched = launched[np.argsort(work.api_call[launched], kind="stable")]
    launcher = joint_key(work.pid[launched], work.tid[launched])
    none = np.zeros(0, np.int64)
    columns: list[tuple[Ints, Ints, Ints]] = [(none, none, none)]
    for thread in distinct(waiter).tolist():
        waits, theirs = rows[waiter == thread], launched[launcher == thread]
        after = np.searchsorted(work.api_call[theirs], waits)
        begins = np.append(0, after[:-1])
        copied = np.append(0, np.cumsum(work.kind[theirs].among("h2d", "d2h")))
        real = (after > begins) & (after < len(theirs))
        waits, begins, after = waits[real], begins[real], after[real]
        silent = copied[after + 1] == copied[begins]
        waits, after = waits[silent], after[silent]
        drained = np.maximum.accumulate(work.end[theirs])[after - 1] if len(theirs) else none
        columns.append((waits, theirs[after], drained))
    behind = _waits(run, *(np.concatenate([column[at] for column in columns]) for at in range(3)))
    length = behind.next - behind.start
    kept = length <= PAUSE * np.median(length) if len(length) else np.zeros(0, np.bool_)
    cost = np.minimum(behind.cost, behind.end - behind.start)
    return Waits(behind.start[kept], behind.end[kept], behind.next[kept], cost[kept], behind.name[kept])


def _waits(run: Run, waits: Ints, following: Ints, drained: Ints) -> Waits:
    """These waits (rows of calls), each with the work that follows it and the end of all that was launched before."""
    calls, work = run.calls, run.work
    start, begun = calls.start[waits], work.start[following]
    # While work that was launched before runs, what idles between its kernels is not the wait's doing.
    dry = np.maximum(start, drained)
    idle = np.maximum(begun - dry, 0)
    for device in np.unique(work.device[following]):
        here = work.device[following] == device
        idle[here] -= run.gpus.busy(int(device)).coverage(dry[here], np.maximum(begun, dry)[here])
    _, tracing, _ = Pricing.of(run.trace).host.cost(
        joint_key(calls.pid[waits], calls.tid[waits]), start, work.call_start[following] + 1
    )
    cost = np.maximum(idle - DEPENDENCY_NS - tracing, 0).astype(np.int64)
    return Waits(start, calls.end[waits], np.maximum(begun, start), cost, calls.name[waits])
