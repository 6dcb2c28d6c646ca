"""What the runner builds with a real TensorRT: TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import installed_nsys
import numpy as np
import pytest
from patience import PATIENCE_S
from real_tensorrt import asked, build, model, onnx, trt, without_gpu
from runner_cases import FAKES, run

from nsight_tools.capture.runner import options, versions
from nsight_tools.capture.runner.outcome import Failure

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = without_gpu
NO_FAKES = {"PYTHONPATH": ""}


def of_batches(name: str = "x", **ends: int) -> dict[str, Any]:
    """The options that give ends of the optimization profile: the model's shape, of these batches."""
    return {f"{end}_shapes": {name: [batch, 3, 16, 16]} for end, batch in ends.items()}


def test_a_process_that_builds(tmp_path: Path) -> None:
    task = {"task": "build", "onnx": model(tmp_path), "engine": tmp_path / "new.engine", "batch": 4, "profiles": 2}
    ran = run(tmp_path, NO_FAKES, runtime="tensorrt-rtx", settings={"sparsity": "enable"}, **task)
    assert ran.code == 0, ran.stderr
    made = ran.result["build"]
    assert (tmp_path / "new.engine").stat().st_size == made["size_bytes"] > 1000
    assert made["settings"] == {"sparsity": "enable", "profiling_verbosity": "detailed"}
    assert made["seconds"] == pytest.approx(sum(made["phases_s"].values()))
    assert (ran.result["status"], ran.result["engine"], made["tactics"]) == ("done", None, None)
    assert ran.result["versions"]["tensorrt_rtx"] == trt.__version__
    assert ran.result["versions"]["tensorrt"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "new.engine", "output", "task.json"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strongly_typed": True},
        {"input_io_formats": [["fp32", "chw", "hwc"]]},
        {"sparsity": "enable", "max_aux_streams": 2, "tiling_optimization_level": 3},
        {"mem_pool_size": {"workspace": 1 << 26, "tacticSharedMem": 48 << 10}},
        {"builder_optimization_level": 0, "tactic_sources": ["-JIT_CONVOLUTIONS"], "profiling_verbosity": "none"},
        {"allow_weight_streaming": True, "tactic_sources": 0, "static_plugins": ["libc.so.6"]},
    ],
    ids=str,
)
def test_options_build(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = build(tmp_path, model(tmp_path), settings, batch=4, profiles=2)
    took = made["build"]["phases_s"]
    assert sorted(took) == ["build", "parse", "serialize", "write"], "to load it needs a GPU"
    (said,) = (
        float(found[1]) for line in made["log"] if (found := re.search(r"generation completed in (\S+) s", line))
    )
    assert took["build"] == said
    assert (tmp_path / "new.engine").stat().st_size == made["build"]["size_bytes"] > 1000


ASKED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"strongly_typed": True}, {}),
    ({"sparsity": "enable"}, {"flags": ["SPARSE_WEIGHTS", "TF32"]}),
    ({"sparsity": "disable"}, {}),
    ({"version_compatible": True}, {"flags": ["TF32", "VERSION_COMPATIBLE"]}),
    ({"allow_weight_streaming": True}, {"flags": ["TF32", "WEIGHT_STREAMING"]}),
    ({"builder_optimization_level": 0}, {"level": 0}),
    ({"max_aux_streams": 0}, {"aux_streams": 0}),
    ({"tiling_optimization_level": 2}, {"tiling": "MODERATE"}),
    ({"profiling_verbosity": "none"}, {"verbosity": "NONE"}),
    ({"profiling_verbosity": "layer_names_only"}, {"verbosity": "LAYER_NAMES_ONLY"}),
    ({"tactic_sources": 0}, {"tactic_sources": 0}),
    ({"tactic_sources": ["-EDGE_MASK_CONVOLUTIONS"]}, {"tactic_sources": 1 << int(trt.TacticSource.JIT_CONVOLUTIONS)}),
    ({"tactic_sources": ["-JIT_CONVOLUTIONS", "+JIT_CONVOLUTIONS"]}, {}),
    (
        {"mem_pool_size": {"workspace": 5 << 20, "tacticSharedMem": 48 << 10}},
        {"WORKSPACE": 5 << 20, "TACTIC_SHARED_MEMORY": 48 << 10},
    ),
    ({"input_io_formats": [["fp32", "chw", "hwc"]]}, {"x": ("FLOAT", 1 | 1 << int(trt.TensorFormat.HWC))}),
    ({"output_io_formats": [["fp32", "chw32"]]}, {"y": ("FLOAT", 1 << int(trt.TensorFormat.CHW32))}),
]


@pytest.mark.parametrize(("settings", "differs"), ASKED, ids=str)
def test_every_option_reaches_tensorrt(tmp_path: Path, settings: dict[str, Any], differs: dict[str, Any]) -> None:
    """And changes nothing else: TensorRT's own configuration and network are read before it builds."""
    path = model(tmp_path)
    plain, now = asked(tmp_path, path, {}, batch=4), asked(tmp_path, path, settings, batch=4)
    assert {name: value for name, value in now.items() if value != plain[name]} == differs


def test_one_profile_for_each_stream(tmp_path: Path) -> None:
    assert asked(tmp_path, model(tmp_path), {}, batch=6, profiles=3)["profiles"] == 3
    assert asked(tmp_path, model(tmp_path, batch=6), {}, profiles=3)["profiles"] == 0


@pytest.mark.parametrize(
    ("settings", "task", "ends"),
    [
        (of_batches(min=1, opt=4, max=16), {}, [1, 4, 16]),
        (of_batches(opt=4), {}, [4, 4, 4]),
        (of_batches(max=16), {}, [16, 16, 16]),
        (of_batches(min=1, max=16), {}, [1, 16, 16]),
        (of_batches(min=1, opt=4), {}, [1, 4, 4]),
        (of_batches(min=1), {}, [1, 1, 1]),
        ({}, {"batch": 4}, [4, 4, 4]),
        ({}, {"shapes": {"x": [2, 3, 16, 16]}}, [2, 2, 2]),
        (of_batches("*", min=1, max=16), {"shapes": {"*x": [4, 3, 16, 16]}}, [1, 16, 16]),
        ({"opt_shapes": {"x": [4, 3, 16, 16]}, "max_shapes": {"x": [9, 3, 16, 16]}}, {"batch": 6}, [4, 4, 9]),
    ],
    ids=str,
)
def test_ends_of_profiles(tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], ends: list[int]) -> None:
    """What is not given is what stands next to it, as trtexec."""
    made = build(tmp_path, model(tmp_path), settings, profiles=2, **task)
    assert made["build"]["profile_shapes"] == {"x": [[end, 3, 16, 16] for end in ends]}


@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        (of_batches(min=4, opt=2), {}, "the shape usual"),
        (of_batches(max=4), {"batch": 8}, "the shape that runs, [8, 3, 16, 16]"),
        (of_batches(max=4), {"shapes": {"x": [5, 3, 16, 16]}}, "is not between [4, 3, 16, 16] and [4, 3, 16, 16]"),
        ({"max_shapes": {"x": [4, 3, 16]}}, {}, "cannot be [4, 3, 16]"),
        ({"max_shapes": {"z": [4, 3, 16]}}, {}, "--max-shapes; no input is called z"),
        ({}, {"shapes": {"x": [1, 4, 16, 16]}}, "cannot be [1, 4, 16, 16]"),
        ({}, {}, "its dynamic dimensions need values"),
        ({}, {}, "--shapes x:1x3x16x16"),
    ],
    ids=str,
)
def test_shapes_that_no_profile_can_have(
    tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], words: str
) -> None:
    assert words in refused(tmp_path, model(tmp_path), settings, **task)


def refused(folder: Path, path: Path, settings: dict[str, Any], **task: Any) -> str:
    """What the runner says of a build that fails; no engine is left."""
    with pytest.raises(Failure) as raised:
        build(folder, path, settings, **task)
    assert not (folder / "new.engine").exists()
    failure = raised.value
    return "; ".join(part for part in (failure.where, failure.what, failure.log, failure.hint) if part)


@pytest.mark.parametrize("settings", [{}, {"strongly_typed": True}], ids=str)
def test_a_quantized_model_needs_no_option(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = build(tmp_path, model(tmp_path, batch=1, quantized=True), settings)
    assert "int8_ranges" not in made["build"]


@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        ({"input_io_formats": [["fp32", "chw"]]}, {}, "input x is HALF in this model, and TensorRT-RTX"),
        ({"input_io_formats": [["fp16", "chw"]] * 2}, {}, "--input-io-formats; 2 formats for 1 inputs"),
        ({"use_dla_core": 0}, {}, "there is no DLA core 0: this GPU has 0"),
        ({"tactic_sources": ["-CUDNN"]}, {}, "has no TacticSource.CUDNN"),
        ({"mem_pool_size": {"dlaSRAM": 1 << 20}}, {}, "--mem-pool-size; TensorRT-RTX"),
        ({"mem_pool_size": {"dlaSRAM": 1 << 20}}, {}, "refuses it; IBuilderConfig::setMemoryPoolLimit: Error Code 3"),
        ({"mem_pool_size": {"workspace": 1 << 10}}, {}, "TensorRT cannot build the engine"),
        ({"mem_pool_size": {"workspace": 1 << 10}}, {}, "more workspace: --mem-pool-size workspace:SIZE"),
        ({"dynamic_plugins": ["none.so"]}, {}, "--dynamic-plugins none.so; TensorRT-RTX"),
        ({"dynamic_plugins": ["libc.so.6"]}, {}, "cannot load it; it must export getPluginCreators"),
        ({"static_plugins": ["/no.so"]}, {}, "--static-plugins /no.so; cannot be loaded"),
        ({"timing_cache_file": "t.cache"}, {}, "has no --timing-cache-file"),
        ({}, {"shapes": {"x": [2, 3, 16, 16]}}, "cannot be [2, 3, 16, 16]"),
    ],
    ids=str,
)
def test_refusals(tmp_path: Path, settings: dict[str, Any], task: dict[str, Any], words: str) -> None:
    assert words in refused(tmp_path, model(tmp_path, np.float16, batch=1), settings, **task)


@pytest.mark.parametrize("option", [each.name for each in options.OPTIONS if each.until])
def test_what_went_with_11_is_refused(option: str) -> None:
    with pytest.raises(Failure, match=f"has no {options.BY_NAME[option].line}: it went with TensorRT 11.0"):
        options.refuse(trt, {option: True})


def test_a_process_that_refuses(tmp_path: Path) -> None:
    """In one line, and the probe says it before anything is built."""
    for task in ("build", "probe"):
        folder = tmp_path / task
        folder.mkdir()
        ends = {"onnx": model(folder), "engine": folder / "new.engine"} if task == "build" else {}
        ran = run(folder, NO_FAKES, task=task, runtime="tensorrt-rtx", settings={"fp16": True}, **ends)
        assert ran.code == 2
        assert "has no --fp16: it went with TensorRT 11.0" in ran.stderr
        assert len(ran.stderr.strip().splitlines()) == 1
        assert (ran.result["status"], ran.result["error"]["where"]) == ("failed", "--fp16")
        assert not (folder / "new.engine").exists()


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert f"{versions.name(trt)} cannot parse the model" in refused(tmp_path, tmp_path / "m.onnx", {})
    assert "nowhere.onnx; cannot be read" in refused(tmp_path, tmp_path / "nowhere.onnx", {})


def test_an_operator_that_tensorrt_has_not(tmp_path: Path) -> None:
    path = model(tmp_path, batch=1)
    made = onnx.load(path)
    made.graph.node[0].op_type = "Frobnicate"
    onnx.save(made, path)
    words = refused(tmp_path, path, {})
    assert "node 0 (conv)" in words
    assert "use a TensorRT that has this operator" in words


def test_what_a_run_asks_for_is_there() -> None:
    of_runs = {option.name: 1 for option in options.OPTIONS if option.of != "build"}
    options.refuse(trt, of_runs)


def test_versions_are_told_of_a_real_one() -> None:
    network = trt.Builder(trt.Logger()).create_network(versions.network_flags(trt, strongly_typed=True))
    tensor = network.add_input("x", trt.float32, (1,))
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert not versions.set_type(tensor, trt.float16)
    assert (versions.is_rtx(trt), versions.names_tensors(trt), versions.shares_profiles(trt)) == (True, True, True)
    assert (versions.has_weak_types(trt), versions.has_bf16(trt)) == (False, False)
    engine = {"device_memory_size", "device_memory_size_v2", "get_engine_stat", "num_aux_streams"}
    assert engine - set(dir(trt.ICudaEngine)) == {"device_memory_size"}
    assert {"nvtx_verbosity", "infer_shapes", "profiler"} <= set(dir(trt.IExecutionContext))


def test_plugins_that_tensorrt_brings_along_are_there(tmp_path: Path) -> None:
    build(tmp_path, model(tmp_path, batch=1), {})
    assert "ROIAlign_TRT" in {creator.name for creator in trt.get_plugin_registry().all_creators}


def test_the_made_one_has_no_name_that_a_real_one_lacks() -> None:
    """Where it plays TensorRT 11: what it cannot be asked for here, the runner must not ask for."""
    program = (
        "import json, tensorrt; of = lambda kind: getattr(kind, '__members__', vars(kind));"
        "print(json.dumps({name: [each for each in of(kind) if each[0] != '_'] for name, kind in vars(tensorrt).items()"
        " if getattr(kind, '__module__', '') == 'tensorrt' and isinstance(kind, type)}))"
    )
    environment = os.environ | {"PYTHONPATH": str(FAKES), "FAKE_TENSORRT_VERSION": "11.0.0"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    made = json.loads(said.stdout)
    assert {"ICudaEngine", "IExecutionContext", "Runtime", "EngineInspector", "DataType"} <= made.keys()
    lacking = {
        f"{name}.{each}" for name, members in made.items() for each in members if not hasattr(getattr(trt, name), each)
    }
    assert lacking == set()


@pytest.mark.nsys
class TestCapture:
    """The command itself: it builds, and a runtime that cannot run here has captured nothing."""

    def capture(self, folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nsight_tools", "capture", "-o", "run", "--runtime", "tensorrt-rtx"]
        environment = os.environ | {"NSIGHT_TOOLS_NSYS": str(installed_nsys.main().path), "TMPDIR": str(folder)}
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--fp16"], "--fp16: TensorRT-RTX 1.7.1.116 has no --fp16: it went with TensorRT 11.0"),
            (["--timing-cache-file", "t.cache"], "has no --timing-cache-file"),
            (["--mem-pool-size", "dlaSRAM:1"], "--mem-pool-size: TensorRT-RTX 1.7.1.116 refuses it"),
        ],
        ids=str,
    )
    def test_what_is_refused_leaves_nothing_behind(self, tmp_path: Path, arguments: list[str], words: str) -> None:
        done = self.capture(tmp_path, model(tmp_path), "--batch", "4", "--save-engine", "saved.engine", *arguments)
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if "error" in line]
        assert words.replace("1.7.1.116", trt.__version__) in line
        assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]

    @pytest.mark.parametrize("saved", [True, False])
    def test_a_model_is_built_and_not_captured(self, tmp_path: Path, saved: bool) -> None:
        path = model(tmp_path)
        done = self.capture(tmp_path, path, "--batch", "4", *(["--save-engine", "saved.engine"] if saved else []))
        assert done.returncode == 2
        assert "nsight-tools: built in " in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert "m.onnx was built and not captured: tensorrt-rtx cannot run here" in last
        assert ("--save-engine keeps what is built here" in last) is not saved
        assert {each.name for each in tmp_path.iterdir()} == {"m.onnx", *(["saved.engine"] if saved else [])}

    def test_an_engine_is_not_captured(self, tmp_path: Path) -> None:
        (tmp_path / "m.engine").write_bytes(b"a plan")
        done = self.capture(tmp_path, tmp_path / "m.engine")
        assert done.returncode == 2
        assert "m.engine was not captured: tensorrt-rtx cannot run here" in done.stderr
        assert [each.name for each in tmp_path.iterdir()] == ["m.engine"]


def test_the_probe_says_that_it_builds_and_does_not_run(tmp_path: Path) -> None:
    ran = run(tmp_path, NO_FAKES, task="probe", runtime="tensorrt-rtx")
    assert ran.code == 0, ran.stderr
    assert ran.result["cannot_run"]["where"] in {"pycuda.driver", "GPU"}
    again = tmp_path / "again"
    again.mkdir()
    other = run(again, NO_FAKES, task="probe", runtime="tensorrt")
    assert other.code == 2, "TensorRT itself is none without a GPU"
    assert json.loads((again / "output" / "result.json").read_text("utf-8"))["errors"]
