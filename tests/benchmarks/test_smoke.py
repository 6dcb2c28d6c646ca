"""The benchmark's parts work, on a small trace; how long they take is not judged here."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq

from nsight_tools import analyze
from nsight_tools.trace import Trace, open_trace

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parents[1] / "sample_traces" / "classifier_sync.sqlite"
GRAPHS = HERE.parents[1] / "sample_traces" / "classifier_cuda_graph.sqlite"
INFERENCES, KERNELS, CALLS = 50, 5000, 5154


STAGES = ["import", "rules", "summary", "analyze", "report", "fresh"]
FAKES = HERE.parent / "capture"


def script(name: str, *arguments: str | float | Path) -> str:
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_runner_over_a_made_gpu(tmp_path: Path) -> None:
    tensors = [
        {"name": "x", "input": True, "shape": [8], "dtype": "FLOAT"},
        {"name": "y", "input": False, "shape": [8], "dtype": "FLOAT"},
    ]
    engine = {"version": "8.6.0", "capability": [9, 0], "compute_us": 50, "tensors": tensors, "profiles": []}
    (tmp_path / "model.engine").write_text(json.dumps(engine), "utf-8")
    command = [sys.executable, str(HERE / "bench_runner.py"), str(tmp_path / "model.engine")]
    done = subprocess.run(
        [*command, "--iterations", "40", "--rounds", "2", "--cuda-graph"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(FAKES / name) for name in ("fakes", "fakes_nvtx"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr  # 1: it took longer than allowed, on whatever machine this is
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["bare", "again", "ranges", "untraced", "throughput"]
    assert all(float(line.split()[1]) > 50 for line in lines[1:6])


def test_limits_of_a_short_run() -> None:
    lines = script("bench_limits.py", "--seconds", 0.3, "--kernels", 12).splitlines()
    assert lines[0].startswith("3,000 samples, ")
    assert float(lines[1].rpartition("median ")[2].partition(",")[0]) < 3


def value(path: Path, query: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(query).fetchone()[0])


def open_trace_of(export: Path, folder: Path) -> Trace:
    folder.mkdir()
    copy = folder / export.name
    copy.write_bytes(export.read_bytes())
    return open_trace(copy)


def test_repeat_twice(tmp_path: Path) -> None:
    long = tmp_path / "long.sqlite"
    script("repeat.py", SAMPLE, long, "--times", "2")
    once, twice = open_trace_of(SAMPLE, tmp_path / "once"), open_trace(long)

    for table in ("kernels", "memory_ops", "api_calls", "synchronizations", "nvtx_ranges", "launches", "inferences"):
        assert twice.table(table).num_rows == 2 * once.table(table).num_rows > 0, table
    for table in ("gpus", "layers"):
        assert twice.table(table).num_rows == once.table(table).num_rows
    assert twice.table("launches").column("api_call").null_count == 0
    assert value(long, "SELECT count(DISTINCT correlationId) FROM CUPTI_ACTIVITY_KIND_KERNEL") == 2 * KERNELS

    columns = ["wall_ns", "compute_ns", "launch_ns", "kernels"]
    for column in columns:
        values = twice.table("inferences").column(column).to_pylist()
        assert values[:INFERENCES] == values[INFERENCES:] == once.table("inferences").column(column).to_pylist()


def test_repeat_keeps_graph_nodes(tmp_path: Path) -> None:
    long = tmp_path / "long.sqlite"
    script("repeat.py", GRAPHS, long, "--times", "3")
    nodes = "SELECT count(*) FROM CUDA_GRAPH_NODE_EVENTS"
    used = "SELECT count(DISTINCT graphNodeId) FROM CUPTI_ACTIVITY_KIND_KERNEL"
    assert value(long, nodes) == value(GRAPHS, nodes)
    assert value(long, used) == value(GRAPHS, used)
    assert value(long, "SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL") == 3 * 5100


def test_repeat_to_a_number_of_kernels(tmp_path: Path) -> None:
    long = tmp_path / "long.sqlite"
    assert "3 copies" in script("repeat.py", SAMPLE, long, "--kernels", str(3 * KERNELS))
    assert value(long, "SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL") == 3 * KERNELS


def test_bench(tmp_path: Path) -> None:
    sizes = [str(2 * KERNELS), str(3 * KERNELS)]
    printed = script("bench_import.py", "--kernels", *sizes, "--rounds", "1", "--keep", tmp_path)
    assert f"{2 * KERNELS:,} kernels" in printed
    assert f"{2 * KERNELS:,} - {3 * KERNELS:,}" in printed
    lines = [line.split() for line in printed.splitlines() if line]
    for stage in ("floor", "sqlite3", "adbc", "import", "tables"):
        measured = [line for line in lines if line[0] == stage and len(line) > 1 and not line[1].endswith(":")][:2]
        assert all(float(line[1]) > 0 for line in measured), stage
        assert len(measured) == 2
    for peer in ("sqlite3", "adbc"):
        parquet = tmp_path / str(2 * KERNELS) / peer
        assert pq.read_metadata(parquet / "CUPTI_ACTIVITY_KIND_KERNEL.parquet").num_rows == 2 * KERNELS
        assert pq.read_metadata(parquet / "CUPTI_ACTIVITY_KIND_RUNTIME.parquet").num_rows == 2 * CALLS
    (dataset,) = (tmp_path / str(2 * KERNELS) / "import").iterdir()
    assert open_trace(dataset).table("kernels").num_rows == 2 * KERNELS


def test_bench_of_the_analyses(tmp_path: Path) -> None:
    printed = script("bench_analyses.py", "--kernels", KERNELS, "--keep", tmp_path)
    assert [line.split()[0] for line in printed.strip().splitlines()[2:]] == STAGES
    folder = tmp_path / str(KERNELS) / "result"
    rules, summary, whole, fresh = (
        json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("rules", "summary", "analyze", "fresh")
    )
    assert summary["counts"]["kernels"] == KERNELS
    assert summary["inferences"] == INFERENCES
    assert whole["traces"][0]["outcomes"] == fresh["traces"][0]["outcomes"]
    assert (folder / "report.html").stat().st_size > 100_000
    statuses = {code: status for code, (status, *_) in rules.items()}
    assert {one["code"]: one["status"] for one in whole["traces"][0]["outcomes"]} == statuses
    assert {one.code: one.status.value for one in analyze(open_trace_of(SAMPLE, tmp_path / "once"))} == statuses
    assert statuses["FUS001"] == "findings"


def test_growth_is_the_longest_beside_the_shortest() -> None:
    code = """
from bench_analyses import growth
from bench_import import Measured
growth([20, 10], [{"rules": Measured(3.0, 150, cpu_s=4.0)}, {"rules": Measured(1.5, 100, cpu_s=1.0)}])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True)
    title, _, row = done.stdout.strip().splitlines()
    assert (title, row.split()) == ("2.0 x as many kernels", ["rules", "2.00", "4.00", "1.50"])


def test_same_import(tmp_path: Path) -> None:
    """Two imports are compared value by value; one row more is told."""
    for name, times in (("once", "1"), ("twice", "2")):
        (tmp_path / name).mkdir()
        script("repeat.py", SAMPLE, tmp_path / name / "x.sqlite", "--times", times)
    assert script("same_import.py", HERE.parents[1], tmp_path / "once" / "x.sqlite") == "x.sqlite: the same\n"
    once, twice = (open_trace(tmp_path / name / "x.sqlite").path for name in ("once", "twice"))
    sys.path.insert(0, str(HERE))
    try:
        from same_import import differences
    finally:
        sys.path.remove(str(HERE))
    assert differences(once, once) == []
    assert any(
        "kernels.parquet differs" in line and f"({KERNELS} and {2 * KERNELS} rows)" in line
        for line in differences(once, twice)
    )
