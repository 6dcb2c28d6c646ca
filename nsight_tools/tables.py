"""The dataset's schema: every table, column, unit and meaning.

The names and units here never depend on the Nsight Systems version that wrote the report. Times are nanoseconds
since the profiling session started (a report's own clock), as Nsight Systems' window shows them; they can be
negative for what happened before collection started. A column that the report's version does not record is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from nsight_tools import cuda_names

DATASET_VERSION = 9

I16, I32, I64, F64, BOOL, TEXT = pa.int16(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.string()
WORD = pa.dictionary(pa.int32(), pa.string())
"""A string that repeats: a name, or a word of a fixed vocabulary."""

_TENSOR = pa.list_(
    pa.struct({"name": pa.string(), "shape": pa.list_(pa.int64()), "dtype": pa.string(), "format": pa.string()})
)


@dataclass(frozen=True)
class Column:
    """A column: its Arrow type, what it means, and its unit where the name's suffix does not say it."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its columns, and the columns by which its rows are ordered."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    order: tuple[tuple[str, str], ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema, each field with its meaning as metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, c.nullable, metadata={"meaning": c.meaning}) for c in self.columns],
            metadata={"meaning": self.meaning},
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def empty(self) -> pa.Table:
        """A table of this schema without rows."""
        return self.schema.empty_table()

    def numbered(self, rows: pa.Table, first: int = 0) -> pa.Table:
        """`rows`, in the order of this table and from its row `first` on, with their numbers where it has them."""
        if _ROW not in self.columns:
            return rows
        field, numbers = self.schema.field(_ROW.name), pa.array(np.arange(first, first + rows.num_rows))
        at = rows.schema.get_field_index(field.name)
        return rows.append_column(field, numbers) if at < 0 else rows.set_column(at, field, numbers)


_ROW = Column("row", I64, "its number in this table, by which other tables refer to it")
_START = Column("start_ns", I64, "when it started")
_END = Column("end_ns", I64, "when it ended")
_PID = Column("pid", I32, "process that it belongs to")
_TID = Column("tid", I32, "thread that ran it")
_WHERE = (
    Column("device", I32, "GPU, as in `gpus`"),
    Column("context", I32, "CUDA context"),
    Column("stream", I32, "CUDA stream, as in `streams`"),
    _PID,
    Column("correlation_id", I64, "joins to `api_calls` of the same pid; null where the report has none", True),
)
_GRAPH_NODE = Column(
    "graph_node_id",
    I64,
    "node of a CUDA graph that it ran as, as in `graph_nodes`; null where launched by itself",
    True,
)


def _ascending(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "ascending") for name in names)


_GPU_ORDER = _ascending("start_ns", "end_ns", "pid", "device", "context", "stream", "correlation_id", "graph_node_id")

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "gpus",
            "GPUs of the machine",
            (
                Column("device", I32, "number that the other tables use"),
                Column("name", TEXT, "marketing name", True),
                Column("bus_id", TEXT, "PCI bus location", True),
                Column("chip", TEXT, "chip name, as GH100", True),
                Column("compute_major", I32, "compute capability, major", True),
                Column("compute_minor", I32, "compute capability, minor", True),
                Column("sm_count", I32, "streaming multiprocessors; of a capture on a MIG partition, its own", True),
                Column("max_sm_clock_mhz", F64, "highest SM clock", True),
                Column("memory_bytes", I64, "device memory", True),
                Column("memory_bandwidth_bytes_per_s", I64, "peak bandwidth of device memory, bytes per second", True),
                Column("l2_cache_bytes", I64, "L2 cache", True),
                Column("max_warps_per_sm", I32, "resident warps that one SM holds", True),
                Column("max_blocks_per_sm", I32, "resident blocks that one SM holds", True),
                Column("max_registers_per_sm", I32, "32-bit registers of one SM", True),
                Column("max_shared_memory_per_sm_bytes", I64, "shared memory of one SM", True),
                Column("async_engines", I32, "copy engines", True),
                Column("integrated", BOOL, "it shares its memory with the CPU, as on Tegra", True),
            ),
            _ascending("device"),
        ),
        Table(
            "streams",
            "CUDA streams that were created or used",
            (
                _PID,
                Column("context", I32, "CUDA context"),
                Column("stream", I32, "number that the other tables use"),
                Column(
                    "kind",
                    WORD,
                    "legacy_default (the NULL stream), blocking (synchronizes with it), non_blocking, unknown",
                ),
                Column("priority", I32, "lower numbers go first", True),
            ),
            _ascending("pid", "context", "stream"),
        ),
        Table(
            "threads",
            "names of processes and threads",
            (
                _PID,
                Column("tid", I32, "thread"),
                Column("name", WORD, "thread name", True),
                Column("process", WORD, "process name", True),
            ),
            _ascending("pid", "tid"),
        ),
        Table(
            "kernels",
            "kernels that ran on a GPU",
            (
                _START,
                _END,
                *_WHERE,
                Column("name", WORD, "demangled name with template arguments"),
                Column("short_name", WORD, "base name"),
                *(Column(f"{what}_{axis}", I32, f"{what} size") for what in ("grid", "block") for axis in "xyz"),
                Column("registers", I32, "registers per thread"),
                Column("static_shared_memory_bytes", I32, "static shared memory per block"),
                Column("dynamic_shared_memory_bytes", I32, "dynamic shared memory per block"),
                Column("local_memory_bytes", I32, "local memory per thread"),
                _GRAPH_NODE,
                Column("communicates", BOOL, "it moves data between GPUs: NCCL's and others' collectives, by its name"),
                _ROW,
            ),
            _GPU_ORDER,
        ),
        Table(
            "memory_ops",
            "copies and sets of memory that ran on a GPU",
            (
                _START,
                _END,
                *_WHERE,
                Column(
                    "kind",
                    WORD,
                    "h2d d2h d2d h2h p2p h2a a2h a2a a2d d2a managed_h2d managed_d2h managed_d2d memset unknown",
                ),
                Column("size_bytes", I64, "bytes copied or set"),
                Column(
                    "src_memory",
                    WORD,
                    "pageable pinned device array managed device_static managed_static unknown; null for sets",
                    True,
                ),
                Column("dst_memory", WORD, "the same for the destination", True),
                Column("src_device", I32, "source GPU of a peer copy", True),
                Column("dst_device", I32, "destination GPU of a peer copy", True),
                _GRAPH_NODE,
                _ROW,
            ),
            (*_GPU_ORDER, ("size_bytes", "ascending")),
        ),
        Table(
            "api_calls",
            "CUDA runtime and driver calls",
            (
                _START,
                _END,
                _PID,
                _TID,
                Column("correlation_id", I64, "joins to the GPU work of the same pid that it started", True),
                Column("name", WORD, "name without version suffix: cudaLaunchKernel, cuMemcpyHtoDAsync"),
                Column("kind", WORD, "runtime or driver"),
                Column("return_value", I32, "0 is success", True),
                Column("does", WORD, f"what it does for its thread, by its name: {' '.join(cuda_names.WORDS)}"),
                _ROW,
            ),
            (("start_ns", "ascending"), ("end_ns", "descending"), *_ascending("pid", "tid", "correlation_id")),
        ),
        Table(
            "synchronizations",
            "synchronizations that the GPU or the host went through",
            (
                _START,
                _END,
                *_WHERE,
                Column(
                    "kind",
                    WORD,
                    "event, stream_wait, stream, context, unknown: by the API call's name, else by the export's label",
                ),
                Column("event_id", I64, "CUDA event waited for", True),
            ),
            (*_GPU_ORDER[:-1], ("event_id", "ascending")),
        ),
        Table(
            "event_records",
            "CUDA events as they were recorded; a wait is for the latest record of its event before it",
            (
                Column("time_ns", I64, "when the call that recorded it started"),
                *_WHERE,
                Column("event_id", I64, "CUDA event, as in `synchronizations`"),
            ),
            _ascending("time_ns", "pid", "device", "context", "stream", "correlation_id", "event_id"),
        ),
        Table(
            "nvtx_ranges",
            "NVTX ranges and marks",
            (
                _START,
                Column("end_ns", I64, "when it ended; null where it never did; equal to start_ns for marks", True),
                _PID,
                _TID,
                Column("domain", WORD, "NVTX domain; empty for the default domain"),
                Column("name", WORD, "message, registered or not"),
                Column(
                    "kind",
                    WORD,
                    "push_pop, start_end, mark; profiler: what Nsight Systems tells of Python (in domains of its own)",
                ),
                Column("payload", I64, "integer payload, if any", True),
                Column("depth", I16, "0 for the outermost push_pop range of its thread; null for other kinds", True),
                Column(
                    "parent",
                    I64,
                    "`row` of the push_pop range of the same thread that encloses it; null where none does",
                    True,
                ),
                _ROW,
            ),
            (("start_ns", "ascending"), ("end_ns", "descending"), *_ascending("pid", "tid", "domain", "name")),
        ),
        Table(
            "graph_launches",
            "launches of whole CUDA graphs, where the report traced graphs and not their nodes",
            (
                _START,
                _END,
                *_WHERE,
                Column("graph_id", I64, "graph", True),
                Column("graph_exec_id", I64, "instantiated graph", True),
                _ROW,
            ),
            _GPU_ORDER[:-1],
        ),
        Table(
            "graph_nodes",
            "creations of CUDA graph nodes: at capture, and again at instantiation",
            (
                _START,
                _END,
                _PID,
                _TID,
                Column("graph_node_id", I64, "node"),
                Column(
                    "original_graph_node_id",
                    I64,
                    "node of the captured graph that an instantiated node comes from",
                    True,
                ),
                Column("name", WORD, "API call that created it", True),
            ),
            _ascending("start_ns", "end_ns", "pid", "tid", "graph_node_id"),
        ),
        Table(
            "gpu_metrics",
            "GPU hardware metrics, sampled over the whole card (not only this process)",
            (
                Column("time_ns", I64, "when it was sampled"),
                Column("device", I32, "GPU"),
                Column("metric", WORD, "name with its unit, as GPC Clock Frequency [MHz]"),
                Column("value", F64, "in the unit that the name says"),
                Column(
                    "means",
                    WORD,
                    "what it is, whatever its name: sm_clock, active (GR or GPC), sms_active, sm_issue, "
                    "tensor_active, warps, dram_read, dram_write; else null",
                    True,
                ),
            ),
            _ascending("time_ns", "device", "metric"),
        ),
        Table(
            "nvml_metrics",
            "what Nsight Systems' nvml_metrics plugin sampled",
            (
                Column("time_ns", I64, "when it was sampled"),
                Column("device", I32, "GPU", True),
                Column("metric", WORD, "name, as Power or Temperature"),
                Column("unit", WORD, "W for Power, C for Temperature; null where unknown", True),
                Column("value", F64, "in that unit"),
            ),
            _ascending("time_ns", "device", "metric"),
        ),
        Table(
            "memory_usage",
            "allocations of GPU memory and their ends",
            (
                Column("time_ns", I64, "when it happened"),
                Column("device", I32, "GPU"),
                Column("context", I32, "CUDA context"),
                _PID,
                Column("correlation_id", I64, "joins to `api_calls`", True),
                Column("kind", WORD, "allocate or free"),
                Column("memory", WORD, "kind of memory", True),
                Column("size_bytes", I64, "bytes"),
                Column("address", I64, "address, which pairs an allocation with its end", True),
            ),
            _ascending("time_ns", "pid", "device", "address"),
        ),
        Table(
            "osrt_calls",
            "calls of operating-system libraries that waited",
            (_START, _END, _PID, _TID, Column("name", WORD, "function")),
            (("start_ns", "ascending"), ("end_ns", "descending"), *_ascending("pid", "tid", "name")),
        ),
        Table(
            "profiler_overhead",
            "time that the profiler itself took in the profiled process",
            (_START, _END, _PID, _TID, Column("name", WORD, "what it did")),
            (("start_ns", "ascending"), ("end_ns", "descending"), *_ascending("pid", "tid", "name")),
        ),
        Table(
            "diagnostics",
            "what Nsight Systems reported about the collection",
            (
                Column("time_ns", I64, "when"),
                Column("pid", I32, "process, where it concerns one", True),
                Column("severity", WORD, "info warning error verbose unknown"),
                Column("source", WORD, "injection daemon analysis unknown"),
                Column("text", TEXT, "message, home folders left out"),
            ),
            _ascending("time_ns", "pid", "source", "text"),
        ),
        Table(
            "layers",
            "layers of the engine, from the engine inspector or from TensorRT's DETAILED NVTX ranges",
            (
                Column(
                    "layer",
                    I32,
                    "position in the engine's list; in order of first execution where it comes from ranges",
                ),
                Column("name", TEXT, "name, as TensorRT's NVTX ranges carry it"),
                Column(
                    "type",
                    WORD,
                    "layer type, as Reformat or CaskConvolution; null where the engine carries names only",
                    True,
                ),
                Column("tactic", TEXT, "tactic or kernel that the builder chose", True),
                Column(
                    "inputs",
                    _TENSOR,
                    "tensors read; format without the datatype, dtype as FP16, BF16, FP8, INT8 or BOOL",
                    True,
                ),
                Column("outputs", _TENSOR, "tensors written", True),
                Column("metadata", TEXT, "ONNX layers fused into this one", True),
                Column("attributes", TEXT, "what else the inspector says, as JSON", True),
                Column("source", WORD, "inspector or nvtx"),
            ),
            _ascending("layer"),
        ),
        Table(
            "layer_times",
            "what layers take in an inference by TensorRT's own profiler: CUDA events around each, without nsys",
            (
                Column("layer", I32, "position in order of execution"),
                Column("name", TEXT, "name, as in `layers`; one that comes again is another layer of that name"),
                Column("inferences", I32, "inferences that were measured", True),
                Column("total_ns", I64, "time of all of them together", True),
                Column("average_ns", I64, "average of an inference", True),
                Column("median_ns", I64, "median; null where an older trtexec wrote none", True),
                Column("measured_by", WORD, "runner (of capture) or trtexec (its --exportProfile)"),
            ),
            _ascending("layer"),
        ),
        Table(
            "telemetry",
            "what NVML said of the GPUs while `nsight-tools capture` ran; null where a GPU does not say",
            (
                Column("time_ns", I64, "when it was sampled"),
                Column("device", I32, "GPU; null where the report does not know it", True),
                Column("bus_id", WORD, "PCI bus location, as in `gpus`", True),
                Column("sm_clock_mhz", I32, "SM clock", True),
                Column("memory_clock_mhz", I32, "memory clock", True),
                Column("max_sm_clock_mhz", I32, "highest SM clock", True),
                Column(
                    "power_mw",
                    I64,
                    "power drawn: at that instant where the driver says so, which may be above the limit, else an "
                    "average of the second before (Ampere and later) or shorter",
                    True,
                ),
                Column("power_limit_mw", I64, "power limit in force", True),
                Column("temperature_c", I32, "GPU temperature", True),
                Column("slowdown_temperature_c", I32, "temperature at which the GPU slows down", True),
                Column("clock_event_reasons", I64, "NVML's bit mask of why clocks are not at their highest", True),
                Column("gpu_utilization_percent", I32, "share of time in which some kernel ran, of any process", True),
                Column("memory_utilization_percent", I32, "share of time in which device memory was in use", True),
                Column("memory_used_bytes", I64, "device memory in use, by any process", True),
                Column(
                    "own_memory_bytes",
                    I64,
                    "of it, what NVML says that the captured processes hold; null while there are none",
                    True,
                ),
                Column("pcie_generation", I32, "link generation now; links train down when idle", True),
                Column("pcie_width", I32, "lanes now", True),
                Column("pcie_max_generation", I32, "highest link generation of GPU and slot", True),
                Column("pcie_max_width", I32, "most lanes of GPU and slot", True),
                Column("pcie_rx_bytes_per_s", I64, "to the GPU, since the last sample, bytes per second", True),
                Column("pcie_tx_bytes_per_s", I64, "from the GPU, the same", True),
                Column(
                    "power_violation_ns",
                    I64,
                    "time held back by power, counted since the driver was loaded; ten times a second",
                    True,
                ),
                Column("thermal_violation_ns", I64, "time held back by temperature, the same", True),
                Column("processes", I32, "processes with a compute context on the GPU", True),
                Column("energy_mj", I64, "energy since the driver was loaded, millijoules; ten times a second", True),
            ),
            _ascending("time_ns", "device", "bus_id"),
        ),
        Table(
            "benchmark",
            "inferences that were timed without the profiler's help, by CUDA events and the host's clock",
            (
                Column(
                    "run",
                    WORD,
                    "benchmark (not traced, otherwise as the report), benchmark_2 and so on (the same measured again, "
                    "each by a process of its own), throughput (not traced, transfers overlapped), "
                    "warm_up (not traced, before the benchmark was steady), timing (the traced run of the report), "
                    "layers (the eager run with layer ranges), profiler (not traced, with TensorRT's own profiler), "
                    "program (not traced: one row, the whole process)",
                ),
                Column(
                    "measured_by",
                    WORD,
                    "runner (of capture), host_clock or cuda_events (nsight_tools.inference(), with a stream), trtexec "
                    "(its --exportTimes), process (its whole time)",
                ),
                Column("inference", I32, "number, in order of start; payload of its NVTX range in the traced runs"),
                Column("start_ns", I64, "when it started, on the host's clock, since the run's first inference"),
                Column(
                    "wall_ns",
                    I64,
                    "host: from its start to the end of the wait for its result; of trtexec, from its first copy or "
                    "enqueue to the end of its last copy",
                ),
                Column("enqueue_ns", I64, "host: time inside the enqueue or graph launch", True),
                Column("gpu_ns", I64, "events: from before its first copy to after its last", True),
                Column("h2d_ns", I64, "events: its copies to the GPU", True),
                Column("compute_ns", I64, "events: its kernels", True),
                Column("d2h_ns", I64, "events: its copies to the host", True),
                Column("thread", I32, "number of the host thread that ran it, from 0"),
                Column("stream", I32, "number of its execution context and stream, from 0"),
            ),
            _ascending("run", "inference"),
        ),
        Table(
            "environment",
            "environment, command line and process output, imported only when asked for",
            (
                Column("source", WORD, "export table it comes from"),
                Column("name", TEXT, "name", True),
                Column("value", TEXT, "value", True),
            ),
            _ascending("source", "name", "value"),
        ),
        Table(
            "launches",
            "every piece of GPU work with the API call, NVTX range, layer and inference that it belongs to",
            (
                _START,
                _END,
                Column("device", I32, "GPU"),
                Column("stream", I32, "CUDA stream"),
                _PID,
                Column("work", WORD, "kernel, copy, set or graph"),
                Column("row", I64, "`row` of `kernels`, `memory_ops` (copy, set) or `graph_launches`"),
                Column("api_call", I64, "`row` of `api_calls`; null where the call is not in the report", True),
                Column("call_start_ns", I64, "when that call started", True),
                Column("call_end_ns", I64, "when it returned", True),
                Column("tid", I32, "thread that made it", True),
                Column("nvtx_range", I64, "`row` in `nvtx_ranges` of the innermost push_pop range around it", True),
                Column("layer", WORD, "TensorRT layer, by the innermost range of TensorRT's domain", True),
                Column(
                    "layer_source",
                    WORD,
                    "range (around the call), graph_node (around the node's capture), order (of kernels, as in a run "
                    "or a list whose layers are known)",
                    True,
                ),
                Column("inference", I32, "inference that it belongs to, as in `inferences`", True),
            ),
            _ascending("start_ns", "end_ns", "pid", "device", "stream", "work", "row"),
        ),
        Table(
            "inferences",
            "inferences, and where each nanosecond of their windows went: the buckets sum to wall_ns exactly",
            (
                Column("inference", I32, "number, in order of start"),
                _START,
                _END,
                Column("wall_ns", I64, "end_ns - start_ns"),
                Column("compute_ns", I64, "a kernel of this inference runs that does not only communicate"),
                Column(
                    "exposed_communication_ns", I64, "a kernel of it communicates with other GPUs and none computes"
                ),
                Column("exposed_h2d_ns", I64, "a host-to-device copy of it runs and no kernel of it does"),
                Column("exposed_d2h_ns", I64, "the same for device-to-host copies"),
                Column("exposed_other_copy_ns", I64, "the same for other copies and sets"),
                Column(
                    "accelerator_ns", I64, "a DLA runs a layer of it, and GPU work that is submitted waits for that"
                ),
                Column("other_work_ns", I64, "the GPU does other work first, and this inference waits"),
                Column("launch_ns", I64, "the GPU is idle for it and its host thread is inside launch or copy calls"),
                Column("sync_ns", I64, "… and its host thread waits in a synchronization"),
                Column("host_ns", I64, "… and its host thread runs anything else"),
                Column("unattributed_ns", I64, "nothing above applies: no API trace, or profiler overhead"),
                Column("hidden_communication_ns", I64, "kernels of it communicate while others compute (beside)"),
                Column("hidden_copy_ns", I64, "its copies run while its kernels do (beside the buckets)"),
                Column("gpu_busy_ns", I64, "any of its work runs on a GPU: compute and exposed copies (beside)"),
                Column("queue_ns", I64, "sum of the delays from its calls' end to their work's start (beside)"),
                _PID,
                Column("tid", I32, "host thread", True),
                Column("device", I32, "GPU of its first work; null where it launched none", True),
                Column("streams", I32, "streams that it used"),
                Column("kernels", I32, "kernels that it launched"),
                Column("copies", I32, "copies and sets that it launched"),
                Column("graphs", I32, "whole graphs that it launched"),
                Column("enqueues", I32, "enqueues, or launches of CUDA graphs, in it"),
                Column(
                    "source",
                    WORD,
                    "inference_range (named, or by our runner), program_range (the program's own), enqueue_pattern "
                    "(several enqueues in a fixed order), enqueue_range, graph_launch, iteration (what repeats)",
                ),
                Column("population", I32, "number of those that do the same work, in order of first appearance"),
                Column(
                    "mark",
                    WORD,
                    "where it is much slower than its thread's others of its population: warm_up, shape_change (the "
                    "first behind another population of its engine), outlier",
                    True,
                ),
                Column("nvtx_range", I64, "row in `nvtx_ranges`, where it is one", True),
                Column("range_start_ns", I64, "start of that range or launch call on the host", True),
                Column("range_end_ns", I64, "its end", True),
            ),
            _ascending("inference"),
        ),
        Table(
            "enqueues",
            "enqueues of engines, by TensorRT's ranges, and launches of CUDA graphs where those stand for them",
            (
                Column("enqueue", I32, "number, in order of start"),
                _START,
                _END,
                _PID,
                Column("tid", I32, "host thread", True),
                Column("inference", I32, "inference that it belongs to; null where none", True),
                Column("engine", I32, "number of what it ran, told by its layers, else by its kernels"),
                Column("kind", WORD, "enqueue_range or graph_launch"),
            ),
            _ascending("enqueue"),
        ),
    )
}
"""Every table of a dataset, by name."""

BUCKETS = (
    "compute",
    "exposed_communication",
    "exposed_h2d",
    "exposed_d2h",
    "exposed_other_copy",
    "accelerator",
    "other_work",
    "launch",
    "sync",
    "host",
    "unattributed",
)
"""The buckets of `inferences` in their order of precedence, without the suffix _ns."""
