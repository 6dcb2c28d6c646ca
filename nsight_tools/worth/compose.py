"""Several changes, in the order in which each brings the most: what is left after each, in one replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.findings import Change, Finding
from nsight_tools.worth.price import SHARED, Pricing, Worth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.trace import Trace
    from nsight_tools.worth.price import Known


@dataclass(frozen=True)
class Stage:
    """One more change on top of those before it."""

    change: Change
    together: Worth
    """What it and all before it are worth, made together."""

    @property
    def option(self) -> str:
        return self.change.option

    @property
    def value(self) -> bool | int | str:
        return self.change.value

    @property
    def after_ns(self) -> float:
        """What is left of the request, or of the period."""
        return self.together.before_ns - self.together.point_ns


def compose(
    trace: Trace, changes: Iterable[tuple[str, bool | int | str]], untraced: Known | None = None
) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """The changes that can be replayed, the most useful first, and the options that are left out of it.

    All are judged by the period where one of them puts several requests under way, else by the wall; what brings
    nothing any more behind those before it is left out, too.
    """
    pricing, left = Pricing.of(trace, untraced), dict(changes)
    out = [option for option in left if option in SHARED]
    for option in out:
        del left[option]
    per = "period" if "overlap_transfers" in left or pricing.per == "period" else "wall"
    stages: list[Stage] = []
    while left:
        made = {stage.option: stage.value for stage in stages}
        worths = {option: pricing.price(made | {option: value}, per) for option, value in left.items()}
        best = max(worths, key=lambda option: worths[option].point_ns if worths[option].promises else 0.0)
        so_far = stages[-1].together.point_ns if stages else 0.0
        if not worths[best].promises or worths[best].point_ns <= so_far:
            break
        stages.append(Stage(Change(best, left.pop(best)), worths[best]))
    return tuple(stages), (*out, *left)


@dataclass(frozen=True)
class Plan:
    """What the changes of a trace's findings give together: the most useful first, nothing counted twice."""

    stages: tuple[Stage, ...]
    left_out: tuple[Change, ...]
    """Changes that bring nothing behind those before them, or that no replay can price."""

    @property
    def worth(self) -> Worth:
        """What all of them are worth, made together."""
        return self.stages[-1].together

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes in their order."""
        return tuple(stage.change for stage in self.stages)


def plan(trace: Trace, findings: Iterable[Finding]) -> Plan | None:
    """What the changes that these findings promise time for give together; None where no replay promises any.

    Findings that follow from others are not among them: what they follow from has to be changed first.
    """
    worthwhile = list(findings)
    promised = [
        change for finding in worthwhile if finding.recoverable_between_ns is not None for change in finding.change
    ]
    if not promised:
        return None
    stages, _ = compose(trace, {change.option: change.value for change in promised}.items())
    if not stages:
        return None
    made = {stage.option for stage in stages}
    others = dict.fromkeys(change for finding in worthwhile for change in finding.change if change.option not in made)
    return Plan(stages, tuple(others))
