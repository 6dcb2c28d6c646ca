"""Runs whose kernels take known shares of the hardware, and samples of GPU metrics that hold them mixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from drawing import PID, US, table
from drawn_trace import derived

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

NAMES = {
    "sms_active": "SMs Active [Throughput %]",
    "sm_issue": "SM Issue [Throughput %]",
    "tensor_active": "Tensor Active [Throughput %]",
    "warps": "Compute Warps in Flight [Throughput %]",
    "dram_read": "DRAM Read Bandwidth [Throughput %]",
    "dram_write": "DRAM Write Bandwidth [Throughput %]",
}
GPU = {
    "device": 0,
    "sm_count": 100,
    "compute_major": 9,
    "memory_bandwidth_bytes_per_s": 4_000_000_000_000,
    "l2_cache_bytes": 50_000_000,
}


@dataclass(frozen=True)
class Kernel:
    """A kernel of every request: how long it runs, and the percent of each metric's peak that it takes meanwhile."""

    name: str
    us: float
    percent: dict[str, float] = field(default_factory=dict)
    layer: str | None = None
    stream: int = 7
    grid: int = 100
    beside: bool = False
    """It starts with the kernel before it, on a stream of its own."""
    early: float = 0.0
    """Microseconds by which it starts before the kernel before it has ended: it waits for that end, and keeps SMs."""
    waves: float = 1.0
    """Share of its time, from its start, in which it takes all that it takes: its last blocks are few."""


@dataclass(frozen=True)
class Sampler:
    """How samples are taken: nanoseconds from one to the next; where a sample lies that begins at its timestamp."""

    period: int = 100 * US
    lag: int = 0
    late: int = 0
    """Nanoseconds by which activity begins after a kernel's timestamp."""
    early: int = 0
    """And by which it ends before."""
    inner: int = 0
    """By which the Tensor Cores begin later still, and end earlier."""
    idle: float = 0.0
    """Percent of the SMs that another process keeps active, always."""
    clock: tuple[float, ...] = (1980.0,)
    """MHz, one after the other over equal parts of the run."""
    whole: bool = True


def sampled(
    kernels: list[Kernel], sampler: Sampler | None = None, *, requests: int = 300, gpu: dict[str, Any] | None = None
) -> Trace:
    """The trace of so many requests of these kernels, with pauses of up to 60 us between them."""
    sampler, random = sampler or Sampler(), np.random.default_rng(7)
    rows: dict[str, list[dict[str, Any]]] = {"kernels": [], "api_calls": [], "nvtx_ranges": []}
    now = 0
    for _ in range(requests):
        now = _request(rows, kernels, now, random) + int(random.integers(0, 60 * US))
    rows["gpus"] = [GPU | (gpu or {})]
    rows["gpu_metrics"] = _samples(rows["kernels"], kernels, sampler, now)
    rows["streams"] = [{"pid": PID, "context": 1, "stream": s, "kind": "unknown"} for s in {k.stream for k in kernels}]
    return derived({name: table(name, found) for name, found in rows.items()})


def _request(rows: dict[str, list[dict[str, Any]]], kernels: list[Kernel], at: int, random: np.random.Generator) -> int:
    call, gpu = at + US, at + (len(kernels) + 3) * US
    began = gpu
    for kernel in kernels:
        number = len(rows["kernels"]) + 1
        long = round(kernel.us * US * random.uniform(0.98, 1.02))
        start = began if kernel.beside else gpu + int(random.integers(200, US))
        start = gpu - round(kernel.early * US) if kernel.early else start
        where = {"device": 0, "context": 1, "stream": kernel.stream, "pid": PID, "correlation_id": number}
        began, gpu = start, max(gpu, start + long)
        sizes = {"grid_x": kernel.grid, "block_x": 128} | dict.fromkeys(("grid_y", "grid_z", "block_y", "block_z"), 1)
        named = {"name": kernel.name, "short_name": kernel.name, "start_ns": start, "end_ns": start + long}
        rows["kernels"].append(where | named | sizes | {"communicates": False})
        launch = {"start_ns": call, "end_ns": call + US // 2, "pid": PID, "tid": 1, "correlation_id": number}
        launch |= {"name": "cudaLaunchKernel", "kind": "runtime", "return_value": 0, "does": "launch"}
        rows["api_calls"].append(launch)
        if kernel.layer:
            span = {"start_ns": call - 100, "end_ns": call + 600, "pid": PID, "tid": 1, "kind": "push_pop"}
            rows["nvtx_ranges"].append(span | {"domain": "TensorRT", "name": kernel.layer, "depth": 1})
        call += US
    whole = {"start_ns": at, "end_ns": gpu + US, "pid": PID, "tid": 1, "kind": "push_pop", "depth": 0}
    rows["nvtx_ranges"].append(whole | {"domain": "nsight_tools", "name": "inference"})
    return gpu + US


def _samples(ran: list[dict[str, Any]], kernels: list[Kernel], sampler: Sampler, until: int) -> list[dict[str, Any]]:
    time = np.arange(sampler.period // 3, until - 2 * sampler.period, sampler.period)
    words = [word for word in NAMES if any(word in kernel.percent for kernel in kernels)]
    start = np.array([row["start_ns"] for row in ran]) + sampler.late
    end = np.array([row["end_ns"] for row in ran]) - sampler.early
    waves, early = (
        np.array(each)[np.arange(len(ran)) % len(kernels)]
        for each in ([kernel.waves for kernel in kernels], [round(kernel.early * US) for kernel in kernels])
    )
    end = start + np.rint((end - start) * waves).astype(np.int64)
    rows = []
    outer = start, end
    for word in words:
        inner = sampler.inner if word == "tensor_active" else 0
        waits = 0 if word in {"sms_active", "warps"} else early
        start, end = outer[0] + inner + waits, outer[1] - inner
        level = np.array([kernel.percent.get(word, 0.0) for kernel in kernels])[np.arange(len(ran)) % len(kernels)]
        edges = np.concatenate([start, end])
        order = np.argsort(edges, kind="stable")
        height = np.cumsum(np.concatenate([level, -level])[order])
        area = np.append(0, np.cumsum(height[:-1] * np.diff(edges[order])))
        begin = time + sampler.lag
        value = np.diff(np.interp([begin, begin + sampler.period], edges[order], area), axis=0)[0] / sampler.period
        if word == "sms_active":
            value = np.minimum(value + sampler.idle, 100)
        value = np.where((value > 1e-6) & (value < 1), 1, np.rint(value)) if sampler.whole else value
        rows += [
            {"time_ns": int(t), "device": 0, "metric": NAMES[word], "value": float(v)}
            for t, v in zip(time, value, strict=True)
        ]
    clock = np.array(sampler.clock)[np.arange(time.size) * len(sampler.clock) // max(time.size, 1)]
    rows += [
        {"time_ns": int(t), "device": 0, "metric": "GPC Clock Frequency [MHz]", "value": float(v)}
        for t, v in zip(time, clock, strict=True)
    ]
    return rows
