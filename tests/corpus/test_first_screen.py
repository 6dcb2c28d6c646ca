"""The first lines of a report on a small terminal: what to change first, and what it is worth."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from shared_corpus import REPOSITORY, corpus_files, corpus_folder

from nsight_tools import open_trace
from nsight_tools.report.content import TraceReport
from nsight_tools.report.context import Context
from nsight_tools.report.formats.text import trace as text
from nsight_tools.report.look import Look

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, FIRST = 80, 6
"""Columns of a small terminal, and the lines in which the first change stands."""
FILES = [
    *corpus_files("h200", "public"),
    *(name for folder in ("programs", "pairs", "limits", "nccl", "cases") for name in corpus_folder(folder)),
]
SAMPLES = sorted(
    str(path.relative_to(REPOSITORY / "sample_traces"))
    for path in (REPOSITORY / "sample_traces").rglob("*")
    if path.suffix == ".capture" or (path.suffix == ".sqlite" and path.parent.suffix not in {".capture", ".trace"})
)


@pytest.mark.parametrize("name", FILES, ids=lambda name: name.split(".sqlite")[0])
def test_the_first_change_and_its_worth_are_seen_at_once(name: str, corpus_file: Callable[[str], Path]) -> None:
    check(TraceReport.of(name, open_trace(corpus_file(name))))


@pytest.mark.parametrize("name", SAMPLES)
def test_so_they_are_of_a_sample(name: str, tmp_path: Path) -> None:
    source = REPOSITORY / "sample_traces" / name
    copy = tmp_path / source.name
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)
    check(TraceReport.of(name, open_trace(copy)))


def check(report: TraceReport) -> None:
    """Change and worth of the first finding are in the first lines of a small terminal, and no line is too long."""
    page = text.render([report], Context(Look(width=WIDTH)))
    assert max(map(cell_len, page.splitlines())) <= WIDTH
    worthy = [finding for finding in report.findings if report.worth_ns(finding) > 0]
    if worthy:
        head = " ".join(" ".join(page.splitlines()[:FIRST]).split()).lower()
        assert report.act(worthy[0]).lower() in head
        assert report.gain(worthy[0]).lower() in head
        assert "that costs" not in head, f"{worthy[0].code} names no change: Finding.act"
    else:
        said = ("time to recover", "Nothing found", "Nothing to look for", "Until that is right", "No verdict")
        assert any(words in " ".join(page.split()) for words in said)
