"""The notebooks run on the sample traces, and stand in git with what they print there, scrubbed."""

from __future__ import annotations

import re
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
OF_ANOTHER = {"first_look_at_a_trace": "classifier_sync", "why_is_this_inference_slow": "detector_pageable"}
"""Notebooks about one trace, and one that is not the trace which they are kept with."""
LIMIT_BYTES = 250_000


def test_there_are_some() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_public_and_with_outputs_that_are_scrubbed(notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert sum(bool(cell.outputs) for cell in code) >= len(code) / 2
    assert all(cell.execution_count is None and not cell.metadata for cell in code)
    assert not any(output.get("name") == "stderr" or output.output_type == "error" for output in outputs)
    kept = notebook.read_text(encoding="utf-8")
    assert not re.search(r"/(?:tmp|home|root|Users)/| at 0x[0-9a-f]{6}|iopub|shell\.execute", kept)
    assert len(kept) < LIMIT_BYTES
    imports = [line for cell in code for line in cell.source.splitlines() if "import" in line and "nsight" in line]
    assert all(line.startswith("from nsight_tools import ") for line in imports)


@pytest.mark.filterwarnings("default")  # jupyter's own
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_prints_what_is_kept(notebook: Path, tmp_path: Path) -> None:
    """What it prints as text; tables look as pandas' version has them, and figures as matplotlib's."""
    folder = tmp_path / "analyses" / "notebooks"
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("*.trace*", "*.nsys-rep", "throttled*")
    shutil.copytree(REPOSITORY / "sample_traces", tmp_path / "sample_traces", ignore=ignored)
    kept = printed(nbformat.read(notebook, as_version=4))
    assert execute(notebook, folder) == kept, (
        f"python analyses/notebooks/keep_outputs.py {notebook.stem} keeps what it prints now"
    )


def printed(book: nbformat.NotebookNode) -> str:
    """The streams' text, which comes in pieces that may end anywhere: what is late begins another one."""
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.filterwarnings("default")  # jupyter's own
@pytest.mark.parametrize(("notebook", "trace"), OF_ANOTHER.items())
def test_runs_on_another_trace(notebook: str, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (REPOSITORY / "sample_traces").glob(f"{trace}.*"):
        if source.is_file():
            shutil.copy(source, tmp_path)
    monkeypatch.setenv("TRACE", str(tmp_path / f"{trace}.sqlite"))
    execute(REPOSITORY / "analyses" / "notebooks" / f"{notebook}.ipynb")


def test_before_and_after_has_its_verdicts() -> None:
    kept = printed(nbformat.read(REPOSITORY / "analyses" / "notebooks" / "before_and_after.ipynb", as_version=4))
    for verdict in ("faster in latency: 1.97 ms", "faster in latency: 561", "faster in throughput: 579"):
        assert any(line.startswith(verdict) for line in kept.splitlines()), verdict


def execute(notebook: Path, folder: Path | None = None) -> str:
    """Run it where it lies, or in a folder; what it printed."""
    book = nbformat.read(notebook, as_version=4)
    NotebookClient(book, timeout=PATIENCE_S, kernel_name="python3").execute(cwd=str(folder or notebook.parent))
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    images = {"image/svg+xml", "image/png"}
    assert any(images & output.get("data", {}).keys() or "<Figure" in str(output.get("data")) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    return printed(book)
