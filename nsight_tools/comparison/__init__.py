"""Compare two traces: did the change do what was expected of it?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.analysis import ALL, MEAN, analyze
from nsight_tools.comparison import trtexec, unmarked
from nsight_tools.comparison.alike import IN_FLIGHT, alike
from nsight_tools.comparison.builds import Pair
from nsight_tools.comparison.conditions import conditions
from nsight_tools.comparison.families import family
from nsight_tools.comparison.inputs import Carried, carried
from nsight_tools.comparison.judge import judged
from nsight_tools.comparison.measurements import measurements
from nsight_tools.comparison.notes import notes
from nsight_tools.comparison.pieces import keyed
from nsight_tools.comparison.populations import populations
from nsight_tools.comparison.predictions import PERIOD, predictions, without_tracing
from nsight_tools.comparison.quantities import Quantities
from nsight_tools.comparison.resampling import ENOUGH, MOST, WALLS, Floats, cliffs_delta, estimate
from nsight_tools.comparison.result import (
    Change,
    Comparison,
    Difference,
    Effect,
    Judgement,
    Metric,
    OfPopulation,
    Prediction,
    SetupDifference,
    Side,
    Verdict,
    regressed,
)
from nsight_tools.comparison.runs import ComparedRun
from nsight_tools.comparison.setup import differences
from nsight_tools.comparison.verdicts import judge
from nsight_tools.errors import ArgumentError, NsightToolsError
from nsight_tools.run.flow import SEVERAL
from nsight_tools.tables import BUCKETS
from nsight_tools.trace import as_trace
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison.pieces import Pieces
    from nsight_tools.comparison.quantities import Cells
    from nsight_tools.trace import Trace

    Outcomes = tuple[Sequence[Outcome], Sequence[Outcome]]

__all__ = [
    "Change",
    "Comparison",
    "Difference",
    "Effect",
    "Judgement",
    "Metric",
    "OfPopulation",
    "Prediction",
    "SetupDifference",
    "Side",
    "Verdict",
    "compare",
    "regressed",
]

MOST_ROWS = 1_000
"""Layers, and kernels by name, that are judged by themselves; what takes less time is taken together."""


def compare(
    before: Trace | PathLike[str] | str,
    after: Trace | PathLike[str] | str,
    *,
    names: tuple[str, str] | None = None,
    outcomes: Outcomes | None = None,
) -> Comparison:
    """What changed from `before` to `after`, and whether that is more than noise: throughput and latency.

    `names` are what the two are called (their source's name otherwise); `outcomes` those of their analyses, where they
    were run already. Warm-up inferences are left out. Quantities are those of the typical inference (`resampling`). A
    trace that holds an untraced run (`Trace.with_untraced`) is judged by that. Either may be the path of a report.

    Raises ArgumentError where one is neither, NsightToolsError where `names` or `outcomes` are not two, and what
    `open_trace` raises.

    Example:
        >>> from nsight_tools import compare
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> both
        <Comparison classifier_cuda_graph.sqlite against classifier_sync.sqlite: faster>
    """
    before, after = as_trace(before, "compare"), as_trace(after, "compare")
    for what, pair in (("names", names), ("outcomes", outcomes)):
        if pair is not None and not isinstance(pair, (tuple, list)):
            raise ArgumentError(f"compare takes two {what} in a tuple, BEFORE's and AFTER's", pair)
        if pair is not None and len(pair) != 2:
            raise NsightToolsError(f"compare takes two {what}, BEFORE's and AFTER's, not {len(pair)}")
    called = names or tuple(str(trace.manifest["source"]["name"]) for trace in (before, after))
    judged_by = outcomes or (analyze(before), analyze(after))
    runs = ComparedRun(before), ComparedRun(after)
    marked = min(map(len, runs)) > 0
    load = carried(runs) if marked else Carried()
    under = conditions(*runs)
    setup = differences(runs, under, judged_by, load) if marked else _setup_unmarked(runs)
    sides = [
        Side(name, run.summary, len(run), run.left_out, inputs=many, walls=run.wall)
        for name, run, many in zip(called, runs, load.inputs, strict=True)
    ]
    whole = Comparison(sides[0], sides[1], setup=setup, conditions=under, measurements=measurements(runs))
    if all(map(trtexec.has_times, runs)):
        return trtexec.by_times(whole, runs)
    if any(run.summary.trtexec for run in runs):
        return trtexec.without_times(whole, runs)
    if not marked:
        return _without_inferences(whole, runs)
    same = alike(runs)
    throughput, latency = (judge(metric, runs, load.inputs, setup, same) for metric in Metric)
    whole = replace(
        _in_flight(whole, runs, throughput, latency),
        throughput=throughput,
        latency=latency,
        populations=populations(runs, load.inputs, setup, same),
    )
    if min(map(len, runs)) < ENOUGH:
        return _without_inferences(whole, runs)
    return _with_inferences(whole, runs, judged_by)


def _in_flight(
    whole: Comparison, runs: tuple[ComparedRun, ComparedRun], throughput: Judgement, latency: Judgement
) -> Comparison:
    """With what is under way on each side, and the verdict that leads.

    Tracing can leave one under way where there are several without it; then a wall is several periods (Little, 1961).
    """
    sides = []
    for name, side, run in (("before", whole.before, runs[0]), ("after", whole.after, runs[1])):
        wall, period = (getattr(judgement.difference, name, None) for judgement in (latency, throughput))
        little = wall / (period * side.inputs) if wall and period else 1.0
        if latency.source == "trace" and (lanes := run.run.flow.lanes) > 1:
            little = min(little, lanes)  # wall and period are each estimated: no more are under way than take turns
        sides.append(replace(side, in_flight=max(run.in_flight, little)))
    several = max(side.in_flight for side in sides) >= SEVERAL
    other_batch = whole.before.inputs != whole.after.inputs
    leads = Metric.THROUGHPUT if several or other_batch else Metric.LATENCY
    return replace(whole, before=sides[0], after=sides[1], leads=leads)


def _setup_unmarked(runs: tuple[ComparedRun, ComparedRun]) -> tuple[SetupDifference, ...]:
    if not any(map(len, runs)):
        return ()
    one, other = (f"{len(run):,} inferences" if len(run) else "none known" for run in runs)
    why = "only one side says what an inference is: name its NVTX ranges with --inference-range"
    return (SetupDifference("inferences", one, other, Effect.BLOCKS, why, tuple(Metric)),)


def _without_inferences(whole: Comparison, runs: tuple[ComparedRun, ComparedRun]) -> Comparison:
    traces = [run.trace for run in runs]
    sides = {"BEFORE": whole.before, "AFTER": whole.after}
    few = [f"{label} has {side.inferences:,}" for label, side in sides.items() if side.inferences < ENOUGH]
    told = [f"whether an inference became faster: that takes {ENOUGH} inferences a side, and {' and '.join(few)}"]
    if not any(map(len, runs)):
        told.append("what a step or an inference is: mark it with an NVTX range and name that with --inference-range")
    told.append("whether the two windows hold the same part of the program: shares depend on where they were cut")
    judged_all = replace(
        whole,
        kernels=unmarked.kernels(traces[0], traces[1]),
        work=unmarked.work(traces[0], traces[1]),
        untold=tuple(told),
    )
    return replace(judged_all, notes=notes(judged_all))


class _Columns:
    """The columns that are estimated together, each with its name, unit and the family that it is judged with."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str, str]] = []
        self._values: tuple[list[Floats | Cells], list[Floats | Cells]] = [], []

    def add(self, group: str, name: str, unit: str, values: Sequence[Floats]) -> None:
        self.names.append((group, name, unit))
        for kept, value in zip(self._values, values, strict=True):
            kept.append(value[:, None])

    def add_all(self, group: str, names: Sequence[str], unit: str, matrices: Sequence[Floats | Cells]) -> None:
        self.names += [(group, name, unit) for name in names]
        for kept, matrix in zip(self._values, matrices, strict=True):
            kept.append(matrix)

    def differences(self, runs: tuple[ComparedRun, ComparedRun]) -> dict[str, list[Difference]]:
        """By group, in the order that they were added in; the wall's other measures are the group `walls`."""
        walls = [("walls", name, "ns") for name in ("median", "mean", "99th percentile")]
        groups = [group for group, _, _ in (*walls, *self.names)]
        number = {group: at for at, group in enumerate(dict.fromkeys(groups))}
        sides = [Quantities(len(run), kept) for run, kept in zip(runs, self._values, strict=True)]
        estimates = estimate(
            (runs[0].wall, sides[0]), (runs[1].wall, sides[1]), np.array([number[group] for group in groups])
        )
        effects: list[float | None] = [None] * WALLS
        # Of long runs every so-manieth inference: an effect size is known to two digits by then.
        some = [side.every(-(-side.inferences // MOST)) for side in sides]
        effects += [cliffs_delta(some[0][:, at], some[1][:, at]) for at in range(len(self.names))]
        by_group: dict[str, list[Difference]] = {}
        for at, (group, name, unit) in enumerate((*walls, *self.names)):
            by_group.setdefault(group, []).append(judged(name, unit, at, estimates, effect=effects[at]))
        return by_group


def _with_inferences(whole: Comparison, runs: tuple[ComparedRun, ComparedRun], outcomes: Outcomes) -> Comparison:
    columns = _Columns()
    columns.add("wall", "wall", "ns", [run.wall for run in runs])
    columns.add_all("buckets", BUCKETS, "ns", [run.buckets for run in runs])
    for buckets in dict.fromkeys(outcome.bucket for outcome in outcomes[0]):
        if buckets not in {ALL, MEAN}:
            sums = [sum((run.column(f"{bucket}_ns") for bucket in buckets), np.zeros(len(run))) for run in runs]
            columns.add("concerns", " ".join(buckets), "ns", sums)
    _add_work(columns, runs)
    details = {
        "layers": _add_parts(columns, "layers", [run.layers for run in runs]),
        "kernels": _add_parts(columns, "kernels", [run.kernels for run in runs]),
    }
    pair = Pair.of(runs)
    for group, names, matrices in pair.columns() if pair else ():
        columns.add_all(group, names, "ns", matrices)
    groups = columns.differences(runs)
    traced = replace(groups["wall"][0], effect=cliffs_delta(runs[0].wall, runs[1].wall))
    concerns = {tuple(difference.name.split()): difference for difference in groups.get("concerns", ())}
    came = concerns | {ALL: traced, MEAN: groups["walls"][1]}
    latency = replace(whole.latency, traced=traced)
    sides = [whole.before, whole.after]
    if latency.source == "untraced" and latency.difference is not None:
        sides = [replace(side, walls=run.untraced_walls) for side, run in zip(sides, runs, strict=True)]
        if max(run.in_flight for run in runs) < IN_FLIGHT:
            came = without_tracing(came, latency.difference, {bucket.name: bucket for bucket in groups["buckets"]})
    if whole.throughput.difference is not None:
        came[PERIOD] = whole.throughput.difference
    judged_all = replace(
        whole,
        before=sides[0],
        after=sides[1],
        latency=latency,
        walls=tuple(groups["walls"]),
        buckets=tuple(_shared(bucket, traced) for bucket in groups["buckets"]),
        work=tuple(groups["work"]),
        layers=_detailed(groups.get("layers", []), details["layers"]),
        kernels=_detailed(groups.get("kernels", []), details["kernels"]),
        builds=pair.result(groups) if pair else None,
        predictions=predictions(outcomes[0], outcomes[1], came),
        untold=_untold(runs, groups),
    )
    return replace(judged_all, notes=notes(judged_all))


def _add_work(columns: _Columns, runs: tuple[ComparedRun, ComparedRun]) -> None:
    columns.add("work", "kernels", "count", [run.column("kernels") for run in runs])
    columns.add("work", "launch and copy calls", "count", [run.launch_calls for run in runs])
    columns.add("work", "copies and sets", "count", [run.column("copies") for run in runs])
    for kind, name in (("h2d", "copied to the GPU"), ("d2h", "copied to the host"), ("d2d", "copied on the GPU")):
        columns.add("work", name, "bytes", [run.copied(kind) for run in runs])
    columns.add("work", "GPU busy", "ns", [run.column("gpu_busy_ns") for run in runs])
    columns.add("work", "copies hidden behind kernels", "ns", [run.column("hidden_copy_ns") for run in runs])


def _add_parts(columns: _Columns, group: str, sides: Sequence[Pieces]) -> dict[str, str]:
    """Rows for layers or kernels by name; names of one side only are taken together. Gives each row's detail."""
    totals = [side.totals() for side in sides]
    if not all(totals):
        return {}
    alone = totals[0].keys() ^ totals[1].keys()
    merge = dict.fromkeys(alone, "layers of one side only")
    if group == "kernels":
        merge = {name: f"{family(name)}, other tactics" for name in alone}
    rows, keys = keyed(totals, merge, MOST_ROWS)
    columns.add_all(group, rows, "ns", [side.cells(keys, len(rows)) for side in sides])
    calls = [side.calls(keys, len(rows)) for side in sides]
    return {
        row: f"{calls[0][at]:,.4g} → {calls[1][at]:,.4g} kernels"
        for at, row in enumerate(rows)
        if abs(calls[0][at] - calls[1][at]) > 0.01
    }


def _detailed(differences: Sequence[Difference], details: dict[str, str]) -> tuple[Difference, ...]:
    """What changed first, and most; noise by its size."""
    rank = {Change.MORE: 0, Change.LESS: 0}
    ordered = sorted(
        differences,
        key=lambda difference: (rank.get(difference.change, 1), -abs(difference.difference or 0), difference.name),
    )
    return tuple(replace(difference, detail=details.get(difference.name, "")) for difference in ordered)


def _shared(bucket: Difference, wall: Difference) -> Difference:
    if wall.change not in {Change.MORE, Change.LESS} or not wall.difference or bucket.difference is None:
        return bucket
    return replace(bucket, share=bucket.difference / wall.difference)


def _untold(runs: tuple[ComparedRun, ComparedRun], groups: dict[str, Any]) -> tuple[str, ...]:
    told = [
        f"what {side} takes without the profiler: {problem}"
        for side, run in zip(("BEFORE", "AFTER"), runs, strict=True)
        if (problem := Known.of(run.trace).problem)
    ]
    if "layers" not in groups:
        without = [("BEFORE", "AFTER")[at] for at, run in enumerate(runs) if not run.layers.totals()]
        told.append(f"what single layers changed: no kernel of {' and '.join(without)} is known by its layer")
    if "kernels" not in groups:
        told.append("what single kernels changed: one side has no kernel of an inference (graphs traced as a whole?)")
    if min(len(run.repeats) for run in runs) < 2:
        told.append("how much another run of the same would differ: capture each side with --repeat to know")
    return tuple(told)
