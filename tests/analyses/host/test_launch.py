"""LCH001: enqueue-bound.

Of what a launch takes beyond 3 µs tracing is likely 0.53, but no more than 3 µs, 5 at most; a range is 0.8.
"""

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


STARVED = ("LLLLLLLLLLllllllllll" * 10 + "SSS", "." * 9 + "##........%%........" * 9 + "##........%%")
"""Twenty launches of 10 µs, each for a kernel of 2 that starts a microsecond before its launch returns; then a wait, 2
longer than the last kernel."""
GAIN = 143_000 - (9_000 + 1_000 + 20 * 2_000 + 19 * 111 + 2_000)
"""Without tracing its launches take 7 µs each, and it takes 143. In a graph it is launched in 9, starts 1 later, and
takes 20 kernels of 2 µs, 19 gaps of 0.11, and the 2 of the wait."""


def test_lch001_enqueue_bound() -> None:
    finding = only(enqueue_bound_inferences, drawn(repeated(*STARVED)))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert evidence_of(finding, "enqueue, median, traced").value == 200_000
    assert evidence_of(finding, "enqueue, median, without the profiler").value == 200_000 - 20 * 3_000 - 800
    assert evidence_of(finding, "first to last kernel, median, traced").value == 192_000
    # The first kernel comes earlier, too.
    assert evidence_of(finding, "first to last kernel, median, without the profiler").value == 192_000 - 19 * 3_000
    assert finding.recoverable_ns_per_inference == pytest.approx(GAIN, abs=300)
    assert finding.recoverable_ns == 10 * finding.recoverable_ns_per_inference
    assert finding.recoverable_between_ns is not None
    low, high = finding.recoverable_between_ns
    # If tracing costs 5 µs a launch and the graph is the slowest; and if it costs nothing, and it is the fastest.
    assert 103_000 - (16_000 + 6_000 + 42_000 + 19 * 360) < low < GAIN < high < 203_000 - (4_000 - 5_000 + 42_000)
    # The two overlap in part, and neither is a share of the other.
    assert finding.message.endswith(
        "even without the profiler: the host spends 139 µs launching an inference; the GPU's work takes 135 µs from "
        "its first kernel to its last"
    )
    assert not [evidence for evidence in finding.evidence if evidence.unit == "ratio"]
    assert finding.explains == ("gaps",)


def test_lch001_is_an_info_over_fewer_than_ten_inferences() -> None:
    finding = only(enqueue_bound_inferences, drawn(repeated(*STARVED, 9)))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert "only 9 inferences" in finding.message


def test_lch001_is_an_info_where_tracing_may_be_the_reason() -> None:
    # Launches of 5 µs: of the 2 beyond 3 µs all may be tracing, likely 1.06. The GPU waits 6 µs in three gaps of 3.
    thread, stream = "LLLLLlllllLLLLLlllll.", "....##...##...##...##"
    finding = only(enqueue_bound_inferences, drawn(repeated(thread, stream)))
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.LOW)
    assert "whether the GPU waits for it depends on what tracing cost" in finding.message
    assert finding.recommendation.endswith("measure the run without the profiler first")


def test_lch001_says_that_the_gpu_waits_where_it_does_at_the_likely_cost_of_tracing() -> None:
    """Launches of 7 µs: of the 4 beyond 3 all may be tracing, likely 2.2. Three gaps of 5 µs: 1 each is the GPU's."""
    finding = only(
        enqueue_bound_inferences, drawn(repeated("LLLLLLLlllllllLLLLLLLlllllll..", "......##.....##.....##.....##."))
    )
    assert "the GPU waits for the host's launches, if tracing cost what it usually does" in finding.message
    assert finding.confidence == Confidence.LOW


def starving(gaps: int) -> str:
    """Sixty launches of 3 µs, to which tracing adds nothing, for kernels of 3; so many have a gap of 2 behind them."""
    thread = "LLLlll" * 30 + "SSSS"
    stream = ".." + "".join("#%"[at % 2] * (1 if at < gaps else 3) + "." * (2 if at < gaps else 0) for at in range(60))
    return repeated(thread, stream, apart=0)


@pytest.mark.parametrize(
    ("gaps", "status"), [(10, Status.FINDINGS), (8, Status.CLEAR)], ids=["10 of 180 µs", "8, which is less"]
)
def test_lch001_the_gpu_has_to_starve_for_5_percent(gaps: int, status: Status) -> None:
    """The enqueue takes as long as the GPU, but keeps it waiting in gaps only: each less 1 that a dependent one has."""
    assert enqueue_bound_inferences.run(drawn(starving(gaps))).status == status


@pytest.mark.parametrize("apart", [10, 400], ids=["back to back", "paced"])
def test_lch001_the_time_between_inferences_is_no_launch_of_theirs(apart: int) -> None:
    """An inference that is launched ahead is not enqueue-bound, however long the GPU idles between two of them."""
    ahead = repeated("Llll..............", "..####%%%%####%%%%", 12, apart)
    assert enqueue_bound_inferences.run(drawn(ahead)).status == Status.CLEAR
    finding = only(enqueue_bound_inferences, drawn(repeated(*STARVED, 12, apart)))
    # Of the inference, and nothing of what lies between.
    assert finding.recoverable_ns_per_inference == pytest.approx(GAIN, abs=300)


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


@pytest.mark.parametrize(("window", "severity"), [(400, Severity.WARNING), (1_500, Severity.INFO)])
def test_lch001_is_a_warning_where_a_graph_brings_back_10_percent_at_least(window: int, severity: Severity) -> None:
    """Of the inference, 90 µs likely: 6 % of the longer one."""
    thread, stream = STARVED
    assert only(enqueue_bound_inferences, drawn(repeated(thread.ljust(window, "."), stream))).severity == severity


@pytest.mark.parametrize(("last", "status"), [(204, Status.FINDINGS), (205, Status.CLEAR)])
def test_lch001_next_to_the_ratio(last: int, status: Status) -> None:
    """Without tracing 280 - 6.8 µs of enqueue, against 341 µs of compute (0.801) and 342 (0.799)."""
    assert _status(140, 90, last) == status


def test_lch001_at_the_ratio() -> None:
    """Enqueue 28 µs, 21.2 without the two launches' tracing and the range's; compute 26 or 27 without the second's."""
    assert _status(14, 9, 15) == Status.FINDINGS
    assert _status(14, 9, 16) == Status.CLEAR


def _status(launch: int, first: int, last: int) -> Status:
    """Two launches, each for a kernel that starts a microsecond before its launch returns, and a wait for both."""
    thread = "L" * launch + "l" * launch + "S" * (last + 1)
    stream = "." * (launch - 1) + ("#" * first).ljust(launch, ".") + "%" * last
    return enqueue_bound_inferences.run(drawn(repeated(thread, stream))).status


def test_lch001_needs_inferences_with_work() -> None:
    outcome = enqueue_bound_inferences.run(drawn("nvtx 1:   [i..]\nthread 1: A...\nstream 7: ....\n"))
    assert outcome.status == Status.COULD_NOT_RUN
    assert outcome.reason.startswith("no inference with GPU work was found")
