"""How far outputs are from those of a reference: trtexec's measures, and two of our own.

With a an output's n values and r the reference's, d = a - r, trtexec 11 (`--accuracyAlgorithm`) measures

    l0    the share of values with |d| > atol + rtol |r|; both tolerances are 1e-5 there by default, and here
    l1    sum |d| / n, the mean error
    l2    sum d² / n, the mean squared error (no root is taken)
    lInf  max |d|
    cos   1 - (a·r) / (|a| |r|) there; here (a·r) / (|a| |r|) itself, so that `cos:0.999` is its threshold of 0.001

Two more are of this program:

    rel   |d| / |r|, with Euclid's lengths: how large the error is beside the reference, whatever its unit, and unlike
          cos not blind to values that are all too large. |r| is taken to be FP16's smallest normal number a value at
          least (`FLOOR`): smaller numbers have no relative precision in FP16.
    top1  the share of rows whose largest value is in the same place, of outputs that look like classes (`classes`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = NDArray[Any]
Outputs = Mapping[str, Array]
"""Arrays by the name of the output."""

ATOL = RTOL = 1e-5
"""trtexec's defaults of `--atol` and `--rtol`, of l0."""
FLOOR = 2.0**-14
"""FP16's smallest normal number. Seen on a text detector that finds nothing in noise, so that its outputs are all below
0.003 and most below 1e-8: INT8 makes zeros of them, which is right, and would be off by all of |r|."""
MEASURES = ("l0", "l1", "l2", "lInf", "cos", "rel", "top1")
_BLOCK = 1 << 20
"""Values that are worked on at once, so that outputs of any size take a few megabytes beside them."""


class AccuracyError(NsightToolsError):
    """Outputs that cannot be compared."""


@dataclass(frozen=True)
class Agreement:
    """One output beside the reference's; measures are None where nothing finite is there to compare."""

    output: str
    values: int
    whole: bool
    """Integers or booleans."""
    l0: float | None
    l1: float | None
    l2: float | None
    lInf: float | None  # noqa: N815 (trtexec's name)
    cos: float | None
    rel: float | None
    top1: float | None
    """None for outputs that do not look like classes."""
    broken: int = 0
    """Values that are NaN or infinite on one side and something else on the other. Where there are any, only l0 and
    top1 are told: they are in no mean."""
    alike: int = 0
    """Values that are NaN or infinite on both sides, and the same: left out of the measures."""
    faint: bool = False
    """Whether the reference's values are below `FLOOR` on the whole: then agreement says little."""

    def value(self, measure: str) -> float | None:
        return None if (value_of := getattr(self, measure)) is None else float(value_of)


def compared(outputs: Outputs, reference: Outputs, name: str = "the reference") -> tuple[Agreement, ...]:
    """Each output beside the reference's of the same name, shape and sort of number, in the run's order.

    Raises AccuracyError where a name, a shape or a sort differs.
    """
    _fit(outputs, reference, name)
    return tuple(_compared(output, array, reference[output]) for output, array in outputs.items())


def classes(shape: Sequence[int]) -> bool:
    """Whether an output of this shape looks like classes: a batch of rows of two numbers or more, and nothing behind.

    Dimensions of one value do not count, but for the batch: 8 x 1000 and 1 x 1000 x 1 x 1 are classes; 8 x 1, 1000 and
    1 x 8400 x 85 are not. What gives vectors of features has the same shape, and then the number means little.
    """
    return len(shape) >= 2 and len([extent for extent in shape[1:] if extent != 1]) == 1 and min(shape) > 0


def _fit(outputs: Outputs, reference: Outputs, name: str) -> None:
    for missing, where in ((outputs.keys() - reference.keys(), name), (reference.keys() - outputs.keys(), "the run")):
        if missing:
            there = ", ".join((reference if where == name else outputs).keys())
            raise AccuracyError(
                f"{where} has no output {', '.join(sorted(missing))}: it has {there or 'none'}",
                hint="give a reference of the same model",
            )
    for name_of_output, array in outputs.items():
        other = reference[name_of_output]
        if array.shape != other.shape:
            raise AccuracyError(
                f"output {name_of_output} is {_shape(array)}, and {_shape(other)} in {name}",
                hint="give a reference of the same shapes, or run with its --shapes",
            )
        if _whole(array) != _whole(other) or other.dtype.kind not in "fiub":
            raise AccuracyError(
                f"output {name_of_output} is {array.dtype}, and {other.dtype} in {name}",
                hint="give a reference of the same model",
            )


def _shape(array: Array) -> str:
    return "x".join(map(str, array.shape)) or "a scalar"


def _whole(array: Array) -> bool:
    return array.dtype.kind in "iub"


def _compared(name: str, array: Array, reference: Array) -> Agreement:
    sums = _Sums()
    for a, r in _blocks(array, reference):
        sums.add(a, r)
    count = sums.compared
    ends: dict[str, Any] = dict.fromkeys(("l1", "l2", "lInf", "cos", "rel"))
    if not sums.broken and (count or not array.size):
        n = max(count, 1)
        ends = {"l1": sums.d1 / n, "l2": sums.d2 / n, "lInf": sums.most, "cos": _cos(sums), "rel": _rel(sums)}
    l0 = (sums.outside + sums.broken) / max(count + sums.broken, 1) if count or sums.broken or not array.size else None
    top1 = _top1(array, reference) if classes(array.shape) and not _whole(array) else None
    faint = bool(count) and sums.other < count * FLOOR**2
    counts = {"broken": sums.broken, "alike": sums.alike}
    return Agreement(name, int(array.size), _whole(array), l0=l0, top1=top1, faint=faint, **counts, **ends)


def _blocks(array: Array, reference: Array) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    flat = array.reshape(-1), reference.reshape(-1)
    for begin in range(0, array.size, _BLOCK):
        a, r = (side[begin : begin + _BLOCK].astype(np.float64) for side in flat)
        yield a, r


class _Sums:
    """What the measures are made of, of the finite values."""

    def __init__(self) -> None:
        self.compared = self.outside = self.broken = self.alike = 0
        self.d1 = self.d2 = self.most = self.product = self.own = self.other = 0.0

    def add(self, a: NDArray[np.float64], r: NDArray[np.float64]) -> None:
        finite = np.isfinite(a) & np.isfinite(r)
        if not finite.all():
            odd_a, odd_r = a[~finite], r[~finite]
            same = int(((odd_a == odd_r) | (np.isnan(odd_a) & np.isnan(odd_r))).sum())
            self.alike += same
            self.broken += odd_a.size - same
            a, r = a[finite], r[finite]
        if not a.size:
            return
        d = np.abs(a - r)
        self.compared += a.size
        self.outside += int((d > ATOL + RTOL * np.abs(r)).sum())
        self.d1 += float(d.sum())
        self.d2 += float(d @ d)
        self.most = max(self.most, float(d.max()))
        self.product += float(a @ r)
        self.own += float(a @ a)
        self.other += float(r @ r)


def _cos(sums: _Sums) -> float:
    """1 for two that are all zeros; 0 where one is."""
    if not sums.own or not sums.other:
        return float(sums.own == sums.other)
    return float(np.clip(sums.product / (np.sqrt(sums.own) * np.sqrt(sums.other)), -1, 1))


def _rel(sums: _Sums) -> float:
    return float(np.sqrt(sums.d2) / max(np.sqrt(sums.other), FLOOR * np.sqrt(max(sums.compared, 1))))


def _top1(array: Array, reference: Array) -> float:
    """Ties of the reference are right either way. A row whose largest is no number is wrong."""
    rows, others = (values.reshape(array.shape[0], -1) for values in (array, reference))
    every = np.arange(len(rows))
    chosen, best = rows.argmax(axis=1), others.argmax(axis=1)
    right = (chosen == best) | (others[every, chosen] == others[every, best])
    return float((right & ~np.isnan(rows[every, chosen])).mean())
