"""Inferences that are far slower than others of their population, and what happened in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.slow import CLOCK, FEWEST_SLOW, PROFILER, SLOWER, Usual, before, slow_groups
from nsight_analyses.measure import nothing_repeats, of_tensorrt, worst
from nsight_tools.analysis import MEAN, analysis
from nsight_tools.columns import Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_analyses.host.slow import Group
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

FEWEST = 5
"""Fewer inferences of a thread have nothing to stand out from."""
_BUCKETS = {
    "compute_ns": "its own kernels take longer",
    "exposed_communication_ns": "its communication with other GPUs takes longer",
    "exposed_h2d_ns": "its host-to-device copies take longer",
    "exposed_d2h_ns": "its device-to-host copies take longer",
    "exposed_other_copy_ns": "its other copies take longer",
    "accelerator_ns": "its layers on the DLA take longer",
    "other_work_ns": "the GPU does other work of this report first, which loses no time: more is in flight",
    "launch_ns": "the GPU waits for the host's launch calls",
    "sync_ns": "its thread waits in a synchronization while the GPU runs nothing of it",
    "host_ns": "the GPU waits for the host between its calls",
    "unattributed_ns": "the report does not say",
}
_HOST = ("launch_ns", "sync_ns", "host_ns", "unattributed_ns")
"""Buckets that tracing itself inflates, and that scheduling by the operating system disturbs at random."""
_PAUSE = (
    "each follows a pause of {pause} or more, and all its kernels take longer, {factor:.2g} times the usual (median): "
)
_MHZ = ", to {low:.0f} MHz in these inferences from {usual:.0f} MHz in the others (medians of its samples)"
_NOT_SAMPLED = (
    "most likely the GPU's clock fell while it was idle. No clock was recorded in these inferences, so that the trace "
    "does not show it"
)
_LOCK = "lock the clocks (nvidia-smi -lgc), or keep the GPU warm with an inference now and then"
_SAMPLE = (
    "to see the clock, capture GPU metrics (--gpu-metrics-devices=all), or NVML's samples beside the report "
    "(nsight-tools capture)"
)
_SHAPE = (
    (
        "each is the first on its thread with another shape (its kernels or their grids are others than in the "
        "inference before), which is prepared when it is first used"
    ),
    "run each shape once before serving, or pad inputs to a few shapes",
)


_UP_TO = re.compile(r", | \(|;")
"""What stands before it in a remedy is what to do, in a few words."""


@dataclass(frozen=True)
class _Slow:
    """Slow inferences (rows of the table), what they take beyond the usual, and what is said of them."""

    rows: IntArray
    excess: Ints
    text: str
    remedy: str
    harmless: bool = False
    real: bool = True
    event: bool = False
    """Something that the program does is the reason."""


@analysis("LCH004", topic="slow inferences", bucket=MEAN, warns_from=0.05)
def slow_inferences(trace: Trace) -> Iterator[Finding]:
    """Some inferences are far slower than others that do the same.

    Measures: inferences that `inferences.mark` calls outliers or changes of shape: `wall_ns` above the median of their
    population on their thread by 5 scaled median absolute deviations and by 20 %. A slow one that follows another
    population of its engine is a change of shape. Of the outliers of the judged population, what each takes beyond the
    median is given to the first of these that explains at least half of it inside of the inference's window: the
    profiler's own overhead (`profiler_overhead`), a pause before it after which nine of ten kernels take longer (the
    clock fell: where it was sampled, it has to be lower than in the others by half of that), loading of modules,
    building of graphs, allocations (by `api_calls.does`), another process on the GPU (where GPU metrics prove it),
    launched work that waits for an idle GPU (an info: what for is not known). A slow one that launches as many kernels
    as the judged ones, and is of a population a tenth as large at most, is told of as well, where such loading,
    building or allocating explains it. Else the bucket of the accounting that grew most is named, which says where and
    not why. That, and the profiler's doing, are scatter below 2.5 % of the inference time.
    One finding for each reason. The bound is the time beyond the median; none for the profiler's doing, and none where
    the GPU does other work first. A warning from 5 % of the inference time and 3 inferences on, if it is neither of
    those two, nor jitter of the host.
    Where a capture measured the same untraced, one inference at a time, what no event explains is held against that: it
    is a warning only if the share of inferences there that are 20 % above its median is at least half of the share
    here.

    Why it matters: the slowest inferences are what a service promises (p99).

    Remedy: by reason: enqueue each shape once before serving, lock the clocks (`nvidia-smi -lgc`), load modules at the
    start (CUDA_MODULE_LOADING=EAGER), build graphs and allocate buffers beforehand, give the process the GPU. NVIDIA's
    CUDA Programming Guide, "Lazy Loading"; TensorRT Best Practices, "Overhead of Shape Change and Optimization Profile
    Switching" and "GPU Clock Locking and Floating Clock".

    Blind spots: with fewer than 5 inferences of a kind on a thread nothing stands out. What the operating system did to
    the thread is not in the report. The warm-up is left out: the header says what it took.
    """
    run = Run.of(trace)
    requests = run.requests
    if not requests.worked.any():
        if not run.work.computes.any() and (lacking := trace.lacking("kernels")) is not None:
            raise lacking
        raise nothing_repeats(trace, "no inference that the GPU worked for: nothing repeats that could stand out")
    usual = Usual(run)
    if np.bincount(usual.kind[requests.worked]).max() < FEWEST:
        raise CouldNotRun(f"no thread has {FEWEST} inferences that do the same: nothing can stand out")
    changes = np.flatnonzero(requests.mark.among("shape_change") & requests.worked)
    if changes.size:
        kept = of_tensorrt(run, "; keep an execution context for each shape that comes often")
        whole = int(requests.wall[requests.counted].sum())
        yield _finding(
            run, _Slow(changes, usual.excess(changes), _SHAPE[0], _SHAPE[1] + kept), whole, int(requests.counted.sum())
        )
    for group in trace.once(slow_groups):
        more = group.rows[~requests.judged[group.rows]]
        whole = run.window_ns + int(requests.wall[more].sum())
        yield _finding(run, _said(run, group), whole, run.count + more.size)


def _said(run: Run, group: Group) -> _Slow:
    """What is said of inferences that one thing makes slow."""
    rows, excess, taken, what = group.rows, group.excess, float(np.median(group.taken)), group.what
    if what == CLOCK:
        pause = duration(int((run.requests.start[rows] - before(run, rows)).min()))
        seen = "the GPU's clock fell while it was idle" + _MHZ if group.clock else _NOT_SAMPLED
        low, usual = group.clock or (0.0, 0.0)
        text = _PAUSE.format(pause=pause, factor=taken) + seen.format(low=low, usual=usual)
        return _Slow(rows, excess, text, _LOCK if group.clock else f"{_LOCK}; {_SAMPLE}")
    if (reason := group.reason) is not None:
        text = f"{reason.text} ({duration(float(group.taken.sum()))} of it)"
        real = what != PROFILER
        return _Slow(rows, excess, text, reason.remedy, not (real and reason.told), real, reason.event)
    queued = what == "other_work_ns"
    return _Slow(rows, excess, _bucket_text(what, taken), "", harmless=queued or what in _HOST, real=not queued)


def _bucket_text(name: str, growth: float) -> str:
    text = f"{_BUCKETS[name]} ({duration(growth)} more, median)"
    if name in _HOST:
        text += ": no event of the report explains it; jitter of the host, to which tracing adds"
    return text


def _finding(run: Run, slow: _Slow, whole: int, inferences: int) -> Finding:
    cost = min(round(float(slow.excess.sum())), whole)  # inferences in flight at once share their time
    part = cost / max(whole, 1)
    requests, rows = run.requests, slow.rows
    took, usual = float(np.median(requests.wall[rows])), float(np.median(requests.wall[rows] - slow.excess))
    untraced = None if slow.remedy else _slow_untraced(run.trace)
    comes_back = untraced is not None and 2 * untraced >= rows.size / inferences
    harmless = slow.harmless or rows.size < FEWEST_SLOW or (untraced is not None and not comes_back)
    return Finding(
        "LCH004",
        Severity.WARNING if slow.real and not harmless else Severity.INFO,
        Confidence.MEDIUM if slow.remedy or comes_back else Confidence.LOW,
        f"{rows.size} of {inferences} inferences took {duration(took)} (median) rather than {duration(usual)}"
        + (f": {share(part)} of the {run.time}" if slow.real else ""),
        slow.text,
        slow.remedy
        or (
            "look at the windows below; they come back in a run without the profiler"
            if comes_back
            else "look at the windows below; if they come back in a run without the profiler, they are real"
            if untraced is None
            else "nothing yet: without the profiler they are far fewer"
        ),
        act=_UP_TO.split(slow.remedy)[0] or "look at the slow inferences",
        evidence=(
            Evidence("slow inferences", rows.size, "count"),
            Evidence("time beyond the median", cost, "ns"),
            *([Evidence("as much slower without the profiler", untraced, "ratio")] if untraced is not None else []),
            *worst("slow inference", requests.start[rows], requests.end[rows], lambda at: f"inference {int(rows[at])}"),
        ),
        explains=("gaps",) if slow.event and 2 * cost >= sum(run.gpus.idle(d).total for d in run.gpus.devices) else (),
        loss=Loss(
            cost,
            part,
            "time of these inferences beyond the median of the thread's others that do the same",
            per_inference_ns=round(cost / inferences),
            of_host=True,
        )
        if slow.real
        else None,
    )


def _slow_untraced(trace: Trace) -> float | None:
    """Share of an untraced run's inferences that are far slower than its median; None where it does not tell."""
    pricing = Pricing.of(trace)
    if pricing.untraced is None or pricing.per == "period":
        return None
    table = trace.table("benchmark", ["run", "wall_ns"])
    wall = ints(table["wall_ns"])[words(table["run"]).among("benchmark")]
    return float((wall > SLOWER * np.median(wall)).mean())
