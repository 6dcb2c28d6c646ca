"""CUDA streams: do they overlap, and if not, what keeps them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.failed_enqueues import failed_on_streams
from nsight_analyses.measure import worst
from nsight_analyses.streams.causes import cause
from nsight_analyses.streams.waits import Line, waiting
from nsight_tools.analysis import analysis
from nsight_tools.columns import ints, words
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

OVERLAP_SHARE = 0.05
"""Two streams overlap where more than this share of their busy time is spent together."""
ACTIVE_SHARE = 0.01
"""A stream counts from this share of the GPU's busy time on: a handful of copies on a side stream is no design."""


@analysis("STR001", needs={"kernels", "api_calls"}, topic="stream overlap", picture="streams")
def streams_that_do_not_overlap(trace: Trace) -> Iterator[Finding]:
    """Several streams carry work, and run one after the other.

    Measures: for each process and GPU, streams with at least 1 % of the busy time of its kernels, copies and sets
    (union of [start_ns, end_ns)); those whose every enqueue failed are left out, and so is a pipeline, in which one
    stream computes (not the legacy default one) and the others copy for it. Overlap is (sum of the streams' busy times
    - union) / union; below 5 % they do not overlap. What that costs is the time in which one stream runs while
    another has work that was launched (its API call has returned), is first in line there, and has not started: below 5
    % of the busy time there is nothing to overlap, because no two streams ever have work at once. The bound is that
    waiting time, and no more than what the busiest launching thread leaves free without the profiler: it is occupied by
    as much less as tracing cost it (estimated as for the gaps between kernels), and the run is as much shorter, down to
    the busy time.

    The cause is told from the trace, by what explains at least half of the waiting: kernels that fill the GPU (as many
    blocks as all SMs hold at once) leave no room, whatever the streams; copies in one direction share an engine; an
    event wait (`synchronizations` of kind stream_wait, else a call of cudaStreamWaitEvent) was issued before the
    waiting work, and what ended last before it was another inference's; the legacy default stream waits for every
    blocking stream, and they for it. Event waits for work of the same inference are dependencies, and no loss.

    Else the cause lies on the host. A thread that synchronizes (the device, a stream or an event) after launching for
    one stream and before launching for another leaves the other without work: from 5 % of the busy time on, in which
    meanwhile a stream runs and no launched work waits, if that is more than launched work waits otherwise. Where work
    hardly waits, or the launching thread leaves less than 5 % of the time free, the host is the limit: a lock, if the
    launch phases (first to last launch of an inference) of several threads share less than 5 % of their time and half
    of them begin within 20 µs of the end of another thread's, while theirs waits in no CUDA call; otherwise the
    threads' own speed, or the profiler that slows them, where they would be occupied for less than 80 % of the time
    without it (trtexec's bar; then it is said to be so). What none of this explains is said to be unknown.

    Why it matters: streams are made so that copies run beside kernels and small kernels beside each other. Streams that
    take turns cost their overhead and give nothing.

    Remedy: enqueue each context on a stream of its own, made with `cudaStreamNonBlocking`, never on the default stream
    (stream 0); or build with `--default-stream per-thread`. Where the host thread is the limit: one thread for each
    context, a CUDA graph, or a larger batch. NVIDIA's TensorRT Best Practices, "Cross-Inference Multi-Streaming".

    Blind spots: an event wait is taken for the cause of the wait behind it, though its event may have come long before.
    A lock is inferred from who launches when, not seen: threads that hand over to one another by design look the same.
    Work of other processes on the GPU is not in the report. Where tracing slows the launches, less work waits for
    another stream than would without the profiler.
    """
    run = Run.of(trace)
    work = run.work
    places = joint_key(work.pid, work.device)
    failed = failed_on_streams(run)
    without = failed.streams.tolist() if failed else []
    several = False
    for place in distinct(places):
        rows = np.flatnonzero(places == place)
        if (work.stream[rows] == work.stream[rows[0]]).all():
            continue
        several = True
        steady = rows[run.steady(work.start[rows], work.end[rows])]
        here = work if steady.size == work.start.size else work[steady]  # its busy time is known already
        lines = _active(here, without)
        if len(lines) < 2 or _pipeline(run, here, lines):
            continue
        union = here.busy().total
        together = sum(line.busy.total for line in lines) - Intervals.any_of([line.busy for line in lines]).total
        if together < OVERLAP_SHARE * union:
            yield _finding(run, here, lines, together / max(union, 1))
    if not several:
        raise NotApplicable("no process runs work on two streams of a GPU")


def _active(work: Work, without: list[int]) -> list[Line]:
    """Streams that count, with their work; not those whose enqueues failed, which has an analysis of its own."""
    total, lines = work.busy().total, []
    for stream in np.flatnonzero(np.bincount(work.stream)).tolist():
        rows = np.flatnonzero(work.stream == stream)
        lines.append(Line(stream, rows, Intervals.union(work.start[rows], work.end[rows])))
    return [line for line in lines if line.busy.total >= ACTIVE_SHARE * total and line.stream not in without]


def _pipeline(run: Run, work: Work, lines: list[Line]) -> bool:
    """Whether one stream computes, and the others copy for it: they wait for each other by design, as trtexec's do.

    Not where it is the legacy default stream, for which the others wait by accident. Streams that only copy have none
    to copy for.
    """
    computing = {line.stream for line in lines if work.computes[line.rows].any()}
    return len(computing) == 1 and not computing & _null_streams(run.trace, int(work.pid[0]))


def _null_streams(trace: Trace, pid: int) -> set[int]:
    table = trace.table("streams", ["pid", "stream", "kind"])
    chosen = (ints(table["pid"]) == pid) & words(table["kind"]).among("legacy_default")
    return set(ints(table["stream"])[chosen].tolist())


def _finding(run: Run, work: Work, lines: list[Line], overlap: float) -> Finding:
    null = _null_streams(run.trace, int(work.pid[0])) & {line.stream for line in lines}
    waits = waiting(run, work, lines, null)
    why = cause(run, work, lines, waits, null)
    union, cost = work.busy().total, waits.time.total
    named = ", ".join(f"{line.stream}{' (legacy default)' if line.stream in null else ''}" for line in lines[:8])
    return Finding(
        "STR001",
        Severity.WARNING,
        why.confidence,
        f"{len(lines)} streams carry work and overlap for {share(overlap)} of their busy time; launched work of one "
        f"waits for another for {share(cost / max(union, 1))} of it",
        why.text,
        why.remedy,
        act="let the streams overlap",
        evidence=(
            Evidence("overlap", overlap, "ratio"),
            Evidence("launched work waits for another stream", cost, "ns"),
            *why.evidence,
            Evidence("streams", len(lines), "count", detail=named),
            *(
                Evidence(
                    f"busy, stream {line.stream}",
                    line.busy.total,
                    "ns",
                    int(line.busy.start[0]),
                    int(line.busy.end[-1]),
                )
                for line in lines[:4]
            ),
            *worst("longest wait", waits.time.start, waits.time.end),
        ),
        explains=why.explains,
        loss=Loss(why.gain, why.gain / max(run.window.total, 1), why.bound),
    )
