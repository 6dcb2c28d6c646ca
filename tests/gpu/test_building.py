"""Engines that are built for a capture: options that reach TensorRT, and what comes of them on a real GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nsight_tools import compare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu.conftest import Capture

pytestmark = pytest.mark.gpu

SHAPE = "x:8x3x48x192"
QUICK = ("--builder-optimization-level", "0", "--duration", "0.5", "--no-gpu-metrics")
CACHED = ("--builder-optimization-level", "1", "--timing-cache-file")
"""Level 0 takes no notice of a timing cache."""


def sources() -> tuple[str, ...]:
    given = os.environ.get("NSIGHT_TOOLS_TACTIC_SOURCES")
    return ("--tactic-sources", given) if given else ()


@pytest.fixture(scope="session")
def built(captured: Callable[..., Capture], model: Callable[[str], Path]) -> Callable[..., Capture]:
    """A capture of cls.onnx that is built with these options."""
    return lambda name, *options: captured(name, model("cls.onnx"), "--shapes", SHAPE, *QUICK, *sources(), *options)


@pytest.fixture(scope="session")
def tensorrt(model: Callable[[str], Path]) -> tuple[int, ...]:
    """The version that builds here."""
    model("cls.onnx")  # as a sign that this machine is for these tests
    python = os.environ.get("NSIGHT_TOOLS_PYTHON", sys.executable)
    program = "import tensorrt; print(tensorrt.__version__)"
    version = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, version.split(".")[:2]))


def needs(tensorrt: tuple[int, ...], since: tuple[int, ...], before: tuple[int, ...] = (99,)) -> None:
    if not since <= tensorrt < before:
        pytest.skip(f"TensorRT {tensorrt} has no such thing")


def test_phases(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    build = built("build_plain").run["build"]
    phases = build["phases_s"]
    assert phases["parse"] > 0
    assert phases["build"] > phases["parse"]
    assert phases["deserialize"] > 0
    assert sum(filter(None, phases.values())) == pytest.approx(build["seconds"])
    if tensorrt >= (10, 0):  # 8.6 does not log how long the generation took
        assert phases["serialize"] is not None, "TensorRT's log no longer says how long the generation took"


def test_one_timing_cache_makes_builds_alike(
    built: Callable[..., Capture], tensorrt: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = str(tmp_path_factory.mktemp("cache") / "timing.cache")
    first = built("build_cached_1", *CACHED, cache)
    second = built("build_cached_2", *CACHED, cache)
    caches = [side.run["build"]["timing_cache"] for side in (first, second)]
    assert (caches[0]["fresh"], caches[1]["fresh"]) == (True, False)
    if tensorrt >= (10, 0):  # 8.6 does not log how many entries a cache has
        assert caches[0]["misses"] > 0
        assert caches[1]["misses"] == 0
    assert second.run["build"]["phases_s"]["build"] < first.run["build"]["phases_s"]["build"]
    assert first.run["build"]["tactics"] == second.run["build"]["tactics"]
    found = compare(first.trace, second.trace)
    assert "tactics" not in {each.aspect for each in found.setup}
    assert "The two builds chose the same tactics." in found.notes


def test_a_required_cache(
    built: Callable[..., Capture],
    refused: Callable[..., str],
    model: Callable[[str], Path],
    tensorrt: tuple[int, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    needs(tensorrt, (9, 0))
    cache = str(tmp_path_factory.mktemp("cache") / "timing.cache")
    required = (*CACHED, cache, "--error-on-timing-cache-miss")
    options = (model("cls.onnx"), *QUICK, *sources(), *required)
    assert "there is no timing cache" in refused(*options, "--shapes", SHAPE)
    built("build_cached_3", *CACHED, cache)
    assert built("build_required", *required).run["build"]["timing_cache"]["misses"] == 0
    assert "the timing cache lacks a tactic" in refused(*options, "--shapes", "x:3x3x48x192")


@pytest.mark.parametrize("most", [0, 3])
def test_aux_streams(built: Callable[..., Capture], most: int) -> None:
    capture = built(f"build_aux_{most}", "--max-aux-streams", str(most))
    used = capture.trace.sql("SELECT count(DISTINCT stream) AS n FROM launches WHERE work = 'kernel'")["n"][0].as_py()
    assert capture.run["engine"]["aux_streams"] <= most
    assert used <= 1 + most


def test_profiles_from_smallest_to_largest(captured: Callable[..., Capture], model: Callable[[str], Path]) -> None:
    ends = [f"--{end}-shapes=x:{batch}x3x48x192" for end, batch in (("min", 1), ("opt", 4), ("max", 8))]
    capture = captured("build_profiles", model("cls.onnx"), *ends, *QUICK, *sources(), "--streams", "2", "--batch", "6")
    assert capture.run["engine"]["profiles"] == 2
    assert capture.run["engine"]["inputs"][0]["shape"][0] == 6


def test_formats(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    needs(tensorrt, (8, 5), (11,))
    options = ("--fp16", "--input-io-formats", "fp16:chw", "--output-io-formats", "fp16:chw")
    engine = built("build_formats", *options).run["engine"]
    assert {tensor["dtype"] for tensor in engine["inputs"] + engine["outputs"]} == {"float16"}


def test_int8_without_ranges(
    refused: Callable[..., str], model: Callable[[str], Path], tensorrt: tuple[int, ...]
) -> None:
    needs(tensorrt, (8, 5), (11,))
    line = refused(model("cls.onnx"), "--shapes", SHAPE, *QUICK, *sources(), "--int8")
    assert "the model has no Q/DQ layers and there is no calibration data" in line


@pytest.mark.parametrize("how", ["placeholder", "calibration"])
def test_int8_with_ranges(
    built: Callable[..., Capture], tensorrt: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    needs(tensorrt, (8, 5), (11,))
    options = ["--placeholder-ranges"]
    if how == "calibration":
        folder = tmp_path_factory.mktemp("data")
        generator = np.random.default_rng(0)
        for number in range(3):
            np.savez(folder / f"{number}.npz", x=generator.uniform(-1, 1, (8, 3, 48, 192)).astype(np.float32))
        options = ["--calibration-data", str(folder)]
    capture = built(f"build_int8_{how}", "--int8", "--fp16", *options)
    assert capture.run["build"]["int8_ranges"] == how
    assert "INT8" in dtypes(capture)


def dtypes(capture: Capture) -> set[str]:
    layers = capture.trace.table("layers", ["outputs"]).to_pylist()
    return {tensor["dtype"] for layer in layers for tensor in layer["outputs"] or ()}


@pytest.mark.parametrize(("name", "dtype"), [("cls_int8", "INT8"), ("cls_fp8", "FP8")])
def test_quantized_models(
    captured: Callable[..., Capture],
    model: Callable[[str], Path],
    tensorrt: tuple[int, ...],
    name: str,
    dtype: str,
) -> None:
    """Models with Q/DQ layers (`quantize.py`); strongly typed, which keeps to them in every TensorRT that has FP8."""
    needs(tensorrt, (10, 0) if dtype == "FP8" else (8, 5))
    typed = ("--strongly-typed",) if tensorrt >= (10, 0) else ("--int8", "--fp16")
    capture = captured(name, model(f"{name}.onnx"), "--shapes", "x:8x3x48x192", *QUICK, *sources(), *typed)
    assert capture.run["status"] == "done"
    assert dtype in dtypes(capture)


def test_a_plugin_of_tensorrts_own(
    captured: Callable[..., Capture], model: Callable[[str], Path], tensorrt: tuple[int, ...]
) -> None:
    """`plug.py` puts it into the model; the engine that is built is captured again as an engine, too."""
    needs(tensorrt, (8, 5), (11,))
    built = captured("cls_plugin", model("cls_plugin.onnx"), "--shapes", SHAPE, *QUICK, *sources())
    loaded = captured("cls_plugin_engine", built.path / "cls_plugin.engine", "--duration", "0.5")
    for capture in (built, loaded):
        assert capture.run["status"] == "done"
        layers = capture.trace.table("layers", ["name", "type"]).to_pylist()
        (plugin,) = [layer["name"] for layer in layers if "Plugin" in (layer["type"] or "")]
        assert plugin in set(capture.trace.frame("launches", ["layer"])["layer"])


def test_plugin_libraries(
    built: Callable[..., Capture], refused: Callable[..., str], model: Callable[[str], Path]
) -> None:
    """TensorRT's own registers its plugins itself, and cannot be loaded into a registry."""
    library = os.environ.get("NSIGHT_TOOLS_PLUGINS")
    if not library:
        pytest.skip("NSIGHT_TOOLS_PLUGINS names no libnvinfer_plugin.so")
    capture = built("build_static_plugins", "--static-plugins", library)
    assert capture.run["build"]["settings"]["static_plugins"] == [library]
    options = (model("cls.onnx"), "--shapes", SHAPE, *QUICK, *sources(), "--dynamic-plugins", library)
    assert "others are for --static-plugins" in refused(*options)


def test_layer_precisions(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    """All layers kept at FP32 among flags that allow FP16."""
    needs(tensorrt, (8, 5), (11,))
    kept = ("--fp16", "--layer-precisions", "*:fp32", "--precision-constraints")
    obeyed, ignored = (built(f"build_{how}", *kept, how) for how in ("obey", "none"))
    assert "FP16" not in dtypes(obeyed)
    assert "FP16" in dtypes(ignored)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("best", ("--best", "--placeholder-ranges")),
        ("sparsity", ("--fp16", "--sparsity", "enable")),
        ("mem_pool_size", ("--mem-pool-size", "workspace:16")),
        ("profiling_verbosity", ("--profiling-verbosity", "layer_names_only")),
    ],
)
def test_options_that_change_little(
    built: Callable[..., Capture], tensorrt: tuple[int, ...], name: str, options: tuple[str, ...]
) -> None:
    needs(tensorrt, (8, 5), (11,) if name == "best" else (99,))
    capture = built(f"build_{name}", *options)
    assert capture.run["status"] == "done"
    assert name in capture.run["build"]["settings"]


@pytest.mark.parametrize("strategy", ["static", "profile", "runtime"])
def test_allocation_strategies(
    captured: Callable[..., Capture], model: Callable[[str], Path], tensorrt: tuple[int, ...], strategy: str
) -> None:
    needs(tensorrt, (10, 1))
    ends = [f"--{end}-shapes=x:{batch}x3x48x192" for end, batch in (("min", 1), ("opt", 2), ("max", 32))]
    options = (*ends, *QUICK, *sources(), "--allocation-strategy", strategy)
    capture = captured(f"build_memory_{strategy}", model("cls.onnx"), *options)
    own, largest = (
        capture.run["measured"]["timing"]["context_memory_bytes"],
        capture.run["engine"]["device_memory_bytes"],
    )
    if strategy == "static":
        assert own is None
    elif strategy == "profile":
        assert own == largest
    else:
        assert 0 < own < largest


def test_weight_streaming(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    needs(tensorrt, (10, 1))
    options = ("--strongly-typed", "--allow-weight-streaming", "--weight-streaming-budget")
    all_kept, half = (built(f"build_weights_{budget[:2]}", *options, budget) for budget in ("100%", "50%"))
    kept = [side.run["engine"]["weight_streaming_budget_bytes"] for side in (all_kept, half)]
    assert kept[1] == pytest.approx(kept[0] / 2, rel=0.01)


def test_version_compatible(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    needs(tensorrt, (8, 6))
    assert built("build_compatible", "--version-compatible").run["status"] == "done"


def test_a_gpu_without_a_dla(refused: Callable[..., str], model: Callable[[str], Path]) -> None:
    line = refused(model("cls.onnx"), "--shapes", SHAPE, *QUICK, "--use-dla-core", "0")
    assert "there is no DLA core 0: this GPU has 0" in line


def test_driver_modes_are_recorded(built: Callable[..., Capture]) -> None:
    state = built("build_plain").run["machine"]["before"]
    assert {"running", "active_thread_percentage"} == state["mps"].keys()
    for gpu in state["gpus"]:
        assert isinstance(gpu["persistence_mode"], bool)
        assert gpu["compute_mode"]
        assert gpu["driver_model"] is None, "Windows alone has them"
