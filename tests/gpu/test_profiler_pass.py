"""TensorRT's own profiler beside the trace, on real engines: both time the same layers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nsight_tools.report.layer_times import told
from nsight_tools.run.layer_times import AGREE, layer_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu.conftest import Capture

pytestmark = pytest.mark.gpu

SHORT = ("cls_static", "det_static")
"""Engines whose layers all take less than the bound."""
LARGE = "cls_large"
"""The classifier for a batch so large that some of its layers take more."""


@pytest.fixture
def capture(captured: Callable[..., Capture], model: Callable[[str], Path]) -> Callable[[str], Capture]:
    def made(name: str) -> Capture:
        what = [model(f"{name}.engine")] if name in SHORT else [model("cls.onnx"), *_building()]
        return captured(f"{name}_profiler", *what, "--profiler")

    return made


def _building() -> list[str]:
    sources = os.environ.get("NSIGHT_TOOLS_TACTIC_SOURCES")
    chosen = ["--tactic-sources", sources] if sources else []
    return ["--shapes", "x:256x3x48x192", "--fp16", "--builder-optimization-level", "0", *chosen]


@pytest.mark.parametrize("name", [*SHORT, LARGE])
def test_both_know_the_same_layers(capture: Callable[[str], Capture], name: str) -> None:
    """By name: what takes time for one takes time for the other; layers without a kernel take none for either."""
    found = layer_times(capture(name).trace)
    assert found is not None
    both = [each for each in found.layers if each.both]
    assert len(both) > 20
    assert sum(each.traced_ns or 0 for each in found.only("traced")) < 0.02 * found.traced_ns
    known = sum(each.profiler_ns or 0 for each in both) / found.profiler_ns
    assert known > 0.95
    assert (found.inferences, found.measured_by) == (100, "runner")


def test_layers_above_the_bound_agree(capture: Callable[[str], Capture]) -> None:
    """Beyond what the profiler's own events add to each, as the shorter ones tell."""
    found = layer_times(capture(LARGE).trace)
    assert found is not None
    assert len(found.long) >= 3
    apart = {each.name: each.beyond(found.added_ns) for each in found.long}
    assert {name: share for name, share in apart.items() if abs(share) > AGREE} == {}


@pytest.mark.parametrize("name", SHORT)
def test_what_events_cost_is_printed(capture: Callable[[str], Capture], name: str) -> None:
    made = capture(name)
    found = layer_times(made.trace)
    assert found is not None
    assert " ".join(told(found).split())[:60] in " ".join(made.printed.split())
    assert 1_000 < found.added_ns < 6_000
    assert "its events around each layer add" in told(found)


@pytest.mark.parametrize("name", SHORT)
def test_its_pass_changes_no_other(capture: Callable[[str], Capture], name: str) -> None:
    """What the profiler's pass is called in `benchmark`, and that no other run waits in its enqueue as it does."""
    made = capture(name)
    assert set(made.trace.frame("benchmark", ["run"])["run"]) == {
        "benchmark", "throughput", "timing", "layers", "profiler",
    }  # fmt: skip
    enqueue = {
        run: made.run["measured"][run][f"{run}_median"]["enqueue_ns"] for run in ("benchmark", "timing", "profiler")
    }
    assert enqueue["profiler"] > enqueue["benchmark"]
