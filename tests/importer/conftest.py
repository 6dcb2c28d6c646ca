"""An export as each of the two forms that Nsight Systems writes, and what it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from exports import write_parquetdir, write_sqlite

from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(params=["sqlite", pytest.param("parquetdir", marks=pytest.mark.slow)])
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Trace]:
    """Gives the trace of an export with these rows (the arguments of `write_sqlite`), in either form."""

    def of(*rows: Any, **options: Any) -> Trace:
        path = write_sqlite(tmp_path / "report.sqlite", *rows, **options)
        return open_trace(path if request.param == "sqlite" else write_parquetdir(tmp_path / "report", path))

    return of


@pytest.fixture
def rows(imported: Callable[..., Trace]) -> Callable[..., list[dict[str, Any]]]:
    """Gives the rows of one table of the trace of an export."""

    def of(table: str, *rows: Any, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = imported(*rows, **options).table(table).to_pylist()
        return found

    return of
