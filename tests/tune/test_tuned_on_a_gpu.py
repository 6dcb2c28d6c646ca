"""Real engines on a GPU: the map of all their settings, and tunings of them: `sample_traces/tune`, an engine a folder.

`measurements.parquet` is the sweep. `bad.ledger.json` begins with mistakes, `best.ledger.json` at the best there,
`level_0.ledger.json` with an ONNX model that is built at the lowest optimization level.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from drawn_machine import BAD, loop
from jsonschema import Draft202012Validator
from measured_before import MeasuredBefore

from nsight_tools.tune import ledger as ledgers
from nsight_tools.tune import sweep
from nsight_tools.tune.ledger import Found
from nsight_tools.tune.measuring import read_rows
from nsight_tools.tune.settings import Setting, product

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces" / "tune"
MAPS = sorted(SAMPLES.glob("*/measurements.parquet"))
LEDGERS = sorted(SAMPLES.glob("*/*.ledger.json"))
MAPPED = [path for path in LEDGERS if (path.parent / "measurements.parquet").exists()]
ALL = product({
    "use_cuda_graph": (False, True), "use_spin_wait": (False, True), "overlap_transfers": (False, True),
    "streams": (1, 2, 4),
})  # fmt: skip
SCHEMA = json.loads(resources.files("nsight_tools.report").joinpath("ledger-schema-1.json").read_text("utf-8"))


def name(path: Path) -> str:
    return f"{path.parent.name} {path.name.partition('.')[0]}"


class Finds:
    """A tracer that finds nothing: what is tried then is what no finding promises."""

    def trace(self, setting: Setting, number: int) -> Found:
        return Found(setting, f"{number}.capture", ())


@pytest.mark.parametrize("path", MAPS, ids=name)
def test_the_loop_finds_the_best_in_a_third_of_the_runs_though_nothing_is_promised(path: Path) -> None:
    mapped = {point.setting: point.middle.throughput_per_s for point in sweep.points(read_rows(path))}
    best = max(mapped[setting] for setting in ALL)
    found = loop(BAD, MeasuredBefore(path), Finds())[0].run()
    assert found.ended == "nothing left"
    assert mapped[found.best] >= 0.9 * best
    assert len(found.measured) <= len(ALL) / 3


@pytest.mark.parametrize("path", MAPS, ids=name)
def test_the_loop_finds_nothing_better_than_the_best(path: Path) -> None:
    mapped = {point.setting: point.middle.throughput_per_s for point in sweep.points(read_rows(path))}
    best = max(ALL, key=lambda setting: mapped[setting])
    found = loop(best, MeasuredBefore(path), Finds())[0].run()
    assert (found.ended, found.best) == ("nothing left", best)


@pytest.mark.parametrize("path", MAPS, ids=name)
def test_a_sweep_names_the_front_of_real_settings(path: Path) -> None:
    """By a plain loop over all pairs."""
    points = sweep.points(read_rows(path), ALL)
    assert len(points) == len(ALL)

    def beaten(one: sweep.Point) -> bool:
        mine = one.middle
        return any(
            other.middle.throughput_per_s >= mine.throughput_per_s
            and other.middle.p99_ns <= mine.p99_ns
            and (other.middle.throughput_per_s, other.middle.p99_ns) != (mine.throughput_per_s, mine.p99_ns)
            for other in points
        )

    front = sweep.front(points)
    assert {point.setting for point in front} == {point.setting for point in points if not beaten(point)}
    knee = sweep.knee(front)
    assert knee is None or knee in front[1:-1]


@pytest.mark.parametrize("path", LEDGERS, ids=name)
def test_a_ledger_is_as_its_schema_says(path: Path) -> None:
    Draft202012Validator(SCHEMA).validate(json.loads(path.read_text("utf-8")))
    found = ledgers.read(path)
    assert any(step.kept for step in found.steps) is not path.name.startswith("best")
    assert all(step.accuracy for step in found.steps if step.outcome), "each step's outputs were compared"


def test_builds_were_tried_one_step_each() -> None:
    """What the budget ended is open: it is neither kept nor rejected."""
    found = ledgers.read(SAMPLES / "det_onnx" / "level_0.ledger.json")
    of_build = [step for step in found.steps if step.changes[-1].option in {"fp16", "builder_optimization_level"}]
    assert [(step.changes[-1].option, step.outcome, step.kept) for step in of_build] == [
        ("fp16", "faster", True),
        ("builder_optimization_level", "", False),
    ]
    assert (found.ended, found.best.get("fp16")) == ("budget", True)


@pytest.mark.parametrize("path", MAPPED, ids=name)
def test_a_tuning_ends_near_the_best_of_all_settings(path: Path) -> None:
    found = ledgers.read(path)
    mapped = {point.setting: point.middle for point in sweep.points(read_rows(path.parent / "measurements.parquet"))}
    assert set(ALL) <= mapped.keys()
    best = max(mapped[setting].throughput_per_s for setting in ALL)
    assert found.ended in {"nothing left", ""}  # a tuning whose time on the machine was up ends in the middle
    assert mapped[found.best].throughput_per_s >= 0.9 * best
    if path.name.startswith("bad"):
        assert len(found.measured) <= len(ALL) / 3


@pytest.mark.skipif(not LEDGERS, reason="no tuning of a GPU is here")
def test_four_in_five_promises_held() -> None:
    held, judged = (sum(each) for each in zip(*(ledgers.read(path).promised for path in LEDGERS), strict=True))
    assert held >= 0.8 * judged
