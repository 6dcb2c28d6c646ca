"""LCH002: graphs built in steady state. LCH003: host time between inferences."""

from __future__ import annotations

import pytest
from drawing import table, with_column
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.lch002_graphs_built_in_steady_state import graphs_built_in_steady_state
from nsight_analyses.host.lch003_host_time_between_inferences import host_time_between_inferences

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.trace import Trace

CAPTURE = {"other_api": ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]}

BUILT = """
    nvtx 1:   [i......][i................]
    thread 1: L........L..A...AaaaA.......
    stream 7: .######...######...........#
"""
"""A capture from 12 to 17, an instantiation from 17 to 20, in a steady state of 19 µs."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "captured and instantiated",
            BUILT,
            Severity.WARNING,
            5 + 3,
            {"captures": 1, "instantiations": 1, "host time": 8, "longest": 5},
            says="42 % of the threads' time",
            options=CAPTURE | {"other_api": [*CAPTURE["other_api"], "cudaEventRecord"]},
        ),
        Case(
            "only instantiated",
            BUILT,
            Severity.WARNING,
            3,
            {"captures": 0, "instantiations": 1},
            options={"other_api": ["cudaEventRecord", "cudaEventRecord", "cudaGraphInstantiateWithFlags", "cuInit"]},
        ),
        Case(
            "before the second inference",
            """
            nvtx 1:   [i................][i......]
            thread 1: L..A...AaaaA.......L........
            stream 7: .######.............#######.
            """,
            options={"other_api": [*CAPTURE["other_api"], "cudaEventRecord"]},
        ),
        Case("whether a stream captures is only asked", BUILT, options={"other_api": "cudaStreamIsCapturing"}),
    ],
    ids=str,
)
def test_graphs(case: Case) -> None:
    case.check(graphs_built_in_steady_state)


@pytest.mark.parametrize(("length", "severity"), [(20, Severity.WARNING), (21, Severity.INFO)])
def test_5_percent_is_a_warning(length: int, severity: Severity) -> None:
    text = f"""
        nvtx 1:   [i..][i{"." * (length - 3)}]
        thread 1: L....L.A{"." * (length - 3)}
        stream 7: .##...##
    """
    finding = only(graphs_built_in_steady_state, drawn(text, other_api="cudaGraphInstantiate"))
    assert (finding.severity, finding.recoverable_ns) == (severity, 1000)


def failing(*returned: int, names: list[str]) -> Trace:
    text = f"""
        nvtx 1:   [i..][i...]
        thread 1: {"".join("Aa"[at % 2] for at in range(len(names)))}
    """
    trace = drawn(text, other_api=names)
    calls = with_column(trace.table("api_calls"), "return_value", list(returned))
    return Trace.from_tables({"api_calls": calls, "nvtx_ranges": trace.table("nvtx_ranges")})


def test_a_capture_that_fails() -> None:
    names = ["cudaStreamBeginCapture", "cudaStreamSynchronize", "cudaStreamEndCapture"]
    finding = only(graphs_built_in_steady_state, failing(0, 900, 901, names=names))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert finding.cause == "cudaStreamSynchronize was called inside of a capture, which does not allow it"
    assert evidence_of(finding, "first failed call").detail == "returned 901"
    assert evidence_of(finding, "failed calls").value == 1


def test_a_graph_whose_launch_fails_did_not_run() -> None:
    finding = only(graphs_built_in_steady_state, failing(1, names=["cuGraphLaunch"]))
    assert finding.severity == Severity.ERROR
    assert "the graph's work did not run" in finding.message
    assert "cannot be told" in finding.cause


def test_graphs_without_inferences() -> None:
    assert graphs_built_in_steady_state.run(drawn("thread 1: A")).status == Status.COULD_NOT_RUN


def between(gap: str, kernel: str = "########") -> str:
    """Four inferences of 10 µs each with three of these gaps."""
    one = "[i.......]"
    call = "L" + "." * 9
    work = "." + kernel + "." * (9 - len(kernel))
    pause = "." * len(gap)
    return f"""
        nvtx 1:   {pause.join([one] * 4)}
        thread 1: {gap.join([call] * 4)}
        stream 7: {pause.join([work] * 4)}
    """


IDLE = "GPU idle between inferences"


@pytest.mark.parametrize(
    "case",
    [
        Case("none", between("")),
        Case("a tenth and more", between("..."), Severity.WARNING, 9, {IDLE: 9, "longest": 3}, Confidence.HIGH),
        Case("less than a tenth", between("."), Severity.INFO, 3, {IDLE: 3, "gaps between inferences": 3}),
        Case("in a synchronization", between("SSSSS")),
        Case("in a copy", between("CCCCC")),
        Case("in another call", between("AAAAA"), Severity.WARNING, 15),
        Case(
            "another thread's inference runs",
            between("...") + "    nvtx 2:   [i..............................................]",
        ),
        Case(
            "the GPU works",
            between("...", "#") + f"    stream 8: {'%' * 49}",
            options={"kernel_calls": [0, None, 1, 2, 3]},
        ),
    ],
    ids=str,
)
def test_between(case: Case) -> None:
    case.check(host_time_between_inferences)


@pytest.mark.parametrize(("gap", "found"), [(1, True), (200, False)], ids=["as others", "a pause between runs"])
def test_pauses(gap: int, found: bool) -> None:
    four = [line.partition(":")[2].strip() for line in between(".").strip().splitlines()]
    nvtx, thread, stream = (f"{row}{'.' * gap}{row}{'.' * gap}{row}" for row in four)
    text = f"nvtx 1:   {nvtx}\nthread 1: {thread}\nstream 7: {stream}\n"
    finding = only(host_time_between_inferences, drawn(text))
    assert finding.recoverable_ns == (11_000 if found else 9000)


def test_less_than_5_percent() -> None:
    kernel = "#" * 20
    text = f"""
        nvtx 1:   [i{"." * 17}].[i{"." * 17}]
        thread 1: L{"." * 20}L
        stream 7: .{kernel[:18]}...{kernel[:18]}
    """
    assert host_time_between_inferences.run(drawn(text)).status == Status.CLEAR


@pytest.mark.parametrize(("waited", "severity"), [(2, Severity.INFO), (1, Severity.WARNING)])
def test_a_thread_that_waits_is_told_apart(waited: int, severity: Severity) -> None:
    calls = [
        {"start_ns": 10_000 + 13_000 * at, "end_ns": 10_000 + 13_000 * at + waited * 1000, "name": "epoll_wait"}
        | {"pid": 1000, "tid": 1}
        for at in range(3)
    ]
    trace = drawn(between("..."), tables={"osrt_calls": table("osrt_calls", calls)})
    finding = only(host_time_between_inferences, trace)
    assert finding.severity == severity
    assert ("waits in the operating system" in finding.cause) == (severity == Severity.INFO)


@pytest.mark.parametrize(
    "text",
    ["nvtx 1:   [i.]\nthread 1: L...\nstream 7: .##.", "nvtx 1:   [i.][i.]\nthread 1: A......."],
    ids=["one inference", "no GPU work"],
)
def test_between_cannot_be_judged(text: str) -> None:
    assert host_time_between_inferences.run(drawn(text)).status == Status.COULD_NOT_RUN
