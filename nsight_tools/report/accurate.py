"""How accurate a run's outputs are, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.report import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.accuracy import Accuracy, Agreement
    from nsight_tools.measured import Output

_NAMES = {"rel": "rel", "cos": "cos", "l0": "l0", "l1": "l1", "l2": "l2", "lInf": "lInf"}
"""Measures in the order in which they are said: those without a unit first."""


def told(accuracy: Accuracy) -> str:
    """The whole in one line: what it was compared with, whether it passes, and the worst output."""
    against = f"outputs against {safe.elided(accuracy.reference, 60)}"
    return f"{against}: {verdict(accuracy)}" + (f"; {worst(accuracy)}" if accuracy.passed else "")


def verdict(accuracy: Accuracy) -> str:
    """Whether it passes: `accurate enough (rel at most 0.05)`, or what is outside of its limits first."""
    failures = accuracy.failures
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    if failures:
        return f"accuracy is lost: {failures[0]}{more}"
    if accuracy.unjudged:
        return f"not judged: {'; '.join(accuracy.unjudged)}"
    return f"accurate enough ({_limits(accuracy)})"


def worst(accuracy: Accuracy) -> str:
    """The output whose error is the largest beside its values, and its measures."""
    farthest = max(accuracy.outputs, key=lambda output: output.rel or 0.0, default=None)
    return "there are none" if farthest is None else f"{safe.elided(farthest.output, 60)}: {measures(farthest)}"


def measures(agreement: Agreement) -> str:
    """`rel 0.0041, cos 0.99999, …, top-1 the same in 100 %`."""
    parts = [f"{name} {_number(value)}" for name in _NAMES if (value := agreement.value(name)) is not None]
    if agreement.top1 is not None:
        parts.append(f"top-1 the same in {units.share(agreement.top1)}")
    if agreement.broken:
        parts.append(f"{agreement.broken:,} of {agreement.values:,} values are NaN or infinite on one side only")
    if agreement.alike:
        parts.append(f"{agreement.alike:,} values are NaN or infinite on both sides")
    if agreement.faint:
        parts.append("but the reference is all but zero: other inputs (--load-inputs) would tell more")
    return ", ".join(parts) or "nothing to compare"


def odd(outputs: Sequence[Output]) -> Iterator[str]:
    """Outputs that hold values that are no numbers, and those that could not be read."""
    for output in outputs:
        name = safe.elided(output.name, 60)
        if output.nan or output.infinite:
            counts = ((output.nan, "NaN"), (output.infinite, "infinite"))
            parts = " and ".join(f"{count:,} {what}" for count, what in counts if count)
            yield f"output {name}: of {output.values:,} values {parts}"
        if output.not_read:
            yield f"output {name} was not read: {output.not_read}"


def every(outputs: Sequence[Output], accuracy: Accuracy | None) -> Iterator[tuple[str, str]]:
    """All of it, as labels and values."""
    yield from (("Outputs", text) for text in odd(outputs))
    if accuracy is None:
        return
    yield f"Outputs against {safe.elided(accuracy.reference, 60)}", verdict(accuracy)
    yield from ((f"Output {safe.elided(agreement.output, 60)}", measures(agreement)) for agreement in accuracy.outputs)


def _limits(accuracy: Accuracy) -> str:
    """The limits that an output is held to."""
    return ", ".join(limit.said() for limit in accuracy.limits if any(map(limit.holds, accuracy.outputs)))


def _number(value: float) -> str:
    """Four digits; of what is close to 1, as many as tell it from 1."""
    if value != 1 and abs(1 - value) < 0.001:
        return f"{value:.7f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"
