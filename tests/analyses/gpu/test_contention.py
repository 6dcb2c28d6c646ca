"""THR002: another process on the GPU, the clock, and kernels that are stretched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.gpu.thr002_slowed_by_clock_or_by_others import slowed_by_clock_or_by_others

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.trace import Trace

US = 1000
NO_METRICS = {"gpu_metrics": "capture with --gpu-metrics-devices=all"}


def waits(gap: int, times: int = 3, busy: int = 100) -> str:
    """Kernels launched at once, each after a gap of so many µs in which the launched ones wait."""
    return f"""
        nvtx 1:   [i{"." * (times * (gap + busy))}]
        thread 1: {"Ll" * times}
        stream 7: {"".join("." * gap + "#%"[at % 2] * busy for at in range(times))}
    """


def active(percent: float, until: int = 3000) -> pa.Table:
    rows = [
        {"time_ns": at * 100 * US, "device": 0, "metric": "GR Active [Throughput %]", "value": percent}
        for at in range(until // 100)
    ]
    return table("gpu_metrics", rows)


def test_another_process_has_the_gpu() -> None:
    finding = only(slowed_by_clock_or_by_others, drawn(waits(600), tables={"gpu_metrics": active(100)}))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert finding.recoverable_ns == 599 * US + 2 * 600 * US  # the first waits from the end of its call on
    assert evidence_of(finding, "gaps with submitted work of more than 0.5 ms").value == 3
    assert evidence_of(finding, "GPU active in the gaps (GR Active), median").value == 100
    assert "take turns (time-slicing)" in finding.cause


@pytest.mark.parametrize(
    ("window", "severity"),
    [(35_980, Severity.WARNING), (35_981, Severity.INFO), (71_960, Severity.INFO), (71_961, None)],
    ids=["5 %", "less", "2.5 %", "less than that"],
)
def test_how_much_another_process_takes(window: int, severity: Severity | None) -> None:
    """1799 µs of so many."""
    text = waits(600).replace("[i", "[i" + "." * (window - 2103))
    outcome = slowed_by_clock_or_by_others.run(drawn(text, tables={"gpu_metrics": active(100)}))
    assert [finding.severity for finding in outcome.findings] == ([severity] if severity else [])
    assert outcome.status == (Status.FINDINGS if severity else Status.CLEAR)


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        (waits(500), 100.0),
        (waits(600, times=2), 100.0),
        (waits(600), 50.0),
        (waits(600), 3.0),
    ],
    ids=["gaps of 0.5 ms", "two gaps", "the GPU is active for half of the time", "the GPU is idle"],
)
def test_clear(text: str, percent: float) -> None:
    trace = drawn(text, tables={"gpu_metrics": active(percent)})
    assert slowed_by_clock_or_by_others.run(trace).status == Status.CLEAR


def test_just_above_half_active() -> None:
    trace = drawn(waits(600), tables={"gpu_metrics": active(50.1)})
    assert only(slowed_by_clock_or_by_others, trace).confidence == Confidence.HIGH


def test_idle_gaps_without_submitted_work_are_the_hosts() -> None:
    gap = "." * 600
    text = f"""
        nvtx 1:   [i{"." * 1800}]
        thread 1: L{gap}L{gap}L{gap}L
        stream 7: .#{gap}#{gap}#{gap}#
    """
    assert slowed_by_clock_or_by_others.run(drawn(text, tables={"gpu_metrics": active(100)})).status == Status.CLEAR


def test_waiting_for_a_stream_of_ones_own_is_a_dependency() -> None:
    text = f"""
        nvtx 1:   [i{"." * 4000}]
        thread 1: LlLlLl
        stream 7: ..{"#" * 3000}
        stream 8: ..{"." * 3000}{"#" * 700}%%%
    """
    with_all = drawn(text.replace("LlLlLl", "LlL"), tables={"gpu_metrics": active(100)})
    assert slowed_by_clock_or_by_others.run(with_all).status == Status.CLEAR


TWO_GPUS = f"""
    nvtx 1:            [i{"." * 2100}]
    thread 1:          LlLl
    stream 7:          {("." * 600 + "#" * 100) * 3}
    stream 8 device 1: ..{"#" * 2098}
"""


def test_what_another_gpu_does_is_no_reason_where_metrics_tell_who_works() -> None:
    calls = [1, 0, 2, 3]
    trace = drawn(TWO_GPUS, tables={"gpu_metrics": active(100)}, kernel_calls=calls)
    assert only(slowed_by_clock_or_by_others, trace).confidence == Confidence.HIGH


@pytest.mark.parametrize(
    ("text", "options"),
    [(waits(600), {}), (TWO_GPUS, {"kernel_calls": [1, 0, 2, 3]})],
    ids=["alone", "another GPU works"],
)
def test_without_metrics_no_other_process_is_named(text: str, options: dict[str, Any]) -> None:
    finding = only(slowed_by_clock_or_by_others, drawn(text, missing=NO_METRICS, **options))
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.LOW, None)
    assert finding.message.startswith("submitted work waits 3 times, for 600 µs each (median)")
    assert finding.cause == "this report does not say what it waits for"
    assert "process" not in f"{finding.message} {finding.cause}"
    assert "--gpu-metrics-devices=all" in finding.recommendation


@pytest.mark.parametrize(
    ("text", "says"),
    [(waits(50), "no work waited long"), (waits(600, times=2), "no work waited long")],
    ids=["gaps of 50 µs", "two gaps"],
)
def test_without_metrics_short_or_few_waits_are_none(text: str, says: str) -> None:
    outcome = slowed_by_clock_or_by_others.run(drawn(text, missing=NO_METRICS))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(says)


def test_what_is_too_short_for_another_process_is_told_all_the_same() -> None:
    finding = only(slowed_by_clock_or_by_others, drawn(waits(52), missing=NO_METRICS))
    assert finding.message.startswith("submitted work waits 3 times, for 52.0 µs each (median)")
    assert finding.severity is Severity.INFO


@pytest.mark.parametrize(("system", "found"), [("Windows 11", True), ("Ubuntu 24.04", False)])
def test_windows_holds_launches_back(system: str, found: bool) -> None:
    trace = drawn(waits(300), missing=NO_METRICS)
    trace.manifest["system"] = {"os": system}
    (finding,) = slowed_by_clock_or_by_others.run(trace).findings
    assert ("WDDM" in finding.cause) == found
    assert finding.recoverable_ns == (899_000 if found else None)
    assert finding.severity is (Severity.WARNING if found else Severity.INFO)


def recorded(trace: Trace, **gpu: Any) -> Trace:
    """The trace as one of a capture that recorded this of its GPU."""
    served = gpu.pop("served", None)
    state = {"gpus": [gpu | {"mps_processes": served}], "mps": {"running": served is not None}}
    trace.manifest["run"] = {"machine": {"before": state}}
    return trace


@pytest.mark.parametrize(
    ("model", "system", "confidence", "cause"),
    [
        ("WDDM", "Windows 11", Confidence.HIGH, "in batches; the capture recorded it"),
        (None, "Windows 11", Confidence.MEDIUM, "in batches; whether the GPU runs in it is not recorded"),
        ("TCC", "Windows 11", Confidence.LOW, "this report does not say what it waits for"),
        ("MCDM", "Windows 11", Confidence.LOW, "this report does not say what it waits for"),
    ],
)
def test_the_recorded_driver_model_says_whether_windows_holds_launches_back(
    model: str | None, system: str, confidence: Confidence, cause: str
) -> None:
    trace = recorded(drawn(waits(300), missing=NO_METRICS), driver_model=model)
    trace.manifest["system"] = {"os": system}
    finding = only(slowed_by_clock_or_by_others, trace)
    assert finding.confidence is confidence
    assert finding.cause.endswith(cause)


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (None, "another process that interrupts them or shares the SMs with them (MPS)"),
        (0, "another process that interrupts them or shares the SMs with them (MPS)"),
        (1, "MPS ran 1 other program on this GPU when the capture began"),
        (2, "MPS ran 2 other programs on this GPU"),
    ],
)
def test_programs_that_mps_ran_beside_it_are_named(served: int | None, says: str) -> None:
    length = np.where(np.arange(120) % 10 != 5, 30_000.0, 60_000.0)
    finding = only(slowed_by_clock_or_by_others, recorded(clocked(np.full(120, 2000.0), length), served=served))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert says in finding.cause


@pytest.mark.parametrize(
    ("thread", "call", "says"),
    [
        ("LlLlLlA", "cudaLaunchHostFunc", "work waited for the host, which the program makes streams wait for, but"),
        ("AlAlAl", "cudaStreamWaitEvent", "work waited for an event, but"),
    ],
)
def test_what_the_program_makes_its_work_wait_for_is_nobody_elses(thread: str, call: str, says: str) -> None:
    text = waits(600).replace("LlLlLl", thread)
    outcome = slowed_by_clock_or_by_others.run(drawn(text, missing=NO_METRICS, other_api=call))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(says)


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (drawn(waits(20), missing=NO_METRICS), "no work waited long for an idle GPU, but"),
        (drawn("thread 1: A"), "no kernel ran"),
        (drawn("thread 1: L.\nstream 7: .#", kernel_calls=[None]), "no kernel has a launch call"),
    ],
    ids=["no metrics", "no kernel", "no call"],
)
def test_what_it_cannot_judge(trace: Trace, reason: str) -> None:
    outcome = slowed_by_clock_or_by_others.run(trace)
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


def clocked(clock: Any, length: Any) -> Trace:
    """Inferences of one kernel each, 100 µs apart, with their clock in MHz and their length in ns."""
    at = np.arange(len(clock)) * 100 * US
    kernels = [
        {"start_ns": int(t) + 5 * US, "end_ns": int(t) + 5 * US + round(float(d)), "name": "k", "short_name": "k"}
        | {"grid_x": 1, "grid_y": 1, "grid_z": 1, "correlation_id": n, "pid": 1000, "stream": 7, "context": 1}
        for n, (t, d) in enumerate(zip(at, length, strict=True))
    ]
    where = {"pid": 1000, "tid": 1}
    calls = [
        {"start_ns": int(t) + 1000, "end_ns": int(t) + 2000, "name": "cudaLaunchKernel", "correlation_id": n} | where
        for n, t in enumerate(at)
    ]
    ranges = [
        {"start_ns": int(t), "end_ns": int(t) + 3000, "name": "inference", "domain": "nsight_tools"}
        | {"kind": "push_pop", "depth": 0}
        | where
        for t in at
    ]
    samples = [
        {"time_ns": int(t) + edge, "metric": "GPC Clock Frequency [MHz]", "value": float(c)}
        for t, c in zip(at, clock, strict=True)
        for edge in (0, 99 * US)
    ] + [{"time_ns": int(t), "metric": "GR Active [Throughput %]", "value": 50.0} for t in at]
    tables = {
        "kernels": table("kernels", kernels),
        "api_calls": table("api_calls", calls),
        "nvtx_ranges": table("nvtx_ranges", ranges),
        "gpu_metrics": table("gpu_metrics", samples),
        "gpus": table("gpus", [{"device": 0, "max_sm_clock_mhz": 2000.0}]),
    }
    return drawn("thread 1: A", tables=tables)


CLOCKS = np.where(np.arange(120) % 2, 2000.0, 1600.0)


def test_durations_that_follow_the_clock() -> None:
    finding = only(slowed_by_clock_or_by_others, clocked(CLOCKS, 40_000 * 2000 / CLOCKS))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    # Half of the kernels take 50 rather than 40 µs: 10 of 90 µs.
    assert finding.recoverable_ns == 60 * 10_000
    assert evidence_of(finding, "slope of log duration over log clock").value == pytest.approx(-1)
    assert "costs 11 % of their time" in finding.message


@pytest.mark.parametrize(("count", "found"), [(100, True), (99, False)])
def test_fewer_than_100_kernels_do_not_tell(count: int, found: bool) -> None:
    clocks = CLOCKS[:count]
    outcome = slowed_by_clock_or_by_others.run(clocked(clocks, 40_000 * 2000 / clocks))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("power", "found"), [(0.5, True), (0.45, False), (0.0, False)])
def test_how_far_they_follow_it(power: float, found: bool) -> None:
    outcome = slowed_by_clock_or_by_others.run(clocked(CLOCKS, 40_000 * (2000 / CLOCKS) ** (power + 1e-4)))
    assert bool(outcome.findings) == found


def test_a_steady_clock_has_nothing_to_be_compared_with() -> None:
    steady = np.full(120, 1600.0)
    assert slowed_by_clock_or_by_others.run(clocked(steady, 40_000 * 2000 / steady)).status == Status.CLEAR


def test_stretched_at_the_same_clock() -> None:
    length = np.where(np.arange(120) % 10 != 5, 30_000.0, 60_000.0)
    finding = only(slowed_by_clock_or_by_others, clocked(np.full(120, 2000.0), length))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert finding.recoverable_ns == 12 * 30_000
    assert "not the clock" in finding.cause


@pytest.mark.parametrize(("length", "found"), [(45_000.0, False), (45_100.0, True)], ids=["half as long again", "more"])
def test_half_as_long_again_is_not_stretched(length: float, found: bool) -> None:
    """Every sixth kernel: 7.7 % of their time."""
    lengths = np.where(np.arange(120) % 6 != 5, 30_000.0, length)
    outcome = slowed_by_clock_or_by_others.run(clocked(np.full(120, 2000.0), lengths))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("slow", "found"), [(7, True), (6, False)], ids=["5.5 % of the time", "4.8 %"])
def test_stretched_kernels_have_to_take_5_percent(slow: int, found: bool) -> None:
    lengths = np.full(120, 30_000.0)
    lengths[10 : 10 + slow] = 60_000.0
    outcome = slowed_by_clock_or_by_others.run(clocked(np.full(120, 2000.0), lengths))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("varies", "found"), [(0.0101, True), (0.0099, False)])
def test_the_clock_has_to_vary_by_1_percent(varies: float, found: bool) -> None:
    clocks = np.where(np.arange(120) % 2, 1600.0 * (1 + varies), 1600.0 * (1 - varies))
    outcome = slowed_by_clock_or_by_others.run(clocked(clocks, 40_000 * 2000 / clocks))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
