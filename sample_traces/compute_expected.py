# ruff: noqa: INP001
"""Computes what a sample trace holds, from its SQLite export, by a way of its own: sqlite3 and plain loops.

    python sample_traces/compute_expected.py          # rewrites all <name>.expected.json, <name>.capture/expected.json
    python sample_traces/compute_expected.py --check  # says which of them differ

Nothing of nsight_tools is imported here, so that the numbers are a second opinion on it. It is written for exports
of the version that wrote these samples, and for traces whose inferences are marked by the runner's ranges.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent

COPY_KINDS = {1: "h2d", 2: "d2h", 8: "d2d", 10: "p2p"}
MEMORY_KINDS = {0: "pageable", 1: "pinned", 2: "device", 3: "array", 4: "managed", 5: "device_static"}
SYNC_KINDS = {
    "StreamSynchronize": "stream",
    "StreamWaitEvent": "stream_wait",
    "EventSynchronize": "event",
    "CtxSynchronize": "context",
    "DeviceSynchronize": "context",
}
PUSH_POP, DOMAIN_CREATE = 59, 75
OTHER_WORK = "other_work_ns"  # other work runs while work of this inference, already submitted, waits
WAITS = "its work waits"  # no bucket of its own
COMMUNICATION = "exposed_communication_ns"
COPIES = ("exposed_h2d_ns", "exposed_d2h_ns", "exposed_other_copy_ns")
BUCKETS = (  # in order of precedence
    "compute_ns",
    COMMUNICATION,
    *COPIES,
    OTHER_WORK,
    "launch_ns",
    "sync_ns",
    "unattributed_ns",  # the profiler itself holds the thread up
    "host_ns",
)


class Work(NamedTuple):
    """A kernel, copy, set or whole graph on the GPU."""

    kind: str
    start: int
    end: int
    device: int
    stream: int
    process: int
    correlation: int
    what: str = ""
    """A kernel's name; kinds of memory, for copies and sets."""
    size: int = 0


class Call(NamedTuple):
    """A CUDA API call."""

    start: int
    end: int
    thread: int
    correlation: int
    name: str


class Range(NamedTuple):
    """A push/pop NVTX range."""

    start: int
    end: int
    thread: int
    domain: str
    name: str


class Export:
    """The rows of one SQLite export, in lists."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            self._database = database
            self._tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            self.strings = dict(database.execute("SELECT id, value FROM StringIds"))
            self.counts = {name: self._count(*tables) for name, tables in COUNTED.items()}
            self.work = sorted(
                [*self._kernels(), *self._copies(), *self._sets(), *self._graphs()], key=lambda w: w.start
            )
            self.calls = [
                Call(start, end, thread, correlation, re.sub(r"_v\d+$|_ptsz$", "", self.strings[name]))
                for start, end, thread, correlation, name in self._rows(
                    "CUPTI_ACTIVITY_KIND_RUNTIME", "start, end, globalTid, correlationId, nameId"
                )
            ]
            self.ranges = list(self._ranges())
            self.synchronizations = list(
                self._rows("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", "globalPid, correlationId, start, end")
            )
            self.overheads = list(self._rows("PROFILER_OVERHEAD", "start, end, globalTid"))

    def _rows(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        if table not in self._tables:
            return []
        return self._database.execute(f"SELECT {columns} FROM {table}").fetchall()

    def _count(self, *tables: str) -> int:
        return sum(self._rows(table, "count(*)")[0][0] for table in tables if table in self._tables)

    def _kernels(self) -> list[Work]:
        where = "start, end, deviceId, streamId, globalPid, correlationId, demangledName"
        rows = self._rows("CUPTI_ACTIVITY_KIND_KERNEL", where)
        return [Work("kernel", *row, self.strings[name]) for *row, name in rows]

    def _graphs(self) -> list[Work]:
        where = "start, end, deviceId, streamId, globalPid, correlationId"
        return [Work("graph", *row) for row in self._rows("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", where)]

    def _copies(self) -> list[Work]:
        where = "start, end, deviceId, streamId, globalPid, correlationId, copyKind, srcKind, dstKind, bytes"
        return [
            Work(COPY_KINDS[kind], *row, f"{MEMORY_KINDS[source]}->{MEMORY_KINDS[target]}", size)
            for *row, kind, source, target, size in self._rows("CUPTI_ACTIVITY_KIND_MEMCPY", where)
        ]

    def _sets(self) -> list[Work]:
        where = "start, end, deviceId, streamId, globalPid, correlationId, memKind, bytes"
        return [
            Work("memset", *row, f"->{MEMORY_KINDS[kind]}", size)
            for *row, kind, size in self._rows("CUPTI_ACTIVITY_KIND_MEMSET", where)
        ]

    def _ranges(self) -> list[Range]:
        rows = self._rows("NVTX_EVENTS", "start, end, globalTid, domainId, text, textId, eventType")
        domains = {
            (process_of(thread), domain): text or self.strings[text_id]
            for _, _, thread, domain, text, text_id, kind in rows
            if kind == DOMAIN_CREATE
        }
        return [
            Range(start, end, thread, domains[process_of(thread), domain], text or self.strings[text_id])
            for start, end, thread, domain, text, text_id, kind in rows
            if kind == PUSH_POP
        ]


COUNTED = {  # table of the dataset: the export tables that it is read from
    "kernels": ("CUPTI_ACTIVITY_KIND_KERNEL",),
    "memory_ops": ("CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"),
    "api_calls": ("CUPTI_ACTIVITY_KIND_RUNTIME",),
    "synchronizations": ("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",),
    "graph_launches": ("CUPTI_ACTIVITY_KIND_GRAPH_TRACE",),
    "graph_nodes": ("CUDA_GRAPH_NODE_EVENTS",),
    "diagnostics": ("DIAGNOSTIC_EVENT",),
    "profiler_overhead": ("PROFILER_OVERHEAD",),
}


def process_of(global_id: int) -> int:
    """The process' own bits of a global id, which sort processes of one export apart."""
    return global_id & ~0xFFFFFF


def covered(intervals: list[tuple[int, int]]) -> int:
    """Length of the union of `intervals`."""
    total, reached = 0, None
    for start, end in sorted(intervals):
        if reached is None or start > reached:
            total += end - start
            reached = end
        elif end > reached:
            total += end - reached
            reached = end
    return total


def stream_values(work: list[Work]) -> list[dict[str, int]]:
    """What each stream ran: kernels and whole graphs."""
    streams: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for item in work:
        if item.kind in ("kernel", "graph"):
            streams[item.device, item.stream].append((item.start, item.end))
    return [
        {
            "device": device,
            "stream": stream,
            "count": len(intervals),
            "total_ns": sum(end - start for start, end in intervals),
            "union_ns": covered(intervals),
        }
        for (device, stream), intervals in sorted(streams.items())
    ]


def copy_values(work: list[Work]) -> dict[str, dict[str, int]]:
    """Copies and sets by direction and by memory kinds."""
    values: dict[str, dict[str, int]] = {}
    for item in work:
        if item.kind not in ("kernel", "graph"):
            value = values.setdefault(f"{item.kind} {item.what}", {"count": 0, "size_bytes": 0, "total_ns": 0})
            value["count"] += 1
            value["size_bytes"] += item.size
            value["total_ns"] += item.end - item.start
    return dict(sorted(values.items()))


def sync_values(export: Export) -> dict[str, int]:
    """Synchronizations by what they wait for, which is said by the name of their API call."""
    kinds: Counter[str] = Counter()
    calls: dict[tuple[int, int], list[Call]] = defaultdict(list)
    for call in export.calls:
        calls[process_of(call.thread), call.correlation].append(call)
    for process, correlation, start, end in export.synchronizations:
        # cuProfilerStop and the cuCtxSynchronize after it share one id: the synchronization lies inside one of them.
        (name,) = [c.name for c in calls[process, correlation] if c.start <= start and end <= c.end]
        kinds[SYNC_KINDS[name.removeprefix("cuda").removeprefix("cu")]] += 1
    return dict(sorted(kinds.items()))


def layer_of_kernels(export: Export, calls: dict[tuple[int, int], Call]) -> list[tuple[Call, Work, str]]:
    """Each kernel with its launch call and the innermost range of TensorRT's domain around that, by launch."""
    ranges: dict[int, list[Range]] = defaultdict(list)
    for item in export.ranges:
        if item.domain == "TensorRT":
            ranges[item.thread].append(item)
    launched = [(calls[w.process, w.correlation], w) for w in export.work if w.kind == "kernel"]
    launched.sort(key=lambda pair: pair[0].start)

    found = []
    for thread, of_thread in ranges.items():
        of_thread.sort(key=lambda r: (r.start, -r.end))
        open_ranges: list[Range] = []
        position = 0
        for call, kernel in launched:
            if call.thread != thread:
                continue
            while position < len(of_thread) and of_thread[position].start <= call.start:
                open_ranges.append(of_thread[position])
                position += 1
            open_ranges = [r for r in open_ranges if r.end >= call.end]
            if open_ranges and not open_ranges[-1].name.startswith("ExecutionContext::"):
                found.append((call, kernel, open_ranges[-1].name))
    return found


def layer_values(kernels: list[tuple[Work, str]]) -> dict[str, dict[str, int]]:
    """Number and time of the kernels of each layer."""
    layers: dict[str, dict[str, int]] = {}
    for kernel, name in kernels:
        layer = layers.setdefault(name, {"kernels": 0, "ns": 0})
        layer["kernels"] += 1
        layer["ns"] += kernel.end - kernel.start
    return dict(sorted(layers.items()))


def in_inferences(export: Export, kernels: list[tuple[Call, Work, str]]) -> list[list[tuple[Work, str]]]:
    """The kernels that each `inference` range launched, by launch and start, each with what is known of it."""
    spans = sorted(r for r in export.ranges if (r.domain, r.name) == ("nsight_tools", "inference"))
    by_launch = sorted(kernels, key=lambda item: (item[0].start, item[1].start))
    return [
        [
            (kernel, known)
            for call, kernel, known in by_launch
            if call.thread == span.thread and span.start <= call.start < span.end
        ]
        for span in spans
    ]


def layers_in_order(export: Export, calls: dict[tuple[int, int], Call], layer_pass: Path) -> dict[str, dict[str, int]]:
    """Kernels of each layer where only the layer pass has layer ranges: the n-th kernel there is the n-th here.

    Only for inferences that run the very same kernels in the same order as all of the layer pass do.
    """
    reference = Export(layer_pass)
    of_pass = {(process_of(call.thread), call.correlation): call for call in reference.calls}
    inferences = in_inferences(reference, layer_of_kernels(reference, of_pass))
    names = [[kernel.what for kernel, _ in inference] for inference in inferences]
    layers = [[layer for _, layer in inference] for inference in inferences]
    if any(name != names[0] for name in names) or any(layer != layers[0] for layer in layers):
        raise SystemExit(f"{layer_pass}: its inferences differ")
    kernels = [(calls[w.process, w.correlation], w, "") for w in export.work if w.kind == "kernel"]
    found: list[tuple[Work, str]] = []
    for inference in in_inferences(export, kernels):
        if [kernel.what for kernel, _ in inference] == names[0]:
            found += [(kernel, layer) for (kernel, _), layer in zip(inference, layers[0], strict=True)]
    return layer_values(found)


def host_state(name: str) -> str:
    """The bucket of the time that a thread spends inside this call."""
    if "Launch" in name or "Memcpy" in name or "Memset" in name:
        return "launch_ns"
    return "sync_ns" if name.endswith("Synchronize") else "host_ns"


def gpu_state(item: Work) -> str:
    """The bucket of the time in which this runs."""
    if item.kind in ("kernel", "graph"):
        return COMMUNICATION if "nccl" in item.what.lower() else "compute_ns"
    return {"h2d": "exposed_h2d_ns", "d2h": "exposed_d2h_ns"}.get(item.kind, "exposed_other_copy_ns")


def inference_values(export: Export, calls: dict[tuple[int, int], Call], limit: int = -1) -> list[dict[str, int]]:
    """Each `inference` range of the runner: its window, and which bucket each nanosecond of it goes to.

    `limit` is for long traces: so many, from the first on.
    """
    values = []
    by_call = sorted(((calls[w.process, w.correlation], w) for w in export.work), key=lambda pair: pair[0].start)
    spans = sorted(r for r in export.ranges if (r.domain, r.name) == ("nsight_tools", "inference"))
    for span in spans[:limit] if limit >= 0 else spans:
        called = [
            (call, w) for call, w in by_call if call.thread == span.thread and span.start <= call.start < span.end
        ]
        own = [w for _, w in called]
        start, end = span.start, max([span.end, *(w.end for w in own)])
        mine = {id(w) for w in own}
        states = [(gpu_state(w), w.start, w.end) for w in own]
        states += [(WAITS, call.end, w.start) for call, w in called if call.end < w.start]
        meanwhile = [w for w in export.work if w.start < end and w.end > start]
        states += [(OTHER_WORK, w.start, w.end) for w in meanwhile if id(w) not in mine]
        states += [
            (host_state(c.name), c.start, c.end)
            for c in export.calls
            if c.start < end and c.end > start and c.thread == span.thread
        ]
        states += [
            ("unattributed_ns", since, until) for since, until, thread in export.overheads if thread == span.thread
        ]
        states.append(("host_ns", start, end))
        values.append(
            {
                "range_start_ns": span.start,
                "range_end_ns": span.end,
                "start_ns": start,
                "end_ns": end,
                "wall_ns": end - start,
                **sweep(states, start, end),
                "kernels": sum(w.kind == "kernel" for w in own),
                "graphs": sum(w.kind == "graph" for w in own),
                "copies": sum(w.kind not in ("kernel", "graph") for w in own),
            }
        )
    return values


def sweep(states: list[tuple[str, int, int]], start: int, end: int) -> dict[str, int]:
    """Length of the time between `start` and `end` whose first state in order of BUCKETS is each of them."""
    inside = [
        (name, max(since, start), min(until, end)) for name, since, until in states if since < end and until > start
    ]
    edges = [(since, 1, name) for name, since, _ in inside] + [(until, -1, name) for name, _, until in inside]
    lengths = dict.fromkeys([*BUCKETS, "hidden_copy_ns", "hidden_communication_ns"], 0)
    now: Counter[str] = Counter()
    before = start
    for time, change, name in [*sorted(edges), (end, 0, "")]:
        state = next((bucket for bucket in BUCKETS if now[bucket] and (bucket != OTHER_WORK or now[WAITS])), "host_ns")
        lengths[state] += time - before
        if state in ("compute_ns", COMMUNICATION) and any(now[copy] for copy in COPIES):
            lengths["hidden_copy_ns"] += time - before
        if state == "compute_ns" and now[COMMUNICATION]:
            lengths["hidden_communication_ns"] += time - before
        now[name] += change
        before = time
    return lengths


def compute(path: Path, layer_pass: Path | None = None) -> dict[str, Any]:
    """Everything that is expected of the dataset that `path` is imported into."""
    export = Export(path)
    calls = {(process_of(call.thread), call.correlation): call for call in export.calls}
    on_gpu = [w for w in export.work if w.kind in ("kernel", "graph")]
    window = max(w.end for w in on_gpu) - min(w.start for w in on_gpu)
    compute_ns = covered([(w.start, w.end) for w in on_gpu])
    return {
        "rows": export.counts | {"nvtx_push_pop_ranges": len(export.ranges)},
        "streams": stream_values(export.work),
        "gpu_window_ns": window,
        "gpu_idle_ns": window - compute_ns,
        "copies_while_computing_ns": sum(w.end - w.start for w in export.work if w.kind not in ("kernel", "graph"))
        + compute_ns
        - covered([(w.start, w.end) for w in export.work]),
        "memory_ops": copy_values(export.work),
        "api_calls": dict(sorted(Counter(call.name for call in export.calls).items())),
        "synchronizations": sync_values(export),
        "nvtx_ranges": dict(
            sorted(Counter(f"{r.domain}/{r.name}" for r in export.ranges if r.domain != "TensorRT").items())
        ),
        "layers": layer_values([(kernel, layer) for _, kernel, layer in layer_of_kernels(export, calls)]),
        **({"layers_in_order": layers_in_order(export, calls, layer_pass)} if layer_pass else {}),
        "inferences": inference_values(export, calls),
    }


def text_of(values: dict[str, Any]) -> str:
    """JSON with one line for each value of the first two levels."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}" if value else f"  {json.dumps(name)}: {{}}")
        elif isinstance(value, list):
            inner = ",\n".join(f"    {json.dumps(v)}" for v in value)
            lines.append(f"  {json.dumps(name)}: [\n{inner}\n  ]" if value else f"  {json.dumps(name)}: []")
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Write or check the expected values of every sample beside this file."""
    parser = argparse.ArgumentParser(description="Compute the expected values of the sample traces.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    differ = 0
    traces = [(trace, trace.with_suffix(".expected.json"), None) for trace in sorted(HERE.glob("*.sqlite"))]
    traces += [
        (run / "report.sqlite", run / "expected.json", run / "layer_pass.sqlite")
        for run in sorted(HERE.glob("*.capture"))
    ]
    for trace, target, layer_pass in traces:
        text = text_of(compute(trace, layer_pass))
        if not check:
            target.write_text(text)
        elif not target.is_file() or target.read_text() != text:
            differ += 1
            sys.stderr.write(f"{target.name} differs\n")
    return min(differ, 1)


if __name__ == "__main__":
    sys.exit(main())
