"""A program in which nothing repeats: how long its GPU idles, and what the host does meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import EFFORT_SHARE, as_a_graph, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.cuda_names import STALLS
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.calls import os_waits
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

IDLE_SHARE = 0.05
SHORT_NS = 100_000
"""Eager frameworks take 15 to 50 µs from one launch to the next; who takes twice that did something else."""
_OWNERS = {
    "submitted": (
        "submitted work waits",
        "submitted work waits, and nothing in the report says for what",
        "capture with --gpu-metrics-devices=all, which tells whether the GPU works for another program meanwhile",
    ),
    "memory": (
        "its thread manages memory",
        "the thread that launches allocates, frees or pins memory",
        "allocate once and keep the buffers, or take them from a pool (cudaMallocAsync)",
    ),
    "modules": (
        "its thread loads code",
        "the thread that launches loads code (modules)",
        "load it before the work begins (CUDA_MODULE_LOADING=EAGER, or a warm-up)",
    ),
    "graphs": (
        "its thread builds graphs",
        "the thread that launches captures or builds CUDA graphs",
        "build each graph once, and launch it often",
    ),
    "wait": (
        "its thread waits for the GPU",
        "the thread that launches waits for the GPU, and comes back late or has launched too little before",
        "launch the next work before waiting for the last, and wait once, for the result",
    ),
    "others": (
        "another thread holds the driver",
        "another thread of the process allocates, or loads code, which holds the driver",
        "do that before the work begins",
    ),
    "launch": (
        "its thread launches or copies",
        "the thread that launches is inside of launch and copy calls: they take longer than the work",
        "launch less: larger kernels, fusion, or a CUDA graph",
    ),
    "system": (
        "its thread waits in the system",
        "the thread that launches waits in the operating system: for input, a timer or another thread",
        "have the input ready before the GPU needs it (a queue that another thread fills)",
    ),
    "code": (
        "its thread runs other code",
        "the thread that launches runs code outside of CUDA calls",
        "look at the windows below: what does the thread do there? Move it to another thread, or to the GPU",
    ),
}
"""What the host does while the GPU idles: in short, as a cause, and what to change."""


@analysis(
    "LCH008", needs={"kernels", "api_calls"}, topic="idle GPU", bucket=HOST, picture="launches", warns_from=EFFORT_SHARE
)
def idle_gpu(trace: Trace) -> Iterator[Finding]:
    """The GPU idles in a program in which no inference is marked and nothing repeats.

    Measures: from the first GPU work to the last, the time in which a GPU runs nothing, the profiler's own time left
    out. Each stretch belongs to the thread that launches the work behind it: what that thread does meanwhile is told
    by its calls and, where those were traced, the operating system's. A finding from 5 % of the time on, a warning from
    20 % on. The bound is all of that time, which a program that feeds its GPU gets back in part.

    Why it matters: a GPU that waits for its host is as fast as the host.

    Remedy: by what the host does most; for programs that infer, mark the inferences (`--inference-range`), which tells
    far more.

    Blind spots: set-up work between the first GPU work and the last counts as well. What a thread does outside of calls
    is not in the report; CPU samples in Nsight Systems' window show it.
    """
    run = Run.of(trace)
    if run.count:
        raise NotApplicable("inferences were found: what each waits for is told by their parts")
    if not len(run.work):
        raise trace.lacking("kernels") or CouldNotRun("no GPU work: there is nothing to be idle between")
    found = {name: Intervals.union([], []) for name in _OWNERS}
    every = []
    for device in run.gpus.devices:
        for name, part in _by_owner(run, device):
            found[name] = Intervals.any_of([found[name], part])
            every.append(part)
    idle, total = Intervals.any_of(every), sum(part.total for part in every)
    if total < IDLE_SHARE * run.window_ns:
        return
    owners = sorted((name for name in found if found[name].total), key=lambda name: -found[name].total)
    _, cause, remedy = _OWNERS[owners[0]]
    length = idle.end - idle.start
    usual = float(np.median(length))
    if owners[0] in {"code", "launch"} and 2 * length[length < SHORT_NS].sum() >= length.sum():
        kernel = float(np.median(run.work.end - run.work.start))
        cause = (
            f"the GPU waits for the next launch, {duration(usual)} each time (median), for work of {duration(kernel)}: "
            "the host's code between launches, as an eager framework's, sets the pace"
        )
        remedy = as_a_graph(run)
    yield Finding(
        "LCH008",
        Severity.WARNING,
        Confidence.MEDIUM,
        f"the GPU is idle for {share(total / run.window_ns)} of the {run.time}, {duration(total)}",
        f"for {share(found[owners[0]].total / max(idle.total, 1))} of that, {cause}",
        remedy,
        act="keep the GPU busy while the host works",
        evidence=(
            *(Evidence(_OWNERS[name][0], found[name].total, "ns") for name in owners),
            *worst("longest", idle.start, idle.end),
        ),
        loss=Loss(
            total,
            total / run.window_ns,
            "all of the time in which the GPU idles: the host cannot be faster than no time at all",
            of_host=True,
        ),
    )


def _by_owner(run: Run, device: int) -> Iterator[tuple[str, Intervals]]:
    """The idle time of a GPU, told apart by what the thread does that launches the work behind each stretch."""
    work, calls = run.work, run.calls
    rows = np.flatnonzero(work.device == device)
    reach = np.maximum.accumulate(work.end[rows])
    (at,) = np.nonzero(work.start[rows[1:]] > reach[:-1])
    since, next_ = reach[at], rows[at + 1]
    threads, called = joint_key(work.pid[next_], work.tid[next_]), work.call_end[next_] >= 0
    submitted = np.where(called, np.maximum(work.call_end[next_], since), since)
    yield "submitted", Intervals.union(submitted[called], work.start[next_][called]).subtract(run.profiler)
    stalled = calls[calls.does.among(*STALLS)].time()
    until = np.where(called, np.minimum(submitted, work.start[next_]), work.start[next_])
    for thread in np.unique(threads).tolist():
        mine = np.flatnonzero(threads == thread)
        pid, tid = int(work.pid[next_[mine[0]]]), int(work.tid[next_[mine[0]]])
        left = Intervals.union(since[mine], until[mine]).subtract(run.profiler)
        own = calls.of_thread((pid, tid))
        lines = {
            "memory": own[own.does.among("allocate", "free", "pin", "unpin")].time(),
            "modules": own[own.does.among("load_module")].time(),
            "graphs": own[own.does.among("build_graph")].time(),
            "wait": own[own.waits].time(),
            "others": stalled,
            "launch": own[~own.does.among("other", "record", "query")].time(),
            "system": os_waits(run.trace, (pid, tid)),
        }
        for name, line in lines.items():
            yield name, left.intersection(line)
            left = left.subtract(line)
        yield "code", left
