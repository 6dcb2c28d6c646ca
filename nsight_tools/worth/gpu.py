"""What the GPU and its link to the host can give: room for blocks, and bytes a nanosecond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints
from nsight_tools.hardware import LANE_BYTES_PER_S
from nsight_tools.run import Run
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace
    from nsight_tools.worth.ranges import Floats

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
    newest = [gpu.newest_link for gpu in Run.of(trace).gpus.facts.values() if gpu.newest_link is not None]
    peak = LANES * LANE_BYTES_PER_S[min(newest, default=3)] / 1e9
    return Range(peak / 2, peak, peak)


_LIMITS = (
    "sm_count",
    "max_warps_per_sm",
    "max_blocks_per_sm",
    "max_registers_per_sm",
    "max_shared_memory_per_sm_bytes",
)


def filled(trace: Trace, row: Ints, kernels: Bools, rows: int | None) -> Floats:
    """What share of the GPU's room for blocks each of these kernels fills on average while it runs; 0 of other work.

    Room by warps, blocks, registers and shared memory of an SM, as `gpus` has them; the last wave counts as it is.
    Where the GPU is not known, a kernel may be small: 0.
    """
    shares = np.zeros(len(row))
    gpu = trace.table("gpus", _LIMITS).slice(0, 1).to_pylist()
    if not gpu or not all(gpu[0][name] for name in _LIMITS) or not kernels.any():
        return shares
    memory = ("static_shared_memory_bytes", "dynamic_shared_memory_bytes")
    axes = [f"{what}_{axis}" for what in ("grid", "block") for axis in "xyz"]
    table = trace.table("kernels", [*axes, "registers", *memory], rows=rows)
    launched = row[kernels]
    if launched.max() >= table.num_rows:
        return shares
    column = {name: ints(table[name])[launched] for name in table.column_names}
    # Blocks of a grid and threads of a block; what a block takes of each that limits how many an SM holds.
    blocks, threads = (np.prod([column[name] for name in part], axis=0) for part in (axes[:3], axes[3:]))
    shared = np.maximum(sum(column[name] for name in memory), 1)
    most = [gpu[0][name] for name in _LIMITS[1:]]
    a_block = [-(-threads // 32), np.ones_like(threads), np.maximum(column["registers"], 1) * threads, shared]
    room = np.maximum(np.min([limit // need for limit, need in zip(most, a_block, strict=True)], axis=0), 1)
    room = room * gpu[0]["sm_count"]
    shares[kernels] = blocks / (np.ceil(blocks / room) * room)
    return shares
