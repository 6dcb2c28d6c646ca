"""FUS009: gathers, reductions and pointwise layers, by what limits them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from analyses.layers.test_measured_limits import with_layers
from drawn_samples import Kernel, sampled
from drawn_trace import evidence_of, only
from nsight_analyses.layers.fus009_layers_that_move_data import layers_that_move_data

from nsight_tools.analysis import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools import Trace

WAITS = {"sms_active": 90.0, "sm_issue": 10.0, "dram_read": 8.0, "dram_write": 2.0}
FULL = {"sms_active": 95.0, "sm_issue": 20.0, "dram_read": 60.0, "dram_write": 30.0}
FEW = {"sms_active": 10.0, "sm_issue": 2.0, "dram_read": 2.0, "dram_write": 1.0}
ISSUES = {"sms_active": 95.0, "sm_issue": 80.0, "dram_read": 8.0, "dram_write": 2.0}
OTHER = Kernel("conv", 60, {"sms_active": 80.0, "sm_issue": 30.0, "dram_read": 10.0, "dram_write": 5.0}, "conv")
SMALL, LARGE = [8, 64, 56, 56], [8, 1024, 64, 64]
"""3 and 67 MB in FP16, read and written, for a cache of 50 MB."""


def engine(kind: str, dtype: str = "FP16", shape: Iterable[int] = SMALL, **about: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": list(shape), "dtype": dtype, "format": None}
    more = {"attributes": json.dumps(about)} if about else {}
    return {"name": "moved", "type": kind, "inputs": [tensor], "outputs": [tensor | {"name": "y"}]} | more


def run(layer: dict[str, Any], shares: dict[str, float], us: float = 30) -> Trace:
    trace = sampled([Kernel("mover", us, shares, "moved"), OTHER], requests=500)
    return with_layers(trace, layer, {"name": "conv", "type": "CaskConvolution"})


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("Gather", "gather along axis 0"),
        ("Reduce", "reduce along the last axes"),
        ("TopK", "take a small K of TopK, along the last axis"),
    ],
)
def test_what_waits_for_values_that_lie_apart(kind: str, advice: str) -> None:
    finding = only(layers_that_move_data, run(engine(kind), WAITS))
    assert finding.message.startswith("1 layer that moves data takes ")
    assert finding.recommendation == f"in the network, {advice}"
    assert "limited by latency" in evidence_of(finding, "layer").detail
    assert finding.change == ()
    assert finding.loss is not None
    assert finding.loss.share == pytest.approx(0.31, abs=0.03)  # 30 of some 97 us


def test_what_memory_limits_in_fp32_moves_half_in_fp16() -> None:
    finding = only(layers_that_move_data, run(engine("PointWiseV2", "FP32", LARGE), FULL, us=75))
    assert finding.cause == "1 of them runs at the peak of device memory, in FP32"
    assert [change.option for change in finding.change] == ["fp16"]
    assert finding.loss is not None
    assert finding.loss.share == pytest.approx(0.27, abs=0.03)  # half of 75 of some 140 us


def test_what_reads_more_than_its_tensors_have() -> None:
    """134 MB in FP16, for which 143 us at 90 % of 4 TB/s move 515 MB; at its peak 134 MB take 34 us."""
    finding = only(layers_that_move_data, run(engine("Gather", "FP16", LARGE), FULL, us=143))
    assert "it moves 3.8 times what its tensors have" in evidence_of(finding, "layer").detail
    assert finding.recommendation == "in the network, gather along axis 0"
    assert evidence_of(finding, "kernel time more than their bytes take, an inference").value == pytest.approx(
        109_000, rel=0.05
    )


def status(layer: dict[str, Any], shares: dict[str, float], us: float = 30) -> Outcome:
    return layers_that_move_data.run(run(layer, shares, us))


CLEAR = {
    "few SMs are another rule's": (engine("TopK"), FEW, 30),
    "instructions limit it": (engine("Reduce"), ISSUES, 30),
    "a pointwise layer that waits has no axes": (engine("PointWiseV2"), WAITS, 30),
    "memory is at its peak, in FP16": (engine("Gather", "FP16", LARGE), FULL, 40),
    "start and end are most of it": (engine("Gather"), WAITS, 3),
    "it reduces the last axes already": (engine("Reduce", ReduceAxes=[0, 0, 1, 1]), WAITS, 30),
}


@pytest.mark.parametrize("case", CLEAR.values(), ids=CLEAR)
def test_what_is_as_it_should_be(case: tuple[dict[str, Any], dict[str, float], float]) -> None:
    assert status(*case).status == Status.CLEAR


def test_a_reduction_of_other_axes_is_told() -> None:
    assert status(engine("Reduce", ReduceAxes=[0, 1, 0, 0]), WAITS).status == Status.FINDINGS


def test_without_metrics_it_could_not_look() -> None:
    trace = sampled([Kernel("mover", 30, {}, "moved"), OTHER], requests=5)
    outcome = layers_that_move_data.run(with_layers(trace, engine("Gather")))
    assert outcome.status == Status.COULD_NOT_RUN


def test_an_engine_without_such_layers_has_nothing_to_look_for() -> None:
    outcome = status(engine("CaskConvolution"), WAITS)
    assert outcome.status == Status.NOT_APPLICABLE
