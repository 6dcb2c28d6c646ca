"""The link between host and GPU: is it the limit, and does it give what it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nsight_analyses.link import Link, newest_link, recorded_link
from nsight_analyses.measure import EFFORT_SHARE, NOISE_SHARE, weigh, worst
from nsight_analyses.pcie import (
    BANDWIDTH_BYTES,
    hideable,
    reported_as_pageable,
    size_of,
    transfers,
)
from nsight_analyses.stream_use import no_inference
from nsight_tools.analysis import analysis
from nsight_tools.calibration import Calibrated
from nsight_tools.columns import Ints, ints
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding
from nsight_tools.hardware import PINNED_SHARE
from nsight_tools.measured import Copies, Measured
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, rate, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

DIRECTIONS = (("h2d", "host-to-device"), ("d2h", "device-to-host"))
SLOW_SHARE = 0.6
"""Below this share of what the link gives something stands in the way; neighbours and odd sizes cost less."""


@analysis("PCI004", needs={"memory_ops"})
def transfer_bound(trace: Trace) -> Iterator[Finding]:
    """The link is the limit: an inference copies for longer than it computes.

    Measures: trtexec's own test, for each direction (kind h2d, d2h): the median over the inferences of the summed
    durations of their copies is at least the median of `inferences.compute_ns`. Pageable copies that PCI001 reports
    count with the time that they would take at the rate of the trace's pinned copies of the same direction; where it
    has none of 1 MB and more, PCI001 alone speaks. Silent where the busiest launching thread is occupied, outside of
    these copies' calls and without the profiler, for longer than they take: then the host is the limit. It is a warning
    where the difference of the two medians is 20 % of the steady state and more. The bound is what would stay exposed
    with perfect overlap: the exposed time of what PCI001 does not report, less what PCI002 says that kernels could hide
    of it.

    Why it matters: then no overlap, no second stream and no faster GPU makes more inferences in a second than the link
    lets through; only fewer bytes do.

    Remedy: move less: send uint8 instead of float and convert in the engine, reduce on the GPU (the argmax instead of
    the logits), keep intermediate results on the device; or more lanes, a newer link. trtexec `--noDataTransfers` (the
    default from TensorRT 11 on) shows what would be gained. NVIDIA's TensorRT Best Practices, "H2D/D2H Data Transfers
    and PCIe Bandwidth", and trtexec's warning "throughput may be bound by host-to-device transfers".

    Blind spots: what tracing adds to the host's time is estimated. Where others use the link, copies take longer than
    they need to.
    """
    measured = Measured.of(trace)
    if not measured.work.computes.any() and (reason := trace.missing("kernels")) is not None:
        raise CouldNotRun(reason)
    worked, copies = measured.worked, transfers(measured)
    if not worked.any():
        if len(copies) and measured.work.computes.any():
            raise no_inference(trace)
        return
    computing = float(np.median(ints(trace.table("inferences", ["compute_ns"])["compute_ns"])[worked]))
    for kind, direction in DIRECTIONS:
        chosen = copies[copies.kind.among(kind) & (copies.inference >= 0)]
        if not len(chosen) or (time := _when_pinned(measured, chosen, kind)) is None:
            continue
        copying = float(np.median(np.bincount(chosen.inference, time, len(worked))[worked]))
        if copying < computing or _host_occupied(measured, chosen) > int(time.sum()):
            continue
        others = chosen[~reported_as_pageable(chosen)]
        exposed, _, hidden = hideable(measured, others)
        rest = exposed - hidden
        excess = min(round((copying - computing) * worked.sum()), measured.exposed(chosen))
        yield Finding(
            "PCI004",
            weigh(measured.share(excess, chosen.device), EFFORT_SHARE, measured),
            Confidence.MEDIUM,
            f"transfer-bound: an inference copies {direction} for {duration(copying)} and computes for "
            f"{duration(computing)} (medians); a faster GPU or engine would not raise the throughput",
            f"{size(float(np.median(np.bincount(chosen.inference, chosen.size, len(worked))[worked])))} an inference, "
            f"{direction}, take the link longer than the kernels take the GPU",
            "move fewer bytes: smaller types (uint8 input, converted in the engine), outputs reduced on the GPU or "
            "kept there; beside kernels the copies still take their time",
            rest or None,
            measured.per_inference(rest) if rest else None,
            "exposed time of these copies that no overlap can hide: beside what PCI001 and PCI002 recover, by fewer "
            "bytes alone"
            if rest
            else "",
            (
                Evidence(f"{kind} time of an inference, median", copying, "ns"),
                Evidence("compute time of an inference, median", computing, "ns"),
                *worst("longest", chosen.start, chosen.end, size_of(chosen)),
            ),
        )


def _when_pinned(measured: Measured, copies: Copies, kind: str) -> Ints | None:
    """Duration of each copy, were it pinned; None where the trace cannot tell."""
    pageable = reported_as_pageable(copies)
    if not pageable.any():
        return copies.duration
    pinned = large_pinned(measured.copies, kind).rate()
    if pinned is None:
        return None
    return np.where(pageable, np.minimum(copies.duration, copies.size / pinned * 1e9), copies.duration).astype(np.int64)


def _host_occupied(measured: Measured, copies: Copies) -> int:
    calls = Intervals.union(copies.call_start, copies.call_end).intersection(measured.window).total
    return max(Calibrated.of(measured.trace).host_occupied - calls, 0)


def large_pinned(copies: Copies, kind: str, device: int | None = None) -> Copies:
    """Pinned copies of a direction that are bound by the link's bandwidth."""
    chosen = copies.kind.among(kind) & (copies.size >= BANDWIDTH_BYTES) & (copies.duration > 0)
    pinned = copies.src.among("pinned") if kind == "h2d" else copies.dst.among("pinned")
    return copies[chosen & pinned & (True if device is None else copies.device == device)]


@analysis("PCI005", needs={"memory_ops"})
def achieved_bandwidth(trace: Trace) -> Iterator[Finding]:
    """Large pinned copies are slower than the link allows.

    Measures: for each GPU and direction, the median of size_bytes / (end_ns - start_ns) over pinned copies of 1 MB and
    more in the steady state, against what the link gives: 85 % of its peak where `telemetry` recorded its generation
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
    driver's own copying (PCI001). Other GPUs behind the same switch, and other processes, share the link unseen.
    """
    measured = Measured.of(trace)
    copies = transfers(measured)
    unknown = []
    for device in np.unique(copies.device).tolist():
        for kind, direction in DIRECTIONS:
            chosen = large_pinned(copies, kind, device)
            if not len(chosen):
                continue
            reached = float(np.median(_rates(chosen)))
            best = float(np.quantile(_rates(large_pinned(measured.copies, kind, device)), 0.9))
            recorded = recorded_link(measured, device)
            link = recorded or Link(best, "the best tenth of this trace's own copies reach")
            if reached < SLOW_SHARE * link.gives:
                said = _slower_than(reached, direction, link)
            elif link.beside and reached <= link.peak:
                said = _trained_down(reached, direction, link)
            else:
                newest = newest_link(measured, device)
                if recorded is None and (newest is None or reached < SLOW_SHARE * PINNED_SHARE * newest):
                    unknown.append(f"{direction} copies reach {rate(reached)} (GPU {device}, median)")
                continue
            if measured.share(measured.exposed(chosen), chosen.device) >= NOISE_SHARE:
                yield _finding(measured, chosen, kind, reached, said, _small(copies, kind, device))
    if unknown:
        raise CouldNotRun(
            f"{'; '.join(unknown)}: as fast as the trace's own best, but slower than the GPU's newest link, or that is "
            "not known; the link's generation and width were not recorded. Look with nvidia-smi "
            "--query-gpu=pcie.link.gen.current,pcie.link.width.current while copies run"
        )
    pageable = copies[copies.pageable & (copies.size >= BANDWIDTH_BYTES)]
    if len(pageable) and not any(len(large_pinned(copies, kind)) for kind, _ in DIRECTIONS):
        raise CouldNotRun(
            f"all {len(pageable)} copies from 1 MB on use pageable memory, whose rate ({rate(pageable.rate())}, both "
            "directions) is the driver's own copying and says nothing of the link; capture with pinned buffers"
        )


@dataclass(frozen=True)
class _Slow:
    """What PCI005 says of the large pinned copies of one direction, beside what it measured."""

    message: str
    cause: str
    remedy: str
    gives: float
    known_by: str
    confidence: Confidence


def _slower_than(reached: float, direction: str, link: Link) -> _Slow:
    return _Slow(
        f"large pinned {direction} copies reach {rate(reached)} (median), {share(reached / link.gives)} of the "
        f"{rate(link.gives)} that {link.known_by}",
        "the memory is pinned and the copies are large, so that neither explains it: others share the link or its "
        "switch, copies in both directions contend for host memory, or the buffers lie on another NUMA node"
        + (f"; besides, GPU and slot could have {link.beside}" if link.beside else ""),
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
        PINNED_SHARE * link.full,
        f"a {link.beside} link gives",
        Confidence.HIGH,
    )


def _finding(measured: Measured, copies: Copies, kind: str, reached: float, said: _Slow, small: Copies) -> Finding:
    lost = round(measured.exposed(copies) * max(1 - reached / said.gives, 0))
    return Finding(
        "PCI005",
        weigh(measured.share(lost, copies.device), 0.1, measured),
        said.confidence,
        said.message,
        said.cause,
        said.remedy,
        lost,
        measured.per_inference(lost),
        "exposed time of these copies, less what they would take at that rate; a part of what PCI002 bounds",
        (
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
    )


def _rates(copies: Copies) -> npt.NDArray[np.float64]:
    per_second: npt.NDArray[np.float64] = copies.size / copies.duration * 1e9
    return per_second


def _small(copies: Copies, kind: str, device: int) -> Copies:
    return copies[copies.kind.among(kind) & (copies.size < BANDWIDTH_BYTES) & (copies.device == device)]
