"""The page: what it says, in which order, and that names of a trace do nothing in it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from drawing import table
from drawn_trace import drawn
from report import fakes
from report.inert import Page, check
from shared_corpus import REPOSITORY

from nsight_tools import Trace, figures
from nsight_tools.cli import program
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.html import pages
from nsight_tools.summary import summarize
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

PICTURE = """
    nvtx 1:            [i.............].[i.............]
    nvtx 1 TensorRT:   ....[conv...]......[conv....]....
    thread 1:          CLLL.......C....CLLL.......C....S
    stream 7:          .>>####%%##<<....>>####%%##<<....
"""


def trace(**options: object) -> Trace:
    return drawn(PICTURE, **options)


def layers(name: str) -> pa.Table:
    """An engine of two layers that have this name in all that can be named."""
    tensors = [{"name": each, "dtype": name, "shape": [1], "format": name} for each in ("x", name, "y")]
    rows = [
        {"layer": n, "name": f"{name}{n}", "type": name, "inputs": [tensors[n]], "outputs": [tensors[n + 1]]}
        for n in range(2)
    ]
    return table("layers", rows)


plain = cache(trace)


def page_of(report: TraceReport, of: Trace | None = None) -> str:
    return pages.page([pages.section(report, of or plain())])


@cache
def usual() -> str:
    return page_of(fakes.report())


def test_order_of_a_reader() -> None:
    text = Page(usual()).text.replace("\N{NO-BREAK SPACE}", " ")
    place = 0
    for part in (
        "at most 1.20 of 3.85 ms an inference (31 %)",
        "Change first",
        "Findings, what gives most time back first",
        "1. The engine was built inside the capture",
        "2. 200 of 200 asynchronous copies",
        "llocate input buffers with cudaHostAlloc",
        "Timeline",
        "Where the time of an inference goes",
        "Top layers and kernels",
        "What could not be judged, and why",
        "GPU metrics were not collected",
        "How it was captured",
        "Export schema",
    ):
        place = text.index(part, place)


def test_what_could_not_be_judged_stands_by_what_would_tell() -> None:
    text = " ".join(Page(page_of(fakes.unjudged())).text.split())
    assert text.count("Capture longer") == text.count("Capture with --x=1") == 1
    assert "GPUs idle: a lot (3 samples: too few) AAA003Copies wait (4 samples) AAA004Capture longer" in text
    assert "Clocks drop BBB001No clock" in text


def test_no_line_ends_between_a_number_and_its_unit() -> None:
    tie = "\N{NO-BREAK SPACE}"
    text = Page(usual()).text
    assert f"at most 1.20 of 3.85{tie}ms an inference (31{tie}%)" in text


def test_no_line_ends_within_an_option() -> None:
    whole = '(trtexec <span class="nowrap">--onnx</span>=… <span class="nowrap">--saveEngine</span>=…)'
    assert whole in usual().replace("\N{NO-BREAK SPACE}", " ")


def test_errors_without_a_worth_are_read_first() -> None:
    text = " ".join(Page(usual()).text.split())
    assert "Read first the engine was built inside the capture" in text
    assert "Change first Build first (trtexec --onnx=… --saveEngine=…)" in text


def test_each_figure_once() -> None:
    """Three findings of one family: the first shows its figure, the others refer to it."""
    text = usual()
    assert text.count("<figure") == 4  # two bars, all inferences, transfers, layers
    assert "The figure of finding" not in text


@pytest.mark.parametrize("text", [fakes.HOSTILE, fakes.LONG, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "שלום"])
def test_hostile_names(text: str) -> None:
    of = trace(kernel_names=text, names={"conv": text}, tables={"layers": layers(text)})
    written = page_of(fakes.hostile(text), of)
    page = check(written)
    assert len(written) < 400_000
    assert "by precision" in page.text or "by time" in page.text  # the engine's graph is among it


def test_it_fetches_nothing_and_says_so() -> None:
    written = usual()
    assert "default-src 'none'" in written
    urls = set(re.findall(r"https?://[^\s\"'<]+", written))
    assert urls == {"http://www.w3.org/2000/svg"}  # a name, which no browser fetches


def test_ids_do_not_clash() -> None:
    """Two traces on one page, each with figures of its own."""
    sections = [pages.section(fakes.report(), plain(), number) for number in (1, 2)]
    ids = [a["id"] for _, a in Page(pages.page(sections)).tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert ids


def test_how_it_was_run_is_told() -> None:
    """What a capture noted, and a trace cannot know; what is odd in it does no harm."""
    run = {
        "model": {"name": "det.engine", "sha256": "0123456789abcdef" * 4},
        "versions": {"tensorrt": "8.6.0", "python": "3.10.13"},
        "options": {"shapes": {}, "streams": 2, "pageable": True, "seed": 0, "max_aux_streams": 0},
        "machine": {"before": {"gpus": [{"persistence_mode": False, "compute_mode": "exclusive process"}]}},
        "build": {"phases_s": {"parse": 0.5, "timing_cache_read": 0.001, "serialize": None}},
    }
    text = " ".join(Page(page_of(fakes.report(run=run))).text.split())
    assert "det.engine, SHA-256 0123456789abcdef…" in text
    assert "TensorRT 8.6.0, Python 3.10.13" in text
    assert "shapes as built, streams 2, pageable yes, max aux streams 0" in text
    assert "persistence off, compute mode exclusive process" in text
    assert "parse 500 ms, timing cache read 1.00 ms" in text
    assert "seed" not in text
    odd = {
        "model": 3,
        "versions": None,
        "options": [1],
        "machine": {"before": [1]},
        "build": {"phases_s": {"parse": "x"}},
    }
    page_of(fakes.report(run=odd))


def test_untraced_runs_are_told() -> None:
    """Two hundred inferences of 1 ms, one after the other, the last of them of 3 ms."""
    rows = [
        {"run": "benchmark", "inference": n, "start_ns": n * 1_000_000, "wall_ns": 3_000_000 if n == 199 else 1_000_000}
        for n in range(200)
    ]
    measured = Trace.from_tables({"benchmark": table("benchmark", rows)})
    report = fakes.report(measured=summarize(measured).measured)
    text = " ".join(Page(page_of(report)).text.split())
    times = "p50 1.00 ms, p90 1.00 ms, p95 1.00 ms, p99 1.00 ms"
    assert f"Without the profiler200 inferences, 990 inferences a second, {times}" in text
    assert "transfers overlapped" not in text


def test_the_untraced_column_is_there_where_it_says_something() -> None:
    assert fakes.TIMES.untraced is not None
    same = replace(fakes.TIMES.untraced, source="measured", wall_ns=Range(4_000_000, 4_000_000, 4_000_000))
    assert "without the profiler" in usual()
    alike = Page(page_of(fakes.report(times=replace(fakes.TIMES, untraced=same)))).text
    assert "Without the profiler nothing is shorter: measured." in alike
    assert "per inference without the profiler" not in alike


def test_nothing_to_show() -> None:
    empty = Trace.from_tables({}, missing={"kernels": "no CUDA activity was traced"})
    report = TraceReport("empty", summarize(empty), [])
    text = " ".join(Page(pages.page([pages.section(report, empty)])).text.split())
    assert "No figure: " in text
    assert "No kernels were recorded: no CUDA activity was traced." in text
    assert "Inferences none were found here" in text


def test_the_engine_stands_in_the_page() -> None:
    page = Page(page_of(fakes.report(), trace(tables={"layers": layers("conv")})))
    radios = [attributes for tag, attributes in page.tags if tag == "input"]
    assert [each["type"] for each in radios] == ["radio"] * len(radios)
    assert [each["class"] for each in radios if "checked" in each] == ["by-time"]
    assert "2 layers" not in page.text  # two boxes
    missing = Page(usual()).text
    assert "No graph of the engine: the engine's layers are not known" in missing


def test_both_palettes_are_complete() -> None:
    """Every colour of a figure is a variable that the page gives a light and a dark value."""
    written = usual()
    head, _, body = written.partition("</style>")
    used = set(re.findall(r"var\(--(\w+)", written))
    assert used <= set(re.findall(r"--(\w+):", head))
    assert head.count("--compute:") == 2
    assert 'fill="var(--compute,#0072b2)"' in body
    assert not re.search(r'="[^"]*(?<!,)#[0-9a-f]{6}"', body)
    lights = [light for light, _ in figures.COLOURS.values()]
    assert len(set(lights)) == len(lights)


def test_commands(tmp_path: Path) -> None:
    """`report` and `analyze --format html` write the same page."""
    runner = CliRunner()
    source = shutil.copy(REPOSITORY / "sample_traces" / "classifier_cuda_graph.sqlite", tmp_path)
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    assert runner.invoke(program, ["report", source, "-o", str(first)]).exit_code == 0
    assert runner.invoke(program, ["analyze", source, "--format", "html", "-o", str(second)]).exit_code == 0
    assert first.read_text() == second.read_text()
    assert first.stat().st_size < 2_000_000
    assert runner.invoke(program, ["report", source]).exit_code == 2
