"""What tracing cost the wall of requests at most, and how a time without the profiler is known, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints

if TYPE_CHECKING:
    from nsight_tools.columns import Bools
    from nsight_tools.run import Run
    from nsight_tools.worth.host import HostCosts

REPLAYED = "a replay of the trace without what tracing may have cost"
BOUNDED = "the traced run, less what tracing may cost"


def lost_of_wall(run: Run, host: HostCosts, judged: Bools) -> tuple[float, float]:
    """What tracing cost these requests' wall, likely and at most, ns: the host is free of cost while the GPU works."""
    table = run.trace.table("inferences", ["launch_ns", "host_ns"])
    alone = (ints(table["launch_ns"]) + ints(table["host_ns"]))[judged]
    _, likely, most = (float(np.median(np.minimum(cost[judged], alone))) for cost in host.of_requests)
    return likely, most
