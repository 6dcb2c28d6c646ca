"""`nsight-tools capture` of a model, from building to findings: made TensorRT and GPU, real nvtx and Nsight Systems.

A made GPU starts no capture range, so that all of a pass is traced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import installed_nsys
import numpy as np
import pytest
from click.testing import CliRunner
from patience import PATIENCE_S
from runner_cases import DYNAMIC_X, DYNAMIC_Y, FAKES, X, Y, engine, model

from nsight_tools import open_trace
from nsight_tools.cli import program
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from pathlib import Path


def capture(
    folder: Path, what: Path, *options: str, version: str = "10.13.0", fakes: tuple[Path, ...] = (FAKES,)
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nsight_tools", "capture", what, "-o", "run", "--duration", "0.1", "--no-analyze"]
    command += ["--no-gpu-metrics"]  # which nsys would refuse at a start of its own
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, fakes)), "TMPDIR": str(folder)}
    environment |= {"FAKE_TENSORRT_VERSION": version, "FAKE_NVML_PYTHON": sys.executable}
    environment |= {"NSIGHT_TOOLS_NSYS": str(installed_nsys.main().path)}
    more = ["--nsys-arg=--capture-range=none", *options]
    return subprocess.run(
        [*command, *more], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.nsys
def test_a_quantized_model_is_built_and_captured(tmp_path: Path) -> None:
    onnx = model(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), kinds=["QUANTIZE"])
    ends = [f"--{end}-shapes=x:{batch}x3x16x16" for end, batch in (("min", 1), ("opt", 4), ("max", 8))]
    more = ("--int8", "--streams", "2", "--timing-cache-file", "t.cache", "--allocation-strategy", "runtime")
    done = capture(tmp_path, onnx, *ends, *more)
    assert done.returncode == 0, done.stderr
    assert "nsight-tools: built in" in done.stderr
    assert "1 tactics were timed that the timing cache lacked" in done.stderr
    run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "done"
    assert run["options"]["int8"] is True
    assert run["options"]["max_shapes"] == {"x": [8, 3, 16, 16]}
    build = run["build"]
    assert (build["int8_ranges"], build["profiles"]) == ("model", 2)
    assert {"parse", "timing_cache_read", "build", "serialize", "deserialize"} <= build["phases_s"].keys()
    assert run["engine"]["inputs"][0]["shape"] == [4, 3, 16, 16]
    assert run["measured"]["timing"]["context_memory_bytes"] == 500
    assert run["measured"]["layers"]["streams"] == 2, "a profile that ran is in the layer pass, too"
    again = capture(tmp_path, onnx, *ends, *more, "--force", "--error-on-timing-cache-miss")
    assert again.returncode == 0, again.stderr
    assert "no tactic was timed: the timing cache had them all" in again.stderr


@pytest.mark.nsys
def test_what_is_measured_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, each time by a process of its own, beside a GPU that draws 250 W and whose counter says so."""
    path = engine(tmp_path, loaded_bytes=100_000, context_bytes=50_000)
    more = ("--repeat", "2", "--duration", "3", "--telemetry-hz", "100", "--iterations", "20")
    done = capture(tmp_path, path, *more, version="8.6.0", fakes=(FAKES, FAKES.with_name("fakes_nvml")))
    assert done.returncode == 0, done.stderr
    assert "nsight-tools: measuring without the profiler, 2 of 2" in done.stderr
    run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    first, second = (run["measured"][name] for name in ("benchmark", "benchmark_2"))
    assert second["inferences"] == pytest.approx(second["throughput_per_s"] * second["seconds"])
    assert second["benchmark_2_median"]["wall_ns"] > 300_000
    assert "throughput" in first.keys() - second.keys()
    trace = open_trace(tmp_path / "run")
    counts = trace.sql("SELECT run, count(*) AS n FROM benchmark GROUP BY run")
    rows = dict(zip(counts["run"].to_pylist(), counts["n"].to_pylist(), strict=True))
    assert {rows["benchmark"], rows["benchmark_2"]} == {first["inferences"], second["inferences"]}

    monkeypatch.setattr("nsight_tools.measured.ENERGY_TAKES_NS", 900_000_000)
    monkeypatch.setattr("nsight_tools.measured.HOLE_NS", 1e9 * PATIENCE_S)  # what this machine sampled late
    found = summarize(trace).measured
    assert found.speed is not None
    assert found.speed.throughput_per_s == first["throughput_per_s"]
    assert [each.inferences for each in found.repeats] == [first["inferences"], second["inferences"]]
    assert found.memory is not None
    assert (found.memory.process_peak, found.memory.gpu_peak) == (1_000_000_000, 3_000_000_000)
    assert (found.memory.engine, found.memory.further_contexts) == (100_000, first["memory"]["further_contexts"])
    assert found.energy is not None
    assert found.energy.joules is not None
    assert found.energy.seconds is not None
    assert found.energy.source == "counter"
    # The counter is read beside the clock, at most a sample's time later: under load that may be much.
    apart_s = float(np.diff(np.sort(trace.numbers("telemetry", "time_ns"))).max()) / 1e9
    assert found.energy.joules == pytest.approx(250 * found.energy.seconds, abs=250 * 2 * apart_s)
    assert found.energy.by_power_joules == pytest.approx(250 * found.energy.seconds, rel=0.001)
    shown = CliRunner().invoke(program, ["analyze", str(tmp_path / "run")]).output
    said = " ".join(shown.split())
    for words in (
        *(" inferences a second, p50 ", "measured 2 times: throughput within ", "a difference of less is noise"),
        *("GPU memory: 1.00 GB of the process, 3.00 GB in use by all; the engine 100 kB", " an inference"),
    ):
        assert words in said


@pytest.mark.nsys
def test_outputs_are_compared_with_those_of_another_capture(tmp_path: Path) -> None:
    """As they are, with small errors, broken, and against what does not fit; nothing is left of the last one."""
    before = capture(tmp_path, engine(tmp_path), "--single-pass", "-o", "before", version="8.6.0")
    assert before.returncode == 0, before.stderr
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"error": 0.001}, 0, "nsight-tools: accurate enough (rel at most 0.05)"),
        ({"error": 0.5}, 1, "nsight-tools: accuracy is lost: output y: rel is "),
        ({"nan": 3}, 1, "nsight-tools: output y: of 80 values 3 NaN"),
    ]
    for spec, code, words in cases:
        path = engine(tmp_path, **spec)
        more = ("--single-pass", "--force") if "nan" in spec else ("--force",)
        done = capture(tmp_path, path, "--reference", "before", *more, version="8.6.0")
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
        assert run["accuracy"]["passed"] is (code == 0)
        assert run["options"]["reference"] == "before"
        assert "output y against before: " in done.stderr
        assert summarize(open_trace(tmp_path / "run")).measured.accuracy is not None
    shown = CliRunner().invoke(program, ["analyze", str(tmp_path / "run")]).output
    assert "outputs against before: accuracy is lost: output y: 3 of 80 values are NaN" in " ".join(shown.split())
    found = json.loads(CliRunner().invoke(program, ["analyze", "--format", "json", str(tmp_path / "run")]).output)
    measured = found["traces"][0]["measured"]
    assert measured["outputs"][0]["nan"] == 3
    assert measured["accuracy"]["outputs"][0]["broken"] == 3
    allowed = capture(
        tmp_path, engine(tmp_path, error=0.5), "--reference", "before", "--accuracy", "rel:0.9,cos:0.5", "--force",
        "--single-pass", version="8.6.0",
    )  # fmt: skip
    assert allowed.returncode == 0, allowed.stderr
    assert "accurate enough (rel at most 0.9, cos at least 0.5)" in allowed.stderr
    pairs = engine(tmp_path, tensors=(X, Y | {"shape": [8, 5, 2]}))
    np.savez(tmp_path / "pairs.npz", y=np.zeros((8, 5, 2), np.float16))
    unjudged = capture(
        tmp_path, pairs, "--reference", "pairs.npz", "--accuracy", "top1:0.9", "--force", "--single-pass",
        version="8.6.0",
    )  # fmt: skip
    assert unjudged.returncode == 2, unjudged.stderr
    assert "nsight-tools: not judged: top1 at least 0.9: no output looks like classes" in unjudged.stderr
    (tmp_path / "pairs.npz").unlink()
    wide = engine(tmp_path, tensors=(X, Y | {"shape": [8, 12]}))
    done = capture(tmp_path, wide, "--reference", "before", "-o", "other", version="8.6.0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "nsight-tools: error: output y is 8x12, and 8x10 in before; give a reference of the same shapes, or run with "
        "its --shapes"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "model.engine", "run"]


@pytest.mark.parametrize("more", [(), ("--single-pass",)])
def test_layers_are_timed_by_tensorrts_own_profiler(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = engine(tmp_path, profile=[["conv", 80], ["fc", 20]])
    done = capture(tmp_path, path, "--profiler", "--use-cuda-graph", "--iterations", "30", *more, version="8.6.0")
    assert done.returncode == 0, done.stderr
    assert "nsight-tools: timing the layers with TensorRT's own profiler" in done.stderr
    run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["options"]["profiler"] is True
    assert "report.nsys-rep" in {each["report"] for each in run["passes"]}
    assert "profiler" in run["measured"]
    trace = open_trace(tmp_path / "run")
    rows = trace.table("layer_times").to_pylist()
    assert [(row["name"], row["median_ns"], row["inferences"], row["measured_by"]) for row in rows] == [
        ("conv", 80_000, 30, "runner"), ("fc", 20_000, 30, "runner"),
    ]  # fmt: skip
    shown = CliRunner().invoke(program, ["analyze", str(tmp_path / "run")]).output
    assert "TensorRT's own profiler: 2 layers take 100 µs in an inference" in " ".join(shown.split())
    assert open_trace(tmp_path / "run").missing("layer_times") is None
    before = trace.manifest["source"]["sha256"]
    (tmp_path / "run" / "profile.json").write_text('[{"count": 1}, {"name": "x", "timeMs": 1}]')
    again = open_trace(tmp_path / "run")
    assert again.manifest["source"]["sha256"] != before
    assert [row["name"] for row in again.table("layer_times").to_pylist()] == ["x"]


REFUSED = [
    ("8.6.0", ["--bf16"], "--bf16: TensorRT 8.6.0 has no --bf16: it came with 9"),
    ("10.13.0", ["--int8"], "--int8: the model has no Q/DQ layers and there is no calibration data"),
    ("10.13.0", ["--timing-cache-file", "t.cache", "--error-on-timing-cache-miss"], "there is no timing cache"),
    ("10.13.0", ["--use-dla-core", "0", "--use-cuda-graph"], "CUDA cannot capture what runs on a DLA into a graph"),
    ("10.13.0", ["--use-dla-core", "0"], "there is no DLA core 0: this GPU has 0"),
]


@pytest.mark.nsys
@pytest.mark.parametrize(("version", "options", "words"), REFUSED, ids=str)
def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, version: str, options: list[str], words: str) -> None:
    done = capture(tmp_path, model(tmp_path), "--save-engine", "saved.engine", *options, version=version)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.nsys
def test_an_engine_is_loaded_as_asked(tmp_path: Path) -> None:
    path = engine(tmp_path, version="10.13.0", streamable=1000)
    done = capture(tmp_path, path, "--allow-weight-streaming", "--weight-streaming-budget", "25%", "--single-pass")
    assert done.returncode == 0, done.stderr
    run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["engine"]["weight_streaming_budget_bytes"] == 250
    assert "build" not in run
