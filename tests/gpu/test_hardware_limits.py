"""Limits of engines that were made for one each, beside Nsight Compute's counters: of what `limits.py` left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

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


@pytest.mark.parametrize(
    ("name", "issue", "active", "held"),
    [
        ("det_static_20000", 0.98, 0.95, 0.85),
        ("cls_static_20000", 0.95, 0.95, 0.85),
        ("resnet_5000", 0.9, 0.9, 0.75),  # 825 samples, of whole percents
        ("transformer_10000", 0.85, 0.7, 0.5),  # 900 samples, and kernels that are otherwise alone
    ],
)
def test_ranks_and_intervals(
    made: Callable[[str], tuple[Trace, Path]], name: str, issue: float, active: float, held: float
) -> None:
    """SMs active beside Nsight Compute's share without the launch: what takes longer there keeps as many active."""
    trace, truth = made(name)
    found = {metric: Beside.of(trace, truth, metric) for metric in ("sm_issue", "sms_active", "tensor_active")}
    assert rank_correlation(found["sm_issue"].told, found["sm_issue"].scaled) > issue
    assert rank_correlation(found["sms_active"].told, found["sms_active"].level) > active
    assert found["sm_issue"].held >= 0.8
    assert found["sms_active"].holds(found["sms_active"].level) >= held
    assert found["tensor_active"].held >= 0.85


@pytest.mark.parametrize(
    ("name", "part"),
    [("det_static_20000", 0.8), ("cls_static_20000", 0.9), ("transformer_10000", 0.9), ("resnet_5000", 0.4)],
)
def test_tensor_cores_are_within_two_points(made: Callable[[str], tuple[Trace, Path]], name: str, part: float) -> None:
    trace, truth = made(name)
    assert (Beside.of(trace, truth, "tensor_active").off <= 2).mean() >= part
