"""The notebooks run on the sample traces, and stand in git without what they printed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from shared_corpus import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted((REPOSITORY / "analyses" / "notebooks").glob("*.ipynb"))
TRACES = ("classifier_sync", "detector_pageable")


def test_there_are_some() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_stripped_and_public(notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    imports = [line for cell in code for line in cell.source.splitlines() if "import" in line and "nsight" in line]
    assert all(line.startswith("from nsight_tools import ") for line in imports)


@pytest.mark.filterwarnings("default")  # jupyter's own
@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(notebook: Path, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (REPOSITORY / "sample_traces").glob(f"{trace}.*"):
        if source.is_file():
            shutil.copy(source, tmp_path)
    monkeypatch.setenv("TRACE", str(tmp_path / f"{trace}.sqlite"))
    book = nbformat.read(notebook, as_version=4)
    NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(notebook.parent))
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
