"""The Python API: what a completion shows, what is taken for a trace, and what its objects show of themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nsight_tools
from nsight_tools.errors import ArgumentError
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.report.content import TraceReport
from nsight_tools.trace import Trace

SAMPLE = Path(__file__).resolve().parent.parent / "sample_traces" / "detector_pageable.sqlite"
HOSTILE = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("sample") / SAMPLE.name
    shutil.copy(SAMPLE, copy)
    return copy


@pytest.fixture(scope="module")
def trace(report: Path) -> Trace:
    return nsight_tools.open_trace(report)


def test_dir_shows_the_api_and_nothing_else() -> None:
    assert dir(nsight_tools) == sorted(nsight_tools.__all__)
    assert all(getattr(nsight_tools, name) is not None for name in nsight_tools.__all__)
    assert "inference_accounting" in dir(nsight_tools.figures)
    assert [name for name in dir(nsight_tools.figures) if name.startswith("_")] == []


def test_importing_loads_nothing_heavy_and_figures_is_a_module() -> None:
    heavy = "pyarrow", "numpy", "pandas", "matplotlib", "duckdb", "rich"
    code = f"import sys, nsight_tools; dir(nsight_tools); print([each for each in {heavy} if each in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
    code = "import nsight_tools.figures; print(nsight_tools.figures.clocks.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "clocks\n"


def test_what_shows_an_object_is_loaded_when_it_is_shown() -> None:
    code = (
        "import sys; from nsight_tools.shown import Shown; report = 'nsight_tools.report'\n"
        "print(report in sys.modules, Shown()._repr_html_()[:16], report in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False <code>&lt;nsight True\n"


def test_a_path_stands_for_its_trace(report: Path, trace: Trace) -> None:
    one, two = nsight_tools.analyze(report, select="PCI"), nsight_tools.analyze(trace, select=["PCI"])
    assert one == two
    assert {outcome.code[:3] for outcome in one} == {"PCI"}
    assert nsight_tools.summarize(str(report)) == nsight_tools.summarize(trace)
    assert nsight_tools.layer_limits(report).equals(nsight_tools.layer_limits(trace))
    some = nsight_tools.analyze(trace, select=("PCI", "STR"), ignore="STR")
    assert [outcome.code for outcome in some] == [outcome.code for outcome in one]
    chosen = nsight_tools.select(nsight_tools.registry(), "PCI")
    assert nsight_tools.analyze(trace, chosen) == nsight_tools.analyze(trace, chosen.values()) == one


def _given(function: Any, **options: Any) -> Any:
    return partial(function, **options)


NOTHING = Trace.from_tables({})
WRONG: list[tuple[Any, tuple[Any, ...], str]] = [
    (nsight_tools.open_trace, (3,), "open_trace takes the path of a report, not an int"),
    (nsight_tools.analyze, ([],), "analyze takes a trace or the path of a report, not a list; open_trace"),
    (nsight_tools.compare, (None, None), "compare takes a trace or the path of a report, not a NoneType"),
    (nsight_tools.summarize, ({},), "summarize takes a trace or the path of a report, not a dict"),
    (nsight_tools.layer_limits, (1.5,), "layer_limits takes a trace or the path of a report, not a float"),
    (nsight_tools.analyze, (NOTHING, ["x"]), "analyze takes analyses, not a str; to choose by code"),
    (nsight_tools.analyze, (NOTHING, 3), "analyze takes analyses, not an int; to choose by code"),
    (nsight_tools.registry()["PCI001"].run, (3,), "PCI001.run takes a trace or the path of a report, not an int"),
    (_given(nsight_tools.compare, names="ab"), (NOTHING, NOTHING), "compare takes two names in a tuple, .* str"),
    (_given(nsight_tools.import_report, layers=3), ("report",), "layers is a path, not an int"),
    (_given(nsight_tools.import_report, group_by=3), ("report",), "group_by is a text, not an int"),
    (_given(nsight_tools.import_report, progress=3), ("report",), "progress is a function of .*, not an int"),
    (
        _given(nsight_tools.open_trace, untraced=3),
        ("report",),
        "untraced is the path of a file with times, not an int",
    ),
    (Trace.from_tables, (3,), "Trace.from_tables takes tables by name, not an int"),
    (Trace.from_tables, ({"kernels": 3},), "table kernels is a pyarrow.Table, not an int"),
    (NOTHING.with_untraced, (3, "x"), "with_untraced takes rows of table benchmark, .*, not an int"),
    (NOTHING.table, ("kernels", "name"), "columns are names in a list, as .*, not a str"),
    (NOTHING.sql, (3,), "sql takes a query as text, not an int"),
    (nsight_tools.figures.compared_walls, ("x",), "figures.compared_walls takes a comparison, not a str"),
    (nsight_tools.figures.svg, ("x",), "svg takes a figure, not a str"),
    (nsight_tools.inference, ("first",), "inference takes the number of an inference, .* not a str"),
    (nsight_tools.phase, (3,), "phase takes the name of a phase, as 'h2d', not an int"),
    (nsight_tools.phase, ([],), "phase takes the name of a phase, as 'h2d', not a list"),
    (nsight_tools.inference().phase, (None,), "phase takes the name of a phase, as 'h2d', not a NoneType"),
]


@pytest.mark.parametrize(("function", "arguments", "said"), WRONG)
def test_a_wrong_type_is_told_in_a_sentence(function: Any, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ArgumentError, match=said) as raised:
        function(*arguments)
    assert isinstance(raised.value, TypeError)


def test_a_wrong_value_is_told_in_a_sentence(trace: Trace) -> None:
    told: list[tuple[Any, str]] = [
        (lambda: trace.table("kernels", rows=-1), r"rows is a whole number from 0 on, not -1"),
        (lambda: trace.sql("SELECT 1", rows="x"), r"rows is a whole number from 0 on, not 'x'"),  # type: ignore[arg-type]
        (lambda: trace.sql("SELECT 1", seconds=0), r"seconds is a number above 0, not 0"),
        (lambda: trace.numbers("kernels", "name"), r"column name of table kernels holds words, no numbers"),
        (lambda: trace.missing([]), r"there is no table \[\]"),  # type: ignore[arg-type]
        (
            lambda: nsight_tools.select(nsight_tools.registry(), "pci"),
            r"no analysis has the code 'pci'; did you mean 'PCI'",
        ),
        (lambda: nsight_tools.compare(trace, trace, names=("a",)), r"compare takes two names, .*, not 1"),  # type: ignore[arg-type]
        (lambda: nsight_tools.open_trace(Path("/")), r"/: is no report; give a report"),
    ]
    for call, said in told:
        with pytest.raises(nsight_tools.NsightToolsError, match=said):
            call()


def test_a_folder_is_named_by_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nsight_tools.NsightToolsError, match="is a folder without Parquet files"):
        nsight_tools.open_trace(".")


def test_what_is_printed_is_short(trace: Trace) -> None:
    assert repr(trace) == "<Trace detector_pageable.sqlite: 50 inferences, 6,500 kernels>"
    outcomes = nsight_tools.analyze(trace, select="PCI001")
    assert repr(outcomes) == "[<Outcome PCI001 findings, 1>]"
    assert repr(outcomes[0].findings[0]).startswith("<Finding PCI001 warning: ")
    comparison = nsight_tools.compare(trace, trace, outcomes=(outcomes, outcomes))
    assert repr(comparison).startswith("<Comparison detector_pageable.sqlite against detector_pageable.sqlite: ")
    assert repr(TraceReport("a", nsight_tools.summarize(trace), outcomes)) == "<TraceReport a: 1 finding>"


def test_a_notebook_shows_what_they_say(trace: Trace) -> None:
    outcomes = nsight_tools.analyze(trace, select="PCI001")
    finding = outcomes[0].findings[0]
    assert "<td>kernels</td>" in trace._repr_html_()
    assert "<b>PCI001</b>" in finding._repr_html_()
    assert finding.evidence[0].metric in finding._repr_html_()
    assert finding._repr_html_() in outcomes[0]._repr_html_()
    assert "PCI001" in TraceReport("a", nsight_tools.summarize(trace), outcomes)._repr_html_()
    comparison = nsight_tools.compare(trace, trace, outcomes=(outcomes, outcomes))
    assert nsight_tools.headline(comparison)[:10] in comparison._repr_html_()


def test_names_from_a_trace_stay_inert_in_a_notebook() -> None:
    evidence = (Evidence(HOSTILE, 1, "count", detail=HOSTILE),)
    finding = Finding("ABC001", Severity.INFO, Confidence.LOW, HOSTILE, HOSTILE, HOSTILE, evidence=evidence)
    trace = Trace(Path(HOSTILE), {"source": {"name": HOSTILE}, "tables": {}})
    outcomes = [nsight_tools.Outcome("ABC001", HOSTILE, nsight_tools.Status.FINDINGS, findings=(finding,))]
    report = TraceReport(HOSTILE, nsight_tools.Summary(HOSTILE), outcomes)
    for shown in (finding, trace, outcomes[0], report):
        assert "<script" not in shown._repr_html_()
        assert "\x1b" not in shown._repr_html_()
        assert "&lt;script&gt;" in shown._repr_html_()
