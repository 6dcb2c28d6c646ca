"""Auxiliary streams: does the overlap inside of one enqueue pay for the waits between its streams?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import longest, no_inference, with_kernels
from nsight_analyses.streams.within_enqueues import parallel
from nsight_tools.analysis import analysis
from nsight_tools.columns import pairs_in
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_analyses.streams.within_enqueues import Parallel
    from nsight_tools.run import Run
    from nsight_tools.trace import Trace


@analysis("STR006", needs={"kernels", "api_calls"}, topic="auxiliary streams", picture="streams", warns_from=0.05)
def auxiliary_streams(trace: Trace) -> Iterator[Finding]:
    """One enqueue uses several streams: their kernels overlap, and wait for each other.

    Measures: kernels that one enqueue of TensorRT (`enqueues`: its range, or the launch of a CUDA graph; an inference
    of our own capture) puts on two streams or more. What overlaps is the sum of the streams' busy times less their
    union, enqueue by enqueue. What the streams cost is time in which the GPU is idle between these kernels, of two
    kinds. The kernel that ends it was launched before, and what ended last is on another stream: it waited for an
    event, and the time is that beyond a usual gap between dependent kernels (not of more than 50 µs: such a hole has
    other reasons). Or its launch came too late, and the host
    recorded events or made streams wait for them since its last launch: the time is no more than these calls take
    without the profiler, as far as the host would be late without it.

    On one stream the kernels that start beside another one would follow it, each with a usual gap before it. That, with
    all of the overlap, is the most that one stream could cost. The streams do not pay where their waits are longer, by
    2.5 % of the inference time at least. Where the overlap is longer, it pays by no more than the difference. Where
    both are less than 2.5 %, nothing is said. The bound is the waits.

    Why it matters: TensorRT 8.6 and later puts layers that do not depend on each other on auxiliary streams. They help
    where single kernels leave SMs free. Each change of streams costs two calls on the host and some microseconds on the
    GPU, and activations of layers that may run at once cannot share memory.

    Remedy: where they do not pay, build without: `IBuilderConfig::setMaxAuxStreams(0)` (trtexec `--maxAuxStreams=0`).
    Where they may pay, build both and measure both without the profiler. NVIDIA's TensorRT Best Practices,
    "Within-Inference Multi-Streaming".

    Blind spots: kernels that share SMs or memory take longer than each alone, and a trace does not tell by how much: so
    the overlap is the most that they gain. An event wait that another stream's work hides costs nothing here. Waits at
    the end of an enqueue, before a copy, are not counted. A plugin's own streams look the same.
    """
    run = with_kernels(trace)
    if not run.tensorrt:
        raise NotApplicable("no enqueue of TensorRT is in the trace")
    if not run.count:
        raise no_inference(trace)
    enqueues = parallel(run)
    if enqueues is None:
        raise NotApplicable("each enqueue runs its kernels on one stream")
    gained = enqueues.overlap_ns + int(enqueues.beside.sum()) * run.gaps.least
    waits = _left(run, int(enqueues.waits.sum()))
    noise = NOISE_SHARE * run.window_ns
    if max(enqueues.overlap_ns, waits) >= noise:
        yield _finding(run, enqueues, gained, waits)


def _left(run: Run, waits: int) -> int:
    """The waits, and no more than an untraced run leaves the GPU idle."""
    room = Pricing.of(run.trace).room
    return waits if room is None else min(waits, round(room * run.count))


def _finding(run: Run, enqueues: Parallel, gained: int, waits: int) -> Finding:
    noise, net = NOISE_SHARE * run.window_ns, waits - gained
    lost = net >= noise
    return Finding(
        "STR006",
        Severity.WARNING if lost else Severity.INFO,
        Confidence.LOW if abs(net) < noise else Confidence.MEDIUM,
        f"an enqueue uses {enqueues.streams} streams: their kernels overlap for "
        f"{share(enqueues.overlap_ns / run.window_ns)} of the {run.time}; for {share(waits / run.window_ns)} of it the "
        "GPU is idle because the streams wait for each other",
        _why(run, gained, waits, lost=lost),
        "build without auxiliary streams"
        if lost
        else "keep the auxiliary streams, or build without them and measure both without the profiler",
        act="build without auxiliary streams" if lost else "measure without auxiliary streams",
        evidence=tuple(_evidence(enqueues)),
        explains=tuple(_explained(run, enqueues)) if lost else (),
        change=(Change("max_aux_streams", 0),) if lost else (),
        loss=Loss(
            waits,
            net / run.window_ns,
            "time in which the GPU is idle because streams of one enqueue wait for each other",
            of_host=2 * int(enqueues.called.sum()) >= int(enqueues.waits.sum()),
        )
        if lost
        else None,
    )


def _why(run: Run, gained: int, waits: int, *, lost: bool) -> str:
    most, waited = (duration(total / run.count) for total in (gained, waits))
    if not gained:
        return f"one stream saves waits of {waited} an inference, and loses nothing: no two kernels overlap"
    if lost:
        return f"one stream saves waits of {waited} an inference, and takes at most {most} longer without the overlap"
    return (
        f"the overlap is worth at most {most} an inference, and the waits cost {waited}; kernels that share the GPU "
        "take longer than alone, and by how much a trace does not tell"
    )


def _explained(run: Run, enqueues: Parallel) -> Iterator[str]:
    """What else follows: most of the gaps between kernels, and streams that take turns, where there are no others."""
    if 2 * int(enqueues.waits.sum()) >= int(run.gaps.length.sum()):
        yield "gaps"
    computing = run.work[run.work.computes]
    if len(pairs_in(computing.device, computing.stream)) == enqueues.streams:
        yield "stream overlap"


def _evidence(enqueues: Parallel) -> Iterator[Evidence]:
    yield Evidence("kernels of an enqueue overlap", enqueues.overlap_ns, "ns")
    yield Evidence("kernels that start beside another of their enqueue", int(enqueues.beside.sum()), "count")
    yield Evidence("idle while a stream waits for another", int(enqueues.behind.sum()), "ns")
    yield Evidence("idle while the host orders streams", int(enqueues.called.sum()), "ns")
    yield Evidence("streams of an enqueue", enqueues.streams, "count")
    rows = longest(enqueues.waits)
    for row in rows[enqueues.waits[rows] > 0].tolist():
        start, end = int(enqueues.before[row]), int(enqueues.work.start[row])
        yield Evidence("longest wait between streams", end - start, "ns", start, end)
