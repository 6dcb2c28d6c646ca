"""Grids: do kernels have enough blocks for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import EFFORT_SHARE, HOST_BOUND, longest, worst
from nsight_tools.analysis import analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import pieces, shared
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.run.work import Work
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace


FEW = 0.5
"""Share of the SMs: up to there twice the batch takes no longer, since each further block finds an SM without one."""


@analysis("LCH005", needs={"kernels", "gpus"}, topic="grids", picture="grids")
def grids_that_leave_the_gpu_empty(trace: Trace) -> Iterator[Finding]:
    """Kernels have fewer blocks than half of the GPU's SMs.

    Measures: kernels of judged inferences (not those that only communicate with other GPUs) with grid_x * grid_y *
    grid_z < `gpus.sm_count` / 2, in the time in which no other kernel runs on that GPU. Half, because up to there twice
    the batch takes no longer: each further block still finds an SM that has none. Their time times the SMs' share that
    has no block is the most that a batch which fills the GPU saves of each input; no inference as it is gets shorter,
    so that no time to recover is claimed. Where GPU metrics tell the SMs that are active during each kernel
    (`layer_limits`), that share takes the place of the blocks' for kernels with fewer blocks than SMs: blocks need not
    run for as long as their kernel. A finding where a fifth of the inference time would be saved: nearly every engine
    has such kernels, and neither another batch nor a second context is worth its complexity for less.

    Why it matters: an SM without a block does nothing. Small batches on a large GPU pay for the whole of it and use
    a part.

    Remedy: a larger batch (the engine's optimization profile: `trtexec --optShapes`), or, where the host has time to
    launch for them, several contexts on streams of their own so that small kernels run side by side; on a GPU that is
    too large, MIG. NVIDIA's TensorRT Best Practices,
    "Batching" and "Cross-Inference Multi-Streaming".

    Blind spots: a batch cannot be larger than what arrives, and it costs latency: advice for throughput, and never a
    warning. Blocks that do fill an SM say nothing of how well. Graphs that were traced whole show no grids.
    """
    run = Run.of(trace)
    work = run.work
    kernels = np.flatnonzero(work.kind.among("kernel")).astype(np.int32)
    kernels = kernels[run.judged_work[kernels]]
    sms = {device: facts.sm_count for device, facts in run.gpus.facts.items() if facts.sm_count}
    grid = [trace.numbers("kernels", f"grid_{axis}", np.int32) for axis in "xyz"]
    judged = False
    for device in run.gpus.devices:
        rows = kernels[work.device[kernels] == device]
        rows = _steady(run, rows)
        if device not in sms or not rows.size:
            continue
        judged = True
        measured = _Active.of(run, device)
        few = _Few.of(work, rows, grid, sms[device], measured)
        if few.saved < EFFORT_SHARE * run.gpus.window(device).total:
            continue
        of_an_input = run.per_inference(few.saved)
        saved = duration(few.saved) if of_an_input is None else f"{duration(of_an_input)} of each input"
        less = "less" if measured else "fewer blocks"
        option = "" if run.tensorrt is False else " (trtexec --optShapes)"
        contexts = ", or run several contexts on streams of their own" if _host_has_time(trace) else ""
        yield Finding(
            "LCH005",
            Severity.INFO,  # no inference gets shorter
            Confidence.HIGH if measured else Confidence.MEDIUM,
            f"{share(few.time / few.total)} of the kernels' time runs with {less} than half of the GPU's "
            f"{sms[device]} SMs{' active' if measured else ''}: {len(few.blocks):,} of {len(rows):,} kernels; a batch "
            f"that fills it would save {saved} at most",
            "the batch is small for this GPU: these kernels have too few blocks to use it",
            f"for throughput, at the cost of latency: enlarge the batch{option}{contexts}; one inference at this batch "
            "gets no shorter by it",
            evidence=(
                Evidence(
                    "saved by a batch that fills the GPU",
                    few.saved,
                    "ns",
                    detail="at most: these kernels' time times the share of the SMs that "
                    + ("are not active, by GPU metrics" if measured else "have no block"),
                ),
                Evidence("share of kernel time", few.time / few.total, "ratio"),
                Evidence("kernels with few blocks", len(few.blocks), "count"),
                Evidence("median blocks of those", float(np.median(few.blocks)), "count", detail=f"{sms[device]} SMs"),
                *worst("longest", work.start[few.longest], work.end[few.longest]),
            ),
        )
    if not judged:
        raise trace.lacking("kernels") or CouldNotRun("no kernel of a GPU whose number of SMs is known")


def _host_has_time(trace: Trace) -> bool:
    """Whether a second context would find the host free to launch for it."""
    return Pricing.of(trace).host.share < HOST_BOUND


def _steady(run: Run, rows: IntArray) -> IntArray:
    """Those of the rows that lie in the steady state."""
    work, inside = run.work, np.empty(rows.size, np.bool_)
    for piece in pieces(rows.size):
        inside[piece] = run.steady(work.start[rows[piece]], work.end[rows[piece]])
    return rows[inside]


@dataclass(frozen=True)
class _Active:
    """The share of the SMs that is active during each kernel, as GPU metrics tell; `row` and `share` of shape (n,)."""

    row: IntArray
    share: npt.NDArray[np.float64]

    @classmethod
    def of(cls, run: Run, device: int) -> _Active | None:
        """None where they do not."""
        if run.trace.missing("gpu_metrics") is not None or not run.trace.rows("gpu_metrics"):
            return None
        from nsight_tools.run.limits import of_positions
        from nsight_tools.run.limits.positions import Positions

        shares = of_positions(run.trace, device, "sms_active")
        if not shares.size:
            return None
        positions = Positions.of_run(run, device)
        return cls(positions.row, shares[positions.of])

    def during(self, row: IntArray) -> npt.NDArray[np.float64]:
        """Of these kernels, shape (m,); nan where it is not told."""
        at = np.minimum(np.searchsorted(self.row, row), self.row.size - 1)
        return np.where(self.row[at] == row, self.share[at], np.nan)


@dataclass(frozen=True)
class _Few:
    """Kernels that leave half of the SMs empty: time that they have the GPU for themselves, and what is saved.

    `blocks` has the shape (kernels,), `longest` are the rows of a few of them; `total` is the time in which any runs.
    """

    time: int
    saved: int
    total: int
    blocks: IntArray
    longest: IntArray

    @classmethod
    def of(cls, work: Work, rows: IntArray, grid: list[IntArray], sms: int, measured: _Active | None) -> _Few:
        both = shared(work.start[rows], work.end[rows])
        time, total, weighted = 0, 0, 0.0
        blocks, examples = [], []
        for piece in pieces(rows.size):
            row = rows[piece]
            start, end = work.start[row], work.end[row]
            alone = end - start - both.coverage(start, end)
            total += int(alone.sum())
            x, y, z = (axis[work.row[row]].astype(np.int64) for axis in grid)
            count = x * y * z
            filled = count / sms
            if measured is not None:
                active = measured.during(row)
                filled = np.where((filled < 1) & ~np.isnan(active), active, filled)
            small = np.flatnonzero(filled < FEW)
            blocks.append(count[small].astype(np.int32))
            examples.append(row[small][longest((end - start)[small])])
            time += int(alone[small].sum())
            weighted += float((alone[small] * filled[small]).sum())
        few = np.concatenate(examples)
        few.sort()  # of those that are as long, the first
        return cls(time, round(time - weighted), total + both.total, np.concatenate(blocks), few)
