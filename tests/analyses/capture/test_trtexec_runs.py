"""Runs as trtexec makes them: three streams, a warm-up in the window, a CUDA graph. Of a healthy one no rule warns."""

from __future__ import annotations

from typing import Any

import pytest
from drawn_trace import drawn
from nsight_analyses.streams.str001_streams_that_do_not_overlap import streams_that_do_not_overlap

from nsight_tools.analysis import Status, analyze, registry
from nsight_tools.findings import Finding, Severity
from nsight_tools.run import Run

INFERENCES = 12
EAGER = """
    nvtx 1 TensorRT: .[e............]............................
    thread 1:        CLlLlLlLlLlLlLlc........SSSSSSSSSSSSSSSS....
    stream 7:        .>>.........................................
    stream 8:        ....##%%##%%##%%##%%##%%##%%................
    stream 9:        ................................<<..........
"""
"""A warm-up: one enqueue, kernel by kernel."""
UNNAMED = EAGER.replace(".[e............]", "................")
"""The same where NVTX was not traced, or the enqueue was of the program's own making."""
CAPTURED = """
    nvtx 1 TensorRT: .[e]
    thread 1:        .....
    stream 7:        .....
    stream 8:        .....
    stream 9:        .....
"""
"""An enqueue that is captured into a graph launches nothing."""
NODES = """
    nvtx 1 TensorRT: ....................
    thread 1:        CGc..SSSSSSSSSSSSSSS
    stream 7:        .>..................
    stream 8:        ...nnnnnnnmmmmmmm...
    stream 9:        .................<..
"""
WHOLE = NODES.replace("nnnnnnnmmmmmmm", "gggggggggggggg")


def run(*parts: str, **options: Any) -> list[Finding]:
    """What all rules find on these drawings of the same lines, one after the other."""
    rows: dict[str, str] = {}
    for part in parts:
        for line in part.strip("\n").splitlines():
            label, _, picture = line.partition(": ")
            rows[label.strip()] = rows.get(label.strip(), "") + picture.strip()
    text = "\n".join(f"{label}: ".ljust(20) + picture for label, picture in rows.items())
    trace = drawn(text, **{"kernel_names": "sm80_xmma_gemm", **options})
    assert Run.of(trace).count == INFERENCES
    assert streams_that_do_not_overlap.run(trace).status == Status.CLEAR
    outcomes = analyze(trace, registry().values())
    return [finding for outcome in outcomes for finding in outcome.findings]


@pytest.mark.parametrize("graph", [WHOLE, NODES], ids=["traced whole", "traced by nodes"])
@pytest.mark.parametrize(
    "before",
    [[], [UNNAMED], [UNNAMED] * 12, [EAGER, CAPTURED], [EAGER] * 3 + [CAPTURED]],
    ids=["no warm-up", "an unnamed one", "a long one", "an enqueue and a capture", "three enqueues and a capture"],
)
def test_a_healthy_graph_run_is_no_alarm_whatever_leads_it(before: list[str], graph: str) -> None:
    found = run(*before, *[graph] * INFERENCES)
    assert [(one.code, one.message) for one in found if one.severity != Severity.INFO] == []
    assert [one.message for one in found if "warm-up" in one.message] == []


def test_what_is_not_healthy_is_still_an_alarm() -> None:
    """Its copies block the thread, and twice as long."""
    copies = WHOLE.replace("CGc..SSS", "CCGcccSS").replace(".>......", ".>>.....").replace("...ggg", "....gg")
    found = run(EAGER, CAPTURED, *[copies] * INFERENCES, copy_api="cudaMemcpy")
    assert [one.code for one in found if one.severity != Severity.INFO] == ["PCI003"]
