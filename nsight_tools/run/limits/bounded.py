"""Least squares with bounds, from the normal equations alone: these are all that many samples leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

MOST_ROUNDS = 200
"""Rounds of exchanges; each is one linear system. Some 10 are usual, with a near solution to begin with 1 to 3."""
PATIENCE = 3
"""Rounds of exchanging all at once without fewer that are wrong, before one at a time: it then ends (Portugal)."""


def solve(normal: Floats, right: Floats, most: Floats, begin: npt.NDArray[np.int8] | None = None) -> Solution:
    """The x that minimizes x' normal x / 2 - right' x with 0 <= x <= most; shapes (k, k), (k,), (k,).

    Block principal pivoting (Portugal, Júdice, Vicente: "A comparison of block pivoting and interior-point algorithms
    for linear least squares problems with nonnegative variables", 1994), with upper bounds beside the lower ones.
    `normal` has to be positive definite. `begin` is where another solution's unknowns lie, as `Solution.at`.
    """
    at = np.zeros(right.size, np.int8) if begin is None else begin.copy()
    tolerance = 1e-9 * max(float(np.abs(right).max(initial=0)), 1e-300)
    fewest, patience = right.size + 1, PATIENCE
    x = np.zeros(right.size)
    for _ in range(MOST_ROUNDS):
        free = at == 0
        x = np.where(at > 0, most, 0.0)
        if free.any():
            x[free] = np.linalg.solve(normal[np.ix_(free, free)], right[free] - normal[free] @ x)
        slope = normal @ x - right
        below, above = free & (x < 0), free & (x > most)
        leave = ((at < 0) & (slope < -tolerance)) | ((at > 0) & (slope > tolerance))
        wrong = below | above | leave
        count = int(wrong.sum())
        if not count:
            break
        if count < fewest:
            fewest, patience = count, PATIENCE
        elif patience:
            patience -= 1
        else:
            only = np.zeros_like(wrong)
            only[np.flatnonzero(wrong)[-1]] = True
            below, above, leave = below & only, above & only, leave & only
        at[below], at[above], at[leave] = -1, 1, 0
    return Solution(np.clip(x, 0, most), at)


class Solution:
    """What was found: `x`, shape (k,), and `at`: -1 at the lower bound, 1 at the upper one, 0 between."""

    def __init__(self, x: Floats, at: npt.NDArray[np.int8]) -> None:
        self.x, self.at = x, at
