"""PCI006: runs of small copies that could be one."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, only
from nsight_analyses.transfers.pci006_small_copies import small_copies

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
SMALL = {"size_bytes": 6_000}

THREE = """
    nvtx 1:   [i...............]
    thread 1: CcC.L.............
    stream 7: .>>}}>>.###.......
"""
"""Three copies of 2 µs, one behind the other. One of 18 kB takes 2 µs and 12 kB at 6 GB/s: 4 µs."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "three in a row",
            THREE,
            WARNING,
            6 - 4,
            {
                "small copies in runs": 3,
                "calls saved": 2,
                "their time": 6,
                "one copy for each run would take": 4,
                "longest run": 6,
            },
            Confidence.MEDIUM,
            "3 small copies in runs of 3 (median) could be 1 (2 calls fewer an inference): 11 % of the inference",
            SMALL,
        ),
        Case("the other direction", THREE.replace(">", "<").replace("}", "{"), WARNING, 2, options=SMALL),
        Case("two", THREE.replace("}}>>", "}}..").replace("CcC", "Cc."), options=SMALL),
        Case("nearly nothing in them: the gain is all but one", THREE, WARNING, 4, options={"size_bytes": 0}),
        Case("large ones", THREE, options={"size_bytes": 1_000_000}),
        Case("so much in them that one takes as long", THREE, options={"size_bytes": 12_000}),
        Case(
            "gaps as long as the calls that fill them count",
            """
            nvtx 1:   [i...............]
            thread 1: CCccCC.L..........
            stream 7: ..>>.}}.>>###.....
            """,
            WARNING,
            # 6 µs of copies and the gaps of 1 µs, less 4 µs
            6 + 2 - 4,
            options=SMALL,
        ),
        Case(
            "longer gaps do not",
            """
            nvtx 1:   [i...............]
            thread 1: Cc.C...L..........
            stream 7: ..>>..}}.>>###....
            """,
            WARNING,
            # gaps of 2 and 1 µs behind calls of 1 µs
            6 + 2 - 4,
            options=SMALL,
        ),
        Case("of three kinds", THREE.replace("}}>>", "<<=="), options=SMALL),
        Case("of different memory", THREE, options=SMALL | {"memory": ["pinned", "pageable", "pinned"]}),
        Case(
            "a kernel between them",
            """
            nvtx 1:   [i...............]
            thread 1: CcLC..............
            stream 7: .>>}}##>>.........
            """,
            options=SMALL,
        ),
        Case(
            "on different streams",
            """
            nvtx 1:   [i...............]
            thread 1: CcC.L.............
            stream 7: .>>..>>.###.......
            stream 8: ...}}.............
            """,
            options=SMALL,
        ),
        Case("a synchronization between them", THREE.replace("CcC.", "CcSC"), options=SMALL),
        Case(
            "of two inferences",
            """
            nvtx 1:   [i.][i.......]
            thread 1: CcL.C.L.......
            stream 7: .>>}}>>##.....
            """,
            options=SMALL,
        ),
        Case(
            "hidden behind a kernel",
            """
            nvtx 1:   [i...............]
            thread 1: LCcC..............
            stream 8: ..>>}}>>..........
            stream 7: .################.
            """,
            options=SMALL,
        ),
        Case("2.5 % of the time", THREE.replace("[i.", "[i." + "." * 62), INFO, 2, options=SMALL),
        Case("less", THREE.replace("[i.", "[i." + "." * 63), options=SMALL),
        Case(
            "outside of inferences",
            """
            nvtx 1:   .........[i......]
            thread 1: CcC......L........
            stream 7: .>>}}>>...###.....
            """,
            options=SMALL,
        ),
    ],
    ids=str,
)
def test_pci006(case: Case) -> None:
    case.check(small_copies)


@pytest.mark.parametrize(
    ("gap", "length", "found"), [(1000, 100, True), (1001, 100, False), (0, 1000, True), (0, 1001, False)]
)
def test_how_far_apart_and_how_long(gap: int, length: int, found: bool) -> None:
    trace = drawn(
        f"""
        thread 1: CcC{"." * (gap + 3 * length)}L
        stream 7: ...{">" * length}{"}" * length}{"." * gap}{">" * length}.#
        """,
        size_bytes=10,
    )
    assert (small_copies.run(trace).status == Status.FINDINGS) == found


def test_without_inferences_the_whole_time_counts() -> None:
    finding = only(small_copies, drawn(without_inferences(THREE), **SMALL))
    assert finding.recoverable_ns == 2000
    assert finding.recoverable_ns_per_inference is None
    assert "of the time between the first and the last GPU work" in finding.message


@pytest.mark.parametrize("table", ["memory_ops", "api_calls"])
def test_without_copies_or_calls_it_cannot_run(table: str) -> None:
    outcome = small_copies.run(drawn(THREE, missing={table: "not traced"}))
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "not traced")


def without_inferences(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "nvtx" not in line)
