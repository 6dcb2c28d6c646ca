"""Copies that run while the GPU computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import EFFORT_SHARE, with_kernels, worst
from nsight_analyses.transfers.copies import (
    DIRECTIONS,
    hideable,
    rates,
    remedy,
    reported_as_pageable,
    size_of,
    transfers,
)
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


EXPOSED_SHARE = 0.05
PART = 0.1
"""A direction is named from this share of the exposed time on."""


@analysis(
    "PCI002",
    needs={"memory_ops"},
    topic="exposed transfers",
    bucket=COPIES,
    picture="transfers",
    change=Change("overlap_transfers"),
    warns_from=EFFORT_SHARE,
)
def exposed_transfers(trace: Trace) -> Iterator[Finding]:
    """Transfers run while the GPU computes nothing.

    Measures: the union of the copies' [start_ns, end_ns) (kind h2d, d2h) less the union of all kernels' (and whole
    graphs') of the same device, inside of inferences, as a share of the steady state. Asynchronous ones from or to
    pageable memory have an analysis of their own and are left out. From 5 % on. A warning where 20 % of the time from
    one inference to the next come back; what no kernel is left to hide is no gain.

    Why it matters: a GPU has copy engines beside its compute units. While a copy runs alone, the rest of the GPU waits.

    Remedy: keep a second inference in flight on a stream of its own, with its own execution context and page-locked
    buffers, so that its input is copied while the first computes (trtexec overlaps them unless `--exposeDMA`;
    `--infStreams=2`); or move less: smaller types, preprocessing on the GPU, outputs kept there (trtexec
    `--noDataTransfers` shows the gain). NVIDIA's TensorRT Best Practices, "Cross-Inference Multi-Streaming".

    Blind spots: overlap across inferences raises throughput; the latency of one inference alone gains nothing. Where
    the link is used by others, exposed time is longer than the copies need.
    """
    run = with_kernels(trace)
    copies = transfers(run)
    copies = copies[~reported_as_pageable(copies) & copies.kind.among(*dict(DIRECTIONS))]
    loss = run.gpus.share(run.gpus.exposed(copies), copies.device)
    if loss < EXPOSED_SHARE:
        return
    exposed, total, recoverable = hideable(run, copies)
    alone = {direction: run.gpus.exposed(copies[copies.kind.among(kind)]) for kind, direction in DIRECTIONS}
    named = " and ".join(direction for direction, time in alone.items() if time >= PART * exposed)
    yield Finding(
        "PCI002",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"{named} copies run with no kernel beside them for {share(loss)} of the {run.time} "
        f"({share(exposed / max(total, 1))} of the copies' own time)",
        "copying and computing take turns: while these copies run, nothing else computes",
        remedy(
            run,
            copies,
            ("keep a second inference in flight on its own stream and context" if run.count else "copy ahead")
            + ", from page-locked buffers on a stream of their own, so that copies run beside kernels "
            "(throughput); or copy less (latency)",
        ),
        evidence=(
            Evidence("exposed", exposed, "ns"),
            *(Evidence(f"of it {direction}", time, "ns") for direction, time in alone.items() if time),
            Evidence("exposed share of the copies", exposed / max(total, 1), "ratio"),
            *rates(run, copies),
            *worst("longest", copies.start, copies.end, size_of(copies)),
        ),
        loss=Loss(
            recoverable,
            run.gpus.share(recoverable, copies.device),
            "exposed copy time, or the compute time that it could hide behind where that is less; a gain in throughput",
        ),
    )
