"""What tracing costs the host, as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.findings import Evidence
from nsight_tools.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.worth import Pricing


def tracing_evidence(pricing: Pricing) -> Iterator[Evidence]:
    """What the profiler cost the host, and how that is known."""
    if (wall := pricing.wall) is not None and pricing.per == "wall":
        ends = f"between {duration(wall.wall.low)} and {duration(wall.wall.high)}; "
        yield Evidence("an inference without the profiler", round(wall.wall.point), "ns", detail=f"{ends}{wall.source}")
        return
    cost = pricing.host.launch
    yield Evidence(
        "tracing adds to a launch",
        round(cost.point),
        "ns",
        detail=f"between {duration(cost.low)} and {duration(cost.high)}, by how long launches take",
    )
