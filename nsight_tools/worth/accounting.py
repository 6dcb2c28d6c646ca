"""Where the time of requests goes without the profiler: their accounting, with what tracing cost taken out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.columns import Ints
    from nsight_tools.worth.price import Pricing
    from nsight_tools.worth.ranges import Floats


@dataclass(frozen=True)
class Accounted:
    """Host buckets and wall of requests without the profiler, each of shape (n,), nanoseconds."""

    launch: Floats
    sync: Floats
    host: Floats
    wall: Floats


def without_profiler(pricing: Pricing, buckets: Mapping[str, Ints]) -> tuple[Accounted, ...]:
    """The accounting of requests if they take the least, the likely and the most that they may without the profiler.

    `buckets` are launch, host, sync and wall of n judged requests, as traced. All others stay as they are: a kernel
    takes no longer under the profiler. What a wall loses, launch and host lose in proportion; with an untraced run the
    wait loses what those do not hold, for the GPU, too, is slower where each node of a graph is traced. Empty where
    nothing tells, and where requests overlap: their walls hold the wait for their turn.
    """
    if pricing.wall is None or pricing.per == "period":
        return ()
    real = pricing.wall.wall
    traced = float(np.median(buckets["wall"]))
    return tuple(
        _less(buckets, max(traced - untraced_ns, 0.0), waits=pricing.untraced is not None)
        for untraced_ns in (real.low, real.point, real.high)
    )


def _less(buckets: Mapping[str, Ints], saved: float, *, waits: bool) -> Accounted:
    launch, host, sync = (buckets[name] for name in ("launch", "host", "sync"))
    both = launch + host
    taken = np.minimum(saved, both)
    of_sync = np.clip(saved - taken, 0, sync) if waits else np.zeros(len(sync))
    left = 1 - taken / np.maximum(both, 1)
    return Accounted(launch * left, sync - of_sync, host * left, buckets["wall"] - taken - of_sync)
