from __future__ import annotations

import pytest
from cli import harness
from command_line import invoke

import nsight_tools


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> harness.Run:
    """Run the command line with fakes in place of the importer and the analyses."""
    monkeypatch.setattr(nsight_tools, "registry", lambda: harness.ANALYSES, raising=False)
    monkeypatch.setattr(nsight_tools, "open_trace", harness.fake_open, raising=False)
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)

    return invoke
