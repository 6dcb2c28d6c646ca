"""Waits of the host between an inference's launches, and what the GPU idles for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.calibration import DEPENDENCY_NS, Calibrated
from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import Words, joint_key
from nsight_tools.timeline.intervals import Intervals, distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.run import Run


@dataclass(frozen=True)
class Waits:
    """Synchronizations between an inference's launches, shape (n,): what they cost, and when the next work started."""

    start: Ints
    end: Ints
    next: Ints
    cost: Ints
    name: Words


def mostly_within(run: Run, time: Intervals) -> bool:
    """Whether what such waits cost follows in the main from those that lie, in part at least, in this time."""
    found = between_work(run, Calibrated.of(run.trace))
    inside = time.coverage(found.start, np.maximum(found.end, found.start + 1)) > 0
    return 2 * int(found.cost[inside].sum()) > int(found.cost.sum())


def between_work(run: Run, calibrated: Calibrated) -> Waits:
    """The waits of host threads between two launches for one inference, and what the GPU idles for each of them."""
    calls, work = run.calls, run.work
    rows = np.flatnonzero(calls.kind == CallKind.SYNC)
    judged = np.flatnonzero(run.requests.judged)
    begin, until, key = run.requests.start, run.requests.end, run.requests.thread
    thread = joint_key(calls.pid[rows], calls.tid[rows])
    launched = (
        np.flatnonzero(run.judged_work & (work.inference >= 0) & (work.api_call >= 0)).astype(np.int32)
        if rows.size
        else rows
    )
    if launched.size and np.any(work.api_call[launched[1:]] < work.api_call[launched[:-1]]):
        launched = launched[np.argsort(work.api_call[launched], kind="stable")]
    columns: list[tuple[Ints, Ints, Ints]] = []
    for one in distinct(thread).tolist():
        mine = judged[key[judged] == one]
        waits = rows[thread == one]
        at = np.searchsorted(begin[mine], calls.start[waits], side="right") - 1
        waits, at = waits[at >= 0], mine[at[at >= 0]]
        inside = calls.start[waits] < until[at]
        waits, at = waits[inside], at[inside]
        # Calls are in order of time: what an inference launched lies before and after the row of the wait.
        theirs = launched[np.isin(work.inference[launched], at)]
        theirs = theirs[joint_key(work.pid[theirs], work.tid[theirs]) == one]
        after = np.searchsorted(work.api_call[theirs], waits)
        real = (after > 0) & (after < len(theirs))
        waits, at, after = waits[real], at[real], after[real]
        between = (work.inference[theirs[after - 1]] == at) & (work.inference[theirs[after]] == at)
        drained = np.maximum.accumulate(work.end[theirs])[after[between] - 1]
        columns.append((waits[between], theirs[after[between]], drained))
    none = np.zeros(0, np.int64)
    waits, following, drained = (np.concatenate([none, *(column[at] for column in columns)]) for at in range(3))
    start, begun = calls.start[waits], work.start[following]
    # While work that was launched before runs, what idles between its kernels is not the wait's doing.
    dry = np.maximum(start, drained)
    idle = np.maximum(begun - dry, 0)
    for device in np.unique(work.device[following]):
        here = work.device[following] == device
        idle[here] -= run.gpus.busy(int(device)).coverage(dry[here], np.maximum(begun, dry)[here])
    _, tracing, _ = calibrated.cost(
        joint_key(calls.pid[waits], calls.tid[waits]), start, work.call_start[following] + 1
    )
    cost = np.maximum(idle - DEPENDENCY_NS - tracing, 0).astype(np.int64)
    return Waits(start, calls.end[waits], np.maximum(begun, start), cost, calls.name[waits])
