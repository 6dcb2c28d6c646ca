"""A trace: opened from any source, its tables as Arrow, pandas and SQL, and what its summary says."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import call as call_of
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pytest
from drawn_trace import drawn
from exports import call, domain, enum, kernel, nvtx, process, write_parquetdir, write_sqlite

import nsight_tools
from nsight_tools import memory
from nsight_tools.errors import DatasetError, InputError, QueryError
from nsight_tools.summary import summarize
from nsight_tools.tables import DATASET_VERSION, TABLES
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).resolve().parent.parent / "sample_traces"
SAMPLE = SAMPLES / "detector_pageable.sqlite"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a sample export, without its layers JSON."""
    return Path(shutil.copy(SAMPLE, tmp_path_factory.mktemp("sample")))


@pytest.fixture(scope="module")
def trace(sample: Path) -> Trace:
    return open_trace(sample)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small export and its dataset."""
    folder = tmp_path_factory.mktemp("imported")
    open_trace(
        write_sqlite(
            folder / "small.sqlite",
            domain(1, "nsight_tools"),
            nvtx(0, 100, "inference", domainId=1),
            nvtx(5, None, "open"),
            call(1, 2, correlationId=1),
            kernel(10, 50, "a", correlationId=1),
            kernel(60, 90, "b", graphNodeId=1 << 60),
        )
    )
    return folder


@pytest.fixture
def small(imported: Path, tmp_path: Path) -> Trace:
    """A copy of it, which a test may damage."""
    return open_trace(shutil.copytree(imported, tmp_path, dirs_exist_ok=True) / "small.sqlite")


@pytest.fixture(scope="module")
def in_memory() -> Trace:
    return drawn("stream 7: ##..###")


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{SAMPLE}?mode=ro", uri=True)) as connection:
        yield connection


class TestOpen:
    def test_an_export_a_parquetdir_and_a_dataset_hold_the_same(self, sample: Path, trace: Trace) -> None:
        parquetdir = open_trace(write_parquetdir(sample.parent / "detector", sample))
        dataset = open_trace(trace.path)
        assert dataset.path == trace.path
        assert parquetdir.manifest["source"]["kind"] == "parquetdir"
        for name in TABLES:
            assert parquetdir.table(name).equals(trace.table(name)), name
            assert dataset.table(name).equals(trace.table(name)), name
            assert parquetdir.missing(name) == trace.missing(name) == dataset.missing(name)
        assert trace.rows("kernels") == 6500
        about = ("nsys", "session", "system", "capture")
        assert {k: parquetdir.manifest[k] for k in about} == {k: trace.manifest[k] for k in about}

    def test_text_as_path(self, trace: Trace) -> None:
        assert open_trace(str(trace.path)).rows("kernels") == 6500

    def test_force_imports_again(self, small: Trace, tmp_path: Path) -> None:
        written = (small.path / "manifest.json").stat().st_mtime_ns
        open_trace(tmp_path / "small.sqlite")
        assert (small.path / "manifest.json").stat().st_mtime_ns == written
        open_trace(tmp_path / "small.sqlite", force=True)
        assert (small.path / "manifest.json").stat().st_mtime_ns > written

    def test_what_an_import_held_is_given_back(self, small: Trace, tmp_path: Path) -> None:
        imported = patch("nsight_tools.trace.import_report", return_value=small.path)
        with imported, patch.object(pa, "default_memory_pool") as pool:
            open_trace(small.path)
            assert pool.mock_calls == []
            open_trace(tmp_path / "small.sqlite")
            assert pool.mock_calls == [call_of(), call_of().release_unused()]

    def test_it_is_public(self) -> None:
        assert nsight_tools.open_trace is open_trace
        assert nsight_tools.Trace is Trace

    def test_its_repr_names_the_source(self, small: Trace) -> None:
        assert repr(small).startswith("<Trace small.sqlite")

    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda _: None, "does not exist"),
            (lambda path: path.mkdir(), "is a folder without Parquet files"),
            (lambda path: path.write_bytes(b"PNG"), "is no SQLite database"),
        ],
        ids=["nothing", "an empty folder", "another file"],
    )
    def test_what_is_none_of_them(self, tmp_path: Path, make: Any, problem: str) -> None:
        make(tmp_path / "x")
        with pytest.raises(InputError, match=problem):
            open_trace(tmp_path / "x")


class TestDamagedDatasets:
    def test_of_another_version(self, small: Trace) -> None:
        self.write(small, small.manifest | {"dataset_version": DATASET_VERSION + 1})
        with pytest.raises(DatasetError, match=f"is of dataset version {DATASET_VERSION + 1}") as raised:
            open_trace(small.path)
        assert raised.value.hint == "import the report again"

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '{"dataset_version": 1}', '{"dataset_version": 1, "tables": []}']
    )
    def test_whose_manifest_is_none(self, small: Trace, text: str) -> None:
        (small.path / "manifest.json").write_text(text)
        with pytest.raises(DatasetError, match=r"manifest\.json: is damaged"):
            open_trace(small.path)

    @pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
    def test_whose_files_are_damaged(self, small: Trace, damage: str) -> None:
        file = small.path / "kernels.parquet"
        data = file.read_bytes()
        file.unlink()
        if damage != "missing":
            file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"garbage")
        opened = open_trace(small.path)
        assert opened.rows("api_calls") == opened.table("api_calls").num_rows == 1
        with pytest.raises(DatasetError, match=r"kernels\.parquet: cannot be read") as raised:
            opened.table("kernels")
        assert raised.value.hint == "import the report again"

    @pytest.mark.parametrize("damage", ["missing", "garbage"])
    def test_sql_says_so_too(self, small: Trace, damage: str) -> None:
        file = small.path / "kernels.parquet"
        file.unlink()
        if damage == "garbage":
            file.write_bytes(b"garbage")
        with pytest.raises((DatasetError, QueryError), match=r"kernels\.parquet"):
            open_trace(small.path).sql("SELECT count(*) FROM kernels")

    @pytest.mark.parametrize("lie", [-1, 1, 1000])
    def test_whose_manifest_says_another_number_of_rows(self, small: Trace, lie: int) -> None:
        manifest = json.loads((small.path / "manifest.json").read_text(encoding="utf-8"))
        manifest["tables"]["kernels"]["rows"] += lie
        (small.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        trace = open_trace(small.path)
        for read in (lambda: trace.table("kernels"), lambda: trace.numbers("kernels", "start_ns")):
            with pytest.raises(DatasetError, match="2 rows, where the manifest says"):
                read()

    def test_of_an_older_version_that_lacks_a_table(self, small: Trace) -> None:
        tables = {name: state for name, state in small.manifest["tables"].items() if name != "gpu_metrics"}
        self.write(small, small.manifest | {"tables": tables})
        opened = open_trace(small.path)
        assert opened.table("gpu_metrics").num_rows == opened.rows("gpu_metrics") == 0
        assert opened.missing("gpu_metrics") == "the dataset was written by an older version; import it again"

    def write(self, trace: Trace, manifest: Any) -> None:
        (trace.path / "manifest.json").write_text(json.dumps(manifest))


class TestTable:
    @pytest.mark.parametrize("name", TABLES)
    def test_every_table_has_the_schemas_columns_and_types(self, trace: Trace, name: str) -> None:
        found = trace.table(name)
        assert found.schema.names == list(TABLES[name].names)
        assert found.schema.types == TABLES[name].schema.types
        assert found.num_rows == trace.rows(name) == trace.manifest["tables"][name]["rows"]
        for field in TABLES[name].schema:
            if not field.nullable:
                assert found[field.name].null_count == 0, field.name

    def test_some_columns_in_the_order_asked_for(self, small: Trace) -> None:
        found = small.table("kernels", ["name", "start_ns"])
        assert found.to_pydict() == {"name": ["a", "b"], "start_ns": [10, 60]}
        assert small.table("gpu_metrics", ["value", "device"]).schema.names == ["value", "device"]
        assert small.table("kernels", iter(["stream"])).schema.names == ["stream"]

    def test_a_column_of_words_has_one_dictionary(self, trace: Trace) -> None:
        names = trace.table("kernels")["name"]
        assert len({tuple(chunk.dictionary.to_pylist()) for chunk in names.chunks}) == 1
        words = names.chunk(0).dictionary.to_pylist()
        assert len(words) == len(set(words))

    def test_unknown_tables_and_columns_are_named_with_those_that_there_are(self, small: Trace) -> None:
        for ask in (small.table, small.frame, small.rows, small.missing):
            with pytest.raises(QueryError, match=r"there is no table kernel;.*kernels, memory_ops"):
                ask("kernel")
        with pytest.raises(QueryError, match="table kernels has no column duration; it has start_ns, end_ns"):
            small.table("kernels", ["start_ns", "duration"])
        with pytest.raises(QueryError, match="table gpu_metrics has no column nothing"):
            small.table("gpu_metrics", ["nothing"])

    def test_missing_tells_absent_from_empty(self, small: Trace) -> None:
        assert small.missing("kernels") is None
        assert small.missing("memory_ops") is None
        assert small.rows("memory_ops") == 0
        assert str(small.missing("gpu_metrics")).startswith("capture with --gpu-metrics-devices=all")


class TestFrame:
    def test_dtypes(self, small: Trace) -> None:
        frame = small.frame("kernels")
        assert frame["name"].dtype == "category"
        assert frame["start_ns"].dtype == "int64"
        assert frame["graph_node_id"].dtype == pd.Int64Dtype()
        assert frame["graph_node_id"].tolist() == [pd.NA, 1 << 60], "exact: a float would round it"
        ranges = small.frame("nvtx_ranges")
        assert ranges["end_ns"].dtype == pd.Int64Dtype()
        assert ranges["depth"].dtype == pd.Int16Dtype()
        assert ranges["end_ns"].isna().tolist() == [False, True]

    @pytest.mark.parametrize("name", ["kernels", "gpus", "launches", "layers", "gpu_metrics"])
    def test_without_rows_the_dtypes_are_the_same(self, name: str) -> None:
        frame = Trace.from_tables({}).frame(name)
        assert frame.empty
        assert list(frame.columns) == list(TABLES[name].names)
        for field in TABLES[name].schema:
            if pa.types.is_dictionary(field.type):
                assert frame[field.name].dtype == "category"
            elif pa.types.is_integer(field.type):
                assert (
                    isinstance(frame[field.name].dtype, (pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype)) == field.nullable
                )

    def test_some_columns(self, small: Trace) -> None:
        assert list(small.frame("kernels", ["name", "device"]).columns) == ["name", "device"]


FORBIDDEN = (
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_text('{folder}/../secret.csv')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "COPY kernels TO '{target}'",
    "COPY kernels TO '{target}' (FORMAT parquet)",
    "EXPORT DATABASE '{target}'",
    "ATTACH '{target}'",
    "ATTACH '{target}' AS other (TYPE sqlite)",
    "INSTALL httpfs",
    "LOAD sqlite",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET lock_configuration = false",
    "PRAGMA enable_profiling = 'json'; PRAGMA profile_output = '{target}'",
    "SET temp_directory = '{target}'",
    "SET log_query_path = '{target}'",
    "CALL enable_logging(storage = 'file', storage_path = '{target}')",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{target}'",
    "PREPARE copying AS COPY (SELECT 1) TO '{target}'; EXECUTE copying",
    "CREATE MACRO read() AS TABLE SELECT * FROM read_csv('{secret}'); SELECT * FROM read()",
    "SELECT * FROM query('SELECT * FROM read_csv(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM parquet_metadata('{folder}/kernels.parquet')",
    "SELECT * FROM sqlite_scan('{secret}', 'x')",
    "SELECT * FROM secret",  # a variable of Python's
    "SELECT getenv('HOME')",
    "CREATE PERSISTENT SECRET mine (TYPE s3)",
    "IMPORT DATABASE '{target}'",
    "FORCE INSTALL spatial FROM community",
    "LOAD '{target}'",
    "UPDATE EXTENSIONS",
)


class TestSql:
    def test_every_table_is_a_view(self, small: Trace) -> None:
        for name in TABLES:
            assert small.sql(f"SELECT count(*) AS n FROM {name}")["n"].to_pylist() == [small.rows(name)]

    def test_a_join(self, small: Trace) -> None:
        found = small.sql("""
            SELECT k.name, l.inference, k.end_ns - k.start_ns AS ns
            FROM launches l
            JOIN (SELECT row_number() OVER (ORDER BY start_ns) - 1 AS at, * FROM kernels) k ON k.at = l.row
            ORDER BY k.start_ns
        """)
        assert found.to_pylist() == [
            {"name": "a", "inference": 0, "ns": 40},
            {"name": "b", "inference": None, "ns": 30},
        ]

    def test_it_agrees_with_the_export(self, trace: Trace, database: sqlite3.Connection) -> None:
        query = "SELECT count(*) AS n, sum({end} - {start}) AS busy FROM {table}"
        mine = trace.sql(query.format(end="end_ns", start="start_ns", table="kernels")).to_pylist()[0]
        theirs = database.execute(
            query.format(end='"end"', start="start", table="CUPTI_ACTIVITY_KIND_KERNEL")
        ).fetchone()
        assert (mine["n"], int(mine["busy"])) == theirs

    def test_a_trace_in_memory_answers_too(self) -> None:
        made = drawn("stream 7: ##..###")
        assert made.sql("SELECT end_ns - start_ns AS ns FROM kernels ORDER BY 1")["ns"].to_pylist() == [2000, 3000]

    @pytest.mark.parametrize("query", ["SELEC 1", "SELECT * FROM nothing", "SELECT nothing FROM kernels"])
    def test_an_error_is_duckdbs_own(self, small: Trace, query: str) -> None:
        with pytest.raises(QueryError, match=r"the query failed: .*Error"):
            small.sql(query)

    @pytest.mark.parametrize("query", FORBIDDEN)
    @pytest.mark.parametrize("kind", ["dataset", "in memory"])
    def test_nothing_else_can_be_read_written_or_changed(
        self, small: Trace, in_memory: Trace, tmp_path: Path, query: str, kind: str
    ) -> None:
        secret, target = tmp_path / "secret.csv", tmp_path / "target"
        secret.write_text("a,b\n1,2\n")
        asked = small if kind == "dataset" else in_memory
        before = {path: path.stat().st_mtime_ns for path in small.path.iterdir()}
        with pytest.raises(QueryError):
            asked.sql(query.format(secret=secret, target=target, folder=small.path))
        assert not target.exists()
        assert {path: path.stat().st_mtime_ns for path in small.path.iterdir()} == before
        assert asked.sql("SELECT count(*) AS n FROM kernels")["n"].to_pylist() == [2]

    @pytest.mark.parametrize("folder", [".tmp", ".duckdb", "duckdb_temp_storage"])
    def test_no_folder_of_duckdbs_own_is_open_to_a_query(
        self, small: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        """By default DuckDB may always use .tmp in the working directory, also where a query says so."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "secret.csv").write_text("a\n1\n", encoding="utf-8")
        for query in (
            f"COPY (SELECT 1) TO '{folder}/written.csv'",
            f"COPY (SELECT 1) TO '{tmp_path}/{folder}/written.csv'",
            f"SELECT * FROM read_csv('{folder}/secret.csv')",
            f"ATTACH '{folder}/written.db'",
        ):
            with pytest.raises(QueryError):
                small.sql(query)
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["secret.csv"]

    def test_what_memory_cannot_hold_is_an_error_and_no_file(
        self, small: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        with memory.limited(memory.LEAST), pytest.raises(QueryError, match="Out of Memory"):
            small.sql("SELECT count(*) FROM (SELECT DISTINCT range, hash(range) FROM range(100000000))")
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_datasets_own_files_cannot_be_written(self, small: Trace) -> None:
        before = (small.path / "kernels.parquet").read_bytes()
        for query in (
            f"COPY (SELECT 1) TO '{small.path}/kernels.parquet' (FORMAT parquet)",
            f"COPY (SELECT 1) TO '{small.path}/more.parquet' (FORMAT parquet)",
            f"ATTACH '{small.path}/more.db'",
        ):
            with pytest.raises(QueryError):
                small.sql(query)
        assert (small.path / "kernels.parquet").read_bytes() == before
        assert not list(small.path.glob("more*"))

    def test_a_folder_with_a_quote_in_its_name(self, tmp_path: Path) -> None:
        folder = tmp_path / "it's"
        folder.mkdir()
        made = open_trace(write_sqlite(folder / "a.sqlite", kernel(0, 1)))
        assert made.sql("SELECT count(*) AS n FROM kernels")["n"].to_pylist() == [1]


def covered(spans: list[tuple[int, int]]) -> int:
    """Nanoseconds that at least one of these covers, by a plain loop."""
    total, reach = 0, -(1 << 62)
    for start, end in sorted(spans):
        total += max(end - max(start, reach), 0)
        reach = max(reach, end)
    return total


class TestSummary:
    def test_numbers_agree_with_a_plain_loop_over_the_export(self, trace: Trace, database: sqlite3.Connection) -> None:
        said = summarize(trace)
        ran = {
            "kernels": database.execute('SELECT start, "end" FROM CUPTI_ACTIVITY_KIND_KERNEL').fetchall(),
            "sets": database.execute('SELECT start, "end" FROM CUPTI_ACTIVITY_KIND_MEMSET').fetchall(),
        }
        for word, kind in (("h2d", 1), ("d2h", 2)):
            copies = 'SELECT start, "end" FROM CUPTI_ACTIVITY_KIND_MEMCPY WHERE copyKind = ?'
            ran[word] = database.execute(copies, (kind,)).fetchall()
        everything = [span for spans in ran.values() for span in spans]
        window = max(end for _, end in everything) - min(start for start, _ in everything)
        assert said.window_ns == window
        expected = {word: (len(spans), covered(spans)) for word, spans in ran.items()}
        expected["idle"] = (None, window - covered(everything))
        assert {row.kind: (row.count, row.busy_ns) for row in said.time} == expected
        assert all(row.share == row.busy_ns / window for row in said.time)
        assert said.inferences == 50
        assert said.inference_source == "inference_range"

    def test_what_stands_in_the_export(self, trace: Trace, database: sqlite3.Connection) -> None:
        said = summarize(trace)
        meta = dict(database.execute("SELECT name, value FROM META_DATA_EXPORT"))
        assert said.source == "detector_pageable.sqlite"
        assert (said.nsys_version, said.schema_version) == (
            meta["EXPORT_PRODUCT_VERSION"],
            meta["EXPORT_SCHEMA_VERSION"],
        )
        assert [gpu["name"] for gpu in said.gpus] == ["NVIDIA H200"]
        assert said.duration_ns == database.execute("SELECT duration FROM ANALYSIS_DETAILS").fetchone()[0]
        assert said.counts["kernels"] == 6500
        assert said.counts.keys() == TABLES.keys()
        assert (said.streams, said.processes) == (1, 1)
        assert said.missing == {name: trace.missing(name) for name in TABLES if trace.missing(name) is not None}
        assert "gpu_metrics" in said.missing

    def test_inference_times_are_those_of_the_table(self, trace: Trace) -> None:
        """But for the slow ones that lead: they exceed the median by 5 standard deviations, and by 20 %."""
        said = summarize(trace).times
        assert said is not None
        inferences = trace.table("inferences")
        in_order = inferences["wall_ns"].to_pylist()
        middle = median(in_order)
        scatter = 1.4826 * median(abs(each - middle) for each in in_order)
        slow = [each > max(1.2 * middle, middle + 5 * scatter) for each in in_order]
        first = slow.index(False)
        assert (said.warm_up, said.of, first) == (2, 48, 2)
        wall = sorted(in_order[first:])
        assert said.wall_median_ns == round((wall[23] + wall[24]) / 2)
        assert said.warm_up_ns == sum(in_order[:first]) - first * said.wall_median_ns
        exposed = sorted(inferences["exposed_h2d_ns"].to_pylist()[first:])
        assert said.median["exposed_h2d"] == round((exposed[23] + exposed[24]) / 2)
        # The least that 99 of 100 do not exceed: of 48, only the last.
        assert (said.p99["exposed_h2d"], said.wall_p99_ns) == (exposed[47], wall[47])

    def test_how_many_inferences_are_under_way(self) -> None:
        """Two threads, each of which is done with one every 10 µs; then three, of which each makes one."""
        threads = drawn("""
            nvtx 1:   [i......].[i......]....
            nvtx 2:   ....[i......].[i......]
            thread 1: .L.........L...........
            thread 2: .....L.........L.......
            stream 7: ..#...#.....#...#......
        """)
        said = summarize(threads).times
        assert said is not None
        assert (said.at_a_time, said.every_ns) == (pytest.approx(4 * 9 / 23), 5_000)
        one_each = drawn("""
            nvtx 1:   [i......]..............
            nvtx 2:   ....[i......]..........
            nvtx 3:   ...............[i.....]
            thread 1: .L.....................
            thread 2: .....L.................
            thread 3: ................L......
            stream 7: ..#...#..........#.....
        """)
        said = summarize(one_each).times
        assert said is not None
        assert (said.at_a_time, said.every_ns) == (pytest.approx((9 + 9 + 8) / (13 + 8)), (23_000 - 9_000) // 2)

    def test_time_of_several_gpus_is_summed(self) -> None:
        trace = drawn("""
            stream 7:          ####....>>..
            stream 8:          ..####......
            stream 7 device 1: ......##....
        """)
        said = summarize(trace)
        assert said.window_ns == 10_000
        assert {row.kind: (row.count, row.busy_ns, row.share) for row in said.time} == {
            "kernels": (3, 8000, 0.4),
            "h2d": (1, 2000, 0.1),
            "idle": (None, 10_000, 0.5),
        }
        assert said.streams == 3
        assert len(said.gpus) == 2

    def test_gpus_without_work_are_left_out(self, tmp_path: Path) -> None:
        gpus = [("TARGET_INFO_GPU", {"id": at, "name": f"GPU {at}", "cuDevice": at}) for at in range(3)]
        made = open_trace(write_sqlite(tmp_path / "a.sqlite", gpus, kernel(0, 1, deviceId=1)))
        assert [gpu["name"] for gpu in summarize(made).gpus] == ["GPU 1"]
        idle = open_trace(write_sqlite(tmp_path / "b.sqlite", gpus))
        assert len(summarize(idle).gpus) == 3

    def test_processes(self, tmp_path: Path) -> None:
        rows = [kernel(0, 1), kernel(2, 3, globalPid=process(2000)), enum("ENUM_CUDA_MEM_KIND", {})]
        made = open_trace(write_sqlite(tmp_path / "a.sqlite", *rows))
        assert summarize(made).processes == 2

    def test_of_nothing(self) -> None:
        nothing = Trace.from_tables({}, missing={"kernels": "not traced"})
        said = summarize(nothing)
        assert (said.window_ns, said.time, said.times, said.inferences) == (0, (), None, 0)
        assert said.inference_source is None
        assert said.missing == {"kernels": "not traced"}
