"""The record of what was promised, as README quotes it: each engine with constants that know nothing of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from shared_corpus import CORPUS, decompress

from nsight_tools import open_trace
from nsight_tools.worth import price

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from promises import Score, record, runs_of, walls

pytestmark = pytest.mark.corpus


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    found: list[Score] = record([CORPUS / "pairs"])[1]
    return found


@pytest.mark.parametrize(("given", "error", "width"), [(True, 0.025, 0.1), (False, 0.065, 0.35)])
def test_promises_come_true(scores: list[Score], given: bool, error: float, width: float) -> None:
    promised = [score for score in scores if score.given == given and score.worth.promises]
    assert len(promised) >= 15
    assert np.mean([score.error for score in promised]) <= error
    assert np.mean([score.holds for score in promised]) >= 0.85
    assert np.median([score.width for score in promised]) <= width
    if given:
        assert np.mean([score.near for score in promised]) >= 0.9


def test_bounds_hold_and_streams_and_threads_are_not_promised(scores: list[Score]) -> None:
    assert all(score.holds for score in scores if not score.worth.promises)
    assert not any(score.worth.promises for score in scores if "four" in score.pair.name)


def test_walls_are_told_from_traces_alone(tmp_path: Path) -> None:
    held = [holds for _, holds, _ in walls(runs_of(CORPUS / "pairs", tmp_path), shipped=False)]
    assert len(held) == 15
    assert np.mean(held) >= 0.85


def test_an_eager_program_is_promised_what_its_graph_brought(tmp_path: Path) -> None:
    """4,509 µs traced against 1,290 of the same network in a graph, of which tracing was a part on both sides."""
    decompress(CORPUS / "programs" / "pinned.sqlite.zst", tmp_path / "pinned.sqlite")
    worth = price(open_trace(tmp_path / "pinned.sqlite", inference_range="step"), [("use_cuda_graph", True)])
    assert worth.low_ns <= 3_200_000
    assert worth.high_ns >= 2_400_000
    assert worth.high_ns - worth.low_ns <= 1_500_000
