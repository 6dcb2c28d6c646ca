"""FUS008 and what it goes by: work of an inference that no engine launched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.fus008_operators_outside_of_engines import operators_outside_of_engines

from nsight_tools.analysis import Status
from nsight_tools.findings import Severity
from nsight_tools.run.outside import Operator, outside

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

RELU = "aten::relu, seq = 3, op_id = 7, sizes = [[1, 8]]"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>"
NOCAST = "void at::native::elementwise_kernel<(int)128, (int)2, void at::native::gpu_kernel_impl_nocast<at::native::"
ITERATOR = "(at::TensorIteratorBase &, const T1 &)"
"""Of names as nsys writes them."""
NAMES = {"r": RELU, "c": "aten::cat, op_id = 9"}


def inference(between: int = 10, behind: int = 2, **options: Any) -> Trace:
    """An engine of 10 µs, `between` µs of PyTorch, an engine of 10 µs, and `behind` µs of PyTorch."""
    rest = "." * (20 + between + behind)
    return drawn(
        f"""
        nvtx 1:          [i{"." * 16}{rest}]
        nvtx 1 default:  .....[r.].....[c]
        nvtx 1 TensorRT: .[e.].....[e.]
        thread 1:        ..L...l....L...l.{"S" * len(rest)}.
        stream 7:        {"." * 17}{"#" * 10}{"%" * between}{"#" * 10}{"%" * behind}
        """,
        names=NAMES | options.pop("names", {}),
        **options,
    )


def test_operators_by_their_ranges() -> None:
    found = outside(trace := inference())
    assert found.operators == (Operator("aten::relu", 1, 10_000, True), Operator("aten::cat", 1, 2_000, False))
    assert (found.exposed.total, found.breaks.total) == (12_000, 10_000)
    assert found.requests == 1
    assert outside(trace) is found


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>", "Add"),
        (ADD, "add"),
        (
            f"{NOCAST}BinaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float>>>{ITERATOR}",
            "Mul",
        ),
        (f"{NOCAST}neg_kernel_cuda{ITERATOR}::[lambda() (instance 2)]::operator ()()>{ITERATOR}", "neg"),
        (
            f"void vectorized_elementwise_kernel<(int)8, at::native::<unnamed>::launch_clamp_scalar{ITERATOR}>",
            "clamp_scalar",
        ),
        (
            f"void at::native::vectorized<(int)4, void at::native::<unnamed>::pow_kernel_impl<float, float>{ITERATOR}",
            "pow",
        ),
        ("reduce_kernel<(int)512, at::native::ReduceOp<c10::Half, at::native::MeanOps<c10::Half, float>>>(T3)", "Mean"),
        ("softmax_warp_forward", "softmax_warp_forward"),
    ],
)
def test_operators_without_ranges_by_their_kernels(kernel: str, name: str) -> None:
    text = """
        nvtx 1:          [i......................]
        nvtx 1 TensorRT: .[e.]
        thread 1:        ..L...lL.SSSSSSSSSSSSSS..
        stream 7:        .......#####%%%%%####....
    """
    assert outside(drawn(text, kernel_names=kernel)).operators == (Operator(name, 2, 9_000, between=False),)


def test_a_graph_may_run_an_engine() -> None:
    text = """
        nvtx 1:          [i......................]
        nvtx 1 TensorRT: .[e.].......[e.]
        thread 1:        ..L...G......L.SSSSSSS..
        stream 7:        .......###ggggg###......
    """
    found = outside(drawn(text))
    assert (found.operators, found.requests) == ((), 1)


def test_a_range_that_began_before_the_request_names_no_operator() -> None:
    text = """
        nvtx 1 default:  [everything.............]
        nvtx 1:          .[i....................]
        nvtx 1 TensorRT: ..[e]
        thread 1:        ...L..l.SSSSSSSSSSSSS...
        stream 7:        .......#####%%%%%%%%%%..
    """
    (operator,) = outside(drawn(text)).operators
    assert operator.name == "kernel"


@pytest.mark.parametrize(
    ("between", "severity", "lost"),
    [(10, Severity.WARNING, 10_000), (4, Severity.INFO, 4_000), (1, Severity.INFO, None)],
)
def test_fus008_breaks(between: int, severity: Severity, lost: int | None) -> None:
    finding = only(operators_outside_of_engines, inference(between, 5))
    assert (finding.severity, finding.recoverable_ns) == (severity, lost)
    assert finding.message.startswith("2 kinds of operators run outside of the engines of an inference, for ")
    assert evidence_of(finding, "runs outside of engines").value == 1_000 * (between + 5)
    assert evidence_of(finding, "of it between two engines").value == 1_000 * between


def test_fus008_names_the_operators() -> None:
    finding = only(operators_outside_of_engines, inference())
    assert evidence_of(finding, "operator").detail == "aten::relu: 1 kernel, between two engines"
    assert "break the network's graph" in finding.cause


def test_fus008_what_hides_behind_an_engine_costs_nothing() -> None:
    text = """
        nvtx 1:          [i......................]
        nvtx 1 TensorRT: .[e.]
        thread 1:        ..L...l.SSSSSSSSSSSSSSS..
        stream 7:        .......###############..
        stream 8:        ........%%%%%%%%%%.....
    """
    assert operators_outside_of_engines.run(drawn(text)).status == Status.CLEAR


def test_fus008_without_tensorrt() -> None:
    text = """
        nvtx 1:          [i......................]
        thread 1:        ..L...l.SSSSSSSSSSSSSSS..
        stream 7:        .......#####%%%%%%%%%%..
    """
    outcome = operators_outside_of_engines.run(drawn(text, kernel_names=ADD))
    assert outcome.status == Status.NOT_APPLICABLE
