"""Copies that hold the host until they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import worst
from nsight_analyses.transfers.copies import rates, remedy, staged, transfers
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


@analysis("PCI003", needs={"memory_ops", "api_calls"}, topic="blocking copies", bucket=COPIES, picture="transfers")
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
    run = Run.of(trace)
    copies = transfers(run)
    blocking = copies[(copies.call.codes >= 0) & ~copies.asynchronous & ~staged(copies)]
    if not len(blocking):
        if len(copies) and not (copies.call.codes >= 0).any():
            raise CouldNotRun("no copy can be joined to the API call that started it")
        return
    idle = run.gpus.uncovered(blocking.device, blocking.call_start, blocking.call_end)
    loss = run.gpus.share(idle, blocking.device)
    if loss < NOISE_SHARE:
        return
    calls = ", ".join(f"{name} ({count})" for name, count in blocking.call.counts().items())
    held = int((blocking.call_end - blocking.call_start).sum())
    yield Finding(
        "PCI003",
        Severity.WARNING,
        Confidence.HIGH,
        f"{len(blocking)} blocking copies hold their threads for {duration(held)}; {share(loss)} of the "
        f"{run.time} passes in them with no kernel running",
        f"the copies are made with calls that return only when they are done: {calls}",
        remedy(
            run,
            blocking,
            "use the asynchronous call on the inference's stream, from page-locked memory, and synchronize once at the "
            "end",
        ),
        act="use asynchronous copies",
        evidence=(
            Evidence("blocking copies", len(blocking), "count", detail=calls),
            Evidence("host time held", held, "ns"),
            *rates(run, blocking),
            *worst("longest call", blocking.call_start, blocking.call_end, blocking.call.at),
        ),
        loss=Loss(idle, loss, "time inside of these calls in which the copy's GPU runs no kernel"),
    )
