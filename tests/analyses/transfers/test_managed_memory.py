"""MEM002: pages of unified memory that migrate while inferences run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.transfers.mem002_migrating_pages import migrating_pages

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

WARNING, INFO = Severity.WARNING, Severity.INFO


def moves(*times: tuple[int, int], kind: str = "managed_h2d", size: int = 4096) -> list[dict[str, Any]]:
    """Migrations from and to these microseconds."""
    return [
        {"kind": kind, "start_ns": start * 1000, "end_ns": end * 1000, "size_bytes": size, "pid": 1000, "device": 0}
        for start, end in times
    ]


def trace(rows: list[dict[str, Any]], length: int = 40, inferences: int = 1) -> Trace:
    """So many inferences, one after the other, of so many microseconds each, with such rows of `memory_ops`."""
    return drawn(
        f"""
        nvtx 1:   {f"[i{'.' * (length - 3)}]" * inferences}
        thread 1: {f"L{'.' * (length - 1)}" * inferences}
        stream 7: {f".####{'.' * (length - 5)}" * inferences}
        """,
        tables={"memory_ops": table("memory_ops", rows)},
    )


@pytest.mark.parametrize(
    ("length", "severity"),
    [(40, INFO), (41, None), (10, WARNING), (11, INFO)],
    ids=["2.5 % of the time", "less", "10 % of the time", "9 % of the time"],
)
def test_mem002_share_of_the_time(length: int, severity: Severity | None) -> None:
    outcome = migrating_pages.run(trace(moves((2, 3)), length))
    assert [(f.severity, f.confidence, f.recoverable_ns) for f in outcome.findings] == (
        [] if severity is None else [(severity, Confidence.MEDIUM, 1_000)]
    )


def test_mem002_says_what_moves_which_way() -> None:
    """Two inferences; one page that comes while another does counts once, and what the host reads in between counts."""
    up, down = moves((2, 6), (4, 8), (42, 46)), moves((39, 41), kind="managed_d2h", size=8192)
    finding = only(migrating_pages, trace(up + down, inferences=2))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (12_000, 6_000)
    found = {name: evidence_of(finding, name).value for name in ("migrations", "to the GPU", "to the host")}
    assert found == {"migrations": 4, "to the GPU": 3 * 4096, "to the host": 8192}
    assert "6.14 kB to the GPU, 4.10 kB back, for 15 % of the inference time" in finding.message
    assert finding.explains == ("between inferences", "gaps", "slow inferences")


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (moves((2, 30), kind="h2d"), Status.NOT_APPLICABLE),
        ([], Status.NOT_APPLICABLE),
        (moves((41, 60)), Status.CLEAR),
    ],
    ids=["copies", "none", "behind the last inference"],
)
def test_mem002_what_is_no_migration_of_an_inference(rows: list[dict[str, Any]], status: Status) -> None:
    assert migrating_pages.run(trace(rows)).status == status


def test_mem002_without_inferences() -> None:
    rows = moves((2, 4))
    bare = drawn("thread 1: L.......\nstream 7: .#######", tables={"memory_ops": table("memory_ops", rows)})
    finding = only(migrating_pages, bare)
    assert finding.recoverable_ns_per_inference is None
    assert "for 29 % of the time between the first and the last GPU work" in finding.message
