"""STR001's causes that lie in the order of launches: event waits, synchronizations, locks between threads."""

from __future__ import annotations

import pytest
from drawing import table
from drawn_trace import Case, drawn, only
from nsight_analyses.streams.str001_streams_that_do_not_overlap import streams_that_do_not_overlap

from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
LOW, MEDIUM = Confidence.LOW, Confidence.MEDIUM
WAIT = {"other_api": "cudaStreamWaitEvent"}
DEVICE = {"sync_api": "cudaDeviceSynchronize"}

EVENTS = """
    thread 1: LAlALAl..........
    stream 7: .####....####....
    stream 8: .....####....####
"""
"""Work waits for the other stream: of 8 for 2 µs and 4 µs ([3, 5) and [9, 13)), of 7 for 4 µs ([5, 9))."""

ONE_INFERENCE = """
    nvtx 1:   [i..................]
    thread 1: LAl.SSSSSSSSSSSSSS...
    stream 7: .####...............
    stream 8: .....####...........
"""
"""An auxiliary stream of the inference works on what the first has made."""
WAITS_FOR_EACH = """
    thread 1: LSSSSSlSSSSSLSSSSSlSSSSS
    stream 7: .####.......####........
    stream 8: .......####.......####.
"""
"""The host waits while the stream that it launched for runs, before it launches for the other: 4, 4 and 3 µs."""

TAKING_TURNS = """
    nvtx 1:   [i.......][i.......][i.......]......
    nvtx 2:   .....[i.......][i.......][i.......].
    thread 1: LLLL......LLLL......LLLL...........
    thread 2: .....LLLL......LLLL......LLLL......
    stream 7: ....##........##........##.........
    stream 8: .........##........##........##....
"""
"""Each launches for 4 µs, a microsecond after the other has done."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "event waits",
            EVENTS,
            WARNING,
            10,
            {"launched work waits for another stream": 10},
            MEDIUM,
            "event waits: for 10.0 µs of 10.0 µs the waiting work was launched behind a cudaStreamWaitEvent",
            WAIT,
        ),
        Case("events that are recorded make nothing wait", EVENTS, WARNING, 10, {}, LOW, "could not be told"),
        Case("before one of two: 4 of 9 µs", EVENTS.replace("LAlALAl", "Ll.LAl."), WARNING, 11, {}, LOW, options=WAIT),
        Case(
            "event waits within an inference are dependencies",
            ONE_INFERENCE,
            INFO,
            0,
            {"launched work waits for another stream": 2},
            MEDIUM,
            "event waits within inferences: work waits for other streams' work of its own inference for 2.00 µs",
            WAIT,
        ),
        Case("without them the wait has no reason", ONE_INFERENCE, INFO, 2, {}, LOW, "could not be told"),
        Case(
            "a synchronization between the inferences of such streams",
            """
            thread 1: LAl.SSSSSSLAl.SSSSSS
            stream 7: .####......####.....
            stream 8: .....####......####.
            """,
            WARNING,
            # the host waits while [4, 9) runs, and until 5 the kernel waits for the copy
            4,
            {"launched work waits for another stream": 4, "host waits between streams": 4},
            MEDIUM,
            "the host synchronizes between one stream's launches and the next one's: cudaStreamSynchronize (1)",
            {"other_api": "cudaEventRecord"},
        ),
        Case(
            "a device-wide synchronization",
            WAITS_FOR_EACH,
            WARNING,
            # of the 11 µs no more than one stream's 8 µs can run beside the other's
            8,
            {"host waits between streams": 11, "launched work waits for another stream": 0},
            MEDIUM,
            "one's, device-wide: cudaDeviceSynchronize (3); for 11.0 µs it waits while one stream runs",
            DEVICE,
        ),
        Case(
            "synchronizations after both are launched keep nothing apart",
            """
            thread 1: LlSSSSSSSSSSSLlSSSSSSSSSSS
            stream 7: ..####.......####.........
            stream 8: ......####.......####.....
            """,
            WARNING,
            6,
            {},
            LOW,
            "could not be told",
            DEVICE,
        ),
        Case(
            "threads that wait for their own stream",
            """
            thread 1: LLLLSS....LLLLSS....
            thread 2: .....LLLLSS....LLLLSS
            stream 7: ....##........##....
            stream 8: .........##........##
            """,
            INFO,
            0,
            {},
            MEDIUM,
            "the host is the limit, not the streams: 2 host threads launch for all of them",
        ),
        Case(
            "a lock between threads",
            TAKING_TURNS,
            WARNING,
            # 24 µs of launching, 12 µs by each
            12,
            {
                "launch phases that take over from another thread's": 4 / 6,
                "ready threads wait for another's phase": 16,
            },
            MEDIUM,
            "a lock between the launching threads: 2 host threads launch, never two at once (0 % of the time)",
        ),
        Case(
            "one of them waits for its result meanwhile",
            TAKING_TURNS.replace("LLLL......LLLL......LLLL......\n", "LLLLSSSSSSLLLLSSSSSSLLLL......\n"),
            INFO,
            0,
            says="2 host threads launch for all of them",
        ),
        Case(
            "launches at the same time",
            TAKING_TURNS.replace("thread 2: .....LLLL......LLLL......LLLL", "thread 2: ...LLLLLL....LLLLLL....LLLLLL"),
            INFO,
            0,
            says="2 host threads launch for all of them",
        ),
        Case(
            "twice may be chance",
            """
            nvtx 1:   [i.......][i.......]......
            nvtx 2:   .....[i.......][i.......].
            thread 1: LLLL......LLLL...........
            thread 2: .....LLLL......LLLL......
            stream 7: ....##........##.........
            stream 8: .........##........##....
            """,
            INFO,
            0,
            says="2 host threads launch for all of them",
        ),
    ],
    ids=str,
)
def test_causes(case: Case) -> None:
    case.check(streams_that_do_not_overlap)


@pytest.mark.parametrize(("microseconds", "lock"), [(20, True), (21, False)])
def test_a_thread_takes_over_a_lock_within_20_us(microseconds: int, lock: bool) -> None:
    gap = "." * microseconds
    turn, rest = f"LLLL{gap}....{gap}", f"....{gap}LLLL{gap}"
    nvtx = "[i" + "." * (len(turn) - 3) + "]"
    trace = drawn(f"""
        nvtx 1:   {nvtx * 3}
        nvtx 2:   ....{gap}{nvtx * 3}
        thread 1: {turn * 3}
        thread 2: {rest * 3}
        stream 7: ....{f"##{gap}......{gap[2:]}" * 3}
        stream 8: ....{gap}....{f"##{gap}......{gap[2:]}" * 3}
    """)
    assert ("a lock between" in only(streams_that_do_not_overlap, trace).cause) == lock


ANOTHERS_ENDS_LAST = """
    nvtx 1:   [i............]
    nvtx 2:   [i............]
    thread 1: LAalSSSSSSSSSS.
    thread 2: L...SSSSSSSSSS.
    stream 7: ..####.........
    stream 8: ........####...
    stream 9: ......##.......
"""
"""The work of 8 waits for that of 7, of its own inference; what ends last before it starts is another's."""


@pytest.mark.parametrize(("recorded", "cause"), [(True, "event waits within inferences"), (False, "event waits: for")])
def test_an_events_record_says_whose_work_is_waited_for(recorded: bool, cause: str) -> None:
    options = {"other_api": ["cudaEventRecord", "cudaStreamWaitEvent"], "events": [(1, 7), (1, 8)]}
    options |= {"kernel_calls": [0, 1, 2]}
    tables = {} if recorded else {"event_records": table("event_records", [])}
    assert only(streams_that_do_not_overlap, drawn(ANOTHERS_ENDS_LAST, tables=tables, **options)).cause.startswith(
        cause
    )


@pytest.mark.parametrize(("stream", "cause"), [(8, "event waits: for 6.00 µs of 10.0 µs"), (9, "could not be told")])
def test_recorded_event_waits_say_which_stream_waits(stream: int, cause: str) -> None:
    waits = [
        {"start_ns": at, "end_ns": at + 500, "context": 1, "pid": 1000, "stream": stream, "kind": "stream_wait"}
        for at in (1200, 5200)
    ]
    trace = drawn(EVENTS, tables={"synchronizations": table("synchronizations", waits)}, **WAIT)
    assert only(streams_that_do_not_overlap, trace).cause.startswith(cause)
