"""Unified memory: pages that move between host and GPU while inferences run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import worst
from nsight_analyses.transfers.copies import by_device
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

MOVED_SHARE = 0.025
MOVED_WARNING = 0.1


@analysis(
    "MEM002", needs={"memory_ops"}, topic="page migration", bucket=COPIES, picture="transfers", warns_from=MOVED_WARNING
)
def migrating_pages(trace: Trace) -> Iterator[Finding]:
    """Pages of unified memory migrate while inferences run.

    Measures: rows of `memory_ops` of the kinds managed_h2d, managed_d2h and managed_d2d from the first judged inference
    to the last: their union. A finding from 2.5 % of the inference time on, a warning from 10 % on. The bound is that
    time, in which kernels stand still, or the host does.

    Why it matters: a kernel that touches a page on the host faults and waits until it has come, 4 KB to 2 MB at a time;
    the first kernel of an inference looks slow for it. When the host reads a result, it waits in the same way.

    Remedy: copy (cudaMemcpyAsync from page-locked memory), or prefetch what is known to be needed
    (`cudaMemPrefetchAsync`, `cudaMemAdvise`), in both directions. On integrated GPUs use mapped page-locked memory:
    host and GPU share their DRAM, and nothing has to move. NVIDIA's CUDA Programming Guide, "Unified Memory".

    Blind spots: page faults without a migration (remote access) have no row. Tracing unified memory has to be switched
    on (`--cuda-um-gpu-page-faults`, `--cuda-um-cpu-page-faults` for the faults themselves).
    """
    run = Run.of(trace)
    copies = run.copies[run.copies.kind.where(lambda kind: kind.startswith("managed"))]
    if not len(copies):
        raise NotApplicable("no page of unified memory migrates")
    window = run.window
    if not len(window):
        return
    first, last = int(window.start[0]), int(window.end[-1])
    by_gpu = [Intervals.union(copies.start[here], copies.end[here]).clip(first, last) for here in by_device(copies)]
    cost = sum(moved.total for moved in by_gpu)
    if cost < MOVED_SHARE * run.window_ns:
        return
    inside = (copies.start >= first) & (copies.start < last)
    down = int(copies.size[inside & copies.kind.among("managed_d2h")].sum())
    up = int(copies.size[inside].sum()) - down
    count = max(run.count, 1)
    yield Finding(
        "MEM002",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"pages of unified (managed) memory migrate in each inference: {size(up / count)} to the GPU, "
        f"{size(down / count)} back, for {share(cost / run.window_ns)} of the {run.time}"
        if run.count
        else f"pages of unified (managed) memory migrate for {share(cost / run.window_ns)} of the {run.time}",
        "buffers are managed memory: a page moves when the other side touches it, and whoever touches it waits",
        "use page-locked buffers and copies, or prefetch (cudaMemPrefetchAsync) before the first kernel and before the "
        "host reads the outputs",
        act="use page-locked buffers and copies",
        evidence=(
            Evidence("pages migrate", cost, "ns", detail=f"{duration(cost / count)} an inference" if run.count else ""),
            Evidence("migrations", int(inside.sum()), "count"),
            Evidence("to the GPU", up, "bytes"),
            Evidence("to the host", down, "bytes"),
            *worst("longest", copies.start, copies.end),
        ),
        explains=("between inferences", "gaps", "slow inferences"),
        loss=Loss(
            cost, cost / run.window_ns, "time in which pages migrate: kernels that touch them wait, or the host does"
        ),
    )
