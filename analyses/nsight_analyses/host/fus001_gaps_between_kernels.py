"""Gaps between the kernels of an inference: what they wait for, and what is left of them without the profiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.host.tracing import tracing_evidence
from nsight_analyses.measure import EXAMPLES, as_a_graph, worst
from nsight_tools.analysis import HOST, analysis
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.timeline.intervals import pieces
from nsight_tools.units import duration, share
from nsight_tools.worth import Pricing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

GAP_SHARE = 0.05

_KINDS = ("launch", "host", "dependency", "graph", "hole")

_CAUSES = {
    "host": "its thread does something else than launch: it waits, allocates or loads something, or runs the program's "
    "own code between two launches",
    "launch": "kernels finish before the host has launched the next one",
    "dependency": "the next kernel was launched long before: the GPU takes about 1 µs from one dependent kernel of a "
    "stream to the next",
}
_NAMES = {"host": "host", "launch": "launch-starved", "dependency": "dependency"}
_OF_HOST = (
    "look at the windows below in Nsight Systems: what does the thread do there? Move it out of the inference, or to "
    "another thread"
)
_BETWEEN_DEPENDENT = "; in a graph, the gap between dependent kernels is about 0.1 µs"


@analysis(
    "FUS001",
    needs={"kernels", "api_calls", "inferences"},
    topic="gaps",
    bucket=HOST,
    picture="layers",
)
def gaps_between_kernels(trace: Trace) -> Iterator[Finding]:
    """The GPU idles between the kernels of an inference.

    Measures: for each inference, the time between the first `start_ns` and the last `end_ns` of its kernels in which
    nothing that was traced runs on the GPU; from 5 % of the inferences' time on. By the `launches` row that ends it,
    each gap is one of

    * dependency: its call had returned (`call_end_ns`) before the gap began. The work was there; about 1 µs between
      dependent kernels of a stream, 0.1 µs inside of a CUDA graph
    * launch-starved: its call had not returned, and its thread was launching
    * host: the same, but its thread had waited, allocated, loaded or built something, or had done something else for
      50 µs and for ten times what it usually takes from one launch to the next
    * hole: its call had returned, and yet it began more than 50 µs later: it waited for something that this rule does
      not judge. No number here has holes in it

    Tracing slows the host. What that cost is taken off the waits for a launch, down to a dependency gap: as a replay of
    the requests without the profiler tells, or an untraced run, and elsewhere as a range by what launches usually cost.
    A warning where waits for the host are most of what is left, and 10 % of the inferences' time come back even if
    tracing costs most; otherwise an info. Silent where most of what is left stands between the nodes of CUDA graphs:
    launching them is as quick as it gets. Where an untraced run had several inferences in flight and left its GPU no
    time to idle, they fill each other's gaps: then this cannot be judged.

    Where the whole inference is enqueue-bound, that is the finding that this one follows from.

    Why it matters: small kernels finish before the next one is launched; the GPU is idle though there is work.

    Remedy: a CUDA graph (trtexec `--useCudaGraph`, the default from TensorRT 11 on; `cudaStreamBeginCapture` around
    `enqueueV3`, after one enqueue to warm up) launches the whole inference at once; or a larger batch; or fewer, larger
    kernels (fusion). NVIDIA's TensorRT Best Practices, "CUDA Graphs" and "Enqueue-Bound Workloads and CUDA Graphs".

    Blind spots: what another process runs in a gap is not in the report. What tracing cost is an estimate: an untraced
    run is the truth. Where kernels of several streams overlap, time is only counted while all of them idle.
    """
    run, pricing = Run.of(trace), Pricing.of(trace)
    work = run.work
    if not np.any(run.judged_work & (work.inference >= 0) & work.computes & (work.call_end >= 0)):
        raise CouldNotRun("no kernel of an inference can be joined to the API call that launched it")
    gaps = run.gaps
    total = int(gaps.length[~gaps.hole].sum())
    if total / run.window_ns < GAP_SHARE:
        return
    kind = np.where(
        gaps.host, gaps.paused, np.where(gaps.hole, np.int8(4), np.where(gaps.graph, np.int8(3), np.int8(2)))
    )
    traced = _by_kind(kind, gaps.length)
    left = _left(run, pricing, kind, traced)
    main = _main({name: spans[1] for name, spans in left.items()})
    if main == "graph":
        return
    waiting = left["launch"][2] + left["host"][2]
    starved = main in {"launch", "host"} and left["launch"][1] + left["host"][1] >= GAP_SHARE * run.window_ns
    most = _most(run, pricing, total - traced["graph"])
    if most < NOISE_SHARE * run.window_ns:
        return
    rows = _longest(gaps.length, kind == _KINDS.index(main))
    yield Finding(
        "FUS001",
        Severity.WARNING if starved else Severity.INFO,
        Confidence.MEDIUM if starved == (waiting >= GAP_SHARE * run.window_ns) else Confidence.LOW,
        f"the GPU is idle between the kernels of an inference for {share(total / run.window_ns)} of the inference "
        + _said(total, left, main),
        _CAUSES[main],
        _OF_HOST if main == "host" else as_a_graph(run) + (_BETWEEN_DEPENDENT if main == "dependency" else ""),
        act="close the gaps between kernels",
        evidence=(
            Evidence("idle between kernels", total, "ns"),
            Evidence("of it launch-starved", traced["launch"], "ns", detail=_between(left["launch"])),
            Evidence("of it the host does something else", traced["host"], "ns", detail=_between(left["host"])),
            Evidence("of it between kernels already launched", traced["dependency"] + traced["graph"], "ns"),
            *tracing_evidence(pricing),
            *worst(f"longest {_NAMES[main]} gap", gaps.start[rows], gaps.end[rows]),
        ),
        change=() if main == "host" else (Change("use_cuda_graph"),),
        loss=Loss(
            most,
            min(waiting, most) / run.window_ns,
            "the gaps as they were traced, but those in CUDA graphs: the profiler makes a part of them",
        ),
    )


def _left(run: Run, pricing: Pricing, kind: IntArray, traced: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """What is left of the gaps by kind if tracing cost least, likely and most, ns.

    Only waits for a launch get shorter, and no further than to a gap between dependent kernels.
    """
    gaps, shorter = run.gaps, pricing.shorter
    waits = _by_kind(kind, np.where(gaps.host, np.maximum(gaps.length - gaps.least, 0), 0))
    launch = tuple(
        max(waits["launch"] - round(cost * run.count), 0) for cost in (shorter.low, shorter.point, shorter.high)
    )
    dependency = sum(traced[name] for name in ("launch", "host", "dependency")) - waits["launch"] - waits["host"]
    return {
        "launch": launch,
        "host": (waits["host"],) * 3,
        "dependency": (dependency,) * 3,
        "graph": (traced["graph"],) * 3,
    }


def _most(run: Run, pricing: Pricing, total: int) -> int:
    """What of the gaps can come back, ns: no more than an untraced run leaves the GPU idle, where there is one.

    Raises CouldNotRun where inferences were in flight there that fill each other's gaps.
    """
    known, room = pricing.untraced, pricing.room
    if known is None or known.period is None or room is None:
        return total
    if room < NOISE_SHARE * known.period and pricing.per == "period":
        raise CouldNotRun(
            f"without the profiler {duration(known.period)} pass for an inference, no more than its work takes the "
            "GPU: others fill the gaps that stand here",
            hint="capture one stream to see what is left of them",
        )
    return min(total, round(room * run.count))


def _main(left: dict[str, int]) -> str:
    """What most of it is: a wait for the host, whichever, or one of the others."""
    host = left["launch"] + left["host"]
    others = {name: left[name] for name in ("dependency", "graph")}
    other = max(others, key=others.__getitem__)
    return other if others[other] > host else max(("launch", "host"), key=left.__getitem__)


def _by_kind(kind: IntArray, time: Ints) -> dict[str, int]:
    sums = np.zeros(len(_KINDS))
    for piece in pieces(len(kind)):
        np.add.at(sums, kind[piece], time[piece])
    return dict(zip(_KINDS, sums.astype(np.int64).tolist(), strict=True))


def _longest(length: Ints, chosen: Bools) -> Ints:
    """Rows of the longest, a few more than are shown."""
    rows = np.flatnonzero(chosen)
    if rows.size <= EXAMPLES:
        return rows
    bar = np.partition(length[rows], rows.size - EXAMPLES)[rows.size - EXAMPLES]
    longest: Ints = rows[length[rows] >= bar]
    return longest


def _said(total: int, left: dict[str, tuple[int, ...]], main: str) -> str:
    likely = sum(point for _, point, _ in left.values())
    waits = main in {"launch", "host"}
    where = "waits for the host" if waits else "stands between kernels that were already launched"
    if likely < 0.9 * total:
        return f"time; {share(1 - likely / total)} of that is the profiler's own cost, most of the rest {where}"
    return f"time; most of it {where}"


def _between(left: tuple[int, ...]) -> str:
    least, most = duration(left[2]), duration(left[0])
    return f"{duration(left[1])} without the profiler" + (f", between {least} and {most}" if least != most else "")
