"""Copies between host and GPU in the steady state: which are pageable, staged or large, and what could hide them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import host_copies
from nsight_tools.findings import Evidence
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import rate, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.columns import Bools
    from nsight_tools.run import Run
    from nsight_tools.run.work import Copies

DIRECTIONS = (("h2d", "host-to-device"), ("d2h", "device-to-host"))

STAGED_BYTES = 64 * 1024
"""A host-to-device copy from pageable memory up to this size is staged by the driver and does not wait for the GPU."""
BANDWIDTH_BYTES = 1_000_000
"""Copies from this size on are bound by bandwidth; smaller ones by latency, so their rate says nothing of the link."""


def transfers(run: Run) -> Copies:
    """The program's own copies between host and device in the steady state, not those that an engine launches itself.

    Raises NotApplicable where the whole trace has none.
    """
    copies = run.copies
    return copies[host_copies(run) & run.steady(copies.start, copies.end) & ~run.engine_copies]


def hideable(run: Run, copies: Copies) -> tuple[int, int, int]:
    """Exposed time of these copies, all of their time, and what of the first kernels could hide; nanoseconds."""
    exposed = run.gpus.exposed(copies)
    total = sum(Intervals.union(copies.start[d], copies.end[d]).total for d in by_device(copies))
    free = sum(run.gpus.computing(int(d)).intersection(run.gpus.window(int(d))).total for d in np.unique(copies.device))
    return exposed, total, min(exposed, max(free - (total - exposed), 0))


def remedy(run: Run, copies: Copies, otherwise: str) -> str:
    """What to do about copies: none is needed where the GPU is integrated, else `otherwise`."""
    if len(copies) and all(run.gpus.of(int(device)).integrated for device in np.unique(copies.device)):
        return (
            "the GPU is integrated and shares the host's memory: let it work in the host's own buffers (cudaHostAlloc "
            "with cudaHostAllocMapped), and copy nothing"
        )
    return otherwise


def by_device(copies: Copies) -> list[Bools]:
    """Which copies are each GPU's."""
    return [copies.device == device for device in np.unique(copies.device)]


def reported_as_pageable(copies: Copies) -> Bools:
    """Asynchronous ones from or to pageable memory, but for those that the driver stages: one analysis reports them."""
    reported: Bools = copies.asynchronous & copies.pageable & ~staged(copies)
    return reported


def staged(copies: Copies) -> Bools:
    """Those that the driver stages without waiting for the GPU."""
    staged: Bools = copies.kind.among("h2d") & copies.pageable & (copies.size <= STAGED_BYTES)
    return staged


def large_pinned(copies: Copies, kind: str, device: int | None = None) -> Copies:
    """Pinned copies of a direction that are bound by the link's bandwidth."""
    chosen = copies.kind.among(kind) & (copies.size >= BANDWIDTH_BYTES) & (copies.duration > 0)
    pinned = copies.src.among("pinned") if kind == "h2d" else copies.dst.among("pinned")
    return copies[chosen & pinned & (True if device is None else copies.device == device)]


def size_of(copies: Copies) -> Callable[[int], str]:
    """Says how large a copy is, by its row."""
    return lambda row: size(int(copies.size[row]))


def rates(run: Run, copies: Copies) -> Iterator[Evidence]:
    """The rate that these copies reach by direction, beside that of the trace's pinned copies, where both are large."""
    everything = run.copies
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
