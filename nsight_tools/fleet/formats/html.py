"""A fleet as one HTML page: what it is as a whole, then each report's own section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.fleet import words
from nsight_tools.fleet.results import Done
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.html import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.fleet.stragglers import Straggler
    from nsight_tools.report.context import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet's page, which holds all that it shows."""
    return pages.page([done.section for done in fleet.done], overview=_overview(fleet))


def _overview(fleet: Fleet) -> str:
    """What stands before the reports: who is slow, who waits for whom, what they share."""
    linked = [(result, number) for number, result in enumerate(fleet.results, 1) if isinstance(result, Done)]
    walls = {label: numbers.wall for label, numbers in fleet.numbers.items()}
    ratios = {label: wall / others for label, wall in walls.items() if (others := fleet.others_ns(label))}
    spoiled = fleet.failed or fleet.stragglers or fleet.throttled or any(peers.late for peers in fleet.peers)
    why = words.why_not_judged(fleet)
    return pages.rendered(
        "fleet.html.j2",
        fleet=fleet,
        words=words,
        linked=linked,
        ratios=ratios,
        mood="warning" if spoiled else "info" if why else "good",
        why=why,
        stragglers=[(straggler, list(_told(fleet, straggler))) for straggler in fleet.stragglers],
    )


def _told(fleet: Fleet, straggler: Straggler) -> Iterator[tuple[str, str]]:
    alone = "; ".join(f"{finding.code} {finding.message}" for finding in fleet.alone_in(straggler.label))
    told = {
        "Lies in": words.explanation(straggler),
        "Since": words.since(straggler.since),
        "Deviates": words.deviates(straggler),
    }
    yield from ((label, text) for label, text in {**told, "Only here": alone}.items() if text)
