"""Power and heat: how near is the GPU to where it slows down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.analysis import analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.run.samples import Samples, nvml_metric, sampled

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

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


def limits_of(run: Run) -> dict[int, Limits]:
    """The limits of each working GPU that the trace says: `telemetry` does, Nsight Systems records none."""
    found = {}
    for device in run.gpus.devices:
        samples = Samples.of(run, device)
        power, heat = (samples.known(column)[1] for column in ("power_limit_mw", "slowdown_temperature_c"))
        found[device] = Limits(
            float(np.median(power)) / 1000 if len(power) else None, float(np.median(heat)) if len(heat) else None
        )
    return found


@analysis("THR004", topic="limits", picture="clocks")
def power_or_temperature_near_the_limit(trace: Trace) -> Iterator[Finding]:
    """Power or temperature stays near the limit at which the GPU slows down.

    Measures: power and temperature in NVML's busy samples (`telemetry.power_mw`, `temperature_c`; busy as for the
    clock), else the samples of Power and Temperature that Nsight Systems took (`nvml_metrics`) from the first GPU work
    of the inferences to the last, against `telemetry.power_limit_mw` and `slowdown_temperature_c`. A finding where the
    median power is at 95 % of the limit or above it, or the highest temperature within 5 °C of the slowdown. The limits
    have to be in the dataset; without them it does not run, as a limit guessed from the GPU's name can be another than
    the one that is set. Where the inferences last less than a second, which is what NVML averages power over, power is
    said with low confidence.

    Why it matters: at the limit the GPU lowers its clock; near it, a warmer room or one more process does.

    Remedy: raise the power limit (`nvidia-smi -pl`) where the card allows it, improve cooling, or lock a clock that the
    power suffices for (`nvidia-smi -lgc`), which makes latency steady. NVIDIA's TensorRT Best Practices, "GPU Power
    Consumption and Power Throttling" and "GPU Temperature and Thermal Throttling".

    Blind spots: reports of Nsight Systems alone hold power and temperature but not their limits. NVML averages power
    over up to a second, so that short peaks do not show. Memory has a temperature of its own.
    """
    run = Run.of(trace)
    if not len(run.window.start):
        raise trace.lacking("kernels") or CouldNotRun("no GPU work: what an idle GPU draws says nothing")
    short = run.window.end[-1] - run.window.start[0] < AVERAGED_NS
    judged, said = False, ""
    for gpu, limit in limits_of(run).items():
        seen = _of_telemetry(run, gpu) or _of_nsight(run, gpu)
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
        lacking = None if sampled(trace) else trace.lacking("nvml_metrics")
        raise lacking or CouldNotRun("no sample of power or temperature lies in the time in which the GPU works")
    raise CouldNotRun(
        f"the report does not say the GPU's limits ({said})",
        hint="compare with nvidia-smi -q -d POWER,TEMPERATURE",
    )


def _of_telemetry(run: Run, gpu: int) -> _Sampled | None:
    samples = Samples.of(run, gpu)
    power, heat = (samples.known(column)[1] for column in ("power_mw", "temperature_c"))
    return _Sampled(power / 1000, heat.astype(np.float64)) if len(power) or len(heat) else None


def _of_nsight(run: Run, gpu: int) -> _Sampled:
    return _Sampled(nvml_metric(run, gpu, "Power"), nvml_metric(run, gpu, "Temperature"))


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
        Severity.INFO,  # what it costs, the clock tells
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
