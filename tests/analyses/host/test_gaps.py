"""FUS001: gaps between the kernels of an inference, by what they wait for, without the profiler.

One inference is no loop that could be replayed: its gaps are a bound, as traced. Of what a launch takes beyond 3 µs
tracing may be nothing, likely 0.53 but no more than 3 µs, and at most 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_loop import loop
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.fus001_gaps_between_kernels import gaps_between_kernels

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Finding, Severity

if TYPE_CHECKING:
    import pyarrow as pa

WARNING, INFO = Severity.WARNING, Severity.INFO
LOW, MEDIUM = Confidence.LOW, Confidence.MEDIUM

STARVED = """
    nvtx 1:   [i........................................]
    thread 1: LLLLLLLLLLl........LLLLLLLLLLL.............
    stream 7: ..........##..##.................##........
"""
"""Gaps [12, 14), whose call returned at 11, and [16, 33), whose call returns at 30."""

PAUSED = """
    nvtx 1:   [i...............................................]
    thread 1: L.....SSSSSSSSSSSSSSS...L.........................
    stream 7: .##......................##.......................
"""
"""A gap of 22 µs, in which the thread waits, and has launched nothing for 23."""

BUSY = """
    nvtx 1:   [i...............................................]
    thread 1: L..............LLLLLLLLLL.........................
    stream 7: .##......................##.......................
"""
"""The same gap; the thread has launched something 14 µs before, and is inside of the next launch for 10."""

DEPENDENT = """
    nvtx 1:   [i...............]
    thread 1: LlL.........SSSSS.
    stream 7: ...####.####.####.
"""
FORTY = """
    nvtx 1:   [i.....................................]
    thread 1: Ll..................SSSSSSSSSSSSSSSSSSSS
    stream 7: ..####..################################
"""
"""2 µs of 40: 5 %."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "launch-starved",
            BUSY,
            WARNING,
            22,
            {"idle between kernels": 22, "of it launch-starved": 22, "of it the host does something else": 0},
            MEDIUM,
            "kernels finish before the host has launched the next one",
        ),
        Case(
            "host: its thread waits in between, which no CUDA graph changes",
            PAUSED,
            WARNING,
            22,
            {"of it launch-starved": 0, "of it the host does something else": 22, "longest host gap": 22},
            MEDIUM,
            "its thread does something else than launch",
        ),
        Case(
            "dependency gaps: the kernels were launched before",
            DEPENDENT,
            INFO,
            2,
            {"of it launch-starved": 0, "of it between kernels already launched": 2, "longest dependency gap": 1},
            MEDIUM,
            "in a graph, the gap between dependent kernels is about 0.1 µs",
        ),
        Case(
            # Launches are 5 µs apart, of which tracing is likely 1.06: three of them.
            "the profiler makes them: 2 µs each, of which 1 is left, as between dependent kernels",
            """
            nvtx 1:   [i..............]
            thread 1: L...LL...ll...LL.
            stream 7: .###..###..###..#
            """,
            INFO,
            6,
            {"of it launch-starved": 6, "idle between kernels": 6},
            MEDIUM,
            "50 % of that is the profiler's own cost, most of the rest stands between kernels",
        ),
        Case(
            "a graph's nodes: a graph recovers nothing",
            """
            nvtx 1:   [i.........]
            thread 1: GG.SSSSSSSSS
            stream 7: ..nn.nn.nn.nn
            """,
        ),
        Case("5 % of the time", FORTY, INFO, 2),
        Case("less", FORTY.replace("####..####", "####.#####")),
        Case(
            "between two inferences the GPU may idle",
            """
            nvtx 1:   [i..]..............[i..]
            thread 1: L..................L....
            stream 7: .####...............####
        """,
        ),
        Case(
            "a copy fills the gap",
            """
            nvtx 1:   [i................]
            thread 1: LC...........L....
            stream 7: .####.........####
            stream 8: ....>>>>>>>>>>....
        """,
        ),
        Case(
            "another stream's kernel fills the gap",
            """
            nvtx 1:   [i...............]
            thread 1: Ll...........L...
            stream 7: .####.........###
            stream 8: ....##########...
        """,
            options={"kernel_calls": [0, 1, 2]},
        ),
    ],
    ids=str,
)
def test_fus001_gaps(case: Case) -> None:
    case.check(gaps_between_kernels)


KINDS = {
    "launch": (
        " waits for the host",
        "kernels finish before the host has launched the next one",
        "capture what it launches into a CUDA graph",
    ),
    "host": (
        " waits for the host",
        "its thread does something else than launch",
        "look at the windows below in Nsight Systems",
    ),
    "dependency": (
        " stands between kernels that were already launched",
        "the next kernel was launched long before",
        "in a graph, the gap between dependent kernels is about 0.1 µs",
    ),
}
"""How message, cause and remedy go, by what most of the gaps are."""


def says(text: str, kind: str, **options: Any) -> Finding:
    """The finding on a drawing, all of whose sentences are of this kind."""
    finding = only(gaps_between_kernels, drawn(text, **options))
    message, cause, remedy = KINDS[kind]
    assert finding.message.endswith(message)
    assert finding.cause.startswith(cause)
    assert remedy in finding.recommendation
    names = {"launch": "launch-starved", "host": "host", "dependency": "dependency"}
    assert evidence_of(finding, f"longest {names[kind]} gap")
    return finding


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("cudaMalloc", "host"),
        ("cuModuleLoadData", "host"),
        ("cudaGraphInstantiate", "host"),
        ("cudaEventSynchronize", "host"),
        ("cudaEventRecord", "launch"),
        ("cudaStreamWaitEvent", "launch"),
        ("cudaMallocAsync", "launch"),
    ],
)
def test_fus001_tells_what_the_thread_does_in_a_gap(call: str, kind: str) -> None:
    says(PAUSED.replace("S", "A"), kind, other_api=call)


def paused(pause: int, usual: int = 0, launches: int = 3) -> str:
    """Launches of 1 µs with so long between them, and one after a longer pause."""
    step = "L" + "." * usual if usual else "Ll"
    before = (step * launches)[: launches * (usual + 1)].rstrip(".")
    last = "L" if before.endswith("l") or usual else "l"
    kernels = "." + "".join("#%"[at % 2] + "." * usual for at in range(launches)).rstrip(".")
    length = len(before) + pause
    return f"""
        nvtx 1:   [i{"." * (length + 10)}]
        thread 1: {before}{"." * pause}{last}
        stream 7: {kernels.ljust(length + 1, ".")}{"#" if kernels.endswith("%") else "%"}#####
    """


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (paused(51), "host"),
        (paused(50), "launch"),
        (paused(61, usual=6), "host"),
        (paused(60, usual=6), "launch"),
        (paused(50, usual=40), "launch"),
    ],
    ids=["51 µs", "50 µs", "more than ten times the usual 6 µs", "ten times", "an eager framework"],
)
def test_fus001_tells_a_thread_that_does_something_else_by_how_long(text: str, kind: str) -> None:
    says(text, kind)


@pytest.mark.parametrize(("step", "found"), [(30, True), (2, False)], ids=["the GPU starves", "launched ahead"])
def test_fus001_judges_programs_that_mark_nothing(step: int, found: bool) -> None:
    """Thirty turns of a copy in, four kernels of 20 µs and a copy out, launched so far apart, without any range."""
    text = {"thread 1": "", "stream 7": ""}
    for _ in range(30):
        calls = ("C" + "." * (step - 1)) + "".join(one + "." * (step - 1) for one in "LlLl") + "c"
        work = "." + ">" + "".join("." * max(step - 20, 0) + one * 20 for one in "#%#%") + "<"
        length = max(len(calls), len(work)) + 4
        text["thread 1"] += calls.ljust(length - 3, ".") + "SS."
        text["stream 7"] += work.ljust(length, ".")
    picture = "\n".join(f"{label + ':':<10}{row}" for label, row in text.items())
    trace = drawn(picture, kernel_names=["a", "b", "c", "d"] * 30)
    outcome = gaps_between_kernels.run(trace)
    assert set(trace.table("inferences")["source"].to_pylist()) == {"iteration"}
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    for finding in outcome.findings:
        assert finding.cause == "kernels finish before the host has launched the next one"


def hole(gap: int, waiting: int = 0) -> str:
    """Two kernels launched at once with this gap between them; and a third, which the thread launches after a wait."""
    after = "...SSS" + "." * (waiting - 4) + "L" if waiting else ""
    return f"""
        nvtx 1:   [i{"." * (gap + waiting + 30)}]
        thread 1: Ll{"." * (gap + 6)}{after}
        stream 7: ..####{"." * gap}%%%%{"." * waiting}{"####" if waiting else ""}
    """


def test_fus001_a_gap_of_50_us_before_launched_work_is_a_dependency() -> None:
    assert says(hole(50), "dependency").severity == INFO


def test_fus001_a_longer_one_waits_for_something_and_is_no_gap() -> None:
    assert gaps_between_kernels.run(drawn(hole(51))).status == Status.CLEAR


@pytest.mark.parametrize(("waiting", "found"), [(5, True), (4, False)], ids=["more than 5 %", "less"])
def test_fus001_leaves_holes_out_of_what_it_says_of_other_gaps(waiting: int, found: bool) -> None:
    text = hole(60, waiting)
    if not found:
        assert gaps_between_kernels.run(drawn(text)).status == Status.CLEAR
        return
    finding = says(text, "host")
    assert evidence_of(finding, "idle between kernels").value == 5000
    assert finding.recoverable_ns == 5_000
    assert "for 5.1 % of the inference" in finding.message


@pytest.mark.parametrize(
    ("kernel", "remedy"),
    [
        ("void at::native::vectorized_elementwise_kernel<4>", "torch.cuda.graph"),
        ("stencil", "cudaStreamBeginCapture"),
        ("sm80_xmma_fprop_implicit_gemm", "trtexec --useCudaGraph"),
    ],
)
def test_fus001_names_the_graph_as_this_program_captures_it(kernel: str, remedy: str) -> None:
    finding = only(gaps_between_kernels, drawn(BUSY, kernel_names=kernel))
    said = f"{finding.message} {finding.cause} {finding.recommendation}"
    names = ("torch.cuda.graph", "cudaStreamBeginCapture", "trtexec")
    assert remedy in finding.recommendation
    assert [name for name in names if name in said] == [name for name in names if name in remedy]


@pytest.mark.parametrize(
    ("text", "window", "severity"),
    [(PAUSED, 210, WARNING), (PAUSED, 211, INFO), (BUSY, 160, WARNING), (BUSY, 161, INFO)],
)
def test_fus001_is_a_warning_from_10_percent_on_whatever_tracing_cost(
    text: str, window: int, severity: Severity
) -> None:
    """Of the 22 µs 1 is left between dependent kernels, too; and before a launch 5 may be tracing's."""
    longer = text.replace("[i.", "[i." + "." * (window - 50))
    assert only(gaps_between_kernels, drawn(longer)).severity == severity


def test_fus001_says_where_the_longest_gap_is_and_what_is_left_of_it() -> None:
    finding = only(gaps_between_kernels, drawn(STARVED))
    longest = [(e.start_ns, e.end_ns) for e in finding.evidence if e.metric == "longest launch-starved gap"]
    assert longest == [(16_000, 33_000)]
    starved = evidence_of(finding, "of it launch-starved")
    # Of 17 µs 1 stays, and the second and third launch cost 0, likely 3, or 5 µs each. The other gap is no wait.
    assert (starved.value, starved.detail) == (17_000, "10.0 µs without the profiler, between 6.00 µs and 16.0 µs")
    assert (finding.recoverable_ns, finding.recoverable_between_ns) == (19_000, None)
    assert finding.bound.startswith("the gaps as they were traced")


@pytest.mark.parametrize(
    ("window", "confidence"), [(19, MEDIUM), (21, LOW), (29, LOW), (30, MEDIUM)], ids=["5.3 %", "4.8 %", "5.1", "4.9 %"]
)
def test_fus001_is_less_sure_where_tracing_may_explain_the_gap(window: int, confidence: Confidence) -> None:
    """Of 3 µs 1 stays, as between dependent kernels; of the 4 from launch to launch 0.53, at most 1 are tracing's.

    So 1.47 µs are likely left, and 1 at the least: it is known what that means where both are 5 %, or neither.
    """
    finding = only(
        gaps_between_kernels,
        drawn(f"""
        nvtx 1:   [i{"." * (window - 3)}]
        thread 1: L...LLL
        stream 7: .###...{"#" * (window - 7)}
    """),
    )
    left = evidence_of(finding, "of it launch-starved")
    assert left.detail == "1.47 µs without the profiler, between 1.00 µs and 2.00 µs"
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (INFO, confidence, 3_000)


def test_fus001_tells_what_a_graph_brings_where_that_can_be_replayed() -> None:
    """Twelve inferences of two launches, 14 µs apart, and a wait; the range ends 3 behind it.

    Without 3 µs of tracing each launch takes 0.3 (the least) and 7: the second is done at 21.3, its kernel 2 later, and
    the wait 2 behind that. A graph takes 9 to launch and 1 more to begin, its kernels 2 each and 0.11 in between.
    """
    text = """
        nvtx 1:   [i.............................]..
        thread 1: L..............LLLLLLLLLLSSSS......
        stream 7: .##......................##........
    """
    finding = only(gaps_between_kernels, loop(text))
    assert finding.recoverable_ns_per_inference is not None
    assert finding.recoverable_between_ns is not None
    low, high = finding.recoverable_between_ns
    assert finding.recoverable_ns_per_inference == pytest.approx(25_300 - (9_000 + 1_000 + 4_111 + 2_000), abs=100)
    assert low < finding.recoverable_ns_per_inference < high < 22_000
    assert finding.bound.startswith("a replay of")


def test_fus001_spreads_the_loss_over_the_inferences() -> None:
    lines = [line.split(":") for line in BUSY.strip().splitlines()]
    twice = "\n".join(f"{label.strip():9}: {picture.strip():.<60}{picture.strip()}" for label, picture in lines)
    finding = only(gaps_between_kernels, drawn(twice))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (2 * 22_000, 22_000)


def test_fus001_needs_a_launch_call_and_inferences() -> None:
    outcome = gaps_between_kernels.run(drawn(BUSY, kernel_calls=[None] * 2))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no kernel of an inference can be joined to the API call that launched it",
    )
    none = drawn("stream 7: ##...##", missing={"inferences": "no ranges were recorded"})
    outcome = gaps_between_kernels.run(none)
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "no ranges were recorded")


TWO = """
    nvtx 1:            [i...............................................]
    nvtx 2:            [i...............................................]
    thread 1:          L..............LLLLLLLLLL.........................
    thread 2:          LLL..SSSS..............LLL........................
    stream 7:          .##......................##.......................
    stream 8 device 1: ...##.....................##......................
"""
"""One GPU's gap is launch-starved (22 µs), the other's its thread's own (21): each thread has its own GPU."""


def test_fus001_tells_gpus_and_threads_apart() -> None:
    finding = only(gaps_between_kernels, drawn(TWO, kernel_calls=[1, 0, 2, 3]))
    assert evidence_of(finding, "of it launch-starved").value == 22_000
    assert evidence_of(finding, "of it the host does something else").value == 21_000


def untraced(wall_us: float, every_us: float, count: int = 200) -> dict[str, pa.Table]:
    """The table of a run without the profiler that began an inference of `wall_us` every so often."""
    rows = [
        {"run": "benchmark", "inference": at, "start_ns": round(at * every_us * 1000), "wall_ns": round(wall_us * 1000)}
        for at in range(count)
    ]
    return {"benchmark": table("benchmark", rows)}


def test_fus001_cannot_tell_where_inferences_fill_each_others_gaps() -> None:
    """Two threads: without the profiler 3.4 µs pass for each inference, less than the 4 that its work takes the GPU."""
    both = """
        nvtx 1:   [i...............................................]
        nvtx 2:   [i...............................................]
        thread 1: L..............LLLLLLLLLL.........................
        thread 2: ..L..............LLLLLLLLLL.......................
        stream 7: .##......................##.......................
        stream 8: ...##......................##.....................
    """
    outcome = gaps_between_kernels.run(drawn(both, tables=untraced(190, 2.5)))
    assert outcome.status is Status.COULD_NOT_RUN
    assert outcome.reason.startswith("without the profiler 3.44 µs pass for an inference, no more than its work takes")
    for slower in (drawn(both, tables=untraced(190, 100)), drawn(both)):
        assert gaps_between_kernels.run(slower).status is Status.FINDINGS
    # One in flight leaves its GPU idle, whatever a clock says.
    assert gaps_between_kernels.run(drawn(BUSY, tables=untraced(190, 2.5))).status is Status.CLEAR


@pytest.mark.parametrize(("every", "severity"), [(8.3, INFO), (8.5, WARNING)], ids=["9.6 % come back", "10.04 %"])
def test_fus001_weighs_no_more_than_the_untraced_run_leaves_idle(every: float, severity: Severity) -> None:
    """An inference's work takes the GPU 4 µs; without the profiler 4.5 or 4.7 µs more pass for it.

    They are held against the 46 µs of one without the profiler, or 1.5 % more, and not against the traced 50.
    """
    finding = only(gaps_between_kernels, drawn(BUSY, tables=untraced(46, every)))
    room = (199 * every + 46) * 1000 / 200 - 4_000  # the last of 200 takes 46 µs
    assert (finding.recoverable_ns, finding.severity) == (round(room), severity)
