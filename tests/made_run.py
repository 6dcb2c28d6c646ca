"""Runs made by the rules of a GPU: a thread that copies, enqueues, copies back and waits, one request after the other.

    trace = made(loop([Request(), Request(), ...]), loop([...], tid=2, stream=8))

Everything is in nanoseconds. A call takes `CALL`, work starts `LATENCY` behind the end of its call at the earliest, and
behind what stands before it on its stream; the host wakes up `WAKE` behind the end of what it waited for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drawing import table
from drawn_trace import derived

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.trace import Trace

CALL, LATENCY, WAKE = 4_000, 6_000, 9_000

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Request:
    """One request: a copy up, kernels of these lengths and a copy down, then a wait.

    `grid` tells populations apart, `host` is what the thread does in the enqueue before it launches, `gap` what it does
    before the request.
    """

    kernels: tuple[int, ...] = (40_000, 60_000, 30_000)
    up: int = 20_000
    down: int = 10_000
    grid: int = 132
    host: int = 5_000
    gap: int = 15_000


def loop(
    requests: Iterable[Request],
    *,
    start: int = 1_000_000,
    pid: int = 1000,
    tid: int = 1,
    device: int = 0,
    stream: int = 7,
    marked: bool = True,
) -> Rows:
    """The rows of a thread that serves these requests, by table; `marked` as our runner does, else as TensorRT does."""
    rows: Rows = defaultdict(list)
    where = {"pid": pid, "device": device, "context": device + 1, "stream": stream}
    now, free = start, 0
    correlation = (tid << 20) + 1

    def call(name: str, does: str, until: int | None = None) -> int:
        nonlocal now, correlation
        end = max(now + CALL, until or 0)
        times = {"start_ns": now, "end_ns": end, "pid": pid, "tid": tid, "correlation_id": correlation}
        rows["api_calls"].append(times | {"name": name, "does": does, "kind": "runtime", "return_value": 0})
        now, correlation = end, correlation + 1
        return correlation - 1

    def work(into: str, length: int, number: int, **more: Any) -> None:
        nonlocal free
        begin = max(now + LATENCY, free)
        free = begin + length
        rows[into].append(where | {"start_ns": begin, "end_ns": free, "correlation_id": number} | more)

    def copy(kind: str, length: int) -> None:
        ends = ("pinned", "device") if kind == "h2d" else ("device", "pinned")
        more = {"kind": kind, "size_bytes": 50 * length, "src_memory": ends[0], "dst_memory": ends[1]}
        work("memory_ops", length, call("cudaMemcpyAsync", "copy"), **more)

    def mark(begin: int, name: str, domain: str) -> None:
        row = {"start_ns": begin, "end_ns": now, "pid": pid, "tid": tid, "kind": "push_pop", "depth": 0}
        rows["nvtx_ranges"].append(row | {"domain": domain, "name": name})

    for request in requests:
        now += request.gap
        begun = now
        copy("h2d", request.up)
        enqueued = now
        now += request.host
        for at, length in enumerate(request.kernels):
            shape = dict.fromkeys(("grid_y", "grid_z", "block_y", "block_z"), 1) | {"block_x": 128, "registers": 32}
            named = {"name": f"kernel_{at}", "short_name": f"kernel_{at}", "grid_x": request.grid}
            work("kernels", length, call("cudaLaunchKernel", "launch"), **shape, **named)
        if not marked:
            mark(enqueued, "ExecutionContext::enqueue", "TensorRT")
        copy("d2h", request.down)
        call("cudaStreamSynchronize", "wait", free + WAKE)
        if marked:
            mark(begun, "inference", "nsight_tools")
    return rows


def made(*loops: Rows, gpu: dict[str, Any] | None = None) -> Trace:
    """The trace of several threads, processes or GPUs beside each other."""
    rows: Rows = defaultdict(list)
    for each in loops:
        for name, of in each.items():
            rows[name] += of
    everything: Sequence[dict[str, Any]] = [*rows["kernels"], *rows["memory_ops"]]
    used = {(row["pid"], row["context"], row["stream"]) for row in everything}
    rows["streams"] = [{"pid": pid, "context": of, "stream": one, "kind": "non_blocking"} for pid, of, one in used]
    rows["gpus"] = [{"device": one} | (gpu or {}) for one in sorted({row["device"] for row in everything})]
    return derived({name: table(name, of) for name, of in rows.items()})
