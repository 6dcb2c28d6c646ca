"""The verdicts on each kind of inference, where a run has several: those that do the same work, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.comparison.result import Metric, OfPopulation
from nsight_tools.comparison.verdicts import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.alike import Alike
    from nsight_tools.comparison.result import SetupDifference
    from nsight_tools.comparison.runs import ComparedRun

    Pair = tuple[ComparedRun, ComparedRun]

MOST = 8
"""Populations of a side that are compared, those with the most time."""


def populations(
    runs: Pair, inputs: tuple[float, float], setup: Sequence[SetupDifference], alike: Alike
) -> tuple[OfPopulation, ...]:
    """One for each population that both sides have, those with the most time first; none where both have one.

    Those belong together whose kernels have the most blocks in common, by name. `inputs`, `setup` and `alike` as in
    `judge`; of all but the first population nobody measured the time without the profiler.
    """
    numbers = [[population.number for population in run.run.requests.populations[:MOST]] for run in runs]
    if max(map(len, numbers)) < 2:
        return ()
    sides = [[run.of_population(number) for number in chosen] for run, chosen in zip(runs, numbers, strict=True)]
    matched = []
    for at, one, other in _matched(sides[0], sides[1]):
        pair = one, other
        throughput, latency = (judge(metric, pair, inputs, setup, alike) for metric in Metric)
        kernels = round(float(one.column("kernels").mean()))
        matched.append(OfPopulation(f"{at}: {kernels:,} kernels", len(one), len(other), throughput, latency))
    return tuple(matched)


def _matched(before: Sequence[ComparedRun], after: Sequence[ComparedRun]) -> list[tuple[int, ComparedRun, ComparedRun]]:
    """Pairs that belong together, the most alike first; each with its place among those of BEFORE, from 1 on."""
    blocks = [[run.blocks_by_kernel() for run in side] for side in (before, after)]
    alike = [(_alike(b, a), at, to) for at, b in enumerate(blocks[0]) for to, a in enumerate(blocks[1])]
    taken: dict[int, int] = {}
    for share, at, to in sorted(alike, key=lambda match: (-match[0], match[1], match[2])):
        if share > 0 and at not in taken and to not in taken.values():
            taken[at] = to
    return [(at + 1, before[at], after[to]) for at, to in sorted(taken.items())]


def _alike(one: dict[str, float], other: dict[str, float]) -> float:
    """What two have in common of all that either has, 0 to 1 (Ruzicka)."""
    names = one.keys() | other.keys()
    common, whole = (sum(pick(one.get(name, 0.0), other.get(name, 0.0)) for name in names) for pick in (min, max))
    return common / whole if whole else 0.0
