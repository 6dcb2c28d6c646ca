"""What the report hands over to Nsight Compute profiles the kernel that it is about."""

from __future__ import annotations

import csv
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nsight_tools.report.ncu import PROGRAM, hand_over
from nsight_tools.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu.conftest import Capture

    from nsight_tools import Trace

pytestmark = pytest.mark.gpu

LOOP = Path(__file__).with_name("limits_engines.py")
METRICS = "gpu__time_duration.sum,launch__grid_size"


def longest(trace: Trace, layer: str, name: str) -> tuple[int, int]:
    """Blocks and nanoseconds of the longest kernel of the first judged inference in this layer, or of this name."""
    first = int(np.flatnonzero(Run.of(trace).requests.judged)[0])
    kernels = trace.table("kernels").to_pylist()
    mine = [
        kernels[row["row"]]
        for row in trace.table("launches").to_pylist()
        if row["inference"] == first and row["work"] == "kernel" and (row["layer"] == layer or not layer)
    ]
    found = max((k for k in mine if layer or k["short_name"] == name), key=lambda k: k["end_ns"] - k["start_ns"])
    return found["grid_x"] * found["grid_y"] * found["grid_z"], found["end_ns"] - found["start_ns"]


def test_it_is_that_kernel(captured: Callable[..., Capture], model: Callable[[str], Path]) -> None:
    """A bare loop that is traced from cudaProfilerStart on; by name, and layers where TensorRT's ranges are there."""
    ncu = shutil.which(os.environ.get("NSIGHT_TOOLS_NCU", "ncu"))
    if ncu is None:
        pytest.skip("no Nsight Compute; name it in NSIGHT_TOOLS_NCU")
    python = os.environ.get("NSIGHT_TOOLS_PYTHON", sys.executable)
    program = [python, str(LOOP), "run", str(model("det_static.engine")), "20"]
    trace = captured("det_loop", "--capture-range", "--no-untraced", "--", *program).trace
    given = hand_over(trace)
    assert given
    for each in given[:3]:
        words = each.command.replace("--set full", f"--metrics {METRICS} --csv --page raw --print-units base")
        words = words.replace(" --export kernel --force-overwrite", "")
        assert words.endswith(PROGRAM)
        line = [ncu, *shlex.split(words.removesuffix(PROGRAM))[1:], *program]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        rows = list(csv.DictReader(io.StringIO(done.stdout[done.stdout.index('"ID"') :])))
        (row,) = [row for row in rows if row["ID"].isdigit()]
        assert each.kernel in row["Kernel Name"]
        blocks, time = longest(trace, each.layer, each.kernel)
        assert int(row["launch__grid_size"].replace(",", "")) == blocks
        counted = float(row["gpu__time_duration.sum"].replace(",", ""))
        assert time / 2 < counted < 3 * time + 3_000  # its elapsed time holds the launch, about 1 us
