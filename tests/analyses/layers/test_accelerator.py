"""DLA001: what the GPU idles for while another engine of the chip runs layers."""

from __future__ import annotations

import pytest
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.layers.dla001_holes_of_an_accelerator import holes_of_an_accelerator

from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO


def engine(hole: int, *, layer: str = "[d.]", length: int = 100, of: str = "TensorRT") -> str:
    """Two layers with a kernel each, launched at once, a layer between their launches, and as long a hole."""
    return f"""
        nvtx 1:          [i{"." * (length - 3)}]
        nvtx 1 {of}: [e............]
        nvtx 1 {of}: .[a.]{layer}[b.]
        thread 1:        ..L.......l...{"S" * (length - 15)}.
        stream 7:        ...{"#" * 9}{"." * hole}####
    """


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "a layer without a kernel between two with one",
            engine(60),
            WARNING,
            60,
            {"GPU waits for the accelerator": 60, "holes": 1, "longest": 60},
            Confidence.MEDIUM,
            "the GPU idles for 60 % of the inference time while layers run elsewhere: 1 hole of 60.0 µs (median)",
        ),
        Case("no layer between them", engine(60, layer="....")),
        Case(
            "another inference's kernel meanwhile",
            engine(60) + f"        stream 8:        {'.' * 12}{'#' * 60}",
            options={"kernel_calls": [0, None, 1]},
        ),
        Case("holes of more than 50 µs", engine(51), WARNING, 51),
        Case("50 µs", engine(50)),
        Case("2.5 % of the time: 60 µs of 2,400", engine(60, length=2400), INFO, 60),
        Case("less", engine(60, length=2401)),
        Case("10 % of the time: 60 µs of 600", engine(60, length=600), WARNING, 60),
        Case("less than 10 %", engine(60, length=601), INFO, 60),
        Case("no TensorRT in the report", engine(60, of="MyModels"), applies=False),
    ],
    ids=str,
)
def test_dla001(case: Case) -> None:
    case.check(holes_of_an_accelerator)


def test_dla001_is_what_the_gaps_and_the_contention_come_from() -> None:
    finding = only(holes_of_an_accelerator, drawn(engine(60)))
    assert finding.explains == ("gaps", "contention")
    longest = evidence_of(finding, "longest")
    assert (longest.start_ns, longest.end_ns) == (12_000, 72_000)


@pytest.mark.parametrize("late", [True, False])
def test_a_hole_before_a_launch_is_the_hosts(late: bool) -> None:
    """Where what follows is launched at the end of it only, nothing waited for the layer before."""
    text = engine(60)
    if late:
        text = (
            text.replace("[d.][b.]", f"[d.]{'.' * 62}[b.]")
            .replace(".......l...", f".......{'.' * 62}l.")
            .replace("[e............]", f"[e{'.' * 76}]")
        )
    assert bool(holes_of_an_accelerator.run(drawn(text)).findings) != late
