"""Clocks, power, heat: did the GPU run as fast as it can while it worked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import Measured, weigh
from nsight_tools.analysis import analysis
from nsight_tools.columns import Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

CLOCKS = ("GPC Clock Frequency", "SM Clock Frequency", "SM Frequency")
"""What Nsight Systems has called the clock of the SMs, by metric set."""
DROP = 0.05
"""A clock that is this far below the GPU's highest is a drop: boost clocks vary by 2 to 3 % under light load."""
SAMPLES = 20
"""Fewer samples inside of kernels than this say nothing of a share of 1 %, which is the threshold."""


@analysis("THR001", needs={"gpu_metrics", "gpus"})
def clock_drops_while_busy(trace: Trace) -> Iterator[Finding]:
    """The GPU's clock drops while kernels run.

    Measures: samples of the GPC clock (`gpu_metrics`) that lie inside of the union of this process' kernels or whole
    graphs, against `gpus.max_sm_clock_mhz`. A finding where at least 1 % of them lie more than 5 % below it; a warning
    where that costs 5 % of the inferences' time. The bound is the kernels' time times the mean shortfall of the clock,
    as if every kernel were bound by the SM clock.

    Why it matters: at a clock that is 10 % lower, kernels that compute take 10 % longer; latency drifts with power and
    temperature, and two runs cannot be compared.

    Remedy: find the cause first: capture with `nsight-tools capture` or watch `nvidia-smi -q -d PERFORMANCE` during the
    run, which name it (power cap, thermal slowdown, a limit that somebody set). Then raise the power limit
    (`nvidia-smi -pl`), improve cooling, or move other load off the card; for stable measurements lock the clocks
    (`nvidia-smi -lgc`) below the point of throttling. NVIDIA's TensorRT Best Practices, "GPU Clock Locking and Floating
    Clock", "GPU Power Consumption and Power Throttling".

    Blind spots: the metrics do not say why a clock is low: a limit that was set on purpose looks the same. Samples are
    means over their period (100 µs at 10 kHz), so drops that are shorter do not show. Kernels bound by memory lose less
    than the bound says.
    """
    measured = Measured.of(trace)
    if not measured.work.computes.any():
        raise CouldNotRun(trace.missing("kernels") or "no kernel ran, so that there is no busy time to judge")
    table = trace.table("gpu_metrics")
    is_clock = words(table["metric"]).where(lambda name: name.startswith(CLOCKS))
    if not is_clock.any():
        raise CouldNotRun("the GPU metrics hold no SM clock; capture with another --gpu-metrics-set")
    time, device = ints(table["time_ns"])[is_clock], ints(table["device"])[is_clock]
    clock = table["value"].to_numpy()[is_clock]
    judged = False
    for gpu in trace.table("gpus").to_pylist():
        highest = gpu["max_sm_clock_mhz"]
        here = device == gpu["device"]
        busy = measured.computing(gpu["device"])
        inside = busy.contains(time[here])
        if not highest or inside.sum() < SAMPLES:
            continue
        judged = True
        yield from _judge(
            measured, trace, busy.total, time[here][inside], clock[here][inside], highest, gpu["name"] or "GPU"
        )
    if not judged:
        raise CouldNotRun(
            f"fewer than {SAMPLES} clock samples lie inside of kernels; capture longer or at a higher frequency"
        )


def _judge(
    measured: Measured, trace: Trace, busy: int, time: Ints, clock: Floats, highest: float, name: str
) -> Iterator[Finding]:
    low = clock < (1 - DROP) * highest
    if low.mean() < 0.01:
        return
    shortfall = float(np.mean(np.maximum(1 - clock / highest, 0)))
    recoverable = round(busy * shortfall)
    lowest = int(np.argmin(clock))
    yield Finding(
        "THR001",
        weigh(recoverable / measured.window_ns, DROP),
        Confidence.MEDIUM,
        f"the {name} runs below {share(1 - DROP)} of its highest clock for {share(float(low.mean()))} of its busy "
        f"time: median {np.median(clock):.0f} of {highest:.0f} MHz",
        f"not recorded in this report{_power(trace)}",
        "find the cause (nvidia-smi -q -d PERFORMANCE during the run: power cap, thermal, or a limit that was set), "
        "then raise the limit, cool better, or take other load off the card; lock the clocks for measurements",
        recoverable,
        measured.per_inference(recoverable),
        "kernel time times the mean shortfall of the clock, as if all kernels were bound by the SM clock",
        (
            Evidence("share of busy samples below 95 % of the highest clock", float(low.mean()), "ratio"),
            Evidence("median clock while busy", float(np.median(clock)), "MHz", detail=f"{len(clock)} samples"),
            Evidence("lowest clock while busy", float(clock[lowest]), "MHz", int(time[lowest]), int(time[lowest])),
            Evidence("highest clock of this GPU", highest, "MHz"),
        ),
    )


def _power(trace: Trace) -> str:
    """What was sampled beside the clock, which is a hint and no proof."""
    table = trace.table("nvml_metrics", ["metric", "value", "unit"])
    said = []
    for metric in ("Power", "Temperature"):
        values = table["value"].to_numpy()[words(table["metric"]).among(metric)]
        if len(values):
            unit = {"Power": "W", "Temperature": "°C"}[metric]
            said.append(
                f"{metric.lower()} was {np.median(values):.0f} {unit} (median), {values.max():.0f} {unit} at most"
            )
    return f"; {' and '.join(said)}" if said else "; neither power nor temperature was sampled"


NEAR_POWER = 0.95
"""The power limit acts on an average over some milliseconds: at 95 % of it single samples reach it."""
NEAR_CELSIUS = 5.0
"""Thermal slowdown comes in steps of a few degrees: this close below it, a warmer room is enough."""


@dataclass(frozen=True)
class Limits:
    """What a GPU may draw and how hot it may become before it slows down; None where the trace does not say."""

    power_w: float | None = None
    slowdown_celsius: float | None = None


def limits_of(trace: Trace) -> dict[int, Limits]:
    """The limits of each GPU that the trace says. Nsight Systems records none; a table that does is read here."""
    del trace
    return {}


@analysis("THR004", needs={"nvml_metrics"})
def power_or_temperature_near_the_limit(trace: Trace) -> Iterator[Finding]:
    """Power or temperature is near the limit at which the GPU slows down.

    Measures: samples of Power and Temperature (`nvml_metrics`) from the first GPU work of the inferences to the last,
    against the GPU's power limit and slowdown temperature. A finding where the median power is at 95 % of the limit or
    above it, or the highest temperature within 5 °C of the slowdown. The limits have to be in the dataset; without them
    it does not run, as a limit guessed from the GPU's name can be another than the one that is set.

    Why it matters: at the limit the GPU lowers its clock (THR001); near it, a warmer room or one more process does.

    Remedy: raise the power limit (`nvidia-smi -pl`) where the card allows it, improve cooling, or lock a clock that the
    power suffices for (`nvidia-smi -lgc`), which makes latency steady. NVIDIA's TensorRT Best Practices, "GPU Power
    Consumption and Power Throttling" and "GPU Temperature and Thermal Throttling".

    Blind spots: reports of Nsight Systems hold power and temperature but not their limits. NVML averages power over up
    to a second, so that short peaks do not show. Memory has a temperature of its own.
    """
    measured = Measured.of(trace)
    if not len(measured.window.start):
        raise CouldNotRun(trace.missing("kernels") or "no GPU work: what an idle GPU draws says nothing")
    table = trace.table("nvml_metrics")
    time = ints(table["time_ns"])
    during = (time >= measured.window.start[0]) & (time <= measured.window.end[-1])
    metric, value = words(table["metric"]), table["value"].to_numpy()
    # The plugin may leave the GPU out: with one GPU at work it is that one.
    working = np.unique(measured.work.device)
    device = np.where(ints(table["device"]) < 0, working[0] if len(working) == 1 else -1, ints(table["device"]))
    limits, judged = limits_of(trace), False
    for gpu, limit in limits.items():
        here = during & (device == gpu)
        power, heat = (value[here & metric.among(name)] for name in ("Power", "Temperature"))
        if len(power) and limit.power_w:
            judged = True
            if np.median(power) >= NEAR_POWER * limit.power_w:
                yield _near("power", float(np.median(power)), float(power.max()), limit.power_w, "W")
        if len(heat) and limit.slowdown_celsius:
            judged = True
            if heat.max() >= limit.slowdown_celsius - NEAR_CELSIUS:
                yield _near("temperature", float(np.median(heat)), float(heat.max()), limit.slowdown_celsius, "°C")
    if not judged:
        sampled = _power(trace).removeprefix("; ")
        raise CouldNotRun(
            f"the report does not say the GPU's limits ({sampled}); compare with nvidia-smi -q -d POWER,TEMPERATURE"
        )


def _near(what: str, median: float, highest: float, limit: float, unit: str) -> Finding:
    return Finding(
        "THR004",
        Severity.INFO,  # what it costs, the clock tells: THR001
        Confidence.HIGH,
        f"{what} is near its limit: {median:.0f} {unit} (median), {highest:.0f} {unit} at most, of {limit:.0f} {unit}",
        "the GPU draws what it may" if what == "power" else "the GPU is about as hot as it may become",
        "raise the power limit (nvidia-smi -pl), or lock a clock that the power suffices for (nvidia-smi -lgc)"
        if what == "power"
        else "improve cooling, or lock a lower clock (nvidia-smi -lgc)",
        evidence=(
            Evidence(f"median {what}", median, unit),
            Evidence(f"highest {what}", highest, unit),
            Evidence(f"limit of {what}", limit, unit),
        ),
    )
