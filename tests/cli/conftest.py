from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from cli import harness
from click.testing import CliRunner, Result

import nsight_tools
from nsight_tools.cli import program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> harness.Run:
    """Run the command line with fakes in place of the importer and the analyses."""
    monkeypatch.setattr(nsight_tools, "registry", lambda: harness.ANALYSES, raising=False)
    monkeypatch.setattr(nsight_tools, "open_trace", harness.fake_open, raising=False)
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)

    # Before click 8.2 the runner mixes the two streams unless told not to, and after it knows no such option.
    old = "mix_stderr" in inspect.signature(CliRunner).parameters
    options: dict[str, Any] = {"mix_stderr": False} if old else {}
    runner = CliRunner(**options)

    def runs(*arguments: str | Path) -> Result:
        return runner.invoke(program, [str(argument) for argument in arguments])

    return runs
