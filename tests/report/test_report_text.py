from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from report import fakes
from rich.cells import cell_len

from nsight_tools.analysis import Outcome, Status
from nsight_tools.changes import OFF_DEFAULT
from nsight_tools.findings import Change, Evidence, Finding, Severity
from nsight_tools.report import safe
from nsight_tools.report.content import TraceReport
from nsight_tools.report.context import Context
from nsight_tools.report.formats.markdown import trace as markdown
from nsight_tools.report.formats.text import trace as text
from nsight_tools.report.look import Look
from nsight_tools.report.terminal import Page
from nsight_tools.run.requests import Population
from nsight_tools.summary import Summary

if TYPE_CHECKING:
    from typing import Any

TRACED_ONLY = {"times": replace(fakes.TIMES, untraced=None)}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_the_first_lines_are_the_verdict() -> None:
    page = " ".join(text.render([fakes.report()]).split())
    assert page.startswith(
        "traces/detector_b4.nsys-rep The capture is not fit to conclude from. "
        "Until that is right, other times mean little. "
        "Pageable asynchronous copies; that costs at most 1.20 of 3.85 ms an inference (31 %). "
        "Read first (CAP001): the engine was built inside the capture"
    )


def test_the_header_says_what_ran() -> None:
    page = text.render([fakes.report()])
    assert "NVIDIA H200 · driver 570.86.15 · CUDA 12.8 · exported by nsys 2025.3.1.90" in page
    assert "1.84 s traced · 13,700 kernels · 100 inferences · 2 streams" in page


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"inference_source": "enqueue_range"}, "an inference is one enqueue, by TensorRT's ranges"),
        ({"inference_source": "inference_range", "inference_name": "step"}, "an inference is the NVTX range 'step'"),
        (
            {"inference_source": "enqueue_pattern", "enqueues": 6, "engines": 2},
            "an inference is 6 enqueues of 2 engines that come in a fixed order on their thread",
        ),
        (
            {"inference_source": "program_range", "inference_name": "frame", "enqueues": 2, "engines": 1},
            "own NVTX range 'frame', which holds the launches of each turn · 2 enqueues of 1 engine in each",
        ),
        ({"inference_source": "iteration", "alike": 0.97}, "found in what repeats on the GPU (97 % alike)"),
        (
            {"inference_source": "graph_launch"},
            "an inference is one launch of a CUDA graph · others: --inference-range",
        ),
        ({"inference_source": "enqueue_range", "other_name": "frame"}, "others: --inference-range 'frame'"),
        (
            {
                "inference_source": "enqueue_range",
                "populations": (Population(0, 80, 79, 5, 110, 400), Population(1, 20, 19, 5, 55, 95)),
            },
            "judged: 80 that take the most time (110 kernels each); 20 do other work, 19 % of the time (--group-by",
        ),
    ],
)
def test_the_header_says_what_an_inference_is_and_how_to_take_others(summary: dict[str, Any], said: str) -> None:
    report = fakes.report()
    page = text.render([replace(report, summary=replace(report.summary, **summary))])
    assert said in " ".join(page.split())


def test_findings_come_by_what_they_spoil_then_worth_then_severity() -> None:
    listed = re.findall(r"^\d\. .* (\w{3}\d{3}) (?:error|warning|info)$", text.render([fakes.report()]), re.MULTILINE)
    assert listed == ["CAP001", "PCI001", "FUS002"]
    unbounded = [
        fakes.finding(code=f"AAA00{n}", severity=severity, recoverable_ns=None, recoverable_ns_per_inference=None)
        for n, severity in enumerate((Severity.INFO, Severity.ERROR, Severity.WARNING))
    ]
    found = TraceReport("x", Summary("x"), [Outcome("AAA001", "", Status.FINDINGS, "", tuple(unbounded))]).findings
    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.WARNING, Severity.INFO]


def test_evidence_names_the_moment_to_jump_to() -> None:
    page = text.render([fakes.report()], Context(Look(everything=True)))
    assert re.search(r"slowest copy +1\.40 ms  at 1\.234567s; 4\.92 MB on stream 7", page)
    assert re.search(r"exposed +98 %  at 0\.012000s for 1\.80 s", page)
    assert "Look at    0.088123s" in text.render([fakes.report()])


def test_time_by_kind_leaves_out_what_did_not_happen() -> None:
    page = text.render([fakes.report()], Context(Look(everything=True)))
    assert re.search(r"kernels +13,700 +0\.402 +22 %  █████▎\n", page)
    assert "whole graphs" not in page
    assert "Time by kind" not in text.render([fakes.report()])
    assert "Time by kind" in text.render([fakes.report(times=None)])


def test_an_inference_is_shown_bucket_by_bucket() -> None:
    page = text.render([fakes.report()])
    assert re.search(r"only copies to the GPU +1\.190 +1\.400 +30 %  ██▍ +1\.190\n", page)
    assert re.search(r"from first to last event +4\.000 +4\.912 +3\.850 \(3\.800 to 3\.900\)\n", page)
    assert "Tracing lengthens the parts without GPU work. Without it: estimated from the trace; in brackets" in page
    narrow = text.render([fakes.report()], Context(Look(width=80)))
    assert re.search(r"from first to last event +4\.000 +4\.912 +3\.850\n", narrow)
    assert "Without it: estimated from the trace." in " ".join(narrow.split())
    assert "Time of an inference" not in text.render([fakes.report(times=None)])


def test_the_three_ends_are_told_apart() -> None:
    page = text.render([fakes.report()])
    told = "whether the GPU clock drops while it is busy (THR001)"
    assert f"what would tell, and about what\n  Capture with --gpu-metrics-devices=0\n     {told}\n" in page
    looked = "looked for: not found, too small to matter, or part of another finding"
    assert f"Clear   {looked}\n  PCI003, STR001\n" in page


def test_what_is_left_out_is_counted_and_all_shows_it() -> None:
    shown = text.render([fakes.report()])
    assert shown.endswith("Left out: 6 measurements behind the findings, time by kind of GPU work. --all shows it.\n")
    whole = text.render([fakes.report()], Context(Look(everything=True)))
    assert "Left out" not in whole
    for only_there in ("14 of 137 layers convert", "Reformatting CopyNode for Input Tensor 0 to Conv_0"):
        assert only_there not in shown
        assert only_there in " ".join(whole.split())
    for decides in (
        "Reformat layers take 6.1 %",
        "at most 0.240 of 3.85 ms",
        "Let neighbouring layers use one precision",
    ):
        assert decides in shown


def test_what_could_not_be_judged_stands_by_what_would_tell() -> None:
    """One line for each thing to do, whatever the reasons are that lead to it."""
    report = fakes.unjudged()
    shown, whole = (text.render([report], Context(Look(everything=everything))) for everything in (False, True))
    assert shown.count("--x=1") == shown.count("Capture longer") == 1
    assert "  Capture with --x=1\n     t0, t1, t2 (AAA000, AAA001, AAA002)\n" in shown
    assert "  Capture longer\n     whether GPUs idle, and whether copies wait (AAA003, AAA004)\n" in shown
    assert "  No clock\n     whether clocks drop (BBB001)\n" in shown
    assert "why each of 6 could not be judged. --all shows it." in " ".join(shown.split())
    assert "  AAA001  Looks: no GPU; capture with --x=1\n  AAA002" in whole
    assert "  AAA003  GPUs idle: a lot: 3 samples: too few; capture longer\n" in whole


@pytest.mark.parametrize(("share", "leads"), [(0.049, True), (0.051, False)])
def test_a_small_bound_leads_as_little_to_gain(share: float, leads: bool) -> None:
    bound = fakes.finding(recoverable_ns=None, recoverable_ns_per_inference=round(share * 3_850_000), act="copy less")
    said = reported(bound).verdict
    assert said.startswith("Little to gain. Copy less: saves at most " if leads else "Copy less: saves at most ")
    estimate = replace(bound, recoverable_between_ns=(1, 2))
    assert reported(estimate).verdict.startswith("Copy less: saves about ")


def test_what_has_nothing_to_look_for_is_named_where_everything_is() -> None:
    nothing = [Outcome(f"AAA00{n}", "looks", Status.NOT_APPLICABLE, "no copies") for n in range(2)]
    report = TraceReport("x", Summary("x"), [*nothing, Outcome("BBB001", "sees", Status.CLEAR)])
    shown, whole = (text.render([report], Context(Look(everything=everything))) for everything in (False, True))
    assert "AAA00" not in shown
    assert "AAA00" not in markdown.render([report])
    assert "no copies" not in whole
    assert "Not applicable   nothing of the kind in this trace\n  AAA000, AAA001\n" in whole


def test_what_two_findings_tell_to_change_is_said_once() -> None:
    up, down = (fakes.finding(message=message) for message in ("to the GPU", "to the host"))
    page = text.render([TraceReport("x", Summary("x"), [Outcome("PCI002", "", Status.FINDINGS, "", (up, down))])])
    assert page.count("Allocate input buffers") == page.count("How: Allocate input buffers") + 1 == 2
    assert "Cause      as in 1.\n   Change     as in 1." in page


def test_names_lose_their_middle_where_a_line_ends() -> None:
    layer = "Reformatting CopyNode for Input Tensor 0 to " + "Conv_0 + " * 30 + "Relu_9 (datatype FP32 to FP16)"
    evidence = (Evidence("kernel time in reformat layers, all", 5, "ns"), Evidence("layer", 5, "ns", detail=layer))
    page = Page(Look())
    assert page.fitted(layer, 60).plain == f"{layer[:30]}…{layer[-29:]}"
    whole = text.render([reported(fakes.finding(evidence=evidence))], Context(Look(everything=True)))
    assert " ".join(whole.split()).count("Conv_0") == 30


def test_what_costs_nothing_by_itself_is_not_at_most_nothing() -> None:
    page = text.render([reported(fakes.finding(recoverable_ns=0, recoverable_ns_per_inference=0))])
    assert "Worth      nothing by itself; confidence high" in page
    assert "at most 0 ns" not in page


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([Status.CLEAR] * 2, "Nothing found by the 2 analyses that could judge"),
        (
            [Status.CLEAR, Status.COULD_NOT_RUN],
            "Nothing found by the analysis that could judge; 1 of 2 analyses could not be judged",
        ),
        ([Status.COULD_NOT_RUN] * 2, "No verdict: all 2 analyses could not be judged"),
        ([Status.COULD_NOT_RUN], "No verdict: the analysis could not be judged"),
        ([], "No analyses were run"),
        (
            [Status.CLEAR, Status.NOT_APPLICABLE, Status.NOT_APPLICABLE],
            "Nothing found by the analysis that could judge",
        ),
        ([Status.NOT_APPLICABLE], "Nothing to look for in this trace"),
        (
            [Status.NOT_APPLICABLE, Status.COULD_NOT_RUN],
            "Nothing to look for in this trace; 1 of 2 analyses could not be judged",
        ),
    ],
)
def test_what_could_not_look_never_says_healthy(statuses: list[Status], verdict: str) -> None:
    outcomes = [Outcome(f"AAA00{n}", "", status, "why") for n, status in enumerate(statuses)]
    assert TraceReport("x", fakes.SUMMARY, outcomes).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "summary", "worth"),
    [
        ({}, {}, "at most 1.20 of 3.85 ms per inference without the profiler (31 %)"),
        (
            {"recoverable_ns_per_inference": None},
            {},
            "at most 0.120 of 1.84 s from the first GPU work to the last (6.5 %)",
        ),
        ({"recoverable_ns": None}, {}, "at most 1.20 of 3.85 ms per inference without the profiler (31 %)"),
        ({"recoverable_ns": None}, TRACED_ONLY, "at most 1.20 of 4.00 ms per inference (30 %)"),
        ({}, {"times": None}, "at most 1.20 ms per inference"),
        ({"recoverable_ns_per_inference": 5_000_000}, {}, "at most 5.00 ms per inference"),
        (
            {"recoverable_between_ns": (900_000, 1_500_000)},
            {},
            "about 1.20 of 3.85 ms per inference without the profiler (31 %), between 0.900 and 1.50 ms",
        ),
        ({"recoverable_ns": None, "recoverable_ns_per_inference": None}, {}, ""),
    ],
)
def test_worth_is_said_against_the_whole_where_there_is_one(
    changes: dict[str, object], summary: dict[str, object], worth: str
) -> None:
    assert fakes.report("x", **summary).worth(fakes.finding(**changes)) == worth


def test_the_header_says_at_what_a_clock_is_locked() -> None:
    locked = replace(fakes.SUMMARY, clocks=("the SM clock is locked at 1,410 MHz",))
    page = " ".join(text.render([TraceReport("x", locked, [])]).split())
    assert "· the SM clock is locked at 1,410 MHz · " in page


def test_an_empty_summary_is_no_crash() -> None:
    page = text.render([TraceReport("empty.sqlite", Summary("empty.sqlite"), [])])
    assert "GPU not recorded" in page
    assert "exported by nsys of unknown version" in page


@pytest.mark.parametrize("width", [40, 60, 80, 100, 250])
@pytest.mark.parametrize("harm", [None, fakes.HOSTILE, fakes.LONG])
def test_no_line_is_wider_than_the_page(width: int, harm: str | None) -> None:
    page = text.render([fakes.hostile(harm) if harm else fakes.report()], Context(Look(width=width)))
    assert max(cell_len(line) for line in page.splitlines()) <= min(120, width)


@pytest.mark.parametrize("colour", [False, True])
def test_hostile_names_are_inert(colour: bool) -> None:
    page = text.render([fakes.hostile()], Context(Look(width=100, colour=colour)))
    bare = ANSI.sub("", page) if colour else page
    hidden = {character for character in bare if unicodedata.category(character)[0] == "C"}
    assert hidden == {"\n"}
    for seen in ("[red]markup[/red]", ":boom:", "\\x1b[31m", "\\u202e", "nul\\x00", "cr\\x0d", "c1\\x9b"):
        assert seen in bare
    assert ("\x1b[" in page) is colour


def test_very_long_names_lose_their_middle_only() -> None:
    page = text.render([fakes.hostile(fakes.LONG)])
    assert len(page) < 16_000
    assert re.search(r"characters …\]", page)
    assert "END" in page


def test_long_evidence_is_counted_not_shown() -> None:
    many = fakes.finding(evidence=fakes.finding().evidence * 4)
    report = TraceReport("x", Summary("x"), [Outcome("PCI001", "", Status.FINDINGS, "", (many,))])
    assert "Left out: 20 measurements behind the findings. --all shows it." in text.render([report])
    assert text.render([report], Context(Look(everything=True))).count("slowest copy") == 4


def test_plain_ascii_where_the_output_knows_no_more() -> None:
    page = text.render([fakes.report()], Context(Look(unicode=False)))
    assert page.isascii()
    assert "####" in page
    assert "1.20 of 3.85 ms" in page


def test_several_traces_are_parted() -> None:
    page = text.render([fakes.report("a"), fakes.report("b")])
    assert f"\n\n{'─' * 100}\nb\nThe capture is not fit to conclude from" in page


def test_visible_keeps_what_is_harmless() -> None:
    assert safe.visible("Übergröße 卷积 {ForeignNode[A...B]}") == "Übergröße 卷积 {ForeignNode[A...B]}"
    assert safe.visible("\ud800") == "\\ud800"
    assert safe.visible("\U000e0041") == "\\U000e0041"


def reported(*findings: Finding) -> TraceReport:
    outcomes = [Outcome(each.code, "summary", Status.FINDINGS, "", (each,)) for each in findings]
    return TraceReport("run.sqlite", fakes.SUMMARY, outcomes)


def test_what_follows_from_a_finding_stands_under_it() -> None:
    cause = fakes.finding(code="PCI001", explains=("PCI002",))
    between = fakes.finding(code="PCI002", explains=("PCI004",), recoverable_ns=900_000_000, message="exposed copies")
    last = fakes.finding(code="PCI004", message="transfer-bound")
    other = fakes.finding(code="FUS002", recoverable_ns=1)
    report = reported(last, between, other, cause)
    assert [f.code for f in report.findings] == ["PCI001", "FUS002"]
    assert [f.code for f in report.following(cause)] == ["PCI002", "PCI004"]
    page = text.render([report])
    assert "Findings   2 (2 warnings), and 2 that follow from them" in page
    assert page.index("   Also ") < page.index("exposed copies (PCI002 warning)") < page.index("\n2.  200 of 200")


def test_errors_stand_for_themselves_and_circles_lose_nothing() -> None:
    error = fakes.finding(code="CAP001", severity=Severity.ERROR)
    first, second, third = (
        fakes.finding(code=code, explains=(follows, "CAP001"), recoverable_ns=worth)
        for code, follows, worth in (("AAA001", "AAA002", 3), ("AAA002", "AAA003", 2), ("AAA003", "AAA001", 1))
    )
    report = reported(third, second, first, error)
    assert {f.code for f in report.findings} == {"CAP001", "AAA001"}
    assert [f.code for f in report.following(first)] == ["AAA002", "AAA003"]


def test_what_stands_beside_the_accounting_is_told() -> None:
    page = " ".join(text.render([fakes.report()]).split())
    assert "In the median inference a GPU works for 81 % of the time, 12.4 µs of copies run beside its kernels," in page
    assert "kernels, a piece of its work begins 184 µs after its call." in page
    assert "layers of 99.0 % of 13,700 kernels known by their order, as in the layer pass (another run" in page


def test_what_is_left_out_of_the_medians_is_told() -> None:
    times = replace(fakes.TIMES, of=97, without_work=1, warm_up=2, warm_up_ns=1_200_000)
    page = " ".join(text.render([fakes.report(times=times)]).split())
    assert (
        "1 inference that launched nothing left out. 2 inferences of the warm-up left out, which took 1.20 ms " in page
    )
    assert "left out" not in text.render([fakes.report()])


def test_inferences_that_overlap_are_told() -> None:
    page = " ".join(text.render([fakes.report(times=replace(fakes.TIMES, at_a_time=1.5))]).split())
    assert "1.50 are under way at a time." in page
    assert "under way" not in text.render([fakes.report()])


def test_what_is_judged_by_the_time_from_one_to_the_next_has_all_shares_of_it() -> None:
    times = replace(fakes.TIMES, at_a_time=2.0, period_ns=2_000_000)
    bound, estimate = (fakes.finding(code=code) for code in ("AAA001", "AAA002"))
    estimate = replace(estimate, recoverable_between_ns=(900_000, 1_300_000), per="period", of_ns=2_000_000)
    outcomes = [Outcome(each.code, "", Status.FINDINGS, "", (each,)) for each in (bound, estimate)]
    page = text.render([replace(fakes.report(times=times), outcomes=outcomes)])
    assert re.findall(r" (\d+ %)  AAA00", page) == ["60 %", "60 %"]
    said = " ".join(page.split())
    assert said.count(" 1.20 of 2.00 ms from one inference to the next (60 %)") == 3
    assert (
        "Time of an inference median 4.00 ms, as traced; 3.85 ms without the profiler; 2.00 ms from one to the" in said
    )
    assert (
        "What counts is the time from one inference to the next, 2.00 ms, and not the 4.00 ms that each takes" in said
    )
    assert "What counts" not in text.render([fakes.report()])


def test_how_the_first_change_is_made_stands_above_the_list() -> None:
    """Both on the first screen of a terminal: what to set, and what else there is."""
    lines = text.render([reported(fakes.finding())], Context(Look(width=80))).splitlines()
    how = next(at for at, line in enumerate(lines) if line.startswith("How: Allocate input buffers"))
    assert how < next(at for at, line in enumerate(lines) if line.startswith("Findings")) < 24


@pytest.mark.parametrize(
    ("count", "left_out", "name"),
    [
        (99, {}, "slowest"),
        (100, {}, "p99"),
        (100, {"without_work": 1}, "slowest"),
        (100, {"warm_up": 1, "warm_up_ns": 1_000}, "slowest"),
    ],
)
def test_the_99th_percentile_of_few_is_the_slowest(count: int, left_out: dict[str, int], name: str) -> None:
    rest = count - left_out.get("without_work", 0) - left_out.get("warm_up", 0)
    page = text.render([fakes.report(inferences=count, times=replace(fakes.TIMES, of=rest, **left_out))])
    assert re.search(rf"median +{name} +share", page)


def test_layers_that_no_order_tells_are_unknown() -> None:
    ordered = {"kernels": 1, "attributed": {}, "in_common": 0.62}
    page = " ".join(text.render([fakes.report("x", layers_by_order=ordered)]).split())
    assert "layers of 1 kernel unknown: what has layers has 62 % of the kernels' order at most" in page


@pytest.mark.parametrize("there", [True, False])
def test_what_the_default_stream_does_not_allow_comes_behind_leaving_it(there: bool) -> None:
    graph = fakes.finding(change=(Change("use_cuda_graph"),))
    on_default = fakes.finding(
        code="STR002", change=(OFF_DEFAULT,), recoverable_ns=None, recoverable_ns_per_inference=None
    )
    said = reported(graph, *((on_default,) if there else ())).verdict
    assert said.startswith("Leave the default stream and use a CUDA graph: " if there else "Use a CUDA graph: ")
