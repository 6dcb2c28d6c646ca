"""What every format says of a fleet, in words."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.comparison.resampling import ENOUGH
from nsight_tools.fleet.stragglers import FEWEST, SHARE
from nsight_tools.report.content import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.fleet.fold import Common, Fleet, Throttled
    from nsight_tools.fleet.peers import Peer, Peers
    from nsight_tools.fleet.results import Done
    from nsight_tools.fleet.stragglers import Group, Since, Straggler

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
        parts.append(f"{len(fleet.failed)} failed ({together([each.member.label for each in fleet.failed])})")
    judged = any(group.judged for group in fleet.groups)
    if fleet.stragglers:
        names = together([each.label for each in fleet.stragglers])
        first = fleet.stragglers[0]
        alone = f", {first.label}" if len(fleet.stragglers) > 1 else ""
        parts.append(f"{units.plural(len(fleet.stragglers), 'straggler')}: {names}{alone} {excess(first)}")
    elif judged:
        parts.append("no straggler")
    parts += [waits_for(each) for each in fleet.peers if each.late]
    if fleet.throttled:
        labels = list(dict.fromkeys(each.label for each in fleet.throttled))
        parts.append(f"GPU clocks drop in {together(labels)}")
    return "; ".join(parts)


def excess(each: Straggler) -> str:
    """How much it stands out: takes 20 % longer (3.60 ms for an inference, median of the reports 3.00 ms)."""
    numbers = (
        f"{units.duration(each.value_ns)} for an inference, median of the reports {units.duration(each.others_ns)}"
    )
    ratio = each.value_ns / each.others_ns if each.others_ns else float("inf")
    if each.quantity != "wall":
        return f"spends more in '{quantity(each.quantity)}' ({numbers}), though its inferences take no longer"
    late = " in the last quarter of its inferences" if each.late else ""
    longer = f"{units.share(ratio - 1)} longer" if ratio < 2 else f"{ratio:.1f} times as long"
    return f"takes {longer}{late} ({numbers})"


def explanation(each: Straggler) -> str:
    """Which buckets the wall's excess lies in."""
    if not each.explained:
        return "" if each.quantity != "wall" else "no bucket explains it by itself"
    parts = [
        f"{quantity(name)} {units.share(lost / each.excess_ns)} ({units.duration(lost)})"
        for name, lost in each.explained
    ]
    return f"{', '.join(parts)} of the {units.duration(each.excess_ns)}"


def deviates(each: Straggler) -> str:
    """How sure it is."""
    times = f"{each.deviations:.0f}" if each.deviations < 100 else "over 100"
    return f"by {times} times what the reports vary, or one drifts by itself"


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


def waits_for(each: Peers) -> str:
    """Who waits for whom, and how long: rank0 waits 1.60 ms of each inference for rank1."""
    most = each.waits_most
    others = len(each.ranks) - 1
    who = rank(each, most) if others == 1 else f"{others} ranks wait for {rank(each, each.slowest)}: {rank(each, most)}"
    behind = f" for {rank(each, each.slowest)}" if others == 1 else ""
    return f"{who} waits {units.duration(most.waits_ns)} of each inference{behind}"


def rank(each: Peers, peer: Peer) -> str:
    """A rank by its label; with its GPU where a report has several."""
    several = sum(other.label == peer.label for other in each.ranks) > 1
    return f"{peer.label} (GPU {peer.device})" if several else peer.label


def why_late(each: Peers) -> str:
    """What the late rank does while the others wait."""
    if not each.late:
        return "none is late: what their communication takes is the transfer"
    late, most = each.slowest, each.waits_most
    if not each.because:
        return (
            f"{rank(each, late)} begins its collectives last, and its own kernels do not explain it: its host launches "
            "late, or waits for input"
        )
    named = ", ".join(f"{name} ({units.duration(more)})" for name, more in each.because)
    return (
        f"{rank(each, late)} computes longer: its other kernels take {units.duration(late.kernels_ns)} of an "
        f"inference, {rank(each, most)}'s {units.duration(most.kernels_ns)}; most of it in {named}"
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
    return "; ".join(f"{name}: {here}, there {there}" for name, here, there in group.differs)


def found_in(each: Common, reports: int) -> str:
    """How many reports have it, and how many could not say."""
    behind = f", {len(each.unjudged)} not judged" if each.unjudged else ""
    return f"{len(each.labels)} of {reports}{behind}"


def unjudged_in(each: Common) -> str:
    """`; not judged in 4 reports`; empty where every report could be judged."""
    return f"; not judged in {units.plural(len(each.unjudged), 'report')}" if each.unjudged else ""


def act(fleet: Fleet, each: Common) -> str:
    """What to do about it, in a few words, as the report says that has the largest one."""
    report = next(done.report for done in fleet.done if done.member.label == each.largest_in)
    return report.act(each.largest)


def first_change(fleet: Fleet) -> str:
    """The verdict of the report that has the most to gain, by share of its inferences; empty where none has."""
    gains = [(done.report.share(finding) or 0.0, done) for done in fleet.done for finding in done.report.findings[:1]]
    most, done = max(gains, key=lambda each: each[0], default=(0.0, None))
    return f"{done.member.label}: {done.report.verdict}" if done is not None and most > 0 else ""


def share(each: Common) -> str:
    """Which part of an inference it could give back; empty where nothing bounds it."""
    return units.share(each.share) if each.share is not None and each.share <= 1 else ""


def worth(each: Common) -> str:
    """What it could give back of an inference; empty where nothing bounds it."""
    if not each.recoverable_ns_per_inference:
        return ""
    part = f" ({share(each)})" if share(each) else ""
    return f"{units.duration(each.recoverable_ns_per_inference)}{part}"


def where(each: Throttled) -> str:
    """Host, report and GPU."""
    return " · ".join((each.host or "host not known", each.label, ", ".join(each.gpus) or "GPU not recorded"))


def findings_of(done: Done) -> str:
    """How many findings a report has, and the largest one."""
    found = done.report.findings
    unjudged = len(done.report.with_status(Status.COULD_NOT_RUN))
    if not found:
        return "none" if unjudged < len(done.report.outcomes) else "not judged"
    return f"{len(found)} ({found[0].code})"


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
    called = {each.label for each in fleet.stragglers}
    by_time = sorted(fleet.done, key=lambda each: each.numbers.wall if each.numbers else 0.0)
    kept = {each.member.label for each in (*by_time[: ROWS // 4], *by_time[-ROWS // 2 :])} | called
    rows = [each for each in fleet.done if each.member.label in kept]
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
