"""Limits of engines that were made for one each, beside Nsight Compute's counters: of what `limits.py` left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from limits_truth import Beside, counted, rank_correlation

from nsight_tools import open_trace
from nsight_tools.run.limits import of_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools import Trace

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Trace, Path]]:
    """Gives a trace by its name, and its truth; skips where `limits.py` left none."""
    folder, copies = os.environ.get("NSIGHT_TOOLS_LIMITS"), tmp_path_factory.mktemp("limits")
    if not folder:
        pytest.skip("NSIGHT_TOOLS_LIMITS names no folder that limits.py left")

    def get(name: str) -> tuple[Trace, Path]:
        source = Path(folder) / f"{name}.sqlite"
        if not source.exists():
            pytest.skip(f"{source} is missing")
        copy = copies / source.name
        copy.write_bytes(source.read_bytes())
        return open_trace(copy), source.with_name(f"{name.rpartition('_')[0]}_ncu.csv")

    return get


@pytest.mark.parametrize(
    ("name", "layer", "limit"),
    [
        ("gemm_10000", "product_1", "tensor"),
        ("issue_10000", "product", "issue"),
        ("memory_10000", "sum", "memory"),
        ("few_10000", "softmax_of_four_rows", "occupancy"),
        ("few_10000", "topk", "occupancy"),
        ("tiny_10000", "tiny_22 + tiny_22_relu", "latency"),
        ("odd_10000", "product_even", "tensor"),
    ],
)
def test_each_kind_is_named(made: Callable[[str], tuple[Trace, Path]], name: str, layer: str, limit: str) -> None:
    found = {each.name: each for each in of_layers(made(name)[0])}
    assert found[layer].limit == limit


def test_bytes_of_large_copies(made: Callable[[str], tuple[Trace, Path]]) -> None:
    trace, truth = made("memory_10000")
    found = {each.name: each for each in of_layers(trace)}
    for layer, row in zip(("transposition", "sum", "reduction"), counted(truth), strict=True):
        moved, real = found[layer].dram_bytes, float(row["dram__bytes_read.sum"]) + float(row["dram__bytes_write.sum"])
        assert moved is not None
        assert moved[1] == pytest.approx(real, rel=0.15)
        assert found[layer].moved_more == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["cls_static_20000", "resnet_5000"])
def test_ranks_and_intervals(made: Callable[[str], tuple[Trace, Path]], name: str) -> None:
    trace, truth = made(name)
    issue, active, tensor = (Beside.of(trace, truth, metric) for metric in ("sm_issue", "sms_active", "tensor_active"))
    assert rank_correlation(issue.told, issue.scaled) > 0.95
    assert rank_correlation(active.told, active.scaled) > 0.9
    assert np.mean([each.held for each in (issue, active, tensor)]) > 0.85
