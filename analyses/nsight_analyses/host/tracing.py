"""What a CUDA graph recovers and what tracing costs the host, as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.findings import Evidence
from nsight_tools.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.calibration import Calibrated


def graph_evidence(calibrated: Calibrated) -> Iterator[Evidence]:
    """What a CUDA graph recovers of an inference, where it recovers anything."""
    gain = calibrated.graph_gain
    if not gain.high:
        return
    known = "an estimate of the run" if calibrated.idle_untraced is None else "from CUDA events of a run"
    yield Evidence(
        "a CUDA graph recovers, per inference",
        round(gain.point),
        "ns",
        detail=f"between {duration(gain.low)} and {duration(gain.high)} of GPU time; {known} without the profiler. "
        "Where the host sleeps until the GPU is done, waking takes 20 to 50 µs of the gain back",
    )


def tracing_evidence(calibrated: Calibrated) -> Iterator[Evidence]:
    """What the profiler cost the host, and how that is known."""
    if (known := calibrated.untraced) is not None:
        what, time = (
            ("inference", known.wall) if known.enqueue is None or not known.several else ("enqueue", known.enqueue)
        )
        yield Evidence(
            f"{what} without the profiler, median",
            round(time.point),
            "ns",
            detail=f"{known.inferences} inferences, by the host's clock; tracing added {duration(known.added.point)}",
        )
        return
    tracing = calibrated.tracing
    for name, cost in (("launch call", tracing.call), ("NVTX range", tracing.range)):
        yield Evidence(
            f"tracing adds to a {name}" if name[0] == "l" else f"tracing adds to an {name}",
            round(cost.point),
            "ns",
            detail=f"between {duration(cost.low)} and {duration(cost.high)}, {cost.source}",
        )
