"""The PCIe link of a GPU: what it gives, by what NVML sampled of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Ints, ints
from nsight_tools.hardware import LANE_BYTES_PER_S
from nsight_tools.run.samples import FEWEST_HELD, Samples
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.worth.known import PINNED_SHARE

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.run import Run


@dataclass(frozen=True)
class Link:
    """What a link gives in one direction, bytes per second, and how that is known."""

    gives: float
    known_by: str
    peak: float = 0.0
    full: float = 0.0
    """Peak of the best link that GPU and slot can have; 0 where it is not known, or too few samples tell."""
    name: str = ""
    beside: str = ""
    """That best link's name, where this one is worse."""
    loaded: int = 0
    """Samples taken while copies ran."""


def recorded_link(run: Run, device: int) -> Link | None:
    """The link as sampled while copies ran, else at any time; the best sample, for links train down when they idle."""
    samples = Samples.of(run, device)
    names = ("pcie_generation", "pcie_width", "pcie_max_generation", "pcie_max_width")
    generation, width, most, widest = (ints(samples.table[name]) for name in names)
    known = np.isin(generation, list(LANE_BYTES_PER_S)) & (width > 0)
    copies = run.copies[run.copies.kind.among("h2d", "d2h") & (run.copies.device == device)]
    loaded = known & samples.near(Intervals.union(copies.start, copies.end))
    rows = np.flatnonzero(loaded if loaded.any() else known)
    if not rows.size:
        return None
    peak = _lane(generation) * width
    best = rows[np.argmax(peak[rows])]
    widened = known & np.isin(most, list(LANE_BYTES_PER_S)) & (widest > 0)
    top = int(np.argmax(np.where(widened, _lane(most) * widest, 0)))
    full, beside = 0.0, ""
    if widened.any() and loaded.sum() >= FEWEST_HELD:
        full = float((_lane(most) * widest)[top])
        beside = f"PCIe {most[top]}.0 x{widest[top]}" if full > peak[best] else ""
    name = f"PCIe {generation[best]}.0 x{width[best]}"
    best_peak = float(peak[best])
    return Link(
        PINNED_SHARE.point * best_peak, f"a {name} link gives", best_peak, full, name, beside, int(loaded.sum())
    )


def _lane(generation: Ints) -> npt.NDArray[np.float64]:
    """Bytes per second of one lane; 0 for a generation that is not known."""
    by_generation = np.zeros(max(LANE_BYTES_PER_S) + 1)
    by_generation[list(LANE_BYTES_PER_S)] = list(LANE_BYTES_PER_S.values())
    found: npt.NDArray[np.float64] = np.where(
        np.isin(generation, list(LANE_BYTES_PER_S)), by_generation[np.clip(generation, 0, max(LANE_BYTES_PER_S))], 0.0
    )
    return found


def newest_link(run: Run, device: int) -> float | None:
    """Peak of the best link that GPU and slot can have by NVML, else of 16 lanes of the GPU's own generation."""
    samples = Samples.of(run, device)
    generation, width = (samples.highest(name) for name in ("pcie_max_generation", "pcie_max_width"))
    if generation in LANE_BYTES_PER_S and width:
        return width * LANE_BYTES_PER_S[generation]
    newest = run.gpus.of(device).newest_link
    return None if newest is None else 16 * LANE_BYTES_PER_S[newest]
