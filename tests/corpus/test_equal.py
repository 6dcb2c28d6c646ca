"""The same report exported by two versions of Nsight Systems gives the same dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared_corpus import needs_corpus

from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.corpus, needs_corpus]

PAIRS = {
    "cookbook": (
        "public/cookbook_dtoh_bound_2021.3_x2022.4.2.sqlite.zst",
        "public/cookbook_dtoh_bound_2021.3_x2024.2.3.sqlite.zst",
    ),
    "smile2game": (
        "public/smile2game_cudagraph_2023.2_x2023.4.4.sqlite.zst",
        "public/smile2game_cudagraph_2023.2_x2024.2.3.sqlite.zst",
    ),
}
NOT_RECORDED = {
    # pair: {table: why the two versions differ}
    "cookbook": {"diagnostics": "2022.4.2 does not export DIAGNOSTIC_EVENT"},
    "smile2game": {"diagnostics": "2023.4.4 does not export DIAGNOSTIC_EVENT"},
}
COLUMNS_NOT_RECORDED: dict[str, dict[tuple[str, str], str]] = {
    # pair: {(table, column): why the older version has none}
    "cookbook": {},
    "smile2game": {},
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, corpus_file: Callable[[str], Path]) -> tuple[str, Trace, Trace]:
    older, newer = (open_trace(corpus_file(name)) for name in PAIRS[request.param])
    return request.param, older, newer


@pytest.mark.parametrize("table", TABLES)
def test_equal(pair: tuple[str, Trace, Trace], table: str) -> None:
    name, older, newer = pair
    if table in NOT_RECORDED[name]:
        assert older.table(table).num_rows == 0
        assert older.manifest["tables"][table]["status"] == "not_collected"
        return
    assert older.table(table).num_rows == newer.table(table).num_rows
    for column in TABLES[table].names:
        if (table, column) in COLUMNS_NOT_RECORDED[name]:
            assert older.table(table).column(column).null_count == older.table(table).num_rows
            continue
        a, b = (trace.table(table).column(column).to_pylist() for trace in (older, newer))
        assert a == b, column


def test_which_tables_have_data(pair: tuple[str, Trace, Trace]) -> None:
    name, older, newer = pair
    for table in TABLES.keys() - NOT_RECORDED[name].keys():
        of_older, of_newer = (trace.manifest["tables"][table] for trace in (older, newer))
        assert (of_older["status"] == "present") == (of_newer["status"] == "present"), table
