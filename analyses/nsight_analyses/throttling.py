"""Clocks, power, heat: did the GPU run as fast as it can while it worked, and how near is it to where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.clocks import CLOCKS, SAMPLES, Gpu, judge
from nsight_analyses.telemetry import FEWEST_BUSY, Samples, sampled
from nsight_tools.analysis import analysis
from nsight_tools.columns import ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.measured import Measured
from nsight_tools.timeline.intervals import only_distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]


@analysis("THR001")
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
    NVML's samples have to be so many that three of them would lie in the time in which the clock is low.

    Why it matters: at a clock that is 10 % lower, kernels that compute take 10 % longer; latency drifts with power and
    temperature, and two runs cannot be compared.

    Remedy: by cause: raise the power limit (`nvidia-smi -pl`) or take other load off the card; improve cooling; look at
    the power supply for a power brake; reset limits (`nvidia-smi -rac`, `-rgc`). Where the cause was not recorded,
    capture with `nsight-tools capture` or watch `nvidia-smi -q -d PERFORMANCE` during the run. For stable measurements
    lock the clocks (`nvidia-smi -lgc`) below the point of throttling. NVIDIA's TensorRT Best Practices, "GPU Clock
    Locking and Floating Clock", "GPU Power Consumption and Power Throttling" and "GPU Temperature and Thermal
    Throttling".

    Blind spots: without telemetry the cause is unknown: a limit that was set on purpose looks the same. Samples of the
    metrics are means over their period (100 µs at 10 kHz), so drops that are shorter do not show; NVML's are moments,
    20 ms apart at 50 Hz. Kernels bound by memory lose less than the bound says.
    """
    measured = Measured.of(trace)
    if not measured.work.computes.any():
        raise CouldNotRun(trace.missing("kernels") or "no kernel ran, so that there is no busy time to judge")
    judged, few = False, 0
    for device in only_distinct(measured.work.device[measured.work.computes]).tolist():
        gpu = Gpu.of(measured, device)
        few = max(few, len(gpu.reasons))
        judged |= (gpu.clock is not None and gpu.clock.enough) or len(gpu.reasons) >= FEWEST_BUSY
        for finding in judge(measured, gpu):
            judged = True
            yield finding
    if not judged:
        raise CouldNotRun(_why_not(trace, few))


def _why_not(trace: Trace, few: int) -> str:
    metrics = trace.missing("gpu_metrics")
    if few or (sampled(trace) and metrics):
        return (
            f"only {few} of NVML's samples lie in the GPU's busy time, and it takes {FEWEST_BUSY} to rule out "
            "throttling for 5 % of it; capture longer"
        )
    if metrics:
        return metrics
    if (reason := trace.missing("gpus")) is not None:
        return reason
    metric = words(trace.table("gpu_metrics")["metric"])
    if not metric.where(lambda name: name.startswith(CLOCKS)).any():
        return "the GPU metrics hold no SM clock; capture with another --gpu-metrics-set"
    return f"fewer than {SAMPLES} clock samples lie inside of kernels; capture longer or at a higher frequency"


NEAR_POWER = 0.95
"""The power limit acts on an average over some milliseconds: at 95 % of it single samples reach it."""
NEAR_CELSIUS = 5.0
"""Thermal slowdown comes in steps of a few degrees: this close below it, a warmer room is enough."""
AVERAGED_NS = 1_000_000_000
"""NVML averages power over up to a second: a shorter run's is in part that of what ran before."""


@dataclass(frozen=True)
class Limits:
    """What a GPU may draw and how hot it may become before it slows down; None where the trace does not say."""

    power_w: float | None = None
    slowdown_celsius: float | None = None


@dataclass(frozen=True)
class _Sampled:
    """Power in W and temperature in °C while a GPU works, shape (n,) each."""

    power: Floats
    heat: Floats


def limits_of(measured: Measured) -> dict[int, Limits]:
    """The limits of each working GPU that the trace says: `telemetry` does, Nsight Systems records none."""
    found = {}
    for device in measured.devices:
        samples = Samples.of(measured, device)
        power, heat = (samples.known(column)[1] for column in ("power_limit_mw", "slowdown_temperature_c"))
        found[device] = Limits(
            float(np.median(power)) / 1000 if len(power) else None, float(np.median(heat)) if len(heat) else None
        )
    return found


@analysis("THR004")
def power_or_temperature_near_the_limit(trace: Trace) -> Iterator[Finding]:
    """Power or temperature stays near the limit at which the GPU slows down.

    Measures: power and temperature in NVML's busy samples (`telemetry.power_mw`, `temperature_c`; busy as in THR001),
    else the samples of Power and Temperature that Nsight Systems took (`nvml_metrics`) from the first GPU work of the
    inferences to the last, against `telemetry.power_limit_mw` and `slowdown_temperature_c`. A finding where the median
    power is at 95 % of the limit or above it, or the highest temperature within 5 °C of the slowdown. The limits have
    to be in the dataset; without them it does not run, as a limit guessed from the GPU's name can be another than the
    one that is set. Where the inferences last less than a second, which is what NVML averages power over, power is said
    with low confidence.

    Why it matters: at the limit the GPU lowers its clock (THR001); near it, a warmer room or one more process does.

    Remedy: raise the power limit (`nvidia-smi -pl`) where the card allows it, improve cooling, or lock a clock that the
    power suffices for (`nvidia-smi -lgc`), which makes latency steady. NVIDIA's TensorRT Best Practices, "GPU Power
    Consumption and Power Throttling" and "GPU Temperature and Thermal Throttling".

    Blind spots: reports of Nsight Systems alone hold power and temperature but not their limits. NVML averages power
    over up to a second, so that short peaks do not show. Memory has a temperature of its own.
    """
    measured = Measured.of(trace)
    if not len(measured.window.start):
        raise CouldNotRun(trace.missing("kernels") or "no GPU work: what an idle GPU draws says nothing")
    short = measured.window.end[-1] - measured.window.start[0] < AVERAGED_NS
    judged, said = False, ""
    for gpu, limit in limits_of(measured).items():
        seen = _of_telemetry(measured, gpu) or _of_nsight(measured, gpu)
        said = said or _said(seen)
        if len(seen.power) and limit.power_w:
            judged = True
            if np.median(seen.power) >= NEAR_POWER * limit.power_w:
                yield _near("power", seen.power, limit.power_w, "W", Confidence.LOW if short else Confidence.HIGH)
        if len(seen.heat) and limit.slowdown_celsius:
            judged = True
            if seen.heat.max() >= limit.slowdown_celsius - NEAR_CELSIUS:
                yield _near("temperature", seen.heat, limit.slowdown_celsius, "°C", Confidence.HIGH)
    if judged:
        return
    if not said:
        reason = None if sampled(trace) else trace.missing("nvml_metrics")
        raise CouldNotRun(reason or "no sample of power or temperature lies in the time in which the GPU works")
    raise CouldNotRun(
        f"the report does not say the GPU's limits ({said}); compare with nvidia-smi -q -d POWER,TEMPERATURE"
    )


def _of_telemetry(measured: Measured, gpu: int) -> _Sampled | None:
    samples = Samples.of(measured, gpu)
    power, heat = (samples.known(column)[1] for column in ("power_mw", "temperature_c"))
    return _Sampled(power / 1000, heat.astype(np.float64)) if len(power) or len(heat) else None


def _of_nsight(measured: Measured, gpu: int) -> _Sampled:
    table = measured.trace.table("nvml_metrics")
    time = ints(table["time_ns"])
    during = (time >= measured.window.start[0]) & (time <= measured.window.end[-1])
    # The plugin may leave the GPU out: with one GPU at work it is that one.
    working = measured.devices
    device = np.where(ints(table["device"]) < 0, working[0] if len(working) == 1 else -1, ints(table["device"]))
    metric, value, here = words(table["metric"]), table["value"].to_numpy(), during & (device == gpu)
    return _Sampled(value[here & metric.among("Power")], value[here & metric.among("Temperature")])


def _said(seen: _Sampled) -> str:
    return " and ".join(
        f"{what} was {np.median(values):.0f} {unit} (median), {values.max():.0f} {unit} at most"
        for what, values, unit in (("power", seen.power, "W"), ("temperature", seen.heat, "°C"))
        if len(values)
    )


def _near(what: str, values: Floats, limit: float, unit: str, confidence: Confidence) -> Finding:
    median, highest = float(np.median(values)), float(values.max())
    return Finding(
        "THR004",
        Severity.INFO,  # what it costs, the clock tells: THR001
        confidence,
        f"{what} is near its limit: {median:.0f} {unit} (median), {highest:.0f} {unit} at most, of {limit:.0f} {unit}",
        "the GPU draws what it may" if what == "power" else "the GPU is about as hot as it may become",
        "raise the power limit (nvidia-smi -pl), or lock a clock that the power suffices for (nvidia-smi -lgc)"
        if what == "power"
        else "improve cooling, or lock a lower clock (nvidia-smi -lgc)",
        evidence=(
            Evidence(f"median {what}", median, unit, detail=f"{len(values)} samples"),
            Evidence(f"highest {what}", highest, unit),
            Evidence(f"limit of {what}", limit, unit),
        ),
    )
