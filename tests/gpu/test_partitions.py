"""Engines of an inference with operators around them, on a real GPU: requests, engines and graph breaks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsight_tools.findings import NOISE_SHARE
from nsight_tools.run import Run
from nsight_tools.run.outside import outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu.conftest import Capture

    from nsight_tools import Trace

pytestmark = pytest.mark.gpu

PROGRAM = Path(__file__).with_name("partitions.py")
REPOSITORY = PROGRAM.parents[2]
COUNT, TIMES = 50, 40
"""Inferences that are traced; `partitions.TIMES`."""
TWO = ("det_static.engine", "cls_static.engine")
CASES = {
    "torch": ("torch", TWO, "names"),
    "torch_by_kernels": ("torch", TWO, ""),
    "torch_around_one": ("torch", TWO[:1], ""),
    "pycuda": ("pycuda", TWO, ""),
}
NAMES = {
    "torch": ("aten::exp", "aten::sqrt", "aten::mul", "aten::neg"),
    "torch_by_kernels": ("exp", "sqrt", "Mul", "neg"),
    "torch_around_one": ("exp", None, None, "neg"),
    "pycuda": ("op_exp", "op_sqrt", "op_mul", "op_neg"),
}
"""What the operator before the engines, both between them and the one behind them are called."""


def interpreter(*modules: str) -> str:
    """One that has all of these, of the tests' own and of those that the environment names; skips where none has."""
    named = [os.environ.get(name) for name in ("NSIGHT_TOOLS_TORCH_PYTHON", "NSIGHT_TOOLS_PYTHON")]
    for python in filter(None, [sys.executable, *named]):
        tried = [python, "-c", f"import {', '.join(modules)}"]
        if subprocess.run(tried, capture_output=True, check=False, timeout=120).returncode == 0:
            return python
    pytest.skip(f"no interpreter here has {' and '.join(modules)}; name one in NSIGHT_TOOLS_TORCH_PYTHON")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(
    case: str, captured: Callable[..., Capture], model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Capture:
    by, engines, names = CASES[case]
    files = [model(name) for name in engines]
    python = interpreter(by, "tensorrt", "nvtx")
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    rest = [by, COUNT, *files, *filter(None, [names])]
    return captured(f"partitions_{case}", "--capture-range", "--no-untraced", "--", python, PROGRAM, *rest)


def truth(trace: Trace) -> tuple[int, int]:
    """Nanoseconds of operators' kernels in judged inferences, and of those between two engines.

    By their names and their order on the GPU alone: all runs on one stream, one after the other.
    """
    kernels = trace.table("kernels", ["name", "short_name"]).to_pylist()
    columns = ["inference", "work", "row", "start_ns", "end_ns"]
    judged = Run.of(trace).requests.judged
    rows = [
        row
        for row in trace.table("launches", columns).to_pylist()
        if row["work"] == "kernel" and row["inference"] is not None and judged[row["inference"]]
    ]
    every = between = 0
    for one in sorted({row["inference"] for row in rows}):
        mine = sorted((row for row in rows if row["inference"] == one), key=lambda row: row["start_ns"])
        engines = [at for at, row in enumerate(mine) if not _own(kernels[row["row"]])]
        for at, row in enumerate(mine):
            took = (row["end_ns"] - row["start_ns"]) * _own(kernels[row["row"]])
            every += took
            between += took * (engines[0] < at < engines[-1])
    return every, between


def _own(kernel: dict[str, str]) -> bool:
    return "at::native::" in kernel["name"] or kernel["short_name"].startswith("op_")


def test_requests(made: Capture) -> None:
    trace = made.trace
    assert trace.rows("inferences") == COUNT
    kernels = trace.sql(
        "SELECT inference, count(*) AS n FROM launches WHERE work = 'kernel' AND inference >= 0 GROUP BY inference"
    )
    assert len(set(kernels["n"].to_pylist())) == 1
    assert Run.of(trace).count > 0.8 * COUNT


def test_engines(made: Capture, case: str) -> None:
    """As many enqueues as engines in each inference, of as many engines, in this order."""
    rows = made.trace.sql("SELECT inference, engine FROM enqueues ORDER BY start_ns").to_pylist()
    count = len(CASES[case][1])
    orders = {tuple(row["engine"] for row in rows if row["inference"] == one) for one in range(COUNT)}
    (order,) = orders
    assert len(rows) == COUNT * count
    assert len(set(order)) == len(order) == count


def test_operators_and_breaks(made: Capture, case: str) -> None:
    found = outside(made.trace)
    before, first, second, behind = NAMES[case]
    between = {first, second} - {None}
    assert {each.name: each.between for each in found.operators} == {
        before: False,
        behind: False,
        **dict.fromkeys(between, True),
    }
    assert {each.kernels for each in found.operators} == {TIMES * found.requests}
    assert found.requests == Run.of(made.trace).count
    assert (found.exposed.total, found.breaks.total) == truth(made.trace)


def test_finding(made: Capture) -> None:
    finding, (every, between) = made.findings["FUS008"], truth(made.trace)
    told = {each.metric: each.value for each in finding.evidence}
    assert (told["runs outside of engines"], told["of it between two engines"]) == (every, between)
    assert (finding.loss is not None) is (between >= NOISE_SHARE * Run.of(made.trace).window_ns)
