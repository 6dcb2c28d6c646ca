"""Every block of code in README and docs/ is run; what takes a GPU or the reader's own files is listed, and parsed."""

from __future__ import annotations

import re
import shlex
import shutil
from glob import glob
from typing import TYPE_CHECKING, Any

import click
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from shared_corpus import REPOSITORY

from nsight_tools.cli import COMMANDS, program
from nsight_tools.fleet import assembly, tasks

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = REPOSITORY / "sample_traces"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "analyses" / "README.md"]
LANGUAGES = {"sh", "python", "toml", "yaml", "sql"}

PARSED = {
    "capture ": "a GPU",
    "sweep ": "a GPU",
    "tune ": "a GPU",
    "mcp": "an agent, which starts it",
    "annotate ": "an Nsight Systems with ImportNvtxt",
    "--scheduler": "a cluster",
    "s3://": "a bucket",
    "times.json": "times of the reader's own run",
    "'step *'": "ranges of the reader's own program",
    "python.capture": "a capture of the reader's own program",
    "model.onnx": "a model",
}
"""What a command has that cannot be run here, and what it takes; it is parsed all the same."""

OTHERS = {
    "python3 -m venv": "`.ci/run` runs README's two lines",
    "pip install": "`.ci/package` installs; each extra is one of pyproject.toml's (test_light_core.py)",
    "gh ": "GitHub's own",
}
"""What lines begin with that are not ours."""

ELSEWHERE = {
    "frameworks.md": "test_frameworks.py runs its programs where a framework is installed",
    "limits.md": "takes a capture with GPU metrics; test_limits.py calls layer_limits",
}
"""Pages whose Python needs what is not here."""

STAND_INS = {
    "report.sqlite": "classifier_whole_graph.sqlite",
    "before.sqlite": "classifier_sync.sqlite",
    "after.sqlite": "classifier_cuda_graph.sqlite",
    "model.capture": "detector_pageable.capture",
    "before.capture": "classifier_cuda_graph.capture",
    "after.capture": "classifier_streams.capture",
    "graph.capture": "classifier_cuda_graph.capture",
    "baseline.capture": "classifier_cuda_graph.capture",
    "RUN/rank0.sqlite": "classifier_whole_graph.sqlite",
    "RUN/rank1.sqlite": "classifier_whole_graph.sqlite",
}
"""What documents call a reader's files, and the sample that stands for it. An export stands for each report."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of the fenced blocks, in their order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def lines(page: Path) -> list[str]:
    """The commands: of blocks for a shell, and what workflows run."""
    found = [line for language, block in blocks(page) if language == "sh" for line in block.splitlines()]
    for _, block in (each for each in blocks(page) if each[0] == "yaml"):
        jobs = yaml.safe_load(block)["jobs"].values()
        found += [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    return [line for line in found if line.strip()]


COMMANDS_OF = [(page, line) for page in PAGES for line in lines(page)]
OURS = [(page, line) for page, line in COMMANDS_OF if line.startswith("nsight-tools ")]
RUN = [(page, line) for page, line in OURS if not any(part in line for part in PARSED)]


def arguments(line: str) -> list[str]:
    """What follows `nsight-tools`, as a shell parts it: without the file that it writes into."""
    words = shlex.split(line, comments=True)[1:]
    return words[: words.index(">")] if ">" in words else words


def test_each_line_is_ours_or_known() -> None:
    unknown = [line for _, line in COMMANDS_OF if not line.startswith(("nsight-tools ", *OTHERS))]
    assert unknown == []
    assert {language for page in PAGES for language, _ in blocks(page)} <= LANGUAGES | {""}
    assert sorted(part for part in PARSED if not any(part in line for _, line in OURS)) == []
    assert len(RUN) > 25


@pytest.mark.parametrize("line", sorted({line for _, line in OURS}), ids=lambda line: line[13:60])
def test_commands_can_be_parsed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "captures").mkdir()
    monkeypatch.chdir(tmp_path)
    name, *rest = arguments(line)
    assert name in COMMANDS
    command = program.get_command(click.Context(program), name)
    assert command is not None
    with click.Context(program, info_name="nsight-tools") as root:
        command.make_context(name, rest, parent=root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's folder, as far as documents read it, with the stand-ins of a reader's files in it."""
    made = tmp_path_factory.mktemp("documented")
    ignored = shutil.ignore_patterns("*.trace*", "*.nsys-rep", "expected.json")
    shutil.copytree(SAMPLES, made / "sample_traces", ignore=ignored)
    (made / "RUN").mkdir()
    for name, sample in STAND_INS.items():
        copy = shutil.copytree if sample.endswith(".capture") else shutil.copyfile
        copy(made / "sample_traces" / sample, made / name)
    return made


def test_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    # Reports of a fleet are analyzed in this process, as other ones would load everything again.
    monkeypatch.setattr(assembly, "_spread", lambda given, _: map(tasks.run, given))
    failed = []
    for line in {tuple(arguments(line)): line for _, line in RUN}.values():  # once, whatever comment it has
        typed = arguments(line.replace(".nsys-rep", ".sqlite"))
        expanded = [name for each in typed for name in ((sorted(glob(each)) or [each]) if "*" in each else [each])]  # noqa: PTH207
        done = CliRunner().invoke(program, expanded, catch_exceptions=False)
        gate = any(option.startswith("--fail-on") for option in typed)
        if done.exit_code not in ((0, 1, 2) if gate else (0,)) or "internal error" in done.output:
            failed.append((line, done.exit_code, done.output[-500:]))
    assert failed == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(each[0] == "python" for each in blocks(page))], ids=lambda page: page.stem
)
def test_python_runs(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = [block for language, block in blocks(page) if language == "python"]
    for block in code:
        compile(block, str(page), "exec")
    if page.name in ELSEWHERE:
        return
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": page.stem}
    for block in code:
        exec(block, names)  # noqa: S102 (our own documents)
    for name in [name for name in names if name.startswith("test_")]:
        names[name]()
    said = capsys.readouterr().out
    if page.name == "python.md":
        assert names["slowest"].num_rows == 10
        assert "PCI001 findings" in said
    assert said or page.name == "add_an_analysis.md"


def test_the_query_over_a_fleet_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    duckdb = pytest.importorskip("duckdb")
    for rank in ("rank0", "rank1"):
        table = folder / "RUN.fleet" / "inferences" / f"report={rank}"
        if not table.exists():
            done = CliRunner().invoke(program, ["analyze", "RUN", "--jobs", "1", "--dataset", "RUN.fleet"])
            assert done.exit_code == 0
        assert pq.ParquetDataset(table).files
    ((_, query),) = [each for page in PAGES for each in blocks(page) if each[0] == "sql"]
    rows = duckdb.sql(query).fetchall()
    assert sorted(name for name, _ in rows) == ["rank0", "rank1"]
    assert all(milliseconds > 0 for _, milliseconds in rows)


def test_the_example_of_an_entry_point_is_one() -> None:
    ((_, block),) = [each for page in PAGES for each in blocks(page) if each[0] == "toml"]
    group = re.search(r'^\[project\.entry-points\."([\w.]+)"\]$', block, re.MULTILINE)
    assert group is not None
    assert f'[project.entry-points."{group[1]}"]' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
