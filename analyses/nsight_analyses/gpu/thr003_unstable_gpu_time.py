"""Can two runs be compared: how much the GPU's own time for one inference varies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats
from nsight_tools.analysis import analysis
from nsight_tools.columns import Bools, Ints, ints, pairs_in, where_both
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.run.holes import other_processes
from nsight_tools.run.samples import SAMPLES, busy_clock, locked
from nsight_tools.timeline.intervals import Intervals, reaches
from nsight_tools.timeline.populations import far_above
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.run.samples import Lock
    from nsight_tools.run.work import Work
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

UNSTABLE = NOISE_SHARE
"""trtexec (TensorRT 10.13.2 and later) warns of unstable GPU compute time from this coefficient of variation on."""
UNSTABLE_BEFORE = 0.01
"""The same from TensorRT 8.4 to 10.13.0."""
SINGLE = 0.05
"""Outliers are single ones up to this share of the inferences; more belong to the variation."""
FEWEST = 10
"""The coefficient of so few inferences is itself uncertain by a quarter: 1 / sqrt(2 n)."""


@analysis("THR003", topic="variation", picture="clocks")
def unstable_gpu_time(trace: Trace) -> Iterator[Finding]:
    """The GPU's time for one inference varies too much to compare runs.

    Measures: the coefficient of variation (standard deviation / mean) of `inferences.compute_ns`, with the time in
    which another process has the GPU (where GPU metrics prove it; it is the cause where without it the variation is
    less than half), over judged inferences in the same mode (equally many streams at work meanwhile, for copies of
    others slow kernels down; the most frequent one is judged, from 10 on). Outliers are left out, up to 5 % of the
    inferences: those whose compute time exceeds the median by 5 scaled median absolute deviations and by 20 %. From
    2.5 % on it is said, as trtexec does since TensorRT 10.13.2 (from 8.4 to 10.13.0 it warned from 1 % on). It is an
    info: no time comes back. Where the clock was sampled, its own variation within kernels stands beside it.

    Why it matters: a gain that is smaller than the variation cannot be seen, and one that was seen may be none. What
    varies is usually the clock.

    Remedy: lock the clocks while measuring (`nvidia-smi -lgc`), keep other processes off the GPU, and compare medians
    over more inferences (`trtexec --iterations`, `--duration`). NVIDIA's TensorRT Best Practices, "GPU Clock Locking
    and Floating Clock".

    Blind spots: kernels whose work depends on the input vary without any instability. trtexec measures from the first
    kernel to the last, gaps and all; here only the time in which kernels run counts, because tracing stretches gaps.
    Where inferences share the GPU with each other, their kernels stretch each other, and it cannot run.
    """
    run = Run.of(trace)
    table = trace.table("inferences", ["compute_ns", "start_ns", "end_ns"])
    alone = _alone(run)
    gaps = other_processes(run).coverage(ints(table["start_ns"]), ints(table["end_ns"]))
    compute = _as_one(run, ints(table["compute_ns"]) + gaps, alone)
    off = far_above(compute[alone])
    if off.mean() > SINGLE:  # so many are no exceptions
        off[:] = False
    plain = alone[~off]
    if len(plain) < FEWEST:
        raise CouldNotRun(f"only {len(plain)} inferences are no outliers; {FEWEST} are needed")
    varies = _variation(compute[plain])
    if varies < UNSTABLE:
        return
    clock = _clock(run)
    cause, remedy = _why(compute[plain], gaps[plain], clock, locked(run, _working(run)))
    slowest, fastest = (int(plain[at]) for at in (np.argmax(compute[plain]), np.argmin(compute[plain])))
    start, end = ints(table["start_ns"]), ints(table["end_ns"])
    yield Finding(
        "THR003",
        Severity.INFO,  # it costs no time
        Confidence.HIGH,
        f"the GPU's time for one inference varies by {share(varies)} (coefficient of variation over {len(plain)} "
        f"inferences): {_bar(run)}",
        cause,
        remedy,
        evidence=(
            Evidence("coefficient of variation of compute time", varies, "ratio"),
            Evidence("median compute time", round(float(np.median(compute[plain]))), "ns"),
            *(
                Evidence(f"{which} inference", int(compute[row]), "ns", int(start[row]), int(end[row]))
                for which, row in (("fastest", fastest), ("slowest", slowest))
            ),
            Evidence("left out as outliers", len(alone) - len(plain), "count"),
            *(
                [
                    Evidence(
                        "coefficient of variation of the clock",
                        _variation(clock),
                        "ratio",
                        detail=f"{len(clock)} samples while kernels run",
                    )
                ]
                if len(clock)
                else []
            ),
        ),
    )


def _alone(run: Run) -> IntArray:
    """Inferences that do the same work, and have the GPU for themselves; raises CouldNotRun where they are too few."""
    judged = np.flatnonzero(run.requests.judged & run.requests.worked)
    if not len(judged):
        if not run.work.computes.any() and (lacking := run.trace.lacking("kernels")) is not None:
            raise lacking
        raise nothing_repeats(run.trace, "no inference that the GPU worked for: nothing repeats that could be compared")
    same = _most_frequent(run, _equal(run, judged))
    if len(same) < FEWEST:
        raise CouldNotRun(f"only {len(same)} inferences do the same work; at least {FEWEST} tell how much they vary")
    alone = same[~_shared(run, len(run.requests))[same]]
    if len(alone) < max(FEWEST, len(same) / 2):
        raise CouldNotRun("inferences run beside each other on the GPU, and stretch each other's kernels by design")
    return alone


def _bar(run: Run) -> str:
    if run.tensorrt is False:
        return "two inferences that differ by less than twice that cannot be told apart"
    return (
        f"trtexec calls more than {share(UNSTABLE)} unstable since TensorRT 10.13.2 ({share(UNSTABLE_BEFORE)} before)"
    )


def _equal(run: Run, judged: IntArray) -> IntArray:
    """Those of the most frequent number of kernels and blocks: more work takes longer on the steadiest GPU."""
    work = run.work
    table = run.trace.table("kernels", ["grid_x", "grid_y", "grid_z"])
    size = ints(table["grid_x"]) * ints(table["grid_y"]) * ints(table["grid_z"])
    blocks = np.zeros(len(run.requests), np.int64)
    for piece in work.pieces():
        mine = np.flatnonzero(piece.kind.among("kernel") & (piece.inference >= 0))
        np.add.at(blocks, piece.inference[mine], size[piece.row[mine]])
    pairs = np.stack([run.requests.kernels[judged], blocks[judged]])
    _, kind, count = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    equal: IntArray = judged[kind.reshape(-1) == np.argmax(count)]
    return equal


def _as_one(run: Run, compute: Ints, judged: IntArray) -> Ints:
    """Compute times as they would be on the GPU that most of these run on: ranks of one run need not be as fast."""
    devices, made = run.requests.device, compute.copy()
    usual = float(np.median(compute[judged]))
    for device in np.unique(devices[judged]):
        mine = devices == device
        made[mine] = np.round(compute[mine] * (usual / max(float(np.median(compute[judged[mine[judged]]])), 1.0)))
    return made


def _why(compute: Ints, gaps: Ints, clock: Floats, lock: Lock | None) -> tuple[str, str]:
    """Cause and remedy: another process, where most of the variation is its time; else what the clock says."""
    compare = "keep other processes off the GPU, and compare medians of longer runs"
    if 2 * _variation(compute - gaps) < _variation(compute):
        part = share(int(gaps.sum()) / int(compute.sum()))
        return f"another process has the GPU for {part} of that time", f"give this process the GPU: {compare}"
    if not len(clock):
        few = f"fewer than {SAMPLES} samples of the clock lie inside of kernels"
        return (
            f"not recorded: {few}; floating clocks, or kernels whose work follows the data",
            f"sample the clock (nsight-tools capture, or --gpu-metrics-devices=all), {compare}",
        )
    said = f"the clock varies by {share(_variation(clock))} while kernels run"
    if _variation(clock) >= UNSTABLE_BEFORE:
        where = f", between {clock.min():.0f} and {clock.max():.0f} MHz"
        return (
            f"{said}{where}; the same kernels at several clocks say how far they follow it",
            f"lock the clocks while measuring (nvidia-smi -lgc), {compare}",
        )
    others = "another process on the GPU, or work that depends on the input"
    return f"{lock}; it is not the reason: {others}" if lock else f"{said}, and is not the reason: {others}", compare


def _variation(value: Ints | Floats) -> float:
    return float(np.std(value) / np.mean(value)) if len(value) and np.mean(value) else 0.0


def _most_frequent(run: Run, judged: IntArray) -> IntArray:
    """Judged inferences beside which equally many streams are at work, as beside most: copies slow kernels down."""
    beside = _streams_at_work(run.work, len(run.requests))[judged]
    most: IntArray = judged[beside == np.argmax(np.bincount(beside))]
    return most


def _streams_at_work(work: Work, count: int) -> Ints:
    """Streams that carry any work between an inference's first kernel and its last, its own ones too."""
    start, end = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    for piece in work.pieces():
        mine = np.flatnonzero(piece.computes & (piece.inference >= 0))
        np.minimum.at(start, piece.inference[mine], piece.start[mine])
        np.maximum.at(end, piece.inference[mine], piece.end[mine])
    start = np.minimum(start, end)
    streams = np.zeros(count, np.int64)
    for pid, stream in pairs_in(work.pid, work.stream):
        rows = where_both(work.pid, pid, work.stream, stream)
        line = work.busy() if isinstance(rows, slice) else Intervals.union(work.start[rows], work.end[rows])
        streams += line.coverage(start, end) > 0
    return streams


def _shared(run: Run, count: int) -> Bools:
    """Inferences whose kernels run while another inference's do."""
    beside = np.zeros(count, np.bool_)
    work = run.work
    for device in run.gpus.devices:
        rows = np.flatnonzero(work.computes & (work.device == device)).astype(np.int32)
        if rows.size < 2:
            continue
        # The work that ends last of all before it: what starts before that has ended runs beside it.
        longest = -1
        for piece, before in reaches(work.end, rows):
            mine = work.inference[rows[piece]]
            furthest = np.where(work.end[rows[piece]] >= before, np.arange(mine.size), -1)
            owner = np.append(longest, mine)[np.append(-1, np.maximum.accumulate(furthest)) + 1]
            meets = (work.start[rows[piece]] < before) & (owner[:-1] != mine)
            longest = owner[-1]
            for whose in (mine[meets], owner[:-1][meets]):
                beside[whose[whose >= 0]] = True
    return beside


def _clock(run: Run) -> Floats:
    """Clock samples while kernels run, of the GPU that works most; none where they are too few."""
    clock = busy_clock(run, _working(run))
    none: Floats = np.zeros(0)
    return none if clock is None else clock.value


def _working(run: Run) -> int:
    """The GPU that works most."""
    return int(np.argmax(np.bincount(np.maximum(run.work.device, 0))))
