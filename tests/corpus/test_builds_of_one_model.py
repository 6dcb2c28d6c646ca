"""Real engines that are builds of one model, against sums that a plain loop over the layers makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nsight_tools
from nsight_tools.comparison import Change

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NONE: tuple[list[nsight_tools.Outcome], list[nsight_tools.Outcome]] = [], []


@pytest.mark.corpus
def test_mixed_precision_is_slower_by_its_reformats(corpus_file: Callable[[str], Path]) -> None:
    """FP32 and FP16 layers alternate in AFTER: 167 reformats of 0.35 ms, by the corpus' own count and computation."""
    traces = [nsight_tools.open_trace(corpus_file(f"h200/{name}.sqlite.zst")) for name in ("s_cls_sync", "s_cls_mixed")]
    found = nsight_tools.compare(traces[0], traces[1], outcomes=NONE).builds
    assert found is not None
    assert (found.rebuilt, found.alike) == (79, 7)
    assert found.reformats == (9, 167)
    *kinds, alike, reformats = found.totals
    assert alike.change is Change.NOISE
    # Reformats take 5.1 % of 412 µs and 39.8 % of 876 µs of kernels.
    assert reformats.before == pytest.approx(0.051 * 412e3, rel=0.02)
    assert reformats.after == pytest.approx(0.398 * 876e3, rel=0.01)
    sides = [sum(getattr(each, side) for each in (*kinds, alike)) for side in ("before", "after")]
    assert sides[0] == pytest.approx(412e3, rel=0.005), "every kernel is in one region"
    assert sides[1] == pytest.approx(876e3, rel=0.005)
    assert kinds[0].name == "fusion, precision, reformats"
    assert (kinds[0].difference or 0) > 0.8 * (sides[1] - sides[0])
    for region in found.regions[:10]:
        assert region.time.change is Change.MORE
        assert region.changed == ("fusion", "precision", "reformats")
        assert (region.before.precision in {"FP16", "FP32"}, region.after.precision) == (True, "FP16, FP32")


@pytest.mark.corpus
def test_engines_of_two_models_are_none(corpus_file: Callable[[str], Path]) -> None:
    traces = [nsight_tools.open_trace(corpus_file(f"h200/{name}.sqlite.zst")) for name in ("s_cls_sync", "s_det_cool")]
    assert nsight_tools.compare(traces[0], traces[1], outcomes=NONE).builds is None
