"""STR006: streams of one enqueue, what their kernels overlap, and what they wait for each other."""

from __future__ import annotations

import re

import numpy as np
import pytest
from drawing import US
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.streams.str006_auxiliary_streams import auxiliary_streams
from nsight_analyses.streams.within_enqueues import parallel, reach

from nsight_tools.analysis import Status
from nsight_tools.findings import Change, Confidence, Severity
from nsight_tools.run import Run
from nsight_tools.worth import Pricing

WARNING, INFO = Severity.WARNING, Severity.INFO
MEDIUM, LOW = Confidence.MEDIUM, Confidence.LOW


def launched(seven: str, eight: str, thread: str = "LlLlLlL..", enqueue: str = "[e........]") -> str:
    """One inference, whose one enqueue launches kernels on two streams."""
    length = max(len(seven), len(eight))
    return f"""
        nvtx 1:          [i{"." * (length - 3)}]
        nvtx 1 TensorRT: {enqueue}
        thread 1:        {thread}
        stream 7:        {seven}
        stream 8:        {eight}
    """


TAKE_TURNS = launched(
    "..........########......%%%%%%%%....",
    "....................##............##",
)
"""Each kernel but the first waits for the other stream: 2, 2 and 2 µs, of which 1 µs is usual."""
OVERLAP = launched(
    "..........########.#####################",
    "..........########......................",
)


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "they overlap and nothing waits",
            OVERLAP,
            INFO,
            None,
            {
                "kernels of an enqueue overlap": 8,
                "kernels that start beside another of their enqueue": 1,
                "idle while a stream waits for another": 0,
                "idle while the host orders streams": 0,
                "streams of an enqueue": 2,
            },
            MEDIUM,
            "keep the auxiliary streams, or build without them and measure both",
        ),
        Case(
            "they wait and nothing overlaps",
            TAKE_TURNS,
            WARNING,
            1 + 1 + 1,
            {"kernels of an enqueue overlap": 0, "idle while a stream waits for another": 3},
            MEDIUM,
            "build without auxiliary streams",
        ),
        Case(
            "a kernel that waits for its own stream waits for no other",
            launched("..........####..........####", "..........####"),
            INFO,
            None,
            {"kernels of an enqueue overlap": 4, "idle while a stream waits for another": 0},
        ),
        Case(
            "a kernel that was launched too late waits for the host, which ordered nothing",
            launched(
                "..........####............####",
                "..............####............",
                "Ll.....................L",
                f"[e{'.' * 26}]",
            ),
        ),
        Case(
            "the GPU works for another program while they wait",
            TAKE_TURNS + "    stream 9 pid 2:  ..................##..%%........##",
        ),
        Case("one stream", launched("..........####.####.####", ""), applies=False),
        Case(
            "the other stream only copies",
            launched("..........####.####.####", "..........====", "LlLlC"),
            applies=False,
        ),
        Case(
            "two enqueues, each on a stream of its own",
            launched("..........####....", "..............####", "L......L..", "[e..][e..]"),
            applies=False,
        ),
        Case(
            "two inferences in flight, each on a stream of its own",
            """
            nvtx 1:          [i..........]..............
            nvtx 1 TensorRT: [e..]......................
            thread 1:        LlLl......SS..............
            stream 7:        .........####....####.....
            nvtx 2:          [i..............].........
            nvtx 2 TensorRT: [e..].....................
            thread 2:        LlLl.......SSSS...........
            stream 8:        ............####....####..
            """,
            applies=False,
        ),
        Case(
            "an enqueue on two GPUs",
            """
            nvtx 1:            [i................]
            nvtx 1 TensorRT:   [e..]
            thread 1:          Ll..
            stream 7:          ....####
            stream 8 device 1: ..........####
            """,
            applies=False,
        ),
        Case(
            "no TensorRT",
            TAKE_TURNS.replace("nvtx 1 TensorRT: [e........]", ""),
            applies=False,
        ),
    ],
    ids=str,
)
def test_verdicts(case: Case) -> None:
    case.check(auxiliary_streams)


def waiting(waits: int, overlap: int, length: int) -> str:
    """Kernels that overlap for so long, so many µs of waiting beyond a usual gap, and a kernel until the end."""
    again = 10 + overlap + 1 + waits + 1
    return launched(
        "." * 10 + "#" * overlap + "." * (again - 10 - overlap) + "%" * (length - again),
        "." * 10 + "#" * (overlap + 1),
        "lLl" if overlap else "lL",
        "[e.]",
    )


@pytest.mark.parametrize(("length", "found"), [(199, True), (200, True), (201, False)])
def test_overlap_of_less_than_2_5_percent_is_nothing_to_speak_of(length: int, found: bool) -> None:
    outcome = auxiliary_streams.run(drawn(waiting(0, 5, length)))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("length", "found"), [(400, True), (401, False)])
def test_waits_of_less_than_2_5_percent_are_nothing_to_speak_of(length: int, found: bool) -> None:
    outcome = auxiliary_streams.run(drawn(waiting(10, 0, length)))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(("length", "severity"), [(200, WARNING), (201, INFO)])
def test_a_warning_from_5_percent_of_the_time_on(length: int, severity: Severity) -> None:
    finding = only(auxiliary_streams, drawn(waiting(10, 0, length)))
    assert (finding.severity, finding.recoverable_ns) == (severity, 10 * US)
    assert finding.change == (Change("max_aux_streams", 0),)


@pytest.mark.parametrize(
    ("overlap", "change", "confidence"),
    [
        pytest.param(
            4, (Change("max_aux_streams", 0),), MEDIUM, id="10 µs of waits, 4 of overlap and a gap: by 5 of 200"
        ),
        pytest.param(5, (), LOW, id="by 4 µs"),
        pytest.param(13, (), LOW, id="4 µs more than the waits"),
        pytest.param(14, (), MEDIUM, id="5 µs more"),
    ],
)
def test_waits_are_held_against_what_one_stream_could_take_longer(
    overlap: int, change: tuple[Change, ...], confidence: Confidence
) -> None:
    finding = only(auxiliary_streams, drawn(waiting(10, overlap, 200)))
    assert (finding.change, finding.confidence) == (change, confidence)
    assert (finding.recoverable_ns is None) == (not change)


ORDERED = """
    nvtx 1:          [i........................................]
    nvtx 1 TensorRT: [e...........................]
    thread 1:        LLLL..AAAAAAAAaaaaaaaaaallll
    stream 7:        ....####
    stream 8:        ..............................############
"""


@pytest.mark.parametrize(
    ("calls", "of_it"),
    [
        pytest.param(["cudaEventRecord", "cudaStreamWaitEvent"], 18 * 0.55, id="of both 45 % are likely tracing"),
        pytest.param(["cudaEventRecord", "cudaFuncGetAttributes"], 8 * 0.55, id="one orders no streams"),
        pytest.param(["cudaFuncGetAttributes"] * 2, 0, id="none does"),
    ],
)
def test_the_host_orders_streams_while_the_gpu_is_idle(calls: list[str], of_it: float) -> None:
    """22 µs of idle time, of which tracing made 12.1 of the 21 beyond a usual gap."""
    trace = drawn(ORDERED, other_api=calls)
    found = parallel(Run.of(trace))
    assert found is not None
    left = 1 - Pricing.of(trace).shorter.point / 21_000
    assert found.called.tolist() == [0, int(of_it * US * left)]
    assert found.behind.tolist() == [0, 0]


def test_what_the_host_costs_is_named() -> None:
    """Of 18 µs of calls 45 % are likely tracing; of the 21 that the launch is late a launch's 3 µs and 4.5 of calls."""
    finding = only(auxiliary_streams, drawn(ORDERED, other_api=["cudaEventRecord", "cudaStreamWaitEvent"]))
    assert evidence_of(finding, "idle while the host orders streams").value == finding.recoverable_ns == 6_364
    assert finding.loss is not None
    assert finding.loss.of_host


@pytest.mark.parametrize(("waits", "counted"), [(49, 49), (50, 0)])
def test_a_hole_is_no_wait_between_streams(waits: int, counted: int) -> None:
    trace = drawn(waiting(waits, 0, 200))
    found = parallel(Run.of(trace))
    assert found is not None
    assert found.behind.tolist() == [0, counted * US]


def test_gaps_and_streams_that_take_turns_follow_from_it() -> None:
    assert only(auxiliary_streams, drawn(TAKE_TURNS)).explains == ("gaps", "stream overlap")
    others = TAKE_TURNS + "    stream 9:        ##"
    kernels = [0, 1, 2, 3]
    assert only(auxiliary_streams, drawn(others, kernel_calls=[None, *kernels])).explains == ("gaps",)


def test_a_graph_of_several_branches() -> None:
    picture = """
        nvtx 1:          [i..............................]
        nvtx 1 TensorRT: [e..]
        thread 1:        G...
        stream 7:        ....nnnn......nnnn....
        stream 8:        ....nnn...mm..........
    """
    trace = drawn(picture)
    found = parallel(Run.of(trace))
    assert found is not None
    assert (found.overlap_ns, found.behind.sum(), found.called.sum()) == (3 * US, 2 * US, 0)


UNMARKED = TAKE_TURNS.replace("nvtx 1 TensorRT: [e........]", "")


def test_an_inference_of_our_own_capture_is_one_enqueue() -> None:
    trace = drawn(UNMARKED)
    trace.manifest["run"] = {"model": {"name": "model.engine"}}
    assert only(auxiliary_streams, trace).recoverable_ns == 3 * US


def test_without_marks_nobody_knows_which_enqueue_launched_what() -> None:
    trace = drawn(UNMARKED)
    trace.manifest["system"] = {"tensorrt": "10.8"}
    outcome = auxiliary_streams.run(trace)
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.endswith("no enqueue is marked that launched them; trace NVTX")


def test_enqueues_at_once_are_measured_apart() -> None:
    """Against a plain loop: of any kernels, enqueue by enqueue."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        start = np.sort(rng.integers(0, 200, count))
        end, lane = start + rng.integers(1, 30, count), rng.integers(0, 4, count)
        order = np.lexsort((start, lane))
        start, end, lane = start[order], end[order], lane[order]
        expected = [
            max((int(end[before]) for before in range(row) if lane[before] == lane[row]), default=int(start[row]))
            for row in range(count)
        ]
        assert reach(lane, start, end).tolist() == expected


def test_overlap_is_that_of_the_pictures() -> None:
    """Against the characters of random pictures: time in which both streams run, of two inferences at once."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        rows = ["".join(rng.choice(["####", "..", "%%%"], 12)) for _ in range(2)]
        lines, begun = [], []
        for tid, late in ((1, 12), (2, 15)):
            lines += [f"nvtx {tid}:          [i{'.' * 60}]", f"nvtx {tid} TensorRT: [e]", f"thread {tid}:        L"]
            for at, row in enumerate(rows):
                lines.append(f"stream {tid}{at}:       {'.' * late}{row}")
                kernels = re.finditer("#+|%+", row)
                begun += [(late + one.start(), -late - one.end(), 10 * tid + at, tid - 1) for one in kernels]
        trace = drawn("\n".join(lines), kernel_calls=[call for *_, call in sorted(begun)])
        found = parallel(Run.of(trace))
        assert found is not None
        both = sum(a != "." and b != "." for a, b in zip(*rows, strict=False))
        assert (found.overlap_ns, len(found.work)) == (2 * both * US, len(begun))
