"""THR003: how much the GPU's time for one inference varies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, in_pictures, only
from nsight_analyses.gpu.thr003_unstable_gpu_time import unstable_gpu_time

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

VARIES = "coefficient of variation of compute time"


def inferences(
    lengths: list[int],
    *,
    beside: bool = False,
    grid: list[int] | int = 132,
    clocks: list[float] | None = None,
    kernel: str = "kernel",
    nvml: list[dict[str, Any]] | None = None,
) -> Trace:
    """Inferences of one kernel each, of so many µs; two streams and threads take turns where they run beside others."""
    longest = max(lengths)
    rows = {"nvtx 1": "", "thread 1": "", "stream 7": ""}
    for length in lengths:
        rows["nvtx 1"] += "[i" + "." * (longest - 1) + "]"
        rows["thread 1"] += "L" + "." * (longest + 1)
        rows["stream 7"] += "." + "#" * length + "." * (longest - length + 1)
    if beside:
        rows |= {"nvtx 2": rows["nvtx 1"], "thread 2": rows["thread 1"], "stream 8": rows["stream 7"]}
    samples = [
        {"time_ns": 1500 + (longest + 2) * 1000 * at, "metric": "GPC Clock Frequency [MHz]", "value": clock}
        for at, clock in enumerate(clocks or [])
    ]
    width = max(map(len, rows))
    picture = "\n".join(f"{label + ':':<{width + 2}}{row}" for label, row in rows.items())
    tables = {"gpu_metrics": table("gpu_metrics", samples), "telemetry": table("telemetry", nvml or [])}
    return drawn(picture, tables=tables, grid=grid, kernel_names=kernel, gpu={"max_sm_clock_mhz": 2000.0})


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([40] * 20, False),
        ([39, 41] * 10, True),  # exactly 2.5 %
        ([40, 42] * 10, False),  # 2.4 %
        ([40, 44] * 5, True),  # ten are enough
        ([40] * 20 + [80], False),  # 1 of 21 is a single outlier
        ([40] * 18 + [80, 80], True),  # 2 of 20 are not
    ],
)
def test_how_much(lengths: list[int], found: bool) -> None:
    trace = inferences(lengths, clocks=([1900.0, 2000.0] * len(lengths))[: len(lengths)])
    if not found:
        assert unstable_gpu_time.run(trace).status == Status.CLEAR
        return
    finding = only(unstable_gpu_time, trace)
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.HIGH, None)
    assert evidence_of(finding, VARIES).value == pytest.approx(np.std(lengths) / np.mean(lengths))


@pytest.mark.parametrize("clocks", [None, [1000.0, 2000.0] * 10], ids=["not sampled", "sampled"])
def test_no_variation_is_a_warning(clocks: list[float] | None) -> None:
    """It promises no time, however much it varies."""
    finding = only(unstable_gpu_time, inferences([20, 60] * 10, clocks=clocks))
    assert evidence_of(finding, VARIES).value == pytest.approx(0.5)
    assert finding.severity is Severity.INFO


def test_where_no_clock_was_recorded_the_work_may_follow_the_data() -> None:
    assert "kernels whose work follows the data" in only(unstable_gpu_time, inferences([38, 42] * 10)).cause


def test_evidence() -> None:
    finding = only(unstable_gpu_time, inferences([40, 44] * 10))
    assert {name: in_pictures(evidence_of(finding, name)) for name in ("fastest inference", "slowest inference")} == {
        "fastest inference": 40,
        "slowest inference": 44,
    }
    assert evidence_of(finding, "slowest inference").start_ns == 46_000
    assert finding.cause.startswith("not recorded")


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ("sm80_xmma_fprop", "trtexec calls more than 2.5 % unstable since TensorRT 10.13.2 (1.0 % before)"),
        ("stencil", "two inferences that differ by less than twice that cannot be told apart"),
    ],
)
def test_trtexec_is_named_where_the_program_may_run_tensorrt(kernel: str, says: str) -> None:
    assert only(unstable_gpu_time, inferences([40, 44] * 10, kernel=kernel)).message.endswith(says)


@pytest.mark.parametrize(
    ("clocks", "says", "remedy"),
    [
        (
            [2000.0, 1900.0] * 10,
            "the clock varies by 2.6 % while kernels run, between 1900 and 2000 MHz",
            "lock the clocks while measuring (nvidia-smi -lgc)",
        ),
        ([2000.0, 1960.0] * 10, "the clock varies by 1.0 % while kernels run, between", "lock the clocks"),
        ([2000.0, 1961.0] * 10, "and is not the reason", "keep other processes off the GPU"),
        ([2000.0] * 20, "and is not the reason", "keep other processes off the GPU"),
        (
            [2000.0] * 19,
            "not recorded: fewer than 20 samples of the clock lie inside of kernels",
            "sample the clock (nsight-tools capture",
        ),
    ],
)
def test_what_the_clock_says(clocks: list[float], says: str, remedy: str) -> None:
    finding = only(unstable_gpu_time, inferences([40, 44] * 10, clocks=clocks))
    assert says in finding.cause
    assert finding.recommendation.startswith(remedy)
    assert ("nvidia-smi -lgc" in finding.recommendation) == remedy.startswith("lock")


def test_a_locked_clock_is_said_to_be_no_reason() -> None:
    sample = {"device": 0, "bus_id": "0", "sm_clock_mhz": 1600, "max_sm_clock_mhz": 2000, "clock_event_reasons": 0x2}
    nvml = [sample | {"time_ns": 1000 * at} for at in range(100)]
    finding = only(unstable_gpu_time, inferences([40, 44] * 10, clocks=[1600.0] * 20, nvml=nvml))
    assert finding.cause.startswith("the SM clock is locked at 1,600 MHz; it is not the reason: another process")


@pytest.mark.parametrize(
    ("active", "second", "named"),
    [(99.0, 50, True), (1.0, 40, False), (99.0, 1400, False)],
    ids=["metrics prove it", "the GPU is idle meanwhile", "its own kernels vary by more"],
)
def test_another_process_is_named_where_metrics_prove_it(active: float, second: int, named: bool) -> None:
    """Every second inference waits for 600 µs with its second kernel, which then takes 50 µs, 40 or 1400."""
    text = {"nvtx 1": "", "thread 1": "", "stream 7": ""}
    for at in range(20):
        lane = ".." + ("####" + "." * 600 + "%" * second if at % 2 else "####" + "%" * 50)
        text["nvtx 1"] += "[i" + "." * (len(lane) - 1) + "]"
        text["thread 1"] += "Ll" + "." * len(lane)
        text["stream 7"] += lane + ".."
    samples = [{"time_ns": at * 50_000, "metric": "GR Active [Throughput %]", "value": active} for at in range(500)]
    picture = "\n".join(f"{label + ':':<10}{row}" for label, row in text.items())
    finding = only(unstable_gpu_time, drawn(picture, tables={"gpu_metrics": table("gpu_metrics", samples)}))
    assert finding.cause.startswith("another process has the GPU") == named
    assert finding.recommendation.startswith("give this process the GPU") == named


def test_other_work_is_not_compared() -> None:
    trace = inferences([40] * 12 + [20] * 10, grid=[132] * 12 + [66] * 10)
    assert unstable_gpu_time.run(trace).status == Status.CLEAR


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (inferences([40, 44] * 4 + [40]), "only 9 inferences do the same work"),
        (inferences([40, 44] * 10, beside=True), "inferences run beside each other"),
        (drawn("stream 7: ###"), "no inference that the GPU worked for"),
    ],
    ids=["9 inferences", "side by side", "none"],
)
def test_what_it_cannot_judge(trace: Trace, reason: str) -> None:
    outcome = unstable_gpu_time.run(trace)
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


def test_inferences_beside_copies_are_not_compared_with_those_alone() -> None:
    """Two modes of one program: 12 inferences of 40 µs alone, then 10 of 50 µs while another stream copies."""
    alone = 12 * ("." + "#" * 40 + "." * 19)
    beside = 10 * ("." + "#" * 50 + "." * 9)
    trace = drawn(f"""
        nvtx 1:   {("[i" + "." * 57 + "]") * 22}
        thread 1: {("L" + "." * 59) * 22}
        stream 7: {alone}{beside}
        stream 8: {"." * len(alone)}{">" * len(beside)}
    """)
    assert unstable_gpu_time.run(trace).status == Status.CLEAR


def test_inferences_that_copy_are_not_compared_with_those_that_do_not() -> None:
    mode = [(".." + "#" * 40 + "." * 18, "L" + "." * 59), (".>" + "#" * 50 + "." * 8, "LC" + "." * 58)]
    lanes = [mode[0]] * 12 + [mode[1]] * 10
    trace = drawn(f"""
        nvtx 1:   {("[i" + "." * 57 + "]") * 22}
        thread 1: {"".join(thread for _, thread in lanes)}
        stream 7: {"".join(stream for stream, _ in lanes)}
    """)
    assert unstable_gpu_time.run(trace).status == Status.CLEAR
