"""What the link between a host and its GPU gives a pinned copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints
from nsight_tools.hardware import LANE_BYTES_PER_S, NEWEST_LINK
from nsight_tools.worth.assumptions import Range

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

LANES = 16
"""What a data-centre GPU's slot has. Off by two where it has 8: the range begins there."""


def peak_of(trace: Trace) -> Range:
    """The link's peak in one direction, bytes per ns: as NVML saw it, else that of the GPU's generation, 16 lanes.

    Where nobody saw it, it may be a generation older (half as much). Of several GPUs the slowest.
    """
    table = trace.table("telemetry", ["pcie_max_generation", "pcie_max_width"])
    generation, width = (ints(table[name]) for name in table.column_names)
    seen = np.isin(generation, list(LANE_BYTES_PER_S)) & (width > 0)
    if seen.any():
        peak = LANE_BYTES_PER_S[int(generation[seen].min())] * int(width[seen].min()) / 1e9
        return Range(0.8 * peak, peak, peak)
    majors = [gpu["compute_major"] for gpu in trace.table("gpus", ["compute_major"]).to_pylist()]
    known = [NEWEST_LINK[major] for major in majors if major in NEWEST_LINK]
    peak = LANES * LANE_BYTES_PER_S[min(known, default=3)] / 1e9
    return Range(peak / 2, peak, peak)
