"""Two runs that nobody traced, by what trtexec wrote of each: times of inferences, and of layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.judge import judged, unjudged
from nsight_tools.comparison.resampling import ENOUGH, WALLS, estimate
from nsight_tools.comparison.runs import BENCHMARK

if TYPE_CHECKING:
    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.comparison.result import Comparison, Difference
    from nsight_tools.comparison.runs import ComparedRun

_PARTS = {
    "compute_ns": "compute",
    "h2d_ns": "copies to the GPU",
    "d2h_ns": "copies to the host",
    "enqueue_ns": "enqueue on the host",
}
"""Columns of `benchmark` beside the wall, and what they are called."""
_WALLS = ("median", "mean", "99th percentile")
_UNTOLD = "whether both ran alike: trtexec's files do not say with which batch, streams, transfers or graphs"


def has_times(run: ComparedRun) -> bool:
    """Whether trtexec timed inferences enough of a run that nobody traced."""
    return bool(run.summary.trtexec) and run.untraced.walls.size >= ENOUGH


def by_times(whole: Comparison, runs: tuple[ComparedRun, ComparedRun]) -> Comparison:
    """The comparison, whose verdicts are known, with what else two runs' own times tell; both have some (`has_times`).

    What a part of an inference became is that of the typical one, as of its wall.
    """
    known = {name: label for name, label in _PARTS.items() if all(_column(run, name).min() >= 0 for run in runs)}
    walls = [_column(run, "wall_ns") for run in runs]
    sides = [
        (wall, np.stack([wall, *(_column(run, name) for name in known)], axis=1))
        for wall, run in zip(walls, runs, strict=True)
    ]
    families = np.zeros(WALLS + 1 + len(known), np.int64)
    families[:WALLS] = np.arange(1, WALLS + 1)
    estimates = estimate(sides[0], sides[1], families)
    parts = [judged(label, "ns", at, estimates) for at, label in enumerate(known.values(), WALLS + 1)]
    before, after = (
        replace(side, inferences=int(wall.size), walls=wall)
        for side, wall in zip((whole.before, whole.after), walls, strict=True)
    )
    return replace(
        whole,
        before=before,
        after=after,
        walls=tuple(judged(name, "ns", at, estimates) for at, name in enumerate(_WALLS)),
        work=tuple(parts),
        layers=_layers(runs),
        untold=(_UNTOLD,),
    )


def _column(run: ComparedRun, name: str) -> Floats:
    """A column of the inferences that trtexec timed, in their order; -1 where it was not measured."""
    table = run.trace.table("benchmark", ["run", "inference", name])
    chosen = words(table["run"]).among(BENCHMARK)
    order = np.argsort(ints(table["inference"])[chosen], kind="stable")
    values: Floats = ints(table[name])[chosen][order].astype(np.float64)
    return values


def _layers(runs: tuple[ComparedRun, ComparedRun]) -> tuple[Difference, ...]:
    """Layers that both name, the largest difference first: of one number each nobody can tell noise from change."""
    sides = []
    for run in runs:
        found = run.summary.layer_times
        sides.append({each.name: each.profiler_ns for each in found.layers} if found else {})
    rows = [
        unjudged(name, "ns", before, after)
        for name, before in sides[0].items()
        if before is not None and (after := sides[1].get(name)) is not None
    ]
    return tuple(sorted(rows, key=lambda each: (-abs(each.difference or 0), each.name)))
