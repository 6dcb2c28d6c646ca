"""`nsight-tools analyze` on several real exports: the command as users run it, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fleet.test_runners import environment
from jsonschema import Draft202012Validator

from nsight_tools.errors import OutputError
from nsight_tools.fleet import dataset
from nsight_tools.report.formats.json import trace as machine
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEW = ("--select", "CAP,PCI001,THR001")


def analyze(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nsight_tools", "analyze", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own, with newer pandas
def test_one_dataset_of_all_ranks(ranks: Callable[..., Path], tmp_path: Path) -> None:
    """Of a folder with a rank that fails; DuckDB, pandas and Dask read the same rows as stand in each trace."""
    folder, whole = ranks(3, broken=1), tmp_path / "fleet"
    done = analyze(folder, *FEW, "--jobs", 2, "--dataset", whole, "--format", "json", status=2)
    assert done.stderr.startswith(f"nsight-tools: error: {folder}/rank1.sqlite: is no SQLite database")
    said = json.loads(done.stdout)
    Draft202012Validator(machine.schema()).validate(said)
    assert [(each["label"], each["rank"], each["trace"]) for each in said["fleet"]["reports"]] == [
        ("rank0", 0, 0),
        ("rank1", 1, None),
        ("rank2", 2, 1),
    ]
    (group,) = said["fleet"]["groups"]
    assert (group["reports"], group["judged"], said["fleet"]["stragglers"]) == (["rank0", "rank2"], False, [])

    traces = {f"rank{rank}": open_trace(folder / f"rank{rank}.sqlite") for rank in (0, 2)}
    assert sorted(each.name for each in whole.iterdir()) == sorted(
        ["findings.parquet", "reports.parquet", *(name for name in TABLES if traces["rank0"].rows(name))]
    )
    counts = {label: trace.rows("api_calls") for label, trace in traces.items()}
    totals = {label: trace.frame("api_calls").eval("end_ns - start_ns").sum() for label, trace in traces.items()}
    query = f"""SELECT report, count(*), sum(end_ns - start_ns)
        FROM read_parquet('{whole}/api_calls/**/*.parquet', hive_partitioning = true) GROUP BY report"""
    by_duckdb = {label: (count, total) for label, count, total in duckdb.sql(query).fetchall()}
    assert by_duckdb == {label: (counts[label], totals[label]) for label in traces}
    by_pandas = pd.read_parquet(whole / "api_calls")
    assert by_pandas.groupby("report", observed=True).size().to_dict() == counts
    import dask.dataframe as dd

    by_dask = dd.read_parquet(str(whole / "api_calls"))
    assert by_dask.groupby("report", observed=True).size().compute(scheduler="synchronous").to_dict() == counts

    linked = whole / "api_calls" / "report=rank0" / "part-0.parquet"
    assert linked.samefile(traces["rank0"].path / "api_calls.parquet")
    reports = pq.read_table(whole / "reports.parquet").to_pylist()
    assert [(row["report"], row["rank"], row["failed"] is None) for row in reports] == [
        ("rank0", 0, True),
        ("rank1", 1, False),
        ("rank2", 2, True),
    ]
    walls = traces["rank0"].frame("inferences")
    walls = walls[walls.mark != "warm_up"].wall_ns
    assert walls.quantile(0.25) <= reports[0]["wall_ns"] <= walls.quantile(0.75)


def test_a_dataset_replaces_its_like(ranks: Callable[..., Path], tmp_path: Path) -> None:
    folder, whole = ranks(1), tmp_path / "fleet"
    (whole / "kernels" / "report=rank7").mkdir(parents=True)
    (whole / "reports.parquet").touch()
    analyze(folder, *FEW, "--dataset", whole)
    assert not (whole / "kernels" / "report=rank7").exists()
    assert pq.read_table(whole / "reports.parquet")["report"].to_pylist() == ["rank0"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["fleet", "run"]


def test_a_dataset_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="is there, and no dataset of a fleet"), dataset.opened(str(tmp_path)):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_dataset_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "fleet"
    with pytest.raises(KeyboardInterrupt), dataset.opened(str(target)):
        raise KeyboardInterrupt
    assert list((tmp_path / "new").iterdir()) == []
    with dataset.opened(str(target)) as partial:
        dataset.finish(partial, [])
        assert not target.exists()
    assert sorted(each.name for each in target.iterdir()) == ["findings.parquet", "reports.parquet"]


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not seen by this worker; name a folder that all workers share"):
        dataset.add(str(tmp_path / "elsewhere"), "rank0", Trace(tmp_path, {}))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_every_rank_fails(ranks: Callable[..., Path], tmp_path: Path) -> None:
    folder = ranks(1, broken=0)
    analyze(folder, folder / "none.sqlite", "--dataset", tmp_path / "fleet", "--jobs", 1, status=2)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_a_report_by_itself_is_as_it_was(ranks: Callable[..., Path]) -> None:
    folder = ranks(1)
    said = analyze(folder / "rank0.sqlite", *FEW).stdout
    assert said.splitlines()[0].endswith("/rank0.sqlite")
    assert analyze(folder, *FEW).stdout == said


def test_an_address_that_is_none_is_one_line(ranks: Callable[..., Path]) -> None:
    done = analyze(ranks(1), "--scheduler", "nonsense", status=2)
    assert done.stderr == "nsight-tools: error: 'nonsense' names no Dask scheduler; write tcp://HOST:8786\n"


def test_everything_that_analyze_takes_makes_a_fleet(ranks: Callable[..., Path], tmp_path: Path) -> None:
    folder = ranks(2)
    trace = open_trace(folder / "rank0.sqlite").path
    shutil.move(trace, folder / "node-b.trace")
    (folder / "rank0.sqlite").unlink()
    (tmp_path / "runs.txt").write_text("run/rank1.sqlite\t5\tnode-c\nrun/node-b.trace\n")
    said = analyze(tmp_path / "runs.txt", *FEW, "--jobs", 1).stdout
    assert said.startswith("2 reports")
    assert "rank5   node-c" in said
    assert "node-b" in said
