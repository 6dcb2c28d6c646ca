"""Why streams take turns: what explains most of the waiting, what to do, and the most that it gains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsight_analyses.measure import HOST_BOUND, of_tensorrt
from nsight_analyses.streams.host_order import host_waits, launch_turns
from nsight_analyses.streams.synchronizations import mostly_within
from nsight_tools.findings import Confidence, Evidence
from nsight_tools.timeline.intervals import Intervals, distinct
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from nsight_analyses.streams.host_order import Turns
    from nsight_analyses.streams.waits import Line, Waiting
    from nsight_tools.run import Run
    from nsight_tools.run.work import Work
    from nsight_tools.worth.host import HostCosts

WAITING_SHARE = 0.05
"""Less waiting than this share of the busy time leaves nothing to gain from other streams."""
MOST = 0.5
"""A cause explains the waiting that it stands behind for at least this share of."""


@dataclass(frozen=True)
class Cause:
    """Why streams take turns, what to do, and the most that it gains."""

    text: str
    remedy: str
    gain: int
    confidence: Confidence
    bound: str = (
        "time in which launched work of one stream waits while another runs, less what the cause leaves no room for, "
        "and no more than the busiest launching thread leaves free without the profiler"
    )
    evidence: tuple[Evidence, ...] = ()
    explains: tuple[str, ...] = ()


def cause(run: Run, work: Work, lines: list[Line], found: Waiting, null: set[int]) -> Cause:
    """What explains at least half of the waiting; or why there is none."""
    cost, union = found.time.total, work.busy().total
    # No more can be gained than what the busiest launching thread leaves: it would be the limit then.
    host = Pricing.of(run.trace).host
    free = host.free
    gain = min(cost, free)
    waits = cost >= WAITING_SHARE * union and gain >= WAITING_SHARE * run.window.total
    if waits and (told := _of_the_gpu(found, null, gain)) is not None:
        if not (told.gain and free < cost):
            return told
        busy = share(host.share)
        limit = (
            f"; the busiest launching thread, occupied for {busy} of the time without the profiler, is the next limit"
        )
        return replace(told, text=told.text + limit)
    held = host_waits(run, work)
    # Where launched work waits meanwhile, the host keeps nothing from it.
    kept = held.time.subtract(found.time)
    if kept.total >= max(WAITING_SHARE * union, cost):
        longest = max(line.busy.total for line in lines)
        return _host_waits(run, kept, held.calls, min(kept.total, union - longest, free))
    if not waits:
        turns = launch_turns(run, work)
        return _lock(run, work, turns) if turns is not None else _host_is_the_limit(run, work, cost, host, null)
    if found.own_events >= MOST * cost:
        return Cause(
            "event waits within inferences: work waits for other streams' work of its own inference for "
            f"{duration(found.own_events)} of {duration(cost)}, which has to come first",
            "nothing to change within an inference (copies, kernels and auxiliary streams of one inference depend on "
            "each other); keep a second inference in flight to fill its gaps",
            max(gain - found.own_events, 0),
            Confidence.MEDIUM,
        )
    return Cause(
        "could not be told from this trace: neither the legacy default stream, nor event waits, nor kernels that fill "
        "the GPU, nor copies in one direction, nor synchronizations or slow launches of the host explain most of it",
        "look at the windows below: what stands between the launches before them?",
        gain,
        Confidence.LOW,
    )


def _of_the_gpu(found: Waiting, null: set[int], gain: int) -> Cause | None:
    cost = found.time.total
    if found.full_gpu >= MOST * cost:
        return Cause(
            f"kernels that fill the GPU: for {duration(found.full_gpu)} of {duration(cost)} the running kernel has "
            "at least as many blocks as all SMs hold at once, so that another stream's could not run beside it",
            "nothing: more streams cannot help while single kernels fill the GPU",
            max(gain - found.full_gpu, 0),
            Confidence.MEDIUM,
            explains=("compute-bound",),
        )
    if found.copy_engine >= MOST * cost:
        return Cause(
            f"copies in one direction share a copy engine and the link: for {duration(found.copy_engine)} of "
            f"{duration(cost)} a copy waits for another stream's in the same direction",
            "copy less, or let copies run beside kernels and beside copies in the other direction; more streams do not "
            "help",
            max(gain - found.copy_engine, 0),
            Confidence.MEDIUM,
        )
    if found.events >= MOST * cost:
        return Cause(
            f"event waits: for {duration(found.events)} of {duration(cost)} the waiting work was launched behind a "
            "cudaStreamWaitEvent, and another inference's work ended before it started",
            "remove the cudaStreamWaitEvent between streams of different inferences, or record its event earlier; "
            "where they share a buffer, give each its own",
            gain,
            Confidence.MEDIUM,
        )
    if found.null_stream >= MOST * cost:
        return Cause(
            f"the legacy default stream {', '.join(map(str, sorted(null)))} carries work: it and every blocking stream "
            f"wait for each other ({duration(found.null_stream)} of {duration(cost)} of the waiting)",
            "enqueue on a stream of its own, made with cudaStreamNonBlocking (cudaStreamCreateWithFlags), for each "
            "context",
            gain,
            Confidence.MEDIUM,
            explains=("default stream",),
        )
    return None


def _host_waits(run: Run, time: Intervals, calls: dict[str, int], gain: int) -> Cause:
    named = ", ".join(f"{name} ({count})" for name, count in calls.items())
    wide = any(word in name for name in calls for word in ("Device", "Ctx", "Thread"))
    return Cause(
        f"the host synchronizes between one stream's launches and the next one's{', device-wide' if wide else ''}: "
        f"{named}; for {duration(time.total)} it waits while one stream runs and the other has nothing to run",
        "launch the next stream's inference before waiting for this one's, and wait for a stream or an event "
        "(cudaStreamSynchronize, cudaEventSynchronize), never for the device",
        gain,
        Confidence.MEDIUM,
        "time in these synchronizations in which a stream runs and no launched work waits, and no more than what "
        "perfect overlap of the streams or the busiest launching thread leaves",
        (Evidence("host waits between streams", time.total, "ns", int(time.start[0]), int(time.end[-1]), named),),
        ("synchronizations",) if mostly_within(run, time) else (),
    )


def _lock(run: Run, work: Work, turns: Turns) -> Cause:
    idle = max(run.window.total - work.busy().intersection(run.window).total, 0)
    return Cause(
        f"a lock between the launching threads: {turns.threads} host threads launch, never two at once "
        f"({share(turns.overlap)} of the time), and {share(turns.handovers)} of their launch phases begin within "
        f"20 µs of the end of another's while the thread waits in no CUDA call",
        "let each thread hold its own stream and buffers, without a lock around what it launches"
        + of_tensorrt(run, " (an execution context each: contexts of one engine may enqueue at once)")
        + "; in Python, check that the global interpreter lock is released",
        min(turns.to_gain, idle),
        Confidence.MEDIUM,
        "what the launch phases would be shorter if the threads launched at once, and no more than the time in which "
        "the GPU is idle",
        (
            Evidence("launch phases that take over from another thread's", turns.handovers, "ratio"),
            Evidence(
                "ready threads wait for another's phase",
                turns.held.total,
                "ns",
                int(turns.held.start[0]),
                int(turns.held.end[-1]),
            ),
        ),
    )


def _host_is_the_limit(run: Run, work: Work, cost: int, host: HostCosts, null: set[int]) -> Cause:
    threads = len(distinct(work.tid[work.tid >= 0]))
    who = "one host thread launches" if threads == 1 else f"{threads} host threads launch"
    also = (
        " Some of it runs on the legacy default stream, which would serialize it if the host were faster."
        if null
        else ""
    )
    traced, real = min(run.host_occupied / max(run.window.total, 1), 1), host.share
    busy = f"{who} for all of them, occupied for {share(traced)} of the time, for {share(real)} without the profiler"
    waits = f"launched work waits for another stream for {duration(cost)} of {duration(work.busy().total)}"
    evidence = (Evidence("busiest launching thread, without the profiler", real, "ratio"),)
    if real < HOST_BOUND <= traced:
        return Cause(
            f"the profiler makes the host the limit here: {busy}; {waits}. Whether the streams overlap without it "
            f"cannot be told from this trace.{also}",
            "measure the throughput without the profiler, with one stream and with these; where it is the same, launch "
            "from one thread for each context, or capture a CUDA graph",
            0,
            Confidence.LOW,
            evidence=evidence,
        )
    return Cause(
        f"the host is the limit, not the streams: {busy}; {waits}.{also}",
        "launch from one thread for each context, capture a CUDA graph, or enlarge the batch",
        0,
        Confidence.MEDIUM,
        evidence=evidence,
    )
