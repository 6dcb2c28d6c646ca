"""Streams on which every enqueue failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.failed_enqueues import failed_on_streams
from nsight_analyses.measure import host_copies, no_inference, with_kernels
from nsight_tools.analysis import analysis
from nsight_tools.columns import ints
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


@analysis("STR004", needs={"memory_ops", "api_calls"}, topic="failed enqueues", picture="streams")
def streams_without_work(trace: Trace) -> Iterator[Finding]:
    """Inferences copy, and compute nothing: their enqueue failed.

    Measures: `inferences` that copied in both directions and have no kernel and no graph, though others have, on
    streams on which no kernel runs and all inferences that copy are such. Inferences whose kernels run on another
    stream than their copies, as in trtexec, are none.

    Why it matters: the enqueue failed. Its inputs and outputs are copied all the same, no CUDA call returns an error,
    and the result is whatever was in the buffer. Rates counted over all inferences are too high.

    Remedy: check what `enqueueV3` (`execute_async_v3`) returns, and TensorRT's log. For several contexts on an engine
    with dynamic shapes, build as many optimization profiles, and select one for each context
    (`setOptimizationProfileAsync`). NVIDIA's TensorRT Best Practices, "Cross-Inference Multi-Streaming".

    Blind spots: needs ranges around whole inferences: a failed enqueue has no range of TensorRT's own. Failures of
    single inferences on a stream that works otherwise are among what limits the capture.
    """
    run = with_kernels(trace)
    host_copies(run)
    if not run.count:
        if run.work.computes.any():
            raise no_inference(trace)
        return
    failed = failed_on_streams(run)
    if failed is None:
        return
    table = trace.table("inferences", ["range_start_ns", "range_end_ns", "start_ns", "end_ns"])
    start, end = (
        np.where(ints(table[f"range_{side}"]) < 0, ints(table[side]), ints(table[f"range_{side}"]))[failed.inferences]
        for side in ("start_ns", "end_ns")
    )
    count, everything, streams = int(failed.inferences.sum()), len(failed.inferences), failed.streams
    spent = Intervals.union(start, end).total
    yield Finding(
        "STR004",
        Severity.ERROR,
        Confidence.HIGH,
        f"{len(streams)} of {failed.carrying} streams carry copies and no kernel: {count} of {everything} inferences "
        "launched nothing, and rates and latencies over all of them are wrong",
        "their enqueue failed, or was never called: the trace records no CUDA error for that, and their copies still "
        "run",
        "check the return value of enqueueV3 (execute_async_v3) and TensorRT's log; several contexts on an engine with "
        "dynamic shapes need an optimization profile each",
        evidence=(
            Evidence(
                "streams without kernels", len(streams), "count", detail=", ".join(map(str, streams[:8].tolist()))
            ),
            Evidence("inferences without GPU work", count, "count", detail=f"{share(count / everything)} of all"),
            Evidence(
                "host time in them",
                spent,
                "ns",
                detail=f"median {duration(float(np.median(end - start)))} an inference",
            ),
            Evidence("first of them", int(end[0] - start[0]), "ns", int(start[0]), int(end[0])),
        ),
    )
