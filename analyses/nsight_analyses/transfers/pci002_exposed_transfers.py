"""Copies that run while the GPU computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import EFFORT_SHARE, weigh, with_kernels, worst
from nsight_analyses.transfers.copies import hideable, rates, remedy, reported_as_pageable, size_of, transfers
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.findings import Change, Confidence, Evidence, Finding
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


@analysis(
    "PCI002",
    needs={"memory_ops"},
    topic="exposed transfers",
    bucket=COPIES,
    picture="transfers",
    change=Change("overlap_transfers"),
)
def exposed_transfers(trace: Trace) -> Iterator[Finding]:
    """Transfers run while the GPU computes nothing.

    Measures: for each direction (kind h2d, d2h), the union of the copies' [start_ns, end_ns) less the union of all
    kernels' (and whole graphs') of the same device, inside of inferences, as a share of the steady state. Asynchronous
    ones from or to pageable memory have an analysis of their own and are left out. From 5 % on. A
    warning where kernels could hide 20 % of the steady state and more; what no kernel is left to hide is no gain.

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
    copies = copies[~reported_as_pageable(copies)]
    for kind, direction in (("h2d", "host-to-device"), ("d2h", "device-to-host")):
        chosen = copies[copies.kind.among(kind)]
        loss = run.gpus.share(run.gpus.exposed(chosen), chosen.device)
        if loss < 0.05:
            continue
        exposed, total, recoverable = hideable(run, chosen)
        yield Finding(
            "PCI002",
            weigh(run.gpus.share(recoverable, chosen.device), EFFORT_SHARE, run),
            Confidence.MEDIUM,
            f"{direction} copies run with no kernel beside them for {share(loss)} of the {run.time} "
            f"({share(exposed / max(total, 1))} of the copies' own time)",
            "copying and computing take turns: while these copies run, nothing else computes",
            remedy(
                run,
                chosen,
                ("keep a second inference in flight on its own stream and context" if run.count else "copy ahead")
                + ", from page-locked buffers on a stream of their own, so that copies run beside kernels "
                "(throughput); or copy less (latency)",
            ),
            recoverable,
            run.per_inference(recoverable),
            "exposed copy time, or the compute time that it could hide behind where that is less; a gain in throughput",
            (
                Evidence("exposed", exposed, "ns"),
                Evidence("exposed share of the copies", exposed / max(total, 1), "ratio"),
                *rates(run, chosen),
                *worst("longest", chosen.start, chosen.end, size_of(chosen)),
            ),
        )
