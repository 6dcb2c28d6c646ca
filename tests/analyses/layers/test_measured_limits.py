"""FUS005, LCH005 and FUS002 where GPU metrics tell what kernels' names and grids leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_samples import Kernel, sampled
from drawn_trace import derived, evidence_of, only
from nsight_analyses.gpu.lch005_grids_that_leave_the_gpu_empty import grids_that_leave_the_gpu_empty
from nsight_analyses.layers.fus002_reformat_layers import reformat_layers
from nsight_analyses.layers.fus005_layers_off_tensor_cores import layers_off_tensor_cores

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence

if TYPE_CHECKING:
    from nsight_tools import Trace

OTHER = Kernel("pointwise", 20, {"sms_active": 90, "sm_issue": 30, "tensor_active": 0, "dram_read": 5}, "b")
FP16 = {"name": "x", "shape": [8, 63, 56, 56], "dtype": "FP16", "format": None}


def with_layers(trace: Trace, *layers: dict[str, Any]) -> Trace:
    """The same trace with the engine's list of layers."""
    names = ("kernels", "api_calls", "nvtx_ranges", "gpus", "gpu_metrics", "streams")
    rows = [{"layer": at, "source": "inspector"} | layer for at, layer in enumerate(layers)]
    return derived({name: trace.table(name) for name in names} | {"layers": table("layers", rows)})


def convolution(kernel: str, tensor: float, dram: float = 5.0) -> Trace:
    shares = {"sms_active": 95, "sm_issue": 40, "tensor_active": tensor, "dram_read": dram}
    trace = sampled([Kernel(kernel, 30, shares, "a"), OTHER], requests=500)
    layer = {"name": "a", "type": "CaskConvolution", "inputs": [FP16], "outputs": [FP16]}
    return with_layers(trace, layer, {"name": "b", "type": "PointWiseV2"})


@pytest.mark.parametrize(
    ("kernel", "tensor", "found"),
    [
        ("a_kernel_of_unknown_kind", 0, True),
        ("a_kernel_of_unknown_kind", 30, False),
        ("sm50_xmma_convolution", 30, False),
        ("sm50_xmma_convolution", 0, True),
        ("sm80_xmma_tensor16x8x16", 0, False),
    ],
)
def test_what_the_tensor_cores_did_decides_before_the_names(kernel: str, tensor: float, found: bool) -> None:
    outcome = layers_off_tensor_cores.run(convolution(kernel, tensor))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    for finding in outcome.findings:
        assert finding.confidence == Confidence.MEDIUM
        assert "C 63 is no multiple of 8" in evidence_of(finding, "layer").detail
        assert "Tensor Cores 0 %" in evidence_of(finding, "layer").detail


def test_padding_is_no_advice_where_device_memory_is_the_limit() -> None:
    finding = only(layers_off_tensor_cores, convolution("sm50_xmma_convolution", 0, dram=85))
    assert "pad" not in finding.recommendation
    assert "limited by memory" in evidence_of(finding, "layer").detail


@pytest.mark.parametrize(
    ("grid", "active", "found"),
    [(80, 20, True), (80, 75, False), (30, 28, True), (400, 20, False)],
    ids=["blocks that end early", "blocks that do not", "few blocks", "blocks for all"],
)
def test_sms_that_are_active_count_in_place_of_blocks(grid: int, active: float, found: bool) -> None:
    """Of 100 SMs."""
    kernels = [Kernel("few", 60, {"sms_active": active}, grid=grid), Kernel("all", 15, {"sms_active": 95}, grid=400)]
    outcome = grids_that_leave_the_gpu_empty.run(sampled(kernels, requests=400))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    for finding in outcome.findings:
        assert finding.confidence == Confidence.HIGH
        assert "SMs active" in finding.message


def test_reformats_in_bytes() -> None:
    """Each way 8 x 64 x 56 x 56 values: 4 bytes in, 2 out."""
    shares = {"sms_active": 95, "sm_issue": 20, "dram_read": 40, "dram_write": 20}
    reformat = Kernel("copyPacked", 30, shares, "Reformatting CopyNode for x")
    trace = sampled([reformat, Kernel("conv", 40, dict.fromkeys(shares, 20.0), "conv")], requests=400)
    ends = [FP16 | {"shape": [8, 64, 56, 56], "dtype": dtype} for dtype in ("FP32", "FP16")]
    layer = {"name": "Reformatting CopyNode for x", "type": "Reformat", "inputs": ends[:1], "outputs": ends[1:]}
    said = evidence_of(only(reformat_layers, with_layers(trace, layer)), "read and written by them in an inference")
    assert (said.value, said.unit) == (8 * 64 * 56 * 56 * 6, "bytes")
    assert "device memory moved 7" in said.detail  # 60 % of 4 TB/s for 30 us: 72 MB
