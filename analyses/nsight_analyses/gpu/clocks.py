"""What is known of a working GPU's clock, and of why it is held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.run.samples import Reasons, Samples, SmClock, busy_clock

if TYPE_CHECKING:
    from nsight_tools.run import Run


@dataclass(frozen=True)
class Gpu:
    """What is known of a working GPU's clock; `clock` is None with too few samples."""

    device: int
    name: str
    clock: SmClock | None
    samples: Samples
    reasons: Reasons

    @classmethod
    def of(cls, run: Run, device: int) -> Gpu:
        """What the trace says of a GPU, by its number."""
        samples = Samples.of(run, device)
        name = run.gpus.of(device).name or "GPU"
        return cls(device, name, busy_clock(run, device), samples, Reasons.of(samples))

    def violations(self) -> dict[str, tuple[int, int]]:
        """Time held back, and the time in which that was counted, by cause; what was recorded."""
        counted = {what: self.samples.violation(f"{what}_violation_ns") for what in ("power", "thermal")}
        return {what: (held, passed) for what, (held, passed) in counted.items() if passed}


_POWER = "take other load off the card, which draws from the same power, or raise its power limit (nvidia-smi -pl)"
_COOLING = "improve cooling: air flow, fans, the room"


@dataclass(frozen=True)
class Remedy:
    """What raises a clock, in a few words and in a sentence."""

    act: str
    said: str


def remedy(*, power: bool, heat: bool, by_choice: bool, known: bool) -> Remedy:
    """What raises a GPU's clock, by what holds it down: power, heat, somebody who locked it, or none of these.

    `known` where NVML names a reason, though it is neither power nor heat.
    """
    if by_choice:
        return Remedy(
            "see whether the clock was lowered on purpose",
            "nothing, if the clock was lowered on purpose, to make times comparable; otherwise reset it (nvidia-smi "
            "-rgc for locked clocks, -rac for application clocks)",
        )
    if power and heat:
        return Remedy("give the GPU more power and cooling", f"{_POWER} and {_COOLING}")
    if power:
        return Remedy("take other load off or raise the power limit", _POWER)
    if heat:
        return Remedy("cool the GPU better", _COOLING)
    if known:
        return Remedy("find what lowers the GPU's clock", "see nvidia-smi -q -d PERFORMANCE, which explains the reason")
    return Remedy(
        "find what lowers the GPU's clock",
        "find the cause (nvidia-smi -q -d PERFORMANCE during the run: power cap, thermal, or a limit that was set), "
        "then raise the limit, cool better, or take other load off the card",
    )
