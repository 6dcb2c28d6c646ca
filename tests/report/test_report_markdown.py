from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from report import fakes

from nsight_tools.report.formats.markdown import trace as markdown
from nsight_tools.report.formats.markdown.escaped import escape

TAGS = {"h2", "p", "strong", "br", "ul", "li", "code", "span", "details", "summary"} | {
    *("table", "thead", "tbody", "tr", "th", "td"),
}
"""What the report itself is made of."""


class Seen(HTMLParser):
    """The tags, attributes and text of a page, as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(page: str) -> Seen:
    # Tables and strikethrough as forges have them; HTML passes, as it does there.
    return Seen(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(page))


def test_a_comment_has_title_verdict_table_and_details() -> None:
    page = markdown.render([fakes.report()])
    assert page.startswith(
        "## nsight-tools: traces/detector\\_b4.nsys-rep\n\n**The capture is not fit to conclude from."
    )
    assert "| 200 of 200 asynchronous copies" in page
    assert page.count("<details>") == page.count("</details>") == 4
    assert "**Read first:** the engine was built" in page
    told = "The GPU clock drops while it is busy: GPU metrics were not collected (THR001)"
    assert f"\n- Capture with --gpu-metrics-devices=0:\n  - {told}\n" in page
    assert "**Clear:** PCI003, STR001" in page


def test_what_could_not_be_judged_stands_by_what_would_tell() -> None:
    page = markdown.render([fakes.unjudged()])
    shown = page[page.index("**Could not be judged**") :]
    assert shown == (
        "**Could not be judged**\n\n"
        "- Capture with --x=1:\n"
        "  - Looks: no GPU (AAA000)\n  - Looks: no GPU (AAA001)\n  - Looks: no GPU (AAA002)\n"
        "- Capture longer:\n"
        "  - GPUs idle: a lot: 3 samples: too few (AAA003)\n  - Copies wait: 4 samples (AAA004)\n"
        "- No clock:\n"
        "  - Clocks drop (BBB001)\n"
    )


def test_hostile_names_are_inert() -> None:
    seen = rendered(markdown.render([fakes.hostile()]))
    assert seen.tags <= TAGS
    assert seen.attributes <= {"style"}  # a column's alignment
    for shown in ("<script>alert(1)</script>", "[link=file:///etc/passwd]x[/link]", "**bold**", "`code`", "a|b", "$x$"):
        assert shown in seen.text
    assert not re.search(r"@octocat|#12\b", seen.text)  # a mention, and a reference to an issue
    assert not re.search(r"(?<!\\)(https:|www\.)", escape("https://example.com www.example.com"))
    assert all(c.isprintable() or c in "\n\u200b" for c in seen.text)


def test_a_hostile_name_adds_no_cell_and_no_row() -> None:
    seen = MarkdownIt("commonmark").enable("table").parse(markdown.render([fakes.hostile()]))
    cells = [token.type for token in seen].count("td_open")
    calm = MarkdownIt("commonmark").enable("table").parse(markdown.render([fakes.hostile("calm")]))
    assert cells == [token.type for token in calm].count("td_open") > 0


@pytest.mark.parametrize(
    "start", ["- item", "+ item", "1. item", "12) item", "# title", "=====", "> quote", "    code"]
)
def test_a_fact_starts_no_block(start: str) -> None:
    page = rendered(markdown.render([fakes.report(gpus=[{"device": 0, "name": start}], driver=None, cuda=None)]))
    assert {"h1", "ol", "blockquote", "pre"}.isdisjoint(page.tags)
    assert start.strip().lstrip("#") in page.text.replace("\u200b", "")


def test_very_long_names_are_cut() -> None:
    assert len(markdown.render([fakes.hostile(fakes.LONG)])) < 20_000
    assert "characters …" in escape(fakes.LONG)


def test_ordinary_names_stay_readable() -> None:
    assert escape("Conv_0 + Relu_1 (5.10 GB/s): a.b") == "Conv\\_0 + Relu\\_1 (5.10 GB/s): a.b"
    assert escape("5.10 GB/s") == "5.10 GB/s"
