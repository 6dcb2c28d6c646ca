"""Engines and tasks for the runner, started for real as a process over a made TensorRT, PyCUDA and GPU clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from patience import PATIENCE_S

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parents[1] / "nsight_tools" / "capture" / "runner"
FAKES, FAKE_NVTX = HERE / "fakes", HERE / "fakes_nvtx"
MADE_CLOCK = {"FAKE_CLOCK": "1"}
"""An environment in which only the GPU takes time: what a run of one thread measures is the same on any machine."""

X = {"name": "x", "input": True, "shape": [8, 3, 16, 16], "dtype": "FLOAT"}
Y = {"name": "y", "input": False, "shape": [8, 10], "dtype": "HALF"}
DYNAMIC_X = X | {"shape": [-1, 3, 16, 16]}
DYNAMIC_Y = Y | {"shape": [-1, 10]}
PROFILE = {"x": [[1, 3, 16, 16], [4, 3, 16, 16], [16, 3, 16, 16]]}


def engine(folder: Path, *, tensors: Any = (X, Y), profiles: Any = (), **spec: Any) -> Path:
    path = folder / "model.engine"
    content = {"version": "8.6.0", "capability": [9, 0], "compute_us": 300, "tensors": tensors, "profiles": profiles}
    path.write_text(json.dumps(content | spec), "utf-8")
    return path


def model(folder: Path, *, tensors: Any = (X, Y), kinds: Any = (), **spec: Any) -> Path:
    """A model for the made TensorRT: `kinds` of its layers, and what the engine that is built of it has."""
    path = folder / "model.onnx"
    path.write_text(json.dumps({"tensors": tensors, "kinds": kinds} | spec), "utf-8")
    return path


@dataclass(frozen=True)
class Ran:
    """What a process of the runner left behind."""

    code: int
    stderr: str
    output: Path
    journal: list[tuple[str, str, Any]]

    @property
    def result(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.output / "result.json").read_text("utf-8"))
        return content

    @property
    def samples(self) -> dict[str, Any]:
        return dict(np.load(self.output / "samples.npz"))

    def calls(self, *names: str) -> list[tuple[str, str, Any]]:
        return [entry for entry in self.journal if entry[0] in names]

    def measured(self) -> list[tuple[str, str, Any]]:
        """The journal between the clock's two marks."""
        marks = [i for i, entry in enumerate(self.journal) if entry[0] == "mark" and entry[2][0] == "clock"]
        return self.journal[marks[0] + 1 : marks[1]]


def command(folder: Path, *, real_nvtx: bool = False, **task: Any) -> tuple[list[str], dict[str, str], Path]:
    """Command and environment of a task whose output is a new folder within `folder`."""
    output = folder / "output"
    output.mkdir()
    plan = {"task": "timing", "iterations": 5, "warm_up_ms": 1, "ranges": True, "capture_range": True} | task
    if plan["task"] in {"build", "probe"}:
        plan = task
    path = folder / "task.json"
    path.write_text(json.dumps(plan | {"output": str(output)}, default=str), "utf-8")
    fakes = [FAKES] if real_nvtx else [FAKES, FAKE_NVTX]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, fakes)),
        "FAKE_JOURNAL": str(folder / "journal.json"),
    }
    return [sys.executable, str(RUNNER), str(path)], environment, output


def run(folder: Path, environment: dict[str, str] | None = None, **task: Any) -> Ran:
    arguments, own, output = command(folder, **task)
    done = subprocess.run(
        arguments,
        env=own | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd=folder,
    )
    return Ran(done.returncode, done.stderr, output, journal_of(folder))


def journal_of(folder: Path) -> list[tuple[str, str, Any]]:
    path = folder / "journal.json"
    return (
        [(name, thread, detail) for name, thread, detail in json.loads(path.read_text("utf-8"))]
        if path.exists()
        else []
    )
