"""Every kind of page in a real browser: the timeline zoomed, panned, hovered and jumped to; tables sorted and filtered;
read without scripts, printed, at three widths, light and dark, and by axe."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import invoke
from report import fakes
from report.browser import Browser, browser, needs_browser, running_browser
from report.test_html import layers, page_of, trace
from report.test_report_comparison import comparison
from shared_corpus import REPOSITORY, once

import nsight_tools
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.html import comparison as compared_html
from nsight_tools.report.formats.html import pages as html_pages
from nsight_tools.report.formats.html import sweep as swept_html
from nsight_tools.report.formats.html import tuning as tuned_html
from nsight_tools.report.swept import Swept
from nsight_tools.tune import ledger as ledgers
from nsight_tools.tune import sweep
from nsight_tools.tune.measuring import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["browser", "running_browser"]

pytestmark = needs_browser

SAMPLES = REPOSITORY / "sample_traces"
WIDTHS = (1400, 768, 420)


def _copied(name: str, folder: Path) -> str:
    source = SAMPLES / name
    return str(shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder))


def _written(folder: Path, *arguments: str) -> Path:
    file = folder / "page.html"
    ran = invoke(*arguments, "-o", file)
    assert ran.exit_code == 0, ran.output
    return file


def _trace(folder: Path) -> Path:
    return _written(folder, "report", _copied("detector_pageable.capture", folder))


def _fleet(folder: Path) -> Path:
    names = ("classifier_sync.sqlite", "classifier_whole_graph.sqlite")
    return _written(folder, "report", *(_copied(name, folder) for name in names), "--jobs", "1")


def _comparison(folder: Path) -> Path:
    names = ("classifier_sync.sqlite", "classifier_cuda_graph.capture")
    return _written(folder, "compare", *(_copied(name, folder) for name in names), "--format", "html")


def _sweep(folder: Path) -> Path:
    settings = SAMPLES / "tune" / "det_static"
    about = ledgers.read(settings / "best.ledger.json").about
    found = Swept(about, sweep.points(read_rows(settings / "measurements.parquet")))
    file = folder / "page.html"
    file.write_text(swept_html.render(found), encoding="utf-8")
    return file


def _tuning(folder: Path) -> Path:
    file = folder / "page.html"
    file.write_text(tuned_html.render(ledgers.read(SAMPLES / "tune" / "det_static" / "bad.ledger.json")), "utf-8")
    return file


KINDS: dict[str, Callable[[Path], Path]] = {
    "trace": _trace,
    "fleet": _fleet,
    "comparison": _comparison,
    "sweep": _sweep,
    "tuning": _tuning,
}
FIGURES = {"comparison": 5, "sweep": 1, "tuning": 1}
"""How many a page of these kinds has; those of traces have more with each finding."""


@pytest.fixture(scope="module")
def pages(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of each kind, made when it is first asked for, by whichever process that is."""

    def page(kind: str) -> Path:
        def make(made: Path) -> None:
            shutil.copy(KINDS[kind](tmp_path_factory.mktemp(kind)), made)

        return once(session_folder / "pages" / f"{kind}.html", make)

    return page


class Timeline:
    """The first timeline of the page that a browser shows."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        browser.look(width=1400, height=1000)
        browser.ask("document.querySelector('.explore').scrollIntoView({ block: 'center' })")
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.browser.ask("new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")

    @property
    def shown(self) -> tuple[int, float, float]:
        """Which window, and from when to when of it, in nanoseconds."""
        self.settle()
        data = self.browser.ask("({ ...document.querySelector('.explore canvas').dataset })")
        return int(data["window"]), float(data["from"]), float(data["to"])

    @property
    def span(self) -> float:
        _, start, end = self.shown
        return end - start

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the canvas in the window of the browser."""
        box = self.browser.ask(
            "(({ x, y, width, height }) => [x, y, width, height])"
            "(document.querySelector('.explore canvas').getBoundingClientRect())"
        )
        return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))

    def text(self, selector: str) -> str:
        return str(self.browser.ask(f"document.querySelector('.explore {selector}').innerText"))


def opened(browser: Browser, pages: Callable[[str], Path]) -> Timeline:
    browser.show(pages("trace"))
    return Timeline(browser)


def test_it_zooms_and_pans(browser: Browser, pages: Callable[[str], Path]) -> None:
    timeline = opened(browser, pages)
    window, start, end = timeline.shown
    assert window == 0
    left, top, width, height = timeline.box()
    middle = (left + width / 2, top + height / 2)
    browser.mouse("mouseWheel", *middle, deltaX=0, deltaY=-100, modifiers=2)
    assert timeline.span < 0.8 * (end - start)
    near = timeline.shown
    browser.mouse("mouseWheel", *middle, deltaX=120, deltaY=0)
    assert timeline.shown[1] > near[1]
    assert timeline.span == pytest.approx(near[2] - near[1])
    here = timeline.shown
    browser.mouse("mousePressed", *middle, button="left", clickCount=1)
    browser.mouse("mouseMoved", middle[0] + 150, middle[1], button="left", buttons=1)
    browser.mouse("mouseReleased", middle[0] + 150, middle[1], button="left", clickCount=1)
    assert timeline.shown[1] < here[1]
    browser.ask("document.querySelector('[data-does=fit]').click()")
    assert timeline.shown == (0, start, end)
    for name, nearer in (("in", True), ("out", False)):
        was = timeline.span
        browser.ask(f"document.querySelector('[data-does={name}]').click()")
        assert (timeline.span < was) is nearer
    assert browser.logged == []


def test_a_wheel_alone_scrolls_the_page(browser: Browser, pages: Callable[[str], Path]) -> None:
    timeline = opened(browser, pages)
    was, at = timeline.shown, browser.ask("window.scrollY")
    left, top, *_ = timeline.box()
    browser.mouse("mouseWheel", left + 400, top + 60, deltaX=0, deltaY=200)
    browser.ask("new Promise(done => setTimeout(done, 300))")
    assert timeline.shown == was
    assert browser.ask("window.scrollY") > at


def test_a_piece_says_what_it_is_and_what_it_waited_for(browser: Browser, pages: Callable[[str], Path]) -> None:
    """The first copy of the median inference, drawn from about a tenth of the width on, in the second lane."""
    timeline = opened(browser, pages)
    left, top, width, _ = timeline.box()
    browser.mouse("mouseMoved", left + 165 + 0.12 * (width - 165), top + 26 + 7 + 17 + 7 + 8)
    said = timeline.text(".tip")
    assert said.startswith("copy to the GPU\n")
    assert "stream 80" in said
    assert "pageable to device" in said
    assert "in Nsight Systems" in said
    assert "launched" in said or "started before the call" in said
    browser.mouse("mouseMoved", left + 400, top - 200)
    assert browser.ask("document.querySelector('.explore .tip').hidden")


def test_keys_do_what_the_mouse_does(browser: Browser, pages: Callable[[str], Path]) -> None:
    timeline = opened(browser, pages)
    browser.ask("document.querySelector('.explore canvas').focus()")
    _, start, end = timeline.shown
    browser.key("+")
    assert timeline.span < end - start
    nearer = timeline.shown
    browser.key("ArrowRight")
    assert timeline.shown[1] > nearer[1]
    browser.key("0")
    assert timeline.shown == (0, start, end)
    browser.key("n")
    first = timeline.text(".said")
    browser.key("n")
    assert timeline.text(".said") not in {"", first}
    browser.key("Enter")
    assert timeline.span < end - start
    browser.key("Escape")
    assert timeline.text(".said") == ""


def test_a_finding_leads_to_its_place(browser: Browser, pages: Callable[[str], Path]) -> None:
    timeline = opened(browser, pages)
    before = timeline.shown
    browser.ask("document.querySelector('article a[data-look]').click()")
    window, start, end = timeline.shown
    assert (window, start, end) != before
    assert "marked in Inference" in timeline.text(".said")
    assert browser.ask("document.activeElement === document.querySelector('.explore canvas')")
    looks = json.loads(browser.ask("document.querySelector('script[type=\"application/json\"]').textContent"))["looks"]
    _, low, high, code = looks[browser.ask("Number(document.querySelector('article a[data-look]').dataset.look)")]
    assert start <= low < high <= end
    assert timeline.text(".said").startswith(code)
    browser.ask(
        "(select => { select.value = '0'; select.dispatchEvent(new Event('change')) })"
        "(document.querySelector('.explore select'))"
    )
    assert timeline.shown == before


def column(browser: Browser, number: int) -> list[str]:
    """The cells of a column of the first table that sorts, as they are shown."""
    cells: list[str] = browser.ask(
        "[...document.querySelector('table.sort').tBodies[0].rows].filter(row => !row.hidden)"
        f".map(row => row.cells[{number}].dataset.v ?? row.cells[{number}].innerText)"
    )
    return cells


def test_tables_sort_and_filter(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.show(pages("trace"))
    browser.ask("document.querySelector('details.every').open = true")
    shares = [float(each) for each in column(browser, 5)]
    assert len(shares) > 12
    assert shares == sorted(shares, reverse=True)
    head = "document.querySelector('table.sort').tHead.rows[0].cells"
    browser.ask(f"{head}[5].querySelector('button').click()")
    assert [float(each) for each in column(browser, 5)] == sorted(shares)
    assert browser.ask(f"{head}[5].getAttribute('aria-sort')") == "ascending"
    browser.ask(f"{head}[0].querySelector('button').click()")
    names = column(browser, 0)
    assert names[0].lower() <= names[1].lower() <= names[-1].lower()
    assert browser.ask(f"{head}[5].getAttribute('aria-sort')") is None
    browser.ask(
        "(field => { field.value = 'reformat'; field.dispatchEvent(new Event('input')) })"
        "(document.querySelector('.tools input'))"
    )
    kept = column(browser, 0)
    assert 0 < len(kept) < len(names)
    assert browser.ask("document.querySelector('.tools [role=status]').innerText") == f"{len(kept)} of {len(names)}"


def test_it_reads_without_scripts(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    browser.show(pages("trace"))
    browser.tell("Emulation.setScriptExecutionDisabled", value=False)
    text = browser.ask("document.body.innerText")
    assert "drawn by this page's script, which does not run here" in text
    assert browser.ask("document.querySelector('.explore').getBoundingClientRect().height") == 0
    assert browser.ask("document.querySelectorAll('.tools').length") == 0
    browser.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    text = browser.ask("document.body.innerText")
    assert "longest piece" in text  # the timeline as a table
    assert "to sort and filter" in text


def test_it_prints(browser: Browser, pages: Callable[[str], Path]) -> None:
    """What is folded on a screen is there on paper; the timeline is not, and the page says so."""
    browser.show(pages("trace"))
    browser.look(media="print", width=688)  # A4
    tall = "[...document.querySelectorAll('article details')].map(each => each.getBoundingClientRect().height)"
    assert min(browser.ask(tall)) > 60
    assert browser.ask("document.querySelector('.explore').getBoundingClientRect().height") == 0
    assert browser.ask("document.querySelector('p.print').innerText").startswith("The timeline is for a screen.")
    assert "show" not in browser.ask("document.querySelector('table.stack').innerText")  # which leads to the timeline
    assert browser.ask("getComputedStyle(document.querySelector('table.stack td')).display") == "table-cell"
    assert len(browser.tell("Page.printToPDF")["data"]) > 50_000


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
LEAST_LETTERS = """Math.min(...[...document.querySelectorAll("figure text")].map(each =>
    Math.hypot(each.getScreenCTM().a, each.getScreenCTM().b) * parseFloat(getComputedStyle(each).fontSize)))"""
"""Pixels that the smallest letters of figures have on the screen."""
LEGIBLE = {"sweep": 8.5, "tuning": 8.5}
"""Pixels that these need more than, of a kind of page; 9 of all others: what a reader of a phone makes out."""


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_and_is_quiet(browser: Browser, pages: Callable[[str], Path], kind: str, tmp_path: Path) -> None:
    """At every width: nothing is logged or fetched, nothing stands out of the page or a figure, in either scheme."""
    file = pages(kind)
    browser.show(file)
    figures = browser.ask("document.querySelectorAll('svg').length")
    assert figures == FIGURES[kind] if kind in FIGURES else figures >= 2
    for width in WIDTHS:
        browser.look(width=width)
        browser.ask("for (const each of document.querySelectorAll('details')) each.open = true")
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth"), width
        narrow = browser.ask(
            "[...document.querySelectorAll('td, th, dd, p, h3')].filter(each => each.innerText.length > 8"
            " && each.clientWidth > 0 && each.clientWidth < 40).map(each => each.innerText)"
        )
        assert narrow == [], width  # a letter a line
        assert browser.ask(LEAST_LETTERS) > LEGIBLE.get(kind, 9), width
        assert browser.ask(CUT) == [], width
    for scheme, paper in (("light", "rgb(255, 255, 254)"), ("dark", "rgb(13, 17, 23)")):
        browser.look(scheme=scheme)
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == paper
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth"), scheme
        browser.picture(tmp_path / "page.png", scheme=scheme)
        assert (tmp_path / "page.png").stat().st_size > 50_000, scheme
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]


AXE = find_spec("axe_core_python")


needs_axe = pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed")


def faults(browser: Browser) -> list[dict[str, Any]]:
    """What axe finds serious or worse in the page that is shown, with some of the elements."""
    assert AXE is not None
    assert AXE.origin is not None
    browser.tell("Runtime.evaluate", expression=(Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = browser.ask(
        "axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations"
        ".filter(each => ['serious', 'critical'].includes(each.impact))"
        ".map(each => ({ id: each.id, nodes: each.nodes.slice(0, 3).map(node => node.html.slice(0, 200)) })))"
    )
    return found


LIKE_OTHERS = "section.trace ~ section.trace, tr:nth-child(n+6), svg g:nth-child(n+12), svg g > :nth-child(n+12)"
"""What axe need not look at: of traces, rows and boxes that are alike, the first few tell."""


@needs_axe
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_serious_fault(browser: Browser, pages: Callable[[str], Path], kind: str) -> None:
    browser.show(pages(kind))
    browser.ask(f"for (const each of document.querySelectorAll({LIKE_OTHERS!r})) each.remove()")
    for scheme, width in (("light", 1400), ("dark", 420)):
        browser.look(scheme=scheme, width=width)
        browser.ask("for (const each of document.querySelectorAll('article details')) each.open = true")
        browser.ask("new Promise(done => setTimeout(done, 200))")
        assert faults(browser) == [], (scheme, width)


@needs_axe
def test_axe_would_tell(browser: Browser, tmp_path: Path) -> None:
    """What the test above finds nothing of is found where it is."""
    file = tmp_path / "page.html"
    file.write_text("<html><body><button></button><p style='color: #ccc; background: #fff'>pale</p>", encoding="utf-8")
    browser.show(file)
    assert {"button-name", "color-contrast", "html-has-lang"} <= {each["id"] for each in faults(browser)}


CODES = "[...document.scripts].filter(script => script.type !== 'application/json').length"


def only_ours_ran(browser: Browser, file: Path, title: str) -> None:
    """The page that is shown has its title, its one script and no picture; nothing was logged or fetched."""
    assert browser.logged == []
    assert browser.requested == [file.as_uri()]
    assert browser.ask("document.title") == title
    assert browser.ask(CODES) == 1
    assert browser.ask("document.images.length") == 0


def test_hostile_names_on_the_timeline_do_nothing(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'owned'</script><img src=x onerror=alert(1)> \u2028"
    file = tmp_path / "page.html"
    of = trace(kernel_names=evil, names={"conv": evil}, tables={"layers": layers(evil)})
    file.write_text(page_of(fakes.hostile(evil), of), encoding="utf-8")
    browser.show(file)
    timeline = Timeline(browser)
    browser.ask("document.querySelector('.explore canvas').focus()")
    said = []
    for _ in range(8):
        browser.key("ArrowDown")
        said.append(timeline.text(".said"))
    assert any("</script><script>document.title" in each for each in said)
    left, top, width, height = timeline.box()
    for down in range(40, int(height), 9):
        for part in (0.3, 0.45, 0.6):
            browser.mouse("mouseMoved", left + part * width, top + down)
    assert browser.ask("document.querySelector('.explore .tip').querySelectorAll(':not(b, span)').length") == 0
    only_ours_ran(browser, file, "nsight-tools report")


FILLS = "[...document.querySelectorAll('.box .cell')].map(cell => getComputedStyle(cell).fill)"


def test_the_engine_is_coloured_by_choice(browser: Browser, tmp_path: Path) -> None:
    """Without a script: what is checked says by what."""
    opened = nsight_tools.open_trace(_copied("classifier_mixed.capture", tmp_path))
    report = TraceReport("mixed", nsight_tools.summarize(opened), [])
    file = tmp_path / "page.html"
    file.write_text(html_pages.page([html_pages.section(report, opened)]), encoding="utf-8")
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
    only_ours_ran(browser, file, "nsight-tools report")


def test_hostile_names_do_nothing_in_a_comparison(browser: Browser, tmp_path: Path) -> None:
    evil = fakes.HOSTILE + "<script>document.title = 'owned'</script><img src=https://example.com/x.png>"
    file = tmp_path / "page.html"
    file.write_text(compared_html.render([comparison(evil), comparison(fakes.LONG)]), encoding="utf-8")
    browser.show(file)
    only_ours_ran(browser, file, "nsight-tools comparison")
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_browser_would_tell(browser: Browser, tmp_path: Path) -> None:
    """What the tests above find nothing of is seen where it is."""
    file = tmp_path / "page.html"
    file.write_text("<script>console.error('x')</script><img src='https://example.com/x.png'>")
    browser.show(file)
    assert any("x" in each for each in browser.logged)
    assert browser.requested == [file.as_uri(), "https://example.com/x.png"]
