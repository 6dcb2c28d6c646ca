"""The runner's processes, started for real over a made TensorRT and GPU: what they call, and what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from patience import PATIENCE_S, wait_until
from runner_cases import DYNAMIC_X, DYNAMIC_Y, MADE_CLOCK, PROFILE, Ran, X, Y, command, engine, journal_of, model, run

from nsight_tools import run_files
from nsight_tools.capture.runner import cores, main

if TYPE_CHECKING:
    from pathlib import Path

IN_ORDER = [
    "push inference", "push h2d", "event_record", "h2d", "pop", "push enqueue", "enqueue", "pop",
    "push d2h", "d2h", "event_record", "pop", "push synchronize", "event_synchronize", "pop", "pop",
]  # fmt: skip
MAKES = {"mem_alloc", "pagelocked_empty", "event_create", "stream_create", "attributes", "set_address"}


def told(entries: list[tuple[str, str, Any]]) -> list[str]:
    return [f"push {detail[0]}" if name == "push" else name for name, _, detail in entries]


def nesting(entries: list[tuple[str, str, Any]]) -> list[tuple[str, ...]]:
    """The ranges that were open at each push, of one thread; fails where pops and pushes do not match."""
    stack: list[str] = []
    seen = []
    for name, _, detail in entries:
        if name == "push":
            stack.append(detail[0])
            seen.append(tuple(stack))
        elif name == "pop":
            stack.pop()
    assert not stack
    return seen


def test_one_inference_after_the_other(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path))
    assert ran.code == 0, ran.stderr
    assert told(ran.measured()) == IN_ORDER * 5
    assert (ran.samples["compute_ns"] == -1).all()  # its stages are in the trace
    assert [detail[1] for name, _, detail in ran.measured() if name == "push" and detail[0] == "inference"] == [
        *range(5)
    ]
    names = [name for name, _, _ in ran.journal]
    start, stop = names.index("profiler_start"), names.index("profiler_stop")
    assert names[:start].count("enqueue") >= 2, "warm-up lies ahead of the capture range"
    assert names[start + 1] == names[stop - 1] == "mark"
    assert not {"enqueue", "h2d", "d2h"} & set(names[stop:])
    assert names.count("enqueue") == names.count("event_synchronize")


def test_samples_are_columns_of_the_benchmark_table(tmp_path: Path) -> None:
    ran = run(tmp_path, task="benchmark", engine=engine(tmp_path, compute_us=2000), iterations=6)
    samples = ran.samples
    assert set(samples) == set(run_files.BENCHMARK_SCHEMA.names)
    assert all(samples[name].dtype == np.int64 for name in samples if name != "run")
    assert samples["run"].tolist() == ["benchmark"] * 6
    assert samples["inference"].tolist() == [*range(6)]
    assert samples["start_ns"][0] == 0
    assert (np.diff(samples["start_ns"]) >= samples["wall_ns"][:-1]).all()
    parts = samples["h2d_ns"] + samples["compute_ns"] + samples["d2h_ns"]
    assert np.abs(parts - samples["gpu_ns"]).max() <= 3  # float32 milliseconds
    assert (samples["compute_ns"] >= 2_000_000).all()
    assert (samples["wall_ns"] >= samples["gpu_ns"]).all()
    assert ran.result["run"]["inferences"] == 6
    last = samples["start_ns"][-1] + samples["wall_ns"][-1]
    assert ran.result["run"]["throughput_per_s"] == pytest.approx(6 / (last / 1e9))


def test_result_says_what_ran(tmp_path: Path) -> None:
    path = engine(tmp_path)
    result = run(tmp_path, engine=path, inspect=True).result
    assert (result["status"], result["error"]) == ("done", None)
    assert result["device"]["bus_id"] == "0000:18:00.0"
    assert result["engine"]["inputs"] == [{"name": "x", "shape": [8, 3, 16, 16], "dtype": "float32"}]
    assert result["engine"]["outputs"] == [{"name": "y", "shape": [8, 10], "dtype": "float16"}]
    assert [mark["mark"] for mark in result["run"]["clock"]] == ["start", "end"]
    host = result["run"]["cores"]
    assert host["count"] == os.cpu_count()
    assert 0 <= host["busy_with_others"] <= host["count"]
    assert {"python", "tensorrt", "pycuda", "nvtx", "numpy", "cuda_bindings", "cuda_driver", "cuda_runtime"} <= set(
        result["versions"]
    )
    assert (tmp_path / "output" / "layers.json").read_text("utf-8").startswith('{"Layers"')


def test_cores_that_others_keep_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds in which four cores were busy, half a core of it with this process; time stolen is others'."""
    stat, second = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(cores.time, "perf_counter", iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(cores.time, "process_time", iter([3.0, 4.0]).__next__)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 8)
    stat.write_text("cpu  100 0 100 5000 100 0 0 0 50 0\ncpu0 1 2 3\n")
    counted = cores.Cores()
    stat.write_text(f"cpu  {100 + 3 * second} 0 {100 + 3 * second} 9000 700 0 0 {2 * second} 99 0\ncpu0 1 2 3\n")
    assert counted.so_far() == {"count": 8, "busy_with_others": 3.5}


@pytest.mark.parametrize("content", [None, "", "cpu one two", "cpu 1 2"])
def test_a_system_that_does_not_count_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    if content is not None:
        (tmp_path / "stat").write_text(content)
    assert cores.Cores().so_far() is None


def test_each_layer_is_told_by_the_context_of_its_profile(tmp_path: Path) -> None:
    path = engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=[PROFILE] * 3, layers=[{"Name": "conv"}, "name"])
    ran = run(tmp_path, engine=path, inspect=True, streams=2, shapes={"x": [2, 3, 16, 16]})
    assert ran.code == 0, ran.stderr
    whole = json.loads((tmp_path / "output" / "layers.json").read_text("utf-8"))
    told = {"Inputs": [[2, 3, 16, 16]]}
    assert whole["Layers"] == [
        {"Name": "conv", **told}, "name",
        {"Name": "conv [profile 1]", **told}, "name [profile 1]",
        {"Name": "conv [profile 2]"}, "name [profile 2]",
    ]  # fmt: skip


def test_nothing_is_made_in_the_loop(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), iterations=50, overlap_transfers=True, cuda_graph=True, streams=2)
    assert ran.code == 0, ran.stderr
    assert not MAKES & {name for name, _, _ in ran.measured()}


def test_ranges_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    ran = run(tmp_path, task="benchmark", engine=engine(tmp_path), ranges=False, capture_range=False)
    assert ran.code == 0, ran.stderr
    assert not ran.calls("push", "pop", "mark", "profiler_start", "profiler_stop")
    assert ran.result["run"]["ranges"] is False


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_own_cost_is_measured_beside_a_bare_loop(tmp_path: Path, cuda_graph: bool) -> None:
    path = engine(tmp_path, compute_us=1000)
    ran = run(tmp_path, task="benchmark", engine=path, iterations=5, own_cost=True, cuda_graph=cuda_graph)
    assert ran.code == 0, ran.stderr
    cost = ran.result["run"]["runner"]
    assert cost["added_ns"] == pytest.approx(cost["wall_ns"] - cost["bare_wall_ns"], abs=1)
    assert min(cost["wall_ns"], cost["bare_wall_ns"]) >= 1_000_000
    assert cost["inferences"] >= 10
    assert cost["noise_ns"] >= 0
    assert ran.samples["run"].tolist() == ["benchmark"] * 5  # it leaves no rows


def test_duration_and_iterations_are_both_reached(tmp_path: Path) -> None:
    ran = run(tmp_path, MADE_CLOCK, engine=engine(tmp_path, compute_us=1000), duration_s=0.2, iterations=3)
    # It counts from the first start, a moment after the clock's: by less than an inference.
    assert ran.result["run"]["seconds"] >= 0.2 - 0.001
    assert 180 < ran.result["run"]["inferences"] <= 200


def test_several_streams_on_one_thread_take_turns(tmp_path: Path) -> None:
    ran = run(tmp_path, MADE_CLOCK, engine=engine(tmp_path, compute_us=20_000), streams=3, iterations=12)
    assert ran.code == 0, ran.stderr
    samples = ran.samples
    assert samples["stream"].tolist() == [0, 1, 2] * 4
    assert set(samples["thread"]) == {0}
    seen = set(nesting(ran.measured()))
    assert seen == {
        ("inference",),
        ("inference", "h2d"),
        ("inference", "enqueue"),
        ("inference", "d2h"),
        ("synchronize",),
    }
    streams = [detail[0] for name, _, detail in ran.journal if name == "enqueue"]
    assert len(set(streams)) == 3
    # three at a time: a stream's next inference starts when its last one is done, and the others run meanwhile
    for stream in range(3):
        mine = samples["stream"] == stream
        ends = samples["start_ns"][mine] + samples["wall_ns"][mine]
        assert (samples["start_ns"][mine][1:] >= ends[:-1]).all()
    assert ran.result["run"]["throughput_per_s"] > 2.8 * 1e9 / np.median(samples["gpu_ns"])


def test_threads_share_the_streams(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path, compute_us=2000), streams=4, threads=2, iterations=40)
    assert ran.code == 0, ran.stderr
    samples = ran.samples
    assert sorted(samples["inference"].tolist()) == [*range(40)]
    assert {(t, s) for t, s in zip(samples["thread"], samples["stream"], strict=True)} == {
        (0, 0),
        (0, 2),
        (1, 1),
        (1, 3),
    }
    threads = {thread for name, thread, _ in ran.measured() if name == "enqueue"}
    assert threads == {"MainThread", "lane 1"}
    for thread in threads:
        nesting([entry for entry in ran.measured() if entry[1] == thread])


def test_overlapped_transfers_keep_two_inferences_under_way(tmp_path: Path) -> None:
    large = X | {"shape": [8, 3, 200, 200]}  # 3.84 ms at the made bus' 1 GB/s
    path = engine(tmp_path, tensors=(large, Y), compute_us=4000)
    (tmp_path / "a").mkdir()
    ordered = run(tmp_path / "a", MADE_CLOCK, engine=path, iterations=30)
    overlapped = run(tmp_path, MADE_CLOCK, engine=path, iterations=30, overlap_transfers=True)
    assert overlapped.code == 0, overlapped.stderr
    assert overlapped.result["run"]["throughput_per_s"] > 1.8 * ordered.result["run"]["throughput_per_s"]
    copies = {detail for name, _, detail in overlapped.measured() if name == "h2d"}
    assert len(copies) == 2, "two sets of buffers"
    sets = [detail for name, _, detail in overlapped.measured() if name == "set_address"]
    assert len(sets) == 2 * 30, "each enqueue has its own buffers"
    samples = overlapped.samples
    assert (samples["h2d_ns"] >= 3_840_000).all()
    assert (samples["compute_ns"] >= 4_000_000).all()


def test_benchmark_measures_throughput_too(tmp_path: Path) -> None:
    path = engine(tmp_path)
    ran = run(tmp_path, task="benchmark", engine=path, throughput=True, ranges=False, iterations=7, cuda_graph=True)
    assert ran.code == 0, ran.stderr
    assert ran.samples["run"].tolist() == ["benchmark"] * 7 + ["throughput"] * 7
    assert ran.samples["inference"].tolist() == [*range(7)] * 2
    assert ran.result["run"]["throughput"]["inferences"] == 7
    assert len(ran.calls("mem_alloc")) - len(ran.calls("mem_free")) == 4


def test_default_stream_has_no_throughput_run(tmp_path: Path) -> None:
    ran = run(tmp_path, task="benchmark", engine=engine(tmp_path), throughput=True, default_stream=True)
    assert ran.code == 0, ran.stderr
    assert set(ran.samples["run"]) == {"benchmark"}
    assert "throughput" not in ran.result["run"]


ELEMENTS = 8 * 3 * 16 * 16 * 4 + 8 * 10 * 2
"""Bytes of the inputs and outputs of an inference."""


@pytest.mark.parametrize(
    ("more", "taken", "buffers", "further"),
    [
        ({}, 50_000 + ELEMENTS, ELEMENTS, 50_000 + ELEMENTS),
        ({"overlap_transfers": True}, 50_000 + 2 * ELEMENTS, 2 * ELEMENTS, 50_000 + 2 * ELEMENTS),
        ({"streams": 3}, 3 * (50_000 + ELEMENTS), ELEMENTS, 50_000 + ELEMENTS),
    ],
)
def test_memory_is_what_became_less(
    tmp_path: Path, more: dict[str, Any], taken: int, buffers: int, further: int
) -> None:
    """The engine says 4,096 bytes for a context, which takes 50,000."""
    path = engine(tmp_path, loaded_bytes=100_000, context_bytes=50_000)
    ran = run(tmp_path, task="benchmark", engine=path, throughput=True, further_context=True, **more)
    assert ran.code == 0, ran.stderr
    free = 1_000_000_000 - 100_000 - taken
    assert ran.result["run"]["memory"] == {
        "engine_bytes": 100_000,
        "taken_bytes": 100_000 + taken,
        "free_bytes": free,
        "activations_bytes": 4096,
        "buffers_bytes": buffers,
        "further_context_bytes": further,
        "further_contexts": free // further,
    }


def test_a_context_that_finds_room_takes_what_it_says(tmp_path: Path) -> None:
    memory = run(tmp_path, task="benchmark", engine=engine(tmp_path), further_context=True).result["run"]["memory"]
    assert memory["further_context_bytes"] == 4096 + ELEMENTS


def test_memory_of_contexts_by_strategy(tmp_path: Path) -> None:
    spec = {"tensors": (DYNAMIC_X, DYNAMIC_Y), "profiles": [PROFILE], "version": "10.13.0"}
    settings = {"allocation_strategy": "runtime"}
    plan = {"task": "benchmark", "engine": engine(tmp_path, **spec), "settings": settings, "further_context": True}
    memory = run(tmp_path, MODERN, **plan).result["run"]["memory"]
    assert memory["activations_bytes"] == 500
    assert memory["further_context_bytes"] == 500 + ELEMENTS // 2  # its profile is for four at a time


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"contexts": 1}, "TensorRT cannot make execution context 2 of 2"),
        ({"tensors": (DYNAMIC_X, DYNAMIC_Y), "profiles": [PROFILE]}, "2 streams need 2 optimization profiles"),
    ],
)
def test_without_a_further_context_the_benchmark_holds(tmp_path: Path, spec: dict[str, Any], words: str) -> None:
    ran = run(tmp_path, task="benchmark", engine=engine(tmp_path, **spec), further_context=True)
    assert ran.code == 0, ran.stderr
    memory = ran.result["run"]["memory"]
    assert memory["no_further_context"].startswith(words)
    assert "further_contexts" not in memory
    assert ran.samples["run"].size == 5


def test_weights_where_tensorrt_counts_them(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path))
    assert ran.result["engine"]["weights_bytes"] is None
    assert "further_contexts" not in ran.result["run"]["memory"]
    later = tmp_path / "later"
    later.mkdir()
    path = engine(later, version="11.0.0", weights_bytes=777)
    assert run(later, {"FAKE_TENSORRT_VERSION": "11.0.0"}, engine=path).result["engine"]["weights_bytes"] == 777


def test_full_samples_are_read_out_in_mid_run(tmp_path: Path) -> None:
    small = X | {"shape": [1, 1]}
    path = engine(tmp_path, tensors=(small, Y), compute_us=1)
    ran = run(tmp_path, engine=path, iterations=9000, streams=2, ranges=False, capture_range=False)
    assert ran.code == 0, ran.stderr
    assert ran.samples["inference"].tolist() == [*range(9000)]
    assert len(ran.calls("event_create")) < 9000 * 4


def test_cuda_graph_is_captured_once_and_launched(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), cuda_graph=True, streams=2, iterations=6)
    assert ran.code == 0, ran.stderr
    names = [name for name, _, _ in ran.journal if name in {"enqueue", "begin_capture", "end_capture", "graph_launch"}]
    capture = ["enqueue", "begin_capture", "enqueue", "end_capture"]
    assert names[:8] == capture * 2
    assert set(names[8:]) == {"graph_launch"}
    assert told(ran.measured()).count("graph_launch") == 6
    assert (ran.samples["gpu_ns"] >= 300_000).all()


def test_without_transfers_inputs_are_there_all_the_same(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), data_transfers=False)
    assert ran.code == 0, ran.stderr
    assert len(ran.calls("h2d")) == 1
    assert not ran.calls("d2h")
    assert (ran.samples["h2d_ns"] == -1).all()
    assert (ran.samples["gpu_ns"] == ran.samples["compute_ns"]).all()


def test_mistakes_can_be_reproduced(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), default_stream=True, pageable=True, sleep_ms=2, iterations=4)
    assert ran.code == 0, ran.stderr
    assert {detail[0] for name, _, detail in ran.journal if name == "enqueue"} == {0}
    assert not ran.calls("pagelocked_empty")
    gaps = ran.samples["start_ns"][1:] - (ran.samples["start_ns"] + ran.samples["wall_ns"])[:-1]
    assert (gaps >= 2_000_000).all()


@pytest.mark.parametrize(("spin", "flag"), [(False, 1), (True, 0)])
def test_wait_blocks_unless_told_to_spin(tmp_path: Path, spin: bool, flag: int) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), spin_wait=spin)
    assert {detail for _, _, detail in ran.calls("event_synchronize")} == {flag}


def test_layer_ranges_only_where_asked_for(tmp_path: Path) -> None:
    ran = run(tmp_path, task="layers", engine=engine(tmp_path), layer_ranges=True)
    assert {detail[2] for _, _, detail in ran.calls("enqueue")} == {"DETAILED"}
    assert ran.result["run"]["nvtx_verbosity"] == "detailed"
    (tmp_path / "b").mkdir()
    off = run(tmp_path / "b", engine=engine(tmp_path))
    assert {detail[2] for _, _, detail in off.calls("enqueue")} == {"NONE"}


@pytest.mark.parametrize(
    ("asked", "shape", "source"),
    [
        ({}, [4, 3, 16, 16], "opt of the optimization profile"),
        ({"batch": 9}, [9, 3, 16, 16], "--batch"),
        ({"shapes": {"x": [2, 3, 16, 16]}, "batch": 2}, [2, 3, 16, 16], "--shapes"),
    ],
)
def test_dynamic_shapes(tmp_path: Path, asked: dict[str, Any], shape: list[int], source: str) -> None:
    ran = run(tmp_path, engine=engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=[PROFILE]), **asked)
    assert ran.code == 0, ran.stderr
    assert ran.result["engine"]["inputs"][0]["shape"] == shape
    assert ran.result["engine"]["outputs"][0]["shape"] == [shape[0], 10]
    assert ran.result["run"]["shape_source"] == {"x": source}


def test_inputs_from_files(tmp_path: Path) -> None:
    values = np.arange(1, 8 * 3 * 16 * 16 + 1, dtype=np.float32)
    np.save(tmp_path / "x.npy", values.reshape(8, 3, 16, 16))
    values.tofile(tmp_path / "x.bin")
    for name in ("x.npy", "x.bin"):
        (tmp_path / name[2:]).mkdir()
        ran = run(tmp_path / name[2:], engine=engine(tmp_path), inputs={"x": tmp_path / name})
        assert ran.code == 0, ran.stderr


def failed(ran: Ran, *words: str, log: str | None = None) -> dict[str, Any]:
    """The error of a process that failed as it should; its line on stderr holds the words, and nothing else stays."""
    assert ran.code == 2, ran.stderr
    error: dict[str, Any] = ran.result["error"]
    assert ran.result["status"] == "failed"
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    for word in words:
        assert word in lines[0]
    if log:
        assert log in error["log"]
    assert error["hint"]
    assert [path.name for path in ran.output.iterdir()] == ["result.json"]
    return error


SMALL = np.ones(7, np.float32)


@pytest.mark.parametrize(
    ("spec", "task", "words", "log"),
    [
        ({"fail_at": 40}, {"iterations": 90, "streams": 2, "threads": 2}, ["enqueue"], "API Usage Error (told to)"),
        ({"fail_at": 1}, {}, ["inference 0 could not be enqueued"], "told to"),
        ({"fail_at": 1}, {"cuda_graph": True}, ["ahead of the capture"], "told to"),
        ({"no_capture": True}, {"cuda_graph": True}, ["cannot be captured", "without --use-cuda-graph"], "capturing"),
        ({"version": "8.5.1"}, {}, ["cannot load the engine", "with the TensorRT that built it"], "expecting library"),
        ({"capability": [8, 6]}, {}, ["build the engine again on this GPU"], "compute 8.6"),
        ({"contexts": 2}, {"streams": 3}, ["execution context 3 of 3", "fewer streams"], "OutOfMemory"),
        ({}, {"shapes": {"x": [4, 3, 16, 16]}}, ["is [8, 3, 16, 16] in this engine"], None),
        ({}, {"shapes": {"images": [4]}}, ["no input is called images", "inputs are x"], None),
        ({}, {"batch": 4}, ["no input has 4 as its first dimension", "--batch"], None),
        ({}, {"inputs": {"z": "z.bin"}}, ["no input is called z"], None),
        ({"tensors": (X, Y | {"shape": [-1, 6]}), "data_dependent": True}, {}, ["depends on the data"], None),
        ({"tensors": (X | {"host": True}, Y)}, {}, ["is a shape tensor", "--shapes x:"], None),
    ],
    ids=str,
)
def test_failures(
    tmp_path: Path, spec: dict[str, Any], task: dict[str, Any], words: list[str], log: str | None
) -> None:
    failed(run(tmp_path, engine=engine(tmp_path, **spec), **task), *words, log=log)


def test_too_few_profiles_are_seen_before_anything_runs(tmp_path: Path) -> None:
    path = engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=[PROFILE])
    ran = run(tmp_path, engine=path, streams=2)
    failed(ran, "2 streams need 2 optimization profiles", "has 1", "--streams 1")
    assert not ran.calls("enqueue", "mem_alloc")


def test_contexts_share_a_profile_from_tensorrt_10_on(tmp_path: Path) -> None:
    path = engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=[PROFILE], version="10.13.3")
    ran = run(tmp_path, {"FAKE_TENSORRT_VERSION": "10.13.3"}, engine=path, streams=2)
    assert ran.code == 0, ran.stderr


MODERN = {"FAKE_TENSORRT_VERSION": "10.13.0"}


@pytest.mark.parametrize(
    ("strategy", "context", "given"), [("static", 0, []), ("profile", 2, [1000, 1001]), ("runtime", 2, [500, 500])]
)
def test_allocation_strategies(tmp_path: Path, strategy: str, context: int, given: list[int]) -> None:
    """But for static the memory of a context is ours, of its profile or of the shapes that run."""
    spec = {"tensors": (DYNAMIC_X, DYNAMIC_Y), "profiles": [PROFILE] * 2, "version": "10.13.0"}
    settings = {"allocation_strategy": strategy}
    ran = run(tmp_path, MODERN, engine=engine(tmp_path, **spec), streams=2, settings=settings)
    assert ran.code == 0, ran.stderr
    assert [detail for _, _, detail in ran.calls("create_context")] == [context] * 2
    assert [detail for _, _, detail in ran.calls("set_device_memory")] == given
    assert ran.result["run"]["context_memory_bytes"] == (given[0] if given else None)


@pytest.mark.parametrize(
    ("budget", "kept"), [(None, 1000), (-2, 1000), (-1, 77), ("25%", 250), (300, 300), (5000, 1000)]
)
def test_weight_streaming_budgets(tmp_path: Path, budget: int | str | None, kept: int) -> None:
    path = engine(tmp_path, version="10.13.0", streamable=1000)
    settings = {"allow_weight_streaming": True} | ({} if budget is None else {"weight_streaming_budget": budget})
    ran = run(tmp_path, MODERN, engine=path, settings=settings)
    assert ran.code == 0, ran.stderr
    assert ran.result["engine"]["weight_streaming_budget_bytes"] == kept


def test_how_an_engine_is_loaded(tmp_path: Path) -> None:
    settings = {"version_compatible": True, "use_dla_core": 1, "dynamic_plugins": ["a.so"]}
    ran = run(tmp_path, {"FAKE_TENSORRT_DLA_CORES": "2"}, engine=engine(tmp_path), settings=settings)
    assert ran.code == 0, ran.stderr
    assert [detail for _, _, detail in ran.calls("load_library", "deserialize")] == ["a.so", [True, 1]]
    assert ran.result["engine"]["load_s"] > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"allow_weight_streaming": True}, "this engine has no weights that can be streamed"),
        ({"use_dla_core": 0}, "there is no DLA core 0: this GPU has 0"),
        ({"dynamic_plugins": ["bad.so"]}, "--dynamic-plugins bad.so; TensorRT 10.13.0 cannot load it"),
        ({"dynamic_plugins": ["/bad.so"]}, "--dynamic-plugins /bad.so; does not exist"),
        ({"static_plugins": ["/none.so"]}, "--static-plugins /none.so"),
    ],
    ids=str,
)
def test_how_an_engine_cannot_be_loaded(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    ran = run(tmp_path, MODERN, engine=engine(tmp_path, version="10.13.0"), settings=settings)
    assert ran.code == 2
    assert words in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert ran.calls("enqueue") == []


def test_allocation_strategies_are_refused_where_there_are_none(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path), settings={"allocation_strategy": "profile"})
    assert ran.code == 2
    assert "TensorRT 8.6.0 has no --allocation-strategy: it came with 10.1" in ran.stderr


def test_no_memory_for_a_context(tmp_path: Path) -> None:
    spec = {"tensors": (DYNAMIC_X, DYNAMIC_Y), "profiles": [PROFILE], "version": "10.13.0"}
    environment = MODERN | {"FAKE_GPU_MEMORY": "400"}
    ran = run(tmp_path, environment, engine=engine(tmp_path, **spec), settings={"allocation_strategy": "runtime"})
    assert ran.code == 2
    assert "no 500 bytes of GPU memory for context 1 of 1" in ran.stderr


def test_shape_outside_of_the_profile(tmp_path: Path) -> None:
    path = engine(tmp_path, tensors=(DYNAMIC_X, DYNAMIC_Y), profiles=[PROFILE])
    failed(run(tmp_path, engine=path, batch=17), "goes from [1, 3, 16, 16] to [16, 3, 16, 16]", "--batch")


def test_out_of_gpu_memory(tmp_path: Path) -> None:
    ran = run(tmp_path, {"FAKE_GPU_MEMORY": "30000"}, engine=engine(tmp_path), streams=2)
    failed(ran, "GPU memory for x", "out of memory", "nvidia-smi")


def test_broken_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "not.engine").write_bytes(b"\x7fELF")
    (tmp_path / "empty.engine").touch()
    np.save(tmp_path / "small.npy", SMALL)
    np.save(tmp_path / "wrong.npy", SMALL.astype(np.int8))
    good = engine(tmp_path)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"engine": tmp_path / "not.engine"}, ["not.engine", "magicTag"]),
        ({"engine": tmp_path / "empty.engine"}, ["is empty"]),
        ({"engine": tmp_path / "none.engine"}, ["none.engine", "No such file"]),
        ({"engine": good, "inputs": {"x": tmp_path / "small.npy"}}, ["holds 28 bytes", "24576"]),
        ({"engine": good, "inputs": {"x": tmp_path / "wrong.npy"}}, ["int8", "float32", "astype"]),
        ({"engine": good, "inputs": {"x": tmp_path / "none.bin"}}, ["none.bin"]),
    ]
    for number, (task, words) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        ran = run(tmp_path / str(number), **task)
        assert ran.code == 2
        assert all(word in ran.stderr for word in words), ran.stderr


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"task": "train"}, "'train'"),
        ({"engine": None}, "needs an engine"),
        ({"colour": 1}, "unknown: colour"),
        ({"streams": 1, "threads": 2}, "2 threads for 1 streams"),
        ({"streams": 2, "default_stream": True}, "the default stream is one stream"),
        ({"iterations": "many"}, "wrong kind"),
        ({"settings": {"colour": 1}}, "colour is no option"),
        ({"settings": 3}, "wrong kind"),
        ({"settings": {"use_dla_core": 0}, "cuda_graph": True}, "CUDA cannot capture what runs on a DLA into a graph"),
        ({"settings": {"weight_streaming_budget": -1}}, "goes with --allow-weight-streaming"),
    ],
)
def test_tasks_that_make_no_sense(tmp_path: Path, task: dict[str, Any], words: str) -> None:
    """They are refused before TensorRT is looked for, so that this process can do them."""
    (_, _, path), _, output = command(tmp_path, **{"engine": engine(tmp_path)} | task)
    assert main.main([path]) == 2
    assert words in json.loads((output / "result.json").read_text("utf-8"))["error"]["what"]


def interrupt(folder: Path, number: int, **task: Any) -> Ran:
    arguments, environment, output = command(folder, **task)
    begun = folder / "begun"
    environment |= {"FAKE_BEGUN": str(begun)}
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            wait_until(lambda: begun.exists() or process.poll() is not None)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return Ran(process.returncode, stderr, output, journal_of(folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_keeps_its_samples(tmp_path: Path, number: int) -> None:
    path = engine(tmp_path, compute_us=5000, begun_at=10)
    ran = interrupt(tmp_path, number, engine=path, iterations=10**6, streams=2, threads=2)
    assert ran.code == 130, ran.stderr
    assert ran.result["status"] == "interrupted"
    count = ran.result["run"]["inferences"]
    assert 0 < count < 10**6
    assert ran.samples["wall_ns"].size == count
    assert (ran.samples["wall_ns"] > 0).all()
    assert len(ran.calls("profiler_stop")) == 1


def test_interrupted_build_ends_at_once_and_leaves_no_engine(tmp_path: Path) -> None:
    target = tmp_path / "new.engine"
    ran = interrupt(tmp_path, signal.SIGINT, task="build", onnx=model(tmp_path, build_s=3600), engine=target)
    assert ran.code == 130, ran.stderr
    assert ran.result["status"] == "interrupted"
    assert not target.exists()


def test_order_of_events_on_the_gpu(tmp_path: Path) -> None:
    """Each inference's host times lie in order, and none overlaps the next on its thread."""
    ran = run(tmp_path, engine=engine(tmp_path), iterations=20)
    starts, walls = ran.samples["start_ns"], ran.samples["wall_ns"]
    for (start, wall), (following, _) in pairwise(zip(starts, walls, strict=True)):
        assert start + wall <= following
    assert (ran.samples["enqueue_ns"] <= walls).all()
