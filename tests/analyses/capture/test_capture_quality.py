"""CAP001: is the capture fit to conclude from; each check by itself, on a capture that is fit but for one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.capture.cap001_fit_to_conclude_from import fit_to_conclude_from

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Finding, Severity

if TYPE_CHECKING:
    from nsight_tools.trace import Trace


def inferences(count: int = 10, *, of: str = "L.SS", work: str = ".##.", before: str = "", **options: Any) -> Trace:
    """So many inferences of 4 µs, one after the other, and what was launched before them."""
    room = "." * len(before)
    return drawn(
        f"""
        nvtx 1:   {room}{"[i.]" * count}
        thread 1: {"L" if before else ""}{room[1:]}{of * count}
        stream 7: {before}{work * count}
        """,
        **options,
    )


def found(trace: Trace) -> Finding:
    finding = only(fit_to_conclude_from, trace)
    assert finding.code == "CAP001"
    assert finding.recoverable_ns is None
    return finding


def test_a_capture_that_is_fit() -> None:
    outcome = fit_to_conclude_from.run(inferences())
    assert outcome.status == Status.CLEAR, outcome.findings


def test_too_few_inferences() -> None:
    finding = found(inferences(9))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.HIGH)
    assert evidence_of(finding, "inferences").value == 9
    assert "only 9 inferences" in finding.message


def test_inferences_that_launched_nothing() -> None:
    finding = found(
        drawn(f"""
        nvtx 1:   {"[i.]" * 9}[i..]
        thread 1: {"L.SS" * 9}.....
        stream 7: {".##." * 9}.....
    """)
    )
    assert finding.severity == Severity.ERROR
    assert evidence_of(finding, "inferences without GPU work").value == 1
    first = evidence_of(finding, "first of them")
    assert (first.value, first.start_ns, first.end_ns) == (5000, 36_000, 41_000)
    assert finding.message.startswith("1 of 10 inferences launched no kernel")


def test_lost_gpu_activity() -> None:
    launched = drawn("thread 1: L.L.L", missing={"kernels": "3 launches were traced but no kernel"})
    finding = found(launched)
    assert finding.severity == Severity.ERROR
    assert finding.cause == "3 launches were traced but no kernel"
    assert "kernels were launched, and none was recorded" in finding.message


@pytest.mark.parametrize(
    ("text", "missing", "message"),
    [
        (
            "nvtx 1: [i.]",
            {"kernels": "no CUDA activity was traced"},
            "the GPU was not traced: nothing is said of its work",
        ),
        ("thread 1: A.A", {}, "no kernel ran in the collected time"),
    ],
    ids=["not traced", "nothing launched"],
)
def test_no_gpu_activity(text: str, missing: dict[str, str], message: str) -> None:
    outcome = fit_to_conclude_from.run(drawn(text, missing=missing))
    finding = next(f for f in outcome.findings if f.message == message)
    assert finding.severity == Severity.WARNING


@pytest.mark.parametrize(("count", "unfit"), [(100, True), (101, False)], ids=["1 %", "less"])
def test_work_without_its_call(count: int, unfit: bool) -> None:
    trace = inferences(count - 1, before=".####", kernel_calls=[None, *range(1, count)])
    outcome = fit_to_conclude_from.run(trace)
    assert [f.message.partition(" have ")[0] for f in outcome.findings] == [f"1 of {count} pieces of GPU work"] * unfit
    if unfit:
        assert evidence_of(outcome.findings[0], "share without a call").value == 0.01


def test_whole_graphs() -> None:
    finding = found(inferences(of="G.SS", work=".gg."))
    assert finding.severity == Severity.INFO
    assert evidence_of(finding, "graph launches").value == 10
    assert "--cuda-graph-trace=node" in finding.recommendation


@pytest.mark.parametrize(
    ("kernel", "unfit"),
    [(2, False), (3, True)],
    ids=["2 µs of 22: 9 %", "3 µs of 23: 13 %"],
)
def test_kernels_before_the_first_inference(kernel: int, unfit: bool) -> None:
    outcome = fit_to_conclude_from.run(inferences(before=f".{'#' * kernel}."))
    assert (outcome.status == Status.FINDINGS) == unfit
    if unfit:
        (finding,) = outcome.findings
        time = evidence_of(finding, "kernel time before")
        assert (time.value, time.start_ns, time.end_ns) == (3000, 1000, 4000)
        assert evidence_of(finding, "kernels before").value == 1
        assert "13 % of the kernel time was captured before the first inference" in finding.message


@pytest.mark.parametrize("kernel", [3, 2000], ids=["13 % of the kernel time", "99 %"])
def test_what_leads_the_run_is_no_more_than_a_note(kernel: int) -> None:
    """Nothing of it counts in any number: it costs reading the report, and no time."""
    finding = found(inferences(before=f".{'#' * kernel}."))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert "an engine build or a warm-up was captured with the run" in finding.cause


def test_inferences_that_warm_up_limit_nothing() -> None:
    trace = drawn(f"""
        nvtx 1:   [i{"." * 97}]{"[i.]" * 10}
        thread 1: L{"." * 99}{"L.SS" * 10}
        stream 7: .{"#" * 97}..{".##." * 10}
    """)
    assert trace.table("inferences")["mark"].to_pylist() == ["warm_up"] + [None] * 10
    outcome = fit_to_conclude_from.run(trace)
    assert outcome.status == Status.CLEAR, outcome.findings


def test_event_timings_tell_an_engine_build() -> None:
    build = "A." * 11

    def judged(api: str) -> str:
        text = f"""
            nvtx 1:   {"." * 30}{"[i.]" * 10}
            thread 1: L{build}.......{"L.SS" * 10}
            stream 7: ..######......................{".##." * 10}
        """
        return found(drawn(text, other_api=api)).cause

    assert "11 event timings suggest that TensorRT was choosing tactics" in judged("cudaEventElapsedTime")
    assert "timings" not in judged("cudaEventRecord")


@pytest.mark.parametrize(
    ("spans", "unfit"),
    [
        ([(1000, 1399)], False),
        ([(1000, 1400)], True),
        ([(1000, 1300), (1100, 1400)], True),
        ([(40_000, 50_000)], False),
    ],
    ids=["less than 1 %", "1 %", "overlapping in part", "outside of inferences"],
)
def test_profiler_overhead(spans: list[tuple[int, int]], unfit: bool) -> None:
    rows = [{"start_ns": start, "end_ns": end, "pid": 1000, "tid": 1, "name": "flush"} for start, end in spans]
    outcome = fit_to_conclude_from.run(inferences(tables={"profiler_overhead": table("profiler_overhead", rows)}))
    assert (outcome.status == Status.FINDINGS) == unfit
    if unfit:
        (finding,) = outcome.findings
        assert evidence_of(finding, "profiler overhead").value == 400
        assert evidence_of(finding, "longest").start_ns == 1000


def test_profiler_overhead_of_a_program_without_inferences() -> None:
    rows = [{"start_ns": 1000, "end_ns": 9000, "pid": 1000, "tid": 1, "name": "flush"}]
    bare = drawn(
        "thread 1: Ll........\nstream 7: .#.......%", tables={"profiler_overhead": table("profiler_overhead", rows)}
    )
    assert fit_to_conclude_from.run(bare).status == Status.CLEAR


@pytest.mark.parametrize(
    ("severity", "text", "unfit"),
    [
        ("error", "CUPTI buffers were dropped", True),
        ("error", "Some events\n  were lost", True),
        ("warning", "CUPTI buffers were dropped", False),
        ("error", "CPU sampling is not possible", False),
        ("error", "CUDA Unified Memory cannot be traced on this system", False),
    ],
    ids=["on CUDA", "lost events", "a warning", "of CPU sampling", "of Unified Memory"],
)
def test_errors_that_nsight_systems_reported(severity: str, text: str, unfit: bool) -> None:
    rows = [{"time_ns": 0, "severity": severity, "source": "injection", "text": text}]
    outcome = fit_to_conclude_from.run(inferences(tables={"diagnostics": table("diagnostics", rows)}))
    assert [f.cause for f in outcome.findings] == [" ".join(text.split())] * unfit
    if unfit:
        assert evidence_of(outcome.findings[0], "error").value == " ".join(text.split())
