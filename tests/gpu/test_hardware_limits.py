"""Limits of engines that were made for one each, beside Nsight Compute's counters: of what `limits.py` left."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from limits_allowed import Sampled
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
        return open_trace(copy), source.with_name(re.sub(r"(_\d+)+$", "_ncu.csv", name))

    return get


@pytest.mark.parametrize(
    ("name", "layer", "limit"),
    [
        ("gemm_10000", "product_1", "tensor"),
        ("issue_10000", "product", "issue"),
        ("memory_10000", "sum", "memory"),
        ("few_10000", "softmax_of_four_rows", "occupancy"),
        ("few_10000", "topk", "occupancy"),
        ("moves_10000", "topk_across_rows", "latency"),
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


METRICS = ("sm_issue", "sms_active", "tensor_active")


@pytest.mark.parametrize(
    "name",
    ["resnet_10000", "resnet_20000", "resnet_50000", "resnet_10000_2000", "mobile_20000", "cls_static_10000_2000"],
)
def test_beside_nsight_compute(made: Callable[[str], tuple[Trace, Path]], name: str) -> None:
    """Where samples are enough: ranks, the Tensor Cores within two points for nine in ten, intervals."""
    trace, truth = made(name)
    issue, active, tensor = found = [Beside.of(trace, truth, metric) for metric in METRICS]
    assert rank_correlation(issue.told, issue.scaled) > 0.95
    assert rank_correlation(active.told, active.scaled) > 0.9
    assert (tensor.off <= 2).mean() >= 0.9
    assert np.mean([each.held for each in found]) >= 0.85


@pytest.mark.parametrize(
    ("name", "issue", "active", "tensor"),
    [
        ("det_static_5000", 0.98, 0.95, 0.85),
        ("det_static_20000", 0.98, 0.95, 0.8),
        ("cls_static_20000", 0.95, 0.95, 0.85),
        ("cls_static_5000", 0.85, 0.95, 0.9),
        ("resnet_5000", 0.94, 0.9, 0.55),  # 825 samples, of whole percents
        ("transformer_10000", 0.75, 0.75, 0.5),  # 860 samples, and kernels that start while the one before runs
        ("transformer_20000", 0.92, 0.7, 0.8),
    ],
)
def test_where_samples_or_kernels_tell_less(
    made: Callable[[str], tuple[Trace, Path]], name: str, issue: float, active: float, tensor: float
) -> None:
    """SMs active beside Nsight Compute's share without the launch: what takes longer there keeps as many active."""
    trace, truth = made(name)
    found = {metric: Beside.of(trace, truth, metric) for metric in METRICS}
    assert rank_correlation(found["sm_issue"].told, found["sm_issue"].scaled) > issue
    assert rank_correlation(found["sms_active"].told, found["sms_active"].level) > active
    assert (found["tensor_active"].off <= 2).mean() >= tensor
    assert np.mean([each.held for each in found.values()]) >= 0.85


@pytest.mark.parametrize(
    "engine", ["cls_static", "det_static", "mobile", "resnet", "one", "unet", "transformer", "bert"]
)
def test_what_is_drawn_from_the_counters_is_told(made: Callable[[str], tuple[Trace, Path]], engine: str) -> None:
    """Where samples agree with them, that is: how far those of the GPU do is `farther`, in docs/limits.md."""
    drawn = Sampled.of(*made(f"{engine}_20000")).drawn()
    assert rank_correlation(*drawn["sm_issue"]) > (0.93 if engine == "transformer" else 0.95)  # of 1,717 samples
    assert rank_correlation(*drawn["sms_active"]) > 0.9
    assert (np.abs(np.subtract(*drawn["tensor_active"])) <= 2).mean() >= 0.9
