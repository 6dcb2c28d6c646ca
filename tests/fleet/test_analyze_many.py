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

from nsight_tools.report import machine
from nsight_tools.tables import TABLES
from nsight_tools.trace import open_trace

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
    folder, dataset = ranks(3, broken=1), tmp_path / "fleet"
    done = analyze(folder, *FEW, "--jobs", 2, "--dataset", dataset, "--format", "json", status=2)
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
    assert sorted(each.name for each in dataset.iterdir()) == sorted(
        ["findings.parquet", "reports.parquet", *(name for name in TABLES if traces["rank0"].rows(name))]
    )
    counts = {label: trace.rows("api_calls") for label, trace in traces.items()}
    totals = {label: trace.frame("api_calls").eval("end_ns - start_ns").sum() for label, trace in traces.items()}
    query = f"""SELECT report, count(*), sum(end_ns - start_ns)
        FROM read_parquet('{dataset}/api_calls/**/*.parquet', hive_partitioning = true) GROUP BY report"""
    by_duckdb = {label: (count, total) for label, count, total in duckdb.sql(query).fetchall()}
    assert by_duckdb == {label: (counts[label], totals[label]) for label in traces}
    by_pandas = pd.read_parquet(dataset / "api_calls")
    assert by_pandas.groupby("report", observed=True).size().to_dict() == counts
    import dask.dataframe as dd

    by_dask = dd.read_parquet(str(dataset / "api_calls"))
    assert by_dask.groupby("report", observed=True).size().compute(scheduler="synchronous").to_dict() == counts

    linked = dataset / "api_calls" / "report=rank0" / "part-0.parquet"
    assert linked.samefile(traces["rank0"].path / "api_calls.parquet")
    reports = pq.read_table(dataset / "reports.parquet").to_pylist()
    assert [(row["report"], row["rank"], row["failed"] is None) for row in reports] == [
        ("rank0", 0, True),
        ("rank1", 1, False),
        ("rank2", 2, True),
    ]
    walls = traces["rank0"].frame("inferences")
    walls = walls[walls.mark != "warm_up"].wall_ns
    assert walls.quantile(0.25) <= reports[0]["wall_ns"] <= walls.quantile(0.75)


@pytest.mark.parametrize("kind", ["files", "empty", "fleet"])
def test_a_dataset_replaces_its_like_and_nothing_else(ranks: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    folder, dataset = ranks(1), tmp_path / "fleet"
    dataset.mkdir()
    if kind == "files":
        (dataset / "thesis.tex").touch()
    if kind == "fleet":
        analyze(folder, *FEW, "--dataset", dataset)
        (dataset / "kernels" / "report=rank7").mkdir(parents=True)
    done = analyze(folder, *FEW, "--dataset", dataset, status=2 if kind == "files" else 0)
    if kind == "files":
        assert [each.name for each in dataset.iterdir()] == ["thesis.tex"]
        assert f"{dataset}: is there, and no dataset of a fleet" in done.stderr
    else:
        assert not (dataset / "kernels" / "report=rank7").exists()
        assert pq.read_table(dataset / "reports.parquet")["report"].to_pylist() == ["rank0"]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_nothing_is_left_where_every_rank_fails(ranks: Callable[..., Path], tmp_path: Path) -> None:
    folder = ranks(1, broken=0)
    analyze(folder, folder / "none.sqlite", "--dataset", tmp_path / "fleet", "--jobs", 1, status=2)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_a_report_by_itself_is_as_it_was(ranks: Callable[..., Path]) -> None:
    folder = ranks(1)
    said = analyze(folder / "rank0.sqlite", *FEW).stdout
    assert said.startswith(f"{folder}/rank0.sqlite: ")
    assert analyze(folder, *FEW).stdout == said
    assert "fleet" not in json.loads(analyze(folder / "rank0.sqlite", *FEW, "--format", "json").stdout)


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
