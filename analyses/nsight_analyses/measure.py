"""What the analyses share: why there is nothing to judge, and the worst cases as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import Evidence
from nsight_tools.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace

EXAMPLES = 3
"""Worst cases that a finding shows."""
EFFORT_SHARE = 0.2
"""A fifth of the inference time: what makes a pipeline with two streams, or another batch, worth its complexity."""
HOST_BOUND = 0.8
"""trtexec warns where the enqueue takes longer than this share of the GPU's time: the host is the limit then."""


def as_a_graph(run: Run) -> str:
    """How this program captures its inference into a CUDA graph, and what else makes the host launch less."""
    if run.tensorrt is False and run.torch:
        return "capture it into a CUDA graph (torch.cuda.graph, or torch.compile, which also fuses kernels)"
    if run.tensorrt is False:
        return "capture what it launches into a CUDA graph (cudaStreamBeginCapture), or launch fewer, larger kernels"
    return "capture the inference into a CUDA graph (trtexec --useCudaGraph), or enlarge the batch"


def of_tensorrt(run: Run, words: str) -> str:
    """Words that only somebody who runs TensorRT can use; nothing where this program does not."""
    return "" if run.tensorrt is False else words


def nothing_repeats(trace: Trace, otherwise: str, *, hint: str = "") -> CouldNotRun:
    """Why there are no inferences to look into: none is marked, or `otherwise`."""
    return trace.lacking("inferences") or CouldNotRun(otherwise, hint=hint)


def with_kernels(trace: Trace) -> Run:
    """The run of a trace; raises CouldNotRun where its kernels are missing and no whole graph stands for them."""
    run = Run.of(trace)
    if not run.work.computes.any() and (lacking := trace.lacking("kernels")) is not None:
        raise lacking
    return run


def no_inference(trace: Trace) -> CouldNotRun:
    """Why kernels ran and none of them is an inference's."""
    if trace.rows("inferences"):
        return CouldNotRun("no kernel can be joined to the API call that launched it, and so to no inference")
    return nothing_repeats(trace, "no inference is marked", hint="name their NVTX ranges with --inference-range")


def host_copies(run: Run) -> Bools:
    """Which of the copies are between host and GPU.

    Raises NotApplicable where none is, unless graphs that were traced whole may hide some.
    """
    found = run.copies.kind.among("h2d", "d2h")
    if not (found.any() or run.trace.rows("graph_launches")):
        raise NotApplicable("nothing is copied between host and GPU")
    return found


def longest(length: Ints) -> Ints:
    """Rows of the few that are shown, longest first; of those that are as long, the first."""
    rows = np.arange(len(length))
    if len(rows) > EXAMPLES:
        rows = np.flatnonzero(length >= np.partition(length, -EXAMPLES)[-EXAMPLES])
    return rows[np.argsort(-length[rows], kind="stable")][:EXAMPLES]


def worst(metric: str, start: Ints, end: Ints, detail: Callable[[int], str] = lambda _row: "") -> Iterator[Evidence]:
    """The longest of these stretches of time, as evidence with windows to jump to."""
    for row in longest(end - start).tolist():
        yield Evidence(metric, int(end[row] - start[row]), "ns", int(start[row]), int(end[row]), detail(row))
