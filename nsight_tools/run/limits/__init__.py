"""What limits each kernel and layer, told from an ordinary trace with GPU metrics.

A sample of GPU metrics is much longer than most kernels, and a mixture of those that ran in it. Requests repeat the
same kernels at other moments of the sampling clock: many samples of them are a system of equations for each kernel's
own share of the hardware's peak.
"""

from nsight_tools.run.limits.table import layer_limits, no_limits, notes, of_positions, why_no_limits
from nsight_tools.run.limits.verdict import NAMES, LayerLimit, Part, needed_bytes, of_kernels, of_layers, of_regions

__all__ = [
    "NAMES",
    "LayerLimit",
    "Part",
    "layer_limits",
    "needed_bytes",
    "no_limits",
    "notes",
    "of_kernels",
    "of_layers",
    "of_positions",
    "of_regions",
    "why_no_limits",
]
