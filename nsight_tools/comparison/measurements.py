"""What two captures measured without the profiler, side by side, and by how much the same differs from itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools import units
from nsight_tools.comparison.judge import unjudged
from nsight_tools.comparison.resampling import quantile, statistics
from nsight_tools.comparison.result import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.comparison.result import Difference
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.measured import Energy, Measured, Memory, Speed

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

    What differs by no more than one side's repeats do is noise; of all else nobody knows how much it varies.
    """
    before, after = (run.summary.measured for run in runs)
    return (
        *_speeds(before, after),
        *_pairs(_MEMORY, before.memory, after.memory),
        *_pairs(_ENERGY, before.energy, after.energy),
        *_built(before, after),
    )


def _speeds(before: Measured, after: Measured) -> Iterator[Difference]:
    for (field, _, _), difference in zip(_SPEEDS, _pairs(_SPEEDS, before.speed, after.speed), strict=False):
        spread = max(side.spread(field) or 0.0 for side in (before, after))
        noise = difference.change is Change.UNKNOWN and abs(difference.difference or 0.0) <= spread
        yield replace(difference, change=Change.NOISE, drift=spread) if noise else difference


def _pairs(
    fields: Sequence[tuple[str, str, str]],
    before: Speed | Memory | Energy | None,
    after: Speed | Memory | Energy | None,
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


def against_repeats(difference: Difference, repeats: Sequence[Sequence[float]]) -> Difference:
    """A difference, noise where the repeats of one side, as `of_repeats` has them, lie as far apart."""
    apart = [max(side) - min(side) if side else 0.0 for side in repeats]
    spread = max(apart)
    if difference.difference is None or spread <= (difference.drift or 0.0):
        return difference
    change = (
        Change.NOISE
        if abs(difference.difference) <= spread and difference.change is not Change.SAME
        else difference.change
    )
    side = apart.index(spread)
    detail = f"{('BEFORE', 'AFTER')[side]}, measured {len(repeats[side])} times, differs by {units.duration(spread)}"
    return replace(difference, drift=spread, change=change, detail=detail)


def told_by_repeats(repeats: Sequence[Sequence[float]]) -> float:
    """By how much two runs of the same differ at most, as the repeats of both sides tell, in ns; infinite for none.

    From the least to the most of two runs is passed by the next difference one time in three, of eight one in sixty: so
    it is Student's t of how far the repeats of each side are from their mean, 99 times in 100.
    """
    freedom = sum(max(len(side) - 1, 0) for side in repeats)
    if not freedom:
        return math.inf
    square = sum(float(np.var(side)) * len(side) for side in repeats if side) / freedom
    return quantile(freedom) * math.sqrt(2 * square)
