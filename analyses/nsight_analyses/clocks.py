"""The SM clock of a GPU while it is busy, why it is low, and what to say of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import weigh
from nsight_analyses.telemetry import FEWEST_BUSY, FEWEST_HELD, HEAT, POWER, Reasons, Samples, sampled, why_low
from nsight_tools.columns import Ints, ints, words
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.measured import Measured
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

CLOCKS = ("GPC Clock Frequency", "SM Clock Frequency", "SM Frequency")
"""What Nsight Systems has called the clock of the SMs, by metric set."""
DROP = 0.05
"""A clock that is this far below the GPU's highest is a drop: boost clocks vary by 2 to 3 % under light load."""
SAMPLES = 20
"""Fewer samples inside of kernels than this say nothing of a share of 1 %, which is the threshold."""
NVML = "NVML"
"""The source of few samples, 20 ms apart at 50 Hz."""
HELD_SHARE = 0.01
"""Of the busy time; a clock that is held back more rarely changes no median and no throughput."""


@dataclass(frozen=True)
class SmClock:
    """Samples of the SM clock while a GPU is busy: when (nanoseconds), MHz, the highest it has, and who sampled it."""

    time: Ints
    value: Floats
    highest: float
    source: str

    @property
    def low(self) -> float:
        """Share of the samples that lie more than 5 % below the highest."""
        return float((self.value < (1 - DROP) * self.highest).mean())

    @property
    def drops(self) -> bool:
        """Whether they are so many that it is worth a word; of NVML's few samples three at least."""
        fewest = FEWEST_HELD if self.source == NVML else 1
        return self.low >= HELD_SHARE and self.low * len(self.value) >= fewest

    @property
    def enough(self) -> bool:
        """Whether so many samples, were none of them low, would clear the GPU."""
        return self.source != NVML or len(self.value) >= FEWEST_BUSY

    @property
    def shortfall(self) -> float:
        """How far below the highest it is on average, as a share of it."""
        return float(np.mean(np.maximum(1 - self.value / self.highest, 0)))


@dataclass(frozen=True)
class Gpu:
    """What is known of a working GPU's clock; `clock` is None with too few samples."""

    device: int
    name: str
    clock: SmClock | None
    samples: Samples
    reasons: Reasons

    @classmethod
    def of(cls, measured: Measured, device: int) -> Gpu:
        """What the trace says of a GPU, by its number."""
        rows = measured.trace.table("gpus").to_pylist()
        facts = next((row for row in rows if row["device"] == device), {"name": None, "max_sm_clock_mhz": None})
        samples = Samples.of(measured, device)
        highest = facts["max_sm_clock_mhz"] or samples.highest("max_sm_clock_mhz")
        clock = clock_while_busy(measured, device, samples, highest) if highest else None
        return cls(device, facts["name"] or "GPU", clock, samples, Reasons.of(samples))

    def violations(self) -> dict[str, tuple[int, int]]:
        """Time held back, and the time in which that was counted, by cause; what was recorded."""
        counted = {what: self.samples.violation(f"{what}_violation_ns") for what in ("power", "thermal")}
        return {what: (held, passed) for what, (held, passed) in counted.items() if passed}


def clock_while_busy(measured: Measured, device: int, samples: Samples, highest: float) -> SmClock | None:
    """The clock inside of kernels by the GPU metrics, else in NVML's busy samples; None with too few of both."""
    table = measured.trace.table("gpu_metrics")
    here = words(table["metric"]).where(lambda name: name.startswith(CLOCKS)) & (ints(table["device"]) == device)
    time, value = ints(table["time_ns"])[here], table["value"].to_numpy()[here]
    inside = measured.computing(device).contains(time)
    if inside.sum() >= SAMPLES:
        return SmClock(time[inside], value[inside], highest, "GPU metrics")
    time, value = samples.known("sm_clock_mhz")
    if len(time) >= SAMPLES:
        return SmClock(time, value.astype(np.float64), highest, NVML)
    return None


def judge(measured: Measured, gpu: Gpu) -> Iterator[Finding]:
    """THR001 on one GPU."""
    held = gpu.reasons.held.sum() >= FEWEST_HELD and gpu.reasons.share >= HELD_SHARE
    violated = [what for what, (grown, passed) in gpu.violations().items() if grown >= HELD_SHARE * passed]
    low = gpu.clock is not None and gpu.clock.drops
    if not (held or violated or low):
        return
    told = _power(measured.trace) if not sampled(measured.trace) else ""
    recoverable = round(measured.computing(gpu.device).total * gpu.clock.shortfall) if gpu.clock else None
    throttled = bool(held or violated)
    # Were the GPU itself what lowers the clock, so many of NVML's samples would say so ("rule of three").
    expected = len(gpu.reasons) * gpu.clock.low if gpu.clock else 0.0
    by_choice = not throttled and not gpu.reasons.held.any() and expected >= FEWEST_HELD
    bits = gpu.reasons.counts() if held else {}
    why = why_low(measured, gpu.device) if len(gpu.reasons) else "not recorded in this report"
    if len(gpu.reasons) and not (by_choice or gpu.reasons.held.any()):
        why = f"not known: {len(gpu.reasons)} busy samples of NVML's name no reason, which is too few to exclude any"
    counters = " and ".join(
        f"{what} held it back for {share(gpu.violations()[what][0] / gpu.violations()[what][1])} of the time by NVML's "
        "counter"
        for what in violated
    )
    power = "power" in violated or any(bit in POWER for bit in bits)
    heat = "thermal" in violated or any(bit in HEAT for bit in bits)
    yield Finding(
        "THR001",
        Severity.INFO if by_choice or recoverable is None else weigh(recoverable / measured.window_ns, DROP, measured),
        Confidence.HIGH if throttled and (low or len(gpu.reasons) >= FEWEST_BUSY) else Confidence.MEDIUM,
        _message(gpu, held=bool(held), low=low, violated=violated),
        "; ".join(part for part in (why if held or not counters else "", counters) if part) + told,
        _remedy(power=power, heat=heat, known=throttled, by_choice=by_choice),
        recoverable,
        None if recoverable is None else measured.per_inference(recoverable),
        "kernel time times the mean shortfall of the clock, as if all kernels were bound by the SM clock"
        if gpu.clock
        else "",
        tuple(_evidence(gpu)),
        # Power or heat at its limit is then what lowers the clock, and the same thing.
        explains=("THR004",) if power or heat else (),
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
    grown, passed = max((gpu.violations()[what] for what in violated), key=lambda one: one[0] / one[1])
    return f"the {gpu.name} holds its clock back for {share(grown / passed)} of its busy time{at}"


def _remedy(*, power: bool, heat: bool, known: bool, by_choice: bool) -> str:
    if by_choice:
        return (
            "nothing, if the clock was lowered on purpose, to make times comparable; otherwise reset it (nvidia-smi "
            "-rgc for locked clocks, -rac for application clocks)"
        )
    lock = "; lock the clocks for measurements"
    said = ["raise the power limit (nvidia-smi -pl), or take other load off the card"] * power
    said += ["improve cooling: air flow, fans, the room"] * heat
    if said or known:
        return (" and ".join(said) or "see nvidia-smi -q -d PERFORMANCE, which explains the reason") + lock
    return (
        "find the cause (nvidia-smi -q -d PERFORMANCE during the run: power cap, thermal, or a limit that was set), "
        "then raise the limit, cool better, or take other load off the card" + lock
    )


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
    said = []
    for metric in ("Power", "Temperature"):
        values = table["value"].to_numpy()[words(table["metric"]).among(metric)]
        if len(values):
            unit = {"Power": "W", "Temperature": "°C"}[metric]
            said.append(
                f"{metric.lower()} was {np.median(values):.0f} {unit} (median), {values.max():.0f} {unit} at most"
            )
    return f"; {' and '.join(said)}" if said else "; neither power nor temperature was sampled"
