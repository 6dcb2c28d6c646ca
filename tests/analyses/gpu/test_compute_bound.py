"""GPU001: nothing to gain around the kernels."""

from __future__ import annotations

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.gpu.gpu001_compute_bound import compute_bound

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity


def computing(busy: int, apart: int = 0, times: int = 8) -> str:
    """Inferences of 100 µs, so far apart, in which a kernel runs for so long."""
    rows = {
        "nvtx 1": "[i" + "." * 97 + "]",
        "thread 1": "L" + "." * 99,
        "stream 7": "." + "#" * busy + "." * (99 - busy),
    }
    return "\n".join(f"{label + ':':<10}{('.' * apart).join([row] * times)}" for label, row in rows.items())


@pytest.mark.parametrize(
    ("text", "found"),
    [(computing(95), True), (computing(94), False), (computing(99, 4), True), (computing(99, 5), False)],
    ids=["95 % of it", "less", "95 % of the period", "less of it"],
)
def test_how_much_of_the_time_kernels_compute(text: str, found: bool) -> None:
    outcome = compute_bound.run(drawn(text))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


def test_it_is_good_news_and_says_what_helps() -> None:
    finding = only(compute_bound, drawn(computing(99)))
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.HIGH, None)
    assert finding.message.startswith("the GPU computes for 99.0 % of the inference time: there is nothing to gain")
    assert finding.recommendation.startswith("look inside of the kernels: another precision")
    assert evidence_of(finding, "share of the time in which kernels compute").value == 0.99


@pytest.mark.parametrize(("kernel", "found"), [("ncclDevKernel_AllReduce_Sum_f16_RING_LL", False), ("gemm", True)])
def test_communication_is_no_computing(kernel: str, found: bool) -> None:
    outcome = compute_bound.run(drawn(computing(99), kernel_names=kernel))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("busy", "found"), [(100, True), (90, False)])
def test_with_several_in_flight_the_gpus_time_counts(busy: int, found: bool) -> None:
    """Two threads, each of whose inferences takes 200 µs, for it waits until the other's kernel is done."""
    kernel = "#" * busy + "." * (100 - busy)
    text = f"""
        nvtx 1:   {("[i" + "." * 197 + "]") * 16}
        nvtx 2:   {"." * 100 + ("[i" + "." * 197 + "]") * 16}
        thread 1: {("L" + "." * 199) * 16}
        thread 2: {"." * 100 + ("L" + "." * 199) * 16}
        stream 7: {"." * 100 + (kernel + "." * 100) * 16}
        stream 8: {"." * 200 + (kernel + "." * 100) * 16}
    """
    outcome = compute_bound.run(drawn(text))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


def test_the_pause_between_runs_does_not_count() -> None:
    lines = {label: row for label, _, row in (line.partition(":") for line in computing(99).splitlines())}
    text = "\n".join(f"{label + ':':<10}{row.strip()}{'.' * 2000}{row.strip()}" for label, row in lines.items())
    assert compute_bound.run(drawn(text)).status == Status.FINDINGS


def test_without_inferences() -> None:
    outcome = compute_bound.run(drawn("stream 7: ####"))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no inference is marked; name their NVTX ranges with --inference-range",
    )
