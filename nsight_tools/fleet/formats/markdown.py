"""A fleet for a pull request's comment or an issue: the text's tables in GitHub's Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.fleet import words
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.markdown import trace
from nsight_tools.report.formats.markdown.escaped import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.report.context import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet as GitHub-flavoured Markdown, one section; behind it each report, where that is asked for."""
    lines = ["## nsight-tools: many reports", "", f"**{escape(words.verdict(fleet), 1200)}**"]
    for section in (_reports, _peers, _stragglers, _apart, _clocks, _findings, _unjudged):
        lines += section(fleet)
    whole = "\n".join(lines) + "\n"
    return f"{whole}\n{trace.render(fleet.reports, context)}" if context.each else whole


def _table(titles: Iterable[str], aligned: str, rows: Iterable[Iterable[str]]) -> list[str]:
    shown = [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows]
    return ["", f"| {' | '.join(titles)} |", aligned, *shown] if shown else []


def _reports(fleet: Fleet) -> list[str]:
    shown, rest = words.listed(fleet)
    rows = [
        (
            done.member.label,
            done.member.host or "",
            f"{done.numbers.inferences:,}" if done.numbers else "none",
            units.duration(done.numbers.wall) if done.numbers else "",
            words.against(fleet, done.member.label),
            words.findings_of(done),
        )
        for done in shown
    ]
    titles = ("Report", "Host", "Inferences", "Typical inference", "To the median", "Findings")
    lines = _table(titles, "|---|---|---:|---:|---:|---|", rows)
    if rest:
        lines += ["", f"and {rest} whose times lie between these; `--format json` has all"]
    if fleet.failed:
        lines += [""]
        lines += [
            f"- **{escape(failed.member.label)} failed:** {escape(failed.because, 600)}" for failed in fleet.failed
        ]
    return lines


def _peers(fleet: Fleet) -> list[str]:
    lines = []
    for peers in fleet.peers:
        rows = [
            (
                words.rank(peers, rank),
                *(units.duration(time) for time in (rank.communication_ns, rank.waits_ns, rank.kernels_ns)),
            )
            for rank in peers.ranks
        ]
        lines += ["", "**Ranks that communicate**"]
        lines += _table(("Rank", "Communication", "Of it waiting", "Other kernels"), "|---|---:|---:|---:|", rows)
        lines += ["", escape(words.why_late(peers), 1200)]
    return lines


def _stragglers(fleet: Fleet) -> list[str]:
    lines = ["", "**Stragglers**", ""]
    if why := words.why_not_judged(fleet):
        return [*lines, escape(why)]
    if not fleet.stragglers:
        return [*lines, escape(words.clear())]
    for straggler in fleet.stragglers:
        lines.append(f"- **{escape(straggler.label)}** {escape(words.excess(straggler))}")
        told = {
            "Lies in": words.explanation(straggler),
            "Since": words.since(straggler.since),
            "Deviates": words.deviates(straggler),
        }
        told["Only here"] = "; ".join(
            f"{finding.code} {finding.message}" for finding in fleet.alone_in(straggler.label)
        )
        lines += [f"  - {label}: {escape(text, 1200)}" for label, text in told.items() if text]
    return lines


def _apart(fleet: Fleet) -> list[str]:
    rest = fleet.groups[1:]
    head = ["", f"**Not comparable** {escape(words.apart(fleet))}", ""] if rest else []
    return head + [
        f"- {escape(words.together(group.labels))}: {escape(words.difference(group), 1200)}" for group in rest
    ]


def _clocks(fleet: Fleet) -> list[str]:
    head = ["", "**GPUs whose clock drops, by host**", ""] if fleet.throttled else []
    return head + [
        f"- {escape(words.where(throttled))}: {escape(throttled.finding.message)}" for throttled in fleet.throttled
    ]


def _findings(fleet: Fleet) -> list[str]:
    rows = [
        (
            units.sentence(words.act(fleet, common)),
            words.worth(common) or "none claimed",
            words.found_in(common, len(fleet.done)),
            f"{common.largest.message} ({common.largest_in})",
            common.severity.value,
            common.code,
        )
        for common in fleet.common
    ]
    titles = ("What to do", "Recoverable, median", "Reports", "The largest", "Severity", "Code")
    return _table(titles, "|---|---:|---|---|---|---|", rows)


def _unjudged(fleet: Fleet) -> list[str]:
    return trace.not_judged("Could be judged in no report", fleet.unjudged_everywhere)
