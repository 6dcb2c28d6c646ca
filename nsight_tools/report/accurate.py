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


def told(found: Accuracy) -> str:
    """The whole in one line: what it was compared with, whether it passes, and the worst output."""
    against = f"outputs against {safe.elided(found.reference, 60)}"
    return f"{against}: {verdict(found)}" + (f"; {worst(found)}" if found.passed else "")


def verdict(found: Accuracy) -> str:
    """Whether it passes: `accurate enough (rel at most 0.05)`, or what is outside of its limits first."""
    failures = found.failures
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    if failures:
        return f"accuracy is lost: {failures[0]}{more}"
    if found.unjudged:
        return f"not judged: {'; '.join(found.unjudged)}"
    return f"accurate enough ({_limits(found)})"


def worst(found: Accuracy) -> str:
    """The output whose error is the largest beside its values, and its measures."""
    each = max(found.outputs, key=lambda one: one.rel or 0.0, default=None)
    return "there are none" if each is None else f"{safe.elided(each.output, 60)}: {measures(each)}"


def measures(each: Agreement) -> str:
    """`rel 0.0041, cos 0.99999, …, top-1 the same in 100 %`."""
    parts = [f"{name} {_number(value)}" for name in _NAMES if (value := each.value(name)) is not None]
    if each.top1 is not None:
        parts.append(f"top-1 the same in {units.share(each.top1)}")
    if each.broken:
        parts.append(f"{each.broken:,} of {each.values:,} values are NaN or infinite on one side only")
    if each.alike:
        parts.append(f"{each.alike:,} values are NaN or infinite on both sides")
    if each.faint:
        parts.append("but the reference is all but zero: other inputs (--load-inputs) would tell more")
    return ", ".join(parts) or "nothing to compare"


def odd(outputs: Sequence[Output]) -> Iterator[str]:
    """Outputs that hold values that are no numbers, and those that could not be read."""
    for each in outputs:
        name = safe.elided(each.name, 60)
        if each.nan or each.infinite:
            counts = ((each.nan, "NaN"), (each.infinite, "infinite"))
            parts = " and ".join(f"{count:,} {what}" for count, what in counts if count)
            yield f"output {name}: of {each.values:,} values {parts}"
        if each.not_read:
            yield f"output {name} was not read: {each.not_read}"


def every(outputs: Sequence[Output], found: Accuracy | None) -> Iterator[tuple[str, str]]:
    """All of it, as labels and values."""
    yield from (("Outputs", text) for text in odd(outputs))
    if found is None:
        return
    yield f"Outputs against {safe.elided(found.reference, 60)}", verdict(found)
    yield from ((f"Output {safe.elided(each.output, 60)}", measures(each)) for each in found.outputs)


def _limits(found: Accuracy) -> str:
    """The limits that an output is held to."""
    return ", ".join(each.said() for each in found.limits if any(map(each.holds, found.outputs)))


def _number(value: float) -> str:
    """Four digits; of what is close to 1, as many as tell it from 1."""
    if value != 1 and abs(1 - value) < 0.001:
        return f"{value:.7f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"
