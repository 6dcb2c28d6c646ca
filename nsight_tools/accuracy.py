"""How far the outputs of a run are from those of a reference: trtexec's measures, and limits on them.

Only NumPy is needed: outputs are arrays by name, wherever they come from.

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

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Outputs = Mapping[str, Array]

ATOL = RTOL = 1e-5
"""trtexec's defaults of `--atol` and `--rtol`, of l0."""
FLOOR = 2.0**-14
"""FP16's smallest normal number. Seen on a text detector whose outputs for noise are all below 0.0002: FP16 and INT8
make zeros of most, which is right, and would be off by all of |r|."""
HIGHER_IS_BETTER = ("cos", "top1")
MEASURES = ("l0", "l1", "l2", "lInf", "cos", "rel", "top1")
_BLOCK = 1 << 20
"""Values that are worked on at once, so that outputs of any size take a few megabytes beside them."""


class AccuracyError(NsightToolsError):
    """Outputs that cannot be compared, or a limit that is none."""


@dataclass(frozen=True)
class Limit:
    """What a measure must be: at most `bound`, or at least where higher is better."""

    measure: str
    bound: float
    of: str = "all"
    """Outputs that it is for: all, floats, or whole (integers and booleans)."""

    @property
    def text(self) -> str:
        """As `--accuracy` takes it."""
        return f"{self.measure}:{self.bound:g}"

    def said(self) -> str:
        """`rel at most 0.05`."""
        return f"{self.measure} at {'least' if self.measure in HIGHER_IS_BETTER else 'most'} {self.bound:g}"

    def broken(self, by: Agreement) -> bool:
        """Whether the output is outside, or has too few finite values to tell; a measure that it has not is kept."""
        if self.of not in {"all", "whole" if by.whole else "floats"}:
            return False
        value = by.value(self.measure)
        if value is None:
            return self.measure != "top1"
        return value < self.bound if self.measure in HIGHER_IS_BETTER else value > self.bound


DEFAULT = (Limit("rel", 0.05, "floats"), Limit("l0", 0.05, "whole"))
"""Of floats: an error of a twentieth of the outputs. FP16 rounds to one part in 2,048; were that made in each of 400
layers, and did the errors add up at random, it would be 1 %. Seen on one text classifier, by ONNX Runtime on random
images of two kinds: FP16 0.001 to 0.002; INT8 with ranges 4 or 10 times too small or 30 times too large 0.13 to 0.76;
INT8 calibrated on four batches 0.06 and 0.52. So INT8 passes where it is nearly as good as FP16, and has to be allowed
more on purpose. At 0.1 it would come close to what is broken, at 0.025 to FP16. It holds cos at 0.9987 or more.
Of whole numbers, which are classes or places: one in twenty may differ."""


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
        return None if (found := getattr(self, measure)) is None else float(found)


@dataclass(frozen=True)
class Accuracy:
    """A run's outputs beside a reference's, and what the limits say."""

    reference: str
    """What it was compared with, in words."""
    outputs: tuple[Agreement, ...]
    limits: tuple[Limit, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What is outside of its limits, in words; empty where the run passes."""
        return tuple(text for each in self.outputs for text in _failures(each, self.limits))

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """As `run.json` holds it; `of_json` reads it."""
        said = {"passed": self.passed, "failures": list(self.failures)}
        return {"reference": self.reference, **said, **asdict(self, dict_factory=dict)}

    @classmethod
    def of_json(cls, data: object) -> Accuracy | None:
        """What `as_json` wrote; None for anything else."""
        try:
            outputs = tuple(_agreement(each) for each in data["outputs"])  # type: ignore[index]
            limits = tuple(_limit(each) for each in data["limits"])  # type: ignore[index]
            return cls(str(data["reference"]), outputs, limits)  # type: ignore[index]
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


def limits(text: str) -> tuple[Limit, ...]:
    """Limits as `--accuracy` takes them: `cos:0.999`, `rel:0.01,l0:0`. Raises ValueError in words."""
    return tuple(_read(part.strip()) for part in text.split(","))


def judged(outputs: Outputs, reference: Outputs, name: str, within: Iterable[Limit] = ()) -> Accuracy:
    """A run's outputs beside those of the reference that is called `name`, within these limits or the default ones.

    Raises AccuracyError where the two do not fit.
    """
    return Accuracy(name, compared(outputs, reference, name), tuple(within) or DEFAULT)


def compared(outputs: Outputs, reference: Outputs, name: str = "the reference") -> tuple[Agreement, ...]:
    """Each output beside the reference's of the same name, shape and sort of number, in the run's order.

    Raises AccuracyError where a name, a shape or a sort differs.
    """
    _fit(outputs, reference, name)
    return tuple(_compared(each, array, reference[each]) for each, array in outputs.items())


def classes(shape: Sequence[int]) -> bool:
    """Whether an output of this shape looks like classes: a batch of rows of two numbers or more, and nothing behind.

    Dimensions of one value do not count, but for the batch: 8 x 1000 and 1 x 1000 x 1 x 1 are classes; 8 x 1, 1000 and
    1 x 8400 x 85 are not. What gives vectors of features has the same shape, and then the number means little.
    """
    return len(shape) >= 2 and len([extent for extent in shape[1:] if extent != 1]) == 1 and min(shape) > 0


def _read(part: str) -> Limit:
    name, colon, bound = part.partition(":")
    measure = next((each for each in MEASURES if each.lower() == name.lower()), None)
    if measure is None or not colon:
        raise ValueError(f"{part or 'nothing'}: give a measure and its limit, as cos:0.999; there are {_any()}")
    try:
        value = float(bound)
    except ValueError:
        value = -1.0
    most = 1.0 if measure in {"l0", "cos", "top1"} else np.finfo(np.float64).max
    if not 0 <= value <= most:
        upper = "to 1" if most == 1 else "upwards"
        raise ValueError(f"{part}: the limit of {measure} is a number from 0 {upper}")
    return Limit(measure, value)


def _any() -> str:
    return f"{', '.join(MEASURES[:-1])} and {MEASURES[-1]}"


def _fit(outputs: Outputs, reference: Outputs, name: str) -> None:
    for missing, where in ((outputs.keys() - reference.keys(), name), (reference.keys() - outputs.keys(), "the run")):
        if missing:
            there = ", ".join((reference if where == name else outputs).keys())
            raise AccuracyError(
                f"{where} has no output {', '.join(sorted(missing))}: it has {there or 'none'}",
                hint="give a reference of the same model",
            )
    for each, array in outputs.items():
        other = reference[each]
        if array.shape != other.shape:
            raise AccuracyError(
                f"output {each} is {_shape(array)}, and {_shape(other)} in {name}",
                hint="give a reference of the same shapes, or run with its --shapes",
            )
        if _whole(array) != _whole(other) or other.dtype.kind not in "fiub":
            raise AccuracyError(
                f"output {each} is {array.dtype}, and {other.dtype} in {name}",
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
    rows, others = (each.reshape(array.shape[0], -1) for each in (array, reference))
    every = np.arange(len(rows))
    chosen, best = rows.argmax(axis=1), others.argmax(axis=1)
    right = (chosen == best) | (others[every, chosen] == others[every, best])
    return float((right & ~np.isnan(rows[every, chosen])).mean())


def _failures(output: Agreement, within: Iterable[Limit]) -> Iterator[str]:
    if output.broken:
        many = f"{output.broken:,} of {output.values:,} values"
        yield f"output {output.output}: {many} are NaN or infinite on one side only"
        return
    for limit in within:
        if limit.broken(output):
            value = output.value(limit.measure)
            found = "cannot be told: no value is finite" if value is None else f"is {value:.4g}"
            yield f"output {output.output}: {limit.measure} {found}, and must be {limit.said().partition(' ')[2]}"


def _agreement(data: Any) -> Agreement:
    numbers: dict[str, Any] = {name: None if data[name] is None else float(data[name]) for name in MEASURES}
    numbers |= {name: int(data[name]) for name in ("values", "broken", "alike")}
    if not all(value is None or np.isfinite(value) for value in numbers.values()):
        raise ValueError(numbers)
    numbers |= {name: bool(data[name]) for name in ("whole", "faint")}
    return Agreement(output=str(data["output"]), **numbers)


def _limit(data: Any) -> Limit:
    if data["measure"] not in MEASURES:
        raise ValueError(data["measure"])
    return Limit(str(data["measure"]), float(data["bound"]), str(data["of"]))
