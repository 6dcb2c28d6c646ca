"""What would take more memory than may be used ends with an error that says so, before or while it takes it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exports import kernel, nvtx, write_parquetdir, write_sqlite
from patience import PATIENCE_S

from nsight_tools import import_report, memory, open_trace
from nsight_tools.errors import DatasetError, InputError

MIB = 1 << 20
SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_whole_graph.sqlite"


@pytest.mark.parametrize(
    ("text", "size"), [("500M", 500 * MIB), ("1.5GiB", 1536 * MIB), ("2g", 2048 * MIB), (str(300 * MIB), 300 * MIB)]
)
def test_sizes(text: str, size: int) -> None:
    assert memory.parsed(text) == size


@pytest.mark.parametrize("text", ["", "much", "1M", "-1G", "8X", "G", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"no size|nothing runs"):
        memory.parsed(text)


def test_the_default_is_a_share_of_what_there_is() -> None:
    assert (
        memory.LEAST
        <= memory.limit()
        <= memory.of_machine()
        <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )


def test_the_fence_stands_within_the_block_only_and_not_around_what_is_started_lifted() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory.limited(512 * MIB), memory.fenced():
        fence = resource.getrlimit(resource.RLIMIT_DATA)[0]
        assert 512 * MIB + memory.RESERVED <= fence != before[0]
        with memory.lifted():
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == before[1]
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == fence
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.fixture
def export(tmp_path: Path) -> Path:
    rows = (kernel(10 * at, 10 * at + 5, correlationId=at) for at in range(100))
    sqlite = write_sqlite(tmp_path / "run.sqlite", *rows, nvtx(0, 1000, "inference"))
    return write_parquetdir(tmp_path / "run_pqtdir", sqlite)


def repeated(row: pa.Table, rows: int) -> pa.Table:
    columns = [column.combine_chunks() for column in row.columns]
    plain = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in columns]
    return pa.table([pa.repeat(each[0], rows) for each in plain], row.column_names)


def refused(source: Path, error: type[Exception] = InputError) -> str:
    with memory.limited(memory.LEAST), pytest.raises(error) as raised:
        open_trace(source)
    assert not list(source.parent.glob("*.trace*"))
    assert raised.value.hint == "allow more with --max-memory"  # type: ignore[attr-defined]
    return str(raised.value)


def test_many_equal_rows_of_a_small_parquet_file(export: Path) -> None:
    """Two million equal kernels take 60 KB on disk."""
    path = export / "CUPTI_ACTIVITY_KIND_KERNEL.parquet"
    one = pq.read_table(path).slice(0, 1)
    million = repeated(one, 2_000_000)
    pq.write_table(million, path, compression="zstd", row_group_size=2048)
    assert path.stat().st_size < 10 * MIB
    assert "has up to 2,000," in refused(export)


def test_one_row_group_of_many_rows(export: Path) -> None:
    """A small table, which is read whole, says that it has a hundred million rows."""
    path = export / "StringIds.parquet"
    rows = 20_000_000
    table = pa.table({"id": pa.repeat(pa.scalar(1, pa.int32()), rows), "value": pa.nulls(rows, pa.string())})
    pq.write_table(table, path, compression="zstd", row_group_size=rows)
    assert path.stat().st_size < 1 * MIB
    assert "one piece of it takes about 320 MB of memory, and 268 MB may be used" in refused(export)


def test_a_long_text_that_repeats(export: Path) -> None:
    """It stands in the file once, compressed: 2 GB of texts in 30 KB."""
    path = export / "StringIds.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * MIB])
    pq.write_table(pa.table({"id": pa.array(range(2000), pa.int32()), "value": text}), path, compression="zstd")
    assert path.stat().st_size < MIB
    assert "one piece of it takes about 2.10 GB of memory" in refused(export)


def test_a_dataset_of_many_equal_rows(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    dataset = import_report(tmp_path / SAMPLE.name)
    rows = 12_000_000
    many = repeated(pq.read_table(dataset / "api_calls.parquet").slice(0, 1), rows)
    pq.write_table(many, dataset / "api_calls.parquet", compression="zstd")
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    manifest["tables"]["api_calls"]["rows"] = rows
    (dataset / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with memory.limited(memory.LEAST), pytest.raises(DatasetError, match="ask for fewer columns, or allow more"):
        open_trace(dataset).table("api_calls")


CLAIMS = """
import sys
import numpy
from nsight_tools import cli
from nsight_tools.importer import importing
importing.write_dataset = lambda *_, **__: numpy.ones(1 << 40)
cli.main()
"""


def test_what_nobody_foresaw_meets_the_fence(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    command = [sys.executable, "-c", CLAIMS, "import", "--max-memory", "512M", str(tmp_path / SAMPLE.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert done.stderr == (
        "nsight-tools: error: it takes more memory than the 537 MB that may be used; allow more with --max-memory, or "
        "trace for a shorter time\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [SAMPLE.name]
