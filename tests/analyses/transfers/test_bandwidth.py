"""The link: PCI004 transfer-bound, PCI005 achieved bandwidth."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.transfers.pci004_transfer_bound import transfer_bound
from nsight_analyses.transfers.pci005_achieved_bandwidth import achieved_bandwidth

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO

BOUND = """
    nvtx 1:   [i.................][i.................]
    thread 1: C..........L...SSSS.C..........L...SSSS.
    stream 7: .>>>>>>>>>>.####.....>>>>>>>>>>.####....
"""
"""10 µs of copying and 4 µs of computing in each inference of 20 µs; the thread is occupied for 16.

Of these 3 µs are tracing's in the launch, which comes 16 µs of the thread's own after the one before, 0.45 of the 1 of
the copy's call, and 0.8 of the range: 11.75 are left, 10.75 of them beside that call.
"""


ASYNCHRONOUS = """
    nvtx 1:   [i.................][i.................]
    thread 1: CL.SSSSSSSSSSSSSSSS.CL.SSSSSSSSSSSSSSSS.
    stream 7: .>>>>>>>>>>####......>>>>>>>>>>####.....
"""
"""The thread is occupied for 4 µs of 20 in each inference, the copy runs for 10, the kernel for 4."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "10 µs of copies and 4 µs of kernels: of each inference 6 µs can never be hidden",
            ASYNCHRONOUS,
            WARNING,
            12,
            {"h2d time of an inference, median": 10, "compute time of an inference, median": 4, "longest": 10},
            Confidence.MEDIUM,
            "transfer-bound: an inference copies host-to-device for 10.0 µs and computes for 4.00 µs (medians)",
        ),
        Case("the other direction", ASYNCHRONOUS.replace(">", "<"), WARNING, 12, says="copies device-to-host"),
        Case(
            "as long as the kernels: nothing but the verdict",
            ASYNCHRONOUS.replace(">>>>>>>>>>####", ">>>>>>>#######"),
            INFO,
            None,
            {"h2d time of an inference, median": 7, "compute time of an inference, median": 7},
        ),
        Case("a microsecond less", ASYNCHRONOUS.replace(">>>>>>>>>>####", ">>>>>>########")),
        Case(
            "whole graphs compute",
            ASYNCHRONOUS.replace("#", "g").replace("L", "G"),
            WARNING,
            12,
            {"compute time of an inference, median": 4},
        ),
        Case("the host is occupied for longer than the copies take", BOUND),
        Case("copies within the GPU", ASYNCHRONOUS.replace(">", "="), applies=False),
        Case("pageable copies alone: PCI001 speaks", ASYNCHRONOUS, options={"memory": "pageable"}),
        Case(
            "pageable copies that would not be the limit were they pinned",
            """
            nvtx 1:   [i.................][i.................]
            thread 1: CL.SSSSSSSSSSSSSSSS.CL.SSSSSSSSSSSSSSSS.CCC
            stream 7: .>>>>>>>>>>####......>>>>>>>>>>####.......>>
            """,
            options={"memory": ["pageable", "pageable", "pinned"], "copy_calls": [0, 1, 2]},
        ),
        Case(
            "pageable copies that would be it all the same; PCI001 has their time",
            """
            nvtx 1:   [i.................][i.................]
            thread 1: CL.SSSSSSSSSSSSSSSS.CL.SSSSSSSSSSSSSSSS.CCC
            stream 7: .>>>>>>>>>>####......>>>>>>>>>>####.......>>>>>
            """,
            INFO,
            None,
            {"h2d time of an inference, median": 5},
            options={"memory": ["pageable", "pageable", "pinned"], "copy_calls": [0, 1, 2]},
        ),
    ],
    ids=str,
)
def test_pci004_transfer_bound(case: Case) -> None:
    case.check(transfer_bound)


@pytest.mark.parametrize(("copy", "bound"), [(71, True), (70, True), (69, False)])
def test_pci004_is_trtexecs_test_as_long_as_the_kernels(copy: int, bound: bool) -> None:
    one = "." + ">" * copy + "#" * 70 + "." * 20
    text = f"""
        nvtx 1:   [i{"." * (len(one) - 3)}]
        thread 1: CL.{"S" * (len(one) - 4)}
        stream 7: {one}
    """
    assert bool(transfer_bound.run(drawn(text)).findings) == bound


@pytest.mark.parametrize(("idle", "severity"), [(0, WARNING), (1, INFO)])
def test_pci004_is_a_warning_from_a_fifth_of_the_time_on(idle: int, severity: Severity) -> None:
    """20 µs more of copies than of kernels in an inference of 100 µs."""
    text = f"""
        nvtx 1:   [i{"." * (97 + idle)}]
        thread 1: CL.{"S" * 90}
        stream 7: .{">" * 50}{"#" * 30}
    """
    assert only(transfer_bound, drawn(text)).severity == severity


def test_pci004_judges_each_direction_by_itself() -> None:
    both = """
        nvtx 1:   [i.................]
        thread 1: CLC.SSSSSSSSSSSSSSS.
        stream 7: .>>>>>##<<<<<<......
    """
    outcome = transfer_bound.run(drawn(both))
    assert [f.recoverable_ns for f in outcome.findings] == [3000, 4000]


def test_pci004_judges_a_program_without_inferences_as_a_whole() -> None:
    finding = only(transfer_bound, drawn("thread 1: CL\nstream 7: ..>>>>>>##"))
    assert finding.message.startswith(
        "transfer-bound: the program copies host-to-device for 6.00 µs and computes for 2.00"
    )
    assert (finding.severity, finding.recoverable_ns) == (Severity.WARNING, 4_000)  # 2 of 6 µs could hide
    assert finding.recoverable_ns_per_inference is None
    assert transfer_bound.run(drawn("thread 1: CL\nstream 7: ..>###")).status == Status.CLEAR


def test_pci004_needs_kernels() -> None:
    lost = drawn("thread 1: C\nstream 7: ..>>", missing={"kernels": "lost"})
    assert transfer_bound.run(lost).reason == "lost"


LONG = f"""
    nvtx 1:   [i.{"." * 200}]
    thread 1: CL.{"." * 200}
    stream 7: .{">" * 100}####
"""
"""A copy of 100 µs: 1 MB is 10 GB/s, as much as 3.0 x16 gives 75 % and 4.0 x16 gives 37 % of."""


def sampled(*links: tuple[int, ...], most: tuple[int, int] | None = None, first: int = 0) -> dict[str, Any]:
    """Telemetry with these generations and widths, a sample every 10 µs, and what GPU and slot can have."""
    best = dict(zip(("pcie_max_generation", "pcie_max_width"), most or (None, None), strict=True))
    rows = [
        {"time_ns": (first + 10 * at) * 1000, "device": 0, "pcie_generation": g, "pcie_width": w} | best
        for at, (g, w) in enumerate(links)
    ]
    return {"telemetry": table("telemetry", rows)}


@pytest.mark.parametrize(
    ("links", "given"),
    [
        (((4, 16),), 0.83 * 16 * 1.969e9),
        (((1, 4), (4, 16)), 0.83 * 16 * 1.969e9),
        (((3, 16),), None),
        (((4, 8),), None),
        (((4, 0), (9, 16), (4, 16)), 0.83 * 16 * 1.969e9),
    ],
)
def test_pci005_slower_than_the_link(links: tuple[tuple[int, int], ...], given: float | None) -> None:
    trace = drawn(LONG, tables=sampled(*links))
    if given is None:
        assert achieved_bandwidth.run(trace).status == Status.CLEAR
        return
    finding = only(achieved_bandwidth, trace)
    assert evidence_of(finding, "h2d rate, median").value == 1e10
    assert evidence_of(finding, "what the link gives").value == pytest.approx(given)
    assert "a PCIe 4.0 x16 link gives" in finding.message
    assert finding.severity == WARNING
    assert finding.recoverable_ns == round(100_000 * (1 - 1e10 / given))


@pytest.mark.parametrize(("size", "found"), [(1_568_000, True), (1_569_000, False)])
def test_pci005_at_60_percent_of_the_link(size: int, found: bool) -> None:
    """4.0 x16 gives 26.15 GB/s to pinned copies; 60 % of it are 1.5689 MB in 100 µs."""
    outcome = achieved_bandwidth.run(drawn(LONG, tables=sampled((4, 16)), size_bytes=size))
    assert bool(outcome.findings) == found


X8 = [(3, 8)] * 3


@pytest.mark.parametrize(
    ("tables", "size", "found"),
    [
        (sampled(*X8, most=(4, 16)), 1_200_000, True),
        (sampled(*X8[:2], most=(4, 16)), 1_200_000, False),
        (sampled(*X8, (4, 16), most=(4, 16)), 1_200_000, False),
        (sampled(*X8, (4, 16), first=175, most=(4, 16)), 1_200_000, True),
        (sampled(*X8, most=(3, 8)), 1_200_000, False),
        (sampled(*X8), 1_200_000, False),
        (sampled(*X8, first=250, most=(4, 16)), 1_200_000, False),
        (sampled(*X8, most=(4, 16)), 1_800_000, False),
    ],
    ids=[
        "half the lanes of an older generation",
        "two samples",
        "one sample shows that it can",
        "one shows it, but no copy ran then",
        "the slot gives no more",
        "what it could be is not recorded",
        "sampled while no copy ran: links train down when idle",
        "the copies are faster than such a link can be",
    ],
)
def test_pci005_a_link_that_trained_down_under_load(tables: dict[str, Any], size: int, found: bool) -> None:
    """3.0 x8 carries 7.88 GB/s at most: 1.2 MB in 200 µs are 6 GB/s, 1.8 MB are 9."""
    text = f"""
        nvtx 1:   [i{"." * 300}]
        thread 1: CL
        stream 7: {">" * 200}####
    """
    outcome = achieved_bandwidth.run(drawn(text, tables=tables, size_bytes=size, gpu={"compute_major": 8}))
    said = [finding.message for finding in outcome.findings]
    assert (
        any("runs at PCIe 3.0 x8 while copies run, where GPU and slot can have PCIe 4.0 x16" in m for m in said)
        == found
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "others of the trace were twice as fast",
            """
            nvtx 1:   [i.................................]
            thread 1: CcCL.................................Cc
            stream 7: .>>>>>>>>>>}}}}}}}}}}>>>>>>>>>>####.....>>>>}}}}
            """,
            WARNING,
            # 30 µs at 100 GB/s would be 12 µs at 250
            30 - 12,
            {"h2d rate, median": 1e11, "what the link gives": 2.5e11, "longest": 10},
            Confidence.MEDIUM,
        ),
        Case("no large copies", LONG, options={"size_bytes": 999_999}),
        Case("60 % of what 16 lanes of the GPU's generation give", LONG, options={"gpu": {"compute_major": 7}}),
        Case("copies within the GPU", LONG.replace(">", "="), options={"gpu": {"compute_major": 9}}, applies=False),
    ],
    ids=str,
)
def test_pci005_against_the_traces_own_best(case: Case) -> None:
    case.check(achieved_bandwidth)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gpu": {"compute_major": 9}}, "host-to-device copies reach 10.0 GB/s (GPU 0, median): as fast as"),
        ({}, "host-to-device copies reach 10.0 GB/s (GPU 0, median): as fast as"),
        (
            {"memory": "pageable"},
            "all 1 copies from 1 MB on use pageable memory, whose rate (10.0 GB/s, both directions) is",
        ),
    ],
)
def test_pci005_says_what_it_cannot_tell(options: dict[str, object], reason: str) -> None:
    outcome = achieved_bandwidth.run(drawn(LONG, **options))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith(reason)
