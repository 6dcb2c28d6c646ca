"""What samples tell of each kernel, against Nsight Compute's counters of the same kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from limits_allowed import Sampled
from limits_truth import Beside, rank_correlation
from shared_corpus import CORPUS, decompress

from nsight_tools import layer_limits, open_trace
from nsight_tools.run import Run
from nsight_tools.run.limits import of_layers, why_no_limits
from nsight_tools.run.limits.measured import Measured

if TYPE_CHECKING:
    from nsight_tools import Trace

pytestmark = pytest.mark.corpus
TRUTH = CORPUS / "limits" / "det_static_ncu.csv"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    file = tmp_path_factory.mktemp("limits") / "det_static_10000.sqlite"
    decompress(CORPUS / "limits" / f"{file.name}.zst", file)
    return open_trace(file)


def test_sm_issue(detector: Trace) -> None:
    found = Beside.of(detector, TRUTH, "sm_issue")
    assert rank_correlation(found.told, found.scaled) > 0.98
    assert np.median(found.off) < 1.2
    assert found.held >= 0.85


def test_sms_active(detector: Trace) -> None:
    """Five kernels of 27 took 1.5 to 1.9 times as long under Nsight Compute, with as many SMs active meanwhile: scaling
    by the duration makes up activity which they have in neither."""
    found = Beside.of(detector, TRUTH, "sms_active")
    assert rank_correlation(found.told, found.level) > 0.95
    assert rank_correlation(found.told, found.scaled) > 0.89
    assert np.median(np.abs(found.told - found.level)) < 1.5
    assert found.holds(found.level) >= 0.9
    assert found.held >= 0.75


def test_tensor_cores(detector: Trace) -> None:
    found = Beside.of(detector, TRUTH, "tensor_active")
    assert (found.off <= 2).mean() >= 0.9
    assert found.held >= 0.9


def test_what_is_drawn_from_the_counters_is_told(detector: Trace) -> None:
    """Of SMs active and Tensor Cores the samples themselves are at odds with them, whatever tells them apart."""
    sampled = Sampled.of(detector, TRUTH)
    drawn = sampled.drawn()
    assert rank_correlation(*drawn["sm_issue"]) > 0.98
    assert rank_correlation(*drawn["sms_active"]) > 0.95
    assert (np.abs(np.subtract(*drawn["tensor_active"])) <= 2).mean() >= 0.85  # a step and a half of whole percents
    farther = sampled.farther()
    assert farther["sm_issue"] < 1.2
    assert farther["sms_active"] > 1.5


def test_the_timing_is_within_a_microsecond_of_the_timestamps(detector: Trace) -> None:
    timing = Measured.of(Run.of(detector), 0).fit.timing
    assert timing.begins == pytest.approx(0, abs=500)
    assert timing.ends == pytest.approx(-1000, abs=500)


def test_layers_have_a_limit(detector: Trace) -> None:
    found = {each.name: each for each in of_layers(detector)}
    assert found["p2o.GlobalAveragePool.10"].limit == "occupancy"
    assert all(each.because for each in found.values())
    assert all(each.moved_more is None for each in found.values())  # nothing of it is larger than the L2


def test_another_process_is_seen(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("throttled") / "s_det_throttled.sqlite"
    decompress(CORPUS / "h200" / f"{file.name}.zst", file)
    trace = open_trace(file)
    assert layer_limits(trace).num_rows == 0
    assert (why_no_limits(trace) or "").startswith("another process works on the GPU")
