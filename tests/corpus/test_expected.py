"""Every value of the corpus' expected.json, found again in the dataset that the importer makes of each file.

The expected values were computed from the exports with sqlite3 and loops. Here they are computed a second time, from
the dataset, with helpers of this file only: nothing of `nsight_tools.timeline` checks itself.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations, groupby, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from drawn_columns import BUCKETS
from shared_corpus import corpus_expected, corpus_files

from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

pytestmark = pytest.mark.corpus

EXPECTED = corpus_expected()
FILES = corpus_files("h200", "public")
ROUNDING = 0.5000001e-6  # ratios in expected.json have six decimals
EXACT = 1e-9

Ints = npt.NDArray[np.int64]
Interval = tuple[int, int]


def with_value(*path: str) -> list[str]:
    """The files for which expected.json has the value at `path`."""

    def has(name: str) -> bool:
        value: Any = EXPECTED.get(name, {})
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return bool(value)

    return [name for name in FILES if has(name)] or FILES[:1]


def each(*path: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "name", with_value(*path) if path else FILES, ids=lambda name: name.split(".sqlite")[0]
    )


@pytest.fixture(scope="session")
def opened(corpus_file: Callable[[str], Path]) -> Callable[[str], Trace]:
    """Gives the trace of a corpus file, imported once a session."""
    return cache(lambda name: open_trace(corpus_file(name)))


@pytest.fixture
def trace(opened: Callable[[str], Trace], name: str) -> Trace:
    return opened(name)


@pytest.fixture
def expected(corpus: Path, name: str) -> dict[str, Any]:  # noqa: ARG001 (skips where there is no corpus)
    return EXPECTED[name]


class Rows(dict[str, Any]):
    """Columns of a table: numbers as int64 or float64 with -1 for null, words as lists."""

    def __len__(self) -> int:
        return len(next(iter(self.values())))

    def where(self, keep: Iterable[bool]) -> Rows:
        kept = list(keep)
        return Rows(
            {
                k: v[np.array(kept, bool)]
                if isinstance(v, np.ndarray)
                else [x for x, y in zip(v, kept, strict=True) if y]
                for k, v in self.items()
            }
        )

    def records(self, *names: str) -> Iterable[tuple[Any, ...]]:
        return zip(*(self[n].tolist() if isinstance(self[n], np.ndarray) else self[n] for n in names), strict=True)


@cache
def rows(trace: Trace, table: str, *names: str) -> Rows:
    data = trace.table(table, columns=list(names))
    columns: dict[str, Any] = {}
    for name in names:
        values = data.column(name).to_pylist()
        numeric = str(data.schema.field(name).type).startswith(("int", "double"))
        columns[name] = (
            np.array([-1 if v is None else v for v in values], dtype=None if values else np.int64)
            if numeric
            else values
        )
    return Rows(columns)


GPU = ("start_ns", "end_ns", "device", "context", "stream", "pid")


def kernels(trace: Trace) -> Rows:
    return rows(trace, "kernels", *GPU)


def memory_ops(trace: Trace) -> Rows:
    return rows(trace, "memory_ops", *GPU, "kind", "size_bytes", "src_memory", "dst_memory")


def computing(trace: Trace) -> Rows:
    """Kernels; whole graphs where the report has no kernel rows."""
    return kernels(trace) if len(kernels(trace)) else rows(trace, "graph_launches", *GPU)


def intervals(of: Rows) -> list[Interval]:
    return list(of.records("start_ns", "end_ns"))


def merged(spans: Iterable[Interval]) -> list[Interval]:
    """The union of `spans` as intervals that neither overlap nor touch."""
    result: list[Interval] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def length(spans: Iterable[Interval]) -> int:
    return sum(end - start for start, end in spans)


def common(a: list[Interval], b: list[Interval]) -> list[Interval]:
    """The intersection of two merged lists of intervals."""
    result, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            result.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return result


def by(key: tuple[str, ...], of: Rows) -> dict[Any, list[Interval]]:
    groups: dict[Any, list[Interval]] = defaultdict(list)
    for *group, start, end in of.records(*key, "start_ns", "end_ns"):
        groups[tuple(group)].append((start, end))
    return groups


def pid_of(global_id: int) -> int:
    return global_id >> 24 & 0xFFFFFF


# Row counts

COUNTED = {
    "kernels": ("CUPTI_ACTIVITY_KIND_KERNEL",),
    "memory_ops": ("CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"),
    "api_calls": ("CUPTI_ACTIVITY_KIND_RUNTIME",),
    "synchronizations": ("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",),
    "graph_launches": ("CUPTI_ACTIVITY_KIND_GRAPH_TRACE",),
    "graph_nodes": ("CUDA_GRAPH_NODE_EVENTS",),
    "gpu_metrics": ("GPU_METRICS",),
    "osrt_calls": ("OSRT_API",),
    "profiler_overhead": ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"),
    "diagnostics": ("DIAGNOSTIC_EVENT",),
    "memory_usage": ("CUDA_GPU_MEMORY_USAGE_EVENTS",),
    "gpus": ("TARGET_INFO_GPU",),
}


@pytest.mark.parametrize("table", COUNTED)
@each()
def test_row_counts(trace: Trace, expected: dict[str, Any], table: str) -> None:
    if table == "gpus" and not expected["table_rows"].get("TARGET_INFO_GPU"):
        pytest.skip("the export does not describe its GPUs, so there is no number to compare with")
    assert trace.table(table).num_rows == sum(expected["table_rows"].get(source, 0) for source in COUNTED[table])


@each()
def test_manifest_counts_the_rows_and_tells_empty_from_not_collected(trace: Trace) -> None:
    for table, told in trace.manifest["tables"].items():
        assert told["rows"] == trace.table(table).num_rows, table
        assert (told["status"] == "present") == (told["rows"] > 0), table
        assert told["status"] in {"present", "empty", "not_collected"}, table
        assert bool(told.get("reason")) == (told["status"] == "not_collected"), table


@each()
def test_manifest_names_the_exporter(trace: Trace, expected: dict[str, Any]) -> None:
    assert trace.manifest["nsys"]["version"] == expected["export"]["product"]
    assert trace.manifest["nsys"]["schema_version"] == expected["export"]["schema"]


@each()
def test_launches_hold_all_gpu_work(trace: Trace, expected: dict[str, Any]) -> None:
    work = Counter(rows(trace, "launches", "work")["work"])
    count = expected["table_rows"].get
    assert work["kernel"] == count("CUPTI_ACTIVITY_KIND_KERNEL", 0)
    assert work["copy"] == count("CUPTI_ACTIVITY_KIND_MEMCPY", 0)
    assert work["set"] == count("CUPTI_ACTIVITY_KIND_MEMSET", 0)
    assert work["graph"] == count("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", 0)
    assert set(work) <= {"kernel", "copy", "set", "graph"}


# GPU work


@each()
def test_kernels_by_stream(trace: Trace, expected: dict[str, Any]) -> None:
    found = {
        key: (len(spans), length(spans), length(merged(spans)))
        for key, spans in by(("pid", "device", "context", "stream"), kernels(trace)).items()
    }
    assert found == {
        (pid_of(s["globalPid"]), s["deviceId"], s["contextId"], s["streamId"]): (
            s["count"],
            s["total_ns"],
            s["union_ns"],
        )
        for s in expected["streams"]
    }


@each()
def test_kernels_from_graphs(trace: Trace, expected: dict[str, Any]) -> None:
    nodes = rows(trace, "kernels", "graph_node_id")["graph_node_id"]
    assert int((nodes != -1).sum()) == expected["kernels_from_graphs"]


@each("devices")
def test_devices(trace: Trace, expected: dict[str, Any]) -> None:
    by_device = by(("device",), kernels(trace))
    copies = by(("device",), memory_ops(trace))
    assert {device for (device,) in by_device} == {d["deviceId"] for d in expected["devices"]}
    for want in expected["devices"]:
        spans = by_device[want["deviceId"],]
        busy = merged(spans)
        window = [(busy[0][0], busy[-1][1])]
        with_copies = common(merged([*spans, *copies[want["deviceId"],]]), window)
        gaps = [after[0] - before[1] for before, after in pairwise(busy)]
        found = {
            "deviceId": want["deviceId"],
            "count": len(spans),
            "total_ns": length(spans),
            "union_ns": length(busy),
            "window_ns": length(window),
            "idle_no_copies_ns": length(window) - length(busy),
            "idle_with_copies_ns": length(window) - length(with_copies),
            "kernel_median_ns": median(end - start for start, end in spans),
            "gaps": len(gaps),
            "gap_median_ns": median(gaps),
            "gap_max_ns": max(gaps),
        }
        inexact = {"idle_no_copies_fraction", "idle_with_copies_fraction", "gap_p95_ns"}
        assert found == {key: value for key, value in want.items() if key not in inexact}
        assert np.percentile(gaps, 95) == pytest.approx(want["gap_p95_ns"], rel=EXACT)
        for which in ("no_copies", "with_copies"):
            fraction = found[f"idle_{which}_ns"] / found["window_ns"]
            assert fraction == pytest.approx(want[f"idle_{which}_fraction"], abs=ROUNDING)


@each("graph_trace")
def test_whole_graphs(trace: Trace, expected: dict[str, Any]) -> None:
    found = [
        {
            "deviceId": device,
            "count": len(spans),
            "total_ns": length(spans),
            "union_ns": length(merged(spans)),
            "median_ns": median(end - start for start, end in spans),
            "window_ns": max(end for _, end in spans) - min(start for start, _ in spans),
        }
        for (device,), spans in sorted(by(("device",), rows(trace, "graph_launches", *GPU)).items())
    ]
    assert found == expected["graph_trace"]


def copies_of(trace: Trace) -> Rows:
    ops = memory_ops(trace)
    return ops.where(kind != "memset" for kind in ops["kind"])


def direction(kind: str) -> str:
    """h2d -> HtoD, as expected.json writes it."""
    return kind.replace("h", "H").replace("d", "D").replace("2", "to").replace("p", "P")


@each()
def test_copies_by_direction_and_by_memory(trace: Trace, expected: dict[str, Any]) -> None:
    def totals(of: Iterable[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
        ordered = sorted(of)
        groups = {
            key: [(size, ns) for _, size, ns in group] for key, group in groupby(ordered, key=lambda item: item[0])
        }
        return {
            key: {"count": len(group), "bytes": sum(s for s, _ in group), "ns": sum(ns for _, ns in group)}
            for key, group in groups.items()
        }

    copies = list(copies_of(trace).records("kind", "src_memory", "dst_memory", "size_bytes", "start_ns", "end_ns"))
    want = expected["memcpy"]
    assert len(copies) == want["count"]
    assert sum(size for _, _, _, size, _, _ in copies) == want["bytes"]
    assert sum(end - start for *_, start, end in copies) == want["total_ns"]
    assert (
        totals((direction(kind), size, end - start) for kind, _, _, size, start, end in copies) == want["by_direction"]
    )
    assert (
        totals(
            (f"{direction(kind)} {source}->{target}", size, end - start)
            for kind, source, target, size, start, end in copies
        )
        == want["by_kind"]
    )


@each()
def test_copies_while_kernels_run(trace: Trace, expected: dict[str, Any]) -> None:
    running = {device: merged(spans) for device, spans in by(("device",), computing(trace)).items()}
    overlap = sum(
        length(common([span], running.get(device, [])))
        for device, spans in by(("device",), copies_of(trace)).items()
        for span in spans
    )
    want = expected["memcpy"]
    assert overlap == want["overlap_with_kernels_ns"]
    if want["overlap_with_kernels"] is not None:
        assert overlap / want["total_ns"] == pytest.approx(want["overlap_with_kernels"], abs=ROUNDING)


@each()
def test_sets(trace: Trace, expected: dict[str, Any]) -> None:
    ops = memory_ops(trace)
    sets = intervals(ops.where(kind == "memset" for kind in ops["kind"]))
    assert {"count": len(sets), "total_ns": length(sets)} == expected["memset"]


@each()
def test_overlap_of_streams(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["stream_overlap"]
    streams = {key: merged(spans) for key, spans in by(("device", "stream"), kernels(trace)).items()}
    pairs = {
        (device, frozenset((a, b))): length(common(streams[device, a], streams[device, b]))
        for (device, a), (other, b) in combinations(streams, 2)
        if device == other
    }
    assert len(pairs) == want["pairs_total"]
    for pair in want["pairs"]:
        overlap = pairs[pair["deviceId"], frozenset((pair["a"], pair["b"]))]
        smaller = min(length(streams[pair["deviceId"], pair[side]]) for side in "ab")
        assert overlap == pair["overlap_ns"]
        assert overlap / smaller == pytest.approx(pair["fraction_of_smaller"], abs=ROUNDING)

    several = busy = 0
    for device in {device for device, _ in streams}:
        of_device = [spans for (owner, _), spans in streams.items() if owner == device]
        several += length(merged(span for a, b in combinations(of_device, 2) for span in common(a, b)))
        busy += length(merged(span for spans in of_device for span in spans))
    assert several == want["multi_stream_busy_ns"]
    if want["multi_stream_busy_fraction"] is not None:
        assert several / busy == pytest.approx(want["multi_stream_busy_fraction"], abs=ROUNDING)


# API calls


def calls_of(trace: Trace) -> Rows:
    return rows(trace, "api_calls", "start_ns", "end_ns", "pid", "tid", "name", "return_value")


@each("api_calls")
def test_api_calls_by_name(trace: Trace, expected: dict[str, Any]) -> None:
    found = Counter(calls_of(trace)["name"])
    assert found.total() == expected["table_rows"]["CUPTI_ACTIVITY_KIND_RUNTIME"]
    # expected.json drops one suffix, the dataset all of them: cudaGetDeviceProperties_v2_v12000
    assert {
        re.sub(r"_v\d+$", "", name): count for name, count in expected["api_calls"].items()
    }.items() <= found.items()


@each()
def test_api_calls_that_wait(trace: Trace, expected: dict[str, Any]) -> None:
    found: dict[str, dict[str, int]] = {}
    for name, start, end in calls_of(trace).records("name", "start_ns", "end_ns"):
        if name.endswith(("Synchronize", "StreamWaitEvent")):
            value = found.setdefault(name, {"count": 0, "ns": 0})
            value["count"] += 1
            value["ns"] += end - start
    assert found == expected["sync_calls"]


@each()
def test_api_calls_that_failed(trace: Trace, expected: dict[str, Any]) -> None:
    found = Counter(f"{name}={value}" for name, value in calls_of(trace).records("name", "return_value") if value)
    assert found == expected["failed_calls"]


SYNC_OF_CALL = {
    "StreamSynchronize": "stream",
    "StreamWaitEvent": "stream_wait",
    "EventSynchronize": "event",
    "EventQuery": "event",
    "DeviceSynchronize": "context",
    "CtxSynchronize": "context",
    # cuProfilerStop shares its correlation id with a cuCtxSynchronize, inside which the synchronization lies
    "ProfilerStop": "context",
}


@each("sync_activity_by_call")
def test_synchronizations_are_named_by_their_calls(trace: Trace, expected: dict[str, Any]) -> None:
    want = Counter[str]()
    for label, count in expected["sync_activity_by_call"].items():
        call = label.split(" <- ")[1].removeprefix("cuda").removeprefix("cu")
        want[SYNC_OF_CALL[call]] += count
    assert Counter(rows(trace, "synchronizations", "kind")["kind"]) == want


# NVTX


class Range(NamedTuple):
    row: int
    start: int
    end: int
    pid: int
    tid: int
    domain: str
    name: str
    parent: int

    @property
    def ns(self) -> int:
        return self.end - self.start


@cache
def push_pop(trace: Trace) -> list[Range]:
    of = rows(trace, "nvtx_ranges", "start_ns", "end_ns", "pid", "tid", "domain", "name", "parent", "kind")
    fields = ("start_ns", "end_ns", "pid", "tid", "domain", "name", "parent", "kind")
    return [Range(row, *record) for row, (*record, kind) in enumerate(of.records(*fields)) if kind == "push_pop"]


@each()
def test_nvtx_ranges(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["nvtx"]
    ranges = push_pop(trace)
    declared = {"", *want["domains"]}
    domains = Counter(r.domain if r.domain in declared else "?" for r in ranges)
    assert len(ranges) == want["ranges"]
    assert domains == want["ranges_by_domain"]
    assert domains["TensorRT"] == want["tensorrt_ranges"]
    assert all(r.end >= r.start for r in ranges)
    assert trace.table("nvtx_ranges").num_rows <= expected["table_rows"].get("NVTX_EVENTS", 0)


@each()
def test_tensorrt_executions(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["nvtx"]
    domain = [r for r in push_pop(trace) if r.domain == "TensorRT" or "TensorRT" not in want["domains"]]
    enqueues = [r.ns for r in domain if r.name == "ExecutionContext::enqueue"]
    assert len(enqueues) == want["enqueue_ranges"]
    assert (median(enqueues) if enqueues else None) == want["enqueue_median_ns"]
    assert sum(r.name == "ExecutionContext::execute" for r in domain) == want["execute_ranges"]
    assert sum((r.domain, r.name) == ("nsight_tools", "inference") for r in push_pop(trace)) == want["inference_ranges"]


def nested_by_a_stack(ranges: list[Range]) -> dict[int, tuple[int, int]]:
    """(depth, parent) of each range, by a stack a thread."""
    result: dict[int, tuple[int, int]] = {}
    threads: dict[tuple[int, int], list[Range]] = defaultdict(list)
    for r in sorted(ranges, key=lambda r: (r.start, -r.end, r.row)):
        stack = threads[r.pid, r.tid]
        while stack and stack[-1].end < r.end:
            stack.pop()
        result[r.row] = (len(stack), stack[-1].row if stack else -1)
        stack.append(r)
    return result


@each("nvtx", "ranges")
def test_nesting_of_ranges(trace: Trace) -> None:
    found = rows(trace, "nvtx_ranges", "depth", "parent")
    nested = nested_by_a_stack(push_pop(trace))
    assert {row: (int(found["depth"][row]), int(found["parent"][row])) for row in nested} == nested


# Attribution: kernel -> call -> range -> layer

LAUNCH = (
    "work",
    "row",
    "start_ns",
    "end_ns",
    "pid",
    "tid",
    "api_call",
    "call_start_ns",
    "call_end_ns",
    "nvtx_range",
    "layer",
    "layer_source",
    "inference",
)


def launches(trace: Trace) -> Rows:
    return rows(trace, "launches", *LAUNCH)


def launched_kernels(trace: Trace) -> Rows:
    of = launches(trace)
    return of.where(work == "kernel" for work in of["work"])


@each()
def test_kernels_without_launch_call(trace: Trace, expected: dict[str, Any]) -> None:
    assert int((launched_kernels(trace)["api_call"] == -1).sum()) == expected["kernels_without_launch_call"]


@each()
def test_launches_repeat_what_they_point_to(trace: Trace) -> None:
    calls = rows(trace, "api_calls", "start_ns", "end_ns", "pid", "tid", "correlation_id")
    tables = {"kernel": "kernels", "copy": "memory_ops", "set": "memory_ops", "graph": "graph_launches"}
    work = {kind: rows(trace, table, "start_ns", "end_ns", "pid", "correlation_id") for kind, table in tables.items()}
    for kind, row, start, end, pid, tid, call, call_start, call_end in launches(trace).records(*LAUNCH[:9]):
        of = work[kind]
        assert (of["start_ns"][row], of["end_ns"][row], of["pid"][row]) == (start, end, pid)
        if call != -1:
            assert (calls["start_ns"][call], calls["end_ns"][call]) == (call_start, call_end)
            assert (calls["pid"][call], calls["tid"][call]) == (pid, tid)
            assert calls["correlation_id"][call] == of["correlation_id"][row]


def tensorrt_range_of(trace: Trace) -> dict[int, Range | None]:
    """Row of a launch -> the innermost TensorRT range around its call, climbing from the innermost of any domain."""
    ranges = {r.row: r for r in push_pop(trace)}
    result: dict[int, Range | None] = {}
    of = launches(trace)
    for row, (innermost, start, end) in enumerate(of.records("nvtx_range", "call_start_ns", "call_end_ns")):
        found = ranges.get(innermost)
        while found and not (found.domain == "TensorRT" and found.start <= start and end <= found.end):
            found = ranges.get(found.parent)
        result[row] = found
    return result


@each()
def test_layers_are_the_innermost_tensorrt_ranges(trace: Trace) -> None:
    of, ranges = launches(trace), tensorrt_range_of(trace)
    for row, (layer, source) in enumerate(of.records("layer", "layer_source")):
        if source != "graph_node":
            found = ranges[row]
            is_layer = found is not None and not found.name.startswith("ExecutionContext::")
            assert (layer, source) == ((found.name, "range") if found and is_layer else (None, None)), row


@each("layers")
def test_layers(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["layers"]
    of, ranges = launches(trace), tensorrt_range_of(trace)
    count, total, reformats, reformat_ns, in_layer_ns = 0, 0, 0, 0, 0
    layers: dict[str, list[int]] = defaultdict(list)
    enqueue_only = no_range = 0
    for row, (work, layer, start, end) in enumerate(of.records("work", "layer", "start_ns", "end_ns")):
        if work != "kernel":
            continue
        count, total = count + 1, total + end - start
        if layer is not None:
            layers[layer].append(end - start)
            in_layer_ns += end - start
            if layer.startswith("Reformatting"):
                reformats, reformat_ns = reformats + 1, reformat_ns + end - start
        elif ranges[row]:
            enqueue_only += 1
        else:
            no_range += 1
    in_layer = count - enqueue_only - no_range
    assert (in_layer, enqueue_only, no_range) == tuple(
        want[key] for key in ("kernels_in_layer", "kernels_in_enqueue_only", "kernels_in_no_range")
    )
    assert len(layers) == want["distinct_layers_with_kernels"]
    assert (reformats, reformat_ns) == (want["reformat_kernels"], want["reformat_ns"])
    shares = {
        "kernel_share_in_layer": in_layer / count,
        "ns_share_in_layer": in_layer_ns / total,
        "reformat_kernel_share": reformats / count,
        "reformat_ns_share": reformat_ns / total,
    }
    assert shares == pytest.approx({key: want[key] for key in shares}, abs=ROUNDING)

    top = sorted((sum(ns) for ns in layers.values()), reverse=True)[: len(want["top_layers_by_ns"])]
    assert top == [layer["ns"] for layer in want["top_layers_by_ns"]]
    for layer in want["top_layers_by_ns"]:
        assert (len(layers[layer["name"]]), sum(layers[layer["name"]])) == (layer["kernels"], layer["ns"])


@each("layers_via_graph_nodes")
def test_layers_of_graph_nodes(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["layers_via_graph_nodes"]
    nodes = rows(trace, "graph_nodes", "start_ns", "pid", "tid", "graph_node_id", "original_graph_node_id")
    original: dict[int, int] = {}
    created: dict[int, tuple[int, int, int]] = {}
    for start, pid, tid, node, captured in nodes.records(
        "start_ns", "pid", "tid", "graph_node_id", "original_graph_node_id"
    ):
        if captured == -1:
            created[node] = (start, pid, tid)
        else:
            original[node] = captured
    tensorrt = [r for r in push_pop(trace) if r.domain == "TensorRT"]

    of = rows(trace, "kernels", "start_ns", "end_ns", "graph_node_id")
    count, ns, used = Counter[str](), Counter[str](), set()
    for start, end, node in of.records("start_ns", "end_ns", "graph_node_id"):
        if node == -1:
            continue
        used.add(node)
        if node not in original or original[node] not in created:
            where = "unknown_node"
        else:
            time, pid, tid = created[original[node]]
            around = [r for r in tensorrt if (r.pid, r.tid) == (pid, tid) and r.start <= time < r.end]
            where = "in_range" if around else "created_outside_ranges"
        count[where] += 1
        ns[where] += end - start
    assert (count.total(), len(used)) == (want["graph_kernels"], want["nodes_with_kernels"])
    assert count == want["kernels"]
    assert ns == want["ns"]
    layers = {layer for layer, work in launches(trace).records("layer", "work") if work == "kernel" and layer}
    assert len(layers) == want["distinct_layers"]


# Inferences


class Inference(NamedTuple):
    start: int
    end: int
    compute: list[Interval]
    copies: list[Interval]

    @property
    def work(self) -> list[Interval]:
        return [*self.compute, *self.copies]


@cache
def inferences(trace: Trace) -> list[Inference]:
    """The runner's inference ranges, each with the GPU work that `launches` says is its own."""
    compute: dict[int, list[Interval]] = defaultdict(list)
    copies: dict[int, list[Interval]] = defaultdict(list)
    for number, work, start, end in launches(trace).records("inference", "work", "start_ns", "end_ns"):
        (compute if work in {"kernel", "graph"} else copies)[number].append((start, end))
    of = rows(trace, "inferences", "inference", "range_start_ns", "range_end_ns", "source")
    return [
        Inference(start, end, compute[number], copies[number])
        for number, start, end, source in of.records("inference", "range_start_ns", "range_end_ns", "source")
        if source == "inference_range"
    ]


@each("inference")
def test_inference_ranges(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["inference"]
    found = inferences(trace)
    walls = [i.end - i.start for i in found]
    assert len(found) == want["count"]
    assert median(walls) == want["wall_median_ns"]
    assert (min(walls), max(walls)) == (want["wall_min_ns"], want["wall_max_ns"])
    assert max(i.end for i in found) - min(i.start for i in found) == want["first_start_to_last_end_ns"]
    assert len(set(rows(trace, "inferences", "pid", "tid").records("pid", "tid"))) == want["threads"]


@each("inference")
def test_inference_kernels(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["inference"]
    found = inferences(trace)
    assert Counter(str(len(i.compute)) for i in found) == want["kernels_per_inference"]
    assert sum(not i.compute for i in found) == want["ranges_without_kernels"]
    outside = launched_kernels(trace)["inference"] == -1
    assert int(outside.sum()) == want["kernels_outside"]

    columns = rows(trace, "inferences", "kernels", "graphs", "copies")
    assert [k + g for k, g in columns.records("kernels", "graphs")] == [len(i.compute) for i in found]
    assert columns["copies"].tolist() == [len(i.copies) for i in found]


@each("inference")
def test_inference_gpu_times(trace: Trace, expected: dict[str, Any]) -> None:
    want = expected["inference"]
    found = inferences(trace)
    working = [i for i in found if i.work]
    last = {id(i): max(end for _, end in i.work) for i in working}
    assert median(length(merged(i.compute)) for i in found if i.compute) == want["gpu_busy_median_ns"]
    assert median(length(merged(i.work)) for i in working) == want["gpu_busy_with_copies_median_ns"]
    assert median(last[id(i)] - min(start for start, _ in i.work) for i in working) == want["gpu_span_median_ns"]
    assert median(last[id(i)] - i.start for i in working) == want["start_to_gpu_end_median_ns"]


@each()
def test_inference_accounting_closes(trace: Trace) -> None:
    of = rows(trace, "inferences", "start_ns", "end_ns", "wall_ns", *BUCKETS)
    for start, end, wall, *buckets in of.records("start_ns", "end_ns", "wall_ns", *BUCKETS):
        assert end - start == wall
        assert sum(buckets) == wall
        assert min(buckets) >= 0


@each("inference")
def test_inference_buckets_of_gpu_work(trace: Trace) -> None:
    """Compute is the union of an inference's kernels, exposed copies what its work covers beyond them.

    No kernel of these traces communicates.
    """
    assert not any("nccl" in name.lower() for name in rows(trace, "kernels", "name")["name"])
    columns = ("start_ns", "end_ns", *BUCKETS[:5], "hidden_communication_ns", "hidden_copy_ns", "gpu_busy_ns")
    of = rows(trace, "inferences", *columns)
    for number, record in enumerate(of.records(*columns)):
        start, end, compute, exposed_communication, *exposed, hidden_communication, hidden, gpu_busy = record
        assert (exposed_communication, hidden_communication) == (0, 0)
        own = inferences(trace)[number]
        busy, copying = merged(own.compute), merged(own.copies)
        assert start <= min([own.start, *(s for s, _ in own.work)])
        assert end == max([own.end, *(e for _, e in own.work)])
        assert compute == length(busy)
        assert sum(exposed) == length(merged(own.work)) - length(busy)
        assert hidden == length(common(busy, copying))
        assert gpu_busy == length(merged(own.work))


def independent_accounting() -> ModuleType:
    """The sample traces' own script: sqlite3 and loops."""
    path = Path(__file__).resolve().parents[2] / "sample_traces" / "compute_expected.py"
    spec = importlib.util.spec_from_file_location("compute_expected", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each("inference")
def test_inference_accounting_by_a_loop(trace: Trace, corpus_file: Callable[[str], Path], name: str) -> None:
    """To the nanosecond; of long traces the first inferences, as the loop takes time."""
    loop = independent_accounting()
    export = loop.Export(corpus_file(name))
    calls = {(loop.process_of(call.thread), call.correlation): call for call in export.calls}
    found = trace.table("inferences").to_pylist()
    for number, want in enumerate(loop.inference_values(export, calls, limit=50)):
        assert {key: found[number][key] for key in want} == want, number


# Metrics


def samples(trace: Trace, metric: str) -> tuple[Ints, npt.NDArray[np.float64]]:
    of = rows(trace, "gpu_metrics", "time_ns", "metric", "value")
    of = of.where(m == metric for m in of["metric"])
    return of["time_ns"], of["value"]


METRICS = {
    "gpc_clock_mhz": "GPC Clock Frequency [MHz]",
    "sm_active_pct": "SMs Active [Throughput %]",
    "gr_active_pct": "GR Active [Throughput %]",
}


@pytest.mark.parametrize("key", METRICS)
@each("gpu_metrics")
def test_gpu_metrics(trace: Trace, expected: dict[str, Any], key: str) -> None:
    want = expected[key] if key in expected else expected["gpu_metrics"][key]
    time, value = samples(trace, METRICS[key])
    busy = np.array(merged(intervals(kernels(trace))))
    at = np.searchsorted(busy[:, 0], time, side="right") - 1
    inside = value[(at >= 0) & (time <= busy[at.clip(0), 1])]
    found = {
        "samples": len(value),
        "samples_in_kernels": len(inside),
        "min": inside.min(),
        "median": np.median(inside),
        "max": inside.max(),
        "all_min": value.min(),
        "all_median": np.median(value),
        "all_max": value.max(),
    }
    assert found == pytest.approx(want, abs=ROUNDING * 1000)  # the clocks have three decimals
    assert len(set(rows(trace, "gpu_metrics", "metric")["metric"])) == expected["gpu_metrics"]["metrics"]


@each("generic_events")
def test_nvml_metrics(trace: Trace, expected: dict[str, Any]) -> None:
    values: dict[str, list[float]] = defaultdict(list)
    for metric, value in rows(trace, "nvml_metrics", "metric", "value").records("metric", "value"):
        values[metric].append(value)
    assert {
        metric: {"count": len(found), "min": min(found), "median": median(found), "max": max(found)}
        for metric, found in values.items()
    } == expected["generic_events"]
