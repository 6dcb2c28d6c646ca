"""LCH004: slow inferences, and what happened in them."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, in_pictures, only
from nsight_analyses.host.lch004_slow_inferences import slow_inferences

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

OWNER = {"pid": 1000, "tid": 1}


def runs(slow: tuple[str, str], at: int = 3, count: int = 7) -> str:
    """Inferences of 10 µs, one of which has this thread and stream."""
    plain = ("L.........", "..########")
    lanes = [slow if one == at else plain for one in range(count)]
    return f"""
        nvtx 1:   {"".join("[i" + "." * (len(thread) - 3) + "]" for thread, _ in lanes)}
        thread 1: {"".join(thread for thread, _ in lanes)}
        stream 7: {"".join(stream for _, stream in lanes)}
    """


BUSY = ("AAAAAAAAAAAAAAAAAAAA" + "L.........", "...................." + "..########")
"""An inference of 30 µs: 20 more than the others."""


@pytest.mark.parametrize(
    ("slow", "options", "severity", "says"),
    [
        (BUSY, {"other_api": "cuModuleLoadData"}, Severity.WARNING, "modules are loaded"),
        (BUSY, {"other_api": "cuLibraryLoadData"}, Severity.WARNING, "modules are loaded"),
        (BUSY, {"other_api": "cudaGraphInstantiate"}, Severity.WARNING, "a CUDA graph is captured or instantiated"),
        (BUSY, {"other_api": "cudaMalloc"}, Severity.WARNING, "memory is allocated or freed"),
        (BUSY, {"other_api": "cudaEventRecord"}, Severity.INFO, "the GPU waits for the host between its calls"),
        (("L" * 20 + "L.........", BUSY[1]), {}, Severity.INFO, "the GPU waits for the host's launch calls"),
        (("L.." + "." * 27, ".." + "#" * 28), {}, Severity.WARNING, "its own kernels take longer"),
        (("SSSSSSSSSSSSSSSSSSSS" + "L.........", BUSY[1]), {}, Severity.WARNING, "waits in a synchronization"),
        (
            ("LC" + "." * 28, ".." + "########" + "<" * 20),
            {},
            Severity.WARNING,
            "its device-to-host copies take longer",
        ),
    ],
)
def test_reasons(slow: tuple[str, str], options: dict[str, Any], severity: Severity, says: str) -> None:
    finding = only(slow_inferences, drawn(runs(slow), **options))
    assert says in finding.cause
    assert (finding.severity, finding.recoverable_ns) == (severity, 20_000)
    assert in_pictures(evidence_of(finding, "slow inference")) == 30
    assert evidence_of(finding, "slow inference").detail == "inference 3"
    assert finding.message.startswith("1 of 7 inferences took 30.0 µs (median) rather than 10.0 µs")


@pytest.mark.parametrize(
    ("slow", "severity", "confidence", "says"),
    [
        (0, Severity.INFO, Confidence.LOW, "nothing yet: without the profiler they are far fewer"),
        (1, Severity.INFO, Confidence.LOW, "nothing yet"),  # 1 of 20 is less than half of 1 of 7
        (2, Severity.WARNING, Confidence.MEDIUM, "they come back in a run without the profiler"),
    ],
)
def test_what_no_event_explains_is_held_against_an_untraced_run(
    slow: int, severity: Severity, confidence: Confidence, says: str
) -> None:
    """The runner measured 20 inferences of 9 µs without the profiler, some of 12 µs, and as many of 10 µs with it."""
    drawing = drawn(runs(("SSSSSSSSSSSSSSSSSSSS" + "L.........", BUSY[1])))
    walls = {"benchmark": [12] * slow + [9] * (20 - slow), "timing": [10] * 20}
    rows = [
        {"run": run, "inference": at, "start_ns": at * 20_000, "wall_ns": wall * 1000, "thread": 0, "stream": 0}
        for run, measured in walls.items()
        for at, wall in enumerate(measured)
    ]
    tables = {name: drawing.table(name) for name in TABLES if drawing.rows(name)}
    trace = Trace.from_tables({**tables, "benchmark": table("benchmark", rows)})
    finding = only(slow_inferences, trace)
    assert (finding.severity, finding.confidence) == (severity, confidence)
    assert says in finding.recommendation
    assert evidence_of(finding, "as much slower without the profiler").value == slow / 20


def overhead(start: int, end: int) -> dict[str, Any]:
    return {"start_ns": start * 1000, "end_ns": end * 1000, "name": "Chunk Allocation"} | OWNER


@pytest.mark.parametrize(("took", "profiler"), [(10, True), (9, False)])
def test_the_profiler(took: int, profiler: bool) -> None:
    tables = {"profiler_overhead": table("profiler_overhead", [overhead(31, 31 + took)])}
    finding = only(slow_inferences, drawn(runs(BUSY), tables=tables, other_api="cudaEventRecord"))
    assert finding.severity == Severity.INFO
    assert ("the profiler itself" in finding.cause) == profiler
    assert finding.recoverable_ns == (None if profiler else 20_000)


def test_the_first_ones_are_warm_up() -> None:
    finding = only(slow_inferences, drawn(runs(BUSY, at=0), other_api="cuModuleLoadData"))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert "(warm-up)" in finding.message
    assert "CUDA_MODULE_LOADING=EAGER" in finding.recommendation


def test_another_process_has_the_gpu() -> None:
    length = 1800
    slow = ("LlL" + "." * (length - 3), "".join("." * 590 + "#%"[at % 2] * 10 for at in range(3)))
    samples = [{"time_ns": t * 50_000, "metric": "GR Active [Throughput %]", "value": 99.0} for t in range(40)]
    trace = drawn(runs(slow), tables={"gpu_metrics": table("gpu_metrics", samples)})
    finding = only(slow_inferences, trace)
    assert finding.cause.startswith("another process has the GPU")
    assert finding.severity == Severity.WARNING


@pytest.mark.parametrize("length", [10, 12])
def test_up_to_20_percent_is_none(length: int) -> None:
    slow = ("L" + "." * (length - 1), ".." + "#" * (length - 2))
    assert slow_inferences.run(drawn(runs(slow))).status == Status.CLEAR


def test_more_than_20_percent_is_one() -> None:
    finding = only(slow_inferences, drawn(runs(("L" + "." * 12, ".." + "#" * 11))))
    assert finding.recoverable_ns == 3000
    assert finding.severity == Severity.INFO  # 3 of 73 µs


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (runs(BUSY, count=4), "fewer than 5 inferences on any thread"),
        ("stream 7: ##", "no inference that the GPU worked for"),
    ],
)
def test_what_it_cannot_judge(text: str, reason: str) -> None:
    outcome = slow_inferences.run(drawn(text))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize(("count", "found"), [(79, False), (78, True)], ids=["below 2.5 %", "2.5 %"])
def test_what_no_event_explains_matters_from_2_5_percent_on(count: int, found: bool) -> None:
    outcome = slow_inferences.run(drawn(runs(BUSY, count=count), other_api="cudaEventRecord"))
    assert bool(outcome.findings) == found


def test_what_an_event_explains_is_said_at_any_share() -> None:
    assert "memory" in only(slow_inferences, drawn(runs(BUSY, count=300), other_api="cudaMalloc")).cause


@pytest.mark.parametrize(("count", "found"), [(79, False), (78, True)])
def test_what_the_profiler_did_is_said_from_2_5_percent_on(count: int, found: bool) -> None:
    tables = {"profiler_overhead": table("profiler_overhead", [overhead(31, 51)])}
    outcome = slow_inferences.run(drawn(runs(BUSY, count=count), tables=tables, other_api="cudaEventRecord"))
    assert bool(outcome.findings) == found
