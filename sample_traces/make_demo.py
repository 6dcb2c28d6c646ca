# ruff: noqa: INP001
"""Makes the capture that `nsight-tools demo` shows: `python sample_traces/make_demo.py`.

It is `detector_pageable.capture` without what the demo can do without: the report that Nsight Systems' own window
reads, the layer pass (the engine's list of layers tells nine of ten), what the tests compare it with, and the
benchmark's second half, which timed overlapped transfers. Nothing else is changed.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

SOURCE = Path(__file__).resolve().parent / "detector_pageable.capture"
TARGET = SOURCE.parents[1] / "nsight_tools" / "cli" / "demo.zip"
KEPT = ("run.json", "report.sqlite", "layers.json", "telemetry.parquet")


def contents() -> dict[str, bytes]:
    """The files of the demo's run directory, by name."""
    times = pq.read_table(SOURCE / "benchmark.parquet")
    less = BytesIO()
    pq.write_table(times.filter(pc.not_equal(times["run"], "throughput")), less, compression="zstd")
    return {name: (SOURCE / name).read_bytes() for name in KEPT} | {"benchmark.parquet": less.getvalue()}


def main() -> None:
    """Write the archive anew."""
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in contents().items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_LZMA)


if __name__ == "__main__":
    main()
