"""What real engines compute, beside a reference; and two builds of one model side by side."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from gpu.test_building import QUICK, SHAPE, built, needs, sources, tensorrt

from nsight_tools import compare
from nsight_tools.accuracy import Accuracy, Agreement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu.conftest import Capture

pytestmark = pytest.mark.gpu
__all__ = ["built", "tensorrt"]  # fixtures


def only(capture: Capture) -> Agreement:
    """How far the engine's only output is from the reference's."""
    found = Accuracy.of_json(capture.run["accuracy"])
    assert found is not None
    (output,) = found.outputs
    assert (output.broken, output.alike) == (0, 0)
    return output


def test_an_engine_computes_the_same_however_it_is_run(
    captured: Callable[..., Capture], model: Callable[[str], Path]
) -> None:
    engine, short = model("cls_static.engine"), ("--duration", "0.5", "--single-pass")
    first = captured("outputs_first", engine, *short)
    for name, options in (("graph", ["--use-cuda-graph"]), ("compute", ["--no-data-transfers"]), ("again", [])):
        again = only(captured(f"outputs_{name}", engine, *short, *options, "--reference", first.path))
        assert (again.lInf, again.top1) == (0, 1), name


def test_fp16_passes_and_int8_without_ranges_does_not(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    needs(tensorrt, (8, 5), before=(11,))
    whole = built("build_plain")
    half = built("outputs_fp16", "--fp16", "--reference", whole.path)
    assert half.run["accuracy"]["passed"]
    assert 0 < (only(half).rel or 0) < 0.02
    assert "accurate enough (rel at most 0.05)" in " ".join(half.printed.split())
    broken = built("outputs_int8", "--int8", "--placeholder-ranges", "--reference", whole.path, "--accuracy", "l0:1")
    if any(tensor["dtype"] == "INT8" for layer in _layers(broken) for tensor in layer["inputs"] or ()):
        assert (only(broken).rel or 0) > 0.05


def _layers(capture: Capture) -> list[dict[str, list[dict[str, str]]]]:
    return list(capture.trace.table("layers", ["inputs"]).to_pylist())


def test_onnx_runtime_agrees(captured: Callable[..., Capture], model: Callable[[str], Path]) -> None:
    if find_spec("onnxruntime") is None:
        pytest.skip("no onnxruntime here")
    onnx = model("cls.onnx")
    options = ("--shapes", SHAPE, *QUICK, *sources(), "--single-pass", "--reference", "onnxruntime")
    found = only(captured("outputs_onnxruntime", onnx, *options))
    assert found.top1 == 1
    assert (found.rel or 0) < 0.01, "TF32 rounds to one part in 2,048"


def test_a_reference_that_does_not_fit(
    refused: Callable[..., str], built: Callable[..., Capture], model: Callable[[str], Path]
) -> None:
    line = refused(model("det_static.engine"), "--duration", "0.5", "--reference", built("build_plain").path)
    assert "input " in line or "output " in line


def test_what_fp16_changed_in_the_build(built: Callable[..., Capture], tensorrt: tuple[int, ...]) -> None:
    needs(tensorrt, (8, 5), before=(11,))
    whole = built("build_plain")
    found = compare(whole.trace, built("outputs_fp16", "--fp16", "--reference", whole.path).trace).builds
    assert found is not None
    assert found.rebuilt > found.alike
    assert any("precision" in region.changed for region in found.regions)
    *kinds, alike, _ = found.totals
    for capture, side in ((whole, "before"), (built("outputs_fp16"), "after")):
        work = capture.trace.sql("SELECT sum(end_ns - start_ns) / (SELECT count(*) FROM inferences) AS ns FROM kernels")
        whole_ns = sum(getattr(each, side) for each in (*kinds, alike))
        assert whole_ns == pytest.approx(work["ns"][0].as_py(), rel=0.05)
