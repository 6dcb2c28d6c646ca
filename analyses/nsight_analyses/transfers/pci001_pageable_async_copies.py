"""Asynchronous copies from or to pageable host memory: what they cost, and what pinning gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import worst
from nsight_analyses.transfers.copies import rates, remedy, reported_as_pageable, staged, transfers
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.work import Copies
    from nsight_tools.trace import Trace

PINNED_START_NS = 10_000
"""From the call of a pinned copy to its start: 6 to 14 µs in traces of an H200."""


@analysis(
    "PCI001",
    needs={"memory_ops", "api_calls"},
    topic="pageable copies",
    bucket=COPIES,
    picture="transfers",
    change=Change("pageable", value=False),
)
def pageable_async_copies(trace: Trace) -> Iterator[Finding]:
    """Asynchronous copies use pageable host memory.

    Measures: rows of `memory_ops` with kind h2d and src_memory pageable, or kind d2h and dst_memory pageable, whose
    API call (runtime or driver) has Async in its name or launches a CUDA graph, inside of inferences. Host-to-device
    copies up to 64 KB are left out: the driver stages those without waiting. The loss is the time of these copies in
    which their GPU runs no kernel. From 2.5 % of the steady state on; a warning where 10 % of it comes back.

    Why it matters: a copy engine reads only page-locked memory. From pageable memory the driver copies through a
    buffer of its own: the call blocks the host until that is done (a device-to-host copy until the data has arrived),
    the rate falls to less than half, and nothing overlaps.

    Remedy: allocate the host buffers page-locked, once: `cudaHostAlloc`, `cudaMallocHost`, PyCUDA's
    `pagelocked_empty`, or `tensor.pin_memory()`; have preprocessing write straight into them. NVIDIA's TensorRT Best
    Practices, "H2D/D2H Data Transfers and PCIe Bandwidth".

    What it gains is told by a replay of the inferences with pinned memory, where one holds: copies at the rate that
    the link gives, and calls that return at once. Elsewhere the bound is all of the exposed time, and the driver's own
    copying while the GPU runs nothing (in the call, before a copy to the GPU starts, less the 10 µs that a pinned one
    takes, and after one to the host ends).

    Blind spots: copies that the report does not join to a call are not judged. Memory registered with
    `cudaHostRegister` counts as pinned.
    """
    run = Run.of(trace)
    copies = transfers(run)
    asynchronous = copies[copies.asynchronous]
    pageable = asynchronous[asynchronous.pageable & ~staged(asynchronous)]
    if not len(pageable):
        if len(copies) and not (copies.call.codes >= 0).any():
            raise CouldNotRun("no copy can be joined to the API call that started it")
        return
    exposed = run.gpus.exposed(pageable)
    loss = run.gpus.share(exposed, pageable.device)
    if loss < NOISE_SHARE:
        return
    yield Finding(
        "PCI001",
        Severity.WARNING,
        Confidence.HIGH,
        f"{len(pageable)} of {len(asynchronous)} asynchronous copies use pageable host memory and block the host: "
        f"{share(loss)} of the {run.time} is spent in them with no kernel running",
        "the host buffers are ordinary (pageable) memory, which the copy engines cannot reach: the driver copies "
        "through a page-locked buffer of its own and holds the calling thread meanwhile",
        remedy(
            run,
            pageable,
            "allocate the input and output buffers page-locked, once and before the loop (cudaHostAlloc, PyCUDA "
            "pagelocked_empty, torch pin_memory)",
        ),
        evidence=(
            Evidence("asynchronous copies from or to pageable memory", len(pageable), "count"),
            *rates(run, pageable),
            *_blocked(pageable),
            *worst(
                "longest on the GPU",
                pageable.start,
                pageable.end,
                lambda row: f"{pageable.kind.at(row)} of {size(int(pageable.size[row]))}",
            ),
        ),
        explains=("exposed transfers",) if _hold_others(run, copies, pageable) else (),
        loss=Loss(
            exposed + _copied_by_driver(run, pageable),
            loss,
            "time of these copies in which their GPU runs no kernel, and of the driver's own copying in which it runs "
            "nothing",
        ),
    )


def _copied_by_driver(run: Run, pageable: Copies) -> int:
    """Time in which the driver copies in the calls of these copies while their GPU runs nothing; nanoseconds."""
    up = pageable.kind.among("h2d")
    start = np.where(up, pageable.call_start + PINNED_START_NS, pageable.end)
    end = np.where(up, pageable.start, pageable.call_end)
    chosen = (pageable.call_start >= 0) & (start < end)
    return sum(
        Intervals.union(start[here], end[here])
        .intersection(run.gpus.window(device))
        .subtract(run.gpus.busy(device))
        .total
        for device in np.unique(pageable.device[chosen]).tolist()
        for here in (chosen & (pageable.device == device),)
    )


def _blocked(pageable: Copies) -> Iterator[Evidence]:
    """How long the calls of these copies held the host; those to the host wait for what they copy, too."""
    for kind, besides in (("h2d", ""), ("d2h", ", with the wait for what is copied")):
        copies = pageable[pageable.kind.among(kind)]
        if len(copies):
            blocked = copies.call_end - copies.call_start
            yield Evidence(
                f"host time in their calls, {kind}",
                int(blocked.sum()),
                "ns",
                detail=f"median {duration(float(np.median(blocked)))} a call{besides}",
            )


def _hold_others(run: Run, copies: Copies, pageable: Copies) -> bool:
    """Whether most of the other copies' exposed time lies in inferences that copy from or to pageable memory.

    There the thread that these hold up launches nothing for the others to run beside. Elsewhere they have a cause of
    their own.
    """
    others = copies[~reported_as_pageable(copies)]
    beside = np.isin(others.inference, pageable.inference[pageable.inference >= 0])
    return 2 * run.gpus.exposed(others[beside]) > run.gpus.exposed(others)
