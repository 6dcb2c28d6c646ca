"""Exports of every version that the corpus holds: each is imported, and two of one report give one dataset.

Which version wrote an export and how many rows it has are expected.json's, computed without the project's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from exports import write_parquetdir
from same_dataset import differing
from shared_corpus import corpus_expected, corpus_files

from nsight_tools.trace import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.corpus

EXPECTED = corpus_expected()
FILES = corpus_files("h200", "public")
CUPTI = "CUPTI_ACTIVITY_KIND_"
ROWS = {
    # what was there: tables of exports that become one table of the dataset
    "kernels": (CUPTI + "KERNEL",),
    "graph_launches": (CUPTI + "GRAPH_TRACE",),
    "memory_ops": (CUPTI + "MEMCPY", CUPTI + "MEMSET"),
    "api_calls": (CUPTI + "RUNTIME",),
    "synchronizations": (CUPTI + "SYNCHRONIZATION",),
    "event_records": (CUPTI + "CUDA_EVENT",),
    "osrt_calls": ("OSRT_API",),
    "gpu_metrics": ("GPU_METRICS",),
    "profiler_overhead": ("PROFILER_OVERHEAD", CUPTI + "OVERHEAD"),
    "diagnostics": ("DIAGNOSTIC_EVENT",),
}
PUSH_POP = "push/pop ranges"
PAIRS = {
    # one report by two versions: the names of both exports, and what the older one does not hold
    "cookbook": (
        "public/cookbook_dtoh_bound_2021.3_x2022.4.2.sqlite.zst",
        "public/cookbook_dtoh_bound_2021.3_x2024.2.3.sqlite.zst",
        {"diagnostics", "capture"},
    ),
    "smile2game": (
        "public/smile2game_cudagraph_2023.2_x2023.4.4.sqlite.zst",
        "public/smile2game_cudagraph_2023.2_x2024.2.3.sqlite.zst",
        {"diagnostics", "graph_nodes"},  # nor CUDA_GRAPH_EVENTS: it cannot tell that no node was recorded
    ),
}


def rows_expected(name: str) -> dict[str, int]:
    counts: dict[str, int] = EXPECTED[name]["table_rows"]
    found = {ours: sum(counts.get(table, 0) for table in theirs) for ours, theirs in ROWS.items()}
    return found | {PUSH_POP: EXPECTED[name]["nvtx"]["ranges"]}


def described(name: str) -> str:
    """A test's name: the schema, the version that exported, the file, what was there."""
    if name not in EXPECTED:
        return name
    export = EXPECTED[name]["export"]
    there = "+".join(table for table, count in rows_expected(name).items() if count)
    return f"schema {export['schema']}, nsys {export['product']}, {name.removesuffix('.sqlite.zst')}, {there}"


@pytest.mark.parametrize("name", FILES, ids=described)
class TestEveryExport:
    def test_is_read(self, name: str, corpus_file: Callable[[str], Path]) -> None:
        trace = open_trace(corpus_file(name))
        of = EXPECTED[name]["export"]
        assert trace.manifest["nsys"] == {"version": of["product"], "schema_version": of["schema"]}
        (ranges,) = trace.sql("select count(*) as count from nvtx_ranges where kind = 'push_pop'").to_pylist()
        rows = {table: trace.rows(table) for table in ROWS} | {PUSH_POP: ranges["count"]}
        assert rows == rows_expected(name)
        assert [table for table in ROWS if rows[table] and trace.missing(table)] == []

    def test_says_the_same_as_parquetdir(self, name: str, corpus_file: Callable[[str], Path], tmp_path: Path) -> None:
        """The folder is made by this project's tests; real ones of two versions are those of test_installed.py."""
        source = corpus_file(name)
        assert differing(open_trace(source), open_trace(write_parquetdir(tmp_path / "export", source))) == {}


@pytest.mark.parametrize("pair", PAIRS)
def test_two_versions_export_one_report(pair: str, corpus_file: Callable[[str], Path]) -> None:
    *names, lacking = PAIRS[pair]
    older, newer = (open_trace(corpus_file(name)) for name in names)
    assert differing(older, newer).keys() == lacking
    assert older.missing("diagnostics") == "export with Nsight Systems 2024.2 or newer"
    assert newer.rows("diagnostics") > 0
    assert older.rows("graph_nodes") == newer.rows("graph_nodes")
    if "capture" in lacking:
        assert set(older.manifest["capture"].values()) == {None}
