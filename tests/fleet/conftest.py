from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet import works

from nsight_tools.fleet.members import expanded, labelled
from nsight_tools.fleet.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(__file__).parents[2] / "sample_traces" / "classifier_whole_graph.sqlite"


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., Path]:
    """A folder with the same real export for each of so many ranks."""

    def make(count: int, *, broken: int | None = None) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        for rank in range(count):
            shutil.copy(SAMPLE, folder / f"rank{rank}.sqlite")
        if broken is not None:
            (folder / f"rank{broken}.sqlite").write_bytes(b"no database")
        return folder

    return make


def tasks_of(folder: Path, dataset: str | None = None) -> list[Task]:
    return [Task(member, works.ANALYSES, dataset=dataset) for member in labelled(expanded(str(folder)))]
