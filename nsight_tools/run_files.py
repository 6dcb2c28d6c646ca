"""What stands in a run directory of `nsight-tools capture`: names of its files, and their schemas."""

from __future__ import annotations

import re

import pyarrow as pa

from nsight_tools.tables import TABLES

RUN = "run.json"
REPORT = "report.nsys-rep"
LAYER_PASS = "layer_pass.nsys-rep"  # noqa: S105 (no password)
LAYERS = "layers.json"
TELEMETRY = "telemetry.parquet"
BENCHMARK = "benchmark.parquet"
SUFFIX = ".capture"
VERSION = 1
"""Of run.json and all that stands beside it."""

TELEMETRY_SCHEMA = pa.schema(
    [
        pa.field("utc_ns", pa.int64(), nullable=False, metadata={"meaning": "when it was sampled, by time.time_ns()"}),
        pa.field("index", pa.int32(), nullable=False, metadata={"meaning": "GPU by NVML's number"}),
        *(field for field in TABLES["telemetry"].schema if field.name not in ("time_ns", "device")),
    ]
)
"""Columns of table `telemetry`, but for the time, which only a report relates to its own, and the GPU's number."""

_BUS_ID = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)


def bus_id(text: str) -> str:
    """A PCI bus location in one way of writing it, as 0000:3b:00.0; NVML, nsys and Linux differ in zeros and case.

    What is no such location is returned as it is.
    """
    match = _BUS_ID.fullmatch(text.strip())
    return f"{int(match[1], 16):04x}:{match[2]}:{match[3]}.{match[4]}".lower() if match else text
