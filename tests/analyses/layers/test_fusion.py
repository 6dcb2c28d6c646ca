"""FUS002: layers that only change a tensor's format."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.fus002_reformat_layers import reformat_layers
from nsight_analyses.layers.fus003_unfused_pointwise_layers import unfused_pointwise_layers
from nsight_analyses.layers.fus004_dangling_quantization import dangling_quantization

from nsight_tools.analysis import Analysis, Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
MEDIUM, HIGH = Confidence.MEDIUM, Confidence.HIGH

PLAIN = """
    nvtx 1:   [i...]
    thread 1: L.....
    stream 7: .##...
"""

R = {"r": "Reformatting CopyNode for Input Tensor 0 to conv"}


def layers(kernel: int, *, reformat: int = 1, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """An inference of two layers: `conv` takes `kernel` µs, the reformat behind it `reformat`."""
    text = f"""
        nvtx 1:          [i........{"." * (kernel + reformat)}]
        nvtx 1 TensorRT: [e........]
        nvtx 1 TensorRT: .[conv][r.]
        thread 1:        ..L.....L...
        stream 7:        ..........{"#" * kernel}{"%" * reformat}
    """
    return text, {"names": R} | (options or {})


def inspected(*rows: dict[str, Any]) -> dict[str, Any]:
    """The engine inspector's layers."""
    return {"tables": {"layers": table("layers", [{"layer": at, **row} for at, row in enumerate(rows)])}}


def tensor(dtype: str, layout: str = "row major") -> list[dict[str, Any]]:
    return [{"name": "t", "shape": [1], "dtype": dtype, "format": layout}]


@pytest.mark.parametrize(
    ("kernel", "reformat", "severity"),
    [(97, 3, INFO), (98, 3, None), (60, 15, WARNING), (61, 10, INFO), (50, 0, None)],
    ids=["3 % of the kernel time", "less", "15 % of the inference time", "less than 15 %", "no reformat"],
)
def test_fus002_by_name(kernel: int, reformat: int, severity: Severity | None) -> None:
    text, options = layers(kernel, reformat=reformat)
    trace = drawn(text, **options)
    if severity is None:
        assert reformat_layers.run(trace).status == Status.CLEAR
        return
    finding = only(reformat_layers, trace)
    assert (finding.severity, finding.confidence) == (severity, HIGH)
    assert finding.recoverable_ns == finding.recoverable_ns_per_inference == reformat * 1000
    assert evidence_of(finding, "kernel time in reformat layers").value == reformat * 1000
    assert evidence_of(finding, "share of the kernel time").value == reformat / (kernel + reformat)
    assert evidence_of(finding, "of it in Reformatting CopyNode layers").value == reformat * 1000
    assert evidence_of(finding, "layer").detail == f"{R['r']} (what it changes is not recorded)"


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ({"type": "Reformat", "inputs": tensor("FP32"), "outputs": tensor("FP16")}, "datatype FP32 to FP16"),
        ({"type": "NoOp", "inputs": tensor("FP16"), "outputs": tensor("FP16", "vectorized")}, "layout only, FP16"),
        ({"type": "Reformat", "inputs": tensor("INT8"), "outputs": tensor("INT8")}, "neither datatype nor layout"),
        ({"type": "Reformat"}, "what it changes is not recorded"),
        ({"type": "CaskConvolution", "inputs": tensor("FP32"), "outputs": tensor("FP16")}, None),
        ({"type": None}, None),
    ],
    ids=["datatype", "layout", "nothing", "unknown", "another type", "no type"],
)
def test_fus002_by_the_inspectors_type(engine: dict[str, Any], change: str | None) -> None:
    text, options = layers(
        20, options={"names": {"r": "conv2 output 0"}} | inspected({"name": "conv2 output 0", **engine})
    )
    trace = drawn(text.replace("%", "%%%%%"), **options)
    if change is None:
        assert reformat_layers.run(trace).status == Status.CLEAR
        return
    finding = only(reformat_layers, trace)
    assert finding.recoverable_ns == 5000
    assert evidence_of(finding, "layer").detail == f"conv2 output 0 ({change})"
    assert evidence_of(finding, "of it in Reformatting CopyNode layers").value == 0
    assert ("1 of them change the datatype" in finding.cause) == change.startswith("datatype")


def test_fus002_is_less_sure_where_not_all_kernels_have_a_layer() -> None:
    text, options = layers(20, reformat=5)
    without = text.replace("..L.....L...", "..L.....L..L") + "    stream 8: " + "." * 40 + "##\n"
    finding = only(reformat_layers, drawn(without, **options))
    assert finding.confidence == MEDIUM
    assert evidence_of(finding, "share of the kernel time").value == 5 / 25


@pytest.mark.parametrize(("before", "within", "found"), [("r", "c", False), ("c", "r", True)])
def test_fus002_only_looks_at_inferences(before: str, within: str, found: bool) -> None:
    trace = drawn(
        f"""
        nvtx 1:          ..........[i...........]
        nvtx 1 TensorRT: [e...]....[e...]........
        nvtx 1 TensorRT: .[{before}.]......[{within}.].........
        thread 1:        ..L.........l...........
        stream 7:        ...####......%%%%.......
        """,
        names=R | {"c": "conv"},
    )
    assert bool(reformat_layers.run(trace).findings) == found


def test_fus002_cannot_run_where_no_kernel_has_a_layer() -> None:
    outcome = reformat_layers.run(drawn(PLAIN, kernel_names="sm80_xmma_gemm"))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("no kernel lies inside of a TensorRT layer's range; capture an eager run")


@pytest.mark.parametrize(
    "analysis", [reformat_layers, unfused_pointwise_layers, dangling_quantization], ids=lambda a: a.code
)
@pytest.mark.parametrize(
    ("text", "names", "certain"),
    [
        (PLAIN, "stencil", True),
        (PLAIN, "sm80_xmma_gemm", False),
        (PLAIN.replace("L", "G"), "stencil", False),
        (PLAIN.replace("nvtx 1:  ", "nvtx 1 TensorRT:").replace("[i...]", "[e...]"), "at::native::add", False),
        (PLAIN.replace("nvtx 1:   [i...]", ""), "stencil", True),
        (PLAIN.replace("nvtx 1:   [i...]", ""), "sm80_xmma_gemm", False),
        (PLAIN.replace("L", "G"), "at::native::add", True),
        (PLAIN.replace("nvtx 1:   [i...]", ""), "at::native::add", True),
    ],
    ids=[
        "another program",
        "its kernels",
        "a graph may hide it",
        "its ranges",
        "no ranges",
        "no ranges, its kernels",
        "a framework's graph",
        "a framework without ranges",
    ],
)
def test_without_tensorrt_there_are_no_layers_to_look_for(
    analysis: Analysis, text: str, names: str, *, certain: bool
) -> None:
    outcome = analysis.run(drawn(text, kernel_names=names, missing={"layers": "not given"}))
    assert outcome.status == (Status.NOT_APPLICABLE if certain else Status.COULD_NOT_RUN)
