"""Healthy runs as trtexec makes them: an eager warm-up, a capture, then launches of the graph. No rule warns."""

from __future__ import annotations

import pytest
from drawn_trace import drawn

from nsight_tools.analysis import Status, analyze
from nsight_tools.findings import Severity
from nsight_tools.run import Run

CALLS = ["cuModuleLoadData", "cudaStreamBeginCapture", "cudaGraphInstantiate"]


def trtexec(streams: tuple[int, int, int]) -> str:
    """Three eager inferences, the first slow by 1500 µs, then twenty by a graph: a copy in, ten kernels, a copy out."""
    up, works, down = streams
    rows = {"nvtx 1 TensorRT": "", "thread 1": "", f"stream {up}": "", f"stream {works} ": "", f"stream {down}  ": ""}

    def add(length: int, *lanes: str) -> None:
        for label, lane in zip(rows, lanes, strict=True):
            rows[label] += lane.ljust(length, ".")

    kernels = 5 * ("#" * 45 + "%" * 45)
    for late in (1500, 0, 0):
        calls = "C.." + "A" * late + "LlLlLlLlLl" + "." * 14 + "c" + "S" * 530
        copies = "." + ">" * 40, "." * (late + 496) + "<" * 40
        add(late + 560, "...[e" + "." * (late + 20) + "]", calls, copies[0], "." * (late + 45) + kernels, copies[1])
    add(60, "...[e" + "." * 20 + "]", "...a" + "." * 22 + "aaaa", "", "", "")
    for _ in range(20):
        nodes = "." * 42 + 5 * ("n" * 45 + "m" * 45)
        add(560, "", "C.G.c" + "S" * 541, "." + ">" * 40, nodes, "." * 493 + "<" * 50)
    return "\n".join(f"{label + ':':<17}{row}" for label, row in rows.items())


@pytest.mark.parametrize("streams", [(7, 7, 7), (7, 8, 9)], ids=["one stream", "three streams"])
def test_a_graph_after_an_eager_warm_up(streams: tuple[int, int, int]) -> None:
    trace = drawn(
        trtexec(streams),
        other_api=CALLS,
        kernel_names="sm90_xmma_gemm",
        gpu={"sm_count": 132, "max_sm_clock_mhz": 1980.0},
        size_bytes=500_000,
    )
    assert Run.of(trace).count == 20
    outcomes = {outcome.code: outcome for outcome in analyze(trace)}
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]
    assert [f"{finding.code}: {finding.message}" for finding in findings if finding.severity != Severity.INFO] == []
    assert not any("warm-up" in finding.message for finding in findings)
    looked = ("FUS001", "LCH001", "LCH002", "LCH003", "LCH004", "LCH006", "MEM001", "THR003")
    assert {code: outcomes[code].status for code in looked} == dict.fromkeys(looked, Status.CLEAR)
