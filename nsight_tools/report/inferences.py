"""What is measured of inferences beside the parts of one, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.units import plural

if TYPE_CHECKING:
    from nsight_tools.summary import Times

OVERLAPPING = 1.02
"""Inferences at a time, on average, from which on they are said to overlap."""


def beside(times: Times | None) -> str:
    """What is measured beside the buckets; empty without inferences that the GPU was seen to work for."""
    if times is None or not times.gpu_busy_share:
        return ""
    parts = [f"a GPU works for {units.share(times.gpu_busy_share)} of the time"]
    if times.hidden_copy_ns:
        parts.append(f"{units.duration(times.hidden_copy_ns)} of copies run beside its kernels")
    parts.append(f"a piece of its work begins {units.duration(times.queue_delay_ns)} after its call")
    return f"{_left_out(times)}In the median inference {', '.join(parts)}.{_overlap(times)}"


def _left_out(times: Times) -> str:
    """How many inferences are left out, for they launched nothing, or warm up."""
    left_out = (
        f"{plural(times.without_work, 'inference')} that launched nothing left out. " if times.without_work else ""
    )
    if times.warm_up:
        left_out += (
            f"{plural(times.warm_up, 'inference')} of the warm-up left out, which took "
            f"{units.duration(times.warm_up_ns)} longer. "
        )
    return left_out


def _overlap(times: Times) -> str:
    """How many inferences are under way at a time, where they overlap, and what they are judged by then."""
    overlap = f" {times.at_a_time:.2f} are under way at a time." if times.at_a_time >= OVERLAPPING else ""
    if times.period_ns is None:
        return overlap
    took, wall = (units.duration(each) for each in (times.period_ns, times.wall_median_ns))
    return (
        f"{overlap} What counts is the time from one inference to the next, {took}, and not the {wall} that each takes."
    )
