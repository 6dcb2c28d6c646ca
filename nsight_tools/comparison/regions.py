"""Two builds of one model side by side: layers that read and write the same tensors stand for each other.

Fusions, tactics and names of layers differ from build to build; names of the model's tensors do not, as far as they are
still there. A region is the smallest set of layers of both builds that reads the same tensors in both, and writes the
same: of an elementwise layer that only one build fused into the convolution before it, the region is all three.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nsight_tools.run.engine import Layer, Tensor

    Node = tuple[int, int]
    """A layer: its side, 0 or 1, and its place there."""

MADE = ("Reformatted Input Tensor", "Reformatted Output Tensor")
"""What names begin with that TensorRT gives to tensors of its own, behind and before reformats: none of the model's."""


@dataclass(frozen=True)
class Region:
    """Layers of both builds that stand for each other, in their builds' order. One side may have none."""

    reads: tuple[str, ...]
    """Tensors that come from outside, on either side."""
    writes: tuple[str, ...]
    """Tensors that both sides write."""
    sides: tuple[tuple[Layer, ...], tuple[Layer, ...]]


def regions(before: Sequence[Layer], after: Sequence[Layer]) -> list[Region]:
    """All layers of both, each in one region, in the order of BEFORE's first layers.

    Empty where they are not builds of one model: no output of either engine is there in the other.
    """
    sides = tuple(_Side(layers) for layers in (before, after))
    if not sides[0].ends & sides[1].ends:
        return []
    common = (sides[0].written & sides[1].written) | (sides[0].given & sides[1].given)
    common -= sides[0].made | sides[1].made
    groups = _Groups()
    for at, side in enumerate(sides):
        for place in range(len(side.layers)):
            groups.add((at, place))
        for tensor in side.written - common:  # what only one build has is inside of a region
            groups.join((at, place) for place in (*side.writers[tensor], *side.readers[tensor]))
    for tensor in common:
        groups.join((at, place) for at, side in enumerate(sides) for place in side.writers[tensor])
    grown = True
    while grown:
        grown = False
        for members in groups.all():
            grown |= _grown(groups, members, sides, common)
    return [_region(members, sides, common) for members in groups.all()]


class _Side:
    """One build's layers, and which of them write and read each tensor."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.writers: dict[str, list[int]] = defaultdict(list)
        self.readers: dict[str, list[int]] = defaultdict(list)
        for place, layer in enumerate(layers):
            for ends, tensors in ((self.writers, layer.outputs), (self.readers, layer.inputs)):
                for tensor in tensors:
                    ends[tensor.name].append(place)
        self.written, read = set(self.writers), set(self.readers)
        self.made = {name for name in self.written | read if name.startswith(MADE)}
        self.given = read - self.written
        """Inputs of the engine."""
        self.ends = self.written - read - self.made
        """Its outputs."""


def _grown(groups: _Groups, members: Sequence[Node], sides: Sequence[_Side], common: set[str]) -> bool:
    """Join a group with what writes a tensor that only one side of it reads; whether there was one.

    Of several the last one that is written: those before it may then be read on both sides.
    """
    if {at for at, _ in members} != {0, 1}:
        return False
    apart = _reads(members, 0, sides[0], common) ^ _reads(members, 1, sides[1], common)
    written = [tensor for tensor in apart if sides[0].writers[tensor]]  # else it is an input of the engine
    if not written:
        return False
    last = max(written, key=lambda tensor: sides[0].writers[tensor][-1])
    return groups.join([members[0], *((at, place) for at, side in enumerate(sides) for place in side.writers[last])])


def _reads(members: Iterable[Node], at: int, side: _Side, common: set[str]) -> set[str]:
    """Common tensors that one side of a group reads from outside of it."""
    layers = [side.layers[place] for side_number, place in members if side_number == at]
    read, written = ({tensor.name for tensor in ends} for ends in _ends(layers))
    return (read - written) & common


def _ends(layers: Sequence[Layer]) -> Iterator[Iterator[Tensor]]:
    yield (tensor for layer in layers for tensor in layer.inputs)
    yield (tensor for layer in layers for tensor in layer.outputs)


def _region(members: Sequence[Node], sides: Sequence[_Side], common: set[str]) -> Region:
    own = [
        tuple(side.layers[place] for side_number, place in members if side_number == at)
        for at, side in enumerate(sides)
    ]
    reads = [_reads(members, at, side, common) for at, side in enumerate(sides)]
    # What is read outside, or by nobody: the rest stays within the region.
    inside = set(members)
    writes = []
    for tensor in dict.fromkeys(tensor.name for layers in own for layer in layers for tensor in layer.outputs):
        readers = [(at, place) for at, side in enumerate(sides) for place in side.readers[tensor]]
        if tensor in common and (not readers or any(node not in inside for node in readers)):
            writes.append(tensor)
    return Region(tuple(sorted(reads[0] | reads[1])), tuple(writes), (own[0], own[1]))


class _Groups:
    """Disjoint sets of layers."""

    def __init__(self) -> None:
        self._of: dict[Node, list[Node]] = {}

    def add(self, node: Node) -> None:
        self._of[node] = [node]

    def join(self, nodes: Iterable[Node]) -> bool:
        """Make one group of those that hold these; whether there were several."""
        held = list({id(self._of[node]): self._of[node] for node in nodes}.values())
        if len(held) < 2:
            return False
        whole = sorted(node for group in held for node in group)
        for node in whole:
            self._of[node] = whole
        return True

    def all(self) -> list[list[Node]]:
        """Each group, its layers in order."""
        return sorted({id(group): group for group in self._of.values()}.values())
