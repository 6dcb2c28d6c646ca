"""LCH006: the host comes back late from its wait."""

from __future__ import annotations

import math
from typing import Any

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.host.lch006_late_wake_ups import late_wake_ups

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity


def waits(late: int, *, waiting: int = 12, call: str = "S", ends: str = "#", lanes: int = 1, apart: int = 5) -> str:
    """Twelve inferences of 200 µs; the thread waits in so many, from 10 µs on, and comes back so late each time."""
    work = "." * 2 + "#" * 100 + ends * (98 - late) + "." * late
    rows = []
    for lane in range(lanes):
        shift = "." * (100 * lane)
        for label, plain, other in (
            (f"nvtx {lane + 1}", "[i" + "." * 197 + "]", None),
            (f"thread {lane + 1}", "L".ljust(10, ".") + call * 190, "L".ljust(200, ".")),
            (f"stream {lane + 7}", work, None),
        ):
            turns = [other if other and at >= waiting else plain for at in range(12)]
            rows.append(f"{label + ':':<10}{shift}{('.' * apart).join(turns)}")
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("late", "severity"),
    [(19, None), (20, Severity.INFO), (36, Severity.INFO), (38, Severity.WARNING)],
    ids=["less than 5 % beyond 10 µs", "5 %", "9.6 % at the least", "10.6 %"],
)
def test_how_late(late: int, severity: Severity | None) -> None:
    """A thread that spins takes 6 µs, 10 in one of twenty runs; and a replay may be 5 % of the 200 µs off."""
    outcome = late_wake_ups.run(drawn(waits(late)))
    assert outcome.status == (Status.FINDINGS if severity else Status.CLEAR)
    for finding in outcome.findings:
        assert (finding.severity, finding.confidence) == (severity, Confidence.MEDIUM)
        assert finding.message.startswith(f"the host comes back {late}.0 µs after the GPU is done (median)")
        assert finding.cause.startswith("its thread sleeps in a blocking wait (cudaStreamSynchronize)")
        assert finding.recoverable_ns_per_inference == (late - 6) * 1000
        assert finding.recoverable_ns == 12 * (late - 6) * 1000
        assert finding.recoverable_between_ns is not None
        least = (late - 6) * 1000 - math.hypot(4_000, 0.05 * 200_000)
        assert finding.recoverable_between_ns[0] == pytest.approx(least, abs=500)


@pytest.mark.parametrize(("waiting", "found"), [(6, True), (5, False)], ids=["half of them", "fewer"])
def test_half_of_the_inferences_have_to_wait_so(waiting: int, found: bool) -> None:
    outcome = late_wake_ups.run(drawn(waits(40, waiting=waiting)))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    for finding in outcome.findings:
        assert evidence_of(finding, "inferences that wait so").value == waiting
        assert (
            finding.recoverable_ns_per_inference == 15_000
        )  # the 30 beyond the 10 of a slow spin, in every second one


@pytest.mark.parametrize(("late", "severity"), [(49, Severity.INFO), (50, Severity.WARNING)])
def test_what_comes_back_of_all_inferences_weighs(late: int, severity: Severity) -> None:
    """Every second one waits so: 10 % of all is 20 % of those."""
    assert only(late_wake_ups, drawn(waits(late, waiting=6))).severity == severity


@pytest.mark.parametrize(
    ("call", "options", "found"),
    [
        ("S", {"sync_api": "cudaEventSynchronize"}, True),
        ("C", {"copy_api": "cudaMemcpy"}, True),
        ("C", {"copy_api": "cudaMemcpyAsync"}, False),
        ("A", {"other_api": "cudaEventQuery"}, False),
    ],
    ids=["an event", "a blocking copy", "an asynchronous copy", "polling"],
)
def test_what_is_a_wait(call: str, options: dict[str, Any], found: bool) -> None:
    text = waits(40, call=call, ends="<" if call == "C" else "#")
    outcome = late_wake_ups.run(drawn(text, **options))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    for finding in outcome.findings:
        assert next(iter(options.values())) in finding.cause


def test_with_several_in_flight_it_gains_latency_only() -> None:
    """Two threads, on streams of their own: while one sleeps the other's work runs."""
    alone, beside = (only(late_wake_ups, drawn(waits(40, lanes=lanes))) for lanes in (1, 2))
    assert (alone.severity, beside.severity) == (Severity.WARNING, Severity.INFO)
    assert alone.recoverable_ns_per_inference == 34_000  # replayed; spinning takes 6 µs
    assert beside.recoverable_ns_per_inference == 30_000  # at most; it takes up to 10
    assert beside.recoverable_between_ns is None


@pytest.mark.parametrize(("kernel", "named"), [("sm80_xmma_gemm", True), ("stencil", False)])
def test_trtexecs_option_is_named_where_the_program_may_run_tensorrt(kernel: str, named: bool) -> None:
    finding = only(late_wake_ups, drawn(waits(40), kernel_names=kernel))
    assert finding.recommendation.startswith("spin instead of sleeping: cudaDeviceScheduleSpin")
    assert ("trtexec --useSpinWait" in finding.recommendation) == named


def test_without_inferences() -> None:
    outcome = late_wake_ups.run(drawn("nvtx 1:   [i..]\nthread 1: SSS.."))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no inference with GPU work was found, whose end could be waited for",
    )
