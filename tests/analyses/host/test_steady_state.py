"""LCH002: graphs built in steady state. LCH003: host time between inferences."""

from __future__ import annotations

import pytest
from drawing import table, with_column
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.lch002_graphs_built_in_steady_state import graphs_built_in_steady_state
from nsight_analyses.host.lch003_host_time_between_inferences import host_time_between_inferences
from nsight_analyses.host.lch004_slow_inferences import slow_inferences

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.trace import Trace

CAPTURE = {"other_api": ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]}

BUILT = """
    nvtx 1:   [i......][i................]
    thread 1: L........L..A...AaaaA.......
    stream 7: .######...######...........#
"""
"""A capture from 12 to 17, an instantiation from 17 to 20, in a steady state of 28 µs."""


def building(at: int, count: int = 6) -> str:
    """Inferences of 9 µs, one of which builds a graph: a capture of 5 µs, an instantiation of 3, and 19 in all."""
    one, built = "L........", "L..A...AaaaA......."
    lanes = [built if turn == at else one for turn in range(count)]
    return f"""
        nvtx 1:   {"".join("[i" + "." * (len(lane) - 3) + "]" for lane in lanes)}
        thread 1: {"".join(lanes)}
        stream 7: {"".join(".######".ljust(len(lane), ".") for lane in lanes)}
    """


def set_up(before: bool) -> str:
    """A slow inference, then five that are not, before the first of which, or of the second, a graph is built."""
    warm, one, built, idle = "L" + "." * 39, "L........", "A...AaaaA.", "." * 10
    first, second = (built, idle) if before else (idle, built)
    return f"""
        nvtx 1:   [{"i".ljust(38, ".")}]{idle}[i......]{idle}{"[i......]" * 4}
        thread 1: {warm}{first}{one}{second}{one * 4}
        stream 7: {".######".ljust(50, ".")}{".######".ljust(19, ".")}{".######.." * 4}
    """


BUILDS = {"other_api": [*CAPTURE["other_api"], "cudaEventRecord"]}


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "captured and instantiated",
            BUILT,
            Severity.WARNING,
            5 + 3,
            {"captures": 1, "instantiations": 1, "host time": 8, "longest": 5},
            says="29 % of the threads' time",
            options=BUILDS,
        ),
        Case(
            "only instantiated",
            BUILT,
            Severity.WARNING,
            3,
            {"captures": 0, "instantiations": 1},
            options={"other_api": ["cudaEventRecord", "cudaEventRecord", "cudaGraphInstantiateWithFlags", "cuInit"]},
        ),
        Case("in one of six", building(3), Severity.WARNING, 8, says="12 % of the threads' time", options=BUILDS),
        Case("in the first of six, which is warm-up", building(0), options=BUILDS),
        Case("once, between the warm-up and what follows", set_up(True), options=BUILDS),
        Case("once more, between two that follow", set_up(False), Severity.WARNING, 8, options=BUILDS),
        Case(
            "between two inferences",
            """
            nvtx 1:   [i......]..........[i......]
            thread 1: L.........A...AaaaAL........
            stream 7: .######.............######..
            """,
            Severity.WARNING,
            8,
            {"captures": 1, "instantiations": 1},
            options=BUILDS,
        ),
        Case("whether a stream captures is only asked", BUILT, options={"other_api": "cudaStreamIsCapturing"}),
    ],
    ids=str,
)
def test_graphs(case: Case) -> None:
    case.check(graphs_built_in_steady_state)


@pytest.mark.parametrize(("length", "severity"), [(15, Severity.WARNING), (16, Severity.INFO)])
def test_5_percent_is_a_warning(length: int, severity: Severity) -> None:
    """1 µs of two inferences, of which the first takes 5."""
    text = f"""
        nvtx 1:   [i..][i{"." * (length - 3)}]
        thread 1: L....L.A{"." * (length - 3)}
        stream 7: .##...##
    """
    finding = only(graphs_built_in_steady_state, drawn(text, other_api="cudaGraphInstantiate"))
    assert (finding.severity, finding.recoverable_ns) == (severity, 1000)


@pytest.mark.parametrize(("longer", "follows"), [("A", True), (".", False)], ids=["by the graphs", "by something else"])
def test_inferences_that_are_slow_by_graphs_are_told_of_once(longer: str, follows: bool) -> None:
    """Three of twelve build a graph for 20 µs; another one does, or does nothing, for as long."""
    turns = [("A" if at in {3, 5, 7} else longer) * 20 if at in {3, 5, 7, 9} else "" for at in range(12)]
    text = f"""
        nvtx 1:   {"".join("[i" + "." * (len(turn) + 7) + "]" for turn in turns)}
        thread 1: {"".join(turn + "L........." for turn in turns)}
        stream 7: {"".join("." * len(turn) + "..########" for turn in turns)}
    """
    trace = drawn(text, other_api="cudaGraphInstantiate")
    assert len(slow_inferences.run(trace).findings) == 1 + (not follows)
    assert only(graphs_built_in_steady_state, trace).explains == (("slow inferences",) if follows else ())


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


@pytest.mark.parametrize(
    "text", ["thread 1: A", "nvtx 1:   [i..]\nthread 1: LA...\nstream 7: ..##."], ids=["no inference", "one"]
)
def test_graphs_without_a_steady_state(text: str) -> None:
    outcome = graphs_built_in_steady_state.run(drawn(text, other_api="cudaGraphInstantiate"))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "fewer than two inferences: there is no steady state to look into",
    )


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
        Case("a tenth and more", between("..."), Severity.WARNING, 9, {IDLE: 9, "longest": 3}, Confidence.MEDIUM),
        Case("less than a tenth", between("."), Severity.INFO, 3, {IDLE: 3, "gaps between inferences": 3}),
        Case("in a synchronization", between("SSSSS")),
        Case("in a copy", between("CCCCC")),
        Case("in another call", between("AAAAA"), Severity.WARNING, 15),
        Case(
            "another thread's inference runs",
            between("...")
            + "    nvtx 2:   [i..............................................]\n"
            + "        thread 2: .L\n        stream 8: ..%",
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


def loop(gaps: list[int], length: int = 10) -> str:
    """Inferences of so many µs with these gaps between them, in which the thread is in no call."""
    lines = {"nvtx 1": "", "thread 1": "", "stream 7": ""}
    for gap in [*gaps, 0]:
        lines["nvtx 1"] += "[i" + "." * (length - 3) + "]" + "." * gap
        lines["thread 1"] += "L" + "." * (length - 1 + gap)
        lines["stream 7"] += "." + "#" * (length - 2) + "." * (1 + gap)
    return "\n".join(f"{label + ':':<10}{line}" for label, line in lines.items())


@pytest.mark.parametrize(("gap", "counted"), [(120, 48 + 120), (121, 48)], ids=["as others", "a pause between runs"])
def test_pauses(gap: int, counted: int) -> None:
    """A pause is ten times as long as the median inference (10 µs) and the median gap (2) together."""
    finding = only(host_time_between_inferences, drawn(loop([1, 3, 2] * 4 + [gap] + [2, 1, 3] * 4)))
    assert finding.recoverable_ns == counted * 1000


@pytest.mark.parametrize(
    ("gap", "last", "severity"),
    [(2, 19, Severity.INFO), (2, 20, None), (4, 17, Severity.WARNING), (4, 18, Severity.INFO)],
    ids=["5 %", "less", "10 %", "less than that"],
)
def test_how_much_of_the_time_is_between(gap: int, last: int, severity: Severity | None) -> None:
    """Two inferences, of which the first takes 19 µs."""
    text = f"""
        nvtx 1:   [i{"." * 16}]{"." * gap}[i{"." * (last - 3)}]
        thread 1: L{"." * (18 + gap)}L
        stream 7: .{"#" * 18}{"." * gap}.{"#" * (last - 1)}
    """
    outcome = host_time_between_inferences.run(drawn(text))
    assert [finding.severity for finding in outcome.findings] == ([severity] if severity else [])
    assert outcome.status == (Status.FINDINGS if severity else Status.CLEAR)


def waiting(text: str, gaps: list[int], waited: int, length: int = 10, name: str = "epoll_wait") -> Trace:
    """The same, where the thread waits in the operating system for so many µs of each gap."""
    starts = [length * (at + 1) + sum(gaps[:at]) for at in range(len(gaps))]
    calls = [
        {"start_ns": start * 1000, "end_ns": (start + waited) * 1000, "name": name, "pid": 1000, "tid": 1}
        for start in starts
    ]
    return drawn(text, tables={"osrt_calls": table("osrt_calls", calls)})


@pytest.mark.parametrize(("waited", "severity"), [(2, Severity.INFO), (1, Severity.WARNING)], ids=["half", "less"])
def test_a_thread_that_waits_for_requests_is_paced(waited: int, severity: Severity) -> None:
    gaps = [4, 4, 4]
    finding = only(host_time_between_inferences, waiting(loop(gaps), gaps, waited))
    assert (finding.severity, finding.confidence) == (severity, Confidence.HIGH)
    if severity == Severity.INFO:
        assert finding.message == (
            "inferences are paced: the thread waits for the next request for 23 % of the time, 4.00 µs before each"
        )
        assert finding.cause.startswith("it waits in the operating system for 50 % of that time")
        assert finding.recoverable_ns is None
    else:
        assert finding.cause == ("the thread that launches does something else there, outside of CUDA calls")
        assert finding.recoverable_ns == 12_000
    assert evidence_of(finding, "of it in waiting calls of the operating system").value == 3000 * waited


@pytest.mark.parametrize(
    ("gaps", "says"), [([30] * 7, ", every 40.0 µs"), ([30, 40, 20, 35, 25, 30, 30], "")], ids=["a grid", "none"]
)
def test_a_fixed_schedule_is_named(gaps: list[int], says: str) -> None:
    """As a camera's: three times as long between inferences as in them, and no time is claimed."""
    finding = only(host_time_between_inferences, waiting(loop(gaps), gaps, 20, name="clock_nanosleep"))
    assert (finding.severity, finding.recoverable_ns) == (Severity.INFO, None)
    assert finding.message.startswith(f"inferences are paced{says}: the thread waits")


@pytest.mark.parametrize(
    ("gaps", "length", "says"),
    [
        ([11, 11, 11], 10, "the gap of 11.0 µs is longer than an inference"),
        ([10, 10, 10], 10, ""),
        ([40] * 4 + [44, 36] + [40] * 4, 50, "they start at a regular pace, every 90.0 µs"),
        ([40] * 4 + [45, 35] + [40] * 4, 50, ""),
        ([4] * 4, 10, ""),  # too few to call it a grid
    ],
    ids=["longer than an inference", "as long as one", "10 % off the grid", "more", "five inferences"],
)
def test_without_the_operating_systems_calls_a_pace_cannot_be_told(gaps: list[int], length: int, says: str) -> None:
    finding = only(host_time_between_inferences, drawn(loop(gaps, length)))
    if says:
        assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
        assert finding.message.endswith(says)
        assert "cannot tell" in finding.cause
        assert "--trace=cuda,nvtx,osrt" in finding.recommendation
        assert finding.recoverable_ns is None
    else:
        assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
        assert finding.cause.endswith("unless it waits for requests: the calls of the operating system were not traced")
        assert finding.recoverable_ns == 1000 * sum(gaps)


@pytest.mark.parametrize("gaps", [[11] * 3, [3] * 7], ids=["long gaps", "a grid"])
def test_a_thread_that_was_seen_not_to_wait_works(gaps: list[int]) -> None:
    finding = only(host_time_between_inferences, waiting(loop(gaps), gaps, 1, name="pthread_mutex_unlock"))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert finding.recoverable_ns == 1000 * sum(gaps)


@pytest.mark.parametrize(("call", "found"), [("cudaMalloc", False), ("cudaEventRecord", True)])
def test_what_the_thread_does_in_cuda_is_told_apart(call: str, found: bool) -> None:
    """An allocation is another rule's; what only records an event is the program's own code."""
    outcome = host_time_between_inferences.run(drawn(between("AAAAA"), other_api=call))
    assert bool(outcome.findings) == found


@pytest.mark.parametrize(
    "text",
    ["nvtx 1:   [i.]\nthread 1: L...\nstream 7: .##.", "nvtx 1:   [i.][i.]\nthread 1: A......."],
    ids=["one inference", "no GPU work"],
)
def test_between_cannot_be_judged(text: str) -> None:
    assert host_time_between_inferences.run(drawn(text)).status == Status.COULD_NOT_RUN
