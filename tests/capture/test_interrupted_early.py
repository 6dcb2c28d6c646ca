"""Ctrl-C while a process of the runner starts, or just ends: it is never lost, and never taken for a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import installed_nsys
import pytest
from capture.runner_cases import FAKES, engine
from patience import PATIENCE_S, wait_until

from nsight_tools.capture.options import CaptureError, InterruptedCaptureError
from nsight_tools.capture.processes import Task
from nsight_tools.capture.supervised import Ended

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ("--duration", "0.05", "--iterations", "10", "--warm-up", "1", "--telemetry-hz", "0")


def answered(folder: Path, result: str) -> Task:
    (folder / "result.json").write_text(result, "utf-8")
    return Task("benchmark", folder, folder)


def test_a_run_that_was_asked_to_stop_is_interrupted_though_it_came_to_its_end(tmp_path: Path) -> None:
    task = answered(tmp_path, json.dumps({"status": "done"}))
    assert task.answer(Ended(0, (), interrupted=True)).interrupted
    assert not task.answer(Ended(0, (), interrupted=False)).interrupted
    task = answered(tmp_path, json.dumps({"status": "interrupted"}))
    assert task.answer(Ended(130, (), interrupted=False)).interrupted


@pytest.mark.parametrize("result", ["", json.dumps({"status": "failed", "error": {"what": "CUDA is gone"}})])
def test_a_run_that_failed_since_it_was_asked_to_stop_is_no_failure(tmp_path: Path, result: str) -> None:
    task = answered(tmp_path, result)
    with pytest.raises(InterruptedCaptureError):
        task.answer(Ended(130, ("KeyboardInterrupt",), interrupted=True))
    with pytest.raises(CaptureError) as found:
        task.answer(Ended(1, (), interrupted=False))
    assert not isinstance(found.value, InterruptedCaptureError)


@pytest.mark.nsys
@pytest.mark.parametrize("command", ["capture", "sweep", "tune"])
@pytest.mark.parametrize("task", ["probe", "benchmark"])
def test_a_command_ends_with_130_and_leaves_nothing(tmp_path: Path, command: str, task: str) -> None:
    path = engine(tmp_path)
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    more = () if command == "sweep" else ("--nsys-arg=--capture-range=none",)
    process = subprocess.Popen(
        [sys.executable, "-m", "nsight_tools", command, str(path), *SHORT, *more],
        cwd=work,
        env=os.environ
        | {"PYTHONPATH": str(FAKES), "TMPDIR": str(scratch), "NSIGHT_TOOLS_NSYS": str(installed_nsys.main().path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(scratch.glob(f"*/{task}/task.json")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "interrupted" in err.splitlines()[-1]
    assert list(work.iterdir()) == []
