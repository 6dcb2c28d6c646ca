"""Small copies between host and GPU that could be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import host_copies, of_tensorrt, worst
from nsight_analyses.transfers.copies import BANDWIDTH_BYTES, DIRECTIONS, large_pinned
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.cuda_names import CallKind
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.work import Copies
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

SHORT_NS = 1_000_000
"""Copies longer than this, or further apart, are not worth combining (RATELprof's rule)."""
RUN = 3
SLOWEST_RATE = 6e9
"""Where a trace has no large copy to tell the rate from: eight lanes of generation 3, to claim no gain too big."""


@analysis("PCI006", needs={"memory_ops", "api_calls"}, topic="small copies", bucket=COPIES, picture="transfers")
def small_copies(trace: Trace) -> Iterator[Finding]:
    """Small copies follow one another that could be one.

    Measures: runs of 3 and more copies of one kind (h2d or d2h), memory, stream, thread and inference that are
    neighbours in their stream (no kernel between them), with no synchronization of their thread between their calls,
    each below 1 MB and 1 ms, no more than 1 ms apart. One copy of all their bytes would take as long as the run's
    longest and the other bytes at the rate of the trace's copies of 1 MB and more (6 GB/s where it has none). The gain
    is the time of the copies, and of the gaps up to the length of the call that fills them, in which the GPU runs no
    kernel, less that one copy. From 2.5 % of the steady state on; from 10 % on it is a warning.

    Why it matters: a copy takes 1 to 2 µs before its first byte and a call of some microseconds on the host, however
    small it is. Ten inputs of a few kilobytes cost ten times that and use a hundredth of the link.

    Remedy: put the inputs (and the outputs) one behind the other into one pinned buffer and one device allocation, and
    copy that; `setTensorAddress` takes pointers into it (256-byte aligned). Where the buffers must stay apart,
    `cudaMemcpyBatchAsync` (CUDA 12.8) at least saves the calls. NVIDIA's CUDA C++ Best Practices Guide, "Data Transfer
    Between Host and Device": batch many small transfers into one.

    Blind spots: data that comes into being one piece after the other may have to be sent so. Tracing makes each call
    some microseconds longer, and with it the gaps.
    """
    run = Run.of(trace)
    rows = _short_neighbours(run)
    work, copies = run.work, run.copies
    if not rows.size:
        return
    position = np.cumsum(work.moves) - 1
    chosen = copies[position[rows.rows]]
    first = np.flatnonzero(rows.first)
    which = np.cumsum(rows.first) - 1
    together = _together(run, chosen, first)
    gain = max(_spent(run, chosen, rows.first) - together, 0)
    loss = run.gpus.share(gain, chosen.device)
    if loss < NOISE_SHARE:
        return
    count, length = len(chosen), np.bincount(which)
    saved = count - len(first)
    fewer = f" ({saved / run.count:.3g} calls fewer an inference)" if run.count else ""
    ends = np.append(first[1:], count) - 1
    yield Finding(
        "PCI006",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"{count} small copies in runs of {round(float(np.median(length)))} (median) could be "
        f"{len(first)}{fewer}: {share(loss)} of the {run.time}",
        f"each is bound by latency: {size(float(np.median(chosen.size)))} in "
        f"{duration(float(np.median(chosen.duration)))} (medians), and a call of its own",
        "lay the tensors one behind the other in one pinned buffer and one device allocation, and copy that in one "
        "call" + of_tensorrt(run, " (setTensorAddress takes pointers into it, 256-byte aligned)"),
        act="join the small copies",
        evidence=(
            Evidence("small copies in runs", count, "count"),
            Evidence("calls saved", saved, "count"),
            Evidence("their time", int(chosen.duration.sum()), "ns"),
            Evidence("one copy for each run would take", together, "ns"),
            *worst(
                "longest run",
                chosen.start[first],
                chosen.end[ends],
                lambda row: f"{length[row]} {chosen.kind.at(int(first[row]))} copies",
            ),
        ),
        loss=Loss(
            gain,
            loss,
            "time of these copies and of the calls between them in which the GPU runs no kernel, less one copy of all "
            "bytes of each run; a part of what pageable or exposed copies are said to cost, where these are among them",
            of_host=True,
        ),
    )


def _spent(run: Run, copies: Copies, begins: Bools) -> int:
    """Nanoseconds of these copies and of the calls between them in which the GPU runs no kernel.

    `begins`: which of the copies begin a run of them, (n,).
    """
    gap = np.where(begins, 0, np.maximum(copies.start - np.roll(copies.end, 1), 0))
    lead = np.minimum(gap, np.maximum(copies.call_end - copies.call_start, 0))
    return run.gpus.uncovered(copies.device, copies.start - lead, copies.end)


def _together(run: Run, copies: Copies, first: IntArray) -> int:
    """Nanoseconds that one copy for each run of them would take; `first` are the rows that begin a run."""
    together = 0
    for kind, _ in DIRECTIONS:
        of_kind = copies.kind.among(kind)[first]
        per_second = large_pinned(run.copies, kind).rate() or SLOWEST_RATE
        longest = np.maximum.reduceat(copies.duration, first)
        rest = np.add.reduceat(copies.size, first) - np.maximum.reduceat(copies.size, first)
        together += int((longest + rest / per_second * 1e9)[of_kind].sum())
    return together


@dataclass(frozen=True)
class _Runs:
    """Rows of `Run.work`, run after run, and which of them begin one."""

    rows: Ints
    first: Bools

    @property
    def size(self) -> int:
        return len(self.rows)


def _short_neighbours(run: Run) -> _Runs:
    """Copies that stand in runs."""
    work, copies = run.work, run.copies
    short = host_copies(run) & (copies.size < BANDWIDTH_BYTES) & (copies.duration <= SHORT_NS)
    short &= run.steady(copies.start, copies.end) & (copies.call_end >= 0)
    rows = np.flatnonzero(work.moves)[short]
    chosen, its = work[rows], copies[short]
    if len(rows) < RUN:
        return _Runs(rows[:0], short[:0])
    calls = run.calls
    order = np.lexsort((chosen.start, chosen.stream, chosen.device, chosen.pid))
    place, waits = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for pid, device, stream in {*zip(chosen.pid.tolist(), chosen.device.tolist(), chosen.stream.tolist(), strict=True)}:
        line = np.flatnonzero((work.stream == stream) & (work.pid == pid) & (work.device == device))
        mine = (chosen.stream == stream) & (chosen.pid == pid) & (chosen.device == device)
        place[mine] = np.searchsorted(line, rows[mine])
    for pid, tid in {*zip(chosen.pid.tolist(), chosen.tid.tolist(), strict=True)}:
        sync = calls.start[(calls.kind == CallKind.SYNC) & (calls.pid == pid) & (calls.tid == tid)]
        mine = (chosen.pid == pid) & (chosen.tid == tid)
        waits[mine] = np.searchsorted(sync, chosen.call_start[mine])
    rows, chosen, its, place, waits = rows[order], chosen[order], its[order], place[order], waits[order]
    same = [
        chosen.pid,
        chosen.tid,
        chosen.device,
        chosen.stream,
        chosen.inference,
        chosen.kind.codes,
        its.pageable,
        waits,
    ]
    linked = np.logical_and.reduce([column[1:] == column[:-1] for column in same])
    linked &= (place[1:] == place[:-1] + 1) & (chosen.start[1:] - chosen.end[:-1] <= SHORT_NS)
    first = np.append(True, ~linked)
    which = np.cumsum(first) - 1
    kept = np.bincount(which)[which] >= RUN
    return _Runs(rows[kept], first[kept])
