"""The page in a real browser: no errors, no requests, no scripts that run, and something to see."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from report import fakes
from report.browser import Browser, browser, needs_browser, running_browser
from report.test_html import layers, page_of, trace
from report.test_report_comparison import comparison
from shared_corpus import REPOSITORY

import nsight_tools
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.html import comparison as compared_html
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["browser", "running_browser"]

pytestmark = needs_browser

CUT = """
    [...document.querySelectorAll('svg')].flatMap(svg => {
        const page = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.width && (box.left < page.left - 1 || box.right > page.right + 1 || box.top < page.top - 1);
        }).map(text => text.textContent);
    })
"""
"""The labels that stand out of their figure."""
SMALLEST = """
    Math.min(...[...document.querySelectorAll('figure svg text')].filter(text => text.getBoundingClientRect().width)
        .map(text => { const m = text.getScreenCTM();
                       return Math.hypot(m.a, m.b) * parseFloat(getComputedStyle(text).fontSize); }))
"""
"""Pixels of the smallest letters in a figure."""
LEGIBLE = 9
"""Pixels: what a reader of a phone makes out; the page's own small text is larger."""


@pytest.mark.parametrize(
    "name", ["detector_pageable", "classifier_sync", "classifier_cuda_graph", "classifier_whole_graph"]
)
def test_a_real_trace(browser: Browser, tmp_path: Path, name: str) -> None:
    source = shutil.copy(REPOSITORY / "sample_traces" / f"{name}.sqlite", tmp_path)
    opened = nsight_tools.open_trace(source)
    report = TraceReport(name, nsight_tools.summarize(opened), nsight_tools.analyze(opened))
    file = tmp_path / "page.html"
    file.write_text(pages.page([pages.section(report, opened)]), encoding="utf-8")
    browser.show(file)
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]
    assert browser.ask("document.querySelectorAll('svg').length") >= 2
    assert browser.ask(CUT) == []
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
    browser.picture(tmp_path / "narrow.png", width=420)
    assert browser.ask(SMALLEST) >= LEGIBLE
    sizes = {}
    for scheme in ("light", "dark"):
        picture = tmp_path / f"{scheme}.png"
        browser.picture(picture, scheme=scheme)
        sizes[scheme] = picture.stat().st_size
        paper = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 254)", "dark": "rgb(13, 17, 23)"}[scheme]
    assert min(sizes.values()) > 50_000


CODES = "[...document.scripts].filter(script => script.type !== 'application/json').length"


FILLS = "[...document.querySelectorAll('.box .cell')].map(cell => getComputedStyle(cell).fill)"


def test_the_engine_is_coloured_by_choice(browser: Browser, tmp_path: Path) -> None:
    """Without a script: what is checked says by what."""
    source = shutil.copytree(REPOSITORY / "sample_traces" / "classifier_mixed.capture", tmp_path / "mixed")
    opened = nsight_tools.open_trace(source)
    report = TraceReport("mixed", nsight_tools.summarize(opened), [])
    file = tmp_path / "page.html"
    file.write_text(pages.page([pages.section(report, opened)]), encoding="utf-8")
    browser.show(file)
    by_time = browser.ask(FILLS)
    assert len(by_time) == 376
    assert browser.ask("[...document.querySelectorAll('.of')].map(of => getComputedStyle(of).display)") == [
        "inline",
        "none",
    ]
    browser.ask("document.querySelector('input.by-precision').click()")
    by_precision = browser.ask(FILLS)
    assert len(set(by_time)) > 3
    assert len(set(by_precision)) == 2  # FP32 and FP16
    assert not set(by_precision) & {"rgb(0, 0, 0)"}
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.ask(CUT) == []


def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    evil = fakes.HOSTILE + "<script>document.title = 'owned'</script><img src=https://example.com/x.png>"
    file = tmp_path / "page.html"
    of = trace(kernel_names=evil, names={"conv": evil}, tables={"layers": layers(evil)})
    file.write_text(page_of(fakes.hostile(evil), of), encoding="utf-8")
    browser.show(file)
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]
    assert browser.ask("document.title") == "nsight-tools report"
    assert browser.ask(CODES) == 1
    assert browser.ask("document.images.length") == 0


def compared_page(before: str, after: str, folder: Path) -> Path:
    """Two sample traces compared, as a page in this folder."""
    opened = []
    for name in (before, after):
        source = REPOSITORY / "sample_traces" / name
        copied = shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder)
        opened.append(nsight_tools.open_trace(copied))
    file = folder / "page.html"
    file.write_text(compared_html.render([nsight_tools.compare(*opened, names=(before, after))]), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("before", "after", "figures"),
    [
        ("classifier_sync.sqlite", "classifier_cuda_graph.capture", 5),
        ("classifier_cuda_graph.capture", "classifier_whole_graph.sqlite", 3),
        ("detector_pageable.capture", "detector_throttled.capture", 5),
    ],
)
def test_a_real_comparison(browser: Browser, tmp_path: Path, before: str, after: str, figures: int) -> None:
    file = compared_page(before, after, tmp_path)
    browser.show(file)
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]
    assert browser.ask("document.title") == "nsight-tools comparison"
    assert browser.ask("document.querySelectorAll('svg').length") == figures
    assert browser.ask(CUT) == []
    for width in (1280, 420):
        browser.picture(tmp_path / "page.png", width=width)
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
    for scheme, colour in (("light", "rgb(255, 255, 254)"), ("dark", "rgb(13, 17, 23)")):
        browser.picture(tmp_path / f"{scheme}.png", scheme=scheme)
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == colour
        assert (tmp_path / f"{scheme}.png").stat().st_size > 50_000


def test_hostile_names_do_nothing_in_a_comparison(browser: Browser, tmp_path: Path) -> None:
    evil = fakes.HOSTILE + "<script>document.title = 'owned'</script><img src=https://example.com/x.png>"
    file = tmp_path / "page.html"
    file.write_text(compared_html.render([comparison(evil), comparison(fakes.LONG)]), encoding="utf-8")
    browser.show(file)
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]
    assert browser.ask("document.title") == "nsight-tools comparison"
    assert browser.ask(CODES) == 1
    assert browser.ask("document.images.length") == 0
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_browser_would_tell(browser: Browser, tmp_path: Path) -> None:
    """What the tests above find nothing of is seen where it is."""
    file = tmp_path / "page.html"
    file.write_text("<script>console.error('x')</script><img src='https://example.com/x.png'>")
    browser.show(file)
    assert any("x" in each for each in browser.logged)
    assert browser.requested == [file.as_uri(), "https://example.com/x.png"]
