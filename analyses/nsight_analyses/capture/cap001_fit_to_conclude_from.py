"""Is this capture fit to conclude from?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.failed_enqueues import failed_on_streams
from nsight_tools.analysis import analysis
from nsight_tools.columns import ints, words
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import covered
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

_CONCERNS = re.compile(r"CUDA|CUPTI|NVTX|GPU|\b(dropped|lost)\b", re.IGNORECASE)
_HARMLESS = re.compile(r"Unified Memory cannot be traced")
"""What it reports as errors and what takes nothing from CUDA's and NVTX's trace: CPU sampling, above all."""

ENOUGH_INFERENCES = 10
"""trtexec's least number of iterations; a percentile of fewer is one of its samples."""
OVERHEAD_SHARE = 0.01
OUTSIDE_SHARE = 0.1


@analysis("CAP001", topic="capture")
def fit_to_conclude_from(trace: Trace) -> Iterator[Finding]:
    """The capture limits what can be concluded from it.

    Measures: each of these is a finding of its own. Inferences that launched no GPU work though others did (an enqueue
    that failed: error; where a whole stream tells it, that is a finding of the streams); GPU activity that is missing
    though it was launched (error); GPU work without the API call that launched it (1 % and more); CUDA graphs that were
    traced whole, so that their kernels are hidden; fewer than 10 inferences; kernels before the first inference (10 %
    of the kernel time and more: an engine build or a warm-up); `profiler_overhead` inside of inferences (1 % of their
    time and more); errors that Nsight Systems reported on CUDA or NVTX; a GPU that was not traced, or ran no kernel.

    Why it matters: each of these makes other numbers wrong or blind, and none of them shows in them.

    Remedy: as each finding says; in general profile only inference, after a warm-up
    (`--capture-range=cudaProfilerApi`), 50 inferences or more, with `--trace=cuda,nvtx --cuda-graph-trace=node -s none
    --cpuctxsw=none`. NVIDIA's TensorRT documentation asks for the same where it profiles with Nsight Systems.

    Blind spots: records that the profiler dropped without saying so. What tracing costs per launch is not in
    `profiler_overhead`: it is estimated for the gaps between kernels.
    """
    if trace.manifest.get("trtexec"):
        raise NotApplicable("nothing was traced: these are trtexec's own files")
    run = Run.of(trace)
    checks = (_failed_inferences, _lost_activity, _orphans, _whole_graphs, _too_few, _outside, _overhead, _errors)
    for check in checks:
        yield from check(trace, run)


def _limit(
    message: str,
    cause: str,
    remedy: str,
    *evidence: Evidence,
    severity: Severity = Severity.INFO,
    confidence: Confidence = Confidence.HIGH,
) -> Finding:
    return Finding("CAP001", severity, confidence, message, cause, remedy, evidence=evidence)


def _failed_inferences(trace: Trace, run: Run) -> Iterator[Finding]:
    table = trace.table("inferences", ["start_ns", "end_ns"])
    idle = ~run.requests.worked
    if not idle.any() or idle.all():
        return
    if (failed := failed_on_streams(run)) is not None:
        idle &= ~failed.inferences
        if not idle.any():
            return
    first = int(np.flatnonzero(idle)[0])
    yield _limit(
        f"{int(idle.sum())} of {len(idle)} inferences launched no kernel: rates and latencies over all of them are "
        "wrong",
        "their enqueue failed, or launched nothing: the trace records no CUDA error for that, and their copies still "
        "run",
        "check the return value of enqueueV3 (execute_async_v3) and TensorRT's log; several contexts on an engine with "
        "dynamic shapes need an optimization profile each",
        Evidence("inferences without GPU work", int(idle.sum()), "count"),
        Evidence(
            "first of them",
            int(ints(table["end_ns"])[first] - ints(table["start_ns"])[first]),
            "ns",
            int(ints(table["start_ns"])[first]),
            int(ints(table["end_ns"])[first]),
        ),
        severity=Severity.ERROR,
    )


def _lost_activity(trace: Trace, run: Run) -> Iterator[Finding]:
    reason = trace.missing("kernels")
    if trace.rows("kernels") or trace.rows("graph_launches"):
        return
    if reason is None or not trace.rows("api_calls"):
        yield _limit(
            "no kernel ran in the collected time"
            if reason is None
            else "the GPU was not traced: nothing is said of its work",
            reason or "CUDA was traced, and nothing launched a kernel while it was",
            "collect while inferences run, with --trace=cuda,nvtx",
            severity=Severity.WARNING,
        )
        return
    yield _limit(
        "the GPU's side of the run is missing: kernels were launched, and none was recorded",
        reason,
        "check the diagnostics in Nsight Systems; under WSL2 and in containers GPU activity needs a driver and "
        "permissions that allow CUPTI",
        severity=Severity.ERROR,
    )


def _orphans(trace: Trace, run: Run) -> Iterator[Finding]:
    work = run.work
    orphans = work.api_call < 0
    if not len(orphans) or orphans.mean() < 0.01:
        return
    yield _limit(
        f"{int(orphans.sum())} of {len(orphans)} pieces of GPU work have no launch call in the report: they belong to "
        "no range, layer or inference",
        "the calls were not traced, lie before the collection, or were cut out of the report",
        "capture with --trace=cuda,nvtx and let the collection begin before the first launch",
        Evidence("share without a call", float(orphans.mean()), "ratio"),
    )


def _whole_graphs(trace: Trace, run: Run) -> Iterator[Finding]:
    graphs = trace.rows("graph_launches")
    if not graphs:
        return
    yield _limit(
        f"{graphs} launches of CUDA graphs were traced whole: their kernels, layers and the gaps between them are "
        "hidden",
        "--cuda-graph-trace=graph, the default of Nsight Systems",
        "capture once more with --cuda-graph-trace=node to see inside; for timing this one is better, since tracing "
        "nodes costs time itself",
        Evidence("graph launches", graphs, "count"),
    )


def _too_few(trace: Trace, run: Run) -> Iterator[Finding]:
    if not 0 < trace.rows("inferences") < ENOUGH_INFERENCES:
        return
    yield _limit(
        f"only {trace.rows('inferences')} inferences were captured: medians and percentiles say little",
        "the collection was short",
        f"capture at least {ENOUGH_INFERENCES} inferences, better 50, after a warm-up",
        Evidence("inferences", trace.rows("inferences"), "count"),
    )


def _outside(trace: Trace, run: Run) -> Iterator[Finding]:
    work = run.work
    if not run.count:
        return
    first = int(ints(trace.table("inferences", ["range_start_ns"])["range_start_ns"]).min())
    before = work[np.flatnonzero(work.computes & (work.inference < 0) & (work.end <= first))]
    total = covered(work.start[work.computes], work.end[work.computes])
    lost = before.busy().total
    if lost < OUTSIDE_SHARE * total or not total:
        return
    calls = words(trace.table("api_calls", ["name"])["name"])
    timings = int(calls.where(lambda name: "EventElapsedTime" in name).sum())
    tactics = f": {timings} event timings suggest that TensorRT was choosing tactics"
    yield _limit(
        f"{share(lost / total)} of the kernel time was captured before the first inference",
        f"an engine build or a warm-up was captured with the run{tactics if timings > ENOUGH_INFERENCES else ''}",
        "build and serialize the engine first, warm up, then collect only inference (--capture-range=cudaProfilerApi)",
        Evidence("kernel time before", lost, "ns", int(before.start.min()), int(before.end.max())),
        Evidence("kernels before", len(before.start), "count"),
        confidence=Confidence.MEDIUM,
    )


def _overhead(trace: Trace, run: Run) -> Iterator[Finding]:
    lost = run.profiler.intersection(run.window)
    if not (run.count and run.window.total) or lost.total / run.window.total < OVERHEAD_SHARE:
        return
    longest = int(np.argmax(lost.end - lost.start))
    yield _limit(
        f"the profiler itself ran for {duration(lost.total)} inside of inferences, "
        f"{share(lost.total / run.window.total)} of their time",
        "Nsight Systems empties its buffers in the profiled process",
        "leave out what is not needed (--trace=cuda,nvtx -s none --cpuctxsw=none), capture fewer inferences, and take "
        "latencies from a run without the profiler",
        Evidence("profiler overhead", lost.total, "ns"),
        Evidence(
            "longest",
            int(lost.end[longest] - lost.start[longest]),
            "ns",
            int(lost.start[longest]),
            int(lost.end[longest]),
        ),
    )


def _errors(trace: Trace, run: Run) -> Iterator[Finding]:
    table = trace.table("diagnostics", ["severity", "text"])
    errors = [
        " ".join(row["text"].split())[:300]
        for row in table.to_pylist()
        if row["severity"] == "error" and _CONCERNS.search(row["text"]) and not _HARMLESS.search(row["text"])
    ]
    if not errors:
        return
    yield _limit(
        f"Nsight Systems reported {len(errors)} error{'s' if len(errors) > 1 else ''} during the collection",
        errors[0],
        "read the report's diagnostics in Nsight Systems, and capture again where they concern what you look for",
        *(Evidence("error", text) for text in errors[:3]),
    )
