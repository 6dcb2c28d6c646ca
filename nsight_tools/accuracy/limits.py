"""What measures must be, and whether they are: `--accuracy`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.accuracy.measures import MEASURES, Agreement, compared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsight_tools.accuracy.measures import Outputs

HIGHER_IS_BETTER = ("cos", "top1")
_WANTED = {"top1": "looks like classes (a batch of rows, a number for each class)"}
"""What an output must be to be held to a measure."""


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

    def holds(self, output: Agreement) -> bool:
        """Whether the output is held to it: it is of that sort, and looks like classes where those are asked for."""
        sort = self.of in {"all", "whole" if output.whole else "floats"}
        return sort and (self.measure != "top1" or output.top1 is not None)

    def broken(self, by: Agreement) -> bool:
        """Whether the output is outside, or has too few finite values to tell; False where it is not held to it."""
        if not self.holds(by):
            return False
        value = by.value(self.measure)
        if value is None:
            return True
        return value < self.bound if self.measure in HIGHER_IS_BETTER else value > self.bound


DEFAULT = (Limit("rel", 0.05, "floats"), Limit("l0", 0.05, "whole"))
"""Of floats: an error of a twentieth of the outputs. FP16 rounds to one part in 2,048; were that made in each of 400
layers, and did the errors add up at random, it would be 1 %. Seen on one text classifier, by ONNX Runtime on random
images of two kinds: FP16 0.001 to 0.002; INT8 with ranges 4 or 10 times too small or 30 times too large 0.13 to 0.76;
INT8 calibrated on four batches 0.06 and 0.52. So INT8 passes where it is nearly as good as FP16, and has to be allowed
more on purpose. At 0.1 it would come close to what is broken, at 0.025 to FP16. It holds cos at 0.9987 or more.
Of whole numbers, which are classes or places: one in twenty may differ."""


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
        return tuple(text for output in self.outputs for text in _failures(output, self.limits))

    @property
    def unjudged(self) -> tuple[str, ...]:
        """The limits that no output can be held to, in words: what was asked for and not judged has not passed.

        The default limits are for two sorts of outputs, of which a run may have one.
        """
        held = {limit for limit in self.limits if any(map(limit.holds, self.outputs))}
        left = [limit for limit in self.limits if limit not in held and (limit.of == "all" or not held)]
        return tuple(f"{limit.said()}: no output {_WANTED.get(limit.measure, 'is there to compare')}" for limit in left)

    @property
    def passed(self) -> bool:
        """Whether all limits hold; False where one could not be judged."""
        return not self.failures and not self.unjudged

    def as_json(self) -> dict[str, Any]:
        """As `run.json` holds it; `of_json` reads it."""
        judged = {"passed": self.passed, "failures": [*self.failures, *self.unjudged]}
        return {"reference": self.reference, **judged, **asdict(self, dict_factory=dict)}

    @classmethod
    def of_json(cls, data: object) -> Accuracy | None:
        """What `as_json` wrote; None for anything else."""
        try:
            outputs = tuple(_agreement(agreement) for agreement in data["outputs"])  # type: ignore[index]
            limits = tuple(_limit(limit) for limit in data["limits"])  # type: ignore[index]
            return cls(str(data["reference"]), outputs, limits)  # type: ignore[index]
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


def limits(text: str) -> tuple[Limit, ...]:
    """Limits as `--accuracy` takes them: `cos:0.999`, `rel:0.01,l0:0`. Raises ValueError in words."""
    return tuple(_read(limit.strip()) for limit in text.split(","))


def judged(outputs: Outputs, reference: Outputs, name: str, within: Iterable[Limit] = ()) -> Accuracy:
    """A run's outputs beside those of the reference that is called `name`, within these limits or the default ones.

    Raises AccuracyError where the two do not fit.
    """
    return Accuracy(name, compared(outputs, reference, name), tuple(within) or DEFAULT)


def _read(text: str) -> Limit:
    name, colon, bound = text.partition(":")
    measure = next((measure for measure in MEASURES if measure.lower() == name.lower()), None)
    if measure is None or not colon:
        raise ValueError(f"{text or 'nothing'}: give a measure and its limit, as cos:0.999; there are {_any()}")
    try:
        value = float(bound)
    except ValueError:
        value = -1.0
    most = 1.0 if measure in {"l0", "cos", "top1"} else np.finfo(np.float64).max
    if not 0 <= value <= most:
        upper = "to 1" if most == 1 else "upwards"
        raise ValueError(f"{text}: the limit of {measure} is a number from 0 {upper}")
    return Limit(measure, value)


def _any() -> str:
    return f"{', '.join(MEASURES[:-1])} and {MEASURES[-1]}"


def _failures(output: Agreement, within: Iterable[Limit]) -> Iterator[str]:
    if output.broken:
        many = f"{output.broken:,} of {output.values:,} values"
        yield f"output {output.output}: {many} are NaN or infinite on one side only"
        return
    for limit in within:
        if limit.broken(output):
            value = output.value(limit.measure)
            came_out = "cannot be told: no value is finite" if value is None else f"is {value:.4g}"
            yield f"output {output.output}: {limit.measure} {came_out}, and must be {limit.said().partition(' ')[2]}"


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
