"""What limits each kernel and layer, told from an ordinary trace with GPU metrics.

A sample of GPU metrics is much longer than most kernels, and a mixture of those that ran in it. Requests repeat the
same kernels at other moments of the sampling clock: many samples of them are a system of equations for each kernel's
own share of the hardware's peak.
"""

from nsight_tools.run.limits.table import layer_limits, notes, why_no_limits

__all__ = ["layer_limits", "notes", "why_no_limits"]
