"""PCI007: copies that an engine makes itself, inside of its enqueue."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.transfers.pci001_pageable_async_copies import pageable_async_copies
from nsight_analyses.transfers.pci002_exposed_transfers import exposed_transfers
from nsight_analyses.transfers.pci007_streamed_weights import streamed_weights

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO

STREAMED = """
    nvtx 1:          [i.................]
    nvtx 1 TensorRT: [e......]...........
    thread 1:        L.C.l.c.............
    stream 7:        .##.....##..........
    stream 8:        ....>>>>...>>>>.....
"""
"""The engine copies twice inside of its enqueue: 8 µs of 20, beside no kernel."""
OUTSIDE = STREAMED.replace("[e......]", "[e.].....").replace("L.C.l.c.", "Ll..C.c.")
"""The program copies, when the enqueue has returned."""
FORTY = f"""
    nvtx 1:          [i{"." * 37}]
    nvtx 1 TensorRT: [e......]...........
    thread 1:        L.C.l...............
    stream 7:        .##..##.............
    stream 8:        ....>...............
"""
TENTH = """
    nvtx 1:          [i.......]
    nvtx 1 TensorRT: [e.....].
    thread 1:        L.C.l....
    stream 7:        .##..##..
    stream 8:        ....>....
"""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "between the layers",
            STREAMED,
            WARNING,
            8,
            {"copies inside of enqueues": 2, "exposed": 8, "median size": 1_000_000, "longest": 4},
            Confidence.MEDIUM,
            "the engine copies 2.00 MB from the host inside of each enqueue, 2 copies: 40 % of the inference time",
        ),
        Case("by the program, behind the enqueue", OUTSIDE, applies=False),
        Case("without TensorRT's ranges", STREAMED.replace("[e......]", "........."), applies=False),
        Case(
            "by another thread meanwhile",
            STREAMED.replace("L.C.l.c.", "L...l...") + "    thread 2: ..C...c.",
            applies=False,
        ),
        Case("back to the host", STREAMED.replace(">", "<"), applies=False),
        Case(
            "beside kernels",
            STREAMED.replace(".##.....##..........", ".################..."),
        ),
        Case("1 MB in all", STREAMED, WARNING, 8, options={"size_bytes": 500_000}),
        Case("less", STREAMED, options={"size_bytes": 499_999}),
        Case("2.5 % of the time", FORTY, INFO, 1),
        Case("less than 2.5 %", FORTY.replace("[i.", "[i..")),
        Case("10 % of the time", TENTH, WARNING, 1),
        Case("9 % of the time", TENTH.replace("[i.", "[i.."), INFO, 1),
    ],
    ids=str,
)
def test_pci007(case: Case) -> None:
    case.check(streamed_weights)


def test_pci007_names_the_budget_and_explains_the_gaps() -> None:
    finding = only(streamed_weights, drawn(STREAMED))
    assert "setWeightStreamingBudgetV2" in finding.recommendation
    assert finding.explains == ("gaps",)
    assert evidence_of(finding, "exposed").detail == "8.00 µs an inference"


def test_an_engines_own_copies_are_none_of_the_programs() -> None:
    """No overlap across inferences and no pinned buffer of the program's changes them."""
    for analysis in (exposed_transfers, pageable_async_copies):
        assert analysis.run(drawn(STREAMED, memory="pageable")).status == Status.CLEAR
    assert exposed_transfers.run(drawn(OUTSIDE)).status == Status.FINDINGS
    assert pageable_async_copies.run(drawn(OUTSIDE, memory="pageable")).status == Status.FINDINGS
