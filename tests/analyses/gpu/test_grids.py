"""LCH005: kernels with fewer blocks than half of the SMs."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn
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
        Case("fewer", TEN, Severity.WARNING, None, {SHARE: 1.0, SAVED: 5.1}, options={"grid": 49, "gpu": GPU}),
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
            "half of the time could be saved",
            TEN,
            Severity.WARNING,
            None,
            {SAVED: 5.1},
            options={"grid": 49, "gpu": GPU},
            says="save 5.10 µs at most",
        ),
        Case(
            "less than half of it",
            "stream 7: #####....%",
            Severity.INFO,
            None,
            {SAVED: 4.5},
            options={"grid": [10, 100], "gpu": GPU},
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


def test_without_the_number_of_sms() -> None:
    outcome = grids_that_leave_the_gpu_empty.run(drawn(TEN))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no kernel of a GPU whose number of SMs is known",
    )
