"""THR001: the clock while kernels run. THR004: power and temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.gpu.thr001_clock_drops_while_busy import clock_drops_while_busy
from nsight_analyses.gpu.thr004_power_or_temperature_near_the_limit import power_or_temperature_near_the_limit

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.trace import Trace

HIGHEST = 2000.0


def sampled(
    clocks: list[float],
    *,
    busy: int = 100,
    metric: str = "GPC Clock Frequency [MHz]",
    device: int = 0,
    nvml: dict[str, list[float]] | None = None,
    missing: dict[str, str] | None = None,
) -> Trace:
    """A kernel of `busy` µs from 10 µs on, and one clock sample in each µs from then on."""
    samples = [
        {"time_ns": 10_000 + 1000 * at, "device": device, "metric": metric, "value": clock}
        for at, clock in enumerate(clocks)
    ]
    power = [
        {"time_ns": 10_000 + at, "device": 0, "metric": name, "value": value, "unit": "W"}
        for name, values in (nvml or {}).items()
        for at, value in enumerate(values)
    ]
    picture = f"""
        thread 1: L
        stream 7: {"." * 10}{"#" * busy}
    """
    tables = {"gpu_metrics": table("gpu_metrics", samples), "nvml_metrics": table("nvml_metrics", power)}
    return drawn(picture, tables=tables, missing=missing, gpu={"name": "NVIDIA X1", "max_sm_clock_mhz": HIGHEST})


@pytest.mark.parametrize(
    ("clocks", "severity", "shortfall"),
    [
        pytest.param([HIGHEST] * 100, None, 0, id="always the highest"),
        pytest.param([1900] * 100, None, 0, id="5 % lower is no drop"),
        pytest.param([1899] * 100, Severity.WARNING, 101 / HIGHEST, id="more is one"),
        pytest.param([HIGHEST] * 99 + [1000], Severity.INFO, 0.01 * 0.5, id="1 % of the samples"),
        pytest.param(
            [HIGHEST] * 199 + [1000],
            None,
            0,
            id="1 % of the samples, one for each of 100 µs in which it is busy and idle",
        ),
        pytest.param([HIGHEST] * 50 + [1790] * 50, Severity.WARNING, 0.0525, id="lower by 5 % on average"),
        pytest.param([HIGHEST] * 51 + [1800] * 49, Severity.INFO, 0.049, id="lower by less"),
        pytest.param(
            [2100] * 50 + [1790] * 50, Severity.WARNING, 0.0525, id="a boost above the highest makes up for nothing"
        ),
    ],
)
def test_drops(clocks: list[float], severity: Severity | None, shortfall: float) -> None:
    trace = sampled(clocks)
    if severity is None:
        assert clock_drops_while_busy.run(trace).status == Status.CLEAR
        return
    finding = only(clock_drops_while_busy, trace)
    assert (finding.severity, finding.confidence) == (severity, Confidence.MEDIUM)
    assert finding.recoverable_ns == round(100_000 * shortfall)


def test_one_of_101_samples_is_less_than_1_percent() -> None:
    clocks = [HIGHEST] * 100 + [1000]
    assert clock_drops_while_busy.run(sampled(clocks, busy=101)).status == Status.CLEAR


def test_evidence() -> None:
    finding = only(clock_drops_while_busy, sampled([HIGHEST] * 25 + [1500] * 74 + [1200]))
    share = evidence_of(finding, "share of busy samples below 95 % of the highest clock")
    assert (share.value, share.unit) == (0.75, "ratio")
    median = evidence_of(finding, "median clock while busy")
    assert (median.value, median.unit, median.detail) == (1500, "MHz", "100 samples")
    lowest = evidence_of(finding, "lowest clock while busy")
    assert (lowest.value, lowest.start_ns) == (1200, 109_000)
    assert evidence_of(finding, "highest clock of this GPU").value == HIGHEST
    assert "the NVIDIA X1 runs below 95 % of its highest clock for 75 %" in finding.message
    assert finding.cause == "not recorded in this report; neither power nor temperature was sampled"


def test_power_and_temperature_are_said_and_no_cause_is_made_of_them() -> None:
    finding = only(
        clock_drops_while_busy, sampled([1500] * 100, nvml={"Power": [600, 690, 700], "Temperature": [60, 60, 61]})
    )
    assert finding.cause == (
        "not recorded in this report; power was 690 W (median), 700 W at most and temperature was 60 °C (median), "
        "61 °C at most"
    )


def test_samples_while_the_gpu_is_idle_do_not_count() -> None:
    trace = sampled([HIGHEST] * 50 + [300] * 50, busy=50)
    assert clock_drops_while_busy.run(trace).status == Status.CLEAR


def test_gpus_are_judged_apart() -> None:
    rows = [
        {"time_ns": 1000 * at, "device": device, "metric": "SM Clock Frequency [MHz]", "value": clock}
        for at in range(1, 41)
        for device, clock in ((0, HIGHEST), (1, 1600.0))
    ]
    picture = f"""
        thread 1:          Ll
        stream 7:          .{"#" * 40}
        stream 7 device 1: .{"#" * 30}
    """
    trace = drawn(picture, tables={"gpu_metrics": table("gpu_metrics", rows)}, gpu={"max_sm_clock_mhz": HIGHEST})
    finding = only(clock_drops_while_busy, trace)
    assert finding.recoverable_ns == round(30_000 * 0.2)
    assert evidence_of(finding, "median clock while busy").detail == "30 samples"


def test_a_gpu_that_was_traced_whole_graphs_is_busy_too() -> None:
    rows = [{"time_ns": 1000 * at, "metric": "GPC Clock Frequency [MHz]", "value": 1600.0} for at in range(1, 41)]
    picture = f"""
        thread 1: G
        stream 7: .{"g" * 40}
    """
    trace = drawn(picture, tables={"gpu_metrics": table("gpu_metrics", rows)}, gpu={"max_sm_clock_mhz": HIGHEST})
    assert only(clock_drops_while_busy, trace).recoverable_ns == round(40_000 * 0.2)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (lambda: sampled([1500] * 19), "fewer than 20 clock samples lie inside of kernels"),
        (lambda: sampled([1500] * 100, device=1), "fewer than 20 clock samples lie inside of kernels"),
        (lambda: sampled([1500] * 100, metric="SM Active [Throughput %]"), "the GPU metrics hold no SM clock"),
        (lambda: sampled([1500] * 100, busy=0), "no kernel ran"),
        (lambda: sampled([1500] * 100, busy=0, missing={"kernels": "lost"}), "lost"),
        (
            lambda: sampled([], missing={"gpu_metrics": "capture with --gpu-metrics-devices=all"}),
            "capture with --gpu-metrics-devices=all",
        ),
        (lambda: sampled([], missing={"gpus": "not described"}), "not described"),
    ],
    ids=["19 samples", "of another GPU", "another metric", "no kernel", "kernels lost", "no metrics", "unknown GPU"],
)
def test_what_it_cannot_judge(samples: Callable[[], Trace], reason: str) -> None:
    outcome = clock_drops_while_busy.run(samples())
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


def test_20_samples_are_enough() -> None:
    assert only(clock_drops_while_busy, sampled([1500] * 20)).recoverable_ns == 25_000


def test_no_limit_is_made_up() -> None:
    outcome = power_or_temperature_near_the_limit.run(sampled([HIGHEST] * 100, nvml={"Power": [700.0] * 3}))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("the report does not say the GPU's limits (power was 700 W (median)")


def test_samples_without_any_work_say_nothing_of_the_limit() -> None:
    trace = sampled([HIGHEST] * 100, busy=0, nvml={"Power": [700.0] * 3})
    assert power_or_temperature_near_the_limit.run(trace).status == Status.COULD_NOT_RUN
