"""The link between host and GPU: is it the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import EFFORT_SHARE, no_inference, of_tensorrt, with_kernels, worst
from nsight_analyses.transfers.copies import (
    DIRECTIONS,
    by_device,
    hideable,
    large_pinned,
    reported_as_pageable,
    size_of,
    transfers,
)
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.columns import Ints, ints
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, size
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run import Run
    from nsight_tools.run.work import Copies
    from nsight_tools.trace import Trace


@analysis(
    "PCI004", needs={"memory_ops"}, topic="transfer bound", bucket=COPIES, picture="transfers", warns_from=EFFORT_SHARE
)
def transfer_bound(trace: Trace) -> Iterator[Finding]:
    """The link is the limit: an inference copies for longer than it computes.

    Measures: trtexec's own test, for each direction (kind h2d, d2h): the median over the inferences of the summed
    durations of their copies is at least the median of `inferences.compute_ns`; without inferences, the sum of all at
    least that of all. Asynchronous copies from or to pageable memory count with the time that they would take at the
    rate of the trace's pinned copies of the same direction; where it has none of 1 MB and more, nothing is said here.
    Silent where the busiest launching thread is occupied, outside of these copies' calls and without the profiler, for
    longer than they take: then the host is the limit. The bound is what would stay exposed with perfect overlap: the
    exposed time of all other copies, less what kernels could hide of it. A warning where that is 20 % of the steady
    state and more.

    Why it matters: then no overlap, no second stream and no faster GPU makes more inferences in a second than the link
    lets through; only fewer bytes do.

    Remedy: move less: send uint8 instead of float and convert in the engine, reduce on the GPU (the argmax instead of
    the logits), keep intermediate results on the device; or more lanes, a newer link. trtexec `--noDataTransfers` (the
    default from TensorRT 11 on) shows what would be gained. NVIDIA's TensorRT Best Practices, "H2D/D2H Data Transfers
    and PCIe Bandwidth", and trtexec's warning "throughput may be bound by host-to-device transfers".

    Blind spots: what tracing adds to the host's time is estimated. Where others use the link, copies take longer than
    they need to.
    """
    run = with_kernels(trace)
    copies = transfers(run)
    if not run.work.computes.any():
        return
    if not run.count and len(copies) and trace.rows("inferences"):
        raise no_inference(trace)
    computing, who = _computing(run), "an inference" if run.count else "the program"
    medians, median = (" (medians)", ", median") if run.count else ("", "")
    faster = f"a faster GPU{of_tensorrt(run, ' or engine')} would not raise the throughput"
    for kind, direction in DIRECTIONS:
        chosen = copies[copies.kind.among(kind) & run.judges(copies.inference)]
        if not len(chosen) or (time := _when_pinned(run, chosen, kind)) is None:
            continue
        copying = _each(run, chosen, time)
        if copying < computing or _host_is_busier(run, chosen, time):
            continue
        others = chosen[~reported_as_pageable(chosen)]
        exposed, _, hidden = hideable(run, others)
        part = run.gpus.share(exposed - hidden, chosen.device)
        rest = exposed - hidden if run.count else round(part * run.window.total)  # of several GPUs the mean
        yield Finding(
            "PCI004",
            Severity.WARNING if rest else Severity.INFO,
            Confidence.MEDIUM,
            f"transfer-bound: {who} copies {direction} for {duration(copying)} and computes for "
            f"{duration(computing)}{medians}" + (f"; {faster}" if run.count else ""),
            f"{size(_each(run, chosen, chosen.size))}{' an inference' if run.count else ' in all'}, "
            f"{direction}, take the link longer than the kernels take the GPU",
            "move fewer bytes: smaller types (uint8 input, converted in the engine), outputs reduced on the GPU or "
            "kept there; beside kernels the copies still take their time"
            if run.count
            else "copy less: smaller types, and what is used again once and for all; where this is a start (weights "
            "that are loaded), look at what comes behind it",
            act="copy fewer bytes",
            evidence=(
                Evidence(f"{kind} time of {who}{median}", copying, "ns"),
                Evidence(f"compute time of {who}{median}", computing, "ns"),
                *worst("longest", chosen.start, chosen.end, size_of(chosen)),
            ),
            loss=Loss(
                rest,
                part,
                "exposed time of these copies that no overlap can hide: beside what pinning and overlap recover, by "
                "fewer bytes alone",
            )
            if rest
            else None,
        )


def _computing(run: Run) -> float:
    """How long an inference's kernels run, the median; without inferences, all kernels of all GPUs; ns."""
    if run.count:
        compute = ints(run.trace.table("inferences", ["compute_ns"])["compute_ns"])
        return float(np.median(compute[run.requests.judged & run.requests.worked]))
    return float(
        sum(run.gpus.computing(device).intersection(run.gpus.window(device)).total for device in run.gpus.devices)
    )


def _each(run: Run, copies: Copies, value: Ints) -> float:
    """The sum of a value of copies by inference, the median; without inferences the sum of all."""
    if not run.count:
        return float(value.sum())
    sums = np.bincount(copies.inference, value, len(run.requests))
    return float(np.median(sums[run.requests.judged & run.requests.worked]))


def _when_pinned(run: Run, copies: Copies, kind: str) -> Ints | None:
    """Duration of each copy, were it pinned; None where the trace cannot tell."""
    pageable = reported_as_pageable(copies)
    if not pageable.any():
        return copies.duration
    pinned = large_pinned(run.copies, kind).rate()
    if pinned is None:
        return None
    return np.where(pageable, np.minimum(copies.duration, copies.size / pinned * 1e9), copies.duration).astype(np.int64)


def _host_is_busier(run: Run, copies: Copies, time: Ints) -> bool:
    """Whether the busiest thread is occupied, but for its calls of these copies, for longer than any GPU copies."""
    occupied = Pricing.of(run.trace).host.occupied
    return all(
        occupied - Intervals.union(copies.call_start[here], copies.call_end[here]).intersection(run.window).total
        > int(time[here].sum())
        for here in by_device(copies)
    )
