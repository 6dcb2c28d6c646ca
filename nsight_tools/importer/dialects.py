"""What each version of Nsight Systems calls things: the one place that knows.

For each table of the dataset, the export tables that it comes from, and for each column how it is found there.
Where a column had several names, all are listed and the first that the export has is taken; a column that an
export lacks is null, unless it is `required`: every version from 2020.4 to 2026.2 writes those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from nsight_tools import cuda_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class How(Enum):
    """How a raw value becomes ours."""

    INTEGER = "an integer as it is"
    ID = "an unsigned 32-bit id; all ones, none, becomes -1"
    GPU = "a CUDA device number of a process, as the number of the GPU"
    PID = "the process in a global id"
    TID = "the thread in a global id"
    STRING = "a reference into StringIds, or text"
    API_NAME = "the same, without the version suffix of a CUDA call"
    API_KIND = "the same: is it a runtime or a driver call"
    WORD = "an enumeration"
    RANGE_END = "when an NVTX range ended; a mark ends where it stands"
    DOMAIN = "an NVTX domain of a process, by the event that created it"
    SYNC = "a synchronization's type, corrected by the API call that made it"
    CALL_START = "a correlation id, as the start of the API call that recorded an event; null without one"
    TEXT = "text that rarely repeats"


@dataclass(frozen=True)
class From:
    """Where a column's values are found: the names that it had, newest first, and what to do with the value."""

    how: How
    names: tuple[str, ...]
    required: bool = False
    enum: str = ""
    words: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    inline: str = ""


@dataclass(frozen=True)
class Listing:
    """A short table of the export, or one of many like it, and the names that each column of ours had there."""

    table: str
    integers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What the words of another column of ours tell."""

    column: str
    by: Callable[[str], str | bool]


@dataclass(frozen=True)
class Source:
    """An export table, and where our columns stand in it; a plain string is a constant."""

    table: str
    columns: Mapping[str, From | Told | str]
    only: str = ""
    """Keep only the rows in which this column of ours is not null."""


def _required(how: How, *names: str) -> From:
    return From(how, names, required=True)


def _optional(how: How, *names: str) -> From:
    return From(how, names)


# word: (name in the export's ENUM table, values where the export has no such table, which are CUPTI's)
_COPY_KIND = {
    "unknown": ("CUDA_MEMCPY_KIND_UNKNOWN", (0,)),
    "h2d": ("CUDA_MEMCPY_KIND_HTOD", (1,)),
    "d2h": ("CUDA_MEMCPY_KIND_DTOH", (2,)),
    "h2a": ("CUDA_MEMCPY_KIND_HTOA", (3,)),
    "a2h": ("CUDA_MEMCPY_KIND_ATOH", (4,)),
    "a2a": ("CUDA_MEMCPY_KIND_ATOA", (5,)),
    "a2d": ("CUDA_MEMCPY_KIND_ATOD", (6,)),
    "d2a": ("CUDA_MEMCPY_KIND_DTOA", (7,)),
    "d2d": ("CUDA_MEMCPY_KIND_DTOD", (8,)),
    "h2h": ("CUDA_MEMCPY_KIND_HTOH", (9,)),
    "p2p": ("CUDA_MEMCPY_KIND_PTOP", (10,)),
    "managed_h2d": ("CUDA_MEMCPY_KIND_UVM_HTOD", (11,)),
    "managed_d2h": ("CUDA_MEMCPY_KIND_UVM_DTOH", (12,)),
    "managed_d2d": ("CUDA_MEMCPY_KIND_UVM_DTOD", (13,)),
}
_MEMORY = {
    "pageable": ("CUDA_MEMOPR_MEMORY_KIND_PAGEABLE", (0,)),
    "pinned": ("CUDA_MEMOPR_MEMORY_KIND_PINNED", (1,)),
    "device": ("CUDA_MEMOPR_MEMORY_KIND_DEVICE", (2,)),
    "array": ("CUDA_MEMOPR_MEMORY_KIND_ARRAY", (3,)),
    "managed": ("CUDA_MEMOPR_MEMORY_KIND_MANAGED", (4,)),
    "device_static": ("CUDA_MEMOPR_MEMORY_KIND_DEVICE_STATIC", (5,)),
    "managed_static": ("CUDA_MEMOPR_MEMORY_KIND_MANAGED_STATIC", (6,)),
    "unknown": ("CUDA_MEMOPR_MEMORY_KIND_UNKNOWN", (7,)),
}
_NVTX_KIND = {
    "push_pop": ("NvtxPushPopRange", (59,)),
    "start_end": ("NvtxStartEndRange", (60,)),
    "mark": ("NvtxMark", (34,)),
}
NVTX_KINDS = "ENUM_NSYS_EVENT_TYPE"
NVTX_MARK, NVTX_DOMAIN_CREATE = ("NvtxMark", 34), ("NvtxDomainCreate", 75)
_ALLOCATION = {
    "allocate": ("CUDA_DEV_MEM_EVENT_OPR_ALLOCATION", (0,)),
    "free": ("CUDA_DEV_MEM_EVENT_OPR_DEALLOCATION", (1,)),
}
_SEVERITY = {
    "unknown": ("UnknownLevel", (0,)),
    "info": ("Info", (1,)),
    "warning": ("Warning", (2,)),
    "error": ("Error", (3,)),
    "verbose": ("Verbose", (4,)),
}
_DIAGNOSTIC_SOURCE = {
    "unknown": ("UnknownSource", (0,)),
    "injection": ("Injection", (1,)),
    "daemon": ("Daemon", (2,)),
    "analysis": ("Analysis", (3,)),
}
STREAM_KIND = {
    "unknown": ("CUPTI_ACTIVITY_STREAM_CREATE_FLAG_UNKNOWN", (0,)),
    "blocking": ("CUPTI_ACTIVITY_STREAM_CREATE_FLAG_DEFAULT", (1,)),
    "non_blocking": ("CUPTI_ACTIVITY_STREAM_CREATE_FLAG_NON_BLOCKING", (2,)),
    "legacy_default": ("CUPTI_ACTIVITY_STREAM_CREATE_FLAG_NULL", (3,)),
}

SYNC_BY_CALL = (
    ("StreamSynchronize", "stream"),
    ("StreamWaitEvent", "stream_wait"),
    ("EventSynchronize", "event"),
    ("DeviceSynchronize", "context"),
    ("CtxSynchronize", "context"),
    ("ThreadSynchronize", "context"),
)
"""What an API call waits for: the end of its name without version suffix. syncType changed its meaning twice."""

SYNC_BY_TYPE: tuple[tuple[tuple[int, int], Mapping[int, str]], ...] = (
    # (schema version from which it holds, meaning): only for synchronizations whose API call is not in the report.
    ((3, 24), {1: "event", 2: "stream_wait", 3: "stream", 4: "context"}),
    ((3, 12), {1: "event", 2: "stream", 4: "context"}),
    ((0, 0), {1: "context", 2: "event", 3: "stream"}),
)

HERTZ_LABELLED_MEGAHERTZ = 100_000
"""A clock labelled MHz above this is in Hz, as 2025.3 writes it: no GPU clocks at 100 GHz, and none under 0.1 MHz."""

METRICS: Mapping[str, tuple[str, ...]] = {
    "sm_clock": ("GPC Clock Frequency", "SM Clock Frequency", "SM Frequency"),
    "active": ("GR Active", "GPC Active"),
    "sms_active": ("SMs Active", "SM Active"),
    "sm_issue": ("SM Issue",),
    "tensor_active": ("Tensor Active",),
    "warps": ("Compute Warps in Flight", "Compute Warps In Flight"),
    "dram_read": ("DRAM Read", "VRAM Read"),
    "dram_write": ("DRAM Write", "VRAM Write"),
}
"""What Nsight Systems has called the clock of the SMs, the share of time in which the GPU's engine works, and its
parts' shares of their peaks, for whomever: what its names begin with, by metric set (its user guide, "GPU Metrics").
A metric that it gives in several units counts in percent."""


def meaning(metric: str) -> str | None:
    """What a metric is, whatever its name: a word of `METRICS`; None for all others."""
    name, _, unit = metric.partition(" [")
    if unit.startswith("Avg"):
        return None
    return next((word for word, names in METRICS.items() if name.startswith(names)), None)


NVML_UNITS = {"Power": "W", "Temperature": "C"}

_START = _required(How.INTEGER, "start")
_END = _required(How.INTEGER, "end")
_THREAD: dict[str, From | Told | str] = {
    "start_ns": _START,
    "end_ns": _END,
    "pid": _optional(How.PID, "globalTid"),
    "tid": _optional(How.TID, "globalTid"),
}
_PLACE: dict[str, From | Told | str] = {
    "device": _required(How.GPU, "deviceId"),
    "context": _required(How.ID, "contextId"),
    "stream": _required(How.ID, "streamId"),
    "pid": _optional(How.PID, "globalPid"),
    "correlation_id": _optional(How.INTEGER, "correlationId"),
}
_GPU: dict[str, From | Told | str] = {"start_ns": _START, "end_ns": _END, **_PLACE}
_NODE: dict[str, From | Told | str] = {"graph_node_id": _optional(How.INTEGER, "graphNodeId")}
_DIMENSIONS: dict[str, From | Told | str] = {
    f"{what}_{axis}": _required(How.INTEGER, f"{what}{axis.upper()}") for what in ("grid", "block") for axis in "xyz"
}

_CUDA_ACTIVITY = "CUPTI_ACTIVITY_KIND_"
KERNEL_TABLE = "CUPTI_ACTIVITY_KIND_KERNEL"
API_TABLE = "CUPTI_ACTIVITY_KIND_RUNTIME"

STREAMED: Mapping[str, tuple[Source, ...]] = {
    "kernels": (
        Source(
            KERNEL_TABLE,
            {
                **_GPU,
                **_DIMENSIONS,
                **_NODE,
                "name": _required(How.STRING, "demangledName"),
                "short_name": _required(How.STRING, "shortName"),
                "registers": _required(How.INTEGER, "registersPerThread"),
                "static_shared_memory_bytes": _required(How.INTEGER, "staticSharedMemory"),
                "dynamic_shared_memory_bytes": _required(How.INTEGER, "dynamicSharedMemory"),
                "local_memory_bytes": _required(How.INTEGER, "localMemoryPerThread"),
                "communicates": Told("name", cuda_names.communicates),
            },
        ),
    ),
    "memory_ops": (
        Source(
            "CUPTI_ACTIVITY_KIND_MEMCPY",
            {
                **_GPU,
                **_NODE,
                "kind": From(How.WORD, ("copyKind",), True, "ENUM_CUDA_MEMCPY_OPER", _COPY_KIND),
                "size_bytes": _required(How.INTEGER, "bytes"),
                "src_memory": From(How.WORD, ("srcKind",), False, "ENUM_CUDA_MEM_KIND", _MEMORY),
                "dst_memory": From(How.WORD, ("dstKind",), False, "ENUM_CUDA_MEM_KIND", _MEMORY),
                "src_device": _optional(How.GPU, "srcDeviceId"),
                "dst_device": _optional(How.GPU, "dstDeviceId"),
            },
        ),
        Source(
            "CUPTI_ACTIVITY_KIND_MEMSET",
            {
                **_GPU,
                **_NODE,
                "kind": "memset",
                "size_bytes": _required(How.INTEGER, "bytes"),
                "dst_memory": From(How.WORD, ("memKind",), False, "ENUM_CUDA_MEM_KIND", _MEMORY),
            },
        ),
    ),
    "api_calls": (
        Source(
            API_TABLE,
            {
                **_THREAD,
                "correlation_id": _optional(How.INTEGER, "correlationId"),
                "name": _required(How.API_NAME, "nameId"),
                "kind": _required(How.API_KIND, "nameId"),
                "return_value": _optional(How.INTEGER, "returnValue"),
                "does": Told("name", cuda_names.does),
            },
        ),
    ),
    "synchronizations": (
        Source(
            "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
            {**_GPU, "kind": _required(How.SYNC, "syncType"), "event_id": _optional(How.ID, "eventId")},
        ),
    ),
    "event_records": (
        Source(
            "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
            {
                **_PLACE,
                "time_ns": _optional(How.CALL_START, "correlationId"),
                "event_id": _required(How.ID, "eventId"),
            },
            only="time_ns",
        ),
    ),
    "nvtx_ranges": (
        Source(
            "NVTX_EVENTS",
            {
                **_THREAD,
                "end_ns": _required(How.RANGE_END, "end"),
                "domain": _optional(How.DOMAIN, "domainId"),
                "name": From(How.STRING, ("textId",), inline="text"),
                "kind": From(How.WORD, ("eventType",), True, NVTX_KINDS, _NVTX_KIND),
                "payload": _optional(How.INTEGER, "int64Value", "uint64Value", "int32Value", "uint32Value"),
                "json": From(How.STRING, ("jsonTextId",), inline="jsonText"),
            },
            only="kind",
        ),
    ),
    "graph_launches": (
        Source(
            "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
            {
                **_GPU,
                "graph_id": _optional(How.INTEGER, "graphId"),
                "graph_exec_id": _optional(How.INTEGER, "graphExecId"),
            },
        ),
    ),
    "graph_nodes": tuple(
        Source(
            table,
            {
                **_THREAD,
                "graph_node_id": _optional(How.INTEGER, "graphNodeId"),
                "original_graph_node_id": _optional(How.INTEGER, "originalGraphNodeId"),
                "name": _optional(How.API_NAME, "nameId"),
            },
            only="graph_node_id",
        )
        for table in ("CUDA_GRAPH_NODE_EVENTS", "CUDA_GRAPH_EVENTS")  # one table up to 2022.4
    ),
    "memory_usage": (
        Source(
            "CUDA_GPU_MEMORY_USAGE_EVENTS",
            {
                "time_ns": _START,
                "device": _required(How.GPU, "deviceId"),
                "context": _required(How.ID, "contextId"),
                "pid": _optional(How.PID, "globalPid"),
                "correlation_id": _optional(How.INTEGER, "correlationId"),
                "kind": From(How.WORD, ("memoryOperationType",), True, "ENUM_CUDA_DEV_MEM_EVENT_OPER", _ALLOCATION),
                "memory": From(How.WORD, ("memKind",), False, "ENUM_CUDA_MEM_KIND", _MEMORY),
                "size_bytes": _required(How.INTEGER, "bytes"),
                "address": _optional(How.INTEGER, "address"),
            },
        ),
    ),
    "osrt_calls": (Source("OSRT_API", {**_THREAD, "name": _required(How.STRING, "nameId")}),),
    "profiler_overhead": tuple(
        Source(table, {**_THREAD, "name": _optional(How.STRING, "nameId")})
        for table in ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD")
    ),
    "diagnostics": (
        Source(
            "DIAGNOSTIC_EVENT",
            {
                "time_ns": _required(How.INTEGER, "timestamp"),
                "pid": _optional(How.PID, "globalPid"),
                "severity": From(How.WORD, ("severity",), False, "ENUM_DIAGNOSTIC_SEVERITY_LEVEL", _SEVERITY),
                "source": From(How.WORD, ("source",), False, "ENUM_DIAGNOSTIC_SOURCE_TYPE", _DIAGNOSTIC_SOURCE),
                "text": _optional(How.TEXT, "text"),
            },
        ),
    ),
}
"""The tables that may be long: read and written chunk by chunk."""

_GPU_INTEGERS: Mapping[str, tuple[str, ...]] = {
    # ours: names in TARGET_INFO_GPU, or in 2020's TARGET_INFO_CUDA_GPU (whose clock and bandwidth have other units)
    "device": ("cuDevice", "id", "deviceId"),
    "compute_major": ("computeMajor", "computeCapabilityMajor"),
    "compute_minor": ("computeMinor", "computeCapabilityMinor"),
    "sm_count": ("smCount", "numMultiprocessors"),
    "max_sm_clock_hz": ("clockRate",),
    "memory_bytes": ("totalMemory", "globalMemorySize"),
    "memory_bandwidth_bytes_per_s": ("memoryBandwidth",),
    "l2_cache_bytes": ("l2CacheSize",),
    "max_warps_per_sm": ("maxWarpsPerSm", "maxWarpsPerMultiprocessor"),
    "max_blocks_per_sm": ("maxBlocksPerSm", "maxBlocksPerMultiprocessor"),
    "max_registers_per_sm": ("maxRegistersPerSm", "maxRegistersPerMultiprocessor"),
    "max_shared_memory_per_sm_bytes": ("maxShmemPerSm", "maxSharedMemoryPerMultiprocessor"),
    "async_engines": ("asyncEngines", "numMemcpyEngines"),
    "discrete": ("isDiscrete",),
}
_GPU_TEXTS: Mapping[str, tuple[str, ...]] = {
    "bus_id": ("busLocation",),
    "chip": ("chipName",),
    "name": ("name",),
}
GPUS = tuple(Listing(table, _GPU_INTEGERS, texts=_GPU_TEXTS) for table in ("TARGET_INFO_GPU", "TARGET_INFO_CUDA_GPU"))
"""What is known of the GPUs; the second has the properties in 2020."""
CUDA_DEVICES = Listing("TARGET_INFO_CUDA_DEVICE", {"gpu": ("gpuId",), "ordinal": ("cudaId",), "pid": ("pid",)})
"""Which GPU each CUDA device of a process is (recorded from 2025.1 on)."""

STREAMS = Listing(
    "TARGET_INFO_CUDA_STREAM",
    {
        "stream": ("streamId",),
        "pid": ("processId",),
        "context": ("contextId",),
        "priority": ("priority",),
        "flag": ("flag",),
    },
)
STREAM_KINDS = "ENUM_CUPTI_STREAM_TYPE"
NULL_STREAMS = tuple(
    Listing(table, {"pid": ("processId",), "context": ("contextId",), "stream": (stream,)})
    for table, stream in (
        ("TARGET_INFO_CUDA_CONTEXT_INFO", "nullStreamId"),
        ("TARGET_INFO_CUDA_NULL_STREAM", "streamId"),
    )
)
PROCESSES = Listing("PROCESSES", {"process": ("globalPid",)}, texts={"name": ("name",)})
THREADS = Listing("ThreadNames", {"name": ("nameId",), "thread": ("globalTid",)})

GPU_METRICS = Listing(
    "GPU_METRICS",
    {"time": ("timestamp", "start"), "type": ("typeId",), "metric": ("metricId",)},
    reals={"value": ("value",)},
)
GPU_METRIC_NAMES = Listing(
    "TARGET_INFO_GPU_METRICS", {"type": ("typeId",), "metric": ("metricId",)}, texts={"name": ("metricName",)}
)
GPU_METRICS_AS_JSON = Listing(
    "GENERIC_EVENTS", {"time": ("timestamp",), "type": ("typeId",)}, texts={"data": ("data",)}
)
"""Exporters up to 2022.4 write the GPU's metrics among the generic events: a JSON object a sample, values as text."""
GENERIC_EVENTS = Listing("GENERIC_EVENTS", {"event": ("genericEventId",), "time": ("timestamp",), "type": ("typeId",)})
GENERIC_FIELDS = Listing(
    "GENERIC_EVENT_TYPE_FIELDS", {"type": ("typeId",), "field": ("fieldIdx",), "name": ("fieldNameId",)}
)
GENERIC_VALUES = Listing(
    "GENERIC_EVENT_DATA",
    {"event": ("genericEventId",), "field": ("fieldIdx",), "whole": ("intVal", "uintVal")},
    reals={"real": ("floatVal", "doubleVal")},
)

STRINGS = Listing("StringIds", {"id": ("id",)}, texts={"value": ("value",)})
NVTX_DOMAINS = Listing(
    "NVTX_EVENTS",
    {"thread": ("globalTid",), "domain": ("domainId",), "text_id": ("textId",)},
    texts={"text": ("text",)},
)
"""Domains, by the events that created them: those with NVTX_DOMAIN_CREATE in this column."""
NVTX_EVENT_KIND = "eventType"

SESSION_START = Listing("TARGET_INFO_SESSION_START_TIME", {"utc": ("utcEpochNs",)})
SESSION_TIMES = Listing("ANALYSIS_DETAILS", {"duration": ("duration",)})


def enumeration(table: str) -> Listing:
    """Names and values of one of the export's ENUM tables. 2022.4 misspells one, but none of those read here."""
    return Listing(table, {"id": ("id",)}, texts={"name": ("name",)})


def pairs(table: str) -> Listing:
    """A table of names and values."""
    return Listing(table, texts={"name": ("name",), "value": ("value",)})


def of_nsight_systems(tables: Iterable[str]) -> bool:
    """Whether an export with these tables is one of Nsight Systems."""
    known = (STRINGS.table, GPUS[0].table, NVTX_DOMAINS.table)
    return any(table in known or table.startswith((_CUDA_ACTIVITY, "TARGET_INFO_")) for table in tables)


def has_cuda_activity(tables: Iterable[str]) -> bool:
    """Whether CUDA was traced at all: an export lacks the tables that had no rows."""
    return any(table.startswith(_CUDA_ACTIVITY) for table in tables)


GIL_DOMAIN = "GIL Trace"
GIL_WAITING, GIL_HOLDING = "Waiting for GIL", "Holding GIL"
"""What `--trace=python-gil` tells of each thread of a Python, as NVTX ranges. Seen in reports of 2023.4 and 2024.2."""
PROFILER_DOMAINS = (GIL_DOMAIN, "Python Backtrace")
"""NVTX domains of Nsight Systems itself. With `--python-sampling=true` the second has a mark for each sample, on the
sampler's own thread; the exports of 2023.4 and 2024.2 hold neither the functions of a sample nor whose it is."""
OF_PROFILER = "profiler"
"""The kind of such ranges and marks in the dataset, so that none is taken for the program's own."""

BY_CALLS = ("synchronizations", "event_records")
"""What API calls tell something of: read when those are written."""

CUDA_TABLES = ("kernels", "memory_ops", "api_calls", "synchronizations", "event_records", "graph_launches")
"""Collected together, by `nsys profile --trace=cuda`: where one has rows, the others were looked for."""


class NotCollected(NamedTuple):
    """Why a report has no data for a table, and what would bring it; empty where there is nothing to say."""

    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, self))


NOT_COLLECTED: Mapping[str, NotCollected] = {
    **dict.fromkeys(CUDA_TABLES, NotCollected("", "capture with --trace=cuda,nvtx")),
    "nvtx_ranges": NotCollected("", "capture with --trace=cuda,nvtx"),
    "graph_nodes": NotCollected("", "capture with --cuda-graph-trace=node, the graph's capture inside the collection"),
    "gpu_metrics": NotCollected(
        "", "capture with --gpu-metrics-devices=all (up to 2024.2 --gpu-metrics-device=all), with permission"
    ),
    "nvml_metrics": NotCollected("", "capture with --enable=nvml_metrics,-i100 (from Nsight Systems 2025 on)"),
    "memory_usage": NotCollected("", "capture with --cuda-memory-usage=true, at a cost"),
    "osrt_calls": NotCollected("", "capture with --trace=cuda,nvtx,osrt"),
    "gpus": NotCollected("the report has no description of its GPUs"),
    "streams": NotCollected("the report has no description of its streams"),
    "threads": NotCollected("the report has no thread names"),
    "diagnostics": NotCollected("", "export with Nsight Systems 2024.2 or newer"),
    "profiler_overhead": NotCollected("none was recorded"),
    "layers": NotCollected(
        "", "build with profiling verbosity DETAILED, or put the inspector's JSON beside it as <stem>.layers.json"
    ),
    "layer_times": NotCollected(
        "", "capture with nsight-tools capture --profiler, or give trtexec's --exportProfile by itself"
    ),
    "environment": NotCollected("", "import with --keep-environment"),
    "telemetry": NotCollected("", "capture with nsight-tools capture"),
    "benchmark": NotCollected(
        "", "capture with nsight-tools capture, or give times of a run without the profiler as --untraced"
    ),
    "launches": NotCollected("no GPU work was recorded"),
    "inferences": NotCollected(
        "no inference is marked, and nothing repeats", "name their NVTX ranges with --inference-range"
    ),
    "enqueues": NotCollected("no engine's enqueue and no CUDA graph's launch was traced"),
}
"""By table, where its report says no more."""

DIAGNOSTICS_SINCE = (3, 11)
"""The schema that brought DIAGNOSTIC_EVENT (2024.2; 3.7 has none): from there on, no table means no diagnostic."""

CAPTURE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    # ours: keys in META_DATA_CAPTURE, without the PROCESS_n: prefix that some versions write
    "graph_trace": ("CUDA_GRAPH_TRACE_OPTIONS:MODE",),
    "cpu_sampling_hz": ("RATE_HZ",),
    "gpu_metrics_hz": ("GPU_METRICS_OPTIONS:SAMPLING_FREQUENCY",),
    "memory_usage": ("COLLECT_GPU_MEMORY_USAGE",),
    "cpu_context_switches": ("COLLECT_THREAD_STATE_TRACE",),
    "cuda_trace": ("COLLECT_CUDA_TRACE",),
    "nvtx_trace": ("COLLECT_NVTX_TRACE",),
}
SYSTEM_FACTS: Mapping[str, str] = {
    "driver": "NvDriverVersion",
    "cuda": "CudaDriverVersion",
    "cpu": "CpuDescription",
    "os": "OsDescription",
}
META_TABLES = ("META_DATA_EXPORT", "EXPORT_META_DATA")
CAPTURE_TABLE, SYSTEM_TABLE = "META_DATA_CAPTURE", "TARGET_INFO_SYSTEM_ENV"
ENVIRONMENT = (
    pairs(CAPTURE_TABLE),
    pairs(SYSTEM_TABLE),
    Listing("ProcessStreams", {"name": ("filenameId",), "value": ("contentId",)}),
)
"""What is left out unless the user keeps it; the names and values of the last are references into the strings."""
