"""Two traces of which nobody knows what an inference is: kernels of the same name and grid, call by call.

Windows cut out of two programs hold as much of them as fits: totals say how long the windows are. What can be said is
how long one call of the same kernel takes, how often it is called in a second, and how busy the GPUs are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.judge import of_series, unjudged
from nsight_tools.comparison.resampling import ENOUGH, thinned
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.comparison.result import Difference
    from nsight_tools.trace import Trace

MOST = 24
"""Kernels that are compared: those with the most time."""
CALLS = 1_000
"""Calls of one kernel that are resampled, as means of neighbours where there are more."""
PACE = "pace of the kernels that both have"


def kernels(before: Trace, after: Trace) -> tuple[Difference, ...]:
    """One call of each kernel (name and grid) that both traces have often enough, the most time first."""
    sides = [_calls(trace) for trace in (before, after)]
    both = [key for key in sides[0] if key in sides[1] and min(sides[0][key].size, sides[1][key].size) >= ENOUGH]
    both = sorted(both, key=lambda key: (-sides[0][key].sum(), key))[:MOST]
    differences = []
    for name, grid in both:
        series = (thinned(side[name, grid].astype(np.float64), CALLS) for side in sides)
        differences.append(of_series(f"{name} {grid}", "ns", *series, beside=len(both)))
    return tuple(differences)


def work(before: Trace, after: Trace) -> tuple[Difference, ...]:
    """How busy the GPUs were, and how fast the work went by; how much that varies is not known."""
    summaries = [summarize(trace) for trace in (before, after)]
    windows = [float(summary.window_ns or 0) for summary in summaries]
    rows = [unjudged("time between first and last GPU work", "ns", windows[0], windows[1])]
    kinds = dict.fromkeys(row.kind for summary in summaries for row in summary.time)
    for kind in kinds:
        shares = [next((row.share for row in s.time if row.kind == kind), 0.0) for s in summaries]
        rows.append(unjudged(f"share of the time: {kind}", "ratio", shares[0], shares[1]))
    pace = _pace(before, after, windows)
    if pace is not None:
        detail = "calls in a second of the kernels (name and grid) that both have, weighted by their time before"
        rows.append(unjudged(PACE, "ratio", 1.0, pace, detail))
    return tuple(rows)


def _pace(before: Trace, after: Trace, windows: list[float]) -> float | None:
    sides = [_calls(trace) for trace in (before, after)]
    common = [key for key in sides[0] if key in sides[1] and sides[0][key].size >= ENOUGH]
    if not common or not all(windows):
        return None
    weight = np.array([sides[0][key].sum() for key in common], np.float64)
    rates = [np.array([side[key].size for key in common]) / window for side, window in zip(sides, windows, strict=True)]
    return float((weight * rates[1] / rates[0]).sum() / weight.sum())


def _calls(trace: Trace) -> dict[tuple[str, str], Ints]:
    """Durations in order of time, by short name and grid."""
    table = trace.table("kernels", ["start_ns", "end_ns", "short_name", "grid_x", "grid_y", "grid_z"])
    if not table.num_rows:
        return {}
    name = words(table["short_name"])
    columns = np.stack([name.codes, *(ints(table[f"grid_{axis}"]) for axis in "xyz")])
    groups, member = np.unique(columns, axis=1, return_inverse=True)
    duration = ints(table["end_ns"]) - ints(table["start_ns"])
    order = np.argsort(member.ravel(), kind="stable")
    bounds = np.searchsorted(member.ravel()[order], np.arange(1, groups.shape[1]))
    parts = np.split(duration[order], bounds)
    durations: dict[tuple[str, str], Ints] = {}
    for (code, x, y, z), calls in zip(groups.T.tolist(), parts, strict=True):
        durations[name.dictionary[code], f"{x}x{y}x{z}"] = calls
    return durations
