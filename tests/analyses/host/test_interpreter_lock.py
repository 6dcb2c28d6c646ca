"""LCH009: the thread that launches waits for Python's interpreter lock."""

from __future__ import annotations

import pytest
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.host.lch009_waits_for_the_interpreter_lock import waits_for_the_interpreter_lock

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

NAMES = {"w": "Waiting for GIL", "h": "Holding GIL"}


def inference(wait: int, *, length: int = 100, work: int = 5, held: bool = True) -> str:
    """A launch, and `wait` us of waiting for the lock, the first of which beside the `work` us of the kernel."""
    return f"""
        nvtx 1:           [i{"." * (length - 3)}]
        nvtx 1 GIL_Trace: ...[w{"." * (wait - 3)}]
        nvtx {2 if held else 1} GIL_Trace: {"..." if held else "." * (wait + 3)}[h{"." * (wait - 3)}]
        thread 1:         LL{"." * (length - 4)}SS
        stream 7:         ..{"#" * work}
    """


@pytest.mark.parametrize(
    ("wait", "severity", "lost"),
    [(54, Severity.WARNING, 50), (13, Severity.INFO, 9), (7, Severity.INFO, 3), (6, None, None)],
)
def test_what_is_lost(wait: int, severity: Severity | None, lost: int | None) -> None:
    """Of the wait, 4 us lie beside the kernel, and cost nothing; 2.5 us of 100 are no finding."""
    outcome = waits_for_the_interpreter_lock.run(drawn(inference(wait), names=NAMES))
    assert outcome.status == (Status.FINDINGS if severity else Status.CLEAR)
    for finding in outcome.findings:
        assert (finding.severity, finding.confidence) == (severity, Confidence.HIGH)
        assert finding.recoverable_ns == 1_000 * (lost or 0)


def test_who_holds_it() -> None:
    finding = only(waits_for_the_interpreter_lock, drawn(inference(54), names=NAMES))
    assert finding.message == (
        "the GPU idles for 50 % of the inference time while the thread that feeds it waits for Python's interpreter "
        "lock (GIL): 50.0 µs an inference"
    )
    assert "thread 2 holds it for 100 % of that time" in finding.cause
    held = evidence_of(finding, "holds the lock meanwhile")
    assert (held.value, held.detail) == (50_000, "thread 2")
    longest = evidence_of(finding, "longest")
    assert (longest.start_ns, longest.end_ns) == (7_000, 57_000)


def test_where_nobody_is_seen_to_hold_it() -> None:
    finding = only(waits_for_the_interpreter_lock, drawn(inference(44, held=False), names=NAMES))
    assert finding.confidence == Confidence.MEDIUM
    assert finding.cause == "another thread of this Python runs meanwhile"


def test_without_the_trace_of_the_lock() -> None:
    text = inference(54).replace("GIL_Trace", "MyDomain")
    outcome = waits_for_the_interpreter_lock.run(drawn(text, names=NAMES))
    assert outcome.status == Status.NOT_APPLICABLE
    assert "python-gil" in outcome.reason


def test_its_ranges_name_no_operator_and_are_no_inferences() -> None:
    """Ranges of the lock stand around every launch of each turn; they are not the program's."""
    text = """
        nvtx 1 GIL_Trace: [h.][h.][h.][h.][h.][h.]
        thread 1:         .L...L...L...L...L...L..
        stream 7:         ..#...#...#...#...#...#.
    """
    trace = drawn(text, names=NAMES)
    assert set(trace.frame("inferences", ["source"])["source"]) <= {"iteration"}
    assert trace.frame("launches", ["nvtx_range"])["nvtx_range"].isna().all()
