"""What an analysis says of itself, and what a word of the reports means, as a page of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import changes, units
from nsight_tools.analysis import SECTIONS, select
from nsight_tools.errors import AnalysisError, meant
from nsight_tools.report import glossary
from nsight_tools.report.look import Look
from nsight_tools.report.terminal import Page

if TYPE_CHECKING:
    from nsight_tools.analysis import Analysis


def render(analyses: dict[str, Analysis], word: str | None = None, look: Look | None = None) -> str:
    """The documentation of an analysis, of a family (PCI), or of a word; of None, the list of these analyses.

    Raises AnalysisError where nothing has that name.
    """
    page = Page(look or Look())
    if word is not None and (meaning := glossary.TERMS.get(word.strip().lower())):
        page.line(page.text(word.strip().lower(), "bold cyan"))
        page.rows([[page.text(meaning, limit=2000)]])
        return str(page)
    if word is None:
        page.rows(
            [page.text(analysis.code, "bold cyan"), page.text(analysis.summary)] for analysis in analyses.values()
        )
        page.blank()
        page.line(page.text("nsight-tools explain CODE says how each is measured, and what to change.", "dim"))
        return str(page)
    for analysis in page.parted(_chosen(analyses, word.strip()).values()):
        _explain(page, analysis)
    return str(page)


def _chosen(analyses: dict[str, Analysis], word: str) -> dict[str, Analysis]:
    """The analyses of a code or family; of neither, the error says which word may be meant."""
    try:
        return select(analyses, [word.upper()])
    except AnalysisError:
        if near := meant(word.lower(), glossary.TERMS):
            raise AnalysisError(f"there is no code or word '{word}'", hint=near) from None
        raise


def _explain(page: Page, analysis: Analysis) -> None:
    page.line(page.text(f"{analysis.code} ", "bold cyan"), page.text(analysis.summary, "bold"))
    for paragraph in _paragraphs(analysis.doc):
        title, colon, rest = paragraph.partition(":")
        page.blank()
        if colon and title in SECTIONS:
            page.line(page.text(title, "bold"))
            paragraph = units.sentence(rest.lstrip())  # noqa: PLW2901 (its title is printed)
        page.rows([[page.text(line, limit=2000)] for line in _lines(paragraph)])
    if analysis.change:
        page.blank()
        page.line(page.text("Change", "bold"))
        page.rows([page.text(str(changes.said(change)), limit=2000)] for change in analysis.change)
    page.blank()
    needs = ", ".join(sorted(analysis.needs)) or "nothing in particular"
    page.line(page.text("Needs the tables: ", "dim"), page.text(needs, "dim"))


def _paragraphs(doc: str) -> list[str]:
    """The docstring behind its first line, parted at empty lines and where a section starts."""
    paragraphs: list[str] = []
    starts = tuple(f"{section}:" for section in SECTIONS)
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
