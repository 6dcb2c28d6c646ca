"""A fleet for a terminal: the verdict first, then every report in a line, then who stands out, and what they share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.findings import Severity
from nsight_tools.fleet import words
from nsight_tools.report.formats import PLAIN
from nsight_tools.report.formats.text import trace
from nsight_tools.report.terminal import Page

if TYPE_CHECKING:
    from rich.text import Text

    from nsight_tools.fleet.fold import Fleet
    from nsight_tools.fleet.results import Done
    from nsight_tools.report.formats import Context


def render(fleet: Fleet, context: Context = PLAIN) -> str:
    """The fleet as one page, no line wider than the look allows; behind it each report, if that is asked for."""
    page = Page(context.look)
    page.line(page.text(words.verdict(fleet), f"bold {_mood(fleet)}", limit=1200))
    if first := words.first_change(fleet):
        page.line(page.text("Most to gain in ", "bold"), page.text(f"{first}.", limit=1200))
    for part in (_reports, _spreads, _peers, _stragglers, _apart, _clocks, _findings, _unjudged):
        part(page, fleet)
    if context.each:
        page.rule()
    return str(page) + (trace.render(fleet.reports, context) if context.each else "")


def _mood(fleet: Fleet) -> str:
    if fleet.failed or any(each.severity is Severity.ERROR for each in fleet.common):
        return "red"
    return "yellow" if fleet.stragglers or fleet.peers or fleet.common else "green"


def _reports(page: Page, fleet: Fleet) -> None:
    page.heading("Reports", f"typical inference: {words.TYPICAL}")
    shown, rest = words.listed(fleet)
    hosts = any(each.member.host for each in fleet.done)
    called = {each.label for each in fleet.stragglers}
    against = "vs median" if any(words.against(fleet, each.member.label) for each in shown) else ""
    titles = ("", "host" if hosts else "", "inferences", "typical", against, "p99", "GPU busy", "findings")
    rows = [[page.text(title, "dim") for title in titles]]
    rows += [_report(page, fleet, each, "bold yellow" if each.member.label in called else "") for each in shown]
    page.rows(rows, right=(2, 3, 4, 5, 6))
    if rest:
        page.rows([[page.text(f"and {rest} whose times lie between these; --format json has all", "dim")]])
    page.rows(
        [page.text(each.member.label, "bold red"), page.text(f"failed: {each.because.removeprefix('error: ')}")]
        for each in fleet.failed
    )


def _report(page: Page, fleet: Fleet, each: Done, style: str) -> list[Text]:
    times, numbers = each.report.summary.times, each.numbers
    cells = (
        each.member.label,
        each.member.host or "",
        f"{numbers.inferences:,}" if numbers else "none",
        units.duration(numbers.wall) if numbers else "",
        words.against(fleet, each.member.label),
        units.duration(times.wall_p99_ns) if times else "",
        units.share(times.gpu_busy_share) if times else "",
        words.findings_of(each),
    )
    label, *rest = (page.text(cell, style if at < 5 else "", limit=60) for at, cell in enumerate(cells))
    label = page.fitted(each.member.label, page.width // 4)
    label.stylize(style)
    return [label, *rest]


def _spreads(page: Page, fleet: Fleet) -> None:
    if not fleet.groups or len(fleet.groups[0].labels) < 2:
        return
    group = fleet.groups[0]
    page.heading("Typical inference over reports", f"{len(group.labels)} comparable ones; each row by itself")
    rows = [[page.text(title, "dim") for title in ("", "median", "lowest", "", "highest", "")]]
    for each in fleet.spreads(group):
        style = "bold" if each.quantity == "wall" else ""
        ends = (part for label, value in (each.lowest, each.highest) for part in (units.duration(value), label))
        cells = (words.quantity(each.quantity), units.duration(each.median), *ends)
        rows.append([page.text(cell, style, limit=60) for cell in cells])
    page.rows([rows[0], *rows[2:], rows[1]], right=(1, 2, 4))


def _peers(page: Page, fleet: Fleet) -> None:
    for each in fleet.peers:
        page.heading("Ranks that communicate", "of an inference, the late one first; waiting: longer than the shortest")
        titles = ("", "communication", "not hidden", "of it waiting", "transfer", "other kernels")
        rows = [[page.text(title, "dim") for title in titles]]
        for one in each.ranks:
            times = (one.communication_ns, one.exposed_ns, one.waits_ns, one.transfer_ns, one.kernels_ns)
            cells = (words.rank(each, one), *(units.duration(time) for time in times))
            style = "bold yellow" if each.late and one is each.slowest else ""
            rows.append([page.text(cell, style, limit=60) for cell in cells])
        page.rows(rows, right=(1, 2, 3, 4, 5))
        page.labelled([("Late", page.text(words.why_late(each), limit=1200))], indent=4)


def _stragglers(page: Page, fleet: Fleet) -> None:
    page.heading("Stragglers")
    if why := words.why_not_judged(fleet):
        page.rows([[page.text(why, "yellow")]])
    elif not fleet.stragglers:
        page.rows([[page.text(words.clear(), "green")]])
    for each in fleet.stragglers:
        page.line(page.text(f"  {each.label} ", "bold yellow"), page.text(words.excess(each), "bold"))
        alone = "; ".join(f"{finding.code} {finding.message}" for finding in fleet.alone_in(each.label))
        rows = [
            ("Lies in", page.text(words.explanation(each))),
            ("Since", page.text(words.since(each.since))),
            ("Deviates", page.text(words.deviates(each))),
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
    for each in fleet.throttled:
        page.rows([[page.text(words.where(each), "bold")]])
        page.labelled([("Seen", page.text(each.finding.message)), ("Cause", page.text(each.finding.cause))], indent=4)


def _findings(page: Page, fleet: Fleet) -> None:
    if not fleet.common:
        return
    page.heading("Findings", "what it costs an inference at most, median; how many reports have it")
    unit, cells = units.column([each.recoverable_ns_per_inference for each in fleet.common])
    rows = [[page.text(title, "dim") for title in ("", "", f"worth, {unit}", "share", "reports", "")]]
    for number, (each, cell) in enumerate(zip(fleet.common, cells, strict=True), 1):
        rows.append(
            [
                page.text(f"{number}.", "dim"),
                page.text(units.sentence(words.act(fleet, each)), "green"),
                page.text(f"≤ {cell}" if each.recoverable_ns_per_inference else "", "bold"),
                page.text(words.share(each) if each.recoverable_ns_per_inference else ""),
                page.text(f"{len(each.labels)} of {len(fleet.done)}"),
                page.text(f"{each.code} {each.severity.value}", trace.COLOUR[each.severity]),
            ]
        )
    page.rows(rows, indent=0, right=(0, 2, 3))
    page.heading("The largest one of each")
    page.rows(
        [
            [
                page.text(f"{number}.", "dim"),
                page.text(
                    f"{units.sentence(each.largest.message)} ({each.largest_in}{words.unjudged_in(each)})", limit=400
                ),
            ]
            for number, each in enumerate(fleet.common, 1)
        ],
        indent=0,
    )
    several = Counter(label for each in fleet.common for label in each.labels)
    if several:
        source = next(each.report.name for each in fleet.done if each.member.label == several.most_common(1)[0][0])
        page.rows([[page.text(f"Causes, evidence and what to change: nsight-tools analyze {source}", "dim")]])


def _unjudged(page: Page, fleet: Fleet) -> None:
    if not fleet.unjudged_everywhere:
        return
    page.heading("Could be judged in no report")
    page.rows([page.text(code, "yellow"), page.text(reason)] for code, reason in fleet.unjudged_everywhere)
