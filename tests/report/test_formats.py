"""The registry of formats: what it finds, and that each can be called as any other."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from report import fakes

from nsight_tools import cli
from nsight_tools.findings import Severity
from nsight_tools.fleet.formats import FLEET
from nsight_tools.report import formats
from nsight_tools.report.context import PLAIN, Context
from nsight_tools.report.formats import COMPARISON, EXPORT, SWEEP, TRACE, TUNING, Kind

if TYPE_CHECKING:
    from pathlib import Path

KINDS: dict[str, Kind[Any]] = {
    "trace": TRACE, "comparison": COMPARISON, "sweep": SWEEP, "tuning": TUNING, "fleet": FLEET
}  # fmt: skip
SHOWN = [(kind, name) for kind, registry in KINDS.items() for name in registry.names()]


def test_what_is_there_is_found() -> None:
    assert {"text", "html", "json", "junit", "markdown"} <= {*TRACE.names()} & {*COMPARISON.names()}
    assert {"text", "json", "markdown"} <= {*FLEET.names()}
    assert "html" in {*SWEEP.names()} & {*TUNING.names()}
    assert {"dl-designer", "perfetto", "trtexec"} <= {*EXPORT.names()}
    assert TRACE.names() == ["text", *sorted({*TRACE.names()} - {"text"})]


@pytest.mark.parametrize(("kind", "name"), SHOWN)
def test_each_takes_what_it_shows_and_a_context(kind: str, name: str) -> None:
    render = KINDS[kind].find(name).render
    shown, context = inspect.signature(render).parameters.values()
    assert shown.default is inspect.Parameter.empty
    assert context.default is PLAIN
    assert inspect.signature(render).return_annotation == "str"


@pytest.mark.parametrize("name", EXPORT.names())
def test_each_export_says_what_it_writes(name: str) -> None:
    export = EXPORT.find(name)
    assert (type(export.FOLDER), type(export.TAKES_ONNX)) == (bool, bool)
    assert list(inspect.signature(export.write).parameters) == ["exported", "to"]


@pytest.mark.parametrize("name", TRACE.names())
def test_each_shows_a_trace(name: str) -> None:
    sections = ["<p>pageable memory</p>"] if formats.makes_sections(name) else []
    shown = TRACE.find(name).render([fakes.report()], Context(failing={Severity.WARNING}, sections=sections))
    assert "pageable" in shown


@pytest.mark.parametrize(("command", "kind"), [("analyze", TRACE), ("compare", COMPARISON), ("export", EXPORT)])
def test_the_help_says_what_each_is_for(command: str, kind: Kind[Any]) -> None:
    help_ = " ".join(CliRunner().invoke(cli.program, [command, "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert f"--format [{'|'.join(kind.names())}]" in help_
    for said in kind.help().rstrip(".").split("; "):
        assert said.split(" ")[-1] in help_


def test_the_help_imports_no_format() -> None:
    """The choices and the help come from the folders' names and docstrings."""
    code = (
        "import sys; from nsight_tools.cli import program\n"
        "try: program(['analyze', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'jinja2', 'matplotlib', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "begin = 'nsight_tools.report.formats.'\n"
        "shown = [each for each in sys.modules if each.startswith(begin) and each.count('.') > 3]\n"
        "sys.exit(f'{heavy} {shown}' if heavy or shown else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_new_format_is_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shout"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""shout for who is far away."""\n')
    (folder / "trace.py").write_text(
        "from nsight_tools.report.context import PLAIN\n\n\n"
        "def render(reports, context=PLAIN):\n"
        "    return ''.join(each.verdict.upper() for each in reports)\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    assert "shout" in TRACE.names()
    assert "shout" not in COMPARISON.names()
    assert "shout for who is far away" in TRACE.help()
    assert TRACE.find("shout").render([fakes.report()]) == fakes.report().verdict.upper()
    for each in ("shout", "shout.trace"):
        monkeypatch.delitem(sys.modules, f"nsight_tools.report.formats.{each}")
