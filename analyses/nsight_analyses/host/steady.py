"""What a thread calls while inferences run: set-up before the first of them is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nsight_tools.run import Run
    from nsight_tools.run.calls import HostCalls


def while_inferences_run(run: Run, calls: HostCalls) -> HostCalls:
    """Those of the calls that their thread makes in its loop, from the begin of its first judged inference on.

    What stands before that is made once, as the graph that all of them launch.
    """
    found = run.flow.during(calls)
    keep = np.zeros(len(found), np.bool_)
    for (pid, tid), turns in run.flow.turns.items():
        first = run.requests.start[turns.rows].min()
        keep |= (found.pid == pid) & (found.tid == tid) & (found.start >= first)
    return found[keep]
