"""Clocks, power, heat: did the GPU run as fast as it can while it worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import Measured, weigh
from nsight_tools.analysis import analysis
from nsight_tools.columns import Ints, ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding
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
    where the clock is lower by 5 % on average. The bound is the kernels' time times the mean shortfall of the clock, as
    if every kernel were bound by the SM clock.

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
        weigh(shortfall, DROP),
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
