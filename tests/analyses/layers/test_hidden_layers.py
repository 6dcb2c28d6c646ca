"""FUS007: a compiled region that hides its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.fus007_hidden_layers import hidden_layers

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

REGION = "{ForeignNode[/encoder/Add.../head/MatMul]}"
OTHER = "{ForeignNode[/stem/Conv\n.../stem/Relu]}"


def engine(plain: int, hidden: int, *, names: dict[str, str], of: str = "TensorRT", kernel: str = "__myl_Add") -> Trace:
    """Two layers, `a` and `f`, with a kernel each of so many microseconds."""
    return drawn(
        f"""
        nvtx 1:          [i.......{"." * (plain + hidden)}]
        nvtx 1 {of}: [e........]
        nvtx 1 {of}: .[a.][f.]
        thread 1:        ..L...l...
        stream 7:        .......{"#" * plain}{"%" * hidden}
        """,
        names={"a": "conv", "f": REGION} | names,
        kernel_names=kernel,
    )


@pytest.mark.parametrize(
    ("plain", "hidden", "found"), [(10, 10, True), (11, 10, False)], ids=["half of the kernel time", "less"]
)
def test_fus007_from_half_of_the_kernel_time_on(plain: int, hidden: int, found: bool) -> None:
    outcome = hidden_layers.run(engine(plain, hidden, names={}))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    if found:
        (finding,) = outcome.findings
        assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.HIGH, None)
        assert finding.message == "1 compiled region (ForeignNode) hides the layers of 50 % of the kernel time"
        assert evidence_of(finding, "kernel time in compiled regions").value == 10_000
        assert evidence_of(finding, "largest region").detail == REGION


def test_fus007_counts_regions_together_and_names_the_largest() -> None:
    finding = only(hidden_layers, engine(9, 4, names={"a": OTHER}))
    assert finding.message == "2 compiled regions (ForeignNode) hide the layers of 100 % of the kernel time"
    largest = evidence_of(finding, "largest region")
    assert (largest.value, largest.detail) == (9_000, OTHER)


def test_fus007_layers_of_their_own_hide_nothing() -> None:
    assert hidden_layers.run(engine(4, 10, names={"f": "relu"})).status == Status.CLEAR


@pytest.mark.parametrize(
    ("kernel", "status"), [("__myl_Add", Status.COULD_NOT_RUN), ("at::native::add", Status.NOT_APPLICABLE)]
)
def test_fus007_without_layers(kernel: str, status: Status) -> None:
    assert hidden_layers.run(engine(4, 10, names={"e": "step"}, of="MyModels", kernel=kernel)).status == status
