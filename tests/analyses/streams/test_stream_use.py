"""STR002 work on the default stream, STR004 streams whose enqueues failed."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.capture.cap001_fit_to_conclude_from import fit_to_conclude_from
from nsight_analyses.streams.str001_streams_that_do_not_overlap import streams_that_do_not_overlap
from nsight_analyses.streams.str002_work_on_the_default_stream import work_on_the_default_stream
from nsight_analyses.streams.str004_streams_without_work import streams_without_work
from nsight_analyses.transfers.pci004_transfer_bound import transfer_bound

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
MAY_BE_TENSORRT = {"kernel_names": "sm80_xmma_gemm"}
NULL = {"stream_kinds": {7: "legacy_default", 8: "non_blocking"}} | MAY_BE_TENSORRT

PLAIN = """
    nvtx 1:   [i........][i........]
    thread 1: L.l.....SS.L.l.....SS.
    stream 7: ..##%%.......##%%.....
"""
SYNCHRONIZED = """
    nvtx 1:          [i................]
    nvtx 1 TensorRT: [e....]............
    thread 1:        LSSSS.L......SSS...
    stream 7:        .##......##........
"""
"""4 µs of synchronizing in the enqueue, for 2 of which the kernel runs; 19 µs in all."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "nothing synchronizes between the launches: it costs nothing",
            PLAIN,
            INFO,
            0,
            {
                "kernels on the default stream": 4,
                "share of the inferences' kernels": 1.0,
                "synchronizations": 0,
            },
            Confidence.MEDIUM,
            "4 of 4 kernels of inferences run on the legacy default stream (7); the host never synchronizes between",
            NULL,
        ),
        Case(
            "a synchronization in the enqueue",
            SYNCHRONIZED,
            WARNING,
            2,
            {"synchronizations": 1, "longest of them": 4},
            Confidence.HIGH,
            "synchronizations of the host inside of its enqueues: 1",
            NULL,
        ),
        Case(
            "without TensorRT's ranges nobody knows whose it is",
            SYNCHRONIZED.replace("[e....]", "......."),
            INFO,
            None,
            {"synchronizations": 1},
            Confidence.MEDIUM,
            "synchronizations of the host between the first and the last launch of an inference: 1",
            NULL,
        ),
        Case(
            "after the enqueue",
            SYNCHRONIZED.replace("LSSSS.L......SSS", "L..L...SSSSSSSSS"),
            INFO,
            0,
            {"synchronizations": 0},
            says="the host never synchronizes inside of its enqueues",
            options=NULL,
        ),
        Case("10 % of the time", SYNCHRONIZED.replace("[i.", "[i.."), WARNING, 2, options=NULL),
        Case("less", SYNCHRONIZED.replace("[i.", "[i..."), INFO, 2, options=NULL),
        Case("whole graphs", PLAIN.replace("##%%", "gggg").replace("l", ".").replace("L", "G"), INFO, 0, options=NULL),
        Case("a stream of its own", PLAIN, options=MAY_BE_TENSORRT | {"stream_kinds": {7: "non_blocking"}}),
        Case("a blocking stream", PLAIN, options=MAY_BE_TENSORRT | {"stream_kinds": {7: "blocking"}}),
        Case(
            "a framework, which works there by design",
            PLAIN,
            options=NULL | {"kernel_names": "at::native::add"},
            applies=False,
        ),
        Case("a program of its own kernels", PLAIN, options=NULL | {"kernel_names": "stencil"}, applies=False),
        Case(
            "TensorRT within a framework",
            SYNCHRONIZED,
            WARNING,
            2,
            options=NULL | {"kernel_names": "at::native::add"},
        ),
        Case("copies alone", PLAIN.replace("7", "8") + "    stream 7: >>", options=NULL),
    ],
    ids=str,
)
def test_str002(case: Case) -> None:
    case.check(work_on_the_default_stream)


@pytest.mark.parametrize(("kernels", "found"), [(99, True), (100, False)])
def test_str002_from_1_percent_of_the_kernels_on(kernels: int, found: bool) -> None:
    trace = drawn(
        f"""
        nvtx 1:   [i.{".." * kernels}...]
        thread 1: {"Ll" * (kernels // 2)}{"L" * (kernels % 2)}{"l" if kernels % 2 else "L"}
        stream 7: #
        stream 8: .{"#%" * (kernels // 2)}{"#" * (kernels % 2)}
        """,
        **NULL,
    )
    assert (work_on_the_default_stream.run(trace).status == Status.FINDINGS) == found


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (PLAIN, MAY_BE_TENSORRT, "the report does not say which stream is the default one"),
        ("thread 1: L\nstream 7: .#", NULL, "no inference is marked; name their NVTX ranges with --inference-range"),
        ("thread 1: L", {"missing": {"kernels": "lost"}}, "lost"),
    ],
)
def test_str002_says_what_it_cannot_tell(text: str, options: dict[str, object], reason: str) -> None:
    outcome = work_on_the_default_stream.run(drawn(text, **options))
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, reason)


FAILED = """
    nvtx 1:   [i.......][i.......][i.......]
    thread 1: CLc.......Cc.......CLc.......
    stream 7: .>##<..............>##<......
    stream 8: ...........>.<..............
"""
"""The second of three inferences copies on stream 8 and launches nothing."""
DESIGNED = """
    nvtx 1:   [i........][i........]
    thread 1: C.L.c......C.L.c......
    stream 7: .>..........>.........
    stream 8: ...##.........##......
    stream 9: .....<..........<.....
"""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "one of two streams",
            FAILED,
            ERROR,
            None,
            {"streams without kernels": 1, "inferences without GPU work": 1, "first of them": 10},
            Confidence.HIGH,
            "1 of 2 streams carry copies and no kernel: 1 of 3 inferences launched nothing",
        ),
        Case("dedicated streams for copies, as in trtexec", DESIGNED),
        Case("all on one stream: CAP001 tells", FAILED.replace("8", "7")),
        Case("uploads alone", FAILED.replace("stream 8: ...........>.<", "stream 8: ...........>.}")),
        Case("no inference worked: nothing to hold it against", FAILED.replace("##", "..").replace("L", ".")),
        Case("whole graphs", DESIGNED.replace("##", "gg").replace("L", "G")),
    ],
    ids=str,
)
def test_str004(case: Case) -> None:
    case.check(streams_without_work)


def test_str004_takes_its_inferences_from_cap001_and_its_streams_from_str001() -> None:
    said = [f.message for f in fit_to_conclude_from.run(drawn(FAILED)).findings]
    assert not any("launched no kernel" in message for message in said)
    said = [f.message for f in fit_to_conclude_from.run(drawn(FAILED.replace("8", "7"))).findings]
    assert any(message.startswith("1 of 3 inferences launched no kernel") for message in said)
    assert streams_that_do_not_overlap.run(drawn(FAILED)).status == Status.CLEAR


def test_str004_leaves_single_failures_to_cap001() -> None:
    both = drawn("""
        nvtx 1:   [i.......][i.......][i.......][i.......]
        thread 1: CLc.......Cc.......CLc.......Cc.......
        stream 7: .>##<..............>##<.......>.<.....
        stream 8: ...........>.<.......................
    """)
    assert evidence_of(only(streams_without_work, both), "inferences without GPU work").value == 1
    said = [f.message for f in fit_to_conclude_from.run(both).findings]
    assert any(message.startswith("1 of 4 inferences launched no kernel") for message in said)


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("thread 1: L.C.\nstream 7: .#.>", {}, "no inference is marked; name their NVTX ranges with --inference-range"),
        ("thread 1: L", {"missing": {"kernels": "lost"}}, "lost"),
        (FAILED, {"missing": {"memory_ops": "not traced"}}, "not traced"),
    ],
)
def test_str004_says_what_it_cannot_tell(text: str, options: dict[str, object], reason: str) -> None:
    outcome = streams_without_work.run(drawn(text, **options))
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, reason)


def test_inferences_to_which_no_kernel_can_be_joined() -> None:
    unknown = drawn(FAILED, kernel_calls=[None, None], **MAY_BE_TENSORRT)
    for analysis in (work_on_the_default_stream, streams_without_work, transfer_bound):
        outcome = analysis.run(unknown)
        assert (outcome.status, outcome.reason) == (
            Status.COULD_NOT_RUN,
            "no kernel can be joined to the API call that launched it, and so to no inference",
        )
