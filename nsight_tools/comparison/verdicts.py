"""The two verdicts on a pair: throughput, the time that passes for each input, and latency, the wall of an inference.

Where both sides were measured without the profiler, those times are judged: of a side that was measured several times,
their mean. Else each side's traced times are taken to
what is left of them without it (`worth.left`), and the interval holds what nobody knows of that: a difference that may
all be the profiler's own is undecided. What a traced call costs, and how late a wait returns, is the same unknown on
both sides where machine and profiler are the same; how fast the host is differs from run to run (`worth.known`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools import units
from nsight_tools.comparison.judge import change_of, judged
from nsight_tools.comparison.measurements import at_means, of_repeats, told_by_repeats
from nsight_tools.comparison.resampling import ENOUGH, LEVEL, WALLS, Floats, cliffs_delta, estimate
from nsight_tools.comparison.result import Change, Difference, Judgement, Metric, Verdict
from nsight_tools.comparison.runs import Speeds
from nsight_tools.worth import Pricing
from nsight_tools.worth.known import CAPTURES, HOST_DRIFT, MODEL, NOTHING, REPEATS
from nsight_tools.worth.left import DRAWS, Per, left
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.alike import Alike
    from nsight_tools.comparison.result import SetupDifference
    from nsight_tools.comparison.runs import ComparedRun

    Pair = tuple[ComparedRun, ComparedRun]

NAMES = {Metric.THROUGHPUT: "time per input", Metric.LATENCY: "wall"}
PER: dict[Metric, Per] = {Metric.THROUGHPUT: "period", Metric.LATENCY: "wall"}
_AT = {Metric.THROUGHPUT: 1, Metric.LATENCY: WALLS}
"""Which of `statistics` each metric is: throughput is a mean, stalls and all; a wall is that of the typical one."""
ESTIMATED = 0.9
"""The level of an interval that holds what tracing may cost: that of the ranges in `worth.known`."""
SAME = units.share(CAPTURES)
TWO_RUNS = f"two runs of the same differ by up to {SAME}"
REPEAT = "capture --repeat tells by how much these do"
UNDECIDED = "all of it may be the profiler's own"


def times(metric: Metric, run: ComparedRun | Speeds) -> Floats:
    """The times of a run that a metric is about, in order, ns: walls, or from one completion on a GPU to the next."""
    if metric is Metric.THROUGHPUT:
        return run.periods
    return run.walls if isinstance(run, Speeds) else run.wall


def judge(
    metric: Metric, runs: Pair, inputs: tuple[float, float], setup: Sequence[SetupDifference], alike: Alike
) -> Judgement:
    """The verdict of one metric; `inputs` are what an inference of each side carries."""
    per = inputs if metric is Metric.THROUGHPUT else (1.0, 1.0)
    traced = [times(metric, run) / many for run, many in zip(runs, per, strict=True)]
    untraced = [times(metric, run.untraced) / many for run, many in zip(runs, per, strict=True)]
    measured = [series.size >= ENOUGH for series in untraced]
    chosen = [plain if known else slower for plain, slower, known in zip(untraced, traced, measured, strict=True)]
    repeats = [
        of_repeats([times(metric, repeat) / many for repeat in run.repeats], _AT[metric])
        for run, many in zip(runs, per, strict=True)
    ]
    few = [
        f"{label} has {series.size:,}"
        for label, series in zip(("BEFORE", "AFTER"), chosen, strict=True)
        if series.size < ENOUGH
    ]
    if few:
        return Judgement(metric, why=f"that takes {ENOUGH} inferences a side, and {' and '.join(few)}")
    if all(measured):
        host = _host_drift(metric, runs, per) if alike.launching else 0.0
        beyond_runs = of_two_runs(difference(metric, chosen[0], chosen[1]), repeats, host)
        judgement = Judgement(metric, source="untraced", level=LEVEL, **told(beyond_runs))
    else:
        judgement = _without_profiler(metric, runs, chosen, measured, per, alike, repeats)
    judgement = replace(judgement, repeats=(len(repeats[0]), len(repeats[1])))
    if min(map(len, traced)) >= ENOUGH:
        judgement = replace(judgement, traced=difference(metric, traced[0], traced[1]))
    blocked = ", ".join(dict.fromkeys(difference.aspect for difference in setup if metric in difference.blocks))
    return replace(judgement, verdict=Verdict.NOT_COMPARABLE, why=blocked) if blocked else judgement


def difference(metric: Metric, before: Floats, after: Floats, level: float = LEVEL) -> Difference:
    """By how much two series of times in order differ, by what the metric is of them, with an interval of `level`."""
    pair = [(series, series[:, None]) for series in (before, after)]
    estimates = estimate(pair[0], pair[1], np.arange(WALLS + 1), level=level)
    return judged(NAMES[metric], "ns", _AT[metric], estimates, effect=cliffs_delta(before, after))


def told(difference: Difference) -> dict[str, Any]:
    """What a `Judgement` holds of a difference that alone decides it."""
    verdict = {Change.MORE: Verdict.SLOWER, Change.LESS: Verdict.FASTER}.get(difference.change, Verdict.NOISE)
    return {"verdict": verdict, "measured": verdict, "difference": difference}


def _host_drift(metric: Metric, runs: Pair, per: tuple[float, float]) -> float:
    """How much longer the host took for its calls in the untraced run after, ns; 0 where a side did not measure it.

    No more than the same calls differ by from run to run (`worth.known.HOST_DRIFT`).
    """
    sides = [
        of_repeats([one.calls / many for one in run.repeats], _AT[metric]) for run, many in zip(runs, per, strict=True)
    ]
    if not all(sides):
        return 0.0
    before, after = (float(np.mean(side)) for side in sides)
    most = before * (HOST_DRIFT.high / HOST_DRIFT.low - 1)
    return float(np.clip(after - before, -most, most))


def of_two_runs(found: Difference, repeats: Sequence[Sequence[float]], host: float = 0.0) -> Difference:
    """A difference of untraced times, noise where it is no more than the same differs by from run to run.

    `repeats` are the times of each run of each side, ns; none where that is not known. Of several, the difference is
    that of their means, and its interval Student's t. Where they are too few for that, two runs of the same differ by
    what is usual (`worth.known.CAPTURES`), or by what these lie apart, drift or leave to chance, where that is more.
    `host` is how much longer the host took for the same calls after, ns: it is faster or slower from run to run, and
    what that explains of the difference is no change of anybody's.
    """
    explained = abs(host) if host * (found.difference or 0.0) > 0 else 0.0
    usual = CAPTURES * (found.before or 0.0) + explained
    if max(map(len, repeats)) < 2:
        if usual <= (found.drift or 0.0):
            return found
        small = abs(found.difference or 0.0) <= usual and found.change is not Change.SAME
        return replace(
            found, drift=usual, detail=_same(found, explained), change=Change.NOISE if small else found.change
        )
    means = at_means(found, repeats)
    least = told_by_repeats(repeats)
    apart = (max(side) - min(side) for side in repeats if side)
    margin = min(least, max(usual, means.drift or 0.0, ((means.high or 0.0) - (means.low or 0.0)) / 2, *apart))
    detail = f"means of {' and '.join(str(len(side)) for side in repeats)}"
    if margin < least:
        detail += f", too few to tell less than {units.share(margin / (means.before or 1.0))} from noise"
    before, after, difference = means.before or 0.0, means.after or 0.0, means.difference or 0.0
    low, high = difference - margin, difference + margin
    change = change_of(before, after, low, high, margin)
    return replace(means, low=low, high=high, drift=margin, detail=detail, change=change)


def _same(found: Difference, explained: float) -> str:
    """What two runs of the same differ by, in words."""
    if explained <= NOTHING * (found.before or 0.0):
        return f"{TWO_RUNS}, and {REPEAT}"
    speed = "longer" if (found.difference or 0.0) > 0 else "less"
    host = f"the host took {units.duration(explained)} {speed} for the same calls, as it does from run to run"
    return f"{host}, and {TWO_RUNS} besides; {REPEAT}"


def _without_profiler(
    metric: Metric,
    runs: Pair,
    chosen: list[Floats],
    measured: list[bool],
    per: tuple[float, float],
    alike: Alike,
    repeats: list[list[float]],
) -> Judgement:
    """The verdict by what the profiler leaves of traced times, where a side was not `measured` without it.

    In logarithms: what tracing may cost, chance, and how far the model is off are independent of each other. Where both
    launch alike, their traced times are compared, and the model has to tell no more than what the profiler hid of them;
    nothing, where the GPU works as long for both.
    """
    same = alike.launching and not any(measured)
    equal = same and alike.working
    if metric is Metric.THROUGHPUT and not same:
        usual = [run.usual_periods / many for run, many in zip(runs, per, strict=True)]
        chosen = [without if known else other for without, other, known in zip(chosen, usual, measured, strict=True)]
    if min(map(len, chosen)) < ENOUGH:
        return Judgement(metric, why=f"that takes {ENOUGH} inferences a side that are no outliers")
    estimated = at_means(difference(metric, chosen[0], chosen[1], LEVEL if same else ESTIMATED), repeats)
    drifts = (None, None) if same else (0, 1)
    lefts = [
        None if known else left(run.trace, Pricing.of(run.trace), PER[metric], run.judged, drift)
        for known, run, drift in zip(measured[: 1 if equal else 2], runs, drifts, strict=False)
    ] * (2 if equal else 1)
    logs = [np.log(left.draws) if left else np.zeros(DRAWS) for left in lefts]
    both = logs[1] - logs[0] if alike.tracing else np.subtract.outer(logs[1], logs[0]).ravel()
    profiler = Range(*sorted((float(np.percentile(both, 5)), float(both[0]), float(np.percentile(both, 95)))))
    errors = [left.error if left else REPEATS for left in lefts]
    # Two short, traced runs of the same differ by as much as a traced and an untraced one do.
    model = MODEL if same else float(np.hypot(errors[0], errors[1]))
    judgement = Judgement(
        metric,
        source="mixed" if any(measured) else "trace",
        level=ESTIMATED,
        **told(_estimated(estimated, float(np.exp(logs[0][0])), profiler, model)),
    )
    # Where tracing leaves less open than chance and two runs of the same do, an untraced run would tell no more.
    open_ = max(abs(profiler.low), abs(profiler.high))
    if judgement.verdict is not Verdict.NOISE or (same and open_ <= max(_chance(estimated), model)):
        return judgement
    assert judgement.difference is not None
    open_difference = replace(judgement.difference, change=Change.UNKNOWN)
    return replace(
        judgement, verdict=Verdict.UNDECIDED, measured=Verdict.UNDECIDED, difference=open_difference, why=UNDECIDED
    )


def _chance(difference: Difference) -> float:
    """Half of a difference's interval, as a share."""
    width = (difference.high or 0.0) - (difference.low or 0.0)
    return width / 2 / max(min(difference.before or 0.0, difference.after or 0.0), 1.0)


def _estimated(traced: Difference, left_before: float, profiler: Range, model: float) -> Difference:
    """A traced difference as it is likely to be without the profiler; `profiler` and `model` are of logarithms."""
    before, after = max(traced.before or 0.0, 1.0), max(traced.after or 0.0, 1.0)
    point = float(np.log(after / before)) + profiler.point
    uncertain = float(np.hypot(_chance(traced), model))
    below, above = (float(np.hypot(end - profiler.point, uncertain)) for end in (profiler.low, profiler.high))
    told, drift = before * left_before, (traced.drift or 0.0) * left_before
    low, middle, high = (told * float(np.expm1(logarithm)) for logarithm in (point - below, point, point + above))
    noise = low <= 0 <= high or abs(middle) <= drift
    return replace(
        traced,
        before=told,
        after=told + middle,
        difference=middle,
        low=low,
        high=high,
        drift=drift,
        change=Change.NOISE if noise else Change.MORE if middle > 0 else Change.LESS,
    )
