"""What another build of the same model changed: which regions got other fusions, precisions or tactics, and what of it.

Answers "INT8 is slower than FP16" and "slower after the upgrade": region by region (`regions`), with the time of its
kernels in the typical inference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.comparison.regions import regions
from nsight_tools.comparison.result import Builds, Built, Rebuilt
from nsight_tools.run.engine import NOTHING, engine_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nsight_tools.comparison.quantities import Cells
    from nsight_tools.comparison.regions import Region
    from nsight_tools.comparison.result import Difference
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.run.engine import Layer

MOST = 1_000
"""Regions that are judged by themselves, as of layers; those with the least layers are left to the sums."""
ALIKE = "built alike"
REFORMATS = "reformats, wherever they are"


class Pair:
    """Two traces whose engines are builds of one model, but not the same."""

    def __init__(self, runs: tuple[ComparedRun, ComparedRun], regions: Sequence[Region]) -> None:
        self._runs = runs
        self._sides = [(_built(region.sides[0]), _built(region.sides[1])) for region in regions]
        self._changed = [_changes(region, *sides) for region, sides in zip(regions, self._sides, strict=True)]
        order = sorted(range(len(regions)), key=lambda at: -sum(map(len, regions[at].sides)))
        self._rebuilt = [at for at in order if self._changed[at]]
        self._regions = regions
        self._kinds = [*dict.fromkeys(filter(None, (", ".join(kinds) for kinds in self._changed))), ALIKE, REFORMATS]

    @classmethod
    def of(cls, runs: tuple[ComparedRun, ComparedRun]) -> Pair | None:
        """None where the engines' tensors are not known, they are of two models, or one build."""
        sides = [list(engine_layers(run.trace).values()) for run in runs]
        if not all(any(layer.outputs for layer in side) for side in sides):
            return None
        pair = cls(runs, regions(*sides))
        return pair if pair._rebuilt else None

    def columns(self) -> list[tuple[str, Sequence[str], Sequence[Cells]]]:
        """What is to be estimated: a group's name, its rows, and the nanoseconds of each inference of both runs."""
        single = [{layer.name: at for at, i in enumerate(self._shown) for layer in self._regions[i].sides[side]}
                  for side in (0, 1)]  # fmt: skip
        kinds = [self._by_kind(side) for side in (0, 1)]
        reformats = [
            {layer.name: 0 for region in self._regions for layer in region.sides[side] if layer.reformats}
            for side in (0, 1)
        ]
        names = [", ".join(self._regions[at].writes) for at in self._shown]
        return [
            ("regions", names, self._cells(single, len(names))),
            ("builds", self._kinds[:-1], self._cells(kinds, len(self._kinds) - 1)),
            ("builds", self._kinds[-1:], self._cells(reformats, 1)),
        ]

    def result(self, groups: Mapping[str, Sequence[Difference]]) -> Builds:
        """What the estimates say, by group."""
        rows = []
        for at, time in zip(self._shown, groups["regions"], strict=True):
            region, (before, after) = self._regions[at], self._sides[at]
            rows.append(Rebuilt(region.reads, region.writes, before, after, self._changed[at], time))
        rows.sort(key=lambda region: -abs(region.time.difference or 0.0))
        counts = [sum(_moves(layer) for region in self._regions for layer in region.sides[side]) for side in (0, 1)]
        rebuilt = len(self._rebuilt)
        *kinds, alike, reformats = groups["builds"]
        kinds.sort(key=lambda total: -abs(total.difference or 0.0))
        totals = (*kinds, alike, reformats)
        return Builds(tuple(rows), rebuilt, len(self._regions) - rebuilt, totals, (counts[0], counts[1]))

    @property
    def _shown(self) -> list[int]:
        return self._rebuilt[:MOST]

    def _by_kind(self, side: int) -> dict[str, int]:
        number = {kind: at for at, kind in enumerate(self._kinds)}
        return {
            layer.name: number[", ".join(changed) or ALIKE]
            for region, changed in zip(self._regions, self._changed, strict=True)
            for layer in region.sides[side]
        }

    def _cells(self, keys: Sequence[Mapping[str, int]], rows: int) -> list[Cells]:
        return [run.layers.cells(key, rows) for run, key in zip(self._runs, keys, strict=True)]


def _built(layers: Sequence[Layer]) -> Built:
    computing = [layer for layer in layers if not layer.reformats]
    return Built(
        tuple(layer.name for layer in computing),
        sum(map(_moves, layers)),
        _types(computing or layers),
        tuple(layer.tactic for layer in computing if layer.tactic),
    )


def _moves(layer: Layer) -> bool:
    """Whether it is a reformat that takes time."""
    return layer.reformats and layer.type != NOTHING


def _types(layers: Iterable[Layer]) -> str:
    return ", ".join(sorted({tensor.dtype for layer in layers for tensor in layer.inputs if tensor.dtype}))


def _changes(region: Region, before: Built, after: Built) -> tuple[str, ...]:
    """What the builds made otherwise; a consequence is not told: another precision or fusion has another tactic.

    Of one layer on either side only its name can differ, since what it does is the same.
    """
    alone = len(before.layers) == len(after.layers) == 1
    changes = {
        "fusion": before.layers != after.layers and not alone,
        "precision": before.precision != after.precision,
        "reformats": before.reformats != after.reformats,
    }
    changes["tactic"] = before.tactics != after.tactics and not (changes["fusion"] or changes["precision"])
    changes["format"] = _formats(region.sides[0]) != _formats(region.sides[1]) and not any(changes.values())
    return tuple(name for name, differs in changes.items() if differs)


def _formats(layers: Sequence[Layer]) -> list[tuple[str | None, str | None]]:
    return [(tensor.dtype, tensor.format) for layer in layers for tensor in (*layer.inputs, *layer.outputs)]
