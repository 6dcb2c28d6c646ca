"""STR003: waits of the host in the middle of an inference, and what the GPU idles for them."""

from __future__ import annotations

from typing import Any

import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.streams.str001_streams_that_do_not_overlap import streams_that_do_not_overlap
from nsight_analyses.streams.str002_work_on_the_default_stream import work_on_the_default_stream
from nsight_analyses.streams.str003_host_synchronizations import host_synchronizations

from nsight_tools.analysis import Status, analyze
from nsight_tools.findings import Confidence, Severity, follows

WARNING, INFO = Severity.WARNING, Severity.INFO

MIDDLE = """
    nvtx 1:   [i..............................]
    thread 1: L.SSSSSSSSSS.....L......SSSSSSSS.
    stream 7: .##########.........##########...
"""
"""Idle [11, 20). From one launch to the next 7 µs pass without the wait, 4 more than the least: of these tracing takes
a share of 0.53, 2.12 µs. Launches that are no farther apart than 3 µs lost nothing to it."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "a wait before the second launch: 9 µs idle, less 1 of a dependency gap and 2.12 of the launch's tracing",
            MIDDLE,
            WARNING,
            5.88,
            {
                "the GPU idles after waits": 5.88,
                "waits in the middle of an inference": 1,
                "device-wide waits among them": 0,
                "the host waits": 10,
                "longest from a wait to the next work": 18,
            },
            Confidence.MEDIUM,
            "1 cudaStreamSynchronize",
        ),
        Case(
            "the same, device-wide",
            MIDDLE,
            WARNING,
            5.88,
            {"device-wide waits among them": 1},
            says="never the whole device (cudaDeviceSynchronize)",
            options={"sync_api": ["cudaDeviceSynchronize", "cudaStreamSynchronize"]},
        ),
        Case(
            "the GPU has other work all the time",
            """
            nvtx 1:   [i..............................]
            thread 1: Ll.SSSSSSSS.....L.......SSSSSSSS.
            stream 7: .##########.........##########...
            stream 8: ..###################............
            """,
            options={"kernel_calls": [0, 1, 2]},
        ),
        Case(
            "only the wait for the result",
            """
            nvtx 1:   [i..............................]
            thread 1: L..l......SSSSSSSSSSSSSSSSSSSSSS.
            stream 7: .##########.........##########...
            """,
        ),
        Case(
            "a wait before the first launch is for what came before",
            """
            nvtx 1:   [i..............................]
            thread 1: SSSSSSSS.....L..........SSSSSSSS.
            stream 7: ....................##########...
            """,
        ),
        Case(
            "a wait between two inferences",
            """
            nvtx 1:   [i.].......................[i.]
            thread 1: L....SSSSSSSS...............L...
            stream 7: .##########..................###
            """,
        ),
        Case(
            "2.5 % of the inference: of 37 µs 3 less 1 and less 0.53 of the 2 that a launch takes beyond 3",
            f"""
            nvtx 1:   [i{"." * 34}]
            thread 1: L.SS...L{"." * 29}
            stream 7: .###...{"#" * 30}
            """,
            INFO,
            0.94,
        ),
        Case(
            "less",
            f"""
            nvtx 1:   [i{"." * 35}]
            thread 1: L.SS...L{"." * 30}
            stream 7: .###...{"#" * 31}
            """,
        ),
        Case("10 % of the inference: of 58 µs", MIDDLE.replace("[i.", "[i." + "." * 25), WARNING, 5.88),
        Case("less: of 59", MIDDLE.replace("[i.", "[i." + "." * 26), INFO, 5.88),
    ],
    ids=str,
)
def test_str003(case: Case) -> None:
    case.check(host_synchronizations)


def test_str003_names_the_window() -> None:
    finding = only(host_synchronizations, drawn(MIDDLE))
    worst = evidence_of(finding, "longest from a wait to the next work")
    assert (worst.start_ns, worst.end_ns) == (2_000, 20_000)
    assert worst.detail == "cudaStreamSynchronize, of which 5.88 µs cost"


WAITS = "L.SSSSSSSSSS.....L......SSSSSSSS.", ".##########.........##########..."
LAUNCHES_LATE = "L................L......SSSSSSSS.", ".##########.........##########..."
LAUNCHES_AT_ONCE = "LL......................SSSSSSSS.", "..#############.##############..."


@pytest.mark.parametrize(
    ("second", "waits", "explains"),
    [
        (WAITS, 2, ("gaps", "enqueue")),
        (LAUNCHES_LATE, 1, ()),
        (LAUNCHES_AT_ONCE, 1, ("gaps",)),
    ],
    ids=["in each inference: no graph either", "in one of two: half of the gaps", "in one of two: most of the gaps"],
)
def test_str003_explains_the_gaps_and_in_each_inference_the_enqueue(
    second: tuple[str, str], waits: int, explains: tuple[str, ...]
) -> None:
    finding = only(
        host_synchronizations,
        drawn(f"""
            nvtx 1:   {"[i..............................]" * 2}
            thread 1: {WAITS[0]}{second[0]}
            stream 7: {WAITS[1]}{second[1]}
        """),
    )
    assert evidence_of(finding, "waits in the middle of an inference").value == waits
    assert finding.explains == explains


def test_str003_needs_inferences_with_work() -> None:
    outcome = host_synchronizations.run(drawn("nvtx 1:   [i..]\nthread 1: SSSS\nstream 7: ....\n"))
    assert outcome.status == Status.COULD_NOT_RUN


def test_waits_that_keep_two_streams_apart_are_one_cause() -> None:
    """STR001 sees them from the streams' side, STR003 from the inference's."""
    lane = "L.SSSSSSSSSS.L.SSSSSSSSSS."
    text = f"""
        nvtx 1:   [i{"." * 100}]
        thread 1: {lane * 4}
        stream 7: {(".##########" + "." * 15) * 4}
        stream 8: {("." * 14 + "##########" + "..") * 4}
    """
    apart = only(streams_that_do_not_overlap, drawn(text))
    assert apart.cause.startswith("the host synchronizes between one stream's launches")
    assert host_synchronizations.run(drawn(text)).findings
    assert apart.explains == ("synchronizations",)


@pytest.mark.parametrize(
    ("inside", "explains"),
    [(True, ("exposed transfers", "synchronizations")), (False, ("exposed transfers",))],
)
def test_what_enqueue_adds_on_the_default_stream_is_one_cause(inside: bool, explains: tuple[str, ...]) -> None:
    enqueue = "[e............................]" if inside else "..............[e.............]"
    text = f"""
        nvtx 1:          [i..............................]
        nvtx 1 TensorRT: .{enqueue}
        thread 1:        .L.SSSSSSSSS.....L......SSSSSSS.
        stream 7:        ..#########.........##########..
    """
    trace = drawn(text, stream_kinds={7: "legacy_default"})
    assert host_synchronizations.run(trace).findings
    assert only(work_on_the_default_stream, trace).explains == explains


def test_gaps_while_earlier_work_still_runs_are_not_the_waits() -> None:
    """The wait begins at 8; of its time the GPU idles [11, 13), [16, 18) between kernels launched before, [21, 32)."""
    text = """
        nvtx 1:   [i.........................................]
        thread 1: LlLl....SSSSSSSSSSSSS.......L......SSSSSSSS.
        stream 7: ......#####..###..###...........########....
    """
    finding = only(host_synchronizations, drawn(text, kernel_calls=[0, 1, 2, 4]))
    assert evidence_of(finding, "the GPU idles after waits").value == 11_000 - 1_000


def steps(count: int, every: int = 1, *, late: int = 10, copy: str = "", code: int = 0) -> str:
    """A loop of kernels of 25 µs that nothing marks, with a wait behind each, or behind every so many.

    The thread comes back 8 µs after the GPU is done, and goes on after `late` and `code` µs; it may copy before that.
    """
    thread, stream = "", ""
    for at in range(count):
        thread += "Ll"[at % 2] * 4 + "."
        stream = stream.ljust(len(thread) - 2, ".") + "#%"[at % 2] * 25
        if (at + 1) % every == 0:
            thread = thread.ljust(len(stream) + 8, "S")
            if copy:
                thread, stream = thread + "C" * 6, stream.ljust(len(thread) + 2, ".") + copy * 3
            thread += "." * (late + code)
    return f"thread 1: {thread}\nstream 7: {stream}"


DEVICE: dict[str, Any] = {"sync_api": "cudaDeviceSynchronize", "kernel_names": "stencil"}


def test_a_loop_that_waits_for_each_step_is_one_finding() -> None:
    """From a step to the next the GPU idles 21 µs: 1 of them a dependency gap, 3 what tracing is likely to add at most.

    Its launches are 46 µs apart, of which 31 are waits.
    """
    outcomes = analyze(drawn(steps(60), **DEVICE))
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    roots = [one for one in findings if not any(follows(one, other) for other in findings)]
    (finding,) = roots
    assert (finding.code, finding.severity, finding.confidence) == ("STR003", WARNING, Confidence.MEDIUM)
    assert finding.message.startswith("the host waits for the GPU after each step of a loop, every 46.0 µs (median)")
    assert finding.recommendation.startswith("launch several steps before you wait")
    assert "CUDA graph" in finding.recommendation
    assert evidence_of(finding, "waits for a step").value == 59  # nothing follows the last one
    assert finding.recoverable_ns == 59 * 17_000


@pytest.mark.parametrize("every", [10, 50])
def test_a_loop_that_waits_now_and_then_loses_nothing(every: int) -> None:
    outcome = host_synchronizations.run(drawn(steps(15 * every, every), **DEVICE))
    assert [finding.severity for finding in outcome.findings] == [INFO] * (every == 10)


@pytest.mark.parametrize(("every", "found"), [(28, True), (30, False)], ids=["2.5 %", "less"])
def test_steps_are_a_finding_from_2_5_percent_of_the_loop_on(every: int, found: bool) -> None:
    """The GPU idles 18.9 µs behind each 28 steps, which take 721 with it, or behind each 30, which take 771."""
    outcome = host_synchronizations.run(drawn(steps(40 * every, every), **DEVICE))
    assert bool(outcome.findings) == found


@pytest.mark.parametrize(("count", "found"), [(11, True), (10, False)], ids=["10 waits", "9"])
def test_fewer_than_ten_waits_are_no_loop(count: int, found: bool) -> None:
    outcome = host_synchronizations.run(drawn(steps(count), **DEVICE))
    assert [finding.message.startswith("the host waits for the GPU after each") for finding in outcome.findings] == (
        [True] * found
    )


@pytest.mark.parametrize("copy", ["<", ">"], ids=["a result is read", "an input is written"])
def test_a_wait_beside_a_copy_is_for_a_result(copy: str) -> None:
    outcome = host_synchronizations.run(drawn(steps(60, copy=copy), **DEVICE))
    assert not [finding for finding in outcome.findings if "each step" in finding.message]


def test_a_copy_within_the_gpu_hands_the_host_nothing() -> None:
    assert "each step" in only(host_synchronizations, drawn(steps(60, copy="="), **DEVICE)).message


def test_a_wait_recovers_no_more_than_it_lasts_and_explains_no_other_time() -> None:
    """The host computes for 300 µs from a step to the next: without the 31 µs of the wait the GPU still idles."""
    finding = only(host_synchronizations, drawn(steps(60, code=300), **DEVICE))
    assert (finding.recoverable_ns, finding.explains) == (59 * 31_000, ())


def test_where_inferences_are_marked_or_tensorrt_runs_a_wait_may_be_for_a_result() -> None:
    text = steps(60)
    marked = f"nvtx 1:   {('[i' + '.' * 33 + ']' + '.' * 10) * 60}\n{text}"
    for trace in (drawn(marked, **DEVICE), drawn(text, **DEVICE | {"kernel_names": "sm80_xmma_fprop"})):
        assert not host_synchronizations.run(trace).findings
