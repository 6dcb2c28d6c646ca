"""What makes the GPU slower for this process: its clock, or somebody else's work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.gpu.clock_effect import STRETCHED, Clock, clock_effect
from nsight_analyses.gpu.clocks import Remedy, remedy
from nsight_analyses.measure import worst
from nsight_tools.analysis import analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.driver import mode_of
from nsight_tools.run.holes import SLICE_NS, Owner, holes
from nsight_tools.run.metrics import Metrics
from nsight_tools.run.samples import HEAT, POWER, Reasons, Samples, locked, why_low
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.timeline.intervals import Intervals
    from nsight_tools.trace import Trace

FEWEST_GAPS = 3
"""One or two long waits have other reasons: a driver that wakes up, a page that is moved."""
VARIES = 0.025
"""What the clock alone adds to the variation of kernels that is a finding of its own, from there on."""
STRETCH_SHARE = 0.05
"""Inputs make kernels vary by a few percent of their summed time."""

_OWN = {
    Owner.ACCELERATOR: "another accelerator",
    Owner.MIGRATION: "pages of managed memory",
    Owner.CALLBACK: "the host, which the program makes streams wait for",
    Owner.EVENT: "an event",
    Owner.BATCHES: "Windows, which sends launches in batches",
}
"""What work waits for that is of the program's own making."""


@analysis("THR002", needs={"api_calls"}, topic="contention", picture="clocks", warns_from=0.05)
def slowed_by_clock_or_by_others(trace: Trace) -> Iterator[Finding]:
    """The GPU is slow for this process, by its clock or by another process.

    Measures: three things, apart from each other.

    * Another process (time-slicing): gaps of more than 0.5 ms in which work is submitted (`launches.call_end_ns` has
      passed), has not started (`start_ns`), and nothing that was traced runs on that GPU, while the metric GR Active
      (`gpu_metrics`, which counts everybody's work) is above 50 % on average. At least 3 gaps and 2.5 % of the time.
      The bound is their length: without the other process the work would run.
    * The clock: kernels with the same name, grid and place within their inference are compared with each other.
      log(duration) over log(clock at that time; `gpu_metrics`, else NVML's in `telemetry`) has the slope -1 where
      duration times clock is constant. The clock is charged only where the slope is -0.5 or steeper and the two
      correlate (-0.3), with duration times (1 - clock / `gpus.max_sm_clock_mhz`) times that slope, from 2.5 % of the
      time on. It needs a clock that varies by 1 %, and 45 samples of it: of fewer, such a correlation can be chance,
      however many kernels run between two of them.
    * Kernels that take 1.5 times their usual duration times clock while no other kernel of the report runs: interrupted
      by another process, or sharing the SMs with it (MPS), if that is 5 % of the kernels' time.

    On Windows such gaps are those of its driver model WDDM, which sends launches in batches, unless the capture
    recorded another one. Where it recorded that MPS ran other programs on the GPU, they are named for kernels that are
    stretched.

    Why it matters: the remedies are opposite. A slow clock asks for power or cooling; no clock helps a process that
    waits for its turn.

    Remedy: for another process: give this one the GPU (`CUDA_VISIBLE_DEVICES`, exclusive compute mode with `nvidia-smi
    -c EXCLUSIVE_PROCESS`), a partition of it (MIG), or share through MPS, which runs both at once rather than in turns.
    For the clock: more power or cooling, as its reasons say. NVIDIA's TensorRT Best Practices, "GPU Power Consumption
    and Power Throttling".

    Blind spots: the other process is not in the report: what it is, `nvidia-smi` tells. Without GPU metrics the gaps
    say that the GPU did not take up work, not why: the confidence is low (medium where NVML counts more processes than
    one on the GPU), and where the program makes streams wait for the host (callbacks, waits on memory values) it is not
    judged. A clock that is low all the time has nothing to be compared with here (a drop against the GPU's highest is
    seen all the same), and neither have fewer than 100 kernels. Kernels whose work depends on the data vary without any
    cause outside. Work of this process whose records were lost looks like somebody else's.
    """
    run = Run.of(trace)
    if not run.work.computes.any():
        raise trace.lacking("kernels") or CouldNotRun("no kernel ran that could have been slowed")
    if not (run.work.call_end >= 0).any():
        raise CouldNotRun("no kernel has a launch call in this report, so that waiting cannot be told from idleness")
    metrics = Metrics.of(trace)
    findings, owners = [], set()
    for device in run.gpus.devices:
        clock = clock_effect(run, device, metrics)
        waits = holes(run, device, SLICE_NS)
        owners |= {Owner(owner) for owner in np.unique(waits.owner).tolist()}
        processes = Samples.of(run, device).highest("processes") or 0
        # Without metrics, nothing but several processes on this GPU lets one think of another.
        suspects = (Owner.OTHER_PROCESS, *([Owner.UNKNOWN] if processes > 1 and not metrics.sampled(device) else []))
        taken = waits.of(*suspects)
        if len(taken) >= FEWEST_GAPS and taken.total >= NOISE_SHARE * run.gpus.window(device).total:
            findings.append(_sliced(run, device, taken, metrics, clock, processes))
        elif not metrics.sampled(device):
            findings += _not_told(run, holes(run, device).of(Owner.UNKNOWN), run.gpus.window(device).total)
        findings += _batches(run, device)
        if clock:
            findings += _of_clock(run, clock)
    if not findings and not any(metrics.sampled(device) for device in run.gpus.devices):
        own = " and ".join(text for owner, text in _OWN.items() if owner in owners)
        waited = f"work waited for {own}" if own else "no work waited long for an idle GPU"
        lacking = trace.lacking("gpu_metrics") or CouldNotRun("no sample is of a GPU that worked")
        told = ": ".join(filter(None, ("but without GPU metrics the clock's effect cannot be told", lacking.message)))
        raise CouldNotRun(f"{waited}, {told}", hint=lacking.hint)
    yield from findings


def _not_told(run: Run, taken: Intervals, whole: int) -> Iterator[Finding]:
    """Submitted work that waits for an idle GPU, and nothing in the report says what for."""
    if len(taken) < FEWEST_GAPS or taken.total < NOISE_SHARE * whole:
        return
    yield Finding(
        "THR002",
        Severity.INFO,
        Confidence.LOW,
        f"submitted work waits {len(taken)} times, for {duration(float(np.median(taken.end - taken.start)))} each "
        f"(median), while the GPU runs nothing that was traced: {share(taken.total / whole)} of the {run.time}",
        "this report does not say what it waits for",
        "capture with --gpu-metrics-devices=all, which tells whether the GPU works for another program meanwhile",
        evidence=(
            Evidence("submitted work waits", taken.total, "ns"),
            *worst("longest wait", taken.start, taken.end),
        ),
    )


def _batches(run: Run, device: int) -> Iterator[Finding]:
    """Launches that Windows' driver model holds back."""
    held, whole = holes(run, device).of(Owner.BATCHES), run.gpus.window(device).total
    recorded = mode_of(run, device).model is not None
    if len(held) < FEWEST_GAPS or held.total < NOISE_SHARE * whole:
        return
    yield Finding(
        "THR002",
        Severity.WARNING,
        Confidence.HIGH if recorded else Confidence.MEDIUM,
        f"launched work waits {len(held)} times for an idle GPU, {duration(float(np.median(held.end - held.start)))} "
        f"each (median): {share(held.total / whole)} of the {run.time}",
        "Windows' driver model WDDM collects launches and sends them to the GPU in batches; "
        + ("the capture recorded it" if recorded else "whether the GPU runs in it is not recorded"),
        "switch hardware-accelerated GPU scheduling on, or use the driver model TCC or MCDM, or Linux; launch less (a "
        "CUDA graph is one launch), or have a batch sent at once by cudaStreamQuery after the launches",
        act="let Windows send work to the GPU at once",
        evidence=(Evidence("launched work waits", held.total, "ns"), *worst("longest wait", held.start, held.end)),
        explains=("gaps", "between inferences"),
        loss=Loss(
            held.total, held.total / whole, "time in which launched work waits for an idle GPU for more than 50 µs"
        ),
    )


def _sliced(run: Run, device: int, gaps: Intervals, metrics: Metrics, clock: Clock | None, processes: int) -> Finding:
    cost, usual = gaps.total, float(np.median(gaps.end - gaps.start))
    time, value = metrics.active(device)
    active = value[gaps.contains(time)]
    whole = run.gpus.window(device).total
    lost = run.per_inference(cost)
    spread = f" ({duration(lost)} of {duration(whole / run.count)} per inference)" if lost else ""
    among = f" in {run.count} inferences" if run.count else ""
    busy = run.gpus.busy(device).intersection(run.gpus.window(device)).total
    seen = (
        f"the GPU is active all the while ({share(float(np.median(active)) / 100)} by its own count, median) though "
        f"this process runs nothing: another process has the GPU, and the two take turns (time-slicing)"
        if len(active)
        else f"nothing of this process runs in that time, and NVML counts {processes} processes on this GPU: most "
        "likely they take turns (time-slicing); the report has no GPU metrics to prove it"
    )
    return Finding(
        "THR002",
        Severity.WARNING,
        Confidence.HIGH if len(active) else Confidence.MEDIUM,
        f"submitted work waits {len(gaps)} times{among}, for {duration(usual)} each (median), while "
        f"this process runs nothing on the GPU: {share(cost / whole)} of the {run.time}{spread}",
        seen + (f"; {clock.aside}" if clock else ""),
        "find the other process (nvidia-smi, on this host and in other containers) and give this one the GPU, or a "
        "MIG partition of it; through MPS both run at once rather than in turns"
        + ("" if len(active) else "; capture with --gpu-metrics-devices=all to see who uses the GPU"),
        act="give this process the GPU to itself",
        evidence=(
            Evidence("gaps with submitted work of more than 0.5 ms", len(gaps), "count"),
            Evidence("submitted work waits in them", cost, "ns"),
            Evidence("GPU runs this process' work", busy / whole, "ratio"),
            *(
                [Evidence("GPU active in the gaps (GR Active), median", float(np.median(active)), "%")]
                if len(active)
                else []
            ),
            *(clock.evidence if clock else ()),
            *worst("longest gap", gaps.start, gaps.end),
        ),
        explains=("variation",),
        loss=Loss(
            cost,
            cost / whole,
            "time in which submitted work waits in gaps of more than 0.5 ms: what the GPU to itself gives back. A MIG "
            "partition has fewer SMs, and under MPS the kernels of both share them",
        ),
    )


def _of_clock(run: Run, clock: Clock) -> Iterator[Finding]:
    """What the clock costs, and kernels that are slowed by something else than it."""
    if clock.slope is not None and clock.cost >= NOISE_SHARE * run.window_ns:
        to_do = _higher_clock(run, clock.device)
        yield Finding(
            "THR002",
            Severity.WARNING,
            Confidence.MEDIUM,
            f"kernels slow down with the clock: it costs {share(clock.cost / clock.kernel_time)} of their time, "
            f"{share(clock.cost / run.window_ns)} of the {run.time}",
            f"the same kernels take longer when the clock is lower (duration goes with clock to the power of "
            f"{clock.slope:.2f}; -1 is proportional); {why_low(run, clock.device)}",
            to_do.said,
            act=to_do.act,
            evidence=(*clock.evidence, Evidence("median clock during kernels", clock.median, "MHz")),
            explains=("clock", "variation") if -clock.slope * clock.variation >= VARIES else ("clock",),
            loss=Loss(
                clock.cost,
                clock.cost / run.window_ns,
                "kernel time times the shortfall of the clock from the GPU's highest, as far as durations follow it",
            ),
        )
    if clock.stretched_time >= STRETCH_SHARE * clock.kernel_time:
        yield Finding(
            "THR002",
            Severity.INFO,
            Confidence.LOW,
            f"{clock.stretched} kernels take more than {STRETCHED} times their usual time at the same clock: "
            f"{share(clock.stretched_time / clock.kernel_time)} of the kernels' time",
            _stretches(mode_of(run, clock.device).served),
            "see whether other processes use this GPU (nvidia-smi); if none does, look at the inputs of these",
            act="see who else uses the GPU",
            evidence=tuple(worst("slowed kernel", clock.examples.start, clock.examples.end)),
            loss=Loss(
                clock.stretched_time,
                clock.stretched_time / run.window_ns,
                "what these kernels take beyond their usual time",
            ),
        )


def _stretches(served: int | None) -> str:
    """What makes kernels longer that neither the clock nor this program stretches."""
    others = "another process that interrupts them or shares the SMs with them (MPS)"
    if served:
        programs = "1 other program" if served == 1 else f"{served} other programs"
        others = f"MPS ran {programs} on this GPU when the capture began, which share the SMs"
    return f"not the clock, and no other kernel of this report: {others}, or work that depends on the data"


def _higher_clock(run: Run, device: int) -> Remedy:
    """What raises the clock, by the reasons that NVML names for it."""
    bits = Reasons.of(Samples.of(run, device)).counts()
    return remedy(
        power=any(bit in POWER for bit in bits),
        heat=any(bit in HEAT for bit in bits),
        by_choice=locked(run, device) is not None,
        known=bool(bits),
    )
