"""What stands in a run directory of `nsight-tools capture`: names of its files, and their schemas."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from pathlib import Path

RUN = "run.json"
REPORT = "report.nsys-rep"
LAYER_PASS = "layer_pass.nsys-rep"  # noqa: S105 (no password)
LAYERS = "layers.json"
PROFILE = "profile.json"
"""Layer times by TensorRT's own profiler, as trtexec --exportProfile writes them."""
TELEMETRY = "telemetry.parquet"
BENCHMARK = "benchmark.parquet"
OUTPUTS = "outputs.npz"
INPUTS = "inputs.npz"
"""Of a process of the runner, where the reference needs them; a capture does not hold them."""
ENGINES = (".engine", ".plan", ".trt")
"""How serialized engines are named."""
SUFFIX = ".capture"
VERSION = 1
"""Of run.json and all that stands beside it."""

BENCHMARK_SCHEMA = pa.schema([field for field in TABLES["benchmark"].schema if field.name != "measured_by"])
"""Columns of table `benchmark`, but for who measured them, which is the runner."""


def benchmark(number: int) -> str:
    """What the run without the profiler is called that was made as this one, from 1 on, of several."""
    return "benchmark" if number == 1 else f"benchmark_{number}"


UNTRACED = "untraced-*.json"
"""What a command's processes wrote of their own times when they ran without the profiler, numbered from 0."""

TELEMETRY_SCHEMA = pa.schema(
    [
        pa.field("utc_ns", pa.int64(), nullable=False, metadata={"meaning": "when it was sampled, by time.time_ns()"}),
        pa.field("index", pa.int32(), nullable=False, metadata={"meaning": "GPU by NVML's number"}),
        *(field for field in TABLES["telemetry"].schema if field.name not in ("time_ns", "device")),
    ]
)
"""Columns of table `telemetry`, but for the time, which only a report relates to its own, and the GPU's number."""

LATER = frozenset({"own_memory_bytes", "energy_mj"})
"""Columns of telemetry.parquet that came after the first captures, which do not have them."""

TELEMETRY_STREAMED = pa.schema(
    [pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type, f.nullable) for f in TELEMETRY_SCHEMA]
)
"""The same, of the stream that is written while the capture runs."""

_BUS_ID = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)


def bus_id(text: str) -> str:
    """A PCI bus location in one way of writing it, as 0000:3b:00.0; NVML, nsys and Linux differ in zeros and case.

    What is no such location is returned as it is.
    """
    match = _BUS_ID.fullmatch(text.strip())
    return f"{int(match[1], 16):04x}:{match[2]}:{match[3]}.{match[4]}".lower() if match else text


def telemetry_stream(path: Path) -> Path:
    """The Arrow stream that becomes telemetry.parquet, which is `path`; it is readable up to its last batch."""
    return path.with_suffix(".arrows")


def recover_telemetry(path: Path) -> int:
    """Make telemetry.parquet, which is `path`, of the stream beside it, as far as that reaches; returns its rows.

    The stream is gone then. What a sampling that was killed left is made whole so. No rows, and no file, where there
    is no stream or nothing in it. Raises OSError where the file cannot be written.
    """
    stream = telemetry_stream(path)
    batches = []
    with contextlib.suppress(FileNotFoundError, pa.ArrowException), pa.OSFile(str(stream), "rb") as file:
        reader = pa.ipc.open_stream(file)
        with contextlib.suppress(StopIteration, OSError):  # the last batch may be cut off
            while reader.schema == TELEMETRY_STREAMED:
                batches.append(reader.read_next_batch())
    rows = pa.Table.from_batches(batches, TELEMETRY_STREAMED)
    if rows.num_rows:
        partial = path.with_name(f"{path.name}.partial")
        words = [field.name for field in TELEMETRY_SCHEMA if pa.types.is_dictionary(field.type)]
        for name in words:
            at = rows.column_names.index(name)
            rows = rows.set_column(at, name, rows[name].dictionary_encode())
        pq.write_table(rows.cast(TELEMETRY_SCHEMA), partial, compression="zstd")
        partial.rename(path)
    stream.unlink(missing_ok=True)
    return int(rows.num_rows)
