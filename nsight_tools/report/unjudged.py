"""What could not be judged, in words: by what would tell, so that a reader makes one capture for many analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.analysis import Outcome

NAMED = 2
"""Analyses of one remedy that are said in a sentence each; of more, what each is about."""


def grouped(outcomes: Iterable[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """What could not be judged, by the remedy, or by the reason where none is known; the one for most first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.remedy or outcome.reason, []).append(outcome)
    return sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0].code))


def told(outcomes: Sequence[Outcome]) -> str:
    """What one remedy would tell: `whether the clock drops, and whether copies block`; of more than two by topic."""
    if len(outcomes) > NAMED:
        return ", ".join(outcome.topic or outcome.code for outcome in outcomes)
    return ", and ".join(f"whether {units.within(outcome.summary.partition(': ')[0])}" for outcome in outcomes)


def matter(outcome: Outcome) -> str:
    """What is in the way, beside the remedy; empty where the remedy says it all, or no remedy is known."""
    return outcome.reason.removesuffix(outcome.remedy).removesuffix("; ") if outcome.remedy else ""
