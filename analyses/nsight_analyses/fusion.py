"""Layers and kernels of one inference: gaps between them, and layers that only change a tensor's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import Measured, Work, weigh, worst
from nsight_tools.analysis import analysis
from nsight_tools.columns import Ints, words
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

TRACING_PER_LAUNCH_NS = (1_500, 4_500)
"""What tracing adds to one kernel launch on the host: 1.6 to 4.4 µs with TensorRT 8.6 under Nsight Systems 2025.3."""
GAP_SHARE = 0.05
REFORMAT_SHARE = 0.03
"""NVIDIA's bar for shape and cast layers that are worth a look."""
REFORMAT_WARNING = 0.15
"""Of the inference time: a reformat that goes comes back in part as a slower neighbour, so the bound is generous."""
COPY_NODE = "Reformatting CopyNode"


@analysis("FUS001", needs={"kernels", "api_calls", "inferences"})
def gaps_between_kernels(trace: Trace) -> Iterator[Finding]:
    """The GPU idles between the kernels of an inference.

    Measures: for each inference, the time between the first start and the last end of its kernels in which nothing that
    was traced runs on the GPU. A gap that ends with a kernel whose launch call returned before the gap began is a
    dependency gap (the work was there: about 1 µs between dependent kernels of a stream, less inside a CUDA graph); any
    other waited for the host. From 5 % of the inferences' time on.

    Tracing itself slows launches by 1.5 to 4.5 µs each. The gaps that waited for the host are held against that: where
    the host would still be slower than the GPU's work with 4.5 µs a launch taken off, it is a warning; where it would
    not with 1.5 µs taken off, the gaps are the profiler's; in between it cannot be told. The bound is the gap time,
    less 1.5 µs for each launch in what waited for the host.

    Why it matters: small kernels finish before the next one is launched; the GPU is idle though there is work.

    Remedy: a CUDA graph (trtexec `--useCudaGraph`; `cudaStreamBeginCapture` around `enqueueV3`, after one enqueue to
    warm up) launches the whole inference at once; or a larger batch; or fewer, larger kernels (fusion). NVIDIA's
    TensorRT Best Practices, "CUDA Graphs" and "Enqueue-Bound Workloads".

    Blind spots: what another process runs in a gap is not in the report. Without an untraced run, what is real of a
    gap is an estimate: run trtexec without the profiler to be sure.
    """
    measured = Measured.of(trace)
    work = measured.work[(measured.work.inference >= 0)]
    kernels = work[work.computes]
    launched = kernels[kernels.call_end >= 0]
    if not len(launched.start):
        raise CouldNotRun("no kernel of an inference can be joined to the API call that launched it")
    host, dependency = _gaps(measured, kernels)
    gaps = host.total + dependency.total
    window = measured.window_ns
    if gaps / window < GAP_SHARE:
        return
    calls = len(np.unique(launched.api_call))
    low, high = (calls * cost for cost in TRACING_PER_LAUNCH_NS)
    busy = measured.work.busy().intersection(measured.window).total
    occupied = measured.host_occupied()
    starved = host.total > dependency.total
    waited = max(host.total - min(low, host.total), 0)
    severity, confidence, said = _verdict(starved, busy, occupied, (low, high), waited / window)
    recoverable = waited + dependency.total
    least = max(host.total - high, 0) + dependency.total
    yield Finding(
        "FUS001",
        severity,
        confidence,
        f"the GPU is idle between the kernels of an inference for {share(gaps / window)} of the inference time; {said}",
        f"{share(host.total / gaps)} of the gaps wait for the host to launch, {share(dependency.total / gaps)} stand "
        "between kernels that were launched long before",
        "measure the run without the profiler; if it is no faster than this, capture the inference into a CUDA graph "
        "(trtexec --useCudaGraph), or enlarge the batch"
        if starved
        else "a CUDA graph shortens the gap between dependent kernels; fewer, larger kernels (fusion, a larger batch) "
        "do more",
        recoverable,
        measured.per_inference(recoverable),
        f"gap time less 1.5 µs of tracing for each launch; {duration(least)} in all if tracing takes 4.5 µs",
        (
            Evidence("idle between kernels", gaps, "ns"),
            Evidence("of it waiting for the host", host.total, "ns"),
            Evidence("of it between kernels already launched", dependency.total, "ns"),
            Evidence(
                "kernel launches", calls, "count", detail=f"{calls / max(measured.inferences, 1):.0f} an inference"
            ),
            Evidence(
                "host time that tracing adds",
                high,
                "ns",
                detail=f"between {duration(low)} and {duration(high)}, an estimate",
            ),
            *worst("longest gap", host.start if starved else dependency.start, host.end if starved else dependency.end),
        ),
    )


def _verdict(
    starved: bool, busy: int, occupied: int, tracing: tuple[int, int], loss: float
) -> tuple[Severity, Confidence, str]:
    low, high = tracing
    if not starved:
        return Severity.INFO, Confidence.MEDIUM, "most of it between kernels that were already launched"
    if occupied - high > busy:
        return (
            weigh(loss, 0.1),
            Confidence.MEDIUM,
            "the host cannot launch as fast as the GPU works, even without the profiler",
        )
    if occupied - low <= busy:
        return (
            Severity.INFO,
            Confidence.LOW,
            "tracing alone can explain it: without the profiler the host probably keeps up",
        )
    return Severity.INFO, Confidence.LOW, "how much of it is the profiler's own cost cannot be told from this trace"


def _gaps(measured: Measured, kernels: Work) -> tuple[Intervals, Intervals]:
    """Idle time inside of inferences, between their kernels: what waited for a launch, and what had it already."""
    host: list[Intervals] = []
    dependency: list[Intervals] = []
    for device in np.unique(kernels.device):
        everything = measured.work[measured.work.device == device]
        here = kernels[kernels.device == device]
        spans = Intervals.union(*_spans(here))
        idle = everything.busy().gaps().intersection(spans)
        # The kernel that ends a gap is the first to start at its end.
        after = np.minimum(np.searchsorted(everything.start, idle.end), len(everything.start) - 1)
        waited = (everything.start[after] == idle.end) & (everything.call_end[after] > idle.start)
        host.append(Intervals(idle.start[waited], idle.end[waited]))
        dependency.append(Intervals(idle.start[~waited], idle.end[~waited]))
    return _sum(host), _sum(dependency)


def _sum(lines: list[Intervals]) -> Intervals:
    return Intervals.union(np.concatenate([x.start for x in lines]), np.concatenate([x.end for x in lines]))


def _spans(kernels: Work) -> tuple[Ints, Ints]:
    """First start and last end of each inference's kernels."""
    first = np.full(kernels.inference.max() + 1, np.iinfo(np.int64).max)
    last = np.full(kernels.inference.max() + 1, np.iinfo(np.int64).min)
    np.minimum.at(first, kernels.inference, kernels.start)
    np.maximum.at(last, kernels.inference, kernels.end)
    there = first <= last
    return first[there], last[there]


@analysis("FUS002", needs={"kernels", "nvtx_ranges"})
def reformat_layers(trace: Trace) -> Iterator[Finding]:
    """Layers that only change a tensor's datatype or layout take time.

    Measures: kernels whose layer (`launches.layer`) is named "Reformatting CopyNode …" or is of type Reformat or NoOp
    in `layers`, as a share of the time of all kernels that have a layer. From 3 % on, which is NVIDIA's bar for shape
    and cast layers; a warning where they take 15 % of the inferences' time. The bound is their kernel time.

    Why it matters: TensorRT inserts a reformat where two layers do not agree on datatype or layout: it moves every
    element through memory and computes nothing. Mixed precision that alternates layer by layer is the usual reason.

    Remedy: let neighbouring layers share a precision (in weakly typed networks do not pin single layers to FP32; allow
    FP16 or INT8 for the layers between); for the network's own inputs and outputs accept TensorRT's format
    (`allowed_formats`, trtexec `--inputIOFormats`, `--outputIOFormats`) and have the producer write it. NVIDIA's
    TensorRT Best Practices, "Optimizing Layer Performance"; TREx shows the same in its engine graph.

    Blind spots: TensorRT chose reformat plus fast layer because it timed the sum as faster: removing a reformat can
    make its neighbour slower. Reformats inside of Myelin regions are not seen.
    """
    measured = Measured.of(trace)
    layer = words(trace.table("launches", ["layer"])["layer"])
    chosen = measured.work.kind.among("kernel") & (layer.codes >= 0)
    if not chosen.any():
        raise CouldNotRun(
            "no kernel lies inside of a TensorRT layer's range; capture an eager run (no CUDA graph, or its capture "
            "inside the collection) with TensorRT's NVTX ranges on"
        )
    kernels, layer = measured.work[chosen], layer[chosen]
    time = kernels.end - kernels.start
    engine = {row["name"]: row for row in trace.table("layers", ["name", "type", "inputs", "outputs"]).to_pylist()}
    reformats = layer.where(lambda name: _is_reformat(name, engine))
    total, lost = int(time.sum()), int(time[reformats].sum())
    if lost < REFORMAT_SHARE * total:
        return
    by_layer = np.bincount(layer.codes[reformats], weights=time[reformats], minlength=len(layer.dictionary))
    names = [layer.dictionary[code] for code in np.argsort(-by_layer, kind="stable").tolist() if by_layer[code] > 0]
    changes = sum(_change(engine.get(name)).startswith("datatype") for name in names)
    copy_nodes = layer.where(lambda name: name.startswith(COPY_NODE))
    known = chosen.sum() / max(int(measured.work.kind.among("kernel").sum()), 1)
    yield Finding(
        "FUS002",
        weigh(lost / measured.window_ns, REFORMAT_WARNING),
        Confidence.HIGH if known > 0.95 else Confidence.MEDIUM,
        f"{int(reformats.sum())} of {len(layer)} kernels ({share(float(reformats.mean()))}) only convert tensors "
        f"between layers, and take {share(lost / max(total, 1))} of the kernel time",
        f"{len(names)} reformat layers stand between layers that do not agree on datatype or layout"
        + (f"; {changes} of them change the datatype" if changes else ""),
        "let neighbouring layers share a precision, and the network's inputs and outputs keep the format that the "
        "first and last layer want (--inputIOFormats, --outputIOFormats)",
        lost,
        measured.per_inference(lost),
        "kernel time of the reformat layers",
        (
            Evidence("kernel time in reformat layers", lost, "ns"),
            Evidence("share of the kernel time", lost / max(total, 1), "ratio"),
            Evidence(
                f"of it in layers named {COPY_NODE} …",
                int(time[copy_nodes].sum()),
                "ns",
                detail=f"{int(copy_nodes.sum())} kernels",
            ),
            *(
                Evidence(
                    "layer",
                    int(by_layer[layer.dictionary.index(name)]),
                    "ns",
                    detail=f"{name} ({_change(engine.get(name))})",
                )
                for name in names[:5]
            ),
        ),
    )


def _is_reformat(name: str, types: dict[str, dict[str, object]]) -> bool:
    kind = str((types.get(name) or {}).get("type") or "")
    return name.startswith(COPY_NODE) or kind in ("Reformat", "NoOp")


def _change(layer: dict[str, object] | None) -> str:
    """What a reformat changes, by the inspector: datatype, layout, or unknown."""
    ends = [(layer or {}).get("inputs"), (layer or {}).get("outputs")]
    if not all(isinstance(end, list) and end for end in ends):
        return "what it changes is not recorded"
    source, target = (end[0] for end in ends)  # type: ignore[index]
    if not (source["dtype"] and target["dtype"]):
        return "what it changes is not recorded"
    if source["dtype"] != target["dtype"]:
        return f"datatype {source['dtype']} to {target['dtype']}"
    return f"layout only, {source['dtype']}" if source["format"] != target["format"] else "neither datatype nor layout"
