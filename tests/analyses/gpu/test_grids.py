"""LCH005: kernels with fewer blocks than half of the SMs."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, only
from nsight_analyses.gpu.lch005_grids_that_leave_the_gpu_empty import grids_that_leave_the_gpu_empty

from nsight_tools.analysis import Status
from nsight_tools.findings import Severity

GPU = {"sm_count": 100}
TEN = "stream 7: ##########"
SHARE = "share of kernel time"
SAVED = "saved by a batch that fills the GPU"


@pytest.mark.parametrize(
    "case",
    [
        Case("half of the SMs", TEN, options={"grid": 50, "gpu": GPU}),
        Case("fewer", TEN, Severity.INFO, None, {SHARE: 1.0, SAVED: 5.1}, options={"grid": 49, "gpu": GPU}),
        Case(
            "a fifth of the time could be saved",
            "stream 7: ####%%%%%%%%%%%",
            Severity.INFO,
            None,
            {SAVED: 3, SHARE: 4 / 15, "kernels with few blocks": 1, "median blocks of those": 25},
            options={"grid": [25, 100], "gpu": GPU},
        ),
        Case("less", "stream 7: ####%%%%%%%%%%%%", options={"grid": [25, 100], "gpu": GPU}),
        Case(
            "nearly all of it could be, and no inference gets shorter",
            TEN,
            Severity.INFO,
            None,
            {SAVED: 9.9},
            options={"grid": 1, "gpu": GPU},
            says="save 9.90 µs at most",
        ),
        Case(
            "another stream's kernel fills the rest",
            """
            stream 7: ####......
            stream 8: ####%%%%%%
            """,
            options={"grid": [10, 100, 100], "gpu": GPU},
        ),
    ],
    ids=str,
)
def test_case(case: Case) -> None:
    case.check(grids_that_leave_the_gpu_empty)


FEW = {"grid": [10, 100], "gpu": GPU}


@pytest.mark.parametrize(
    ("kernel", "status"),
    [
        ("ncclDevKernel_AllReduce_Sum_f16_RING_LL", Status.CLEAR),
        ("nvshmemi_proxy_kernel", Status.CLEAR),
        ("gemm", Status.FINDINGS),
    ],
)
def test_communication_needs_few_blocks_by_design(kernel: str, status: Status) -> None:
    trace = drawn("stream 7: ##########%", kernel_names=[kernel, "gemm"], **FEW)
    assert grids_that_leave_the_gpu_empty.run(trace).status == status


def test_nothing_but_communication_cannot_be_judged() -> None:
    trace = drawn(TEN, kernel_names="ncclDevKernel_AllReduce_Sum_f16_RING_LL", **FEW | {"grid": 10})
    assert grids_that_leave_the_gpu_empty.run(trace).status == Status.COULD_NOT_RUN


STEADY = """
    nvtx 1:   [i.......]
    thread 1: L.........
    stream 7: .#########
"""


@pytest.mark.parametrize(("kernel", "named"), [("sm80_xmma_gemm", True), ("stencil", False)])
def test_trtexecs_option_is_named_where_the_program_may_run_tensorrt(kernel: str, named: bool) -> None:
    finding = only(grids_that_leave_the_gpu_empty, drawn(STEADY, kernel_names=kernel, **FEW | {"grid": 10}))
    assert ("trtexec --optShapes" in finding.recommendation) == named
    assert "enlarge the batch" in finding.recommendation


@pytest.mark.parametrize(("launching", "contexts"), [(82, True), (84, False)], ids=["less than 80 %", "more"])
def test_several_contexts_where_the_host_has_time_for_them(launching: int, contexts: bool) -> None:
    """Of the launch 3 µs are likely tracing's, of the range 0.8; without them 99 pass, which the GPU works."""
    text = f"""
        nvtx 1:   [{"i".ljust(launching - 2, ".")}]
        thread 1: {"L" * launching}
        stream 7: .{"#" * 99}
    """
    finding = only(grids_that_leave_the_gpu_empty, drawn(text, **FEW | {"grid": 10}))
    assert ("several contexts on streams of their own" in finding.recommendation) == contexts


def test_without_the_number_of_sms() -> None:
    outcome = grids_that_leave_the_gpu_empty.run(drawn(TEN))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no kernel of a GPU whose number of SMs is known",
    )
