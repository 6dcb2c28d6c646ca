from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from report import fakes
from report.test_report_markdown import TAGS, rendered

from nsight_tools.analysis import Outcome, Status
from nsight_tools.comparison import (
    Change,
    Comparison,
    Difference,
    Effect,
    Judgement,
    Metric,
    OfPopulation,
    Prediction,
    SetupDifference,
    Side,
    Verdict,
)
from nsight_tools.comparison.result import Builds, Built, Rebuilt
from nsight_tools.findings import Severity
from nsight_tools.report import compared
from nsight_tools.report.content import TraceReport
from nsight_tools.report.context import Context
from nsight_tools.report.formats.html import comparison as compared_html
from nsight_tools.report.formats.json import comparison as compared_machine
from nsight_tools.report.formats.junit import comparison as junit_comparison
from nsight_tools.report.formats.junit import trace as junit
from nsight_tools.report.formats.markdown import comparison as compared_markdown
from nsight_tools.report.formats.text import comparison as compared_text
from nsight_tools.report.look import Look
from nsight_tools.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.comparison.resampling import Floats

WALL = Difference(
    "wall", "ns", 4_000_000, 2_000_000, -2_000_000, -2_100_000, -1_900_000, 9_000, Change.LESS, effect=-0.98
)
PERIOD = replace(WALL, name="time per input", before=4_100_000, after=2_100_000)
THROUGHPUT = Judgement(Metric.THROUGHPUT, Verdict.FASTER, Verdict.FASTER, PERIOD, PERIOD, "untraced", 0.99)
LATENCY = Judgement(Metric.LATENCY, Verdict.FASTER, Verdict.FASTER, WALL, WALL, "untraced", 0.99)
COPIES = Difference(
    "exposed_h2d", "ns", 1_990_000, 90_000, -1_900_000, -2e6, -1.8e6, 1e3, Change.LESS, effect=-1.0, share=0.95
)
COMPUTE = Difference("compute", "ns", 2_000_000, 1_950_000, -50_000, -1.5e5, 5e4, 2e4, Change.NOISE, effect=-0.2)


def walls(center: float, count: int = 100) -> Floats:
    return np.random.default_rng(0).normal(center, center / 100, count)


BUILT: tuple[Callable[[str], Built], ...] = (
    lambda text: Built((text or "conv + relu",), 0, "FP16", (text or "hmma",)),
    lambda text: Built((text or "conv", text or "relu"), 2, "FP16, INT8", ()),
)


def comparison(text: str = "", **changes: Any) -> Comparison:
    """A comparison; `text` in every place that takes text from a trace."""
    side = Side(text or "before.sqlite", fakes.SUMMARY, 100, 2, walls=walls(4e6))
    values: dict[str, Any] = {
        "before": side,
        "after": replace(side, name=text or "after.sqlite", walls=walls(2e6)),
        "throughput": THROUGHPUT,
        "latency": LATENCY,
        "setup": (SetupDifference(text or "host memory", text or "pageable", text or "pinned", Effect.CHANGE, text),),
        "walls": (replace(WALL, name="median", effect=None),),
        "buckets": (COMPUTE, COPIES, Difference("sync", "ns", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, Change.SAME)),
        "work": (Difference(text or "kernels", "count", 137.0, 137.0, 0.0, 0.0, 0.0, 0.0, Change.SAME),),
        "conditions": (Difference(text or "power", "W", 300.0, None),),
        "measurements": (
            Difference(text or "engine on the GPU", "bytes", 96e6, 48e6, -48e6),
            Difference(text or "energy of an inference", "J", 0.21, 0.105, -0.105),
            Difference(text or "p99", "ns", 5e6, 4.9e6, -1e5, drift=2e5, change=Change.NOISE),
            Difference(text or "further contexts that fit", "count", 37, 37, 0, change=Change.SAME),
        ),
        "layers": tuple(replace(COPIES, name=text or f"layer {at}", detail=text) for at in range(12)),
        "kernels": (replace(COMPUTE, name=text or "gemm"),),
        "builds": Builds(
            (Rebuilt((text or "x",), (text or "t",), BUILT[0](text), BUILT[1](text), ("fusion", "precision"), COPIES),),
            rebuilt=1,
            alike=2,
            totals=(replace(COPIES, name="fusion, precision"), COMPUTE, replace(COPIES, name="reformats")),
            reformats=(9, 167),
        ),
        "predictions": (
            Prediction(
                "PCI001",
                text or "pin the host's buffers",
                text or "copies are pageable",
                "gone",
                2_000_000,
                0,
                ("exposed_h2d",),
                COPIES,
            ),
            Prediction(
                "FUS002",
                text or "let layers share a format",
                text or "reformats",
                "still_there",
                100_000,
                90_000,
                ("compute",),
                COMPUTE,
            ),
        ),
        "notes": (text or "a note",),
        "untold": (text or "something",),
    }
    return Comparison(**(values | changes))


RENDERERS: list[Callable[[list[Comparison]], str]] = [
    compared_text.render,
    compared_markdown.render,
    compared_machine.render,
    compared_html.render,
    lambda found: junit_comparison.render(found, Context(limit=5.0)),
]


def test_the_first_lines_say_it_all() -> None:
    first, *lines = compared_text.render([comparison()]).splitlines()
    assert first == "after.sqlite against before.sqlite"
    second, _, third = " ".join(lines[:4]).partition(") faster")
    assert f"{second})" == (
        "faster in latency: 4.00 ms → 2.00 ms per inference, −2.00 ms (−50 %) (untraced runs; "  # noqa: RUF001 (a minus)
        "99 % interval −52 to −48 %)"  # noqa: RUF001 (a minus)
    )
    assert third.startswith(" in throughput: 4.10 ms → 2.10 ms per input")


def test_throughput_leads_where_several_are_in_flight() -> None:
    sides = {side: replace(getattr(comparison(), side), in_flight=4.0, inputs=2.0) for side in ("before", "after")}
    found = comparison(leads=Metric.THROUGHPUT, **sides)
    assert compared.headline(found).startswith("faster in throughput: ")
    assert "inferences in flight 4 → 4, inputs of an inference 2 → 2" in compared.counted(found)


def test_what_may_be_the_profilers_own_is_undecided() -> None:
    wall = replace(WALL, low=-3e6, high=1e5, change=Change.UNKNOWN)
    why = "all of it may be the profiler's own"
    latency = Judgement(Metric.LATENCY, Verdict.UNDECIDED, Verdict.UNDECIDED, wall, WALL, "trace", 0.9, why)
    said = compared.headline(comparison(latency=latency))
    assert said.startswith("undecided in latency: 4.00 ms → 2.00 ms")
    assert said.endswith(f"90 % interval −75 to +2.5 %); {why}")  # noqa: RUF001 (a minus)


def test_each_kind_of_inference_has_its_verdicts() -> None:
    kinds = (OfPopulation("1: 137 kernels", 60, 40, THROUGHPUT, LATENCY),)
    pages = [render([comparison(populations=kinds)]) for render in RENDERERS[:2]]
    for page in pages:
        assert "60 inferences before and 40 after" in " ".join(page.split())
    assert "Kinds of inferences" in compared_html.render([comparison(populations=kinds)])


def test_noise_is_said_plainly_and_why() -> None:
    wall = replace(WALL, difference=-1_000, low=-5_000, high=3_000, change=Change.NOISE)
    noise = replace(LATENCY, difference=wall, verdict=Verdict.NOISE, measured=Verdict.NOISE)
    said = compared.headline(comparison(latency=noise))
    assert said.startswith("noise in latency: ")
    assert "is within chance" in said
    drifting = replace(noise, difference=replace(wall, low=-1_500, high=-500))
    assert "one run's own drift, 9.00 µs" in compared.headline(comparison(latency=drifting))


def blocked_by(setup: tuple[SetupDifference, ...]) -> dict[str, Any]:
    """What a comparison says of two that are not comparable."""
    why = ", ".join(each.aspect for each in setup)
    return {
        "setup": setup,
        "throughput": replace(THROUGHPUT, verdict=Verdict.NOT_COMPARABLE, why=why),
        "latency": replace(LATENCY, verdict=Verdict.NOT_COMPARABLE, why=why),
    }


def test_one_verdict_may_be_left() -> None:
    paced = SetupDifference("pace", "its own", "every 33.0 ms", Effect.BLOCKS, "", (Metric.THROUGHPUT,))
    assert compared.effect_of(paced) == "no verdict on throughput"
    found = replace(comparison(**blocked_by((paced,))), latency=LATENCY)
    said = compared.verdicts(found)
    assert said[0].startswith("faster in latency")
    assert said[1].startswith("throughput not comparable (pace)")
    assert compared.NOT_PUT_DOWN not in compared_text.render([found])


def test_what_is_not_comparable_gets_no_verdict() -> None:
    blocked = (SetupDifference("GPU", "L4", "H200", Effect.BLOCKS, "another GPU", tuple(Metric)),)
    found = comparison(**blocked_by(blocked))
    assert compared.headline(found).startswith(
        "latency not comparable (GPU): no change can be named as the cause. As measured faster in latency"
    )
    page = compared_text.render([found])
    assert page.index("What else differs") < page.index("Time of an inference")
    assert compared.NOT_PUT_DOWN in page


def test_predictions_are_honest() -> None:
    found = comparison()
    first, second = found.predictions
    assert compared.outcome(found, first) == "95 % of the promise came back, in only copies to the GPU"
    assert compared.outcome(found, second) == "not acted on, or without effect"
    in_vain = replace(first, came=COMPUTE)
    assert "did not come back" in compared.outcome(found, in_vain)
    open_ = replace(first, came=replace(COPIES, change=Change.UNKNOWN))
    assert "undecided" in compared.outcome(found, open_)
    more = replace(first, promised_ns=1_000_000)
    assert "something else" in compared.outcome(found, more)
    shared = replace(first, shared_with=("FUS002",))
    assert "shared with 'let layers share a format' (FUS002)" in compared.outcome(found, shared)


def test_long_tables_are_cut_and_say_so() -> None:
    page = compared_text.render([comparison()])
    assert "7 more changed" in page
    left_out = "Left out: 7 layers that changed, what is the same (further contexts that fit, kernels). --all shows it."
    assert " ".join(page.split()).endswith(left_out)
    whole = compared_text.render([comparison()], Context(Look(everything=True)))
    assert "Left out" not in whole
    assert "more changed" not in whole


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("text", ["", fakes.HOSTILE, fakes.LONG])
def test_no_line_is_too_wide_and_nothing_reaches_the_terminal(width: int, text: str) -> None:
    page = compared_text.render([comparison(text)], Context(Look(width=width)))
    assert all(len(line) <= width for line in page.splitlines())
    assert all(character.isprintable() or character == "\n" for character in page)


def test_a_narrow_page_wraps_no_row() -> None:
    for width, headed in ((80, False), (100, True)):
        page = compared_text.render([comparison()], Context(Look(width=width)))
        table = page.partition("Time of an inference")[2].partition("\n\n")[0].splitlines()[2:]
        assert len(table) > 3
        assert all(line.split()[-1] in {"less", "more", "noise", "same", "?"} for line in table)
        assert (" interval " in page.partition("Time of an inference")[2]) is headed


def test_two_builds_of_one_model_are_shown() -> None:
    page = compared_text.render([comparison()], Context(Look(width=120)))
    said = " ".join(page.split())
    for words in (
        "Two builds of one model in ms; kernel time of the typical inference",
        "1 of 3 regions were built otherwise: the kernels' time changes by ",
        "where fusion and precision differ",
        "in reformats (9 → 167 layers)",
        "t: fusion, precision time 1.99 ms → 90.0 µs before FP16 · 1 layer: conv + relu · hmma",
        "after FP16, INT8 · 2 layers, 2 reformats: conv, relu",
        "2 were built alike",
    ):
        assert words in said
    found = json.loads(compared_machine.render([comparison()]))["comparisons"][0]["builds"]
    assert found["regions"][0]["changed"] == ["fusion", "precision"]
    assert found["said"].startswith("1 of 3 regions were built otherwise")
    text = compared_markdown.render([comparison()])
    assert "**Two builds of one model**: 1 of 3 regions" in text
    assert "2 layers, 2 reformats" in text
    alike = comparison(builds=None)
    for render in RENDERERS[:4]:
        assert "regions" not in render([alike]).replace("shown", "")
    assert json.loads(compared_machine.render([alike]))["comparisons"][0]["builds"] is None


def test_what_was_measured_is_shown_without_an_interval() -> None:
    page = compared_text.render([comparison()])
    (head,) = [line for line in page.splitlines() if "Measured without the profiler" in line]
    assert head.endswith(compared.NO_INTERVAL)
    lines = {line.strip().partition("  ")[0]: line.split("  ") for line in page.splitlines()}
    assert [cell.strip() for cell in lines["energy of an inference"] if cell][1:] == ["210 mJ", "105 mJ", "−105 mJ"]  # noqa: RUF001 (a minus)
    assert lines["p99"][-1] == "noise"
    assert "further contexts that fit  " not in page
    assert "further contexts that fit  " in compared_text.render([comparison()], Context(Look(everything=True)))
    assert "energy of an inference" in compared_html.render([comparison()])
    assert "<summary>Measured without the profiler</summary>" in compared_markdown.render([comparison()])


def test_ascii_terminals_get_ascii() -> None:
    assert compared_text.render([comparison()], Context(Look(unicode=False))).isascii()


def test_json_fits_its_schema() -> None:
    Draft202012Validator.check_schema(compared_machine.schema())
    validator = Draft202012Validator(compared_machine.schema())
    before, after = (Side(name, Summary(name), 0, 0) for name in "ba")
    bare = Comparison(before, after, untold=("x",))
    for each in (
        comparison(),
        comparison(fakes.HOSTILE),
        comparison(fakes.LONG),
        comparison(populations=(OfPopulation("1: 137 kernels", 60, 40, THROUGHPUT, LATENCY),)),
        comparison(**blocked_by((SetupDifference("GPU", "a", "b", Effect.BLOCKS, "", tuple(Metric)),))),
        bare,
    ):
        validator.validate(json.loads(compared_machine.render([each])))


def test_the_schema_knows_what_the_code_knows() -> None:
    defined = compared_machine.schema()["$defs"]
    difference = defined["difference"]["properties"]
    assert list(difference) == [field.name for field in fields(Difference)]
    assert difference["change"]["enum"] == [each.value for each in Change]
    properties = defined["comparison"]["properties"]
    assert set(properties) == {field.name for field in fields(Comparison)} | {"headline", "verdict"}
    assert properties["verdict"]["enum"] == [each.value for each in Verdict]
    assert list(defined["judgement"]["properties"]) == [field.name for field in fields(Judgement)]
    assert list(defined["said"]["properties"]) == [*(field.name for field in fields(Judgement)), "said"]
    assert list(defined["population"]["properties"]) == [field.name for field in fields(OfPopulation)]
    setup = properties["setup"]["items"]["properties"]
    assert setup["effect"]["enum"] == [each.value for each in Effect]
    predicted = properties["predictions"]["items"]["properties"]
    assert list(predicted) == [field.name for field in fields(Prediction)]


def test_json_keeps_hostile_names_exactly_and_inert() -> None:
    text = compared_machine.render([comparison(fakes.HOSTILE)])
    assert text.isascii()
    assert json.loads(text)["comparisons"][0]["layers"][0]["name"] == fakes.HOSTILE


def test_markdown_keeps_hostile_names_inert() -> None:
    seen = rendered(compared_markdown.render([comparison(fakes.HOSTILE)]))
    assert seen.tags <= TAGS
    assert seen.attributes <= {"style"}
    assert "<script>alert(1)</script>" in seen.text

    def cells(text: str) -> int:
        page = compared_markdown.render([comparison(text)])
        return [token.type for token in MarkdownIt("commonmark").enable("table").parse(page)].count("td_open")

    assert cells(fakes.HOSTILE) == cells("calm") > 0


@pytest.mark.parametrize("text", ["", fakes.HOSTILE, fakes.LONG, "\udc80", "]]><failure/>", "\ufffe\x00"])
def test_junit_is_xml_with_as_many_cases_as_it_says(text: str) -> None:
    pages = [
        junit_comparison.render([comparison(text)], Context(limit=5.0)),
        junit.render([fakes.hostile(text) if text else fakes.report()], Context(failing={Severity.ERROR})),
    ]
    for page in pages:
        root = ET.fromstring(page)
        (suite,) = root
        cases = list(suite)
        assert int(suite.attrib["tests"]) == len(cases)
        for state, tally in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[tally]) == sum(case.find(state) is not None for case in cases)


def states(page: str) -> dict[str, str]:
    root = ET.fromstring(page)
    return {
        case.attrib["name"]: next((each.tag for each in case if each.tag != "system-out"), "")
        for case in root.iter("testcase")
    }


def test_junit_of_findings_follows_fail_on() -> None:
    report = fakes.report()
    strict = states(junit.render([report], Context(failing={Severity.ERROR, Severity.WARNING})))
    assert strict["PCI001 Pageable asynchronous copies"] == "failure"
    assert strict["THR001 The GPU clock drops while it is busy"] == "skipped"
    assert strict["STR001 Streams do not overlap"] == ""
    assert set(states(junit.render([report], Context(failing=set()))).values()) == {"", "skipped"}


def test_junit_skips_what_has_nothing_to_look_for() -> None:
    nothing = Outcome("PCI006", "Small copies", Status.NOT_APPLICABLE, "nothing is copied")
    said = states(junit.render([TraceReport("x", Summary("x"), [nothing])], Context(failing={Severity.ERROR})))
    assert said == {"PCI006 Small copies": "skipped"}


def test_junit_of_a_comparison_follows_the_gate() -> None:
    slower = replace(WALL, difference=400_000, low=3e5, high=5e5, change=Change.MORE)
    latency = replace(LATENCY, difference=slower, verdict=Verdict.SLOWER, measured=Verdict.SLOWER)
    found = comparison(latency=latency)
    assert states(junit_comparison.render([found], Context(limit=5.0)))["latency"] == "failure"
    assert states(junit_comparison.render([found], Context(limit=5.0, metric="both")))["latency"] == "failure"
    assert states(junit_comparison.render([found], Context(limit=5.0, metric="throughput")))["latency"] == ""
    assert states(junit_comparison.render([found], Context(limit=15.0)))["latency"] == ""
    assert states(junit_comparison.render([found], Context(limit=None)))["latency"] == ""
    blocked = comparison(**blocked_by((SetupDifference("GPU", "a", "b", Effect.BLOCKS, "", tuple(Metric)),)))
    assert states(junit_comparison.render([blocked], Context(limit=5.0))) | {} == {
        "comparable": "error",
        "throughput": "skipped",
        "latency": "skipped",
        "promised by BEFORE: pin the host's buffers (PCI001)": "",
        "promised by BEFORE: let layers share a format (FUS002)": "",
    }


@pytest.mark.parametrize("render", RENDERERS)
def test_every_format_takes_a_comparison_without_inferences(render: Callable[[list[Comparison]], str]) -> None:
    before, after = (Side(name, Summary(name), 0, 0) for name in "ba")
    bare = Comparison(before, after, untold=("x",))
    assert "cannot tell" in render([bare]).lower()
