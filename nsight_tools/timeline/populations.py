"""Populations: requests that do the same work; and which of them are not steady, or stand out among the others."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.attribution import Words, WorkKind
from nsight_tools.timeline.intervals import Int64Array, IntArray, pieces
from nsight_tools.timeline.requests import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nsight_tools.timeline.requests import Found

    Hashes = NDArray[np.uint64]

FEWEST = 5
"""Fewer requests of a kind have nothing to stand out from, and are no population by themselves."""
EXPLAINED = 0.8
"""Share of the requests that a kind of likeness has to put into populations: else a looser one is tried."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class WorkTokens:
    """What each kernel, copy and graph is, as numbers: `exact` with grids and sizes, `loose` by name and kind alone.

    `kernels`, shape (kernels,), by the row in their table, and the same of copies and sets, and of whole graphs;
    `kind` and `row`, shape (n,), of each piece of GPU work.
    """

    kind: NDArray[np.int8]
    row: IntArray
    kernels: tuple[Hashes, Hashes]
    memory_ops: tuple[Hashes, Hashes]
    graphs: tuple[Hashes, Hashes]

    def exact(self, rows: IntArray) -> Hashes:
        """Of pieces of work by row, shape (m,)."""
        return self._of(rows, 0)

    def loose(self, rows: IntArray) -> Hashes:
        """The same without grids and sizes."""
        return self._of(rows, 1)

    def _of(self, rows: IntArray, how: int) -> Hashes:
        kind, row = self.kind[rows], self.row[rows]
        tokens = np.zeros(rows.size, np.uint64)
        for table, of_table in (
            (self.kernels, (kind == WorkKind.KERNEL) | (kind == WorkKind.COMMUNICATION)),
            (self.memory_ops, kind >= WorkKind.H2D),
            (self.graphs, kind == WorkKind.GRAPH),
        ):
            if of_table.all():
                return table[how][row].astype(np.uint64)
            tokens[of_table] = table[how][row[of_table]]
        return tokens


def mixed(keys: Hashes) -> Hashes:
    """Numbers whose sums differ where they do."""
    keys = (keys ^ (keys >> np.uint64(29))) * _MIX
    return (keys ^ (keys >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)


def hashed(*columns: IntArray) -> Hashes:
    """One number for each row of these columns, in the least memory: 32 bits of it."""
    key = np.zeros(columns[0].shape, np.uint64)
    for column in columns:
        key *= np.uint64(1_000_003)
        key += np.asarray(column).astype(np.uint64)
    return (mixed(key) >> np.uint64(32)).astype(np.uint32)


def populations(
    found: Found, owner: IntArray, tokens: WorkTokens, names: Words, group_by: str | None = None
) -> Int64Array:
    """A number for the population of each request, shape (n,), in order of first appearance.

    Requests are of one population if they do the same work: the same kernels with the same grids, and copies of as many
    bytes. Where that leaves a fifth of them and more without at least 5 of their kind (grids that follow the data), the
    same kernels are enough; where that is too strict, too, the same engines as often, and then the same engines (a
    decoder takes as many steps as the text is long). What a range's name says in numbers counts besides (`name_keys`),
    with `group_by` the number beside that text. `names` are those of `nvtx_ranges`.
    """
    count = len(found.requests)
    if not count:
        return np.zeros(0, np.int64)
    kinds = name_keys(names, found.requests.name, group_by)
    likeness = [
        _sums(count, owner, tokens.exact),
        _sums(count, owner, tokens.loose),
        _engines(found),
        _engines(found, once=True),
    ]
    for alike in likeness:
        number = numbered(alike + mixed(kinds))
        size = np.bincount(number)
        enough = max(2, min(FEWEST, count // 4))
        if size[size >= enough].sum() >= EXPLAINED * count:
            break
    return number


def _sums(count: int, owner: IntArray, tokens: Callable[[IntArray], Hashes]) -> Hashes:
    """The sum over each request's work, whatever its order."""
    sums = np.zeros(count, np.uint64)
    for piece in pieces(owner.size):
        mine = piece.start + np.flatnonzero(owner[piece] >= 0)
        np.add.at(sums, owner[mine], mixed(tokens(mine) + np.uint64(1)))
    return sums


def _engines(found: Found, *, once: bool = False) -> Hashes:
    """A number for the engines of each request, each counted `once` or as often as it comes.

    Its enqueues are those that start in it on its thread.
    """
    keys = np.zeros(len(found.requests), np.uint64)
    of = enqueues_of(found)
    pairs = np.stack([of[of >= 0], found.engine[of >= 0]])
    if once:
        pairs = np.unique(pairs, axis=1)
    np.add.at(keys, pairs[0], mixed(pairs[1].astype(np.uint64) + np.uint64(1)))
    return keys


def enqueues_of(found: Found) -> Int64Array:
    """The request of each enqueue, shape (enqueues,); -1 where none."""
    return found.requests.around(found.enqueues.thread, found.enqueues.start)


_NUMBER = re.compile(r"\d+")


def name_keys(names: Words, row: Int64Array, group_by: str | None = None) -> Hashes:
    """What the numbers in the ranges' names tell of the requests, shape (n,); `row` is that of the range, -1 for none.

    A number that counts the requests up says nothing. Of any other one counts whether it is zero: `3 ctx reqs, 5 gen
    reqs` is of another kind than `0 ctx reqs, 8 gen reqs`. With `group_by` only the number beside that text counts,
    with its value.
    """
    keys = np.zeros(row.size, np.uint64)
    known = np.flatnonzero(row >= 0)
    codes = names.codes[row[known]]
    distinct, which = np.unique(codes, return_inverse=True)
    if not distinct.size:
        return keys
    words = [names.dictionary[code] for code in distinct.tolist()]
    if group_by is not None:
        telling = [_number_beside(word, group_by) for word in words]
    else:
        numbers = [_NUMBER.findall(word) for word in words]
        weights = np.bincount(which.reshape(-1), minlength=len(words)).tolist()
        counters = _counters(numbers, weights)
        telling = [
            " ".join("0" if int(number) == 0 else "1" for at, number in enumerate(of_name) if at not in counters)
            for of_name in numbers
        ]
    code = {word: at + 1 for at, word in enumerate(dict.fromkeys(telling))}
    table = np.array([code[word] for word in telling], np.uint64)
    keys[known] = table[which.reshape(-1)]
    return keys


def _counters(numbers: Sequence[Sequence[str]], weights: Sequence[int]) -> set[int]:
    """Places of numbers that are another one for nearly every request."""
    counting = set()
    for place in range(max(map(len, numbers))):
        values: Counter[str] = Counter()
        for of_name, weight in zip(numbers, weights, strict=True):
            if place < len(of_name):
                values[of_name[place]] += weight
        if len(values) > max(2, 0.5 * sum(values.values())):
            counting.add(place)
    return counting


def _number_beside(name: str, text: str) -> str:
    """The number that stands before or behind a text in a name; "" where none does."""
    meant = re.escape(text.strip())
    match = re.search(rf"(\d+)\W*{meant}|{meant}\W*(\d+)", name)
    return (match[1] or match[2]) if match else ""


def marks(thread: Int64Array, population: Int64Array, engine: Int64Array, wall: Int64Array) -> NDArray[np.str_]:
    """What stands out among the requests of one population on a thread, in order of start; "" for nothing.

    Slow is what takes 1.2 times the median of its population on that thread and exceeds it by 5 scaled median absolute
    deviations (which no ordinary scatter does). The slow ones with which a thread or an engine begins are its
    `warm_up`: modules that are loaded, a graph's instantiation. A slow one that follows another population of the same
    engine on its thread is a `shape_change`. All other slow ones are `outlier`. Fewer than 5 requests have nothing to
    stand out from.
    """
    mark = np.full(wall.size, "", "U12")
    for of_thread in np.unique(thread):
        rows = np.flatnonzero(thread == of_thread)
        slow = np.zeros(rows.size, np.bool_)
        leads = np.zeros(rows.size, np.bool_)
        for kind in np.unique(population[rows]):
            alike = np.flatnonzero(population[rows] == kind)
            if alike.size < FEWEST:
                continue
            slow[alike] = far_above(wall[rows[alike]])
            leads[alike] = np.logical_and.accumulate(slow[alike])
        changes = np.append(False, population[rows][1:] != population[rows][:-1])
        changes &= np.append(False, engine[rows][1:] == engine[rows][:-1])
        new = np.zeros(rows.size, np.bool_)
        for of_engine in np.unique(engine[rows]):
            alike = np.flatnonzero(engine[rows] == of_engine)
            new[alike] = population[rows[alike]] == population[rows[alike[0]]]
        mark[rows[slow]] = "outlier"
        mark[rows[slow & leads & new]] = "warm_up"
        # The first of a population that its engine had not met, and each that follows a change.
        mark[rows[slow & ((leads & ~new) | changes)]] = "shape_change"
    return mark


def far_above(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Values that exceed the median by 5 scaled median absolute deviations, and by 20 %; shape (n,)."""
    median = np.median(values)
    scatter = 1.4826 * np.median(np.abs(values - median))  # the standard deviation, where it is normal
    above: NDArray[np.bool_] = values > max(1.2 * median, median + 5 * scatter)
    return above
