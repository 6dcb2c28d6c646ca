"""What a finding's change is worth, and how severe that makes it: both sides of each threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_loop import REQUESTS, loop
from drawn_trace import drawn
from test_price import STARVED, THREADS

from nsight_tools.findings import Change, Confidence, Finding, Loss, Severity
from nsight_tools.worth.price import Pricing
from nsight_tools.worth.promises import priced

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

WARNING, INFO, ERROR = Severity.WARNING, Severity.INFO, Severity.ERROR
GRAPH, SPIN = Change("use_cuda_graph"), Change("use_spin_wait")

POLLS = f"""
    nvtx 1:    [i{"." * 406}].....
    thread 1:  LL{"S" * 406}......
    stream 7:  ..{"#" * 400}......
"""
"""A kernel of 400 µs, and a wait that polls: its thread is back 6 µs later, as one that spins is."""


def a_finding(*change: Change, severity: Severity = WARNING, **loss: Any) -> Finding:
    """A finding of 10 µs, a fifth of what is judged, unless `loss` says otherwise."""
    fields: dict[str, Any] = {"ns": 10_000, "share": 0.2, "what": "time that was seen"} | loss
    return Finding("NEW001", severity, Confidence.HIGH, "", "", "", change=change, loss=Loss(**fields))


def untraced(wall_us: float) -> dict[str, Any]:
    rows = [
        {"run": "benchmark", "inference": at, "start_ns": at * 600_000, "wall_ns": round(wall_us * 1000)}
        for at in range(20)
    ]
    return {"benchmark": table("benchmark", rows)}


def of(trace: Trace, finding: Finding, warns_from: float = 0.1) -> Finding:
    found = priced(trace, finding, warns_from)
    assert found is not None
    return found


def test_a_finding_without_a_loss_stays_as_it_is() -> None:
    """A rule of somebody else's that has worked out by itself what comes back."""
    foreign = Finding("NEW001", WARNING, Confidence.HIGH, "", "", "", 17, 3, "its own", change=(GRAPH,))
    assert priced(loop(STARVED), foreign, 0.1) is foreign


def test_a_change_that_can_be_replayed_is_worth_what_the_replay_says() -> None:
    trace = loop(STARVED)
    worth = Pricing.of(trace).price({"use_cuda_graph": True})
    found = of(trace, a_finding(GRAPH))
    assert found.recoverable_ns_per_inference == round(worth.point_ns)
    assert found.recoverable_ns == REQUESTS * round(worth.point_ns)
    assert found.recoverable_between_ns == (round(worth.low_ns), round(worth.high_ns))
    assert (found.bound, found.per) == (f"a {worth.method}", "wall")
    together = of(loop(STARVED), a_finding(GRAPH, Change("overlap_transfers")))
    assert together.per == "period"


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (STARVED, (Change("batch", 8),)),
        (STARVED, (GRAPH, Change("batch", 8))),
        (STARVED, (Change("use_cuda_graph", value=False),)),
        (STARVED, ()),
        (THREADS, (GRAPH,)),
    ],
    ids=["no replay knows it", "nor one of two", "not to that value", "nothing to change", "several in flight"],
)
def test_any_other_is_worth_at_most_the_loss(text: str, change: tuple[Change, ...]) -> None:
    found = of(loop(text), a_finding(*change, ns=24_000))
    assert (found.recoverable_ns, found.recoverable_between_ns) == (24_000, None)
    assert found.recoverable_ns_per_inference == 24_000 // (REQUESTS * (2 if text is THREADS else 1))
    assert (found.bound, found.severity) == ("time that was seen", WARNING)


def test_a_loss_that_nothing_bounds_or_that_is_not_spread_evenly_is_told_so() -> None:
    trace = loop(STARVED)
    assert of(trace, a_finding(ns=None)).recoverable_ns_per_inference is None
    assert of(trace, a_finding(per_inference_ns=7)).recoverable_ns_per_inference == 7
    none = drawn("stream 7: ..##..")
    assert of(none, a_finding()).recoverable_ns_per_inference is None


@pytest.mark.parametrize(
    ("share", "warns_from", "severity"),
    [(0.1, 0.1, WARNING), (0.0999, 0.1, INFO), (0.025, 0.01, WARNING), (0.0249, 0.01, INFO), (0.199, 0.2, INFO)],
    ids=["from there on", "less", "from the noise on", "less than runs differ by", "its rule warns later"],
)
def test_a_bound_warns_by_the_share_that_was_lost(share: float, warns_from: float, severity: Severity) -> None:
    assert of(loop(STARVED), a_finding(share=share), warns_from).severity == severity


def test_only_warnings_are_lowered() -> None:
    trace = loop(STARVED)
    for severity in (ERROR, INFO):
        for finding in (a_finding(severity=severity, share=0.0), a_finding(GRAPH, severity=severity)):
            assert of(trace, finding, 1.0).severity == severity


@pytest.mark.parametrize(("beside", "severity"), [(-1e-6, WARNING), (1e-6, INFO)], ids=["from its low end on", "less"])
def test_a_promise_warns_by_its_low_end(beside: float, severity: Severity) -> None:
    trace = loop(STARVED)
    worth = Pricing.of(trace).price({"use_cuda_graph": True})
    assert of(trace, a_finding(GRAPH, share=0.0), worth.low_ns / worth.before_ns + beside).severity == severity


def test_what_is_less_than_two_runs_differ_by_is_no_finding() -> None:
    """Spinning brings nothing to a thread that spins."""
    for tables in ({}, untraced(407)):
        assert priced(loop(POLLS, tables=tables), a_finding(SPIN), 0.1) is None


@pytest.mark.parametrize(
    ("wall", "of_host", "share", "severity"),
    [
        (323, False, 0.0879, WARNING),
        (323, False, 0.0878, INFO),
        (323, True, 0.0999, INFO),
        (323, True, 0.1, WARNING),
        (400, False, 0.0999, INFO),
        (None, False, 0.0999, INFO),
    ],
    ids=["of the untraced run", "less", "of the host", "of it enough", "tracing cost nothing", "nobody knows"],
)
def test_a_loss_on_the_gpu_is_held_against_the_untraced_run(
    wall: float | None, of_host: bool, share: float, severity: Severity
) -> None:
    """373 µs traced, 323 untraced, or 1.5 % more: a GPU's share of the first is 1.1377 times as much of the second."""
    trace = loop(STARVED, tables=untraced(wall) if wall else {})
    assert of(trace, a_finding(share=share, of_host=of_host)).severity == severity
