"""What a CUDA graph recovers, from eager traces alone, against the same engines without the profiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nsight_analyses.host.fus001_gaps_between_kernels import gaps_between_kernels
from nsight_analyses.host.lch001_enqueue_bound_inferences import enqueue_bound_inferences, enqueue_times
from nsight_analyses.streams.str003_host_synchronizations import host_synchronizations
from nsight_tools.calibration import Calibrated
from shared_corpus import CORPUS, decompress, needs_corpus

from nsight_tools import open_trace
from nsight_tools.analysis import Status
from nsight_tools.findings import Severity
from nsight_tools.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.trace import Trace

pytestmark = [pytest.mark.corpus, needs_corpus]


def imported(name: str, folder: Path) -> Trace:
    decompress(CORPUS / "h200" / f"{name}.sqlite.zst", folder / f"{name}.sqlite")
    return open_trace(folder / f"{name}.sqlite")


@pytest.mark.parametrize(
    ("name", "eager", "graph", "enqueue_us"),
    [("s_cls_sync", 1_958, 2_389, 398), ("s_det_cool", 1_038, 1_201, 540), ("s_cls_mixed", 686, None, 1_410)],
)
def test_a_graph_recovers_what_it_does_without_the_profiler(
    name: str, eager: float, graph: float | None, enqueue_us: float, tmp_path: Path
) -> None:
    """trtexec's inferences a second, untraced; of the reformat-heavy engine the gain is known as 41 %."""
    trace = imported(name, tmp_path)
    gain = Calibrated.of(trace).graph_gain
    real = 1e9 / eager - 1e9 / graph if graph else 0.41 * 1e9 / eager
    assert gain.low <= real <= gain.high
    assert gain.point == pytest.approx(real, rel=1 / 3)
    enqueue = enqueue_times(Run.of(trace), Calibrated.of(trace))
    assert enqueue is not None
    assert enqueue.real[2] <= enqueue_us * 1000 <= enqueue.real[0]
    assert enqueue.real[1] == pytest.approx(enqueue_us * 1000, rel=0.1)


@pytest.mark.parametrize("name", ["s_cls_sync", "s_det_cool"])
def test_a_healthy_baseline_is_not_enqueue_bound(name: str, tmp_path: Path) -> None:
    trace = imported(name, tmp_path)
    assert enqueue_bound_inferences.run(trace).status == Status.CLEAR
    assert host_synchronizations.run(trace).status == Status.CLEAR
    assert [finding.severity for finding in gaps_between_kernels.run(trace).findings] == [Severity.INFO]


def test_the_reformat_heavy_engine_is_enqueue_bound_and_graphs_are_not(tmp_path: Path) -> None:
    (finding,) = enqueue_bound_inferences.run(imported("s_cls_mixed", tmp_path)).findings
    assert finding.severity == Severity.WARNING
    for name in ("cls_graph_node", "cls_graph_graph"):
        assert enqueue_bound_inferences.run(imported(name, tmp_path)).status == Status.CLEAR
