"""A fleet for a pull request's comment or an issue: the text's tables in GitHub's Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.fleet import words
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.markdown import trace
from nsight_tools.report.formats.markdown.escaped import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.report.formats import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet as GitHub-flavoured Markdown, one section; behind it each report, where that is asked for."""
    lines = ["## nsight-tools: many reports", "", f"**{escape(words.verdict(fleet), 1200)}**"]
    for part in (_reports, _peers, _stragglers, _apart, _clocks, _findings):
        lines += part(fleet)
    whole = "\n".join(lines) + "\n"
    return f"{whole}\n{trace.render(fleet.reports, context)}" if context.each else whole


def _table(titles: Iterable[str], aligned: str, rows: Iterable[Iterable[str]]) -> list[str]:
    shown = [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows]
    return ["", f"| {' | '.join(titles)} |", aligned, *shown] if shown else []


def _reports(fleet: Fleet) -> list[str]:
    shown, rest = words.listed(fleet)
    rows = [
        (
            each.member.label,
            each.member.host or "",
            f"{each.numbers.inferences:,}" if each.numbers else "none",
            units.duration(each.numbers.wall) if each.numbers else "",
            words.against(fleet, each.member.label),
            words.findings_of(each),
        )
        for each in shown
    ]
    titles = ("Report", "Host", "Inferences", "Typical inference", "To the median", "Findings")
    lines = _table(titles, "|---|---|---:|---:|---:|---|", rows)
    if rest:
        lines += ["", f"and {rest} whose times lie between these; `--format json` has all"]
    if fleet.failed:
        lines += [""]
        lines += [f"- **{escape(each.member.label)} failed:** {escape(each.because, 600)}" for each in fleet.failed]
    return lines


def _peers(fleet: Fleet) -> list[str]:
    lines = []
    for each in fleet.peers:
        rows = [
            (
                words.rank(each, one),
                *(units.duration(time) for time in (one.communication_ns, one.waits_ns, one.kernels_ns)),
            )
            for one in each.ranks
        ]
        lines += ["", "**Ranks that communicate**"]
        lines += _table(("Rank", "Communication", "Of it waiting", "Other kernels"), "|---|---:|---:|---:|", rows)
        lines += ["", escape(words.why_late(each), 1200)]
    return lines


def _stragglers(fleet: Fleet) -> list[str]:
    lines = ["", "**Stragglers**", ""]
    if why := words.why_not_judged(fleet):
        return [*lines, escape(why)]
    if not fleet.stragglers:
        return [*lines, escape(words.clear())]
    for each in fleet.stragglers:
        lines.append(f"- **{escape(each.label)}** {escape(words.excess(each))}")
        told = {"Lies in": words.explanation(each), "Since": words.since(each.since), "Deviates": words.deviates(each)}
        told["Only here"] = "; ".join(f"{finding.code} {finding.message}" for finding in fleet.alone_in(each.label))
        lines += [f"  - {label}: {escape(said, 1200)}" for label, said in told.items() if said]
    return lines


def _apart(fleet: Fleet) -> list[str]:
    rest = fleet.groups[1:]
    head = ["", f"**Not comparable** {escape(words.apart(fleet))}", ""] if rest else []
    return head + [f"- {escape(words.together(each.labels))}: {escape(words.difference(each), 1200)}" for each in rest]


def _clocks(fleet: Fleet) -> list[str]:
    head = ["", "**GPUs whose clock drops, by host**", ""] if fleet.throttled else []
    return head + [f"- {escape(words.where(each))}: {escape(each.finding.message)}" for each in fleet.throttled]


def _findings(fleet: Fleet) -> list[str]:
    rows = [
        (
            each.code,
            each.severity.value,
            words.found_in(each, len(fleet.done)),
            words.worth(each) or "none claimed",
            f"{each.largest.message} ({each.largest_in})",
        )
        for each in fleet.common
    ]
    titles = ("Code", "Severity", "Reports", "Recoverable, median", "The largest")
    return _table(titles, "|---|---|---|---:|---|", rows)
