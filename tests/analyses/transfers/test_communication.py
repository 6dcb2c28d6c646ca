"""COM001: communication between GPUs that nothing hides, and the rank that is late."""

from __future__ import annotations

from typing import Any

import pytest
from drawn_trace import Case, drawn, evidence_of
from nsight_analyses.transfers.com001_exposed_communication import exposed_communication

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Finding, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)"
LAST: dict[str, Any] = {"kernel_names": ["gemm", ALL_REDUCE]}
FIRST: dict[str, Any] = {"kernel_names": [ALL_REDUCE, "gemm"]}

ALONE = """
    nvtx 1:   [i.................]
    thread 1: Ll..................
    stream 7: ..########%%%%......
"""
"""An inference of 20 µs that computes for 8 µs and then communicates for 4."""
FORTY = f"""
    nvtx 1:   [i{"." * 37}]
    thread 1: Ll..................
    stream 7: ..########%.........
"""
TENTH = """
    nvtx 1:   [i.......]
    thread 1: Ll........
    stream 7: ..#####%..
"""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "between the layers",
            ALONE,
            WARNING,
            4,
            {
                "exposed communication": 4,
                "communication": 4,
                "median of a communication kernel": 4,
                "other kernels": 8,
                "longest": 4,
            },
            Confidence.MEDIUM,
            "the GPU runs communication (NCCL or other collectives) with nothing beside it for 20 % of the inference "
            "time, 4.00 µs of each inference (median): 100 % of its communication is exposed",
            LAST,
        ),
        Case(
            "what of it waits for a peer is in that peer's report",
            ALONE,
            WARNING,
            4,
            says="cannot be told without that peer's report",
            options=LAST,
        ),
        Case("no kernel communicates", ALONE, applies=False),
        Case(
            "hidden behind another stream's kernel",
            """
            nvtx 1:   [i..................]
            thread 1: Ll..................
            stream 7: ...########.........
            stream 8: ....%%%%............
            """,
            options=LAST,
        ),
        Case(
            "hidden in part",
            """
            nvtx 1:   [i..................]
            thread 1: Ll..................
            stream 7: ..########..........
            stream 8: .......%%%%.........
            """,
            INFO,
            1,
            {"exposed communication": 1, "communication": 4},
            says="25 % of its communication is exposed",
            options=LAST,
        ),
        Case(
            "a copy beside it hides nothing",
            """
            nvtx 1:   [i..................]
            thread 1: LlC.................
            stream 7: ..########%%%%......
            stream 8: ..........<<<<......
            """,
            WARNING,
            4,
            options=LAST,
        ),
        Case("2.5 % of the time", FORTY, INFO, 1, options=LAST),
        Case("less", FORTY.replace("[i.", "[i.."), options=LAST),
        Case("10 % of the time", TENTH, WARNING, 1, options=LAST),
        Case("9 % of the time", TENTH.replace("[i.", "[i.."), INFO, 1, options=LAST),
        Case(
            "outside of inferences",
            """
            nvtx 1:   ..............[i.......]
            thread 1: L.............l.........
            stream 7: ..########.....####.....
            """,
            applies=False,
            options=FIRST,
        ),
    ],
    ids=str,
)
def test_com001(case: Case) -> None:
    case.check(exposed_communication)


@pytest.mark.parametrize(("longest", "waits"), [(9, True), (8, False)], ids=["a mean of 3 µs", "less"])
def test_a_few_long_ones_of_one_rank_wait_most_likely(longest: int, waits: bool) -> None:
    """Three collectives of 1 µs, and one so long: the median is 1 µs."""
    work = "".join(f"#{'%' * length}" for length in (1, 1, 1, longest))
    trace = drawn(
        f"""
        nvtx 1:   [i{"." * 30}]
        thread 1: LlLlLlLl
        stream 7: ........{work}
        """,
        kernel_names=["gemm", ALL_REDUCE] * 4,
    )
    (finding,) = exposed_communication.run(trace).findings
    assert ("a few of them take most of the time" in finding.cause) == waits
    assert finding.recommendation.startswith("analyze the reports of all ranks together" if waits else "overlap")


def ranks(first: str, second: str) -> list[Finding]:
    """What is found on two ranks in one report, a process and a GPU each; `%` communicates."""
    starts = [
        (at, symbol) for stream in (first, second) for at, symbol in enumerate(stream) if stream[at - 1] != symbol
    ]
    names = [ALL_REDUCE if symbol == "%" else "gemm" for _, symbol in sorted(starts) if symbol != "."]
    outcome = exposed_communication.run(
        drawn(
            f"""
            nvtx 1 pid 1:            [i{"." * 28}]
            nvtx 1 pid 2:            [i{"." * 28}]
            thread 1 pid 1:          LlLlLlLl
            thread 1 pid 2:          LlLlLlLl
            stream 7 pid 1:          {first}
            stream 7 pid 2 device 1: {second}
            """,
            kernel_names=names,
        )
    )
    assert outcome.status == Status.FINDINGS, outcome.reason
    return list(outcome.findings)


@pytest.mark.parametrize(
    ("early", "waited", "mostly"),
    [
        ("..####%%%%%%%%......", 4, True),
        ("...####%%%%%%%......", 3, False),
    ],
    ids=["half of its communication", "less"],
)
def test_the_rank_that_begins_early_waits_for_the_one_that_is_late(early: str, waited: int, mostly: bool) -> None:
    first, second = ranks(early, "..########%%%%......")
    assert evidence_of(first, "of it waiting for a peer").value == waited * 1000
    assert evidence_of(second, "of it waiting for a peer").value == 0
    assert ("waits 4.00 µs of each inference for GPU 1, which begins last" in first.cause) == mostly
    assert ("3.00 µs of each inference of it is waiting for a peer" in first.cause) != mostly
    assert first.recommendation.startswith("find why the rank on GPU 1 is late" if mostly else "overlap")
    assert "waiting" not in second.cause
    assert {first.confidence, second.confidence} == {Confidence.HIGH}
    assert (first.recoverable_ns, second.recoverable_ns) == ((4 + waited) * 1000, 4_000)


def test_ranks_that_make_other_collectives_cannot_be_matched() -> None:
    """However long some of them take: no report is missing that could tell."""
    first, second = ranks("..####%%%%..........", "..####%##%##%##%%%%%%%%%%%")
    assert {one.confidence for one in (first, second)} == {Confidence.MEDIUM}
    assert all("where the ranks of this report make other collectives" in one.cause for one in (first, second))
