"""What the rules make of NVML's samples beside a report: why a clock is low, and how near the limits are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.gpu.thr001_clock_drops_while_busy import clock_drops_while_busy
from nsight_analyses.gpu.thr002_slowed_by_clock_or_by_others import slowed_by_clock_or_by_others
from nsight_analyses.gpu.thr003_unstable_gpu_time import unstable_gpu_time
from nsight_analyses.gpu.thr004_power_or_temperature_near_the_limit import power_or_temperature_near_the_limit

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.run import Run
from nsight_tools.run.samples import Lock, locked, why_low
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

GPU = {"name": "NVIDIA X1", "max_sm_clock_mhz": 2000.0}
POWER_CAP, IDLE, APPLICATION_CLOCKS = 0x4, 0x1, 0x2


def beside(
    rows: list[dict[str, Any]], *, busy: int | None = None, missing: dict[str, str] | None = None, **options: Any
) -> Trace:
    """One kernel of `busy` µs, and samples of NVML's 1 µs apart from its start on; GPU metrics were not collected."""
    lasts = len(rows) if busy is None else busy
    picture = f"""
        thread 1: L
        stream 7: {"#" * lasts}
    """
    samples = [
        {"time_ns": 500 + 1000 * at, "device": 0, "bus_id": "00000000:18:00.0"} | row for at, row in enumerate(rows)
    ]
    missing = {"gpu_metrics": "capture with --gpu-metrics-devices=all"} | (missing or {})
    return drawn(
        picture, tables={"telemetry": table("telemetry", samples)}, missing=missing, **({"gpu": GPU} | options)
    )


def masks(*masks: int, clock: int = 1600) -> list[dict[str, Any]]:
    return [{"clock_event_reasons": mask, "sm_clock_mhz": clock if mask & ~IDLE else 2000} for mask in masks]


ALL = "(100 of 100 busy samples)"


POWER, COOLING = "take other load off or raise the power limit", "cool the GPU better"
ACTS = {
    0x4: POWER,
    0x20: COOLING,
    0x80: POWER,
    0x48: COOLING,
    0x24: "give the GPU more power and cooling",
    0x200: POWER,
    0x800: "find what lowers the GPU's clock",
}


@pytest.mark.parametrize(
    ("mask", "cause", "remedy"),
    [
        (0x4, f"software power cap {ALL}", "take other load off the card"),
        (0x20, f"software thermal slowdown {ALL}", "improve cooling"),
        (0x80, f"hardware power brake {ALL}", "take other load off the card"),
        (0x48, f"hardware slowdown {ALL} and hardware thermal slowdown {ALL}", "improve cooling"),
        (
            0x24,
            f"software power cap {ALL} and software thermal slowdown {ALL}",
            (
                "take other load off the card, which draws from the same power, or raise its power limit "
                "(nvidia-smi -pl) and improve cooling"
            ),
        ),
        (0x200, f"board limit {ALL}", "take other load off the card"),
        (0x800, f"reason 0x800 {ALL}", "see nvidia-smi -q -d PERFORMANCE"),
    ],
)
def test_thr001_names_each_cause(mask: int, cause: str, remedy: str) -> None:
    finding = only(clock_drops_while_busy, beside(masks(*[mask] * 100)))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert finding.cause == f"NVML names {cause}"
    assert finding.recommendation.startswith(remedy)
    assert finding.act == ACTS[mask]
    assert finding.recoverable_ns == 20_000  # of 100 µs, at 1600 of 2000 MHz
    assert finding.explains == (() if mask == 0x800 else ("limits",))


@pytest.mark.parametrize(
    ("mask", "clock", "cause"),
    [
        (
            APPLICATION_CLOCKS,
            1600,
            "the SM clock is locked at 1,600 MHz; NVML names a limit that was set: application clocks (100 of 100",
        ),
        (0x110, 1600, "NVML names a limit that was set: sync boost (100 of 100 busy samples) and display clocks (100"),
        (
            0,
            1600,
            "the SM clock is locked at 1,600 MHz, it seems: it never moves, and NVML names no reason in 100 busy",
        ),
    ],
)
def test_thr001_a_limit_that_was_set_is_no_throttling(mask: int, clock: int, cause: str) -> None:
    rows = [{"clock_event_reasons": mask, "sm_clock_mhz": clock}] * 100
    finding = only(clock_drops_while_busy, beside(rows))
    assert (finding.severity, finding.explains) == (Severity.INFO, ())
    assert finding.cause.startswith(cause)
    assert finding.recommendation.startswith("nothing, if the clock was lowered on purpose")
    assert finding.act == "see whether the clock was lowered on purpose"


def at(clock: int, count: int, mask: int = 0) -> list[dict[str, Any]]:
    return [{"clock_event_reasons": mask, "sm_clock_mhz": clock}] * count


@pytest.mark.parametrize(
    ("rows", "lock"),
    [
        pytest.param(at(1600, 3, APPLICATION_CLOCKS), Lock(1600, named=True), id="NVML says so in three samples"),
        pytest.param(at(1600, 2, APPLICATION_CLOCKS), None, id="in two"),
        pytest.param(
            at(1985, 3, APPLICATION_CLOCKS), Lock(1985, named=True), id="it says so of a clock near the highest"
        ),
        pytest.param(at(1600, 60), Lock(1600, named=False), id="it never moves in 60 samples"),
        pytest.param(at(1600, 59), None, id="in 59"),
        pytest.param(at(1899, 60), Lock(1899, named=False), id="by more than 5 % below the highest"),
        pytest.param(at(1900, 60), None, id="by 5 %: a GPU may boost no further"),
        pytest.param(at(2000, 60), None, id="at the highest nobody can tell"),
        pytest.param([*at(1600, 100), *at(1615, 1)], Lock(1600, named=False), id="one of 101 differs"),
        pytest.param([*at(1600, 99), *at(1615, 1)], None, id="one of 100: it floats"),
        pytest.param([*at(1600, 99), *at(1600, 1, POWER_CAP)], None, id="the GPU itself holds it back once"),
        pytest.param([*at(1600, 50), *at(1600, 50, APPLICATION_CLOCKS)], None, id="NVML says so of a half"),
    ],
)
def test_locked_clocks_are_told_from_free_ones(rows: list[dict[str, Any]], lock: Lock | None) -> None:
    trace = beside(rows)
    assert locked(Run.of(trace), 0) == lock
    assert summarize(trace).clocks == ((str(lock),) if lock else ())


def test_a_highest_clock_that_nobody_knows_tells_nothing_of_a_lock() -> None:
    trace = beside(at(1600, 100), gpu={})
    assert locked(Run.of(trace), 0) is None


@pytest.mark.parametrize(("held", "count", "found"), [(3, 300, True), (3, 301, False), (2, 100, False), (3, 60, True)])
def test_thr001_from_1_percent_of_the_busy_samples_on_and_three_of_them(held: int, count: int, found: bool) -> None:
    rows = masks(*[0] * (count - held), *[POWER_CAP] * held, clock=2000)
    outcome = clock_drops_while_busy.run(beside(rows))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    if found:
        assert outcome.findings[0].message.startswith("the NVIDIA X1 holds its clock back in")


@pytest.mark.parametrize("count", [2, 59])
def test_thr001_few_samples_clear_nothing(count: int) -> None:
    outcome = clock_drops_while_busy.run(beside(masks(*[0] * count)))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(f"only {count} of NVML's samples lie in the GPU's busy time, and it takes 60")


def test_thr001_sixty_do() -> None:
    assert clock_drops_while_busy.run(beside(masks(*[0] * 60))).status == Status.CLEAR


def test_thr001_two_samples_name_a_cause_that_the_metrics_see_but_do_not_prove_it() -> None:
    metrics = [
        {"time_ns": 1000 * at, "device": 0, "metric": "GPC Clock Frequency [MHz]", "value": 1600.0} for at in range(100)
    ]
    rows = [{"time_ns": at, "device": 0, "clock_event_reasons": POWER_CAP} for at in (10_000, 60_000)]
    tables = {"telemetry": table("telemetry", rows), "gpu_metrics": table("gpu_metrics", metrics)}
    finding = only(clock_drops_while_busy, drawn("thread 1: L\nstream 7: " + "#" * 100, tables=tables, gpu=GPU))
    assert finding.cause == "NVML names software power cap (2 of 2 busy samples), too few to be sure"
    assert (finding.severity, finding.confidence, finding.explains) == (Severity.WARNING, Confidence.MEDIUM, ())


@pytest.mark.parametrize(("low", "severity"), [(10, Severity.INFO), (9, Severity.WARNING)])
def test_thr001_a_limit_was_set_where_three_samples_would_have_named_a_reason(low: int, severity: Severity) -> None:
    """Of 30 samples of NVML's none names a reason; the metrics see a low clock for 10 % of the time, or for 9 %."""
    metrics = [
        {"time_ns": 1000 * at, "device": 0, "metric": "GPC Clock Frequency [MHz]", "value": 300.0 if at < low else 2e3}
        for at in range(100)
    ]
    rows = [{"time_ns": at * 3000, "device": 0, "clock_event_reasons": 0} for at in range(30)]
    tables = {"telemetry": table("telemetry", rows), "gpu_metrics": table("gpu_metrics", metrics)}
    finding = only(clock_drops_while_busy, drawn("thread 1: L\nstream 7: " + "#" * 100, tables=tables, gpu=GPU))
    assert finding.severity == severity
    assert ("too few to exclude any" in finding.cause) == (severity == Severity.WARNING)


def test_thr001_an_idle_gpu_is_not_throttled() -> None:
    rows = masks(*[0] * 60, *[IDLE] * 40, *[POWER_CAP] * 40)
    assert clock_drops_while_busy.run(beside(rows, busy=60)).status == Status.CLEAR


def test_thr001_others_work_that_nvml_counts_is_busy_time_only_where_this_process_works_too() -> None:
    text = "thread 1: " + "L...................." * 70 + "\nstream 7: " + "#...................." * 70
    every = [{"time_ns": 500 + 21_000 * at, "device": 0, "clock_event_reasons": POWER_CAP} for at in range(70)]
    alone = drawn(text, tables={"telemetry": table("telemetry", every)}, gpu=GPU)
    assert clock_drops_while_busy.run(alone).status == Status.COULD_NOT_RUN  # 1 µs in 21: the GPU is all but idle
    shared = [row | {"gpu_utilization_percent": 100} for row in every]
    with_others = drawn(text, tables={"telemetry": table("telemetry", shared)}, gpu=GPU)
    assert "software power cap (70 of 70 busy samples)" in only(clock_drops_while_busy, with_others).cause


@pytest.mark.parametrize(
    ("counter", "per_us", "says"),
    [
        ("power", 10, "power held it back for 1.0 % of the time by NVML's counter"),
        ("power", 9, None),
        ("thermal", 500, "thermal held it back for 50 % of the time by NVML's counter"),
    ],
)
def test_thr001_violation_counters_miss_nothing_between_two_samples(
    counter: str, per_us: int, says: str | None
) -> None:
    rows = [{f"{counter}_violation_ns": 7_000_000 + per_us * at, "sm_clock_mhz": 1990} for at in range(61)]
    outcome = clock_drops_while_busy.run(beside(rows))
    assert [finding.cause for finding in outcome.findings] == ([says] if says else [])
    if says:
        grown = evidence_of(outcome.findings[0], f"held back by {counter}, NVML's counter")
        assert (grown.value, grown.detail) == (60 * per_us, "of 60.0 µs")


def test_thr001_a_counter_that_is_read_in_some_samples_only() -> None:
    rows = [{"power_violation_ns": 10 * at if at % 5 == 0 else None, "sm_clock_mhz": 1990} for at in range(61)]
    grown = evidence_of(only(clock_drops_while_busy, beside(rows)), "held back by power, NVML's counter")
    assert (grown.value, grown.detail) == (600, "of 60.0 µs")


def test_thr001_a_counter_that_was_reset_says_nothing_of_that_step() -> None:
    rows = [{"power_violation_ns": at * 5 if at < 30 else at * 5 - 140, "sm_clock_mhz": 1990} for at in range(61)]
    assert clock_drops_while_busy.run(beside(rows)).status == Status.CLEAR


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"power_mw": 665_000}, "power is near its limit: 665 W (median), 665 W at most, of 700 W"),
        ({"power_mw": 664_999}, ""),
        ({"temperature_c": 85}, "temperature is near its limit: 85 °C (median), 85 °C at most, of 90 °C"),
        ({"temperature_c": 84}, ""),
    ],
)
def test_thr004(row: dict[str, int], found: str) -> None:
    rows = [{"power_limit_mw": 700_000, "slowdown_temperature_c": 90} | row] * 10
    outcome = power_or_temperature_near_the_limit.run(beside(rows))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    assert [finding.message for finding in outcome.findings] == ([found] if found else [])
    # The run lasts 10 µs, and NVML averages power over up to a second.
    sure = Confidence.LOW if "power_mw" in row else Confidence.HIGH
    assert [finding.confidence for finding in outcome.findings] == ([sure] if found else [])


@pytest.mark.parametrize(("end", "confidence"), [(1_000_000_000, Confidence.HIGH), (999_999_999, Confidence.LOW)])
def test_thr004_power_of_a_second_is_that_of_the_run(end: int, confidence: Confidence) -> None:
    rows = [{"time_ns": at, "device": 0, "power_mw": 700_000, "power_limit_mw": 700_000} for at in (10, 500_000_000)]
    kernels = [{"start_ns": 0, "end_ns": end, "name": "k", "short_name": "k", "pid": 1000, "stream": 7, "context": 1}]
    tables = {"telemetry": table("telemetry", rows), "kernels": table("kernels", kernels)}
    finding = only(power_or_temperature_near_the_limit, drawn("stream 7: #", tables=tables))
    assert finding.confidence == confidence


def test_thr004_the_limit_of_nvml_and_the_power_of_nsight() -> None:
    rows = [{"power_limit_mw": 700_000}] * 10
    nvml = [{"time_ns": 5000, "device": 0, "metric": "Power", "value": 690.0, "unit": "W"}]
    trace = beside(rows)
    both = drawn(
        "thread 1: L\nstream 7: ##########",
        tables={"telemetry": trace.table("telemetry"), "nvml_metrics": table("nvml_metrics", nvml)},
    )
    assert "690 W" in only(power_or_temperature_near_the_limit, both).message


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"power_mw": 690_000}] * 10, "the report does not say the GPU's limits (power was 690 W (median)"),
        ([{"sm_clock_mhz": 1}] * 10, "no sample of power or temperature lies in the time"),
        ([], "nobody sampled"),
    ],
)
def test_thr004_without_limits(rows: list[dict[str, int]], reason: str) -> None:
    trace = beside(rows, busy=10, missing={"nvml_metrics": "nobody sampled"})
    outcome = power_or_temperature_near_the_limit.run(trace)
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


def clocked(every: int, reason: int = POWER_CAP) -> Trace:
    """120 inferences, 100 µs apart, whose kernels follow a clock that NVML sampled at every so many-th of them."""
    clock = np.where((np.arange(120) // every) % 2, 1950, 1600)
    length = 40_000 * 2000 / clock
    picture = "[i" + "." * 96 + "]."
    text = f"nvtx 1:   {picture * 120}\nthread 1: {('L' + '.' * 99) * 120}\nstream 7: {('.##' + '.' * 97) * 120}"
    trace = drawn(text)
    kernels = trace.table("kernels").to_pylist()
    for kernel, taken in zip(kernels, length.tolist(), strict=True):
        kernel["end_ns"] = kernel["start_ns"] + round(taken)
    rows = [
        {"time_ns": at * 100_000 + 20_000, "device": 0, "sm_clock_mhz": int(clock[at]), "clock_event_reasons": reason}
        for at in range(0, 120, every)
    ]
    tables = {"telemetry": table("telemetry", rows), "kernels": table("kernels", kernels)}
    return drawn(text, tables=tables, gpu=GPU, missing={"gpu_metrics": "not collected"})


def test_thr002_reads_the_clock_of_nvml_and_says_why_it_is_low() -> None:
    finding = only(slowed_by_clock_or_by_others, clocked(2))
    assert finding.message.startswith("kernels slow down with the clock")
    assert finding.cause.endswith("NVML names software power cap (60 of 60 busy samples)")
    assert finding.explains == ("clock", "variation")


def test_thr002_a_few_samples_of_the_clock_correlate_by_chance() -> None:
    outcome = slowed_by_clock_or_by_others.run(clocked(3))  # 40 samples, 120 kernels
    assert outcome.status == Status.COULD_NOT_RUN


@pytest.mark.parametrize(("every", "known"), [(6, True), (7, False)], ids=["20 samples", "18"])
def test_thr003_says_what_the_clock_of_nvml_did_from_twenty_samples_on(every: int, known: bool) -> None:
    finding = only(unstable_gpu_time, clocked(every))
    assert finding.cause.startswith("the clock varies by" if known else "not recorded")


@pytest.mark.parametrize(("processes", "confidence"), [(1, Confidence.LOW), (2, Confidence.MEDIUM)])
def test_thr002_processes_that_nvml_counts(processes: int, confidence: Confidence) -> None:
    text = f"""
        nvtx 1:   [i{"." * 2100}]
        thread 1: LlL
        stream 7: {("." * 600 + "#" * 50 + "%" * 50) * 3}
    """.replace("LlL", "LlLlLl")
    rows = [{"time_ns": 1000 * at, "device": 0, "processes": processes} for at in range(3)]
    tables = {"telemetry": table("telemetry", rows)}
    finding = only(slowed_by_clock_or_by_others, drawn(text, tables=tables, missing={"gpu_metrics": "not collected"}))
    assert finding.confidence == confidence
    assert ("NVML counts 2 processes on this GPU" in finding.cause) == (processes == 2)


def test_nothing_recorded_names_no_cause() -> None:
    trace = drawn("stream 7: ##")
    assert why_low(Run.of(trace), 0) == "why the clock is low is not recorded"


@pytest.mark.parametrize(("low", "found"), [(3, True), (2, False)])
def test_thr001_three_low_samples_of_twenty_are_a_drop_and_none_clears_nothing(low: int, found: bool) -> None:
    rows = [{"sm_clock_mhz": 1000 if at < low else 2000} for at in range(20)]
    outcome = clock_drops_while_busy.run(beside(rows))
    assert outcome.status == (Status.FINDINGS if found else Status.COULD_NOT_RUN)
