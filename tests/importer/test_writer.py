"""Tables are written in order, whatever order their rows come in, and ranges are nested on the way."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawing import table
from exports import PUSH_POP, call, domain, kernel, nvtx, process, thread, write_sqlite
from hypothesis import given, settings
from hypothesis import strategies as st

from nsight_tools.importer import import_report, launches, writer
from nsight_tools.importer.exports import sqlite
from nsight_tools.importer.nesting import Nesting
from nsight_tools.importer.writer import SortedWriter, write_table
from nsight_tools.tables import TABLES
from nsight_tools.timeline import accounting, attribution, ownership
from nsight_tools.timeline.attribution import joint_key, nesting
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

KINDS = {"p": "push_pop", "s": "start_end", "m": "mark"}


def rows_of(row: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """No rows, some, or so many that the writer begins several runs."""
    return st.sampled_from([0, 3, 12, 40]).flatmap(lambda least: st.lists(row, min_size=least, max_size=least + 9))


def nvtx_range(start: int, length: int | None, tid: int, name: str) -> dict[str, Any]:
    end = start if name == "m" else None if length is None else start + length
    return {"start_ns": start, "end_ns": end, "pid": 1, "tid": tid, "name": name, "kind": KINDS[name]}


ranges = rows_of(
    st.builds(
        nvtx_range,
        st.integers(-5, 15),
        st.sampled_from([None, 0, 1, 2, 3, 4, 6, 9, 15]),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from("ppppsm"),
    )
)


def written(rows: Iterable[list[dict[str, Any]]], name: str, finish: Callable[[], Any], chunk: int) -> pa.Table:
    """The file that a writer makes of chunks of rows, when it holds back so many."""
    shape = TABLES[name]
    with tempfile.TemporaryDirectory() as folder, patch.object(writer, "CHUNK_ROWS", chunk):
        file = Path(folder) / "t.parquet"
        with SortedWriter(file, shape, finish) as made:
            for part in rows:
                made.add(table(name, part).take(np.random.default_rng(len(part)).permutation(len(part))))
        assert [left.name for left in Path(folder).iterdir()] == ["t.parquet"] * file.exists(), (
            "nothing is left beside it"
        )
        found = pq.read_table(file) if file.exists() else shape.empty()
    assert made.rows == found.num_rows
    return found


def in_parts(rows: list[dict[str, Any]], cuts: list[int]) -> list[list[dict[str, Any]]]:
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    return [rows[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=60)
@given(ranges.flatmap(st.permutations), st.lists(st.integers(0, 1000), max_size=6), st.integers(2, 9))
def test_any_order_and_any_chunks_give_the_same_file(rows: list[dict[str, Any]], cuts: list[int], chunk: int) -> None:
    whole = written([rows], "nvtx_ranges", Nesting, 1 << 17)
    parts = written(in_parts(rows, cuts), "nvtx_ranges", Nesting, chunk)
    assert parts.to_pylist() == whole.to_pylist()
    assert sorted(map(str, ((r["start_ns"], r["tid"], r["name"]) for r in whole.to_pylist()))) == sorted(
        map(str, ((r["start_ns"], r["tid"], r["name"]) for r in rows))
    )


@settings(max_examples=60)
@given(ranges.flatmap(st.permutations), st.lists(st.integers(0, 1000), max_size=6), st.integers(2, 9))
def test_depth_and_parent_are_those_of_the_whole_trace(rows: list[dict[str, Any]], cuts: list[int], chunk: int) -> None:
    found = written(in_parts(rows, cuts), "nvtx_ranges", Nesting, chunk).to_pylist()
    at = [row for row, each in enumerate(found) if each["kind"] == "push_pop"]
    spans = [found[row] for row in at]
    never = np.iinfo(np.int64).max
    depth, parent = nesting(
        [s["start_ns"] for s in spans],
        [never if s["end_ns"] is None else s["end_ns"] for s in spans],
        joint_key([s["pid"] for s in spans], [s["tid"] for s in spans]),
    )
    assert [s["depth"] for s in spans] == depth.tolist()
    assert [s["parent"] for s in spans] == [None if above < 0 else at[above] for above in parent]
    others = [each for each in found if each["kind"] != "push_pop"]
    assert all(each["depth"] is each["parent"] is None for each in others)
    assert all(each["end_ns"] == each["start_ns"] for each in others if each["kind"] == "mark")


@settings(max_examples=40)
@given(
    rows_of(st.tuples(st.integers(-3, 9), st.integers(0, 3), st.integers(1, 3), st.none() | st.integers(0, 9))),
    st.lists(st.integers(0, 1000), max_size=6),
    st.integers(2, 9),
)
def test_ties_are_broken_by_the_other_columns_of_the_order(
    numbers: list[tuple[int, int, int, int | None]], cuts: list[int], chunk: int
) -> None:
    rows = [
        {"start_ns": start, "end_ns": start + length, "stream": stream, "correlation_id": correlation, "name": "k"}
        for start, length, stream, correlation in numbers
    ]
    found = written(in_parts(rows, cuts), "kernels", lambda: lambda part: part, chunk)
    order = [
        (r["start_ns"], r["end_ns"], r["stream"], -1 if r["correlation_id"] is None else r["correlation_id"])
        for r in found.select(["start_ns", "end_ns", "stream", "correlation_id"]).to_pylist()
    ]
    assert order == sorted((a, a + b, c, -1 if d is None else d) for a, b, c, d in numbers)


def test_calls_that_enclose_others_come_first() -> None:
    rows = [{"start_ns": 5, "end_ns": end, "name": name} for end, name in ((7, "inner"), (9, "outer"), (8, "between"))]
    found = written([rows], "api_calls", lambda: lambda part: part, 8)
    assert found["name"].to_pylist() == ["outer", "between", "inner"]


def test_words_are_ordered_as_words(tmp_path: Path) -> None:
    rows = [{"time_ns": 1, "metric": metric, "value": 0.0} for metric in ("b", "a", "c")]
    write_table(tmp_path / "t.parquet", TABLES["gpu_metrics"], table("gpu_metrics", rows).take([2, 0, 1]))
    assert pq.read_table(tmp_path / "t.parquet")["metric"].to_pylist() == ["a", "b", "c"]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert write_table(tmp_path / "t.parquet", TABLES["kernels"], TABLES["kernels"].empty()) == 0
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_no_file_under_its_name(tmp_path: Path) -> None:
    rows = table("kernels", [{"start_ns": at, "end_ns": at, "name": "k"} for at in range(20)])

    def fails() -> None:
        with patch.object(writer, "CHUNK_ROWS", 4), SortedWriter(tmp_path / "t.parquet", TABLES["kernels"]) as made:
            made.add(rows)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not (tmp_path / "t.parquet").exists()


def export(folder: Path, processes: int = 3, each: int = 50) -> Path:
    """Several processes, one listed after the other though they ran at once: an export's order is no order of time.

    The first half of each one's inferences has layer ranges.
    """
    rows = []
    for pid in range(1, processes + 1):
        rows.append(domain(1, "nsight_tools", globalTid=thread(1, pid)))
        rows.append(domain(2, "TensorRT", globalTid=thread(1, pid)))
        for at in range(each):
            begin = 100 * at + pid
            rows += [
                nvtx(begin, begin + 90, "inference", domainId=1, globalTid=thread(1, pid)),
                nvtx(begin + 1, begin + 20, f"step {at % 3}", eventType=PUSH_POP, globalTid=thread(1, pid)),
                call(begin + 2, begin + 3, correlationId=at, globalTid=thread(1, pid)),
                kernel(begin + 5, begin + 60, f"k{at % 5}", correlationId=at, globalPid=process(pid), streamId=pid),
            ]
            if at < each // 2:
                rows.append(nvtx(begin + 1, begin + 4, f"layer {at % 5}", domainId=2, globalTid=thread(1, pid)))
    rows.sort(key=lambda row: row[1].get("globalTid", row[1].get("globalPid", 0)) >> 24)
    return write_sqlite(folder / "report.sqlite", rows)


def test_an_import_in_small_chunks_gives_the_same_dataset(tmp_path: Path) -> None:
    path = export(tmp_path)
    whole = open_trace(path)
    chunks = [(module, "CHUNK_ROWS") for module in (sqlite, writer, launches)]
    with ExitStack() as stack:
        for module, name in [*chunks, (accounting, "BATCH"), (attribution, "CHUNK"), (ownership, "CHUNK")]:
            stack.enter_context(patch.object(module, name, 7))
        small = import_report(path, tmp_path / "small")
    chunked = Trace(small, whole.manifest)
    for name in TABLES:
        assert chunked.table(name).to_pylist() == whole.table(name).to_pylist(), name
    assert whole.rows("inferences") == 150
    assert whole.table("launches")["layer_source"].to_pylist() == ["range"] * 75 + ["order"] * 75
    assert set(whole.table("inferences")["kernels"].to_pylist()) == {1}


def test_what_launches_refer_to_can_be_joined(tmp_path: Path) -> None:
    trace = open_trace(export(tmp_path))
    joined = """
        SELECT l.start_ns = k.start_ns AND c.correlation_id = k.correlation_id AND r.start_ns <= c.start_ns AS fits
        FROM launches l JOIN kernels k ON l.row = k.row AND l.work = 'kernel'
            JOIN api_calls c ON l.api_call = c.row JOIN nvtx_ranges r ON l.nvtx_range = r.row
    """
    assert trace.sql(joined)["fits"].to_pylist() == [True] * trace.rows("kernels")
    for name in ("kernels", "memory_ops", "graph_launches", "api_calls", "nvtx_ranges"):
        assert trace.table(name, ["row"])["row"].to_pylist() == list(range(trace.rows(name)))
