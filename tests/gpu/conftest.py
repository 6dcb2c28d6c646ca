"""Captures that several tests look at; each is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nsight_tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools import Finding, Trace


def gpu_is_there() -> bool:
    """Whether NVML counts a GPU here."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except Exception:  # noqa: BLE001 (no driver, no library, no module: all mean none)
        return False


@dataclass(frozen=True)
class Capture:
    """A run directory and what the command printed."""

    path: Path
    printed: str

    @cached_property
    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def trace(self) -> Trace:
        return nsight_tools.open_trace(self.path)

    @cached_property
    def findings(self) -> dict[str, Finding]:
        outcomes = nsight_tools.analyze(self.trace)
        return {finding.code: finding for outcome in outcomes for finding in outcome.findings}


@pytest.fixture(scope="session")
def model() -> Callable[[str], Path]:
    """Gives a model by name; skips where there is none, or no GPU."""
    if not gpu_is_there():
        pytest.skip("no GPU here")
    folder = os.environ.get("NSIGHT_TOOLS_MODELS")
    if not folder:
        pytest.skip("NSIGHT_TOOLS_MODELS names no folder")

    def get(name: str) -> Path:
        path = Path(folder) / name
        if not path.exists():
            pytest.skip(f"{path} is missing")
        return path.absolute()

    return get


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Capture]:
    """Captures by `nsight-tools capture`, once for each name and process of the tests."""
    if not gpu_is_there():
        pytest.skip("no GPU here")
    kept = os.environ.get("NSIGHT_TOOLS_KEEP")
    folder = Path(kept).absolute() if kept else tmp_path_factory.mktemp("captures")
    folder /= os.environ.get("PYTEST_XDIST_WORKER", "")
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Capture] = {}

    def capture(name: str, *arguments: str | Path) -> Capture:
        if name not in made:
            target = folder / f"{name}.capture"
            done = _run(target, *arguments)
            (folder / f"{name}.txt").write_text(f"{done.stderr}\n{done.stdout}", encoding="utf-8")
            assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
            made[name] = Capture(target, done.stdout)
        return made[name]

    return capture


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Gives the one line with which a capture is refused, which leaves nothing behind."""
    if not gpu_is_there():
        pytest.skip("no GPU here")

    def refuse(*arguments: str | Path) -> str:
        done = _run(tmp_path / "run", *arguments)
        assert done.returncode == 2, done.stderr
        assert [path.name for path in tmp_path.iterdir()] == []
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("nsight-tools: error")]
        return line

    return refuse


def _run(target: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    python = os.environ.get("NSIGHT_TOOLS_PYTHON")
    options = ["--python", python] if python and "--" not in arguments else []
    command = [sys.executable, "-m", "nsight_tools", "capture", "-o", target, "--force", *options, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=400, check=False)
