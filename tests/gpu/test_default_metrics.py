"""What a capture samples of the GPU when nothing is asked of it: what limits layers is told, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nsight_tools import layer_limits
from nsight_tools.capture import gpu_metrics
from nsight_tools.nsys import find
from nsight_tools.run.limits import of_layers, why_no_limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu.conftest import Capture

pytestmark = pytest.mark.gpu

ENGINES = ("det_static", "cls_static")
MOST = 0.05
"""Share of their time by which sampling may lengthen kernels, or another run of the same is slower."""


@pytest.fixture
def allowed() -> None:
    """Skips where nsys itself says that it may not sample."""
    if refused := gpu_metrics.refused_by(find()):
        pytest.skip(refused.why)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("name", ENGINES)
def test_a_default_capture_tells_limits(
    captured: Callable[..., Capture], model: Callable[[str], Path], name: str, record_property: Callable[..., None]
) -> None:
    capture = captured(name, model(f"{name}.engine"))
    trace = capture.trace
    assert capture.run["gpu_metrics"] == {"hz": gpu_metrics.HZ}
    assert trace.rows("gpu_metrics") > 0
    assert trace.missing("gpu_metrics") is None
    assert layer_limits(trace).num_rows, why_no_limits(trace)
    layers = of_layers(trace)
    time = sum(each.time_ns for each in layers)
    record_property("samples", trace.sql("SELECT count(DISTINCT time_ns) AS n FROM gpu_metrics")["n"][0].as_py())
    record_property("layers", len(layers))
    record_property("layers told together", sum(each.together for each in layers))
    told = sum(each.time_ns for each in layers if each.limit != "not told") / time
    record_property("share of the time whose limit is told", told)
    assert told > 0.5


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("how", [(), ("--use-cuda-graph",)], ids=["eager", "graph"])
def test_what_sampling_costs(
    captured: Callable[..., Capture],
    model: Callable[[str], Path],
    name: str,
    how: tuple[str, ...],
    record_property: Callable[..., None],
) -> None:
    """Kernels run as long; what it does to the wall is noted, and differs from run to run."""
    suffix = "_graph" if how else ""
    engine = model(f"{name}.engine")
    runs = {
        "with": captured(f"{name}{suffix}", engine, *how),
        "without": captured(f"{name}{suffix}_unsampled", engine, *how, "--no-gpu-metrics"),
    }
    assert runs["without"].run["gpu_metrics"] == {"reason": "--no-gpu-metrics was given"}
    assert runs["without"].run["tracing"]["gpu_metrics_hz"] is None
    assert runs["with"].run["tracing"]["gpu_metrics_hz"] == gpu_metrics.HZ
    kernels = {each: _kernels_ns(capture) for each, capture in runs.items()}
    for each, capture in runs.items():
        record_property(f"{each}: kernels of an inference, ns", kernels[each])
        tracing: dict[str, Any] = capture.run["tracing"]
        for what in ("wall_ns", "gpu_ns"):
            record_property(f"{each}: {what}, untraced and traced", tuple(tracing[what].values())[:2])
    assert kernels["with"] < (1 + MOST) * kernels["without"]


def _kernels_ns(capture: Capture) -> float:
    """The median over inferences of the time that their kernels take."""
    rows = capture.trace.sql("""
        SELECT median(total) AS ns FROM (
            SELECT sum(end_ns - start_ns) AS total FROM launches
            WHERE work = 'kernel' AND inference IS NOT NULL GROUP BY inference
        )
    """)
    return float(rows["ns"][0].as_py())
