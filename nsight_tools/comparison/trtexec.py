"""Two runs that nobody traced, by what trtexec wrote of each: times of inferences, and of layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.judge import judged, unjudged
from nsight_tools.comparison.resampling import ENOUGH, LEVEL, WALLS, Floats, cliffs_delta, estimate
from nsight_tools.comparison.result import Change, Comparison, Difference, Judgement, Metric, Verdict
from nsight_tools.comparison.runs import BENCHMARK

if TYPE_CHECKING:
    from nsight_tools.comparison.runs import ComparedRun

_PARTS = {
    "compute_ns": "compute",
    "h2d_ns": "copies to the GPU",
    "d2h_ns": "copies to the host",
    "enqueue_ns": "enqueue on the host",
}
"""Columns of `benchmark` beside the wall, and what they are called."""
_UNTOLD = "whether both ran alike: trtexec's files do not say with which batch, streams, transfers or graphs"


_NO_RATE = "trtexec's files do not say how many inputs an inference carries"


def has_times(run: ComparedRun) -> bool:
    """Whether trtexec timed inferences enough of a run that nobody traced."""
    return bool(run.summary.trtexec) and _column(run, "wall_ns").size >= ENOUGH


def by_times(whole: Comparison, runs: tuple[ComparedRun, ComparedRun]) -> Comparison:
    """The comparison, with what two runs' own times tell; both have some (`has_times`)."""
    known = {name: label for name, label in _PARTS.items() if all(_column(run, name).min() >= 0 for run in runs)}
    took = [_column(run, "wall_ns") for run in runs]
    sides = [
        (mine, np.stack([mine, *(_column(run, name) for name in known)], axis=1))
        for mine, run in zip(took, runs, strict=True)
    ]
    families = np.zeros(WALLS + 1 + len(known), np.int64)
    families[:WALLS] = np.arange(1, WALLS + 1)
    estimates = estimate(sides[0], sides[1], families)
    effect = cliffs_delta(*took)
    wall = judged("wall", "ns", WALLS, estimates, effect=effect)
    walls = [judged(name, "ns", at, estimates) for at, name in enumerate(("median", "mean", "99th percentile"))]
    parts = [judged(label, "ns", at, estimates) for at, label in enumerate(known.values(), WALLS + 1)]
    verdict = {Change.MORE: Verdict.SLOWER, Change.LESS: Verdict.FASTER}.get(wall.change, Verdict.NOISE)
    both = zip((whole.before, whole.after), took, strict=True)
    before, after = (replace(side, inferences=mine.size, walls=mine) for side, mine in both)
    return replace(
        whole,
        before=before,
        after=after,
        throughput=Judgement(Metric.THROUGHPUT, source="untraced", why=_NO_RATE),
        latency=Judgement(Metric.LATENCY, verdict, verdict, wall, source="untraced", level=LEVEL),
        walls=tuple(walls),
        work=tuple(parts),
        layers=_layers(runs),
        untold=(_UNTOLD,),
    )


def _column(run: ComparedRun, name: str) -> Floats:
    """A column of the inferences that `ComparedRun.benchmark` holds, in their order; -1 where it was not measured."""
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
