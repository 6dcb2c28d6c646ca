"""What tracing cost the host in each of two runs, where they launch in different ways: the observer effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.result import TracingCost
from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.timeline.observer import SAMPLE, call_cost, graph_node_cost, range_cost

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.trace import Trace


def tracing_cost(run: ComparedRun) -> TracingCost | None:
    """Host time that tracing added to one inference of `run`; None where its API calls were not traced.

    Launch calls, push/pop ranges and nodes of graphs, each by what this trace shows of its cost (`observer`). The wall
    loses no more than this: what the host does while the GPU is busy costs nothing.
    """
    trace = run.trace
    if not trace.rows("api_calls") or not len(run):
        return None
    calls = run.run.calls
    start, end, kind = calls.start, calls.end, calls.kind
    call = call_cost(start, end, kind)
    ranges, each = _ranges(trace, run, start)
    nodes = float(run.column("kernels").mean()) if run.graphs and not run.column("graphs").any() else 0.0
    launched = np.flatnonzero(kind == CallKind.GRAPH_LAUNCH)
    node = graph_node_cost((end - start)[launched], np.full(launched.size, round(nodes)))
    launches = float(run.launch_calls.mean())
    low, point, high = (
        launches * of_call + ranges * of_range + nodes * of_node
        for of_call, of_range, of_node in zip(call.interval, each, node.interval, strict=True)
    )
    return TracingCost(low, point, high)


def _ranges(trace: Trace, run: ComparedRun, calls: Ints) -> tuple[float, tuple[float, float, float]]:
    """Push/pop ranges inside of an inference, and what one cost."""
    table = trace.table("nvtx_ranges", ["start_ns", "end_ns", "domain", "kind", "parent"])
    pushed = words(table["kind"]).among("push_pop")
    start, end = ints(table["start_ns"]), ints(table["end_ns"])
    own = Intervals.union(*(run.column(name).astype(np.int64) for name in ("range_start_ns", "range_end_ns")))
    some = pushed & words(table["domain"]).among("TensorRT")
    some[SAMPLE:] = False
    cost = range_cost(start[some], end[some], ints(table["parent"])[some], calls)
    return float(own.contains(start[pushed]).sum()) / len(run), cost.interval
