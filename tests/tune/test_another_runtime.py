"""`--runtime` of a sweep and a tuning: it reaches every process of the runner, and what executes nothing is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from nsight_tools.capture import benchmark, orders, supervised
from nsight_tools.capture.options import Build, CaptureError, Load
from nsight_tools.capture.processes import Answer, Task
from nsight_tools.cli import sweep, tune
from nsight_tools.tune.running import Running
from nsight_tools.tune.settings import Setting, capture_command, trtexec_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from click import Command

RTX = {"runtime": "tensorrt-rtx"}


def bench(folder: Path) -> benchmark.Bench:
    return benchmark.Bench(folder / "m.onnx", folder, Path(sys.executable), print, supervised.Interrupts(print))


def test_it_is_in_every_order(tmp_path: Path) -> None:
    load, build = Running(bench(tmp_path), RTX).asked(Setting())
    asked = (
        orders.of_probe(load, build),
        orders.of_build(tmp_path / "m.onnx", tmp_path / "m.engine", load, build, profiles=1),
        orders.of_run(tmp_path / "m.engine", load, bench(tmp_path).of_loading(build)),
    )
    assert [each["runtime"] for each in asked] == ["tensorrt-rtx"] * 3
    assert Running(bench(tmp_path), {}).asked(Setting())[1].runtime == "tensorrt"


def test_one_that_executes_nothing_here_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: Task, _run: Callable[..., Any]) -> Answer:
        return Answer(task, {"status": "done", "cannot_run": {"what": "there is no GPU", "where": "CUDA"}})

    monkeypatch.setattr(Task, "run", run)
    with pytest.raises(CaptureError, match="tensorrt-rtx cannot run here: CUDA: there is no GPU; measure it where"):
        bench(tmp_path).probe(Load(), Build(runtime="tensorrt-rtx"))


@pytest.mark.parametrize("command", [sweep.command, tune.command])
def test_the_commands_take_it(command: Command) -> None:
    assert "--runtime [tensorrt|tensorrt-rtx]" in CliRunner().invoke(command, ["--help"], terminal_width=200).output


def test_what_is_to_be_pasted_has_it_or_says_why_not() -> None:
    assert capture_command("m.onnx", Setting(), RTX) == "nsight-tools capture m.onnx --runtime tensorrt-rtx"
    assert trtexec_command("m.onnx", Setting(), RTX) == "# trtexec neither builds nor runs engines of tensorrt-rtx"
    assert trtexec_command("m.onnx", Setting(), {"runtime": "tensorrt"}).startswith("trtexec --onnx=m.onnx")
