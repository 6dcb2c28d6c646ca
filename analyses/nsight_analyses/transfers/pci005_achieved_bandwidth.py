"""The link between host and GPU: does it give what it should."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nsight_analyses.measure import worst
from nsight_analyses.transfers.copies import BANDWIDTH_BYTES, DIRECTIONS, large_pinned, size_of, transfers
from nsight_analyses.transfers.link import Link, newest_link, recorded_link
from nsight_tools.analysis import COPIES, analysis
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.units import duration, rate, share
from nsight_tools.worth.known import PINNED_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.work import Copies
    from nsight_tools.trace import Trace

SLOW_SHARE = 0.6
"""Below this share of what the link gives something stands in the way; neighbours and odd sizes cost less."""


@analysis("PCI005", needs={"memory_ops"}, topic="link", bucket=COPIES, picture="transfers")
def achieved_bandwidth(trace: Trace) -> Iterator[Finding]:
    """Large pinned copies are slower than the link allows.

    Measures: for each GPU and direction, the median of size_bytes / (end_ns - start_ns) over pinned copies of 1 MB and
    more in the steady state, against what the link gives: 83 % of its peak where `telemetry` recorded its generation
    and width (the best sample while copies ran), else the rate that the best tenth of the trace's own pinned copies
    reach. Below 60 % of it is a finding, if these copies run for 2.5 % of the steady state with no kernel beside them;
    from 10 % on it is a warning. A finding too, where 3 samples and more were taken while copies ran, in none of them
    the link had the generation and width that GPU and slot can have (`pcie_max_generation`, `pcie_max_width`), and the
    copies are no faster than that: links train down when they idle, and only then.

    Peak in one direction, x16: 15.75 (3.0), 31.5 (4.0), 63.0 GB/s (5.0). Where the link was not recorded, copies that
    reach 60 % of what the best link of GPU and slot gives (by NVML, else 16 lanes of the GPU's own generation) are
    clear, and of slower ones it cannot be told whether the link is narrow or old, or something stands in the way.

    Why it matters: a card in a slot with fewer lanes, a riser or a link that trained down, or a buffer on the far NUMA
    node halves the rate, and every copy takes twice as long. None of that is visible in the program.

    Remedy: look with `nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current --format=csv` while copies
    run; another slot; `numactl --cpunodebind` to the GPU's own node, where buffers are allocated. NVIDIA's TensorRT
    Best Practices, "H2D/D2H Data Transfers and PCIe Bandwidth".

    Blind spots: copies below 1 MB are bound by latency and say nothing of the link; pageable ones are bound by the
    driver's own copying. Other GPUs behind the same switch, and other processes, share the link unseen.
    """
    run = Run.of(trace)
    copies = _over_a_link(run)
    unknown = []
    for device, (kind, direction) in product(np.unique(copies.device).tolist(), DIRECTIONS):
        if not len(chosen := large_pinned(copies, kind, device)):
            continue
        reached = float(np.median(_rates(chosen)))
        said = _slow(run, device, kind, direction, reached)
        if said is None:
            if _is_unknown(run, device, reached):
                unknown.append(f"{direction} copies reach {rate(reached)} (GPU {device}, median)")
        elif run.gpus.share(run.gpus.exposed(chosen), chosen.device) >= NOISE_SHARE:
            yield _finding(run, chosen, kind, reached, said, _small(copies, kind, device))
    if unknown:
        raise CouldNotRun(
            f"{'; '.join(unknown)}: as fast as the trace's own best, but slower than the GPU's newest link, or that is "
            "not known, and the link's generation and width were not recorded",
            hint="look with nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current while copies run",
        )
    pageable = copies[copies.pageable & (copies.size >= BANDWIDTH_BYTES)]
    if len(pageable) and not any(len(large_pinned(copies, kind)) for kind, _ in DIRECTIONS):
        raise CouldNotRun(
            f"all {len(pageable)} copies from 1 MB on use pageable memory, whose rate ({rate(pageable.rate())}, both "
            "directions) is the driver's own copying and says nothing of the link",
            hint="capture with pinned buffers",
        )


def _over_a_link(run: Run) -> Copies:
    copies = transfers(run)
    if len(copies) and all(run.gpus.of(device).integrated for device in np.unique(copies.device).tolist()):
        raise NotApplicable("the GPU is integrated: its copies cross no link")
    return copies


@dataclass(frozen=True)
class _Slow:
    """What is said of the large pinned copies of one direction, beside what it run."""

    message: str
    cause: str
    remedy: str
    gives: float
    known_by: str
    confidence: Confidence


def _slow(run: Run, device: int, kind: str, direction: str, reached: float) -> _Slow | None:
    """What is said of copies that reach so much where the link allows more; None where it is not known to."""
    best = float(np.quantile(_rates(large_pinned(run.copies, kind, device)), 0.9))
    link = recorded_link(run, device) or Link(best, "the best tenth of this trace's own copies reach")
    if reached < SLOW_SHARE * link.gives:
        return _slower_than(reached, direction, link)
    if link.beside and reached <= link.peak:
        return _trained_down(reached, direction, link)
    return None


def _is_unknown(run: Run, device: int, reached: float) -> bool:
    """Whether the link was not recorded, and the newest that GPU and slot can have would give more, or is not known."""
    newest = newest_link(run, device)
    known = newest is not None and reached >= SLOW_SHARE * PINNED_SHARE.point * newest
    return recorded_link(run, device) is None and not known


def _slower_than(reached: float, direction: str, link: Link) -> _Slow:
    return _Slow(
        f"large pinned {direction} copies reach {rate(reached)} (median), {share(reached / link.gives)} of the "
        f"{rate(link.gives)} that {link.known_by}",
        "the memory is pinned and the copies are large, so that neither explains it: others share the link or its "
        "switch, copies in both directions contend for host memory, or the buffers lie on another NUMA node"
        + (f"; GPU and slot could also have {link.beside}" if link.beside else ""),
        "allocate and launch on the GPU's own NUMA node (numactl --cpunodebind, --membind), look who else uses the "
        "link (nvidia-smi dmon -s t), and at its width and generation while copies run",
        link.gives,
        link.known_by,
        Confidence.MEDIUM,
    )


def _trained_down(reached: float, direction: str, link: Link) -> _Slow:
    return _Slow(
        f"the link runs at {link.name} while copies run, where GPU and slot can have {link.beside}: large pinned "
        f"{direction} copies reach {rate(reached)} (median)",
        f"the link trained down, and not for idleness: in all of {link.loaded} samples that NVML took while copies ran "
        "it had no more, and the copies are no faster than that",
        "reseat the card, try another slot or riser, and look at the BIOS' settings of the slot (generation, "
        "bifurcation) and at the replays that nvidia-smi -q counts",
        PINNED_SHARE.point * link.full,
        f"a {link.beside} link gives",
        Confidence.HIGH,
    )


def _finding(run: Run, copies: Copies, kind: str, reached: float, said: _Slow, small: Copies) -> Finding:
    lost = round(run.gpus.exposed(copies) * max(1 - reached / said.gives, 0))
    return Finding(
        "PCI005",
        Severity.WARNING,
        said.confidence,
        said.message,
        said.cause,
        said.remedy,
        act="look at the link to the GPU",
        evidence=(
            Evidence(f"{kind} rate, median", reached, "B/s", detail=f"{len(copies)} pinned copies of 1 MB and more"),
            Evidence("what the link gives", said.gives, "B/s", detail=said.known_by),
            *(
                (
                    Evidence(
                        f"{kind} copies below 1 MB, not judged",
                        len(small),
                        "count",
                        detail=f"median {duration(float(np.median(small.duration)))}: bound by latency",
                    ),
                )
                if len(small)
                else ()
            ),
            *worst("longest", copies.start, copies.end, size_of(copies)),
        ),
        loss=Loss(
            lost,
            run.gpus.share(lost, copies.device),
            "exposed time of these copies, less what they would take at that rate; a part of what all exposed copies "
            "cost",
        ),
    )


def _rates(copies: Copies) -> npt.NDArray[np.float64]:
    per_second: npt.NDArray[np.float64] = copies.size / copies.duration * 1e9
    return per_second


def _small(copies: Copies, kind: str, device: int) -> Copies:
    return copies[copies.kind.among(kind) & (copies.size < BANDWIDTH_BYTES) & (copies.device == device)]
