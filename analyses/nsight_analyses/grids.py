"""Grids: do kernels have enough blocks for the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import EFFORT_SHARE, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.columns import ints
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding
from nsight_tools.measured import Measured
from nsight_tools.timeline.intervals import Intervals, concurrency
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


@analysis("LCH005", needs={"kernels", "gpus"})
def grids_that_leave_the_gpu_empty(trace: Trace) -> Iterator[Finding]:
    """Kernels have fewer blocks than half of the GPU's SMs.

    Measures: kernels of the steady state with grid_x * grid_y * grid_z < `gpus.sm_count` / 2, in the time in which no
    other kernel runs on that GPU. Half, because up to there twice the batch takes no longer: each further block still
    finds an SM that has none. The bound is their time times the SMs' share that has no block: what a batch large enough
    to fill the GPU saves for each input. A finding where that is a fifth of the inference time: nearly every engine has
    such kernels, and neither another batch nor a second context is worth its complexity for less.

    Why it matters: an SM without a block does nothing. Small batches on a large GPU pay for the whole of it and use
    a part.

    Remedy: a larger batch (the engine's optimization profile: `trtexec --optShapes`), or several contexts on streams of
    their own so that small kernels run side by side; on a GPU that is too large, MIG. NVIDIA's TensorRT Best Practices,
    "Batching" and "Cross-Inference Multi-Streaming".

    Blind spots: a batch cannot be larger than what arrives, and it costs latency: advice for throughput, a warning only
    where half of the inference time could be saved. Blocks that do fill an SM say nothing of how well. Graphs that
    were traced whole show no grids.
    """
    measured = Measured.of(trace)
    work = measured.work
    rows = np.flatnonzero(work.kind.among("kernel") & measured.steady(work.start, work.end))
    start, end, device, row = (column[rows] for column in (work.start, work.end, work.device, work.row))
    sms = {gpu["device"]: gpu["sm_count"] for gpu in trace.table("gpus").to_pylist() if gpu["sm_count"]}
    devices = [int(one) for one in np.unique(device) if int(one) in sms]
    if not devices:
        raise CouldNotRun(trace.missing("kernels") or "no kernel of a GPU whose number of SMs is known")
    grid = trace.table("kernels", ["grid_x", "grid_y", "grid_z"])
    blocks = np.prod([ints(grid[name])[row] for name in grid.column_names], axis=0)
    for one in devices:
        here = device == one
        begin, until, count = start[here], end[here], blocks[here]
        alone = until - begin
        if (begin[1:] < np.maximum.accumulate(until)[:-1]).any():
            alone = alone - concurrency(begin, until, 2).coverage(begin, until)
        small = count < sms[one] / 2
        total, time = Intervals.union(begin, until).total, int(alone[small].sum())
        saved = round(float((alone[small] * (1 - count[small] / sms[one])).sum()))
        if saved < EFFORT_SHARE * measured.window_ns:
            continue
        yield Finding(
            "LCH005",
            weigh(saved / measured.window_ns, 0.5, measured),
            Confidence.MEDIUM,
            f"{share(time / total)} of the kernels' time runs with fewer blocks than half of the GPU's {sms[one]} "
            f"SMs: {int(small.sum()):,} of {len(count):,} kernels",
            "the batch is small for this GPU: these kernels have too few blocks to use it",
            "for throughput: enlarge the batch (trtexec --optShapes), or run several contexts on streams of their own; "
            "where latency at this batch is what counts, there is nothing to change",
            saved,
            measured.per_inference(saved),
            "time of these kernels times the share of the SMs that have no block, as if a larger batch filled them",
            (
                Evidence("share of kernel time", time / total, "ratio"),
                Evidence("kernels with few blocks", int(small.sum()), "count"),
                Evidence("median blocks of those", float(np.median(count[small])), "count", detail=f"{sms[one]} SMs"),
                *worst("longest", begin[small], until[small]),
            ),
        )
