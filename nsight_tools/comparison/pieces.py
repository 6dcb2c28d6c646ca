"""Kernels of the compared inferences by a word of theirs: their layer, or their name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.quantities import Cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.columns import Ints
    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.timeline.attribution import Words


@dataclass(frozen=True)
class Pieces:
    """Kernels of the compared inferences, each column of shape (n,): inference (its row), word, duration."""

    inferences: int
    inference: Ints
    word: Words
    duration: Ints

    def totals(self) -> dict[str, int]:
        """Nanoseconds by word, over all inferences."""
        named = self.word.codes >= 0
        length = len(self.word.dictionary)
        sums = np.bincount(self.word.codes[named], weights=self.duration[named], minlength=length)
        counts = np.bincount(self.word.codes[named], minlength=length)
        return {word: int(sums[i]) for i, word in enumerate(self.word.dictionary) if counts[i]}

    def calls(self, keys: Mapping[str, int], columns: int) -> Floats:
        """How many there are for an inference, by column; `keys` gives the column of each word."""
        column = self._columns(keys)
        counts: Floats = np.bincount(column[column >= 0], minlength=columns).astype(np.float64)
        counts /= max(self.inferences, 1)
        return counts

    def cells(self, keys: Mapping[str, int], columns: int) -> Cells:
        """Nanoseconds of each inference by column."""
        column = self._columns(keys)
        known = slice(None) if column.min(initial=0) >= 0 else column >= 0
        return Cells(self.inferences, columns, self.inference[known], column[known], self.duration[known])

    def _columns(self, keys: Mapping[str, int]) -> Ints:
        by_code = np.array([*(keys.get(word, -1) for word in self.word.dictionary), -1], np.int64)
        column: Ints = by_code[np.maximum(self.word.codes, -1)]
        return column


def keyed(names: Sequence[Mapping[str, int]], merge: dict[str, str], most: int) -> tuple[list[str], dict[str, int]]:
    """Rows for the words of two runs (their totals, by word), and the row of each word.

    `merge` gives the row's name where that is not the word. Of many rows the `most` with the most time in either run
    stay by themselves; the last one takes the others.
    """
    weight: dict[str, int] = {}
    for totals in names:
        for word, total in totals.items():
            key = merge.get(word, word)
            weight[key] = weight.get(key, 0) + total
    order = sorted(weight, key=lambda key: (-weight[key], key))
    rows = order[:most] + ([f"{len(order) - most:,} others"] if len(order) > most else [])
    place = {key: min(at, most) for at, key in enumerate(order)}
    return rows, {word: place[merge.get(word, word)] for totals in names for word in totals}
