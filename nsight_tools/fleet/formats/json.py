"""A fleet for machines: what JSON has beside its traces, as the traces' `schema-2.json` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nsight_tools.fleet.numbers import QUANTITIES
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.json import trace
from nsight_tools.report.formats.json.plain import plain

if TYPE_CHECKING:
    from nsight_tools.fleet.fold import Common, Fleet
    from nsight_tools.fleet.peers import Peers
    from nsight_tools.fleet.results import Done, Result
    from nsight_tools.fleet.stragglers import Group, Straggler
    from nsight_tools.report.formats import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The reports as they are by themselves, and `fleet` over them, as JSON in ASCII."""
    whole = trace.document(fleet.reports) | {"fleet": plain(_fleet(fleet))}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _fleet(fleet: Fleet) -> dict[str, Any]:
    place = {id(each): at for at, each in enumerate(fleet.done)}
    return {
        "reports": [_report(each, place.get(id(each))) for each in fleet.results],
        "groups": [_group(fleet, each) for each in fleet.groups],
        "communicating": [_peers(each) for each in fleet.peers],
        "stragglers": [_straggler(each) for each in fleet.stragglers],
        "throttled": [
            {"host": each.host, "report": each.label, "gpus": each.gpus, "message": each.finding.message}
            for each in fleet.throttled
        ],
        "findings": [_common(each) for each in fleet.common],
    }


def _report(result: Result, trace: int | None) -> dict[str, Any]:
    member = result.member
    said = {"label": member.label, "rank": member.rank, "host": member.host, "input": member.source, "trace": trace}
    return said | {"failed": getattr(result, "because", None), "typical_ns": _typical(result)}


def _typical(result: Result | Done) -> dict[str, float] | None:
    numbers = getattr(result, "numbers", None)
    return dict(zip(QUANTITIES, numbers.typical, strict=True)) if numbers else None


def _group(fleet: Fleet, group: Group) -> dict[str, Any]:
    return {
        "reports": group.labels,
        "judged": group.judged,
        "differs": [dict(zip(("aspect", "here", "largest_group"), each, strict=True)) for each in group.differs],
        "spread": [
            {
                "quantity": each.quantity,
                "median_ns": each.median,
                "lowest": {"report": each.lowest[0], "ns": each.lowest[1]},
                "highest": {"report": each.highest[0], "ns": each.highest[1]},
            }
            for each in fleet.spreads(group)
        ],
    }


def _peers(each: Peers) -> dict[str, Any]:
    return {
        "late": each.slowest.label if each.late else None,
        "because": [{"kernel": name, "longer_ns": more} for name, more in each.because],
        "ranks": [
            {"report": one.label} | {name: value for name, value in asdict(one).items() if name != "label"}
            for one in each.ranks
        ],
    }


def _straggler(each: Straggler) -> dict[str, Any]:
    return {
        "report": each.label,
        "quantity": each.quantity,
        "value_ns": each.value_ns,
        "others_ns": each.others_ns,
        "deviations": each.deviations,
        "last_quarter_only": each.late,
        "explained_by": [{"bucket": name, "excess_ns": lost} for name, lost in each.explained],
        "since": asdict(each.since),
    }


def _common(each: Common) -> dict[str, Any]:
    return {
        "code": each.code,
        "severity": each.severity.value,
        "reports": each.labels,
        "not_judged": each.unjudged,
        "largest_in": each.largest_in,
        "message": each.largest.message,
        "recoverable_ns_per_inference": each.recoverable_ns_per_inference,
        "share": each.share,
    }
