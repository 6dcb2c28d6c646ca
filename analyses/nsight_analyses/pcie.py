"""Transfers between host and GPU: pageable memory, exposed copies, copies that block the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.link import newest_link, recorded_link
from nsight_analyses.measure import EFFORT_SHARE, NOISE_SHARE, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding
from nsight_tools.hardware import PINNED_SHARE
from nsight_tools.measured import SEVERAL, Copies, Measured
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, rate, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.columns import Bools
    from nsight_tools.trace import Trace

STAGED_BYTES = 64 * 1024
"""A host-to-device copy from pageable memory up to this size is staged by the driver and does not wait for the GPU."""
BANDWIDTH_BYTES = 1_000_000
"""Copies from this size on are bound by bandwidth; smaller ones by latency, so their rate says nothing of the link."""

PINNED_START_NS = 10_000
"""From the call of a pinned copy to its start: 6 to 14 µs in traces of an H200."""

_OVERLAPPED = (
    "time of these copies in which their GPU runs no kernel, and of the driver's own copying in which it runs nothing: "
    "all of it where, once pinned, they run beside kernels of another inference"
)
_ALONE = (
    f"what pinning alone saves: copies at {share(PINNED_SHARE)} of the link's peak, and none by the driver; at least "
    "the former, of a link a generation older unless NVML recorded it; at most all of their time in which their GPU "
    "runs no kernel, where they then run beside kernels of another inference"
)


@analysis("PCI001", needs={"memory_ops", "api_calls"})
def pageable_async_copies(trace: Trace) -> Iterator[Finding]:
    """Asynchronous copies use pageable host memory.

    Measures: rows of `memory_ops` with kind h2d and src_memory pageable, or kind d2h and dst_memory pageable, whose
    API call (runtime or driver) has Async in its name or launches a CUDA graph, inside of inferences. Host-to-device
    copies up to 64 KB are left out: the driver stages those without waiting. The loss is the time of these copies in
    which their GPU runs no kernel. From 2.5 % of the steady state on; from 10 % on it is a warning.

    Why it matters: a copy engine reads only page-locked memory. From pageable memory the driver copies through a
    buffer of its own: the call blocks the host until that is done (a device-to-host copy until the data has arrived),
    the rate falls to less than half, and nothing overlaps.

    Remedy: allocate the host buffers page-locked, once: `cudaHostAlloc`, `cudaMallocHost`, PyCUDA's
    `pagelocked_empty`, or `tensor.pin_memory()`; have preprocessing write straight into them. NVIDIA's TensorRT Best
    Practices, "H2D/D2H Data Transfers and PCIe Bandwidth".

    What it gains is estimated where the link is known, by NVML or by the GPU's generation: what large copies take less
    at 85 % of its peak, which is what pinned ones reach, and the driver's own copying while the GPU runs nothing (in
    the call, before a copy to the GPU starts, less the 10 µs that a pinned one takes, and after one to the host ends).
    The least is the former, of a link a generation older where it is assumed; the most is all of their exposed time,
    where they then also run beside kernels of another inference. Elsewhere that most is the bound, and where several
    inferences are under way already.

    Blind spots: copies that the report does not join to a call are not judged. Memory registered with
    `cudaHostRegister` counts as pinned.
    """
    measured = Measured.of(trace)
    copies = transfers(measured)
    asynchronous = copies[copies.asynchronous]
    pageable = asynchronous[asynchronous.pageable & ~_staged(asynchronous)]
    if not len(pageable):
        if len(copies) and not (copies.call.codes >= 0).any():
            raise CouldNotRun("no copy can be joined to the API call that started it")
        return
    exposed = measured.exposed(pageable)
    loss = measured.share(exposed, pageable.device)
    if loss < NOISE_SHARE:
        return
    driver = _copied_by_driver(measured, pageable)
    most, alone = exposed + driver, _shortened_by_pinning(measured, pageable, exposed)
    recoverable = most if alone is None else alone[1] + driver
    yield Finding(
        "PCI001",
        weigh(loss, 0.1, measured),
        Confidence.HIGH,
        f"{len(pageable)} of {len(asynchronous)} asynchronous copies use pageable host memory and block the host: "
        f"{share(loss)} of the {measured.time} is spent in them with no kernel running",
        "the host buffers are ordinary (pageable) memory, which the copy engines cannot reach: the driver copies "
        "through a page-locked buffer of its own and holds the calling thread meanwhile",
        "allocate the input and output buffers page-locked, once and before the loop (cudaHostAlloc, PyCUDA "
        "pagelocked_empty, torch pin_memory)",
        recoverable,
        measured.per_inference(recoverable),
        _OVERLAPPED if alone is None else _ALONE,
        (
            Evidence("asynchronous copies from or to pageable memory", len(pageable), "count"),
            *_rates(measured, pageable),
            *_blocked(pageable),
            *worst(
                "longest on the GPU",
                pageable.start,
                pageable.end,
                lambda row: f"{pageable.kind.at(row)} of {size(int(pageable.size[row]))}",
            ),
        ),
        explains=("PCI002",) if _hold_others(measured, copies, pageable) else (),
        recoverable_between_ns=None
        if alone is None
        else (round(alone[0] / measured.inferences), round(most / measured.inferences)),
    )


def _copied_by_driver(measured: Measured, pageable: Copies) -> int:
    """Time in which the driver copies in the calls of these copies while their GPU runs nothing; nanoseconds."""
    up = pageable.kind.among("h2d")
    start = np.where(up, pageable.call_start + PINNED_START_NS, pageable.end)
    end = np.where(up, pageable.start, pageable.call_end)
    chosen = (pageable.call_start >= 0) & (start < end)
    return sum(
        Intervals.union(start[here], end[here]).intersection(measured.window).subtract(measured.busy(device)).total
        for device in np.unique(pageable.device[chosen]).tolist()
        for here in (chosen & (pageable.device == device),)
    )


def _shortened_by_pinning(measured: Measured, pageable: Copies, exposed: int) -> tuple[int, int] | None:
    """What these copies would take less at the rate of pinned ones, at least and likely; None where it is not known.

    Nor where several inferences are under way: then pinned copies would run beside the others' kernels at once.
    The likely rate is that of the recorded link, else of the newest that the GPU can have: then it may be half as much.
    """
    if not measured.inferences or measured.at_a_time >= SEVERAL:
        return None
    least = likely = 0.0
    for device in np.unique(pageable.device).tolist():
        link = recorded_link(measured, device)
        peak = None if link else newest_link(measured, device)
        gives = link.gives if link else PINNED_SHARE * peak if peak else None
        if gives is None:
            return None
        its = pageable[(pageable.device == device) & (pageable.size >= BANDWIDTH_BYTES)]
        likely += _shortened(its, gives)
        least += _shortened(its, gives if link else gives / 2)
    return (min(round(least), exposed), min(round(likely), exposed)) if likely else None


def _shortened(copies: Copies, gives: float) -> float:
    """Nanoseconds that copies take less at this rate, bytes per second."""
    return float(np.maximum(copies.end - copies.start - copies.size / gives * 1e9, 0).sum())


def _blocked(pageable: Copies) -> Iterator[Evidence]:
    """How long the calls of these copies held the host; those to the host wait for what they copy, too."""
    for kind, besides in (("h2d", ""), ("d2h", ", with the wait for what is copied")):
        its = pageable[pageable.kind.among(kind)]
        if len(its):
            each = its.call_end - its.call_start
            yield Evidence(
                f"host time in their calls, {kind}",
                int(each.sum()),
                "ns",
                detail=f"median {duration(float(np.median(each)))} a call{besides}",
            )


@analysis("PCI002", needs={"memory_ops"})
def exposed_transfers(trace: Trace) -> Iterator[Finding]:
    """Transfers run while the GPU computes nothing.

    Measures: for each direction (kind h2d, d2h), the union of the copies' [start_ns, end_ns) less the union of all
    kernels' (and whole graphs') of the same device, inside of inferences, as a share of the steady state. Copies
    that PCI001 reports are left out. From 5 % on; from 20 % on it is a warning, where more than one inference could
    be in flight.

    Why it matters: a GPU has copy engines beside its compute units. While a copy runs alone, the rest of the GPU waits.

    Remedy: keep a second inference in flight on a stream of its own, with its own execution context and page-locked
    buffers, so that its input is copied while the first computes (trtexec overlaps them unless `--exposeDMA`;
    `--infStreams=2`); or move less: smaller types, preprocessing on the GPU, outputs kept there (trtexec
    `--noDataTransfers` shows the gain). NVIDIA's TensorRT Best Practices, "Cross-Inference Multi-Streaming".

    Blind spots: overlap across inferences raises throughput; the latency of one inference alone gains nothing. Where
    the link is used by others, exposed time is longer than the copies need.
    """
    measured = Measured.of(trace)
    if not measured.work.computes.any() and (reason := trace.missing("kernels")) is not None:
        raise CouldNotRun(reason)
    copies = transfers(measured)
    copies = copies[~reported_as_pageable(copies)]
    for kind, direction in (("h2d", "host-to-device"), ("d2h", "device-to-host")):
        chosen = copies[copies.kind.among(kind)]
        loss = measured.share(measured.exposed(chosen), chosen.device)
        if loss < 0.05:
            continue
        exposed, total, recoverable = hideable(measured, chosen)
        yield Finding(
            "PCI002",
            weigh(loss, EFFORT_SHARE, measured),
            Confidence.MEDIUM,
            f"{direction} copies run with no kernel beside them for {share(loss)} of the {measured.time} "
            f"({share(exposed / max(total, 1))} of the copies' own time)",
            "copying and computing take turns: while these copies run, nothing else computes",
            ("keep a second inference in flight on its own stream and context" if measured.inferences else "copy ahead")
            + ", from page-locked buffers on a stream of their own, so that copies run beside kernels (throughput); or "
            "copy less (latency)",
            recoverable,
            measured.per_inference(recoverable),
            "exposed copy time, or the compute time that it could hide behind where that is less; a gain in throughput",
            (
                Evidence("exposed", exposed, "ns"),
                Evidence("exposed share of the copies", exposed / max(total, 1), "ratio"),
                *_rates(measured, chosen),
                *worst("longest", chosen.start, chosen.end, size_of(chosen)),
            ),
        )


@analysis("PCI003", needs={"memory_ops", "api_calls"})
def blocking_copies(trace: Trace) -> Iterator[Finding]:
    """Copies are made with calls that block the host until they are done.

    Measures: rows of `memory_ops` between host and device whose API call has no Async in its name (cudaMemcpy,
    cuMemcpyHtoD, cudaMemcpy2D, …) and is no graph launch, inside of inferences; host-to-device copies from pageable
    memory up to 64 KB are left out, for the driver stages those. The loss is the time inside of these calls in which
    the copy's GPU runs no kernel. From 2.5 % of the steady state on; from 10 % on it is a warning.

    Why it matters: the calling thread can launch nothing while it waits, so that the GPU runs dry after the copy; and
    on the legacy default stream such a copy waits for all other work.

    Remedy: `cudaMemcpyAsync` (`cuMemcpyHtoDAsync`, PyCUDA's `memcpy_htod_async`) on the stream of the inference, from
    page-locked memory, and one synchronization at the end. NVIDIA's CUDA C++ Best Practices Guide, "Asynchronous and
    Overlapping Transfers with Computation".

    Blind spots: where the result is needed before anything else can go on, waiting for it is no loss; the bound counts
    it all the same.
    """
    measured = Measured.of(trace)
    copies = transfers(measured)
    blocking = copies[(copies.call.codes >= 0) & ~copies.asynchronous & ~_staged(copies)]
    if not len(blocking):
        if len(copies) and not (copies.call.codes >= 0).any():
            raise CouldNotRun("no copy can be joined to the API call that started it")
        return
    idle = measured.uncovered(blocking.device, blocking.call_start, blocking.call_end)
    loss = measured.share(idle, blocking.device)
    if loss < NOISE_SHARE:
        return
    calls = ", ".join(f"{name} ({count})" for name, count in blocking.call.counts().items())
    held = int((blocking.call_end - blocking.call_start).sum())
    yield Finding(
        "PCI003",
        weigh(loss, 0.1, measured),
        Confidence.HIGH,
        f"{len(blocking)} blocking copies hold their threads for {duration(held)}; {share(loss)} of the "
        f"{measured.time} passes in them with no kernel running",
        f"the copies are made with calls that return only when they are done: {calls}",
        "use the asynchronous call on the inference's stream, from page-locked memory, and synchronize once at the end",
        idle,
        measured.per_inference(idle),
        "time inside of these calls in which the copy's GPU runs no kernel",
        (
            Evidence("blocking copies", len(blocking), "count", detail=calls),
            Evidence("host time held", held, "ns"),
            *_rates(measured, blocking),
            *worst("longest call", blocking.call_start, blocking.call_end, blocking.call.at),
        ),
    )


def transfers(measured: Measured) -> Copies:
    """Copies between host and device in the steady state."""
    copies = measured.copies
    return copies[copies.kind.among("h2d", "d2h") & measured.steady(copies.start, copies.end)]


def _hold_others(measured: Measured, copies: Copies, pageable: Copies) -> bool:
    """Whether most of the other copies' exposed time lies in inferences that copy from or to pageable memory.

    There the thread that these hold up launches nothing for the others to run beside. Elsewhere they have a cause of
    their own.
    """
    others = copies[~reported_as_pageable(copies)]
    beside = np.isin(others.inference, pageable.inference[pageable.inference >= 0])
    return 2 * measured.exposed(others[beside]) > measured.exposed(others)


def hideable(measured: Measured, copies: Copies) -> tuple[int, int, int]:
    """Exposed time of these copies, all of their time, and what of the first kernels could hide; nanoseconds."""
    exposed = measured.exposed(copies)
    total = sum(Intervals.union(copies.start[d], copies.end[d]).total for d in _by_device(copies))
    free = sum(measured.computing(int(d)).intersection(measured.window).total for d in np.unique(copies.device))
    return exposed, total, min(exposed, max(free - (total - exposed), 0))


def reported_as_pageable(copies: Copies) -> Bools:
    """Those that PCI001 reports."""
    reported: Bools = copies.asynchronous & copies.pageable & ~_staged(copies)
    return reported


def size_of(copies: Copies) -> Callable[[int], str]:
    """Says how large a copy is, by its row."""
    return lambda row: size(int(copies.size[row]))


def _by_device(copies: Copies) -> list[Bools]:
    return [copies.device == device for device in np.unique(copies.device)]


def _staged(copies: Copies) -> Bools:
    staged: Bools = copies.kind.among("h2d") & copies.pageable & (copies.size <= STAGED_BYTES)
    return staged


def _rates(measured: Measured, copies: Copies) -> Iterator[Evidence]:
    """The rate that these copies reach by direction, beside that of the trace's pinned copies, where both are large."""
    everything = measured.copies
    for kind in ("h2d", "d2h"):
        large = copies[copies.kind.among(kind) & (copies.size >= BANDWIDTH_BYTES)]
        if (reached := large.rate()) is None:
            continue
        pinned = everything[everything.kind.among(kind) & ~everything.pageable & (everything.size >= BANDWIDTH_BYTES)]
        best = pinned.rate() if large.pageable.all() else None
        yield Evidence(
            f"{kind} rate of copies from 1 MB on",
            reached,
            "B/s",
            detail=f"pinned copies in this trace reach {rate(best)}" if best else "",
        )
