"""`nsight-tools explain`: what an analysis measures, why it matters, what helps, and where it is blind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools import changes
from nsight_tools.cli import output
from nsight_tools.errors import AnalysisError, meant

if TYPE_CHECKING:
    from nsight_tools.analysis import Analysis
    from nsight_tools.report.terminal import Page


@click.command(
    "explain",
    short_help="Say what an analysis measures, and what it tells to change.",
    epilog="""\b
Example:
  nsight-tools explain PCI001
""",
)
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="Print the documentation as Markdown; without CODE, of all analyses.")
@output.colour_option
def command(code: str | None, color: str, *, markdown: bool) -> None:
    """Print the documentation of the analysis CODE, or of a family (PCI); without CODE, list all analyses.

    A word of the reports (wall, period, exposed, steady) is explained in its place.
    """
    from nsight_tools.report import catalogue, glossary
    from nsight_tools.report.terminal import Page  # rich takes its time; --help goes without

    if code is not None and (meaning := glossary.TERMS.get(code.strip().lower())):
        page = Page(output.look(color))
        page.line(page.text(code.strip().lower(), "bold cyan"))
        page.rows([[page.text(meaning, limit=2000)]])
        output.show(str(page))
        return
    analyses = nsight_tools.registry()
    if code is not None:
        try:
            analyses = nsight_tools.select(analyses, [code.strip().upper()])
        except AnalysisError:
            if word := meant(code.strip().lower(), glossary.TERMS):
                raise AnalysisError(f"there is no code or word '{code}'", hint=word) from None
            raise
    if markdown:
        output.show(catalogue.render(analyses.values()))
        return
    page = Page(output.look(color))
    if code is None:
        page.rows([page.text(each.code, "bold cyan"), page.text(each.summary)] for each in analyses.values())
        page.blank()
        page.line(page.text("nsight-tools explain CODE says how each is measured, and what to change.", "dim"))
    else:
        for position, each in enumerate(analyses.values()):
            if position:
                page.rule()
            _explain(page, each)
    output.show(str(page))


def _explain(page: Page, analysis: Analysis) -> None:
    page.line(page.text(f"{analysis.code} ", "bold cyan"), page.text(analysis.summary, "bold"))
    sections = nsight_tools.analysis.SECTIONS
    for paragraph in _paragraphs(analysis.doc):
        title, colon, rest = paragraph.partition(":")
        page.blank()
        if colon and title in sections:
            page.line(page.text(title, "bold"))
            paragraph = rest  # noqa: PLW2901 (its title is printed)
        page.rows([[page.text(line, limit=2000)] for line in _lines(paragraph)])
    if analysis.change:
        page.blank()
        page.line(page.text("Change", "bold"))
        page.rows([page.text(str(changes.said(each)), limit=2000)] for each in analysis.change)
    page.blank()
    needs = ", ".join(sorted(analysis.needs)) or "nothing in particular"
    page.line(page.text("Needs the tables: ", "dim"), page.text(needs, "dim"))


def _paragraphs(doc: str) -> list[str]:
    """The docstring behind its first line, parted at empty lines and where a section starts."""
    paragraphs: list[str] = []
    starts = tuple(f"{section}:" for section in nsight_tools.analysis.SECTIONS)
    fresh = True
    for line in doc.splitlines()[1:]:
        if not line.strip():
            fresh = True
            continue
        if fresh or line.startswith(starts):
            paragraphs.append(line)
        else:
            paragraphs[-1] += f"\n{line}"
        fresh = False
    return paragraphs


def _lines(paragraph: str) -> list[str]:
    """A paragraph as one line that the page wraps anew; lists keep their items."""
    lines: list[str] = []
    for line in paragraph.splitlines():
        stripped = line.strip()
        if lines and stripped and not stripped.startswith(("* ", "- ")):
            lines[-1] = f"{lines[-1]} {stripped}".strip()
        elif stripped:
            lines.append(stripped)
    return lines
