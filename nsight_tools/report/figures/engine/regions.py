"""The engine's layers put together until they can be read: chains, blocks between a fork and where it joins, repeats.

All of it is about a graph without circles whose nodes are numbered so that every edge goes up; a box keeps that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

CHAIN = 14
"""Layers of a chain that one box holds: what can be told apart side by side in a box with room for a short name."""
MOST, MOST_EDGES = 200, 300
"""Boxes and edges that are laid out at all. Five columns of what a screen and a half holds are some 100 boxes; 300
edges take Graphviz up to 3 s, and 770 took it 70; no 25 boxes, which are always tried, have more."""
ROWS = 24
"""Of a repeated block that one box holds, so that a deep network does not make a box that is higher than a page."""
_PERIOD = 8
"""Boxes that a repeated pattern may have: an attention and a feed-forward block are two."""


@dataclass(frozen=True)
class Box:
    """Layers that are drawn as one; a repeated block has a row for each time, all else a single row."""

    rows: tuple[tuple[int, ...], ...]
    forks: bool = False
    """Whether it holds more than a chain: layers that run beside each other."""

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(layer for row in self.rows for layer in row)

    @property
    def last(self) -> int:
        return max(map(max, self.rows))


@dataclass(frozen=True)
class Folded:
    """Boxes in the order of their last layers, in which every edge goes up, and the edges, by their places."""

    boxes: tuple[Box, ...]
    edges: frozenset[tuple[int, int]]


def folded(count: int, edges: Collection[tuple[int, int]], kinds: Sequence[Hashable]) -> Iterator[Folded]:
    """Layers 0 to `count` - 1, put together more and more; what has too many boxes or edges is passed over.

    First as they are; then with chains in one box; then with blocks, from small to large ones, those that repeat as
    one box; at last cut into equal parts of the engine's order. `kinds` says by layer what has to be the same for two
    blocks to be the same, None for what need not be.
    """
    alone = _joined(Folded(tuple(Box(((number,),)) for number in range(count)), frozenset(edges)), {})
    chains = _chains(_lone(alone))
    levels: Iterator[Folded] = iter((alone, chains))
    for level in levels:
        if _drawable(level):
            yield level
    size = 8
    while size <= count // 4:
        blocks = _repeats(_blocks(chains, size), kinds)
        if _drawable(blocks):
            yield blocks
        size *= 2
    for parts in (100, 50, 25):
        if parts < count:
            group = {number: number * parts // count for number in range(count)}
            if _drawable(cut := _joined(alone, group, branched=True)):
                yield cut


def _drawable(graph: Folded) -> bool:
    return len(graph.boxes) <= MOST and len(graph.edges) <= MOST_EDGES


def _joined(graph: Folded, group: dict[int, int], *, rows: bool = False, branched: bool = False) -> Folded:
    """Boxes of one group as one; those without a group stay alone. With `rows` each box of a group keeps its own.

    `branched` is whether what is joined is more than a chain.
    """
    members: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for place in range(len(graph.boxes)):
        members[(True, group[place]) if place in group else (False, place)].append(place)
    made: list[Box] = []
    of: dict[int, int] = {}
    order = sorted(members.items(), key=lambda item: max(graph.boxes[place].last for place in item[1]))
    for _, places in order:
        of.update(dict.fromkeys(places, len(made)))
        boxes = [graph.boxes[place] for place in places]
        if len(boxes) == 1:
            made.append(boxes[0])
        elif rows:
            made.append(Box(tuple(row for box in boxes for row in box.rows), any(box.forks for box in boxes)))
        else:
            forks = branched or any(box.forks for box in boxes)
            made.append(Box((tuple(sorted(layer for box in boxes for layer in box.layers)),), forks))
    between = frozenset((of[a], of[b]) for a, b in graph.edges if of[a] != of[b])
    return Folded(tuple(made), between)


def _neighbours(graph: Folded) -> tuple[list[list[int]], list[list[int]]]:
    """What leads to each box, and what each leads to."""
    before: list[list[int]] = [[] for _ in graph.boxes]
    behind: list[list[int]] = [[] for _ in graph.boxes]
    for a, b in sorted(graph.edges):
        before[b].append(a)
        behind[a].append(b)
    return before, behind


def _runs(graph: Folded) -> Iterator[list[int]]:
    """Boxes of which each leads to the next alone, and is all that leads there; every box is in one run."""
    before, behind = _neighbours(graph)
    follows = {a: b[0] for a, b in enumerate(behind) if len(b) == 1 and before[b[0]] == [a]}
    for start in sorted(set(range(len(graph.boxes))) - set(follows.values())):
        run = [start]
        while run[-1] in follows:
            run.append(follows[run[-1]])
        yield run


def _lone(graph: Folded) -> Folded:
    """What reads nothing of another layer, and is read by one, in the box of that one: it prepares a weight, say.

    Where all that one reads comes from such layers, it is where the engine begins, and they stay.
    """
    before, behind = _neighbours(graph)
    group = {}
    for place, from_ in enumerate(before):
        mine = [entry for entry in from_ if not before[entry] and len(behind[entry]) == 1]
        if len(mine) < len(from_):
            group.update(dict.fromkeys((place, *mine), place) if mine else {})
    return _joined(graph, group)


def _chains(graph: Folded) -> Folded:
    """Every chain as few boxes of about equal length."""
    group: dict[int, int] = {}
    number = 0
    for run in _runs(graph):
        parts = -(-len(run) // CHAIN)
        group.update({place: number + at * parts // len(run) for at, place in enumerate(run)})
        number += parts
    return _joined(graph, group)


def _blocks(graph: Folded, size: int) -> Folded:
    """Blocks of at most `size` layers as one box each: all that is behind a fork up to where its ways have joined."""
    before, behind = _neighbours(graph)
    count = len(graph.boxes)
    fork_of = _dominators(before)
    joins = [count - 1 - dominator if dominator >= 0 else -1 for dominator in reversed(_dominators(_turned(behind)))]
    blocks = []
    for fork in range(count):
        join = joins[fork]
        if len(behind[fork]) > 1 and join >= 0 and fork_of[join] == fork:
            places = _between(behind, fork, join)
            blocks.append((sum(len(graph.boxes[place].layers) for place in places), fork, places))
    group: dict[int, int] = {}
    for number, (layers, _, places) in enumerate(sorted(blocks, key=lambda block: (-block[0], block[1]))):
        if layers <= size and group.keys().isdisjoint(places):
            group.update(dict.fromkeys(places, number))
    return _joined(graph, group, branched=True)


def _between(behind: Sequence[Iterable[int]], fork: int, join: int) -> set[int]:
    """All that lies behind `fork` up to `join`, which all ways from there come to."""
    places, ahead = {join}, list(behind[fork])
    while ahead:
        place = ahead.pop()
        if place not in places:
            places.add(place)
            ahead += behind[place]
    return places


def _turned(neighbours: Sequence[Iterable[int]]) -> list[list[int]]:
    """The same graph, read from its end."""
    last = len(neighbours) - 1
    return [[last - place for place in places] for places in reversed(neighbours)]


def _dominators(before: Sequence[Sequence[int]]) -> list[int]:
    """For each node the nearest one that all ways to it go through; -1 where there is none but the beginning.

    Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm"; without circles one pass does.
    """
    dominators: list[int] = []
    for places in before:
        common = places[0] if places else -1
        for other in places[1:]:
            ancestor = other
            while common != ancestor:
                if common > ancestor:
                    common = dominators[common]
                else:
                    ancestor = dominators[ancestor]
        dominators.append(common)
    return dominators


def _repeats(graph: Folded, kinds: Sequence[Hashable]) -> Folded:
    """Blocks that follow one another and are the same, alone or as a pattern of a few, with a row of a box each."""
    same = [tuple(kinds[layer] for layer in box.layers if kinds[layer] is not None) for box in graph.boxes]
    rows: dict[int, int] = {}
    repeated: dict[int, int] = {}
    number = 0
    for run in _runs(graph):
        at = 0
        while at < len(run):
            period, times = _tandem([same[place] for place in run[at:]])
            mine = run[at : at + period * times]
            if times == 1 or not any(graph.boxes[place].forks for place in mine):
                at += 1
                continue
            for row in range(times):
                once_each = mine[row * period : (row + 1) * period]
                rows.update(dict.fromkeys(once_each, number + row))
                repeated.update(dict.fromkeys(once_each, number + row // ROWS))
            number += times
            at += len(mine)
    once = _joined(graph, rows)
    place_of = {layer: place for place, box in enumerate(once.boxes) for layer in box.layers}
    group = {place_of[graph.boxes[place].layers[0]]: which for place, which in repeated.items()}
    return _joined(once, group, rows=True)


def _tandem(signs: Sequence[Hashable]) -> tuple[int, int]:
    """How many of the first of these are a pattern, and how often it comes in a row; (1, 1) where it does not."""
    best = (1, 1)
    for period in range(1, min(_PERIOD, len(signs) // 2) + 1):
        pattern, times = signs[:period], 1
        while signs[times * period : (times + 1) * period] == pattern:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best
