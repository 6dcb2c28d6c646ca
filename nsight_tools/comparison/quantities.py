"""Quantities of inferences as columns, dense or sparse, of which weighted sums are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nsight_tools.columns import Ints

    Floats = NDArray[np.float64]

SLICE = 1 << 20
"""Cells that are summed at a time."""


@dataclass(frozen=True)
class Cells:
    """A matrix of shape `(inferences, columns)` by its cells; several of one place add up."""

    inferences: int
    columns: int
    inference: Ints
    column: Ints
    value: Ints

    def sums(self, rows: Ints, count: int, weights: Floats | None = None) -> Floats:
        """The sum of each of `count` groups, shape (count, columns).

        `rows` gives the group of each inference, -1 for none; `weights` what each inference counts.
        """
        first = np.where(rows < 0, count, rows) * self.columns  # the last row takes what is in no group
        sums = np.zeros((count + 1) * self.columns)
        for begin in range(0, self.column.size, SLICE):
            chunk = slice(begin, begin + SLICE)
            inference, value = self.inference[chunk], self.value[chunk]
            place = first[inference] + self.column[chunk]
            sums += np.bincount(place, value if weights is None else value * weights[inference], sums.size)
        return sums.reshape(count + 1, self.columns)[:count]

    def weighted(self, weights: Floats) -> Floats:
        """Weighted sums over all inferences, shape (n,) to (columns,)."""
        sums = np.zeros(self.columns)
        for begin in range(0, self.column.size, SLICE):
            chunk = slice(begin, begin + SLICE)
            value = self.value[chunk] * weights[self.inference[chunk]]
            sums += np.bincount(self.column[chunk], value, self.columns)
        return sums


class Quantities:
    """Columns of n inferences in order of time: arrays of shape (n, some) and `Cells`, side by side."""

    def __init__(self, inferences: int, parts: Sequence[Floats | Cells]) -> None:
        self.inferences, self._parts = inferences, parts

    def weighted(self, weights: Floats) -> Floats:
        """Sums over all inferences for each row of `weights`, shape (r, n) to (r, k)."""
        parts = (
            weights @ part if isinstance(part, np.ndarray) else np.stack([part.weighted(weight) for weight in weights])
            for part in self._parts
        )
        return self._joined(len(weights), list(parts))

    def chunked(self, weights: Floats, starts: Ints) -> Floats:
        """Weighted sums over the stretches that begin at `starts`, the last one at the end; (n,) to (m, k)."""
        stretch = np.repeat(np.arange(starts.size), np.diff(np.append(starts, self.inferences)))
        parts = (
            np.add.reduceat(part * weights[:, None], starts, axis=0)
            if isinstance(part, np.ndarray)
            else part.sums(stretch, starts.size, weights)
            for part in self._parts
        )
        return self._joined(starts.size, list(parts))

    def every(self, step: int) -> Floats:
        """The values of every `step`-th inference, shape (ceil(n / step), k)."""
        count = -(-self.inferences // step)
        rows = np.full(self.inferences, -1, np.int64)
        rows[::step] = np.arange(count)
        parts = (part[::step] if isinstance(part, np.ndarray) else part.sums(rows, count) for part in self._parts)
        return self._joined(count, list(parts))

    @staticmethod
    def _joined(rows: int, parts: list[Floats]) -> Floats:
        return np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0))
