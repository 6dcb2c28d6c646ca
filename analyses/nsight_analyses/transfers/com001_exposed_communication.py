"""Communication between GPUs that nothing hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import worst
from nsight_tools.analysis import analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.collectives import waiting
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.run.collectives import Rank, Waiting
    from nsight_tools.trace import Trace

EXPOSED_WARNING = 0.1
MOSTLY = 0.5
"""A rank that waits for a peer for more than half of its communication has no network to blame."""
UNEVEN = 3.0
"""Collectives whose mean is so many times their median: a few take most of the time, as where a peer is late."""


@analysis(
    "COM001", needs={"kernels"}, topic="communication", bucket=("exposed_communication",), warns_from=EXPOSED_WARNING
)
def exposed_communication(trace: Trace) -> Iterator[Finding]:
    """Kernels that only communicate with other GPUs run while nothing computes.

    Measures: for each process and GPU, the union of its communication kernels (`kernels.communicates`: NCCL's and
    others' collectives) less that of its other kernels, inside of inferences. A finding from 2.5 % of the inference
    time on, a warning from 10 % on. The bound is that time. Where several ranks are in the report and make the same
    collectives, what a rank waits for the last one to begin is told apart from the transfer, which takes from then on.
    In a report of one rank that cannot be known: where the mean collective takes three times the median, a few of them
    wait, most likely.

    Why it matters: while a GPU communicates, its SMs do little else. A rank that comes early waits inside of its
    kernel, which looks like work: no network makes that shorter.

    Remedy: for the transfer: overlap it with the next layer's compute, send fewer bytes (fused or quantized
    all-reduce), use fewer ranks, or a faster link (NVLink instead of PCIe). For waiting: find why the late rank is
    late: more work, slower launches, another process.

    Blind spots: communication is known by kernels' names. Copies between GPUs are not counted. Ranks in reports of
    their own have clocks of their own: analyze them together.
    """
    run = Run.of(trace)
    found = run.ranks
    if not found:
        raise NotApplicable("no kernel communicates with another GPU")
    waits = waiting(found, one_clock=True)
    for at, rank in enumerate(found):
        if rank.exposed < NOISE_SHARE * run.gpus.window(rank.device).total:
            continue
        yield _finding(run, found, rank, waits[at] if waits else None, waits)


def _finding(
    run: Run, group: Sequence[Rank], rank: Rank, own: Waiting | None, waits: Sequence[Waiting] | None
) -> Finding:
    exposed = rank.each_exposed
    part = rank.exposed / run.gpus.window(rank.device).total
    where = f"GPU {rank.device}" if len(group) > 1 else "the GPU"
    what = "communication (NCCL or other collectives)"
    cause, remedy, waited = _told(group, rank, own, waits)
    return Finding(
        "COM001",
        Severity.WARNING,
        Confidence.HIGH if own is not None else Confidence.MEDIUM,
        f"{where} runs {what} with nothing beside it for {share(part)} of the {run.time}"
        + (f", {duration(exposed)} of each inference (median)" if rank.requests else "")
        + f": {share(rank.exposed / max(rank.time, 1))} of its communication is exposed",
        cause,
        remedy,
        act="let communication run beside kernels",
        evidence=(
            Evidence("exposed communication", rank.exposed, "ns"),
            Evidence("communication", rank.time, "ns", detail=f"{rank.start.size:,} kernels"),
            Evidence("median of a communication kernel", round(float(np.median(rank.duration))), "ns"),
            Evidence("other kernels", rank.other, "ns"),
            *waited,
            *worst("longest", rank.start, rank.end),
        ),
        loss=Loss(
            rank.exposed,
            part,
            "communication of this GPU while none of its other kernels runs",
            per_inference_ns=exposed if rank.requests else None,
        ),
    )


def _told(
    group: Sequence[Rank], rank: Rank, own: Waiting | None, waits: Sequence[Waiting] | None
) -> tuple[str, str, list[Evidence]]:
    """Cause, remedy and what of it is waiting."""
    overlap = (
        "overlap communication with the compute of the next layer, send fewer bytes (a fused or quantized all-reduce), "
        "or use fewer ranks"
    )
    if own is not None and waits is not None:
        evidence = [Evidence("of it waiting for a peer", own.total, "ns", detail=f"{duration(own.each)} an inference")]
        late = group[int(np.argmin([each.total for each in waits]))]
        if own.total >= MOSTLY * rank.time:
            return (
                (
                    f"most of it is waiting: this rank begins its collectives early and waits {duration(own.each)} of "
                    f"each inference for GPU {late.device}, which begins last"
                ),
                (
                    f"find why the rank on GPU {late.device} is late: its kernels take {duration(late.other)} in all, "
                    f"this rank's {duration(rank.other)}; a faster network would not help"
                ),
                evidence,
            )
        said = f"; {duration(own.each)} of each inference of it is waiting for a peer" if own.each else ""
        return (
            f"collectives stand between the layers, on their stream: nothing computes meanwhile{said}",
            overlap,
            evidence,
        )
    length = rank.duration
    if len(group) < 2 and float(length.mean()) >= UNEVEN * float(np.median(length)):
        return (
            (
                "collectives stand between the layers, and a few of them take most of the time: they wait for a peer, "
                "most likely, which a report of this rank alone cannot show"
            ),
            "analyze the reports of all ranks together, which tells who is late; for the rest, " + overlap,
            [Evidence("mean of a communication kernel", round(float(length.mean())), "ns")],
        )
    why = "without that peer's report" if len(group) < 2 else "where the ranks of this report make other collectives"
    return (
        (
            "collectives stand between the layers, on their stream: nothing computes meanwhile; what of it is waiting "
            f"for a peer cannot be told {why}"
        ),
        overlap,
        [],
    )
