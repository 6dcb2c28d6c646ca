"""Transfers: PCI001 pageable memory, PCI002 exposed transfers, PCI003 blocking copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_loop import loop
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.transfers.pci001_pageable_async_copies import pageable_async_copies
from nsight_analyses.transfers.pci002_exposed_transfers import exposed_transfers
from nsight_analyses.transfers.pci003_blocking_copies import blocking_copies

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    from nsight_tools.findings import Finding

KIB = 1024
WARNING, INFO = Severity.WARNING, Severity.INFO
PAGEABLE = {"memory": "pageable"}

IN_TURN = """
    nvtx 1:   [i.................]
    thread 1: CCCCC..L...CCCC.....
    stream 7: .>>>>..####.<<<.....
"""
BEHIND_KERNELS = """
    nvtx 1:   [i.................]
    thread 1: LC.................
    stream 7: .################..
    stream 8: ..>>>>>>...........
"""
FORTY = """
    nvtx 1:   [i.....................................]
    thread 1: C.L.....................................
    stream 7: .>.#...................................
"""
"""One microsecond of copying in an inference of forty: 2.5 %."""
FORTY_ONE = FORTY.replace("[i.", "[i..")
TENTH = """
    nvtx 1:   [i.......]
    thread 1: C.L.......
    stream 7: .>.#......
"""
ELEVENTH = TENTH.replace("[i.", "[i..")
OUTSIDE = """
    nvtx 1:   .....................[i.......]
    thread 1: CCCCCCCCCCCCCCCCCCC..L.........
    stream 7: .>>>>>>>>>>>>>>>>>....##.......
"""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "copies and kernel in turn",
            IN_TURN,
            WARNING,
            4 + 3,
            {
                "asynchronous copies from or to pageable memory": 2,
                "host time in their calls, h2d": 5,
                "host time in their calls, d2h": 4,
                "h2d rate of copies from 1 MB on": 1e6 / 4e-6,
                "d2h rate of copies from 1 MB on": 1e6 / 3e-6,
                "longest on the GPU": 4,
            },
            Confidence.HIGH,
            "2 of 2 asynchronous copies",
            options=PAGEABLE,
        ),
        Case("pinned memory", IN_TURN, options={"memory": "pinned"}),
        Case("managed memory", IN_TURN, options={"memory": "managed"}),
        Case(
            "one of the two pageable",
            IN_TURN,
            WARNING,
            3,
            {"asynchronous copies from or to pageable memory": 1},
            says="1 of 2 asynchronous copies",
            options={"memory": ["pinned", "pageable"]},
        ),
        Case("a driver call", IN_TURN, WARNING, 7, options=PAGEABLE | {"copy_api": "cuMemcpyHtoDAsync"}),
        Case("part of a graph", IN_TURN, WARNING, 7, options=PAGEABLE | {"copy_api": "cudaGraphLaunch"}),
        Case("calls that are not asynchronous", IN_TURN, options=PAGEABLE | {"copy_api": "cudaMemcpy"}),
        Case(
            "up to 64 KB the driver stages h2d, not d2h",
            IN_TURN,
            WARNING,
            3,
            options=PAGEABLE | {"size_bytes": 64 * KIB},
        ),
        Case("one byte more and it does not", IN_TURN, WARNING, 7, options=PAGEABLE | {"size_bytes": 64 * KIB + 1}),
        Case("hidden behind a kernel", BEHIND_KERNELS, options=PAGEABLE),
        Case("2.5 % of the time", FORTY, INFO, 1, says="2.5 % of the inference time", options=PAGEABLE),
        Case("less", FORTY_ONE, options=PAGEABLE),
        Case("10 % of the time", TENTH, WARNING, 1, options=PAGEABLE),
        Case("9 % of the time", ELEVENTH, INFO, 1, options=PAGEABLE),
        Case("outside of inferences", OUTSIDE, options=PAGEABLE),
    ],
    ids=str,
)
def test_pci001_pageable_asynchronous_copies(case: Case) -> None:
    case.check(pageable_async_copies)


def test_pci001_holds_the_rate_against_pinned_copies_of_the_same_trace() -> None:
    finding = only(
        pageable_async_copies,
        drawn(
            """
        nvtx 1:   [i..................]
        thread 1: CCCC.L....CC........
        stream 7: .>>>>>.##..>........
    """,
            memory=["pageable", "pinned"],
        ),
    )
    assert evidence_of(finding, "h2d rate of copies from 1 MB on").value == 2e11
    assert (
        evidence_of(finding, "h2d rate of copies from 1 MB on").detail == "pinned copies in this trace reach 1.00 TB/s"
    )


LINK = {"time_ns": 10_000, "device": 0, "pcie_max_generation": 4, "pcie_max_width": 16}


def held_up(kernel: int, requests: int = 12, **options: Any) -> Finding:
    """The finding on a loop that copies 1 MB of pageable memory for 100 µs, then runs a kernel, and waits."""
    text = f"""
        nvtx 1:   [i.{"." * (kernel + 110)}]....
        thread 1: {"C" * 102}LL{"S" * (kernel + 8)}
        stream 7: .{">" * 100}...{"#" * kernel}
    """
    return only(pageable_async_copies, loop(text, requests, memory="pageable", **options))


def test_pci001_estimates_what_pinning_saves() -> None:
    """At 83 % 16 lanes of 4.0 take 38.2 µs for 1 MB, of 5.0 19.1; a copy takes 1.5 beside.

    Pinned, the call takes 5, and the copy starts 1 behind it, as it did behind its call's begin. The kernel starts 1
    behind the copy, and not at 104.
    """
    recorded = held_up(40, tables={"telemetry": table("telemetry", [LINK])})
    slower, faster = (104_000 - (5_000 + 1_000 + 1_500 + 1e6 / (0.83 * lanes) + 1_000) for lanes in (31.504, 63.02))
    assert recorded.recoverable_ns_per_inference == pytest.approx(slower, abs=100)
    assert recorded.recoverable_ns == 12 * recorded.recoverable_ns_per_inference
    assert recorded.bound.startswith("a replay of")
    assumed = held_up(40, gpu={"compute_major": 9})
    assert assumed.recoverable_ns_per_inference == pytest.approx(faster, abs=100)
    for finding in (recorded, assumed):
        assert finding.recoverable_between_ns is not None
        low, high = finding.recoverable_between_ns
        assert low < slower < high < 104_000
    once = held_up(40, 1, tables={"telemetry": table("telemetry", [LINK])})
    assert (once.recoverable_ns, once.recoverable_between_ns) == (100_000, None)
    assert once.bound.startswith("time of these copies in which their GPU runs no kernel")


@pytest.mark.parametrize(("kernel", "severity"), [(200, WARNING), (600, INFO)], ids=["18 % come back", "8 %"])
def test_pci001_weighs_what_pinning_saves_and_not_the_exposed_time(kernel: int, severity: Severity) -> None:
    """Exposed are 100 µs, a third and a seventh of the time; of them 16 lanes of 4.0 save 57."""
    assert held_up(kernel, tables={"telemetry": table("telemetry", [LINK])}).severity == severity


def test_pci001_is_bounded_by_overlap_where_several_inferences_are_under_way() -> None:
    """Pinned, each copy would run beside the other's kernel at once: what pinning alone saves is no estimate."""
    picture = f"""
        nvtx 1:   [i.{"." * 208}]
        nvtx 2:   [i.{"." * 208}]
        thread 1: {"C" * 100}L{"." * 110}
        thread 2: {"." * 100}{"c" * 100}l{"." * 8}
        stream 7: {">" * 100}..##{"." * 106}
        stream 8: {"." * 104}{">" * 96}...##
    """
    finding = only(pageable_async_copies, drawn(picture, memory="pageable", gpu={"compute_major": 9}))
    assert (finding.recoverable_ns, finding.recoverable_between_ns) == (196_000, None)


def test_pci001_counts_the_drivers_own_copying_while_the_gpu_runs_nothing() -> None:
    """Of 30 µs before the first copy 10 are a pinned one's too; of 7 after the second one the GPU works for 2.

    One of the second copy's own 5 runs beside a kernel.
    """
    picture = f"""
        nvtx 1:   [i{"." * 70}]
        thread 1: {"C" * 35}L.{"c" * 16}....
        stream 7: {"." * 30}>>>>>.###..<<<<<........
        stream 8: {"." * 30}...............###.....
    """
    finding = only(pageable_async_copies, drawn(picture, memory="pageable", missing={"gpus": "lost"}))
    assert finding.recoverable_ns == 1000 * (5 + 4 + 20 + 5)


def test_pci001_says_where_the_worst_copies_are() -> None:
    finding = only(pageable_async_copies, drawn(IN_TURN, memory="pageable"))
    longest = evidence_of(finding, "longest on the GPU")
    assert (longest.start_ns, longest.end_ns, longest.detail) == (1000, 5000, "h2d of 1.00 MB")
    assert finding.recoverable_ns_per_inference == 7000


def test_pci001_spreads_the_loss_over_the_inferences() -> None:
    picture = """
        nvtx 1:   [i.......][i.......]
        thread 1: CCL.......CcL.......
        stream 7: ..#>>......#..>>....
    """
    finding = only(pageable_async_copies, drawn(picture, memory="pageable"))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (4000, 2000)


def test_pci001_spreads_the_loss_over_the_gpus() -> None:
    """Each GPU copies alone for 1 of 15 µs, 7 % of what both have; as a share of one it would be a warning."""
    picture = """
        nvtx 1:            [i............]
        thread 1:          CcLl...........
        stream 7:          ...>#..........
        stream 7 device 1: ...>#..........
    """
    finding = only(pageable_async_copies, drawn(picture, memory="pageable"))
    assert (finding.recoverable_ns, finding.severity) == (2000, INFO)


@pytest.mark.parametrize("analysis", [pageable_async_copies, blocking_copies], ids=lambda a: a.code)
def test_copies_that_no_call_can_be_found_for_are_not_judged(analysis) -> None:  # noqa: ANN001
    outcome = analysis.run(drawn(IN_TURN, memory="pageable", copy_calls=[None, None]))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason == "no copy can be joined to the API call that started it"


@pytest.mark.parametrize("analysis", [pageable_async_copies, exposed_transfers, blocking_copies], ids=lambda a: a.code)
def test_without_copies_there_is_nothing_to_look_for_unless_they_were_not_collected(analysis) -> None:  # noqa: ANN001
    without = """
        nvtx 1:   [i..]
        thread 1: L...
        stream 7: .##.
    """
    assert analysis.run(drawn(without)).status == Status.NOT_APPLICABLE
    outcome = analysis.run(drawn(without, missing={"memory_ops": "no CUDA activity was traced"}))
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "no CUDA activity was traced")


SHORT_KERNEL = """
    nvtx 1:   [i.................]
    thread 1: C........L..........
    stream 7: .>>>>>>>>.##........
"""
TWENTY = """
    nvtx 1:   [i.................]
    thread 1: C.L................
    stream 7: .>.###.............
"""
TWENTY_ONE = TWENTY.replace("[i.", "[i..")
FIFTH = TENTH.replace("stream 7: .>.#", "stream 7: .>>##")
LESS_THAN_A_FIFTH = FIFTH.replace("[i.", "[i..")


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "before the kernels",
            """
            nvtx 1:   [i.................]
            thread 1: C....L..............
            stream 7: .>>>>.######........
            """,
            WARNING,
            4,
            {"exposed": 4, "exposed share of the copies": 1.0, "h2d rate of copies from 1 MB on": 2.5e11, "longest": 4},
            Confidence.MEDIUM,
            "host-to-device copies run with no kernel beside them for 20 % of the inference time (100 % of the copies'",
        ),
        Case(
            "behind the kernels",
            """
            nvtx 1:   [i.................]
            thread 1: L.......C...........
            stream 7: .######.<<<<........
            """,
            WARNING,
            4,
            {"exposed": 4, "d2h rate of copies from 1 MB on": 2.5e11},
            says="device-to-host copies",
        ),
        Case("hidden behind a kernel", BEHIND_KERNELS),
        Case(
            "hidden in part",
            """
            nvtx 1:   [i.................]
            thread 1: C..L................
            stream 7: ....########........
            stream 8: .>>>>>>.............
            """,
            INFO,
            3,
            {"exposed": 3, "exposed share of the copies": 0.5},
        ),
        Case("no more kernels than 2 µs to hide behind", SHORT_KERNEL, INFO, 2, {"exposed": 8}),
        Case(
            "a whole graph computes",
            """
            nvtx 1:   [i.................]
            thread 1: CG..................
            stream 7: ..gggggggg..........
            stream 8: ..>>>>>>............
            """,
        ),
        Case("copies within the GPU", SHORT_KERNEL.replace(">", "="), applies=False),
        Case("5 % of the time", TWENTY, INFO, 1),
        Case("less", TWENTY_ONE),
        Case("20 % of the time", FIFTH, WARNING, 2),
        Case("18 % of the time", LESS_THAN_A_FIFTH, INFO, 2),
        Case("what PCI001 reports", FIFTH, options=PAGEABLE),
        Case("pageable, but staged", FIFTH, WARNING, 2, options=PAGEABLE | {"size_bytes": 64 * KIB}),
        Case("pageable, but blocking", FIFTH, WARNING, 2, options=PAGEABLE | {"copy_api": "cudaMemcpy"}),
        Case("outside of inferences", OUTSIDE),
    ],
    ids=str,
)
def test_pci002_exposed_transfers(case: Case) -> None:
    case.check(exposed_transfers)


@pytest.mark.parametrize(
    ("integrated", "said"), [(True, "cudaHostAllocMapped"), (False, "second inference"), (None, "second")]
)
def test_an_integrated_gpu_needs_no_copies_at_all(integrated: bool | None, said: str) -> None:
    finding = only(exposed_transfers, drawn(FIFTH, gpu={"integrated": integrated}))
    assert said in finding.recommendation


@pytest.mark.parametrize(
    ("down", "named"),
    [(2, "host-to-device and device-to-host copies"), (1, "host-to-device copies")],
    ids=["a tenth of the exposed time", "less"],
)
def test_pci002_is_one_finding_for_both_directions(down: int, named: str) -> None:
    """One change overlaps both: 18 µs up, and 2 or 1 down."""
    finding = only(
        exposed_transfers,
        drawn(f"""
        nvtx 1:   [i{"." * 50}]
        thread 1: C..................L..............................C
        stream 7: .{">" * 18}..{"#" * 28}..{"<" * down}
    """),
    )
    assert (finding.severity, finding.recoverable_ns) == (WARNING, 1000 * (18 + down))
    assert finding.message.startswith(f"{named} run with no kernel beside them")
    assert evidence_of(finding, "of it host-to-device").value == 18_000
    assert evidence_of(finding, "of it device-to-host").value == 1000 * down


def test_pci002_tells_what_overlap_brings_where_it_can_be_replayed() -> None:
    """50 µs of copying and 60 of a kernel; one in 121. Overlapped, one in the 60 of the kernel and the 1 before it.

    Nothing else is in the way: the host needs 10 µs a request. Its waits poll, so that nothing else is hidden.
    """
    text = f"""
        nvtx 1:   [i{"." * 116}]..
        thread 1: CCLL{"S" * 113}...
        stream 7: ..{">" * 50}.{"#" * 60}
    """
    finding = only(exposed_transfers, loop(text))
    assert finding.recoverable_ns_per_inference is not None
    assert finding.recoverable_ns_per_inference == pytest.approx(121_000 - 61_000, rel=0.02)
    assert finding.per == "period"
    assert finding.severity == WARNING


def test_pci002_does_not_call_a_gpu_idle_whose_kernels_were_lost() -> None:
    lost = drawn(SHORT_KERNEL.replace("#", "."), missing={"kernels": "9 launches were traced but no kernel"})
    outcome = exposed_transfers.run(lost)
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "9 launches were traced but no kernel")


BLOCKING = {"copy_api": "cudaMemcpy"}


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "a call that waits for the kernel before it: of its 12 µs the GPU computes for 6",
            """
            nvtx 1:   [i.................]
            thread 1: L.CCCCCCCCCCCC......
            stream 7: ..######..<<<<......
            """,
            WARNING,
            6,
            {"blocking copies": 1, "host time held": 12, "longest call": 12, "d2h rate of copies from 1 MB on": 2.5e11},
            Confidence.HIGH,
            "cudaMemcpy (1)",
            options=BLOCKING,
        ),
        Case("asynchronous calls", IN_TURN),
        Case("a graph's copies", IN_TURN, options={"copy_api": "cudaGraphLaunch"}),
        Case(
            "driver calls",
            IN_TURN,
            WARNING,
            9,
            {"blocking copies": 2},
            says="cuMemcpyHtoD (1), cuMemcpyDtoH (1)",
            options={"copy_api": ["cuMemcpyHtoD", "cuMemcpyDtoH"]},
        ),
        Case("pageable too", IN_TURN, WARNING, 9, options=BLOCKING | PAGEABLE),
        Case(
            "up to 64 KB the driver stages pageable h2d",
            IN_TURN,
            WARNING,
            4,
            options=BLOCKING | PAGEABLE | {"size_bytes": 64 * KIB},
        ),
        Case("but not pinned", IN_TURN, WARNING, 9, options=BLOCKING | {"size_bytes": 64 * KIB}),
        Case("2.5 % of the time", FORTY, INFO, 1, options=BLOCKING),
        Case("less", FORTY_ONE, options=BLOCKING),
        Case("10 % of the time", TENTH, WARNING, 1, options=BLOCKING),
        Case("9 % of the time", ELEVENTH, INFO, 1, options=BLOCKING),
        Case("outside of inferences", OUTSIDE, options=BLOCKING),
    ],
    ids=str,
)
def test_pci003_blocking_copies(case: Case) -> None:
    case.check(blocking_copies)


@pytest.mark.parametrize(
    ("thread", "stream", "memory", "explains"),
    [
        (".Cc.L.....", "..>>}}}##..", ["pageable", "pageable", "pinned"], ("exposed transfers",)),
        ("..C.L.....", "...>>>>##..", ["pageable", "pinned"], ()),
    ],
    ids=["the inference copies from both", "others do, which have a cause of their own"],
)
def test_pci001_explains_exposed_copies_of_the_inferences_that_it_holds_up(
    thread: str, stream: str, memory: list[str], explains: tuple[str, ...]
) -> None:
    text = f"""
        nvtx 1:   [i.......].[i.......]
        thread 1: C..L......{thread}
        stream 7: .>>>##....{stream}
    """
    assert only(pageable_async_copies, drawn(text, memory=memory)).explains == explains
