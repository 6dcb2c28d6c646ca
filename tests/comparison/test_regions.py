"""Which layers of two builds stand for each other: by the tensors that they read and write."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.comparison.regions import Region, regions
from nsight_tools.run.engine import Layer, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def tensors(names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, dtype="FP16", format="Row major linear") for name in names.split())


def engine(*layers: str) -> list[Layer]:
    """Layers as `name: reads -> writes`."""
    made = []
    for layer in layers:
        name, _, ends = layer.partition(": ")
        reads, _, writes = ends.partition("->")
        made.append(Layer(name, "Reformat" if name.startswith("to") else "conv", tensors(reads), tensors(writes)))
    return made


def told(found: Sequence[Region]) -> list[str]:
    """`before | after: reads -> writes` of each region."""
    return [
        f"{' '.join(layer.name for layer in region.sides[0])} | {' '.join(layer.name for layer in region.sides[1])}: "
        f"{' '.join(region.reads)} -> {' '.join(region.writes)}"
        for region in found
    ]


MADE = "Reformatted Input Tensor 0 to conv"
CASES = {
    "the same": (
        ["a: x -> t", "b: t -> y"],
        ["a: x -> t", "b: t -> y"],
        ["a | a: x -> t", "b | b: t -> y"],
    ),
    "another fusion": (
        ["conv+relu: x -> t", "fc: t -> y"],
        ["conv: x -> c", "relu: c -> t", "fc: t -> y"],
        ["conv+relu | conv relu: x -> t", "fc | fc: t -> y"],
    ),
    "fused on either side": (
        ["a+b: x -> t", "c: t -> u", "d: u -> y"],
        ["a: x -> s", "b+c: s -> u", "d: u -> y"],
        ["a+b c | a b+c: x -> u", "d | d: u -> y"],
    ),
    "a residual": (
        ["conv1: x -> s", "conv2+add: s x -> t", "out: t -> y"],
        ["conv1: x -> s", "conv2: s -> c", "add: c x -> t", "out: t -> y"],
        ["conv1 | conv1: x -> s", "conv2+add | conv2 add: s x -> t", "out | out: t -> y"],
    ),
    "a reformat is part of what it is for": (
        ["conv: x -> y"],
        ["to16: x -> h", "conv: h -> g", "to32: g -> y"],
        ["conv | to16 conv to32: x -> y"],
    ),
    "a concatenation that one build leaves out": (
        ["a: x -> p", "b: x -> q", "cat: p q -> c", "out: c -> y"],
        ["a: x -> c", "b: x -> c", "out: c -> y"],
        ["a b cat | a b: x -> c", "out | out: c -> y"],
    ),
    "one tensor quantized for several": (
        ["a: t -> u", "b: t -> v", "c: u v -> y", "begin: x -> t"],
        ["q: t -> t8", "a: t8 -> u", "b: t8 -> v", "c: u v -> y", "begin: x -> t"],
        ["a b | q a b: t -> u v", "c | c: u v -> y", "begin | begin: x -> t"],
    ),
    "a region reads the same on both sides": (
        ["a: x -> t", "b: t -> u", "c: u -> y"],
        ["a: x -> t", "b: t -> u", "bc: t -> y"],
        ["a | a: x -> t", "b c | b bc: t -> y"],
    ),
    "a Myelin region": (
        ["a: x -> t", "{ForeignNode[b...d]}: t -> y"],
        ["a: x -> t", "b: t -> __mye1", "c: __mye1 t -> __mye2", "d: __mye2 -> y"],
        ["a | a: x -> t", "{ForeignNode[b...d]} | b c d: t -> y"],
    ),
    "the whole": (
        ["a: x -> s", "b: s -> y"],
        ["a: x -> t", "b: t -> y"],
        ["a b | a b: x -> y"],
    ),
    "what only one build has is by itself": (
        ["a: x -> y"],
        ["a: x -> y", "debug: x -> z"],
        ["a | a: x -> y", " | debug: x -> "],
    ),
    "of another model": (["a: x -> y"], ["a: x -> z"], []),
    "nothing": ([], ["a: x -> z"], []),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_stand_for_each_other(case: str) -> None:
    before, after, expected = CASES[case]
    found = told(regions(engine(*before), engine(*after)))
    assert found == expected or sorted(found) == sorted(expected)


def test_tensors_of_reformats_are_none_of_the_model() -> None:
    """Even where both builds have a reformat of that name: it and what it is for are one region."""
    names = Tensor(MADE, dtype="FP16")
    before = [Layer("to", "Reformat", tensors("x"), (names,)), Layer("conv", "conv", (names,), tensors("y"))]
    (region,) = regions(before, before)
    assert told([region]) == ["to conv | to conv: x -> y"]


@st.composite
def builds(draw: st.DrawFn) -> tuple[list[Layer], list[Layer]]:
    """A model of operations in order, each of which reads what earlier ones wrote, and two ways to fuse neighbours."""
    count = draw(st.integers(1, 12))
    reads = [draw(st.sets(st.integers(-1, at - 1), min_size=1, max_size=3)) for at in range(count)]
    return _fused(draw, reads), _fused(draw, reads)


def _fused(draw: st.DrawFn, reads: list[set[int]]) -> list[Layer]:
    cuts = [0, *(at for at in range(1, len(reads)) if draw(st.booleans())), len(reads)]
    layers = []
    for begin, end in pairwise(cuts):
        outside = {read for at in range(begin, end) for read in reads[at] if not begin <= read < end}
        used = {read for at in range(end, len(reads)) for read in reads[at]}
        read = set().union(*reads)
        writes = [at for at in range(begin, end) if at in used or at not in read]  # the latter is the model's output
        name = "+".join(f"op{at}" for at in range(begin, end))
        ends = (" ".join(f"t{at}" for at in sorted(those)) for those in (outside, writes))
        layers.append(Layer(name, "conv", *map(tensors, ends)))
    return layers


@given(builds())
def test_regions_hold_each_layer_once_and_do_the_same(pair: tuple[list[Layer], list[Layer]]) -> None:
    found = regions(*pair)
    for side in (0, 1):
        held = [layer.name for region in found for layer in region.sides[side]]
        assert sorted(held) == sorted(layer.name for layer in pair[side])
    for region in found:
        operations = [{part for layer in layers for part in layer.name.split("+")} for layers in region.sides]
        assert operations[0] == operations[1]
