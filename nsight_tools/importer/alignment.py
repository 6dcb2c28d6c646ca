"""Layers of kernels without a layer range around them, by their order: as in a run or a list that has the layers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.importer.stored_columns import StoredTables
from nsight_tools.timeline.order import Alignment, align, launch_order, sequences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from nsight_tools.timeline.attribution import Words
    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray

ENOUGH = 0.9
"""Share of the kernels that a run with layers and one without have in common, from which on they are of one engine.

Runs of one engine have all in common, but for what an application runs before, between and after. Of two engines it
was 62 % at most, though both were built from one network: the builder chose other kernels.
"""
ENOUGH_OF_LIST = 2 / 3
"""The same for a list of layers, which names one kernel a layer where a layer may launch several: 82 to 94 %. All
tactics of the list must be found as well (ENOUGH of them): of the engine's own all were, of another one's 54 %."""
TACTICS = 10
"""A list with fewer tactics than this may be found in order by chance."""
MOST_REFERENCES, MOST_SEQUENCES = 8, 64
"""Distinct sequences that are compared, the most frequent ones: a run of one engine and shape has one."""
THIS_TRACE, LAYER_PASS, LAYER_LIST = "this trace", "layer pass", "layer list"

_REFORMAT = re.compile(r"genericReformat|copyPackedKernel|copyVectorizedKernel")
_POINTWISE = "generatedNativePointwise"


@dataclass(frozen=True)
class Kernels:
    """Kernels of inferences as arrays of shape (n,), in any order; `layer` is a code, -1 where there is none."""

    inference: IntArray
    call: IntArray
    node: IntArray
    start: IntArray
    name: Words
    layer: IntArray

    def __getitem__(self, chosen: Any) -> Kernels:
        return Kernels(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def in_order(self) -> tuple[Kernels, IntArray]:
        """Themselves inference by inference in order of launch, and the rows that they had."""
        rows = launch_order(self.inference, self.call, self.node, self.start)
        return self[rows], rows


@dataclass(frozen=True)
class Reference:
    """Kernels in order whose layers are known, by name; "" where one has none."""

    source: str
    kernels: tuple[str, ...]
    layers: tuple[str, ...]

    def aligned(self, names: Sequence[str], codes: Int64Array) -> tuple[Alignment, float] | None:
        """How kernels with these names lie beside it, and the share that they have in common."""
        number = {name: at for at, name in enumerate(dict.fromkeys((*names, *self.kernels)))}
        ours, theirs = (np.array([number[name] for name in kernels]) for kernels in (names, self.kernels))
        if np.array_equal(ours, theirs):
            return Alignment(codes, len(ours), len(ours)), 1.0
        aligned = align(ours[:, None] == theirs[None, :], codes)
        return None if aligned is None else (aligned, aligned.share(len(theirs)))

    @property
    def enough(self) -> float:
        return ENOUGH


@dataclass(frozen=True)
class LayerList(Reference):
    """The engine's list: `kernels` are the tactics, which kernels' names begin with, "" where a layer has none.

    Layers without one are alike to the kernels of their type: reformats and pointwise operations. Others launch
    nothing, or kernels that nothing tells from others'.
    """

    types: tuple[str, ...] = field(default=())

    def aligned(self, names: Sequence[str], codes: Int64Array) -> tuple[Alignment, float] | None:
        distinct = {name: at for at, name in enumerate(dict.fromkeys(names))}
        of_tactic = np.array([self._of_tactic(name) for name in distinct])
        of_type = np.array([self._of_type(name) for name in distinct])
        at = np.array([distinct[name] for name in names])
        tactics = [bool(tactic) for tactic in self.kernels]
        anchors = align(of_tactic[at][:, tactics], codes[tactics])
        if anchors is None or sum(tactics) < TACTICS or anchors.common < ENOUGH * sum(tactics):
            return None
        aligned = align((of_tactic | of_type)[at], codes)
        return None if aligned is None else (aligned, aligned.share(0))

    def _of_tactic(self, name: str) -> list[bool]:
        bare = name.removeprefix("void ")
        return [bool(tactic) and bare.startswith(tactic) for tactic in self.kernels]

    def _of_type(self, name: str) -> list[bool]:
        meant = "Reformat" if _REFORMAT.search(name) else "PointWise" if name.startswith(_POINTWISE) else None
        layers = zip(self.kernels, self.types, strict=True)
        return [meant is not None and not tactic and kind.startswith(meant) for tactic, kind in layers]

    @property
    def enough(self) -> float:
        return ENOUGH_OF_LIST


@dataclass(frozen=True)
class AlignedLayers:
    """Layers of kernels, as codes of `names`, shape (n,), -1 where none; and what the manifest says of them."""

    layer: Int64Array
    names: list[str]
    about: dict[str, Any]


def align_layers(kernels: Kernels, names: list[str], elsewhere: Sequence[Reference]) -> AlignedLayers | None:
    """Layers for the kernels of inferences of which no kernel has one; None where there is none, or nothing to go by.

    `names` are the words of `kernels.layer`. Other inferences of the same trace come first, then `elsewhere`, source by
    source; what none of them resembles stays without layer, as do kernels whose place is in doubt.
    """
    known = _has_layers(kernels)
    if known.all():
        return None
    references = [*references_of(kernels[known], names, THIS_TRACE), *elsewhere]
    if not references:
        return None
    every = list(dict.fromkeys([*names, *(layer for reference in references for layer in reference.layers if layer)]))
    code = {name: at for at, name in enumerate(every)} | {"": -1}
    labelled = [(reference, np.array([code[layer] for layer in reference.layers])) for reference in references]
    ours, rows = kernels[~known].in_order()
    distinct = sequences(ours.inference, ours.name.codes)
    labels, sources, shares = [], [], []
    for position, tokens in enumerate(distinct.tokens):
        best, share = None, 0.0
        if position < MOST_SEQUENCES:
            best, share = _best([ours.name.dictionary[token] for token in tokens.tolist()], labelled)
        labels.append(best[1] if best else np.full(len(tokens), -1, np.int64))
        sources.append(best[0] if best else "")
        shares.append(share)
    length = np.array([len(tokens) for tokens in distinct.tokens])
    of_lane = distinct.which
    layer = kernels.layer.astype(np.int64)
    offset = np.cumsum(length) - length
    lanes = np.repeat(of_lane, length[of_lane])
    place = np.arange(rows.size) - np.repeat(np.cumsum(length[of_lane]) - length[of_lane], length[of_lane])
    layer[np.flatnonzero(~known)[rows]] = np.concatenate(labels)[offset[lanes] + place]
    attributed = dict.fromkeys(filter(None, sources), 0)
    for label, source, count in zip(labels, sources, distinct.count.tolist(), strict=True):
        if source:
            attributed[source] += int((label >= 0).sum()) * count
    about = {"kernels": int(rows.size), "attributed": attributed, "in_common": max(shares, default=0.0)}
    return AlignedLayers(layer, every, about)


def _has_layers(kernels: Kernels) -> BoolArray:
    """Whether a kernel's inference has one whose layer is known."""
    has_layer = np.zeros(int(kernels.inference.max(initial=-1)) + 1, np.bool_)
    has_layer[kernels.inference[kernels.layer >= 0]] = True
    known: BoolArray = has_layer[kernels.inference]
    return known


def _best(
    names: list[str], references: list[tuple[Reference, Int64Array]]
) -> tuple[tuple[str, Int64Array] | None, float]:
    """Source and labels by the first source that has a reference with enough in common; and the most in common."""
    most = 0.0
    for source in dict.fromkeys(reference.source for reference, _ in references):
        tried = [
            (*aligned, reference)
            for reference, codes in references
            if reference.source == source and (aligned := reference.aligned(names, codes)) is not None
        ]
        for alignment, share, reference in sorted(tried, key=lambda attempt: -attempt[1])[:1]:
            if share >= reference.enough:
                return (source, alignment.label), share
            most = max(most, share)
    return None, most


def references_of(kernels: Kernels, names: list[str], source: str) -> list[Reference]:
    """The distinct sequences of inferences of which a kernel has a layer, the most frequent ones first."""
    ours, _ = kernels[_has_layers(kernels)].in_order()
    width = len(names) + 1
    distinct = sequences(ours.inference, ours.name.codes.astype(np.int64) * width + ours.layer + 1)
    return [
        Reference(
            source,
            tuple(ours.name.dictionary[token // width] for token in tokens.tolist()),
            tuple(names[token % width - 1] if token % width else "" for token in tokens.tolist()),
        )
        for tokens in distinct.tokens[:MOST_REFERENCES]
    ]


def of_dataset(dataset: Path) -> list[Reference]:
    """The references that a dataset of the same engine gives."""
    tables = StoredTables(dataset)
    inference = tables.column("launches", "inference")
    chosen = tables.words("launches", "work").among("kernel") & (inference >= 0)
    row, layer = tables.column("launches", "row")[chosen], tables.words("launches", "layer")
    kernels = Kernels(
        inference[chosen],
        tables.column("launches", "api_call")[chosen],
        tables.column("kernels", "graph_node_id")[row],
        tables.column("launches", "start_ns")[chosen],
        tables.words("kernels", "name")[row],
        layer.codes[chosen],
    )
    return references_of(kernels, list(layer.dictionary), LAYER_PASS)


def of_layers(layers: pa.Table) -> list[Reference]:
    """The reference that an engine's list of layers gives."""
    rows = layers.select(["name", "tactic", "type"]).to_pylist()
    columns = (tuple(row[name] or "" for row in rows) for name in ("tactic", "name", "type"))
    tactics, names, types = columns
    return [LayerList(LAYER_LIST, tactics, names, types)] if any(tactics) else []
