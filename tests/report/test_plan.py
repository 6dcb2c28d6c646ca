"""What the findings' changes give together: in the verdict, and in every format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from report import fakes

from nsight_tools.analysis import Outcome, Status
from nsight_tools.findings import Change, Confidence, Finding, Severity
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.json import trace as machine
from nsight_tools.report.formats.markdown import trace as markdown
from nsight_tools.report.formats.markdown.escaped import escape
from nsight_tools.report.formats.text import trace as text
from nsight_tools.worth import Plan, Stage, Worth

if TYPE_CHECKING:
    from collections.abc import Sequence

PIN, GRAPH, STREAMS = Change("pageable", value=False), Change("use_cuda_graph"), Change("streams", 2)


def worth(point: float, per: str = "wall") -> Worth:
    return Worth(point, point - 100_000, point + 200_000, "replay of the run", per, 5_800_000)


def plan(*stages: tuple[Change, float], per: str = "wall", left: Sequence[Change] = ()) -> Plan:
    return Plan(tuple(Stage(change, worth(saved, per)) for change, saved in stages), tuple(left))


def finding(code: str, recoverable: int | None, *changes: Change) -> Finding:
    """A warning; what it recovers is a promise where it has a change."""
    between = (0, recoverable or 0) if changes and recoverable is not None else None
    return replace(
        Finding(code, Severity.WARNING, Confidence.HIGH, f"{code} costs time", "a cause", "a remedy"),
        recoverable_ns=None if recoverable is None else 100 * recoverable,
        recoverable_ns_per_inference=recoverable,
        recoverable_between_ns=between,
        change=changes,
        of_ns=5_800_000 if between else None,
    )


def report(planned: Plan | None, *findings: Finding) -> TraceReport:
    outcomes = [Outcome(each.code, "", Status.FINDINGS, "", (each,)) for each in findings]
    return TraceReport("x", fakes.SUMMARY, outcomes, planned)


BOTH = plan((PIN, 1_500_000), (GRAPH, 4_400_000))
FOUND = (finding("PCI001", 1_500_000, PIN), finding("LCH001", 3_000_000, GRAPH))
ALL = "5.80 → 1.40 ms (1.20 to 1.50 ms)"
FIRST = "Use a CUDA graph: saves about 3.00 of 5.80 ms an inference (52 %)"


def test_the_verdict_is_the_first_change_and_what_all_of_them_give() -> None:
    said = report(BOTH, *FOUND)
    assert said.verdict == f"{FIRST}. Then pin the host's buffers: {ALL} in all"
    assert said.together == f"pin the host's buffers, then use a CUDA graph: {ALL} an inference"
    assert said.tally == "2 (2 warnings)"


def test_of_requests_under_way_it_is_the_period_that_gets_shorter() -> None:
    planned = plan((GRAPH, 1_000_000), per="period")
    assert report(planned, FOUND[1]).together == (
        "use a CUDA graph: 5.80 → 4.80 ms (4.60 to 4.90 ms) from one inference to the next"
    )


@pytest.mark.parametrize(("bound", "leads"), [(876_206, True), (876_207, False)])
def test_a_finding_that_may_be_worth_more_comes_first(bound: int, leads: bool) -> None:
    """0.44 of 5.8 ms are as much as 292,069 ns of the 3.85 ms that an inference takes: a third of the bound."""
    both = plan((PIN, 150_000), (GRAPH, 440_000))
    said = report(both, finding("PCI001", 150_000, PIN), finding("LCH001", 300_000, GRAPH), finding("LCH003", bound))
    assert said.plan_leads == leads
    first = "Use a CUDA graph: saves about 0.300 of 5.80 ms an inference (5.2 %)"
    rest = ". Then pin the host's buffers: 5.80 → 5.36 ms (5.16 to 5.46 ms) in all" if leads else ""
    assert said.verdict == first + rest


def test_what_spoils_the_numbers_comes_before_any_promise() -> None:
    spoiler = replace(finding("STR004", None), severity=Severity.ERROR)
    said = report(BOTH, *FOUND, spoiler).verdict
    assert said == f"STR004 costs time. Until that is right, other times mean little. {FIRST}"


def test_two_findings_of_one_analysis_are_called_by_what_they_found() -> None:
    two = [
        replace(finding("THR002", most), message=words)
        for most, words in ((300_000, "work waits: 5 %"), (200_000, "it slows: 3 %"))
    ]
    looks_for = "The GPU is slow"
    said = TraceReport("x", fakes.SUMMARY, [Outcome("THR002", looks_for, Status.FINDINGS, "", tuple(two))])
    assert [said.act(each) for each in said.findings] == ["work waits", "it slows"]
    one = TraceReport("x", fakes.SUMMARY, [Outcome("THR002", looks_for, Status.FINDINGS, "", tuple(two[:1]))])
    assert one.act(two[0]) == "the GPU is slow"


def test_without_a_plan_the_largest_finding_is_said() -> None:
    assert report(None, *FOUND).verdict == FIRST
    assert report(None, *FOUND).together == ""


def test_what_is_not_in_the_sum_is_named() -> None:
    outside = finding("FUS002", 200_000), finding("STR001", 300_000, STREAMS), finding("CAP001", None)
    said = report(BOTH, *FOUND, *outside)
    assert said.beside_the_sum == "Not in this sum, since it is not known what they add to it: findings 3, 4."
    assert report(BOTH, *FOUND).beside_the_sum == ""
    assert report(None, *outside).beside_the_sum == ""
    # One change is the first finding's, and no sum.
    alone = report(plan((GRAPH, 4_400_000)), FOUND[1], outside[0])
    assert (alone.plan_leads, alone.beside_the_sum) == (True, "")
    assert "this sum" not in text.render([alone])


def test_text_and_markdown_tell_the_steps() -> None:
    steps = ["pin the host's buffers: 4.30 ms", "use a CUDA graph: 1.40 ms"]
    assert report(BOTH, *FOUND).steps == steps
    page = text.render([report(BOTH, *FOUND)])
    assert f"One after the other: {'; '.join(steps)}." in page
    said = markdown.render([report(BOTH, *FOUND)])
    for at, step in enumerate(steps, 1):
        assert f"{at}. {escape(step)}" in said


def test_one_change_that_leads_is_not_said_twice() -> None:
    page = text.render([report(plan((GRAPH, 3_000_000)), FOUND[1])])
    assert page.count("CUDA graph: ") == 1
    assert "5.80 → 2.80 ms" not in page


def test_json_has_the_plan_as_data() -> None:
    (trace,) = json.loads(machine.render([report(replace(BOTH, left_out=(STREAMS,)), *FOUND)]))["traces"]
    assert trace["headline"] == report(BOTH, *FOUND).verdict
    assert trace["plan"]["before_ns"] == 5_800_000
    assert trace["plan"]["saves_ns"] == {"low": 4_300_000, "point": 4_400_000, "high": 4_600_000}
    assert [(step["change"]["option"], step["after_ns"]) for step in trace["plan"]["steps"]] == [
        ("pageable", 4_300_000),
        ("use_cuda_graph", 1_400_000),
    ]
    assert [change["option"] for change in trace["plan"]["left_out"]] == ["streams"]
    (without,) = json.loads(machine.render([report(None, *FOUND)]))["traces"]
    assert without["plan"] is None


def test_a_gain_of_the_period_is_not_told_as_an_inferences() -> None:
    overlap = replace(finding("PCI002", 300_000, Change("overlap_transfers")), per="period")
    assert report(None, overlap).worth(overlap) == (
        "about 0.300 of 5.80 ms from one inference to the next (5.2 %), between 0 and 0.300 ms"
    )


@pytest.mark.parametrize(("bound", "first"), [(2_800_000, "PCI001"), (3_200_000, "LCH007")])
def test_a_bound_stands_before_an_estimate_where_it_is_several_times_as_much(bound: int, first: str) -> None:
    found = report(None, finding("LCH007", bound), finding("PCI001", 1_000_000, PIN))
    assert found.findings[0].code == first


def test_two_findings_that_ask_for_the_same_change_are_one() -> None:
    starved, gaps = finding("LCH001", 3_000_000, GRAPH), finding("FUS001", 3_000_000, GRAPH)
    found = report(None, replace(gaps, severity=Severity.INFO), starved, finding("PCI001", 1_500_000, PIN))
    assert [(root.code, [each.code for each in rest]) for root, rest in found.grouped] == [
        ("LCH001", ["FUS001"]),
        ("PCI001", []),
    ]
    shown = text.render([found])
    assert shown.count("Use a CUDA graph") == 2  # the verdict, and the list
    assert "FUS001 costs time (FUS001 info)" in shown


def test_what_explains_another_stays_the_cause_whatever_both_ask_for() -> None:
    cause, much = finding("LCH001", 1_000_000, GRAPH), finding("FUS001", 3_000_000, GRAPH)
    found = report(None, much, replace(cause, explains=("FUS001",)))
    assert [(root.code, [each.code for each in rest]) for root, rest in found.grouped] == [("LCH001", ["FUS001"])]


def test_two_findings_of_one_analysis_stay_two() -> None:
    found = report(None, finding("LCH006", 1_000_000, GRAPH), finding("LCH006", 900_000, GRAPH))
    assert len(found.findings) == 2
