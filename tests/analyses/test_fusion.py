"""FUS001: gaps between the kernels of an inference. FUS002: layers that only change a tensor's format."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.fusion import gaps_between_kernels, reformat_layers

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
LOW, MEDIUM, HIGH = Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH

STARVED = """
    nvtx 1:   [i.......................................................]
    thread 1: L...................L...................L.................
    stream 7: .##..................##..................##...............
"""
"""58 µs; gaps [3, 21) and [23, 41), before each the launch at 20 and 40."""

EXPLAINED = """
    nvtx 1:   [i..........]
    thread 1: LL...LL...LL.
    stream 7: ..####.####.####
"""
"""Gaps [6, 7) and [11, 12), each one waits for the call that returns there; 16 µs, of which the host has 13."""

DEPENDENT = """
    nvtx 1:   [i...............]
    thread 1: LlL.........SSSSS.
    stream 7: ...####.####.####.
"""
FORTY = """
    nvtx 1:   [i.....................................]
    thread 1: Ll..................SSSSSSSSSSSSSSSSSSSS
    stream 7: ..####..################################
"""
"""2 µs of 40: 5 %."""


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "starved: launches are 20 µs apart, of which tracing takes 4.5 at most",
            STARVED,
            WARNING,
            18 + 18 - 3 * 1.5,
            {
                "idle between kernels": 36,
                "of it waiting for the host": 36,
                "of it between kernels already launched": 0,
                "kernel launches": 3,
                "host time that tracing adds": 3 * 4.5,
                "longest gap": 18,
            },
            MEDIUM,
            "the host cannot launch as fast as the GPU works, even without the profiler",
        ),
        Case(
            "tracing explains it: without 1.5 µs a launch the host takes 8.5 µs, and the GPU 12",
            EXPLAINED,
            INFO,
            0,
            {"idle between kernels": 2, "kernel launches": 3},
            LOW,
            "tracing alone can explain it",
        ),
        Case(
            "cannot tell: the host takes 17.5 µs without 1.5 µs a launch and 8.5 without 4.5, the GPU 14",
            """
            nvtx 1:   [i....................]
            thread 1: L........L.........L...
            stream 7: .#####...#####.....####
            """,
            INFO,
            3 + 5 - 4.5,
            {"idle between kernels": 8},
            LOW,
            "cannot be told from this trace",
        ),
        Case(
            "dependency gaps: the kernels were launched before",
            DEPENDENT,
            INFO,
            2,
            {"of it waiting for the host": 0, "of it between kernels already launched": 2, "longest gap": 1},
            MEDIUM,
            "a CUDA graph shortens the gap between dependent kernels",
        ),
        Case(
            "a call that returns within the gap: the kernel starts 2 µs later, and the gap is the host's",
            """
            nvtx 1:   [i...................]
            thread 1: L............L........
            stream 7: .####...........####..
            """,
            WARNING,
            11 - 2 * 1.5,
            {"of it waiting for the host": 11, "of it between kernels already launched": 0},
        ),
        Case("5 % of the time", FORTY, INFO, 2),
        Case("less", FORTY.replace("####..####", "####.#####")),
        Case(
            "between two inferences the GPU may idle",
            """
            nvtx 1:   [i..]..............[i..]
            thread 1: L..................L....
            stream 7: .####...............####
        """,
        ),
        Case(
            "a copy fills the gap",
            """
            nvtx 1:   [i................]
            thread 1: LC...........L....
            stream 7: .####.........####
            stream 8: ....>>>>>>>>>>....
        """,
        ),
        Case(
            "another stream's kernel fills the gap",
            """
            nvtx 1:   [i...............]
            thread 1: Ll...........L...
            stream 7: .####.........###
            stream 8: ....##########...
        """,
            options={"kernel_calls": [0, 1, 2]},
        ),
    ],
    ids=str,
)
def test_fus001_gaps(case: Case) -> None:
    case.check(gaps_between_kernels)


def test_fus001_says_where_the_longest_gaps_are_and_what_tracing_takes_at_most() -> None:
    finding = only(gaps_between_kernels, drawn(STARVED))
    gaps = [(e.start_ns, e.end_ns) for e in finding.evidence if e.metric == "longest gap"]
    assert gaps == [(3_000, 21_000), (23_000, 41_000)]
    assert finding.bound == "gap time less 1.5 µs of tracing for each launch; 22.5 µs in all if tracing takes 4.5 µs"
    assert evidence_of(finding, "kernel launches").detail == "3 an inference"


def test_fus001_counts_one_launch_for_all_kernels_of_a_graph() -> None:
    finding = only(
        gaps_between_kernels,
        drawn("""
        nvtx 1:   [i.........]
        thread 1: GG.SSSSSSSSS
        stream 7: ..nn.nn.nn.nn
    """),
    )
    assert evidence_of(finding, "kernel launches").value == 1
    assert (finding.severity, finding.recoverable_ns) == (INFO, 3000)
    assert evidence_of(finding, "of it between kernels already launched").value == 3000


def test_fus001_spreads_the_loss_over_the_inferences() -> None:
    lines = [line.split(":") for line in STARVED.strip().splitlines()]
    twice = "\n".join(f"{label.strip():9}: {picture.strip():.<60}{picture.strip()}" for label, picture in lines)
    finding = only(gaps_between_kernels, drawn(twice))
    assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (2 * 31_500, 31_500)


def test_fus001_needs_a_launch_call_and_inferences() -> None:
    outcome = gaps_between_kernels.run(drawn(STARVED, kernel_calls=[None] * 3))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "no kernel of an inference can be joined to the API call that launched it",
    )
    none = drawn("stream 7: ##...##", missing={"inferences": "no ranges were recorded"})
    outcome = gaps_between_kernels.run(none)
    assert (outcome.status, outcome.reason) == (Status.COULD_NOT_RUN, "no ranges were recorded")


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
    assert evidence_of(finding, "of it in layers named Reformatting CopyNode …").value == reformat * 1000
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
    assert evidence_of(finding, "of it in layers named Reformatting CopyNode …").value == 0
    assert ("1 of them change the datatype" in finding.cause) == change.startswith("datatype")


def test_fus002_is_less_sure_where_not_all_kernels_have_a_layer() -> None:
    text, options = layers(20, reformat=5)
    finding = only(reformat_layers, drawn(text + "    stream 8: " + "." * 40 + "##\n", **options))
    assert finding.confidence == MEDIUM
    assert evidence_of(finding, "share of the kernel time").value == 5 / 25


def test_fus002_cannot_run_where_no_kernel_has_a_layer() -> None:
    outcome = reformat_layers.run(drawn(STARVED))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("no kernel lies inside of a TensorRT layer's range; capture an eager run")
