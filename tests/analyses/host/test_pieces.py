"""LCH007: inferences of several enqueues, and what lies between those."""

from __future__ import annotations

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.host.lch007_inferences_in_pieces import inferences_in_pieces

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

IDLE = "GPU idle between enqueues"


def pieces(idle: int, between: str = ".", times: int = 5) -> str:
    """Inferences of 100 µs and three enqueues; the GPU is idle for so long between the first two of each."""
    rows = {
        "nvtx 1": "[i" + "." * 97 + "]",
        "nvtx 1 TensorRT": "[e" + "." * 17 + "]" + "." * 20 + ("[e" + "." * 17 + "]" + "." * 5) * 2 + "." * 10,
        "thread 1": "L" + "." * 19 + between * 20 + "L" + "." * 24 + "L" + "." * 34,
        "stream 7": "." + "#" * (39 - idle) + "." * (idle + 1) + "%" * 25 + "#" * 24 + "." * 10,
    }
    return "\n".join(f"{label + ':':<17}{row * times}" for label, row in rows.items())


@pytest.mark.parametrize(
    ("idle", "severity"),
    [(4, None), (5, Severity.INFO), (9, Severity.INFO), (10, Severity.WARNING)],
    ids=["less than 5 %", "5 %", "less than 10 %", "10 %"],
)
def test_how_much(idle: int, severity: Severity | None) -> None:
    outcome = inferences_in_pieces.run(drawn(pieces(idle)))
    assert outcome.status == (Status.FINDINGS if severity else Status.CLEAR)
    for finding in outcome.findings:
        assert (finding.severity, finding.confidence) == (severity, Confidence.MEDIUM)
        assert (finding.recoverable_ns, finding.recoverable_ns_per_inference) == (5000 * idle, 1000 * idle)
        assert evidence_of(finding, IDLE).value == 5000 * idle
        assert evidence_of(finding, "enqueues of an inference, median").value == 3


@pytest.mark.parametrize(
    ("kernels", "engines", "cause"),
    [
        (["a", "b", "c"], 3, "operators that TensorRT does not support cut the network into partitions"),
        (["a", "b", "a"], 2, "the host works, copies or waits between the enqueues of one inference"),
        (["a", "a", "a"], 1, "the host works, copies or waits between the enqueues of one inference"),
    ],
    ids=["three engines", "two", "one"],
)
def test_from_three_engines_on_they_are_partitions_of_one_network(kernels: list[str], engines: int, cause: str) -> None:
    finding = only(inferences_in_pieces, drawn(pieces(20), kernel_names=kernels * 5))
    assert finding.message.startswith(f"3 enqueues of {engines} engines make one inference, and the GPU idles between")
    assert finding.cause.startswith(cause)
    assert finding.explains == (("gaps", "synchronizations") if engines == 3 else ())
    assert ("unsupported operators" in finding.recommendation) == (engines == 3)


@pytest.mark.parametrize(
    ("call", "status"),
    [("cudaMalloc", Status.CLEAR), ("cuModuleLoadData", Status.CLEAR), ("cudaEventRecord", Status.FINDINGS)],
)
def test_what_allocates_or_loads_between_them_is_another_rules(call: str, status: Status) -> None:
    assert inferences_in_pieces.run(drawn(pieces(20, "A"), other_api=call)).status == status


def test_inferences_of_one_enqueue_have_no_pieces() -> None:
    one = "\n".join(
        f"{label:<17}{row * 5}"
        for label, row in (
            ("nvtx 1:", "[i" + "." * 7 + "]"),
            ("nvtx 1 TensorRT:", "[e" + "." * 5 + "]..."),
            ("thread 1:", "L........."),
            ("stream 7:", ".########."),
        )
    )
    outcome = inferences_in_pieces.run(drawn(one))
    assert (outcome.status, outcome.reason) == (
        Status.NOT_APPLICABLE,
        "no inference consists of several enqueues",
    )


def test_without_inferences() -> None:
    assert inferences_in_pieces.run(drawn("nvtx 1:   [i..]\nthread 1: A....")).status == Status.COULD_NOT_RUN
