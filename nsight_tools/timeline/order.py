"""Layers by the order of kernels: a sequence of kernels without layers beside one whose layers are known.

An engine launches its kernels in one order, whichever way they come to the GPU: call by call, or as the nodes of a
CUDA graph. So the kernels of an inference are taken in the order of their launch, in which auxiliary streams lie the
same way in each run though their kernels end up beside each other differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray

MOST_PAIRS = 1 << 24
"""Pairs of kernels that are compared for one alignment: 4,000 by 4,000 take half a second and 64 MB."""


@dataclass(frozen=True)
class Sequences:
    """The distinct sequences among those of n inferences, the most frequent one first.

    `which`, shape (n,), is the sequence of each inference; `tokens[s]` what the sequence s consists of.
    """

    which: Int64Array
    count: Int64Array
    tokens: tuple[Int64Array, ...]


def launch_order(inference: IntArray, call: IntArray, node: IntArray, start: IntArray) -> IntArray:
    """Order of kernels by inference, and in each as they were launched.

    That is the order of their calls, among the nodes of one graph that of the nodes (CUDA numbers them as they were
    added), and by start where that is the same. All of shape (n,).
    """
    order: IntArray = np.lexsort((start, node, call, inference))
    return order


def sequences(lane: IntArray, token: IntArray) -> Sequences:
    """The distinct sequences of tokens (not negative) among those of lanes that lie one behind the other.

    Two are the same if they have the same length and 128 bits of hash.
    """
    first = np.flatnonzero(np.append(np.ones(min(lane.size, 1), np.bool_), lane[1:] != lane[:-1]))
    length = np.diff(np.append(first, lane.size))
    place = np.arange(lane.size) - np.repeat(first, length)
    mixed = _mix(_mix(token.astype(np.uint64)) + place.astype(np.uint64))
    key = np.zeros((3, first.size), np.uint64)
    key[0] = length
    if first.size:
        key[1:] = [np.add.reduceat(bits, first) for bits in (mixed, _mix(mixed))]
    _, example, which, count = np.unique(key, axis=1, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((example, -count))
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    example = example[order]
    tokens = tuple(token[first[at] : first[at] + length[at]].astype(np.int64) for at in example.tolist())
    return Sequences(rank[which.ravel()], count[order], tokens)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads numbers over 64 bits: the finalizer of splitmix64 (Steele, Lea and Flood, 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class Alignment:
    """What `align` found: the label of each of n elements, -1 where there is none or it is in doubt.

    `common` elements are in both, in order; they lie in a stretch of `span` elements.
    """

    label: Int64Array
    common: int
    span: int

    def share(self, of_reference: int) -> float:
        """Share that is common, of the reference's elements or of the stretch: whichever is less."""
        return self.common / max(of_reference, self.span, 1)


def align(alike: BoolArray, label: Int64Array) -> Alignment | None:
    """Labels of the reference, shape (m,), for the elements that it has in common with a sequence of n, in order.

    `alike`, shape (n, m), says which elements may be the same. What is in common is a longest common subsequence. There
    can be many; what all of them agree in is certain, and nothing else gets a label: each of them has one pair of every
    rank (its number in order), so that all agree where only one element has that rank, and its partners one label.
    None where there are more than MOST_PAIRS pairs.

    Formula: with F[i, j] the longest of the first i and j elements, and B[i, j] of those from i and j on, the longest
    is L = F[n, m], and a pair (i, j) that is alike is in one of that length iff F[i, j] + 1 + B[i + 1, j + 1] = L.
    """
    n, m = alike.shape
    if alike.size > MOST_PAIRS:
        return None
    ahead = np.zeros((n + 1, m + 1), np.int32)
    for i in range(n):
        ahead[i + 1, 1:] = np.maximum.accumulate(np.maximum(ahead[i, 1:], ahead[i, :-1] + alike[i]))
    longest = int(ahead[n, m])
    behind = np.zeros(m + 1, np.int32)
    pairs: list[tuple[Int64Array, Int64Array]] = []
    for i in range(n - 1, -1, -1):
        partners = np.flatnonzero(alike[i] & (ahead[i, :-1] + 1 + behind[1:] == longest))
        pairs.append((np.full(partners.size, i), partners))
        behind[:-1] = np.maximum.accumulate(np.maximum(behind[:-1], behind[1:] + alike[i])[::-1])[::-1]
    labels = np.full(n, -1, np.int64)
    if not longest:
        return Alignment(labels, 0, 0)
    element, partner = (np.concatenate(column) for column in zip(*pairs, strict=True))
    rank = ahead[element, partner]
    certain = (_one_each(rank, element) & _one_each(rank, label[partner]))[rank]
    labels[element[certain]] = label[partner[certain]]
    return Alignment(labels, longest, int(element.max() - element.min()) + 1)


def _one_each(group: IntArray, value: Int64Array) -> BoolArray:
    """Whether all values of each group are the same; every group from 0 on has some."""
    low, high = np.full(group.max() + 1, np.iinfo(np.int64).max), np.full(group.max() + 1, np.iinfo(np.int64).min)
    np.minimum.at(low, group, value)
    np.maximum.at(high, group, value)
    same: BoolArray = low == high
    return same
