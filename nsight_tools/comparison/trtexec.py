"""Two runs that nobody traced, by what trtexec wrote of each: times of inferences, and of layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.judge import judged, unjudged
from nsight_tools.comparison.resampling import ENOUGH, LEVEL, WALLS, Floats, cliffs_delta, estimate
from nsight_tools.comparison.result import Comparison, Difference, Judgement, Metric
from nsight_tools.comparison.runs import BENCHMARK
from nsight_tools.comparison.verdicts import of_two_runs, told
from nsight_tools.importer.trtexec import Times

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
_ONE_TRACE = (
    "one is a trace, and the other what trtexec wrote of a run without one; compare two of a kind, as two traces with "
    "--untraced-before and --untraced-after for trtexec's times"
)
_NO_RATE = "trtexec's files do not say how many inputs an inference carries"


def has_times(run: ComparedRun) -> bool:
    """Whether trtexec timed inferences enough of a run that nobody traced."""
    return bool(run.summary.trtexec) and _timed(run) >= ENOUGH


def _timed(run: ComparedRun) -> int:
    return int(_column(run, "wall_ns").size)


def without_times(whole: Comparison, runs: tuple[ComparedRun, ComparedRun]) -> Comparison:
    """The comparison where one side at least is of trtexec's files, and the two have no times to compare: why."""
    lacking = (
        f"{label} has {count}" if (count := _timed(run)) else f"{label} has none ({Times.how})"
        for label, run in zip(("BEFORE", "AFTER"), runs, strict=True)
        if not has_times(run)
    )
    why = f"that takes {ENOUGH} times a side, and {' and '.join(lacking)}"
    if not all(run.summary.trtexec for run in runs):
        why = _ONE_TRACE
    sides = (whole.before, whole.after)
    before, after = (
        replace(side, inferences=_timed(run)) if run.summary.trtexec else side
        for side, run in zip(sides, runs, strict=True)
    )
    return replace(
        whole,
        before=before,
        after=after,
        throughput=Judgement(Metric.THROUGHPUT, why=why),
        latency=Judgement(Metric.LATENCY, why=why),
        setup=(),
        layers=_layers(runs),
        untold=(f"whether an inference became faster: {why}",),
    )


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
    wall = of_two_runs(judged("wall", "ns", WALLS, estimates, effect=effect), ((), ()))
    rows = [judged(name, "ns", at, estimates) for at, name in enumerate(("median", "mean", "99th percentile"))]
    rows += [judged(label, "ns", at, estimates) for at, label in enumerate(known.values(), WALLS + 1)]
    rows = [replace(of_two_runs(each, ((), ())), detail="") for each in rows]
    both = zip((whole.before, whole.after), took, strict=True)
    before, after = (replace(side, inferences=mine.size, walls=mine) for side, mine in both)
    return replace(
        whole,
        before=before,
        after=after,
        throughput=Judgement(Metric.THROUGHPUT, source="untraced", why=_NO_RATE),
        latency=Judgement(Metric.LATENCY, source="untraced", level=LEVEL, repeats=(1, 1), **told(wall)),
        walls=tuple(rows[:WALLS]),
        work=tuple(rows[WALLS:]),
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
        times = run.summary.layer_times
        sides.append({layer.name: layer.profiler_ns for layer in times.layers} if times else {})
    rows = [
        unjudged(name, "ns", before, after)
        for name, before in sides[0].items()
        if before is not None and (after := sides[1].get(name)) is not None
    ]
    return tuple(sorted(rows, key=lambda difference: (-abs(difference.difference or 0), difference.name)))
