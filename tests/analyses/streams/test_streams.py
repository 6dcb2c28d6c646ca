"""STR001: streams that do not overlap, and each cause by itself."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.streams.str001_streams_that_do_not_overlap import streams_that_do_not_overlap

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
LOW, MEDIUM = Confidence.LOW, Confidence.MEDIUM

GPU = {
    "sm_count": 100,
    "max_warps_per_sm": 64,
    "max_blocks_per_sm": 32,
    "max_registers_per_sm": 65536,
    "max_shared_memory_per_sm_bytes": 100_000,
}
FILLS = 1600
"""Blocks that 100 SMs hold at once: 4 warps of 32 registers each, so that 16 fit into 64 warps and 65,536 registers."""

IN_TURNS = """
    nvtx 1:   [i..............]
    thread 1: LlLl......SSSSSS.
    stream 7: .####....####....
    stream 8: .....####....####
"""
TAKING_TURNS = """
    thread 1: LlLl.............
    stream 7: .####....####....
    stream 8: .....####....####
"""
"""Work waits for the other stream: of 8 for 3 µs and 4 µs ([2, 5) and [9, 13)), of 7 for 4 µs ([5, 9))."""

COPIES_TAKING_TURNS = """
    thread 1: CcCc.............
    stream 7: .>>>>....>>>>....
    stream 8: .....>>>>....>>>>
"""
AS_LAUNCHED = """
    thread 1: LLLLL.LLL.LLLLL.LLL.
    stream 7: .....###......###...
    stream 8: .........###......##
"""
"""The second begins as its call returns: nothing ever waits."""

PIPELINE = """
    nvtx 1:   [i............][i............]
    thread 1: CLc.SSSSSSSSSSSCLc.SSSSSSSSSSS
    stream 7: .>>>>..........>>>>...........
    stream 8: .....####...........####......
    stream 9: .........<<<<...........<<<<..
"""
"""A stream for each direction and one that computes, as trtexec has them: each waits for the one before it."""

UNKNOWN = Case(
    "nothing that the trace shows",
    TAKING_TURNS,
    WARNING,
    3 + 4 + 4,
    {
        "overlap": 0.0,
        "streams": 2,
        "launched work waits for another stream": 11,
        "busy, stream 7": 8,
        "busy, stream 8": 8,
        "longest wait": 11,
    },
    LOW,
    "could not be told from this trace",
)


@pytest.mark.parametrize(
    "case",
    [
        UNKNOWN,
        Case(
            "the host: work starts as soon as it is launched",
            AS_LAUNCHED,
            INFO,
            0,
            {"launched work waits for another stream": 0},
            MEDIUM,
            "the host is the limit, not the streams: one host thread launches for all of them",
        ),
        Case(
            "the host: two threads",
            AS_LAUNCHED.replace("LLLLL.LLL.LLLLL.LLL.", "LLLLL.....LLLLL.....") + "    thread 2: ......LLL.......LLL.",
            INFO,
            0,
            says="2 host threads launch",
        ),
        Case(
            "the host: the thread that launches is never free",
            """
            nvtx 1:   [i....................]
            thread 1: LlLl...................
            stream 7: .####....####..........
            stream 8: .....####....####......
            """,
            INFO,
            0,
            {"launched work waits for another stream": 11},
            MEDIUM,
            "the host is the limit",
        ),
        Case(
            "the profiler: 0.53 µs of each launch and 0.8 of each range, 11.4 of the host's 36; the GPU works 32",
            """
            nvtx 1:          [i.................................].
            nvtx 1 TensorRT: [a.][b.][c.][d.][e.][f.][g.][h.]....
            thread 1:        LLLLllllLLLLllllLLLLllllLLLLllll....
            stream 7:        ....####....####....####....####....
            stream 8:        ........####....####....####....####
            """,
            INFO,
            0,
            {"launched work waits for another stream": 0},
            LOW,
            "the profiler makes the host the limit here: one host thread launches for all of them",
        ),
        Case(
            "the host: no more to be gained than it leaves free, 17 µs less 11, where tracing takes 0.8 µs of both",
            IN_TURNS,
            WARNING,
            6,
            {"launched work waits for another stream": 11},
            LOW,
        ),
        Case(
            "the legacy default stream, and the host as the next limit",
            IN_TURNS,
            WARNING,
            6,
            {"launched work waits for another stream": 11},
            MEDIUM,
            "(11.0 µs of 11.0 µs of the waiting); the busiest launching thread, occupied for 63 % of the time",
            {"stream_kinds": {7: "legacy_default", 8: "blocking"}},
        ),
        Case(
            "kernels that fill the GPU",
            TAKING_TURNS,
            INFO,
            0,
            {"launched work waits for another stream": 11},
            MEDIUM,
            "kernels that fill the GPU: for 11.0 µs of 11.0 µs",
            {"gpu": GPU, "grid": FILLS},
        ),
        Case(
            "one block less and they do not",
            TAKING_TURNS,
            WARNING,
            11,
            {},
            LOW,
            options={"gpu": GPU, "grid": FILLS - 1},
        ),
        Case("of a GPU that is not described", TAKING_TURNS, WARNING, 11, {}, LOW, options={"grid": FILLS}),
        Case(
            "some fill the GPU, which explains most: the rest can be gained",
            TAKING_TURNS,
            WARNING,
            11 - 3 - 4,
            {},
            MEDIUM,
            "kernels that fill the GPU: for 7.00 µs of 11.0 µs",
            {"gpu": GPU, "grid": [FILLS, 1, FILLS, 1]},
        ),
        Case(
            "one fills the GPU, which explains less than half",
            TAKING_TURNS,
            WARNING,
            11,
            {},
            LOW,
            "could not be told",
            {"gpu": GPU, "grid": [1, FILLS, 1, 1]},
        ),
        Case(
            "a copy engine",
            COPIES_TAKING_TURNS,
            INFO,
            0,
            {"launched work waits for another stream": 11},
            MEDIUM,
            "copies in one direction share a copy engine and the link: for 11.0 µs of 11.0 µs",
        ),
        Case(
            "a copy engine for the other direction",
            COPIES_TAKING_TURNS.replace(">", "<"),
            INFO,
            0,
            {},
            MEDIUM,
            "copies in one direction share a copy engine and the link: for 11.0 µs of 11.0 µs",
        ),
        Case(
            "copies in two directions share none",
            COPIES_TAKING_TURNS.replace("stream 8: .....>>>>....>>>>", "stream 8: .....<<<<....<<<<"),
            WARNING,
            11,
            {},
            LOW,
        ),
        Case(
            "the legacy default stream",
            TAKING_TURNS,
            WARNING,
            11,
            {},
            MEDIUM,
            "stream 7 carries work: it and every blocking stream wait for each other (11.0 µs of 11.0 µs",
            {"stream_kinds": {7: "legacy_default", 8: "blocking"}},
        ),
        Case(
            "the legacy default stream, but the host is slower",
            AS_LAUNCHED,
            INFO,
            0,
            {},
            MEDIUM,
            "Some of it runs on the legacy default stream, which would serialize it if the host were faster.",
            {"stream_kinds": {7: "legacy_default"}},
        ),
        Case(
            "blocking streams are no cause by themselves",
            TAKING_TURNS,
            WARNING,
            11,
            {},
            LOW,
            options={"stream_kinds": {7: "blocking", 8: "blocking"}},
        ),
    ],
    ids=str,
)
def test_causes(case: Case) -> None:
    case.check(streams_that_do_not_overlap)


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "one stream",
            """
            thread 1: LlLl.............
            stream 7: .####%%%%####%%%%
            """,
            applies=False,
        ),
        Case("a pipeline of three streams, as trtexec's", PIPELINE),
        Case("a pipeline of graphs", PIPELINE.replace("#", "g").replace("L", "G")),
        Case(
            "a second stream that computes",
            PIPELINE.replace("CLc", "CLl").replace("<", "%"),
            WARNING,
            13,
            {"launched work waits for another stream": 13, "streams": 3},
            LOW,
        ),
        Case(
            "a pipeline whose kernels run on the legacy default stream",
            PIPELINE,
            WARNING,
            13,
            {},
            MEDIUM,
            "the legacy default stream 8 carries work",
            {"stream_kinds": {8: "legacy_default"}},
        ),
        Case(
            "two that overlap",
            """
            thread 1: Ll...............
            stream 7: ..########.......
            stream 8: ..########.......
            """,
        ),
        Case(
            "5 % of the busy time is spent together",
            """
            thread 1: Ll...................
            stream 7: ..##########..........
            stream 8: ...........###########
            """,
        ),
        Case(
            "less",
            """
            thread 1: Ll....................
            stream 7: ..##########...........
            stream 8: ...........############
            """,
            WARNING,
            9,
            {"overlap": 1 / 21},
            LOW,
        ),
        Case(
            "what waits for its own stream waits for no other",
            """
            thread 1: LlL........................
            stream 7: ..##########...........####
            stream 8: ...........############....
            """,
            WARNING,
            9 + 11,
            {"overlap": 1 / 25},
            LOW,
        ),
        Case(
            "of two processes",
            """
            thread 1 pid 1: Ll...............
            stream 7 pid 1: .####....####....
            thread 1 pid 2: Ll...............
            stream 8 pid 2: .....####....####
            """,
            applies=False,
        ),
        Case(
            "on two GPUs",
            """
            thread 1:          LlLl.............
            stream 7:          .####....####....
            stream 8 device 1: .....####....####
            """,
            applies=False,
        ),
    ],
    ids=str,
)
def test_streams_that_take_turns_or_not(case: Case) -> None:
    case.check(streams_that_do_not_overlap)


@pytest.mark.parametrize(("length", "counts"), [(100, False), (99, True)])
def test_a_stream_counts_from_1_percent_of_the_busy_time_on(length: int, counts: bool) -> None:
    trace = drawn(f"""
        thread 1: Ll
        stream 7: ..{"#" * length}
        stream 8: ..{"." * length}#
    """)
    found = streams_that_do_not_overlap.run(trace).status == Status.FINDINGS
    assert found == counts


def test_only_what_runs_inside_of_inferences() -> None:
    warm_up = """
        nvtx 1:   .................[i...]
        thread 1: LlLl.............L.....
        stream 7: .####....####.....###..
        stream 8: .....####....####......
    """
    assert streams_that_do_not_overlap.run(drawn(warm_up)).status == Status.CLEAR


def test_evidence_points_at_the_longest_waits() -> None:
    finding = only(streams_that_do_not_overlap, drawn(TAKING_TURNS, stream_kinds={7: "legacy_default"}))
    waits = [(e.start_ns, e.end_ns) for e in finding.evidence if e.metric == "longest wait"]
    assert waits == [(2000, 13000)]
    busy = evidence_of(finding, "busy, stream 8")
    assert (busy.start_ns, busy.end_ns) == (5000, 17000)
    assert evidence_of(finding, "streams").detail == "7 (legacy default), 8"
    assert finding.recoverable_ns_per_inference is None


@pytest.mark.parametrize("table", ["kernels", "api_calls"])
def test_without_kernels_or_calls_it_cannot_run(table: str) -> None:
    outcome = streams_that_do_not_overlap.run(drawn(TAKING_TURNS, missing={table: "not traced"}))
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "not traced")


@pytest.mark.parametrize(("kinds", "explains"), [({7: "legacy_default", 8: "blocking"}, ("default stream",)), ({}, ())])
def test_streams_that_the_default_stream_serializes_are_one_cause(
    kinds: dict[int, str], explains: tuple[str, ...]
) -> None:
    assert only(streams_that_do_not_overlap, drawn(TAKING_TURNS, stream_kinds=kinds)).explains == explains


def followed_by(length: int) -> str:
    """Streams that take turns, 11 µs of waiting, and a kernel after them that makes the whole so many µs long."""
    return f"""
        thread 1: LlLl.............L
        stream 7: .####....####.....{"%" * (length - 17)}
        stream 8: .....####....####
    """


@pytest.mark.parametrize(("length", "severity"), [(110, WARNING), (111, INFO)])
def test_a_warning_from_10_percent_of_the_time_on(length: int, severity: Severity) -> None:
    assert only(streams_that_do_not_overlap, drawn(followed_by(length))).severity == severity


@pytest.mark.parametrize(("length", "waits"), [(220, True), (221, False)])
def test_waiting_of_less_than_5_percent_leaves_nothing_to_gain(length: int, waits: bool) -> None:
    finding = only(streams_that_do_not_overlap, drawn(followed_by(length)))
    assert (finding.recoverable_ns == 11_000) == waits
    assert ("could not be told" in finding.cause) == waits


@pytest.mark.parametrize(("last", "explained"), [(47, True), (48, False)])
def test_a_cause_explains_half_of_the_waiting(last: int, explained: bool) -> None:
    """50 µs behind a kernel that fills the GPU, and 3 + 47 (or 48) behind others."""
    text = f"""
        thread 1: LlLl
        stream 7: .####{"." * 50}{"#" * last}
        stream 8: .....{"#" * 50}{"." * last}#
    """
    finding = only(streams_that_do_not_overlap, drawn(text, gpu=GPU, grid=[1, FILLS, 1, 1]))
    assert finding.cause.startswith("kernels that fill the GPU" if explained else "could not be told")
