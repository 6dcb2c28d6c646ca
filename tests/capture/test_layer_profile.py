"""TensorRT's own profiler as a run of the runner: which enqueues' times it keeps, and how it writes them."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runner_cases import engine, run

from nsight_tools.capture.runner.layer_profile import Reports
from nsight_tools.capture.runner.outcome import Failure

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = [["conv", 200], ["Reformatting CopyNode for conv", 0], ["fc", 100]]


def test_the_profiled_inferences_are_those_behind_the_warm_up(tmp_path: Path) -> None:
    path = engine(tmp_path, profile=LAYERS)
    ran = run(tmp_path, task="profiler", engine=path, iterations=7, ranges=False, capture_range=False)
    assert ran.code == 0, ran.stderr
    count, *rows = json.loads((ran.output / "profile.json").read_text("utf-8"))
    assert count == {"count": 7}
    assert [row["name"] for row in rows] == [name for name, _ in LAYERS]
    for row, (_, us) in zip(rows, LAYERS, strict=True):  # the slow first enqueue is none of them
        assert (row["averageMs"], row["medianMs"]) == pytest.approx((us / 1000, us / 1000))
        assert row["timeMs"] == pytest.approx(7 * us / 1000)
        assert row["percentage"] == pytest.approx(us / 3)
    assert set(ran.samples["run"]) == {"profiler"}
    assert ran.samples["inference"].tolist() == [*range(7)]
    assert ran.result["run"]["inferences"] == 7
    assert not ran.calls("push", "profiler_start")


def test_without_it_no_context_has_a_profiler(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path, profile_grows=True))
    assert ran.code == 0, ran.stderr
    assert not (ran.output / "profile.json").exists()


def test_layers_that_differ_by_enqueue_are_refused(tmp_path: Path) -> None:
    path = engine(tmp_path, profile_grows=True)
    ran = run(tmp_path, task="profiler", engine=path, ranges=False, capture_range=False)
    assert ran.code == 2
    assert "TensorRT's profiler reported other layers in one enqueue than in another" in ran.stderr
    assert not (ran.output / "profile.json").exists()


def reported(*enqueues: list[tuple[str, float]]) -> Reports:
    reports = Reports()
    for name, ms in chain.from_iterable(enqueues):
        reports.names.append(name)
        reports.times_ms.append(ms)
    return reports


def written(folder: Path, reports: Reports, inferences: int) -> list[dict[str, Any]]:
    reports.write(folder / "p.json", inferences)
    rows: list[dict[str, Any]] = json.loads((folder / "p.json").read_text("utf-8"))
    return rows


def test_a_layer_that_comes_twice_stays_two(tmp_path: Path) -> None:
    """As in a loop, or where two layers have one name."""
    one = [("a", 1.0), ("b", 2.0), ("a", 4.0), ("c", 1.0)]
    rows = written(tmp_path, reported(one, one, one), 2)
    assert [row["name"] for row in rows[1:]] == ["a", "b", "a", "c"]
    assert [row["averageMs"] for row in rows[1:]] == [1, 2, 4, 1]


def test_medians_are_over_inferences(tmp_path: Path) -> None:
    times = [9.0, 1.0, 5.0, 2.0]
    rows = written(tmp_path, reported(*([("a", each)] for each in (100.0, *times))), 4)
    assert rows[1]["medianMs"] == np.median(times)
    assert rows[1]["averageMs"] == np.mean(times)
    assert rows[1]["timeMs"] == sum(times)


def test_what_was_interrupted_before_the_first_has_no_layer(tmp_path: Path) -> None:
    assert written(tmp_path, reported([("a", 1.0)]), 0) == [{"count": 0}]


def test_an_engine_that_reports_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="reported no layer"):
        Reports().write(tmp_path / "p.json", 3)
