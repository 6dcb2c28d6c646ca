"""What limits the layers, in text, page and JSON."""

from __future__ import annotations

import pytest
from drawn_samples import Kernel, Sampler, sampled
from jsonschema import Draft202012Validator

from nsight_tools import Trace, summarize
from nsight_tools.report.content import TraceReport
from nsight_tools.report.context import Context
from nsight_tools.report.formats.html import pages
from nsight_tools.report.formats.json import trace as machine
from nsight_tools.report.formats.text import trace as text
from nsight_tools.report.look import Look

KERNELS = [
    Kernel("gemm", 40, {"sms_active": 99, "sm_issue": 20, "tensor_active": 80, "dram_read": 20}, "product"),
    Kernel("pool", 30, {"sms_active": 8, "sm_issue": 2, "tensor_active": 0, "dram_read": 1}, "pooling"),
]


@pytest.fixture(scope="module")
def trace() -> Trace:
    return sampled(KERNELS, requests=400)


def test_text(trace: Trace) -> None:
    page = text.render([TraceReport("x", summarize(trace), [])], Context(Look(width=120)))
    assert "What limits the layers   of an inference: the Tensor Cores 40.0 µs, occupancy 30.0 µs" in page
    (product,) = [line for line in page.splitlines() if line.strip().startswith("product")]
    assert "the Tensor Cores: the Tensor Cores at 80 %" in product or "the Tensor Cores at 79 %" in product


def test_json(trace: Trace) -> None:
    said = machine.document([TraceReport("x", summarize(trace), [])])
    Draft202012Validator(machine.schema()).validate(said)
    product, pooling = said["traces"][0]["limits"]["layers"]
    assert (product["name"], product["limit"], pooling["limit"]) == ("product", "tensor", "occupancy")
    assert product["shares"]["tensor_active"]["share"] == pytest.approx(0.8, abs=0.02)
    assert product["dram_bytes"]["point"] == pytest.approx(0.2 * 4e12 * 40e-6, rel=0.1)


def test_page(trace: Trace) -> None:
    page = pages.section(TraceReport("x", summarize(trace), []), trace)
    assert "Limited by occupancy: " in page
    assert "Limited by the Tensor Cores: " in page


def test_why_nothing_is_told_is_in_all_of_them() -> None:
    shared = sampled(KERNELS, Sampler(idle=60), requests=100)
    report = TraceReport("x", summarize(shared), [])
    why = "what limits the layers is not known: another process works on the GPU"
    said = machine.document([report])
    Draft202012Validator(machine.schema()).validate(said)
    assert said["traces"][0]["limits"]["layers"] == []
    assert why in said["traces"][0]["limits"]["notes"][0]
    assert why in " ".join(text.render([report], Context(Look(everything=True, width=300))).split())
    assert "Left out: why it is not known what limits the layers" in text.render([report], Context(Look(width=300)))
    assert why in pages.section(report, shared)
