"""What a trace holds as trtexec's own files: read back, they say the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_loop import REQUESTS, loop

from nsight_tools import open_trace
from nsight_tools.errors import InputError
from nsight_tools.importer import layers
from nsight_tools.importer.trtexec import Times, read
from nsight_tools.report.formats.trtexec.export import files
from nsight_tools.run.layer_times import traced_medians
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

RUN = """
    stream 7:         ..>>....####%%%..####.<<
    thread 1:         CLlL..................C.
    nvtx 1:           [i.....................]
    nvtx 1 TensorRT:  .[conv]................."""
ENGINE: list[dict[str, Any]] = [
    {
        "Name": "conv", "LayerType": "CaskConvolution", "TacticName": "sm80_xmma", "Metadata": "[ONNX Layer: conv]",
        "Inputs": [{"Name": "x", "Dimensions": [8, 3, 4, 4], "Format/Datatype": "Row major linear FP32"}],
        "Outputs": [{"Name": "y", "Dimensions": [8, 8, 4, 4], "Format/Datatype": "Channel major FP16 format, C % 8"}],
        "Groups": 1,
    },
    {"Name": "only a name"},
]  # fmt: skip


def benchmark(count: int = 40, **columns: int | None) -> pa.Table:
    values = {"wall_ns": 30_000, "enqueue_ns": 9_000, "gpu_ns": 25_000, "h2d_ns": 4_000, "compute_ns": 20_000}
    values |= {"d2h_ns": 1_000}
    rows = [
        {
            "run": "benchmark",
            "measured_by": "runner",
            "inference": at,
            "start_ns": at * 31_000,
            "thread": 0,
            "stream": 0,
        }
        | values
        | columns
        for at in range(count)
    ]
    return pa.Table.from_pylist(rows, TABLES["benchmark"].schema)


def engine(folder: Path) -> pa.Table:
    path = folder / "l.json"
    path.write_text(json.dumps({"Layers": ENGINE}), "utf-8")
    return layers.from_inspector(path)


def exported(folder: Path, trace: Trace) -> dict[str, Path]:
    found = {}
    for file in files(trace):
        path = folder / file.name
        path.write_text(file.text, "utf-8")
        found[file.name.split(".")[-2]] = path
    return found


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tables = {"benchmark": benchmark(), "layers": engine(tmp_path)}
    rows = [
        {"layer": at, "name": name, "inferences": 9, "total_ns": 9 * ns, "average_ns": ns, "median_ns": median,
         "measured_by": "trtexec"}
        for at, (name, ns, median) in enumerate((("conv", 6_000, 5_999), ("fc", 2_000, None)))
    ]  # fmt: skip
    tables["layer_times"] = pa.Table.from_pylist(rows, TABLES["layer_times"].schema)
    trace = Trace.from_tables(tables)
    found = exported(tmp_path, trace)
    assert set(found) == {"timing", "profile", "graph"}
    again = open_trace(found["profile"])
    assert again.table("layer_times").to_pylist() == rows
    assert again.table("layers").to_pylist() == trace.table("layers").to_pylist()
    for name in ("start_ns", "gpu_ns", "enqueue_ns", "h2d_ns", "compute_ns", "d2h_ns"):
        assert again.table("benchmark", [name])[name].to_pylist() == trace.table("benchmark", [name])[name].to_pylist()


def test_stages_that_were_not_timed_are_left_out_or_are_the_whole(tmp_path: Path) -> None:
    host_alone = benchmark(enqueue_ns=None, gpu_ns=None, h2d_ns=None, compute_ns=None, d2h_ns=None)
    (times,) = exported(tmp_path, Trace.from_tables({"benchmark": host_alone})).values()
    first = read(times, Times).inferences[0]
    assert (first.end_enqueue_ms, first.h2d_ms, first.compute_ms) == (None, 0.0, pytest.approx(0.03))


def test_a_trace_without_another_run_gives_what_it_shows(tmp_path: Path) -> None:
    trace = loop(RUN)
    found = exported(tmp_path, trace)
    assert set(found) == {"timing", "profile"}
    times = read(found["timing"], Times).inferences
    judged = trace.frame("inferences")
    assert len(times) == REQUESTS == len(judged)
    work = trace.frame("launches", ["start_ns", "end_ns", "work", "inference"])
    kernels = work[work["work"] == "kernel"].groupby("inference")
    spans = (kernels["end_ns"].max() - kernels["start_ns"].min()).to_numpy() / 1e6
    assert np.allclose([each.compute_ms for each in times], spans)
    assert [each.h2d_ms for each in times] == pytest.approx([0.002] * REQUESTS)
    assert all(each.end_h2d_ms <= each.start_compute_ms for each in times)  # type: ignore[operator]
    rows = open_trace(found["profile"]).table("layer_times").to_pylist()
    assert {row["name"]: row["median_ns"] for row in rows} == traced_medians(trace)
    assert {row["inferences"] for row in rows} == {REQUESTS}


def test_what_holds_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="holds no times of inferences, and no layers"):
        files(Trace.from_tables({}))
