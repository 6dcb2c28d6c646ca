"""LCH004: slow inferences, and what happened in them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, in_pictures, only
from nsight_analyses.host.lch004_slow_inferences import slow_inferences

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

OWNER = {"pid": 1000, "tid": 1}


PLAIN = ("L.........", "..########")
THREE = (3, 5, 7)


def runs(slow: tuple[str, str], at: tuple[int, ...] = THREE, count: int = 12, plain: tuple[str, str] = PLAIN) -> str:
    """Inferences of 10 µs, some of which have this thread and stream."""
    lanes = [slow if one in at else plain for one in range(count)]
    return f"""
        nvtx 1:   {"".join("[i" + "." * (len(thread) - 3) + "]" for thread, _ in lanes)}
        thread 1: {"".join(thread for thread, _ in lanes)}
        stream 7: {"".join(stream for _, stream in lanes)}
    """


BUSY = ("AAAAAAAAAAAAAAAAAAAA" + "L.........", "...................." + "..########")
"""An inference of 30 µs: 20 more than the others."""
WAITING = ("SSSSSSSSSSSSSSSSSSSS" + "L.........", BUSY[1])
COPYING = ("LC........", "..######<<")


@pytest.mark.parametrize(
    ("slow", "plain", "options", "severity", "says"),
    [
        (BUSY, PLAIN, {"other_api": "cuModuleLoadData"}, Severity.WARNING, "modules are loaded"),
        (BUSY, PLAIN, {"other_api": "cuLibraryLoadData"}, Severity.WARNING, "modules are loaded"),
        (BUSY, PLAIN, {"other_api": "cudaGraphInstantiate"}, Severity.WARNING, "a CUDA graph is captured or instant"),
        (BUSY, PLAIN, {"other_api": "cudaStreamBeginCapture"}, Severity.WARNING, "a CUDA graph is captured or instan"),
        (BUSY, PLAIN, {"other_api": "cudaMalloc"}, Severity.WARNING, "memory is allocated or freed"),
        (BUSY, PLAIN, {"other_api": "cudaFreeHost"}, Severity.WARNING, "memory is allocated or freed"),
        (BUSY, PLAIN, {"other_api": "cudaEventRecord"}, Severity.INFO, "the GPU waits for the host between its calls"),
        (("L" * 20 + "L.........", BUSY[1]), PLAIN, {}, Severity.INFO, "the GPU waits for the host's launch calls"),
        (("L.." + "." * 27, ".." + "#" * 28), PLAIN, {}, Severity.WARNING, "its own kernels take longer"),
        (WAITING, PLAIN, {}, Severity.INFO, "its thread waits in a synchronization while the GPU runs nothing of it"),
        (
            ("LC" + "." * 28, ".." + "######" + "<" * 22),
            COPYING,
            {},
            Severity.WARNING,
            "its device-to-host copies take longer",
        ),
    ],
)
def test_reasons(
    slow: tuple[str, str], plain: tuple[str, str], options: dict[str, Any], severity: Severity, says: str
) -> None:
    finding = only(slow_inferences, drawn(runs(slow, plain=plain), **options))
    assert says in finding.cause
    assert ("jitter of the host" in finding.cause) == (severity == Severity.INFO)
    assert (finding.severity, finding.recoverable_ns) == (severity, 3 * 20_000)
    assert in_pictures(evidence_of(finding, "slow inference")) == 30
    assert evidence_of(finding, "slow inference").detail == "inference 3"
    assert finding.message == (
        "3 of 12 inferences took 30.0 µs (median) rather than 10.0 µs: 33 % of the inference time"
    )


@pytest.mark.parametrize(("at", "severity"), [(THREE, Severity.WARNING), ((3, 5), Severity.INFO)])
def test_one_or_two_may_be_chance(at: tuple[int, ...], severity: Severity) -> None:
    finding = only(slow_inferences, drawn(runs(BUSY, at), other_api="cudaMalloc"))
    assert finding.severity == severity
    assert finding.message.startswith(f"{len(at)} of 12 inferences took 30.0 µs")


@pytest.mark.parametrize(("count", "severity"), [(114, Severity.WARNING), (115, Severity.INFO)], ids=["5 %", "less"])
def test_5_percent_of_the_time_is_a_warning(count: int, severity: Severity) -> None:
    """60 µs beyond the median of 1200 or of 1210."""
    assert only(slow_inferences, drawn(runs(BUSY, count=count), other_api="cudaMalloc")).severity == severity


@pytest.mark.parametrize(("took", "says"), [(10, "modules are loaded"), (9, "the GPU waits for the host between")])
def test_what_takes_half_of_it_is_the_reason(took: int, says: str) -> None:
    slow = ("A" * took + "." * (20 - took) + "L.........", BUSY[1])
    assert only(slow_inferences, drawn(runs(slow), other_api="cuModuleLoadData")).cause.startswith(says)


def test_modules_that_another_thread_loads_meanwhile() -> None:
    """The thread of the inferences waits for it, and nothing of its own says why."""
    lanes = lanes_of(runs(("." * 20 + "L.........", BUSY[1])))
    loads = "".join("A" * 20 + "." * 10 if at in THREE else "." * 10 for at in range(12))
    text = "\n".join(f"{label:<9}: {lane}" for label, lane in (lanes | {"thread 2": loads}).items())
    finding = only(slow_inferences, drawn(text, other_api="cuModuleLoadData"))
    assert finding.cause.startswith(
        "modules are loaded: code comes to the GPU when it is first used; another thread does"
    )
    assert finding.severity == Severity.WARNING


def test_each_reason_is_a_finding_of_its_own() -> None:
    """Three inferences load modules, then three allocate."""
    names = ["cuModuleLoadData"] * 3 + ["cudaMalloc"] * 3
    outcome = slow_inferences.run(drawn(runs(BUSY, (3, 5, 7, 9, 11, 13), 20), other_api=names))
    assert [finding.cause.partition(":")[0].partition(" (")[0] for finding in outcome.findings] == [
        "modules are loaded",
        "memory is allocated or freed",
    ]
    assert {finding.recoverable_ns for finding in outcome.findings} == {60_000}


def test_what_is_queued_behind_other_work_loses_no_time() -> None:
    slow = ("L" + "." * 29, "." * 22 + "#" * 8)
    behind = "".join((".." + "%" * 20 + "." * 8) if at in THREE else "." * 10 for at in range(12))
    lanes = lanes_of(runs(slow)) | {"stream 8 pid 2000": behind}
    text = "\n".join(f"{label:<19}: {lane}" for label, lane in lanes.items())
    finding = only(slow_inferences, drawn(text))
    assert finding.cause.startswith("the GPU does other work of this report first, which loses no time")
    assert (finding.severity, finding.recoverable_ns) == (Severity.INFO, None)
    assert finding.message == "3 of 12 inferences took 30.0 µs (median) rather than 10.0 µs"


def lanes_of(text: str) -> dict[str, str]:
    rows = [row.partition(":") for row in text.strip().splitlines()]
    return {label.strip(): lane.strip() for label, _, lane in rows}


@pytest.mark.parametrize(
    ("slow", "severity", "confidence", "says"),
    [
        (0, Severity.INFO, Confidence.LOW, "nothing yet: without the profiler they are far fewer"),
        (2, Severity.INFO, Confidence.LOW, "nothing yet"),
        (3, Severity.WARNING, Confidence.MEDIUM, "they come back in a run without the profiler"),
    ],
    ids=["none", "less than half as many", "half as many"],
)
def test_what_no_event_explains_is_held_against_an_untraced_run(
    slow: int, severity: Severity, confidence: Confidence, says: str
) -> None:
    """The runner measured 24 inferences of 9 µs without the profiler, some of 12 µs, and as many of 10 µs with it."""
    drawing = drawn(runs(("L" + "S" * 29, ".." + "#" * 28), plain=("L" + "S" * 9, PLAIN[1])))
    walls = {"benchmark": [12] * slow + [9] * (24 - slow), "timing": [10] * 24}
    rows = [
        {
            "run": run,
            "measured_by": "runner",
            "inference": at,
            "start_ns": at * 20_000,
            "wall_ns": wall * 1000,
            "thread": 0,
            "stream": 0,
        }
        for run, measured in walls.items()
        for at, wall in enumerate(measured)
    ]
    tables = {name: drawing.table(name) for name in TABLES if drawing.rows(name)}
    trace = Trace.from_tables({**tables, "benchmark": table("benchmark", rows)})
    finding = only(slow_inferences, trace)
    assert (finding.severity, finding.confidence) == (severity, confidence)
    assert says in finding.recommendation
    assert evidence_of(finding, "as much slower without the profiler").value == slow / 24


def overhead(start: int, end: int) -> dict[str, Any]:
    return {"start_ns": start * 1000, "end_ns": end * 1000, "name": "Chunk Allocation"} | OWNER


@pytest.mark.parametrize(("took", "profiler"), [(10, True), (9, False)])
def test_the_profiler(took: int, profiler: bool) -> None:
    tables = {"profiler_overhead": table("profiler_overhead", [overhead(31, 31 + took)])}
    finding = only(slow_inferences, drawn(runs(BUSY, (3,)), tables=tables, other_api="cudaEventRecord"))
    assert finding.severity == Severity.INFO
    assert ("the profiler itself" in finding.cause) == profiler
    assert finding.recoverable_ns == (None if profiler else 20_000)


@pytest.mark.parametrize(("at", "found"), [((0, 1, 2), False), ((1, 2, 3), True)], ids=["the first", "after the first"])
def test_the_first_ones_are_warm_up(at: tuple[int, ...], found: bool) -> None:
    outcome = slow_inferences.run(drawn(runs(BUSY, at), other_api="cuModuleLoadData"))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    assert [finding.recommendation for finding in outcome.findings] == [
        "run each shape once before serving, or set CUDA_MODULE_LOADING=EAGER"
    ] * found


@pytest.mark.parametrize(("active", "proven"), [(99.0, True), (1.0, False)])
def test_another_process_has_the_gpu_where_metrics_prove_it(active: float, proven: bool) -> None:
    length = 1800
    slow = ("LlL" + "." * (length - 3), "".join("." * 590 + "#%"[at % 2] * 10 for at in range(3)))
    samples = [{"time_ns": t * 50_000, "metric": "GR Active [Throughput %]", "value": active} for t in range(120)]
    text = runs(slow, plain=("LlL.......", "..##%%##.."))
    finding = only(slow_inferences, drawn(text, tables={"gpu_metrics": table("gpu_metrics", samples)}))
    assert finding.cause.startswith("another process has the GPU") == proven
    assert ("process" in finding.cause) == proven
    assert finding.severity == (Severity.WARNING if proven else Severity.INFO)


# Shapes and populations


def shapes(*changes: int, kinds: int = 4, each: int = 6) -> tuple[str, list[int]]:
    """So many kinds of inferences after each other, told apart by their grids; the first of some is slow. And grids."""
    lanes = [BUSY if at and at % each == 0 and at // each in changes else PLAIN for at in range(kinds * each)]
    text = f"""
        nvtx 1:   {"".join("[i" + "." * (len(thread) - 3) + "]" for thread, _ in lanes)}
        thread 1: {"".join(thread for thread, _ in lanes)}
        stream 7: {"".join(stream for _, stream in lanes)}
    """
    return text, [10 + at // each for at in range(kinds * each)]


@pytest.mark.parametrize(
    ("changes", "severity"), [((1, 2, 3), Severity.WARNING), ((1, 2), Severity.INFO), ((), None)], ids=str
)
def test_changes_of_shape(changes: tuple[int, ...], severity: Severity | None) -> None:
    text, grid = shapes(*changes)
    outcome = slow_inferences.run(drawn(text, grid=grid))
    assert [finding.severity for finding in outcome.findings] == ([severity] if severity else [])
    for finding in outcome.findings:
        assert finding.cause.startswith("each is the first on its thread with another shape")
        assert finding.recommendation.startswith("run each shape once before serving")
        assert finding.message.startswith(f"{len(changes)} of 24 inferences took 30.0 µs (median) rather than 10.0 µs")
        assert finding.recoverable_ns == len(changes) * 20_000


def test_slow_ones_of_another_population_do_not_stand_out() -> None:
    """Every third inference runs another kernel and takes 30 µs; one population is judged, and none in it is slow."""
    lanes = [("L" + "." * 29, "." * 2 + "#" * 28) if at % 3 == 2 else PLAIN for at in range(18)]
    text = f"""
        nvtx 1:   {"".join("[i" + "." * (len(thread) - 3) + "]" for thread, _ in lanes)}
        thread 1: {"".join(thread for thread, _ in lanes)}
        stream 7: {"".join(stream for _, stream in lanes)}
    """
    names = ["large" if at % 3 == 2 else "small" for at in range(18)]
    assert slow_inferences.run(drawn(text, kernel_names=names)).status == Status.CLEAR
    alike = only(slow_inferences, drawn(text))  # the same work: then they do
    assert "its own kernels take longer" in alike.cause


# A clock that fell while the GPU was idle


def after_pauses(gap: int, slower: int, kernel: int = 6) -> str:
    """Twelve inferences of ten kernels of 4 µs; three follow a gap, and so many of their kernels take `kernel` µs."""
    lines = {"nvtx 1": "", "thread 1": "", "stream 7": ""}
    for at in range(12):
        lengths = [kernel if at in THREE and one < slower else 4 for one in range(10)]
        wall, pause = 12 + sum(lengths), "." * gap if at in THREE else ""
        lines["nvtx 1"] += pause + "[i" + "." * (wall - 3) + "]"
        lines["thread 1"] += pause + "LlLlLlLlLl" + "." * (wall - 10)
        lines["stream 7"] += (
            pause + "." * 10 + "".join("#%"[one % 2] * length for one, length in enumerate(lengths)) + ".."
        )
    return "\n".join(f"{label + ':':<10}{line}" for label, line in lines.items())


@pytest.mark.parametrize(
    ("gap", "slower", "fell"),
    [(63, 10, True), (62, 10, False), (63, 9, True), (63, 8, False)],
    ids=["1.2 inferences long", "a shorter gap", "nine of ten kernels", "eight"],
)
def test_the_clock_falls_in_a_pause(gap: int, slower: int, fell: bool) -> None:
    finding = only(slow_inferences, drawn(after_pauses(gap, slower)))
    assert finding.recoverable_ns == 3 * 2000 * slower
    if fell:
        assert finding.cause.startswith("each follows a pause of 63.0 µs or more, and all its kernels take longer, 1.5")
        assert "most likely the GPU's clock fell while it was idle. No clock was recorded" in finding.cause
        assert finding.recommendation.startswith("lock the clocks")
        assert "--gpu-metrics-devices=all" in finding.recommendation
        assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    else:
        assert finding.cause.startswith("its own kernels take longer")


def clock(text: str, slow: float, usual: float = 1500.0, every: int = 2) -> Trace:
    """A sample of the clock each two µs: `slow` in inferences that follow a pause, and `usual` in the others."""
    nvtx = lanes_of(text)["nvtx 1"]
    ends = [at for at, one in enumerate(nvtx) if one == "]"]
    late = [at for at, one in enumerate(nvtx) if one == "[" and at and nvtx[at - 1] == "."]
    spans = [(start, next(end for end in ends if end > start)) for start in late]
    samples = [
        {
            "time_ns": at * 1000 + 500,
            "metric": "GPC Clock Frequency [MHz]",
            "value": slow if any(start <= at < end for start, end in spans) else usual,
        }
        for at in range(0, len(nvtx), every)
    ]
    return drawn(text, tables={"gpu_metrics": table("gpu_metrics", samples)})


@pytest.mark.parametrize(("mhz", "fell"), [(1000.0, True), (1199.0, True), (1201.0, False), (1500.0, False)], ids=str)
def test_a_sampled_clock_says_whether_it_fell(mhz: float, fell: bool) -> None:
    """Kernels take 1.5 times as long: half of that is a clock of 1200 MHz rather than 1500."""
    finding = only(slow_inferences, clock(after_pauses(63, 10), mhz))
    assert ("the GPU's clock fell while it was idle" in finding.cause) == fell
    assert ("nvidia-smi -lgc" in finding.recommendation) == fell
    if fell:
        assert f"to {mhz:.0f} MHz in these inferences from 1500 MHz in the others" in finding.cause
        assert "gpu-metrics" not in finding.recommendation
    else:
        assert finding.cause.startswith("its own kernels take longer")


def test_samples_outside_of_the_slow_inferences_say_nothing_of_them() -> None:
    text = after_pauses(63, 10)
    trace = clock(text, 1000.0)
    samples = trace.table("gpu_metrics")
    kept = samples.filter(pc.equal(samples["value"], 1500.0))
    finding = only(slow_inferences, drawn(text, tables={"gpu_metrics": kept}))
    assert "No clock was recorded in these inferences" in finding.cause


@pytest.mark.parametrize("length", [10, 12])
def test_up_to_20_percent_is_none(length: int) -> None:
    slow = ("L" + "." * (length - 1), ".." + "#" * (length - 2))
    assert slow_inferences.run(drawn(runs(slow, (3,), 7))).status == Status.CLEAR


def test_more_than_20_percent_is_one() -> None:
    finding = only(slow_inferences, drawn(runs(("L" + "." * 12, ".." + "#" * 11), (3,), 7)))
    assert finding.recoverable_ns == 3000
    assert finding.severity == Severity.INFO  # 3 of 73 µs


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (runs(BUSY, count=4), "no thread has 5 inferences that do the same"),
        ("stream 7: ##", "no inference that the GPU worked for"),
    ],
)
def test_what_it_cannot_judge(text: str, reason: str) -> None:
    outcome = slow_inferences.run(drawn(text))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize(("count", "found"), [(79, False), (78, True)], ids=["below 2.5 %", "2.5 %"])
def test_what_no_event_explains_matters_from_2_5_percent_on(count: int, found: bool) -> None:
    outcome = slow_inferences.run(drawn(runs(BUSY, (3,), count), other_api="cudaEventRecord"))
    assert bool(outcome.findings) == found


def test_what_an_event_explains_is_said_at_any_share() -> None:
    assert "memory" in only(slow_inferences, drawn(runs(BUSY, (3,), 300), other_api="cudaMalloc")).cause


@pytest.mark.parametrize(("count", "found"), [(79, False), (78, True)])
def test_what_the_profiler_did_is_said_from_2_5_percent_on(count: int, found: bool) -> None:
    tables = {"profiler_overhead": table("profiler_overhead", [overhead(31, 51)])}
    outcome = slow_inferences.run(drawn(runs(BUSY, (3,), count), tables=tables, other_api="cudaEventRecord"))
    assert bool(outcome.findings) == found


@pytest.mark.parametrize(("count", "told"), [(40, True), (30, True), (29, False)], ids=["few", "a tenth", "more"])
def test_a_little_other_work_hides_no_event(count: int, told: bool) -> None:
    """Three inferences load code for 20 µs, and the kernel that it is for has another grid than the others'."""
    text = runs(BUSY, count=count + 3)
    grid = [7 if at in THREE else 132 for at in range(count + 3)]
    outcome = slow_inferences.run(drawn(text, other_api="cuModuleLoadData", grid=grid))
    assert bool(outcome.findings) == told
    for finding in outcome.findings:
        assert finding.cause.startswith("modules are loaded")
        assert finding.message.startswith(f"3 of {count + 3} inferences took 30.0 µs (median) rather than 10.0 µs")
        assert finding.recoverable_ns == 3 * 20_000


def test_a_little_other_work_that_nothing_explains_is_other_work() -> None:
    text = runs(BUSY, count=43)
    grid = [7 if at in THREE else 132 for at in range(43)]
    assert not slow_inferences.run(drawn(text, other_api="cudaGetLastError", grid=grid)).findings


@pytest.mark.parametrize(("hole", "found"), [(51, True), (49, False)])
def test_work_that_waits_for_an_idle_gpu_is_no_jitter(hole: int, found: bool) -> None:
    slow = ("L" + "." * (hole + 28), "." * (hole + 1) + "#" * 28)
    (finding,) = slow_inferences.run(drawn(runs(slow))).findings
    assert (
        finding.cause.startswith("launched work waits for an idle GPU, and this report does not say for what") == found
    )
    assert finding.severity is Severity.INFO or not found
