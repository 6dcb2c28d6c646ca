"""The light core imports, analyzes and prints without what the extras bring, and says how each is brought."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shared_corpus import REPOSITORY

import nsight_tools
from nsight_tools.cli import settings
from nsight_tools.errors import EXTRAS, MissingPackageError, explained, need
from nsight_tools.report import formats
from nsight_tools.report.swept import Swept

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = "classifier_whole_graph"
PROGRAM = Path(__file__).with_name("without_extras.py")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line, or a program, where no extra is installed, beside a copy of a sample trace."""
    folder = tmp_path_factory.mktemp("bare")
    for file in (REPOSITORY / "sample_traces").glob(f"{SAMPLE}.*"):
        shutil.copy(file, folder)

    def runs(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
        what = ["-c", code] if code else [str(PROGRAM), *arguments]
        surroundings = os.environ | {"PYTHONPATH": str(PROGRAM.parent)}
        return subprocess.run(
            [sys.executable, *what], cwd=folder, env=surroundings, capture_output=True, text=True, check=False
        )

    return runs


def optional() -> dict[str, list[str]]:
    """The extras of pyproject.toml, as they stand there."""
    said = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    section = said.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return {
        name: re.findall(r'"([\w-]+)', listed)
        for name, listed in re.findall(r"^(\w+) = \[(.*)\]", section, re.MULTILINE)
    }


def test_each_extra_is_known_by_what_it_brings() -> None:
    extras = {name: packages for name, packages in optional().items() if name not in {"all", "docs"}}
    assert sorted(extras) == sorted(EXTRAS)
    for name, packages in EXTRAS.items():
        listed = {each.replace("dask", "distributed").replace("cuda-bindings", "cuda") for each in extras[name]}
        assert set(packages) == listed - {"nsight-tools"}


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_the_core_alone_analyzes(bare: Callable[..., subprocess.CompletedProcess[str]], form: str) -> None:
    done = bare("analyze", f"{SAMPLE}.sqlite", "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    if form == "json":
        assert json.loads(done.stdout)["traces"][0]["source"] == f"{SAMPLE}.sqlite"
    assert "STR" in done.stdout


def test_the_core_alone_compares_explains_and_looks_around(
    bare: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for line in (("compare", f"{SAMPLE}.sqlite", f"{SAMPLE}.sqlite"), ("explain", "PCI001"), ("explain",)):
        done = bare(*line)
        assert (done.returncode, done.stderr) == (0, ""), line
        assert done.stdout
    said = " ".join(bare("doctor").stdout.split())
    assert "Ready to analyze" in said


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["report", f"{SAMPLE}.sqlite", "-o", "page.html"], "jinja2", "html"),
        (["analyze", f"{SAMPLE}.sqlite", "--format", "html"], "jinja2", "html"),
        (["compare", f"{SAMPLE}.sqlite", f"{SAMPLE}.sqlite", "--format", "html"], "jinja2", "html"),
        (["analyze", "memory://report.sqlite"], "fsspec", "remote"),
        (["analyze", f"{SAMPLE}.sqlite", "--scheduler", "tcp://127.0.0.1:1"], "dask.distributed", "distributed"),
    ],
)
def test_what_takes_more_says_which_command_brings_it(
    bare: Callable[..., subprocess.CompletedProcess[str]], arguments: list[str], package: str, extra: str
) -> None:
    done = bare(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert package in done.stderr
    assert f"pip install 'nsight-tools[{extra}]'" in done.stderr


def test_pandas_and_figures_are_told_to_programs(bare: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "import without_extras, nsight_tools\n"
        f"trace = nsight_tools.open_trace('{SAMPLE}.sqlite')\n"
        "assert trace.table('inferences').num_rows == 50\n"
        "for ask in (lambda: trace.frame('inferences'), lambda: nsight_tools.figures.clocks):\n"
        "    try: ask()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = bare(code=code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "Trace.frame takes the Python package pandas, which is not installed; pip install 'nsight-tools[pandas]'",
        (
            "nsight_tools.figures takes the Python package jinja2, which is not installed; "
            "pip install 'nsight-tools[html]'"
        ),
    ]


def test_an_import_that_fails_deep_inside_is_told_the_same_way() -> None:
    said, status = explained(ModuleNotFoundError("No module named 'matplotlib.path'", name="matplotlib.path"))
    assert status == 2
    assert said.endswith("matplotlib, which is not installed; pip install 'nsight-tools[html]'")
    assert explained(ModuleNotFoundError("No module named 'sqlite3'", name="sqlite3"))[0].startswith("internal error")


def test_what_was_measured_is_kept_where_no_page_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError):
        need("html", "a page")
    measured = Swept({"model": {"name": "model.onnx"}, "given": {}, "gpu": "", "tensorrt": ""}, [])
    settings.write_page(tmp_path / "sweep.html", formats.SWEEP, measured)
    assert not list(tmp_path.iterdir())
    assert "a page takes the Python package matplotlib" in capsys.readouterr().err
    monkeypatch.undo()
    settings.write_page(tmp_path / "sweep.html", formats.SWEEP, measured)
    assert (tmp_path / "sweep.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_nothing_of_the_extras_is_loaded_by_the_core() -> None:
    code = (
        "import sys, nsight_tools.trace, nsight_tools.analysis, "
        "nsight_tools.report.formats.text.trace, nsight_tools.report.formats.json.trace\n"
    )
    code += "print(sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(sum(EXTRAS.values(), ())) & set(re.findall(r"\w+", done.stdout)) - {"pandas"}
    assert nsight_tools.__version__ in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
