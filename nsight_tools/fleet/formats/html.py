"""A fleet as one HTML page: what it is as a whole, then each report's own section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.fleet import words
from nsight_tools.fleet.results import Done
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.fleet.stragglers import Straggler
    from nsight_tools.report.formats import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet's page, which holds all that it shows."""
    return pages.page([each.section for each in fleet.done], overview=_overview(fleet))


def _overview(fleet: Fleet) -> str:
    """What stands before the reports: who is slow, who waits for whom, what they share."""
    linked = [(each, number) for number, each in enumerate(fleet.results, 1) if isinstance(each, Done)]
    walls = {label: numbers.wall for label, numbers in fleet.numbers.items()}
    ratios = {label: wall / others for label, wall in walls.items() if (others := fleet.others_ns(label))}
    spoiled = fleet.failed or fleet.stragglers or fleet.throttled or any(each.late for each in fleet.peers)
    why = words.why_not_judged(fleet)
    return pages.rendered(
        "fleet.html.j2",
        fleet=fleet,
        words=words,
        linked=linked,
        ratios=ratios,
        mood="warning" if spoiled else "info" if why else "good",
        why=why,
        stragglers=[(each, list(_told(fleet, each))) for each in fleet.stragglers],
    )


def _told(fleet: Fleet, each: Straggler) -> Iterator[tuple[str, str]]:
    alone = "; ".join(f"{finding.code} {finding.message}" for finding in fleet.alone_in(each.label))
    told = {"Lies in": words.explanation(each), "Since": words.since(each.since), "Deviates": words.deviates(each)}
    yield from ((label, said) for label, said in {**told, "Only here": alone}.items() if said)
