"""The first lines of a report on a small terminal: what to change first, and what it is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from shared_corpus import corpus_files, corpus_folder

from nsight_tools import open_trace
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats import Context
from nsight_tools.report.formats.text import trace as text
from nsight_tools.report.look import Look

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, FIRST = 80, 6
"""Columns of a small terminal, and the lines in which the first change stands."""
FILES = [*corpus_files("h200", "public"), *corpus_folder("programs"), *corpus_folder("pairs")]


@pytest.mark.parametrize("name", FILES, ids=lambda name: name.split(".sqlite")[0])
def test_the_first_change_and_its_worth_are_seen_at_once(name: str, corpus_file: Callable[[str], Path]) -> None:
    report = TraceReport.of(name, open_trace(corpus_file(name)))
    page = text.render([report], Context(Look(width=WIDTH)))
    assert max(map(cell_len, page.splitlines())) <= WIDTH
    worthy = [finding for finding in report.findings if report.worth_ns(finding) > 0]
    if worthy:
        head = " ".join(" ".join(page.splitlines()[:FIRST]).split()).lower()
        assert report.act(worthy[0]).lower() in head
        assert report.gain(worthy[0]).lower() in head
    else:
        assert "time to recover" in page or "Nothing found" in page or "Until that is right" in page
