"""FUS001: gaps between the kernels of an inference, by what they wait for, without the profiler.

Drawings are too short to tell what tracing cost: it is then 0.4, likely 1 and at most 3 µs a launch, and 0.2, 0.5 and
1 µs a range.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.fus001_gaps_between_kernels import gaps_between_kernels

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Finding, Severity
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

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
            "launch-starved: tracing takes 2.5 of 22 µs (two launches and the range), 7 at most",
            BUSY,
            WARNING,
            # The first kernel moves up by 1.5 µs too, so that the gap shrinks by what the second launch adds: 1 µs.
            22 - 1 - 0.1,
            {"idle between kernels": 22, "of it launch-starved": 22, "of it the host does something else": 0},
            MEDIUM,
            "kernels finish before the host has launched the next one",
        ),
        Case(
            "host: its thread waits in between, which no CUDA graph changes",
            PAUSED,
            WARNING,
            22 - 1 - 1,
            {"of it launch-starved": 0, "of it the host does something else": 22, "longest host gap": 22},
            MEDIUM,
            "its thread does something else than launch",
        ),
        Case(
            "dependency gaps: the kernels were launched before",
            DEPENDENT,
            INFO,
            2 * 0.9,
            {"of it launch-starved": 0, "of it between kernels already launched": 2, "longest dependency gap": 1},
            MEDIUM,
            "a CUDA graph shortens the gap between dependent kernels to about 0.1 µs",
        ),
        Case(
            "the profiler makes them: 2 µs each, of which 1 is left, as between dependent kernels",
            """
            nvtx 1:   [i..............]
            thread 1: L...LL...ll...LL.
            stream 7: .###..###..###..#
            """,
            INFO,
            3 * 0.9,
            {"of it launch-starved": 6, "idle between kernels": 6, "a CUDA graph recovers, per inference": 2.7},
        ),
        Case(
            "a graph's nodes: a graph recovers nothing",
            """
            nvtx 1:   [i.........]
            thread 1: GG.SSSSSSSSS
            stream 7: ..nn.nn.nn.nn
            """,
        ),
        Case("5 % of the time", FORTY, INFO, 1.9),
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
        "a CUDA graph shortens the gap between dependent kernels",
    ),
}
"""How message, cause and remedy go, by what most of the gaps are."""


def says(text: str, kind: str, **options: Any) -> Finding:
    """The finding on a drawing, all of whose sentences are of this kind."""
    finding = only(gaps_between_kernels, drawn(text, **options))
    message, cause, remedy = KINDS[kind]
    assert finding.message.endswith(message)
    assert finding.cause.startswith(cause)
    assert finding.recommendation.startswith(remedy)
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
    assert finding.recoverable_ns == (5 - 2 - 1) * 1000  # less the tracing of a launch and a synchronization
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


@pytest.mark.parametrize(("window", "severity"), [(180, WARNING), (181, INFO)])
def test_fus001_is_a_warning_from_10_percent_on_whatever_tracing_cost(window: int, severity: Severity) -> None:
    """18 µs are left of the gap, even if tracing costs most."""
    longer = PAUSED.replace("[i.", "[i." + "." * (window - 50))
    assert only(gaps_between_kernels, drawn(longer)).severity == severity


def test_fus001_says_where_the_longest_gap_is_and_what_is_left_of_it() -> None:
    finding = only(gaps_between_kernels, drawn(STARVED))
    longest = [(e.start_ns, e.end_ns) for e in finding.evidence if e.metric == "longest launch-starved gap"]
    assert longest == [(16_000, 33_000)]
    starved = evidence_of(finding, "of it launch-starved")
    assert (starved.value, starved.detail) == (17_000, "14.0 µs without the profiler, between 10.0 µs and 15.2 µs")
    assert finding.recoverable_between_ns == (10_240, 18_200)  # not 21.6 µs: both gaps, if tracing costs least


def test_fus001_takes_no_more_than_the_gap_and_is_less_sure_where_tracing_may_explain_it() -> None:
    finding = only(
        gaps_between_kernels,
        drawn("""
        nvtx 1:   [i.......................................]
        thread 1: L...LLL..................................
        stream 7: .###...##################################
    """),
    )
    # Of 3 µs the second launch's tracing takes 0.4, likely 1, at most 2: one stays, as between dependent kernels.
    assert (
        evidence_of(finding, "of it launch-starved").detail == "1.00 µs without the profiler, between 0 ns and 1.60 µs"
    )
    assert (finding.severity, finding.recoverable_ns) == (INFO, 1900)


def test_fus001_spreads_the_loss_over_the_inferences() -> None:
    lines = [line.split(":") for line in BUSY.strip().splitlines()]
    twice = "\n".join(f"{label.strip():9}: {picture.strip():.<60}{picture.strip()}" for label, picture in lines)
    finding = only(gaps_between_kernels, drawn(twice))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (2 * 20_900, 20_900)


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


def test_the_calibrated_accounting_takes_tracing_out_of_the_hosts_buckets() -> None:
    trace = drawn(BUSY)
    wall = trace.table("inferences")["wall_ns"].to_pylist()
    low, point, high = Calibrated.of(trace).accounting
    # Of two launches and a range before the second kernel: 1, likely 2.5, at most 7 µs.
    assert [wall[0] - one.wall[0] for one in (low, point, high)] == [1_000, 2_500, 7_000]


def test_without_inferences_there_is_nothing_to_calibrate() -> None:
    trace = drawn("thread 1: L...\nstream 7: .##.\n")
    calibrated = Calibrated.of(trace)
    assert [one.wall.size for one in calibrated.accounting] == [0, 0, 0]
    assert calibrated.graph_gain.high == 0


def with_benchmark(
    untraced_us: float,
    traced_us: float,
    count: int = 20,
    enqueue_us: tuple[float, float] | None = None,
    compute_us: int = 20,
    every_us: float = 100,
) -> Trace:
    """BUSY, whose 50 µs inference the runner measured too, `count` times in each run; its enqueue in both, if given."""
    drawing = drawn(BUSY)
    schema = TABLES["benchmark"].schema
    rows = [
        {
            "run": run,
            "inference": number,
            "start_ns": round(number * every_us * 1000),
            "wall_ns": round(wall * 1000),
            "enqueue_ns": None if enqueue_us is None else round(enqueue_us[run == "timing"] * 1000),
            "compute_ns": 1000 * compute_us,
            "thread": 0,
            "stream": 0,
        }
        for run, wall in (("benchmark", untraced_us), ("timing", traced_us))
        for number in range(count)
    ]
    tables = {name: drawing.table(name) for name in TABLES if drawing.rows(name)}
    return Trace.from_tables({**tables, "benchmark": pa.Table.from_pylist(rows, schema)})


def test_an_untraced_run_takes_the_place_of_the_estimate() -> None:
    trace = with_benchmark(46, 50)
    wall = trace.table("inferences")["wall_ns"].to_pylist()[0]
    calibrated = Calibrated.of(trace)
    assert {float(one.wall[0]) for one in calibrated.accounting} == {wall - 4_000}
    # By the estimate the wall loses 2.5, at most 7 µs, of which 1 and 3 lie in the gap: a third of the way between.
    lost = [float((calibrated.gaps.length - left).sum()) for left in calibrated.left]
    assert lost == pytest.approx([1_000 + 2_000 / 3] * 3)
    assert calibrated.untraced is not None
    assert calibrated.untraced.source.startswith("measured by an untraced run of 20 inferences")


def test_what_tracing_cost_the_enqueue_is_what_an_untraced_run_says() -> None:
    """Two launches and a range are estimated at 2.5 µs and measured at 5: twice of each, in the rules too."""
    trace, alone = with_benchmark(46, 50, enqueue_us=(20, 25)), drawn(BUSY)
    calibrated = Calibrated.of(trace)
    assert calibrated.tracing.call.interval == (2_000, 2_000, 2_000)
    assert calibrated.tracing.range.interval == (1_000, 1_000, 1_000)
    assert calibrated.tracing.call.source == "measured by an untraced run of 20 inferences"
    # Of the host's time as much more is tracing's.
    assert calibrated.host_occupied == Calibrated.of(alone).host_occupied + 2_500 - 5_000


def test_what_a_graph_recovers_is_what_untraced_events_leave_between_kernels() -> None:
    trace = with_benchmark(46, 50, compute_us=40)
    (busy,) = trace.table("inferences")["compute_ns"].to_pylist()
    gain = Calibrated.of(trace).graph_gain
    assert gain.point == 40_000 - busy - 100  # one gap, of which 0.1 µs stays
    assert (gain.low, gain.high) == (0.75 * gain.point, 40_000 - busy)  # a quarter more would be more than all gaps
    several = with_benchmark(190, 250, enqueue_us=(21, 25), compute_us=40)
    assert Calibrated.of(several).idle_untraced is None  # their events time each other's kernels
    assert Calibrated.of(with_benchmark(46, 50, compute_us=1)).graph_gain.high == 0


def test_a_graph_recovers_no_more_than_the_untraced_run_leaves_idle() -> None:
    """Its work takes the GPU 4 µs; without the profiler 46 or about 21 µs pass for each inference."""
    alone = drawn(BUSY)
    assert Calibrated.of(alone).room is None
    traces = [with_benchmark(46, 50, compute_us=45, every_us=each) for each in (46, 20)]
    roomy, tight = map(Calibrated.of, traces)
    assert roomy.room == pytest.approx(46_000 - 4_000)
    left = (19 * 20 + 46) * 1000 / 20 - 4_000  # the last of 20 begins after 19 steps, and takes 46 µs
    assert tight.room == pytest.approx(left)
    assert tight.graph_gain.high == pytest.approx(left)
    assert roomy.graph_gain.high > left


def test_fus001_cannot_tell_where_inferences_fill_each_others_gaps() -> None:
    """With several in flight less time passes for one than the 4 µs that its work takes: there are no gaps then."""
    outcome = gaps_between_kernels.run(with_benchmark(190, 250, count=200, enqueue_us=(21, 25), every_us=2.5))
    assert outcome.status is Status.COULD_NOT_RUN
    assert "others fill the gaps" in outcome.reason
    slower = gaps_between_kernels.run(with_benchmark(190, 250, enqueue_us=(21, 25), every_us=100))
    assert slower.status is not Status.COULD_NOT_RUN


def test_threads_at_the_same_time_share_what_tracing_added() -> None:
    """Four inferences at a time take 4 µs longer each: time that passes is longer by 1 µs for each."""
    traces = with_benchmark(46, 50, count=200, every_us=11.5), with_benchmark(46, 50)
    together, alone = map(Calibrated.of, traces)
    assert together.untraced is not None
    assert together.untraced.at_a_time == pytest.approx(4, rel=0.1)
    assert together.untraced.added_elapsed.point == pytest.approx(1_000, rel=0.1)
    assert together.idle_untraced is None
    lost = [float((each.gaps.length - each.left[1]).sum()) for each in (together, alone)]
    assert 0 < lost[0] < lost[1]
    # Each one's own wall is longer by all of it.
    assert together.accounting[1].wall.tolist() == alone.accounting[1].wall.tolist()


def test_an_enqueue_that_was_no_faster_cost_nothing() -> None:
    trace = with_benchmark(46, 50, enqueue_us=(25, 25))
    assert Calibrated.of(trace).tracing.call.high == 0


def test_an_untraced_run_that_was_no_faster_takes_nothing_off() -> None:
    trace = with_benchmark(50, 50)
    assert {float(left.sum()) for left in Calibrated.of(trace).left} == {float(Calibrated.of(trace).gaps.length.sum())}


def test_a_few_untraced_inferences_say_nothing() -> None:
    assert Calibrated.of(with_benchmark(46, 50, count=9)).untraced is None


def test_with_several_in_flight_the_runners_wall_is_not_that_of_an_inference() -> None:
    """It holds the wait for the others: then tracing added to an inference what it added to its enqueue."""
    trace = with_benchmark(190, 250, enqueue_us=(21, 25))
    wall = trace.table("inferences")["wall_ns"].to_pylist()[0]
    assert {float(one.wall[0]) for one in Calibrated.of(trace).accounting} == {wall - 4_000}
    assert Calibrated.of(with_benchmark(190, 250)).untraced is None


@pytest.mark.parametrize(("every", "severity"), [(8.3, INFO), (8.5, WARNING)], ids=["9.8 % come back", "10.2 %"])
def test_fus001_weighs_no_more_than_the_untraced_run_leaves_idle(every: float, severity: Severity) -> None:
    """An inference's work takes the GPU 4 µs; without the profiler 4.5 or 4.7 µs more pass for it, of 46."""
    trace = with_benchmark(46, 50, count=200, every_us=every)
    finding = only(gaps_between_kernels, trace)
    room = (199 * every + 46) * 1000 / 200 - 4_000  # the last of 200 takes 46 µs
    assert (finding.recoverable_ns, finding.severity) == (round(room), severity)
