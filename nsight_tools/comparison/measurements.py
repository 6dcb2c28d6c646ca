"""What two captures measured without the profiler, side by side, and by how much the same differs from itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.judge import unjudged
from nsight_tools.comparison.resampling import quantile, statistics
from nsight_tools.comparison.result import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.comparison.result import Difference
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.measured import Energy, Measured, Memory

_SPEEDS = (
    ("throughput_per_s", "inferences a second", ""),
    ("p50_ns", "p50", "ns"),
    ("p90_ns", "p90", "ns"),
    ("p95_ns", "p95", "ns"),
    ("p99_ns", "p99", "ns"),
)
_MEMORY = (
    ("process_peak", "memory of the process, at most", "bytes"),
    ("gpu_peak", "memory in use by all, at most", "bytes"),
    ("file", "serialized engine", "bytes"),
    ("engine", "engine on the GPU", "bytes"),
    ("weights", "weights, by TensorRT", "bytes"),
    ("activations", "activations of a context", "bytes"),
    ("buffers", "inputs and outputs of a context", "bytes"),
    ("further_context", "a further context takes", "bytes"),
    ("further_contexts", "further contexts that fit", "count"),
)
_ENERGY = (("joules_per_inference", "energy of an inference", "J"),)


def measurements(runs: tuple[ComparedRun, ComparedRun]) -> tuple[Difference, ...]:
    """Speed, memory, energy and time to build, of what both captures measured. None has an interval.

    Speed is the mean of the repeats, where there are some. What differs by no more than one side's repeats do, or than
    those of both tell, is noise; of all else nobody knows how much it varies.
    """
    before, after = (run.summary.measured for run in runs)
    return (
        *_speeds(before, after),
        *_pairs(_MEMORY, before.memory, after.memory),
        *_pairs(_ENERGY, before.energy, after.energy),
        *_built(before, after),
    )


def _speeds(before: Measured, after: Measured) -> Iterator[Difference]:
    if before.speed is None or after.speed is None:
        return
    for field, name, unit in _SPEEDS:
        runs = [[float(getattr(run, field)) for run in side.repeats or (side.speed,)] for side in (before, after)]
        difference = unjudged(name, unit, float(np.mean(runs[0])), float(np.mean(runs[1])))
        margin = min(max(max(side) - min(side) for side in runs), told_by_repeats(runs))
        noise = difference.change is Change.UNKNOWN and abs(difference.difference or 0.0) <= margin
        yield replace(difference, change=Change.NOISE, drift=margin) if noise else difference


def _pairs(
    fields: Sequence[tuple[str, str, str]],
    before: Memory | Energy | None,
    after: Memory | Energy | None,
) -> Iterator[Difference]:
    for field, name, unit in fields:
        values = (getattr(before, field, None), getattr(after, field, None))
        if None not in values:
            yield unjudged(name, unit, *values)


def _built(before: Measured, after: Measured) -> Iterator[Difference]:
    if before.build_s is not None and after.build_s is not None:
        yield unjudged("build", "ns", 1e9 * before.build_s, 1e9 * after.build_s)


def of_repeats(repeats: Sequence[Floats], at: int) -> list[float]:
    """What number `at` of their `statistics` is of each repeat of a side that has inferences, in ns."""
    return [
        float(statistics(repeat, repeat[:, None], np.ones((1, repeat.size)))[0, at])
        for repeat in repeats
        if repeat.size
    ]


def at_means(found: Difference, repeats: Sequence[Sequence[float]]) -> Difference:
    """A difference of two runs, with the means of each side's repeats, as `of_repeats` has them, for their times.

    Of a side without any the time stays as it is; so does the interval's width.
    """
    sides = zip((found.before, found.after), repeats, strict=True)
    before, after = (float(np.mean(side)) if len(side) else (value or 0.0) for value, side in sides)
    moved = after - before - (found.difference or 0.0)
    low, high = ((end or 0.0) + moved for end in (found.low, found.high))
    return replace(found, before=before, after=after, difference=after - before, low=low, high=high)


def told_by_repeats(repeats: Sequence[Sequence[float]]) -> float:
    """How far the difference of two means of repeats may be off, 99 times in 100, in ns; infinite where none tell.

    Student's t (Welch, 1947: the sides may differ in how far their repeats lie apart), with as many whole degrees of
    freedom as there are: two repeats a side have one or two.
    """
    if min(map(len, repeats)) < 2:
        return math.inf
    squares = [float(np.var(side, ddof=1)) / len(side) for side in repeats]
    if not (square := sum(squares)):
        return 0.0
    freedom = square**2 / sum(each**2 / (len(side) - 1) for each, side in zip(squares, repeats, strict=True))
    return quantile(int(freedom + 1e-9)) * math.sqrt(square)
