from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from exports import call, domain, kernel, nvtx, write_sqlite
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


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """A folder with the same small export for each of so many ranks: twenty inferences of a kernel."""

    def make(count: int, *, broken: int | None = None) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        rows = [domain(1, "nsight_tools")]
        for begin in range(0, 20_000, 1_000):
            rows += [
                nvtx(begin, begin + 900, "inference", domainId=1),
                call(begin + 10, begin + 50, correlationId=begin),
            ]
            rows.append(kernel(begin + 60, begin + 800, correlationId=begin))
        for rank in range(count):
            write_sqlite(folder / f"rank{rank}.sqlite", rows)
        if broken is not None:
            (folder / f"rank{broken}.sqlite").write_bytes(b"no database")
        return folder

    return make


def tasks_of(folder: Path, dataset: str | None = None) -> list[Task]:
    return [Task(member, works.ANALYSES, dataset=dataset) for member in labelled(expanded(str(folder)))]
