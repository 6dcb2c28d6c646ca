"""FUS003: pointwise layers in a row. FUS004: quantization that dangles."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.fus003_unfused_pointwise_layers import unfused_pointwise_layers
from nsight_analyses.layers.fus004_dangling_quantization import dangling_quantization

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
LOW, MEDIUM, HIGH = Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH


def tensor(name: str, dtype: str | None = "FP16") -> list[dict[str, Any]]:
    return [{"name": name, "shape": [1, 8, 4, 4], "dtype": dtype, "format": "row major"}]


def layer(name: str, kind: str | None, reads: str = "", writes: str = "", dtypes: str = "FP16 FP16") -> dict[str, Any]:
    """A row of `layers`; without `reads` and `writes` its tensors are not recorded."""
    source, target = dtypes.split()
    ends = {"inputs": tensor(reads, source), "outputs": tensor(writes, target)} if reads else {}
    return {"name": name, "type": kind, **ends}


def engine(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"tables": {"layers": table("layers", [{"layer": at, **row} for at, row in enumerate(layers)])}}


def inference(first: int, others: str = "%%%", conv: int = 80) -> str:
    """An inference of `conv`, then layer `a` of `first` µs, then `b`, as long as `others`, then `c` of 1 µs."""
    pad = "." * (conv + first + len(others))
    return f"""
        nvtx 1:          [i................{pad}]
        nvtx 1 TensorRT: [e...............{pad}]
        nvtx 1 TensorRT: .[v.][a.][b.][c.]
        thread 1:        ..L...L...L...L..
        stream 7:        .................{"#" * conv}{"%" * first}{others.replace("%", "#")}%
    """


FIRST = layer("v", "CaskPooling", "x", "t0")
"""Comes before the rows, and could not take them in."""
CHAIN = (FIRST, layer("a", "PointWiseV2", "t0", "t1"), layer("b", "ElementWise", "t1", "t2"))


@pytest.mark.parametrize(
    ("first", "others", "conv", "severity", "recoverable"),
    [
        (10, "%%%", 80, INFO, 3 + 1),
        (20, "%" * 20, 80, WARNING, 20 + 1),
        (20, "%" * 10, 335, INFO, 10 + 1),
        (20, "%" * 10, 336, None, 0),
        (20, "%", 40, INFO, 1 + 1),
        (20, "%", 41, None, 0),
    ],
    ids=[
        "some",
        "10 % of the inference time",
        "3 % of the kernel time",
        "less",
        "2.5 % of the inference time",
        "less ",
    ],
)
def test_fus003_counts_all_but_the_longest_of_a_row(
    first: int, others: str, conv: int, severity: Severity | None, recoverable: int
) -> None:
    trace = drawn(inference(first, others, conv), **engine(*CHAIN, layer("c", "Shuffle", "t2", "t3")))
    if severity is None:
        assert unfused_pointwise_layers.run(trace).status == Status.CLEAR
        return
    finding = only(unfused_pointwise_layers, trace)
    assert (finding.severity, finding.confidence) == (severity, HIGH)
    assert finding.recoverable_ns == finding.recoverable_ns_per_inference == recoverable * 1000
    rows = (first + len(others) + 1) * 1000
    assert evidence_of(finding, "kernel time of the rows").value == rows
    assert evidence_of(finding, "layers in the rows").value == 3
    row = evidence_of(finding, "row")
    said = "a, b, c: they read and write 1.54 kB, 2 tensors only between them"
    assert (row.value, row.detail) == (rows, said)
    assert finding.cause == "what kept TensorRT from fusing them is not in the trace"


def test_fus003_a_convolution_could_take_the_row_in_whole() -> None:
    conv = layer("v", "CaskConvolution", "x", "y0")
    behind = (layer("to", "Reformat", "y0", "t0"), *CHAIN[1:], layer("c", "Shuffle", "t2", "t3"))
    finding = only(unfused_pointwise_layers, drawn(inference(10), **engine(conv, *behind)))
    assert (finding.severity, finding.recoverable_ns) == (INFO, 14_000)  # 14 of 111 µs, but it is judged by 4
    assert evidence_of(finding, "of it saved by a kernel of its own for each row").value == 4000


def test_fus003_counts_layers_under_5_us_apart() -> None:
    trace = drawn(inference(5, "%%%%"), **engine(*CHAIN, layer("c", "Shuffle", "t2", "t3")))
    short = evidence_of(only(unfused_pointwise_layers, trace), "of them shorter than 5.00 µs")
    assert (short.value, short.detail) == (2, "5.00 µs, 5.6 % of the kernel time")


def test_fus003_a_reformat_within_the_row_is_the_reason_and_not_counted() -> None:
    engine_ = engine(
        FIRST,
        layer("a", "PointWiseV2", "t0", "t1"),
        layer("b", "Reformat", "t1", "r1", "FP16 FP32"),
        layer("c", "ElementWise", "r1", "t2"),
    )
    finding = only(unfused_pointwise_layers, drawn(inference(10, conv=5), **engine_))
    assert finding.recoverable_ns == 1000
    assert evidence_of(finding, "kernel time of the rows").value == 11_000
    assert evidence_of(finding, "reformats within the rows").value == 1
    assert "layers that do not agree on datatype or layout are not fused" in finding.cause


def test_fus003_a_reformat_that_launches_nothing_does_not_hide_who_reads_whom() -> None:
    engine_ = engine(*CHAIN, layer("no kernel", "NoOp", "t2", "r2"), layer("c", "Shuffle", "r2", "t3"))
    assert only(unfused_pointwise_layers, drawn(inference(10), **engine_)).recoverable_ns == 4000


@pytest.mark.parametrize(
    ("third", "fourth", "recoverable"),
    [
        (layer("b", "ElementWise", "elsewhere", "t2"), layer("c", "Shuffle", "t2", "t3"), 1),
        (layer("b", "CaskPooling", "t1", "t2"), layer("c", "Shuffle", "t2", "t3"), None),
        (layer("b", "kgen", "t1", "t2"), layer("c", "Shuffle", "t2", "t3"), None),
    ],
    ids=["reads something else", "another kind of layer between", "a generated kernel is fused already"],
)
def test_fus003_a_row_ends(third: dict[str, Any], fourth: dict[str, Any], recoverable: int | None) -> None:
    outcome = unfused_pointwise_layers.run(drawn(inference(10, conv=5), **engine(*CHAIN[:2], third, fourth)))
    assert [finding.recoverable_ns for finding in outcome.findings] == ([] if recoverable is None else [1000])


def test_fus003_goes_by_kernel_names_where_types_are_not_recorded() -> None:
    names = [
        "sm80_xmma_fprop",
        "generatedNativePointwise",
        "void cuEltwise::eltwise<float>",
        "void cuScale::scale<float>",
    ]
    finding = only(unfused_pointwise_layers, drawn(inference(10), kernel_names=names))
    assert (finding.confidence, finding.recoverable_ns) == (MEDIUM, 4000)
    assert unfused_pointwise_layers.run(drawn(inference(10))).status == Status.CLEAR  # names say nothing


def test_fus003_sums_over_inferences() -> None:
    lines = [line.split(": ", 1) for line in inference(10).strip().splitlines()]
    twice = "\n".join(f"{label.strip():17}: {picture.strip():.<130}{picture.strip()}" for label, picture in lines)
    finding = only(unfused_pointwise_layers, drawn(twice, **engine(*CHAIN, layer("c", "Shuffle", "t2", "t3"))))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (8000, 4000)
    assert finding.message.startswith("3 pointwise or shape layers an inference run in 1 rows")
    assert evidence_of(finding, "row").value == 28_000


def test_fus003_cannot_run_without_layers() -> None:
    text = "nvtx 1:   [i.....]\nthread 1: .L.....\nstream 7: ...###."
    outcome = unfused_pointwise_layers.run(drawn(text, kernel_names="sm80_xmma_gemm"))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("no kernel of an inference lies inside of a TensorRT layer's range; capture an")


def quantized(dtypes: str, kind: str = "Scale") -> dict[str, Any]:
    """`a` reads what `v` writes, and `c` reads what it writes itself, so that it is neither first nor last."""
    last = layer("c", "CaskConvolution", "t1", "t2", f"{dtypes.split()[1]} FP16")
    return engine(FIRST, layer("a", kind, "t0", "t1", dtypes), last)


@pytest.mark.parametrize(
    ("dtypes", "kind", "found"),
    [
        ("FP16 INT8", "Scale", True),
        ("INT8 FP32", "Scale", True),
        ("FP32 FP8", "Quantize", True),
        ("INT8 INT8", "Scale", False),
        ("FP16 FP32", "Scale", False),
        ("FP16 INT8", "Reformat", False),
    ],
)
def test_fus004_scale_with_int8_on_one_side(dtypes: str, kind: str, found: bool) -> None:
    outcome = dangling_quantization.run(drawn(inference(10), **quantized(dtypes, kind)))
    assert [(f.recoverable_ns, f.confidence) for f in outcome.findings] == ([(10_000, HIGH)] if found else [])
    if found:
        (finding,) = outcome.findings
        assert finding.severity == INFO  # 10 of 112 µs
        assert evidence_of(finding, "layer").detail == dtypes.replace(" ", " to ")


def test_fus004_is_a_warning_from_10_percent_of_the_inference_time_on() -> None:
    finding = only(dangling_quantization, drawn(inference(20), **quantized("FP16 INT8")))
    assert (finding.severity, finding.recoverable_ns_per_inference) == (WARNING, 20_000)


def test_fus004_a_quantized_convolution_that_writes_floats_is_a_hint() -> None:
    network = engine(
        layer("v", "CaskConvolution", "x", "t0", "INT8 FP32"),  # reads the network's input
        layer("a", "CaskConvolution", "t0", "t1", "INT8 FP16"),
        layer("b", "CaskConvolution", "t1", "t2", "INT8 INT8"),
        layer("c", "CaskConvolution", "t2", "y", "INT8 FP32"),  # writes its output
    )
    finding = only(dangling_quantization, drawn(inference(10), **network))
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (INFO, LOW, None)
    assert evidence_of(finding, "quantized layers that write floats").value == 1
    assert evidence_of(finding, "layer").value == "a"


def test_fus004_needs_no_kernels() -> None:
    finding = only(dangling_quantization, drawn("thread 1: L", **quantized("FP16 INT8")))
    assert (finding.severity, finding.recoverable_ns, finding.bound) == (INFO, None, "")


def test_fus004_cannot_run_without_datatypes() -> None:
    outcome = dangling_quantization.run(drawn(inference(10), **engine({"name": "a", "type": "Scale"})))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("the engine's layers are recorded without datatypes; build it with DETAILED")
