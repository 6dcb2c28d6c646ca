"""Clocks: did the GPU run as fast as it can while it worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.gpu.clocks import Gpu, remedy
from nsight_tools.analysis import analysis
from nsight_tools.columns import words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.metrics import Metrics
from nsight_tools.run.samples import (
    DROP,
    FEWEST_BUSY,
    FEWEST_HELD,
    HEAT,
    HELD_SHARE,
    NVML,
    POWER,
    SAMPLES,
    sampled,
    why_low,
)
from nsight_tools.timeline.intervals import only_distinct
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace


@analysis("THR001", topic="clock", picture="clocks", warns_from=DROP)
def clock_drops_while_busy(trace: Trace) -> Iterator[Finding]:
    """The GPU's clock drops while kernels run.

    Measures: two things, each where it was recorded.

    * The clock: samples of the GPC clock (`gpu_metrics`) that lie inside of the union of this process' kernels or whole
      graphs, else NVML's SM clock (`telemetry.sm_clock_mhz`) in its busy samples, against the GPU's highest. A drop
      where at least 1 % of them (of NVML's 3 at least) lie more than 5 % below it; 20 samples are needed.
    * The cause: `telemetry.clock_event_reasons` in busy samples: power cap, thermal slowdown, power brake and the other
      reasons by which a GPU holds its clocks back, each with its share. From 1 % of the busy samples and 3 of them on.
      Growth of the violation counters (`power_violation_ns`, `thermal_violation_ns`) up to the busy samples, as a share
      of that time, is evidence of its own, and a cause from 1 % on: a counter misses nothing between two samples.

    Busy is a sample of NVML's around which (half a sampling period either side) this process' work runs for a tenth of
    the time and more, and whose reason is not "idle". With fewer than 60 of those, up to 5 % of the time can be
    throttled unseen: if nothing was seen then, it could not be told.

    The bound is the kernels' time times the mean shortfall of the clock, as if every kernel were bound by the SM clock;
    a warning where that costs 5 % of the inferences' time. A limit that somebody set (application clocks, sync boost,
    or a clock that is low though NVML names no reason, as a locked one) is no throttling, and never a warning; for that
    NVML's samples have to be so many that three of them would lie in the time in which the clock is low. The clock is
    said to be locked, and at how many MHz, where 99 % of the busy samples have the same one below the highest: by
    NVML's word (application clocks), else where it is a drop and 60 samples name no reason at all.

    Why it matters: at a clock that is 10 % lower, kernels that compute take 10 % longer; latency drifts with power and
    temperature, and two runs cannot be compared.

    Remedy: by cause: take other load off the card or raise the power limit (`nvidia-smi -pl`); improve cooling; look at
    the power supply for a power brake; reset limits (`nvidia-smi -rac`, `-rgc`). Where the cause was not recorded,
    capture with `nsight-tools capture` or watch `nvidia-smi -q -d PERFORMANCE` during the run. For stable measurements
    lock the clocks (`nvidia-smi -lgc`) below the point of throttling. NVIDIA's TensorRT Best Practices, "GPU Clock
    Locking and Floating Clock", "GPU Power Consumption and Power Throttling" and "GPU Temperature and Thermal
    Throttling".

    Blind spots: without telemetry the cause is unknown: a limit that was set on purpose looks the same. Samples of the
    metrics are means over their period (50 µs at 20 kHz), so drops that are shorter do not show; NVML's are moments,
    20 ms apart at 50 Hz. Kernels bound by memory lose less than the bound says.
    """
    run = Run.of(trace)
    if not run.work.computes.any():
        raise trace.lacking("kernels") or CouldNotRun("no kernel ran, so that there is no busy time to judge")
    judged, few = False, 0
    for device in only_distinct(run.work.device[run.work.computes]).tolist():
        gpu = Gpu.of(run, device)
        few = max(few, len(gpu.reasons))
        judged |= (gpu.clock is not None and gpu.clock.enough) or len(gpu.reasons) >= FEWEST_BUSY
        for finding in _judge(run, gpu):
            judged = True
            yield finding
    if not judged:
        raise _why_not(trace, few)


def _why_not(trace: Trace, few: int) -> CouldNotRun:
    metrics = trace.lacking("gpu_metrics")
    if few or (sampled(trace) and metrics):
        return CouldNotRun(
            f"only {few} of NVML's samples lie in the GPU's busy time, and it takes {FEWEST_BUSY} to rule out "
            "throttling for 5 % of it",
            hint="capture longer",
        )
    if lacking := metrics or trace.lacking("gpus"):
        return lacking
    if not Metrics.of(trace).clocked:
        return CouldNotRun("the GPU metrics hold no SM clock", hint="capture with another --gpu-metrics-set")
    few_samples = f"fewer than {SAMPLES} clock samples lie inside of kernels"
    return CouldNotRun(few_samples, hint="capture longer or at a higher frequency")


def _judge(run: Run, gpu: Gpu) -> Iterator[Finding]:
    """What one GPU's clock and NVML's reasons say."""
    held = gpu.reasons.held.sum() >= FEWEST_HELD and gpu.reasons.share >= HELD_SHARE
    violated = [what for what, (grown, passed) in gpu.violations().items() if grown >= HELD_SHARE * passed]
    low = gpu.clock is not None and gpu.clock.drops
    if not (held or violated or low):
        return
    told = _power(run.trace) if not sampled(run.trace) else ""
    window = run.gpus.window(gpu.device)
    works = run.gpus.computing(gpu.device).intersection(window).total
    recoverable = round(works * gpu.clock.shortfall) if gpu.clock else None
    throttled = bool(held or violated)
    # Were the GPU itself what lowers the clock, so many of NVML's samples would say so ("rule of three").
    expected = len(gpu.reasons) * gpu.clock.low if gpu.clock else 0.0
    by_choice = not throttled and not gpu.reasons.held.any() and expected >= FEWEST_HELD
    bits = gpu.reasons.counts() if held else {}
    why = why_low(run, gpu.device) if len(gpu.reasons) else "not recorded in this report"
    if len(gpu.reasons) and not (by_choice or gpu.reasons.held.any()):
        why = f"not known: {len(gpu.reasons)} busy samples of NVML's name no reason, which is too few to exclude any"
    counters = " and ".join(
        f"{what} held it back for {share(gpu.violations()[what][0] / gpu.violations()[what][1])} of the time by NVML's "
        "counter"
        for what in violated
    )
    power = "power" in violated or any(bit in POWER for bit in bits)
    heat = "thermal" in violated or any(bit in HEAT for bit in bits)
    to_do = remedy(power=power, heat=heat, by_choice=by_choice, known=throttled)
    yield Finding(
        "THR001",
        Severity.INFO if by_choice or recoverable is None else Severity.WARNING,
        Confidence.HIGH if throttled and (low or len(gpu.reasons) >= FEWEST_BUSY) else Confidence.MEDIUM,
        _message(gpu, held=bool(held), low=low, violated=violated),
        "; ".join(part for part in (why if held or not counters else "", counters) if part) + told,
        to_do.said + ("" if by_choice else "; lock the clocks for measurements"),
        act=to_do.act,
        evidence=tuple(_evidence(gpu)),
        explains=("limits",) if power or heat else (),
        loss=None
        if recoverable is None
        else Loss(
            recoverable,
            recoverable / max(window.total, 1),
            "kernel time times the mean shortfall of the clock, as if all kernels were bound by the SM clock",
        ),
    )


def _message(gpu: Gpu, *, held: bool, low: bool, violated: list[str]) -> str:
    if low and gpu.clock is not None:
        return (
            f"the {gpu.name} runs below {share(1 - DROP)} of its highest clock for {share(gpu.clock.low)} of its busy "
            f"time: median {np.median(gpu.clock.value):.0f} of {gpu.clock.highest:.0f} MHz"
        )
    at = f" (median {np.median(gpu.clock.value):.0f} of {gpu.clock.highest:.0f} MHz)" if gpu.clock else ""
    if held:
        return f"the {gpu.name} holds its clock back in {share(gpu.reasons.share)} of its busy samples{at}"
    grown, passed = max((gpu.violations()[what] for what in violated), key=lambda counted: counted[0] / counted[1])
    return f"the {gpu.name} holds its clock back for {share(grown / passed)} of its busy time{at}"


def _evidence(gpu: Gpu) -> Iterator[Evidence]:
    if (clock := gpu.clock) is not None:
        lowest = int(np.argmin(clock.value))
        when = int(clock.time[lowest])
        yield Evidence("share of busy samples below 95 % of the highest clock", clock.low, "ratio")
        yield Evidence(
            "median clock while busy",
            float(np.median(clock.value)),
            "MHz",
            detail=f"{len(clock.value)} samples" + (" by NVML" if clock.source == NVML else ""),
        )
        yield Evidence("lowest clock while busy", float(clock.value[lowest]), "MHz", when, when)
        yield Evidence("highest clock of this GPU", clock.highest, "MHz")
    if len(gpu.reasons):
        yield Evidence(
            "share of NVML's busy samples in which the GPU holds its clock back",
            gpu.reasons.share,
            "ratio",
            detail=gpu.reasons.named() or f"{len(gpu.reasons)} samples",
        )
    for what, (grown, passed) in gpu.violations().items():
        yield Evidence(f"held back by {what}, NVML's counter", grown, "ns", detail=f"of {duration(passed)}")


def _power(trace: Trace) -> str:
    """What was sampled beside the clock, which is a hint and no proof."""
    table = trace.table("nvml_metrics", ["metric", "value", "unit"])
    sampled = []
    for metric in ("Power", "Temperature"):
        values = table["value"].to_numpy()[words(table["metric"]).among(metric)]
        if len(values):
            unit = {"Power": "W", "Temperature": "°C"}[metric]
            sampled.append(
                f"{metric.lower()} was {np.median(values):.0f} {unit} (median), {values.max():.0f} {unit} at most"
            )
    return f"; {' and '.join(sampled)}" if sampled else "; neither power nor temperature was sampled"
