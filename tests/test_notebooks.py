"""The notebooks run on the sample traces, and stand in git without what they printed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from patience import PATIENCE_S
from shared_corpus import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted((REPOSITORY / "analyses" / "notebooks").glob("*.ipynb"))
OF_ONE = [notebook for notebook in NOTEBOOKS if notebook.stem != "before_and_after"]
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
@pytest.mark.parametrize("notebook", OF_ONE, ids=lambda path: path.stem)
def test_runs(notebook: Path, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (REPOSITORY / "sample_traces").glob(f"{trace}.*"):
        if source.is_file():
            shutil.copy(source, tmp_path)
    monkeypatch.setenv("TRACE", str(tmp_path / f"{trace}.sqlite"))
    execute(notebook)


@pytest.mark.filterwarnings("default")
def test_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(REPOSITORY / "sample_traces", tmp_path / "samples", ignore=shutil.ignore_patterns("*.trace"))
    monkeypatch.setenv("SAMPLES", str(tmp_path / "samples"))
    said = execute(REPOSITORY / "analyses" / "notebooks" / "before_and_after.ipynb")
    for verdict in ("faster in latency: 1.97 ms", "faster in latency: 561", "faster in throughput: 579"):
        assert any(line.startswith(verdict) for line in said), verdict


def execute(notebook: Path) -> list[str]:
    """Run it where it lies; the lines that it printed."""
    book = nbformat.read(notebook, as_version=4)
    NotebookClient(book, timeout=PATIENCE_S, kernel_name="python3").execute(cwd=str(notebook.parent))
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    return [line for output in outputs for line in output.get("text", "").splitlines()]
