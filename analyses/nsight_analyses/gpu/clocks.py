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
