"""What could not be judged, by what would tell: a reader makes one capture, and not one for each analysis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.analysis import Outcome

_REMEDY = re.compile(r"(?:^|; |: )((?:capture|build|export|import|give|look|name|mark|see|compare)\b .*)")
"""A reason ends with what to do about it, behind what is the matter."""
NAMED = 2
"""Analyses of one remedy that are said in a sentence each; of more, what each is about."""


def by_remedy(groups: Iterable[tuple[str, Sequence[Outcome]]]) -> list[tuple[str, list[Outcome]]]:
    """Reasons with their outcomes, as `TraceReport.unjudged` gives them, by the remedy that the reason ends with.

    A reason that names none stands by itself.
    """
    found: dict[str, list[Outcome]] = {}
    for reason, outcomes in groups:
        remedy = _REMEDY.search(reason)
        found.setdefault(remedy[1] if remedy else reason, []).extend(outcomes)
    return [(remedy, sorted(outcomes, key=lambda each: each.code)) for remedy, outcomes in found.items()]


def told(outcomes: Sequence[Outcome]) -> str:
    """What one remedy would tell: `whether the clock drops, and whether copies block`; of more than two by topic."""
    if len(outcomes) > NAMED:
        return ", ".join(each.topic or each.code for each in outcomes)
    return ", and ".join(f"whether {_lower(each.summary.partition(': ')[0])}" for each in outcomes)


def _lower(text: str) -> str:
    """A sentence within another one; what begins with a name in capitals keeps it."""
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"
