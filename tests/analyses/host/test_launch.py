"""LCH001: enqueue-bound. Tracing takes 0.15, likely 0.3 of the shortest launches, 4.5 µs at most, and 0.5 a range."""

from __future__ import annotations

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.host.lch001_enqueue_bound_inferences import enqueue_bound_inferences

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity


def repeated(thread: str, stream: str, times: int = 10, apart: int = 10) -> str:
    """So many inferences, so many µs apart."""
    long = max(len(thread), len(stream))
    gap = "." * apart
    inference = "[i" + "." * (long - 3) + "]"
    pictures = (
        ("nvtx 1:  ", inference),
        ("thread 1:", thread.ljust(long, ".")),
        ("stream 7:", stream.ljust(long, ".")),
    )
    return "\n".join(f"{label} {gap.join([picture] * times)}" for label, picture in pictures)


def test_lch001_enqueue_bound() -> None:
    thread = "LLLLLLLLLLllllllllllLLLLLLLLLLllllllllll.."
    stream = ".........##........##.........##........##"
    finding = only(enqueue_bound_inferences, drawn(repeated(thread, stream)))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert evidence_of(finding, "enqueue, median, traced").value == 40_000
    assert evidence_of(finding, "enqueue, median, without the profiler").value == 40_000 - 4 * 3_000 - 500
    # Three gaps of 8, 9 and 8 µs, each less 3 µs of tracing and less 0.1 that a graph has.
    assert finding.recoverable_ns_per_inference == 25_000 - 9_000 - 300
    assert finding.recoverable_ns == 10 * 15_700
    # With 0.15 of a launch, and with 4.5 µs; and 20 % either way, but no more than is idle at 0.15.
    gain = evidence_of(finding, "a CUDA graph recovers, per inference")
    assert gain.detail.startswith("between 8.96 µs and 20.5 µs of ")
    assert evidence_of(finding, "first to last kernel, median, without the profiler").value == 33_000 - 9_000
    # The two overlap in part, and neither is a share of the other.
    assert finding.message.endswith(
        "even without the profiler: the host spends 27.5 µs launching an inference; the GPU's work takes 24.0 µs from "
        "its first kernel to its last"
    )
    assert not [evidence for evidence in finding.evidence if evidence.unit == "ratio"]
    assert finding.explains == ("gaps",)


def test_lch001_is_an_info_over_fewer_than_ten_inferences() -> None:
    thread = "LLLLLLLLLLllllllllllLLLLLLLLLLllllllllll.."
    stream = ".........##........##.........##........##"
    finding = only(enqueue_bound_inferences, drawn(repeated(thread, stream, 9)))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert "only 9 inferences" in finding.message


def test_lch001_is_an_info_where_tracing_may_be_the_reason() -> None:
    # Launches of 5 µs: 20 µs of enqueue, likely 13.5, 5 at the least; the compute is 17 traced, 8 at least.
    thread, stream = "LLLLLlllllLLLLLlllll.", "....##...##...##...##"
    finding = only(enqueue_bound_inferences, drawn(repeated(thread, stream)))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert "if tracing cost what it usually does" in finding.message
    assert finding.recommendation.endswith("measure the run without the profiler first")


STARVED = ("LLLLLLLLLLllllllllllLLLLLLLLLLllllllllll..", ".........##........##.........##........##")


def starving(idle: int, gaps: int) -> str:
    """Twenty launches of 2 µs, 10 apart, whose kernels follow each other but for so many gaps of so many µs."""
    thread = "".join("Ll"[at % 2] * 2 + "." * 8 for at in range(20))
    lost = [idle if at < gaps else 0 for at in range(20)]
    stream = ".." + "".join("#%"[at % 2] * (10 - less) + "." * less for at, less in enumerate(lost))
    return repeated(thread, stream)


@pytest.mark.parametrize(
    ("idle", "gaps", "status"), [(5, 3, Status.FINDINGS), (4, 4, Status.CLEAR)], ids=["10.2 of 198 µs", "9.6"]
)
def test_lch001_the_gpu_has_to_starve_for_5_percent(idle: int, gaps: int, status: Status) -> None:
    """The enqueue takes as long as the GPU, but keeps it waiting in gaps only: each less 0.6 µs of tracing and 1."""
    assert enqueue_bound_inferences.run(drawn(starving(idle, gaps))).status == status


@pytest.mark.parametrize("apart", [10, 400], ids=["back to back", "paced"])
def test_lch001_the_time_between_inferences_is_no_launch_of_theirs(apart: int) -> None:
    """An inference that is launched ahead is not enqueue-bound, however long the GPU idles between two of them."""
    ahead = repeated("Llll..............", "..####%%%%####%%%%", 12, apart)
    assert enqueue_bound_inferences.run(drawn(ahead)).status == Status.CLEAR
    finding = only(enqueue_bound_inferences, drawn(repeated(*STARVED, 12, apart)))
    assert finding.recoverable_ns_per_inference == 15_700  # of the inference, and nothing of what lies between


@pytest.mark.parametrize(
    ("kernel", "remedy"),
    [
        ("void at::native::vectorized_elementwise_kernel<4>", "torch.cuda.graph"),
        ("stencil", "cudaStreamBeginCapture"),
        ("sm80_xmma_fprop_implicit_gemm", "trtexec --useCudaGraph"),
    ],
)
def test_lch001_speaks_of_what_the_program_is(kernel: str, remedy: str) -> None:
    finding = only(enqueue_bound_inferences, drawn(repeated(*STARVED), kernel_names=kernel))
    said = f"{finding.message} {finding.cause} {finding.recommendation}"
    names = ("torch.cuda.graph", "cudaStreamBeginCapture", "trtexec", "TensorRT", "enqueueV3")
    assert [name for name in names if name in said] == [name for name in names if name in remedy]
    assert finding.cause == (
        "kernels finish before the host has launched the next one: one each 10.0 µs for kernels of 2.00 µs (medians, "
        "as traced)"
    )


@pytest.mark.parametrize(
    ("thread", "stream"),
    [
        ("LLLlllLLLlll.", "..##.##.##.##"),
        ("LLLLllllLLLL.......", "..######..####..###"),
        (
            "LLLLLLLLLLLLLLLLLLLLllllllllllllllllllllLLLLLLLLLLLLLLLLLLLL.",
            "##################################################",
        ),
        ("GGGGGGGGGGGGGGGGGGGG..", "..nn.nn.nn.nn.nn.nn"),
    ],
    ids=["only traced", "the GPU takes longer", "launches block behind the GPU's work", "a CUDA graph"],
)
def test_lch001_clear(thread: str, stream: str) -> None:
    options = {"kernel_calls": [0] * 10} if stream.count("#") == len(stream) else {}
    outcome = enqueue_bound_inferences.run(drawn(repeated(thread, stream), **options))
    assert (outcome.status, outcome.reason) == (Status.CLEAR, "")


@pytest.mark.parametrize(("window", "severity"), [(89, Severity.WARNING), (90, Severity.INFO)])
def test_lch001_is_a_warning_where_a_graph_recovers_10_percent_at_least(window: int, severity: Severity) -> None:
    """8.96 µs an inference, if tracing costs most."""
    thread = "LLLLLLLLLLllllllllllLLLLLLLLLLllllllllll".ljust(window, ".")
    stream = ".........##........##.........##........##"
    assert only(enqueue_bound_inferences, drawn(repeated(thread, stream))).severity == severity


@pytest.mark.parametrize(("last", "status"), [(96, Status.FINDINGS), (97, Status.CLEAR)])
def test_lch001_next_to_the_ratio(last: int, status: Status) -> None:
    """195.5 µs of enqueue without tracing, against 244 µs of compute (0.801) and 245 (0.798)."""
    assert _status("L" * 140 + "l" * 140, "." + "#" * 90 + "." * 100 + "#" * last) == status


def test_lch001_at_the_ratio() -> None:
    """Enqueue 28 µs, likely 19.1 without tracing; compute less 4.2 µs of the gap: 23.8 or 24.8, and the bar is 23.9."""
    thread = "LLLLLLLLLLLLLLllllllllllllll"
    assert _status(thread, ".#########..........#########") == Status.FINDINGS
    assert _status(thread, ".#########..........##########") == Status.CLEAR


def _status(thread: str, stream: str) -> Status:
    return enqueue_bound_inferences.run(drawn(repeated(thread, stream))).status


def test_lch001_needs_inferences_with_work() -> None:
    outcome = enqueue_bound_inferences.run(drawn("nvtx 1:   [i..]\nthread 1: A...\nstream 7: ....\n"))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("no inference with GPU work was found")
