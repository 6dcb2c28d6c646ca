"""The time in which launched work of one stream waits for another, by what it waits behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints
from nsight_tools.run.events import UNKNOWN, place
from nsight_tools.timeline.intervals import Intervals, distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run import Run
    from nsight_tools.run.work import Work


@dataclass(frozen=True)
class Line:
    """One stream: its work in order of start, and the time in which any of it runs."""

    stream: int
    rows: Ints
    busy: Intervals


@dataclass(frozen=True)
class Waiting:
    """Time in which a stream's next work is launched and another stream runs; and how much of it has which reason."""

    time: Intervals
    null_stream: int
    copy_engine: int
    events: int
    """Behind an event wait for another inference's work."""
    own_events: int
    """Behind an event wait for work of the same inference, which has to come first."""
    _run: Run
    _work: Work

    @cached_property
    def full_gpu(self) -> int:
        """While a kernel runs whose blocks fill the GPU."""
        while_waited = self._work[self.time.coverage(self._work.start, self._work.end) > 0]
        return self.time.intersection(_filling(self._run, while_waited)).total


def waiting(run: Run, work: Work, lines: list[Line], null: set[int]) -> Waiting:
    """What launched work waits for on these streams of one process and GPU."""
    # While a stream waits it runs nothing: what runs then is another's, whichever of all that is looked at.
    running = Intervals.any_of([line.busy for line in lines])
    copies = [_copies(work, lines, kind) for kind in ("h2d", "d2h")]
    waits: list[Intervals] = []
    same_direction: list[Intervals] = []
    events: list[Intervals] = []
    own_events: list[Intervals] = []
    for position, line in enumerate(lines):
        rows = line.rows[work.call_end[line.rows] >= 0]
        queued = Intervals.union(work.call_end[rows], work.start[rows]).subtract(line.busy)
        waits.append(queued.intersection(running))
        for by_line, busy in copies:
            mine = by_line[position]
            mine = mine[work.call_end[mine] >= 0]
            until = Intervals.union(work.call_end[mine], work.start[mine])
            same_direction.append(until.intersection(waits[-1]).intersection(busy))
        others = [other for other in lines if other is not line]
        for rows_behind, into in zip(_behind_events(run, work, line, others), (events, own_events), strict=True):
            behind = Intervals.union(work.call_end[rows_behind], work.start[rows_behind])
            into.append(behind.intersection(waits[-1]))
    time = Intervals.any_of(waits)
    # Both sides count: the default stream that waits, and those that wait while it runs.
    of_null = [(line.busy, wait) for line, wait in zip(lines, waits, strict=True) if line.stream in null]
    with_null = [*(time.intersection(busy) for busy, _ in of_null), *(wait for _, wait in of_null)]
    return Waiting(
        time,
        Intervals.any_of(with_null).total,
        Intervals.any_of(same_direction).total,
        Intervals.any_of(events).total,
        Intervals.any_of(own_events).total,
        run,
        work,
    )


def _copies(work: Work, lines: list[Line], kind: str) -> tuple[list[Ints], Intervals]:
    """Rows of each stream's copies in one direction, and the time in which any of them runs."""
    chosen = work.kind.among(kind)
    by_line = [line.rows[chosen[line.rows]] for line in lines]
    rows = np.concatenate(by_line)
    return by_line, Intervals.union(work.start[rows], work.end[rows])


def _behind_events(run: Run, work: Work, line: Line, others: list[Line]) -> tuple[Ints, Ints]:
    """Rows of a stream before which it was told to wait for an event: of another inference, of their own.

    The wait was issued between the launch of the stream's previous work and theirs. Where it is not known what it was
    for, it is taken to be what ended last on the other streams before they started.
    """
    rows = line.rows[work.call_start[line.rows] >= 0]
    if not rows.size:
        return rows, rows
    called = work.call_start[rows]
    before = np.concatenate([called[:1], np.maximum.accumulate(called)[:-1]])
    if run.events.told_streams:
        before[0] = np.iinfo(np.int64).min
        stream = place(work.pid[rows], work.device[rows], work.stream[rows])
        told, behind = run.events.of_stream(stream, before, called)
    else:
        told, behind = _waits_directly_before(run, work, rows), np.full(rows.size, UNKNOWN)
    rows, behind = rows[told], behind[told]
    if not rows.size:
        return rows, rows
    theirs = np.concatenate([other.rows for other in others])
    theirs = theirs[np.argsort(work.end[theirs], kind="stable")]
    last = np.searchsorted(work.end[theirs], work.start[rows], side="right") - 1
    inferred = np.where(last >= 0, work.inference[theirs[np.maximum(last, 0)]], -1)
    whose = np.where(behind == UNKNOWN, inferred, run.work.inference[behind])
    own = (whose == work.inference[rows]) & (whose >= 0)
    return rows[~own], rows[own]


def _waits_directly_before(run: Run, work: Work, rows: Ints) -> Bools:
    """Whether the thread called cudaStreamWaitEvent between its previous launch, on any stream, and this one."""
    calls = run.calls
    named = calls.name.where(lambda name: "StreamWaitEvent" in name)
    behind = np.zeros(rows.size, np.bool_)
    if not named.any():
        return behind
    for tid in distinct(work.tid[rows]):
        issued = calls.start[named & (calls.tid == tid) & (calls.pid == work.pid[rows[0]])]
        launches = np.sort(work.call_start[(work.tid == tid) & (work.call_start >= 0)])
        mine = work.tid[rows] == tid
        called = work.call_start[rows[mine]]
        place = np.searchsorted(launches, called)
        previous = np.where(place > 0, launches[place - 1], np.iinfo(np.int64).min)
        behind[mine] = np.searchsorted(issued, called) > np.searchsorted(issued, previous)
    return behind


def _filling(run: Run, work: Work) -> Intervals:
    """Time in which a kernel runs whose blocks fill the GPU; none where the report does not describe the GPU."""
    kernels = work[work.kind.among("kernel")]
    if not len(kernels.row) or not (gpu := run.gpus.of(int(kernels.device[0]))).sm_count:
        return Intervals.union([], [])
    columns = (
        "grid_x",
        "grid_y",
        "grid_z",
        "block_x",
        "block_y",
        "block_z",
        "registers",
        "static_shared_memory_bytes",
        "dynamic_shared_memory_bytes",
    )
    table = run.trace.table("kernels", columns)
    column = {name: ints(table[name])[kernels.row] for name in columns}
    blocks = column["grid_x"] * column["grid_y"] * column["grid_z"]
    warps = -(-(column["block_x"] * column["block_y"] * column["block_z"]) // 32)
    shared = column["static_shared_memory_bytes"] + column["dynamic_shared_memory_bytes"]
    # How many blocks one SM holds: the least of what warps, registers, shared memory and block slots allow.
    limits = [
        (gpu.max_warps_per_sm or 64) // np.maximum(warps, 1),
        np.full(len(blocks), gpu.max_blocks_per_sm or 32),
        (gpu.max_registers_per_sm or 65536) // np.maximum(column["registers"] * warps * 32, 1),
        (gpu.max_shared_memory_per_sm_bytes or 98304) // np.maximum(shared, 1),
    ]
    resident = np.maximum(np.minimum.reduce(limits), 1)
    full = blocks >= resident * gpu.sm_count
    return Intervals.union(kernels.start[full], kernels.end[full])
