"""What every format says of a fleet, in words."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.comparison.resampling import ENOUGH
from nsight_tools.fleet.stragglers import FEWEST, SHARE
from nsight_tools.report.claims import claim
from nsight_tools.report.content import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.fleet.fold import Common, Fleet, Throttled
    from nsight_tools.fleet.peers import Peer, Peers
    from nsight_tools.fleet.results import Done
    from nsight_tools.fleet.stragglers import Group, Since, Straggler

_SET = re.compile(r" ?\(?\bset [0-9a-f]{6}\b\)?")
"""What tells two sets of kernels or grids apart, and nobody reads."""
WHOLE = "from first to last event"
TYPICAL = "mean over the middle half by time, as traced, warm-up left out"
ROWS = 32
"""Reports that a page lists; of more, those that are fastest and slowest."""


def quantity(name: str) -> str:
    """The wall, or a bucket."""
    return WHOLE if name == "wall" else BUCKETS[name]


def verdict(fleet: Fleet) -> str:
    """The line that a hurried reader reads."""
    parts = [f"{len(fleet.results)} reports"]
    if fleet.failed:
        parts.append(f"{len(fleet.failed)} failed ({together([failed.member.label for failed in fleet.failed])})")
    judged = any(group.judged for group in fleet.groups)
    if fleet.stragglers:
        names = together([straggler.label for straggler in fleet.stragglers])
        first = fleet.stragglers[0]
        alone = f", {first.label}" if len(fleet.stragglers) > 1 else ""
        parts.append(f"{units.plural(len(fleet.stragglers), 'straggler')}: {names}{alone} {excess(first)}")
    elif judged:
        parts.append("no straggler")
    parts += [waits_for(peers) for peers in fleet.peers if peers.late]
    if fleet.throttled:
        labels = list(dict.fromkeys(throttled.label for throttled in fleet.throttled))
        parts.append(f"GPU clocks drop in {together(labels)}")
    return "; ".join(parts)


def excess(straggler: Straggler) -> str:
    """How much it stands out: takes 20 % longer (3.60 ms for an inference, median of the reports 3.00 ms)."""
    value, others = units.duration(straggler.value_ns), units.duration(straggler.others_ns)
    numbers = f"{value} for an inference, median of the reports {others}"
    ratio = straggler.value_ns / straggler.others_ns if straggler.others_ns else float("inf")
    if straggler.quantity != "wall":
        return f"spends more in '{quantity(straggler.quantity)}' ({numbers}), though its inferences take no longer"
    late = " in the last quarter of its inferences" if straggler.late else ""
    longer = f"{units.share(ratio - 1)} longer" if ratio < 2 else f"{ratio:.1f} times as long"
    return f"takes {longer}{late} ({numbers})"


def explanation(straggler: Straggler) -> str:
    """Which buckets the wall's excess lies in."""
    if not straggler.explained:
        return "" if straggler.quantity != "wall" else "no bucket explains it by itself"
    parts = [
        f"{quantity(name)} {units.share(lost / straggler.excess_ns)} ({units.duration(lost)})"
        for name, lost in straggler.explained
    ]
    return f"{', '.join(parts)} of the {units.duration(straggler.excess_ns)}"


def deviates(straggler: Straggler) -> str:
    """How sure it is."""
    times = f"{straggler.deviations:.0f}" if straggler.deviations < 100 else "over 100"
    return f"by {times} times what the others differ by, or one of them drifts"


def since(when: Since) -> str:
    """Its first inference, or number and time of the one from which on it is slow."""
    if when.how == "start":
        return "its first inference"
    at = f"inference {when.inference:,}, {units.moment(when.time_ns)} into its session"
    if when.utc_ns is not None:
        at += f", {_utc(when.utc_ns)}"
    return at if when.how == "since" else f"on and off, first at {at}"


def _utc(ns: int) -> str:
    """The moment that a session's clock gives; dates that no calendar has are left in seconds."""
    try:
        moment = datetime.fromtimestamp(ns // 1_000_000_000, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{ns / 1e9:.0f} s since 1970"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def waits_for(peers: Peers) -> str:
    """Who waits for whom, and how long: rank0 waits 1.60 ms of each inference for rank1."""
    most = peers.waits_most
    others = len(peers.ranks) - 1
    who = (
        rank(peers, most)
        if others == 1
        else f"{others} ranks wait for {rank(peers, peers.slowest)}: {rank(peers, most)}"
    )
    behind = f" for {rank(peers, peers.slowest)}" if others == 1 else ""
    return f"{who} waits {units.duration(most.waits_ns)} of each inference{behind}"


def rank(peers: Peers, peer: Peer) -> str:
    """A rank by its label; with its GPU where a report has several."""
    several = sum(other.label == peer.label for other in peers.ranks) > 1
    return f"{peer.label} (GPU {peer.device})" if several else peer.label


def why_late(peers: Peers) -> str:
    """What the late rank does while the others wait."""
    if not peers.late:
        return "none is late: what their communication takes is the transfer"
    late, most = peers.slowest, peers.waits_most
    if not peers.because:
        return (
            f"{rank(peers, late)} begins its collectives last, and its own kernels do not explain it: its host "
            "launches late, or waits for input"
        )
    named = ", ".join(f"{name} ({units.duration(more)})" for name, more in peers.because)
    return (
        f"{rank(peers, late)} computes longer: its other kernels take {units.duration(late.kernels_ns)} of an "
        f"inference, {rank(peers, most)}'s {units.duration(most.kernels_ns)}; most of it in {named}"
    )


def why_not_judged(fleet: Fleet) -> str:
    """Why nothing is said of stragglers; empty where something is."""
    if any(group.judged for group in fleet.groups):
        return ""
    if not fleet.groups:
        return "no report has inferences: name the NVTX ranges that are inferences with --inference-range"
    most = len(fleet.groups[0].labels)
    return (
        f"stragglers are not judged: that takes {FEWEST} comparable reports of {ENOUGH} inferences each, and the "
        f"largest group of comparable ones has {most}"
    )


def clear() -> str:
    """What it means that there is no straggler."""
    return f"none: no report differs by {units.share(SHARE)} of an inference and by more than the reports vary"


def apart(fleet: Fleet) -> str:
    """What the reports that are laid aside are not comparable with."""
    largest = fleet.groups[0].labels
    return f"with {largest[0]}: no two do the same" if len(largest) == 1 else f"with the {len(largest)} that are alike"


def difference(group: Group) -> str:
    """Why a group is not comparable with the largest one."""
    return "; ".join(_differs(name, *(_SET.sub("", side) for side in sides)) for name, *sides in group.differs)


def _differs(name: str, here: str, there: str) -> str:
    """`streams: 1, there 2`; `other kernels` where both are as many, and not the same."""
    return f"other {name}" if here == there else f"{name}: {here}, there {there}"


def found_in(common: Common, reports: int) -> str:
    """How many reports have it, and how many could not say."""
    behind = f", {len(common.unjudged)} not judged" if common.unjudged else ""
    return f"{len(common.labels)} of {reports}{behind}"


def unjudged_in(common: Common) -> str:
    """`; not judged in 4 reports`; empty where every report could be judged."""
    return f"; not judged in {units.plural(len(common.unjudged), 'report')}" if common.unjudged else ""


def act(fleet: Fleet, common: Common) -> str:
    """What to do about it, in a few words, as the report says that has the largest one."""
    report = next(done.report for done in fleet.done if done.member.label == common.largest_in)
    return report.act(common.largest)


def first_change(fleet: Fleet) -> str:
    """The verdict of the report that has the most to gain, by share of its inferences; empty where none has."""
    gains = [(done.report.expected_share(finding), done) for done in fleet.done for finding in done.report.findings[:1]]
    most, done = max(gains, key=lambda gain: gain[0], default=(0.0, None))
    return f"{done.member.label}: {done.report.verdict}" if done is not None and most > 0 else ""


def share(common: Common) -> str:
    """Which part of an inference it could give back; empty where nothing bounds it."""
    return units.share(common.share) if common.share is not None and common.share <= 1 else ""


def at_most(common: Common, worth: str) -> str:
    """What it could give back, as `≤ 0.21` where the largest one is no estimate; empty where nothing bounds it."""
    if not common.recoverable_ns_per_inference:
        return ""
    return f"≤ {worth}" if claim(common.largest) == "at most" else worth


def worth(common: Common) -> str:
    """What it could give back of an inference; empty where nothing bounds it."""
    if not common.recoverable_ns_per_inference:
        return ""
    part = f" ({share(common)})" if share(common) else ""
    return f"{claim(common.largest)} {units.duration(common.recoverable_ns_per_inference)}{part}"


def where(throttled: Throttled) -> str:
    """Host, report and GPU."""
    return " · ".join(
        (throttled.host or "host not known", throttled.label, ", ".join(throttled.gpus) or "GPU not recorded")
    )


def findings_of(done: Done) -> str:
    """How many findings a report has, and the largest one."""
    findings = done.report.findings
    unjudged = len(done.report.with_status(Status.COULD_NOT_RUN))
    if not findings:
        return "none" if unjudged < len(done.report.outcomes) else "not judged"
    return f"{len(findings)} ({findings[0].code})"


def against(fleet: Fleet, label: str) -> str:
    """A report's typical inference against the median of those it can be compared with."""
    numbers, centre = fleet.numbers.get(label), fleet.others_ns(label)
    if numbers is None or not centre:
        return ""
    ratio = numbers.wall / centre - 1
    return "0 %" if abs(ratio) < 0.0005 else f"{'+' if ratio > 0 else '-'}{units.share(abs(ratio))}"


def listed(fleet: Fleet) -> tuple[list[Done], int]:
    """The reports that a page lists, in their order, and how many it leaves out: those in the middle by time."""
    if len(fleet.done) <= ROWS:
        return fleet.done, 0
    called = {straggler.label for straggler in fleet.stragglers}
    by_time = sorted(fleet.done, key=lambda done: done.numbers.wall if done.numbers else 0.0)
    kept = {done.member.label for done in (*by_time[: ROWS // 4], *by_time[-ROWS // 2 :])} | called
    rows = [done for done in fleet.done if done.member.label in kept]
    return rows, len(fleet.done) - len(rows)


def together(labels: Sequence[str]) -> str:
    """Labels in few words: rank0 to rank5, rank7."""
    runs: list[list[str]] = []
    for label in labels:
        if runs and _follows(runs[-1][-1], label):
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _follows(one: str, other: str) -> bool:
    head = one.rstrip("0123456789")
    end, next_end = one[len(head) :], other[len(head) :]
    return other.startswith(head) and end.isdecimal() and next_end.isdecimal() and int(next_end) == int(end) + 1
