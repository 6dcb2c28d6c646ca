"""A fleet for a terminal: the verdict first, then every report in a line, then who stands out, and what they share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.findings import Severity
from nsight_tools.fleet import words
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.text import trace
from nsight_tools.report.terminal import Page

if TYPE_CHECKING:
    from rich.text import Text

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.fleet.results import Done
    from nsight_tools.report.context import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet as one page, no line wider than the look allows; behind it each report, if that is asked for."""
    page = Page(context.look)
    page.line(page.text(words.verdict(fleet), f"bold {_mood(fleet)}", limit=1200))
    if first := words.first_change(fleet):
        page.line(page.text("Most to gain in ", "bold"), page.text(f"{first}.", limit=1200))
    for section in (_reports, _spreads, _peers, _stragglers, _apart, _clocks, _findings, _unjudged):
        section(page, fleet)
    if context.each:
        page.rule()
    return str(page) + (trace.render(fleet.reports, context) if context.each else "")


def _mood(fleet: Fleet) -> str:
    if fleet.failed or any(common.severity is Severity.ERROR for common in fleet.common):
        return "red"
    return "yellow" if fleet.stragglers or fleet.peers or fleet.common else "green"


def _reports(page: Page, fleet: Fleet) -> None:
    page.heading("Reports", f"typical inference: {words.TYPICAL}")
    shown, rest = words.listed(fleet)
    hosts = any(done.member.host for done in fleet.done)
    called = {straggler.label for straggler in fleet.stragglers}
    against = "vs median" if any(words.against(fleet, done.member.label) for done in shown) else ""
    titles = ("", "host" if hosts else "", "inferences", "typical", against, "p99", "GPU busy", "findings")
    rows = [[page.text(title, "dim") for title in titles]]
    rows += [_report(page, fleet, done, "bold yellow" if done.member.label in called else "") for done in shown]
    page.rows(rows, right=(2, 3, 4, 5, 6))
    if rest:
        page.rows([[page.text(f"and {rest} whose times lie between these; --format json has all", "dim")]])
    page.rows(
        [page.text(failed.member.label, "bold red"), page.text(f"failed: {failed.because.removeprefix('error: ')}")]
        for failed in fleet.failed
    )


def _report(page: Page, fleet: Fleet, done: Done, style: str) -> list[Text]:
    times, numbers = done.report.summary.times, done.numbers
    cells = (
        done.member.label,
        done.member.host or "",
        f"{numbers.inferences:,}" if numbers else "none",
        units.duration(numbers.wall) if numbers else "",
        words.against(fleet, done.member.label),
        units.duration(times.wall_p99_ns) if times else "",
        units.share(times.gpu_busy_share) if times else "",
        words.findings_of(done),
    )
    label, *rest = (page.text(cell, style if at < 5 else "", limit=60) for at, cell in enumerate(cells))
    label = page.fitted(done.member.label, page.width // 4)
    label.stylize(style)
    return [label, *rest]


def _spreads(page: Page, fleet: Fleet) -> None:
    if not fleet.groups or len(fleet.groups[0].labels) < 2:
        return
    group = fleet.groups[0]
    page.heading("Typical inference over reports", f"{len(group.labels)} comparable ones; each row by itself")
    rows = [[page.text(title, "dim") for title in ("", "median", "lowest", "", "highest", "")]]
    for spread in fleet.spreads(group):
        style = "bold" if spread.quantity == "wall" else ""
        ends = (text for label, value in (spread.lowest, spread.highest) for text in (units.duration(value), label))
        cells = (words.quantity(spread.quantity), units.duration(spread.median), *ends)
        rows.append([page.text(cell, style, limit=60) for cell in cells])
    page.rows([rows[0], *rows[2:], rows[1]], right=(1, 2, 4))


def _peers(page: Page, fleet: Fleet) -> None:
    for peers in fleet.peers:
        page.heading("Ranks that communicate", "of an inference, the late one first; waiting: longer than the shortest")
        titles = ("", "communication", "not hidden", "of it waiting", "transfer", "other kernels")
        rows = [[page.text(title, "dim") for title in titles]]
        for rank in peers.ranks:
            times = (rank.communication_ns, rank.exposed_ns, rank.waits_ns, rank.transfer_ns, rank.kernels_ns)
            cells = (words.rank(peers, rank), *(units.duration(time) for time in times))
            style = "bold yellow" if peers.late and rank is peers.slowest else ""
            rows.append([page.text(cell, style, limit=60) for cell in cells])
        page.rows(rows, right=(1, 2, 3, 4, 5))
        page.labelled([("Late", page.text(words.why_late(peers), limit=1200))], indent=4)


def _stragglers(page: Page, fleet: Fleet) -> None:
    page.heading("Stragglers", "reports that are slower than others of the same work")
    if why := words.why_not_judged(fleet):
        page.rows([[page.text(why, "yellow")]])
    elif not fleet.stragglers:
        page.rows([[page.text(words.clear(), "green")]])
    for straggler in fleet.stragglers:
        page.line(page.text(f"  {straggler.label} ", "bold yellow"), page.text(words.excess(straggler), "bold"))
        alone = "; ".join(f"{finding.code} {finding.message}" for finding in fleet.alone_in(straggler.label))
        rows = [
            ("Lies in", page.text(words.explanation(straggler))),
            ("Since", page.text(words.since(straggler.since))),
            ("Deviates", page.text(words.deviates(straggler))),
            ("Only here", page.text(alone, limit=1200)),
        ]
        page.labelled([row for row in rows if row[1].plain], indent=4)


def _apart(page: Page, fleet: Fleet) -> None:
    if len(fleet.groups) < 2:
        return
    page.heading("Not comparable", words.apart(fleet))
    page.rows(
        [page.text(words.together(group.labels), "yellow", limit=120), page.text(words.difference(group), limit=1200)]
        for group in fleet.groups[1:]
    )


def _clocks(page: Page, fleet: Fleet) -> None:
    if not fleet.throttled:
        return
    unjudged = f"not judged in {len(fleet.clocks_unjudged)} reports" if fleet.clocks_unjudged else ""
    page.heading("GPUs whose clock drops, by host", unjudged)
    for throttled in fleet.throttled:
        page.rows([[page.text(words.where(throttled), "bold")]])
        page.labelled(
            [("Seen", page.text(throttled.finding.message)), ("Cause", page.text(throttled.finding.cause))], indent=4
        )


def _findings(page: Page, fleet: Fleet) -> None:
    if not fleet.common:
        return
    page.heading("Findings", "what comes back of an inference, median; how many reports have it")
    unit, cells = units.column([common.recoverable_ns_per_inference for common in fleet.common])
    rows = [[page.text(title, "dim") for title in ("", "", f"worth, {unit}", "share", "reports", "")]]
    for number, (common, cell) in enumerate(zip(fleet.common, cells, strict=True), 1):
        rows.append(
            [
                page.text(f"{number}.", "dim"),
                page.text(units.sentence(words.act(fleet, common)), "green"),
                page.text(words.at_most(common, cell), "bold"),
                page.text(words.share(common) if common.recoverable_ns_per_inference else ""),
                page.text(f"{len(common.labels)} of {len(fleet.done)}"),
                page.text(f"{common.code} {common.severity.value}", trace.COLOUR[common.severity]),
            ]
        )
    page.rows(rows, indent=0, right=(0, 2, 3))
    page.heading("The largest one of each")
    page.rows(
        [
            [
                page.text(f"{number}.", "dim"),
                page.text(
                    f"{units.sentence(common.largest.message)} ({common.largest_in}{words.unjudged_in(common)})",
                    limit=400,
                ),
            ]
            for number, common in enumerate(fleet.common, 1)
        ],
        indent=0,
    )
    several = Counter(label for common in fleet.common for label in common.labels)
    if several:
        source = next(done.report.name for done in fleet.done if done.member.label == several.most_common(1)[0][0])
        page.rows([[page.text(f"Causes, evidence and what to change: nsight-tools analyze {source}", "dim")]])


def _unjudged(page: Page, fleet: Fleet) -> None:
    trace.not_judged(page, "Could be judged in no report", fleet.unjudged_everywhere)
