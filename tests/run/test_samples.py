from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn

from nsight_tools.comparison import compare
from nsight_tools.comparison.conditions import SM_CLOCK
from nsight_tools.report.figures.clocks import _metric
from nsight_tools.run import Run
from nsight_tools.run.metrics import Metrics
from nsight_tools.run.samples import NVML, SAMPLES, Samples, busy_clock, clock_samples
from nsight_tools.trace import Trace, open_trace

THROTTLED = Path(__file__).parents[2] / "sample_traces" / "detector_throttled.capture"
MS = 1_000_000


def test_one_clock_of_the_shipped_throttled_capture(tmp_path: Path) -> None:
    """What rules, figures and comparison say of it is one number: by its GPU metrics, while its kernels run."""
    capture = tmp_path / THROTTLED.name
    capture.mkdir()
    for file in THROTTLED.iterdir():
        (capture / file.name).write_bytes(file.read_bytes())
    trace = open_trace(capture)
    run = Run.of(trace)
    clock = busy_clock(run, 0)
    assert clock is not None
    assert clock.source == "GPU metrics"
    assert round(float(np.median(clock.value))) == 1694
    compared = next(one for one in compare(trace, trace).conditions if one.name == SM_CLOCK)
    assert compared.before == compared.after == pytest.approx(float(np.median(clock.value)), rel=1e-3)  # thinned
    time, value = _metric(trace, 0, "sm_clock") or ((), ())
    assert set(zip(clock.time, clock.value, strict=True)) <= set(zip(time, value, strict=True))
    # NVML samples another clock a little later; it agrees within its steps.
    assert float(np.median(Samples.of(run, 0).known("sm_clock_mhz")[1])) == pytest.approx(1694, rel=0.01)


def telemetry(values: dict[str, list[int]], *, every: int = 20 * MS, device: int = 0) -> Any:
    count = len(next(iter(values.values())))
    rows = [{"time_ns": at * every, "device": device} | {n: v[at] for n, v in values.items()} for at in range(count)]
    return table("telemetry", rows)


def with_samples(text: str, *, max_clock: float | None = 2000.0, **tables: Any) -> Trace:
    return drawn(text, tables=tables, gpu={"max_sm_clock_mhz": max_clock})


BUSY = f"thread 1: L\nstream 7: {'#' * 100}"
"""A kernel of 100 us."""


def test_samples_count_while_the_gpu_is_busy_with_this_process_work() -> None:
    """Of samples each 20 us those around which it works for a tenth of the time, and none that NVML calls idle."""
    text = f"thread 1: L\nstream 7: {'#' * 50}"
    clocks = [1500] * 5
    reasons = [0, 0, 1, 0, 0]
    rows = telemetry({"sm_clock_mhz": clocks, "clock_event_reasons": reasons}, every=20_000)
    trace = with_samples(text, telemetry=rows)
    samples = Samples.of(Run.of(trace), 0)
    assert samples.period == 20_000
    assert samples.busy.tolist() == [True, True, False, False, False]
    assert samples.known("sm_clock_mhz")[0].tolist() == [0, 20_000]


def test_the_metrics_clock_goes_before_nvmls() -> None:
    metrics = table(
        "gpu_metrics",
        [{"time_ns": 1000 * at, "device": 0, "metric": "x", "means": "sm_clock", "value": 1800.0} for at in range(40)],
    )
    nvml = telemetry({"sm_clock_mhz": [1500] * 100}, every=1000)
    both = with_samples(BUSY, gpu_metrics=metrics, telemetry=nvml)
    found = busy_clock(Run.of(both), 0)
    assert found is not None
    assert (found.source, set(found.value.tolist()), found.low) == ("GPU metrics", {1800.0}, 1.0)
    alone = with_samples(BUSY, telemetry=nvml)
    found = busy_clock(Run.of(alone), 0)
    assert found is not None
    assert (found.source, set(found.value.tolist())) == (NVML, {1500.0})


def test_too_few_samples_say_nothing() -> None:
    few = telemetry({"sm_clock_mhz": [1500] * (SAMPLES - 1)}, every=1000)
    trace = with_samples(BUSY, telemetry=few)
    assert clock_samples(Run.of(trace), 0) is None


def test_a_clock_without_a_highest_one_is_sampled_but_not_judged() -> None:
    trace = with_samples(BUSY, telemetry=telemetry({"sm_clock_mhz": [1500] * 50}, every=1000), max_clock=None)
    assert clock_samples(Run.of(trace), 0) is not None
    assert busy_clock(Run.of(trace), 0) is None


def test_samples_are_those_of_one_gpu() -> None:
    both = [
        {"time_ns": 1000 * at, "device": device, "metric": "x", "means": means, "value": 1000.0 + device}
        for at in range(50)
        for device in (0, 1)
        for means in ("sm_clock", "active", None)
    ]
    trace = with_samples(BUSY, gpu_metrics=table("gpu_metrics", both))
    metrics = Metrics.of(trace)
    for device in (0, 1):
        assert set(metrics.clock(device)[1].tolist()) == {1000.0 + device}
        assert len(metrics.active(device)[0]) == 50
    assert not metrics.sampled(2)
