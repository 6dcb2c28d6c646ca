"""A fleet for machines: what JSON has beside its traces, as the traces' `schema-2.json` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nsight_tools.fleet.numbers import QUANTITIES
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.json import trace
from nsight_tools.report.formats.json.plain import plain

if TYPE_CHECKING:
    from nsight_tools.fleet.fold import Common, Fleet
    from nsight_tools.fleet.peers import Peers
    from nsight_tools.fleet.results import Done, Result
    from nsight_tools.fleet.stragglers import Group, Straggler
    from nsight_tools.report.context import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The reports as they are by themselves, and `fleet` over them, as JSON in ASCII."""
    whole = trace.document(fleet.reports) | {"fleet": plain(_fleet(fleet))}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _fleet(fleet: Fleet) -> dict[str, Any]:
    place = {id(done): at for at, done in enumerate(fleet.done)}
    return {
        "reports": [_report(result, place.get(id(result))) for result in fleet.results],
        "groups": [_group(fleet, group) for group in fleet.groups],
        "communicating": [_peers(peers) for peers in fleet.peers],
        "stragglers": [_straggler(straggler) for straggler in fleet.stragglers],
        "throttled": [
            {
                "host": throttled.host,
                "report": throttled.label,
                "gpus": throttled.gpus,
                "message": throttled.finding.message,
            }
            for throttled in fleet.throttled
        ],
        "findings": [_common(common) for common in fleet.common],
    }


def _report(result: Result, trace: int | None) -> dict[str, Any]:
    member = result.member
    document = {"label": member.label, "rank": member.rank, "host": member.host, "input": member.source, "trace": trace}
    return document | {"failed": getattr(result, "because", None), "typical_ns": _typical(result)}


def _typical(result: Result | Done) -> dict[str, float] | None:
    numbers = getattr(result, "numbers", None)
    return dict(zip(QUANTITIES, numbers.typical, strict=True)) if numbers else None


def _group(fleet: Fleet, group: Group) -> dict[str, Any]:
    return {
        "reports": group.labels,
        "judged": group.judged,
        "differs": [
            dict(zip(("aspect", "here", "largest_group"), difference, strict=True)) for difference in group.differs
        ],
        "spread": [
            {
                "quantity": spread.quantity,
                "median_ns": spread.median,
                "lowest": {"report": spread.lowest[0], "ns": spread.lowest[1]},
                "highest": {"report": spread.highest[0], "ns": spread.highest[1]},
            }
            for spread in fleet.spreads(group)
        ],
    }


def _peers(peers: Peers) -> dict[str, Any]:
    return {
        "late": peers.slowest.label if peers.late else None,
        "because": [{"kernel": name, "longer_ns": more} for name, more in peers.because],
        "ranks": [
            {"report": rank.label} | {name: value for name, value in asdict(rank).items() if name != "label"}
            for rank in peers.ranks
        ],
    }


def _straggler(straggler: Straggler) -> dict[str, Any]:
    return {
        "report": straggler.label,
        "quantity": straggler.quantity,
        "value_ns": straggler.value_ns,
        "others_ns": straggler.others_ns,
        "deviations": straggler.deviations,
        "last_quarter_only": straggler.late,
        "explained_by": [{"bucket": name, "excess_ns": lost} for name, lost in straggler.explained],
        "since": asdict(straggler.since),
    }


def _common(common: Common) -> dict[str, Any]:
    return {
        "code": common.code,
        "severity": common.severity.value,
        "reports": common.labels,
        "not_judged": common.unjudged,
        "largest_in": common.largest_in,
        "message": common.largest.message,
        "recoverable_ns_per_inference": common.recoverable_ns_per_inference,
        "share": common.share,
    }
