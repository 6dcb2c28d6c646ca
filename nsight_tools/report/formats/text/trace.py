"""The report for a terminal: the verdict first, then where the time went, then what to change.

What would not change a decision is left out unless `Look.everything` asks for it, and the last line says what that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.findings import SEVERITIES, Evidence, Finding, Severity
from nsight_tools.report import content, layer_times, unjudged
from nsight_tools.report.claims import WINDOW, claim
from nsight_tools.report.context import PLAIN
from nsight_tools.report.evidence import where
from nsight_tools.report.formats.text import limits
from nsight_tools.report.terminal import LABEL, ROOMY, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from nsight_tools.analysis import Outcome
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context

EXAMPLES_NAMED = 3
"""Places to look at of a finding whose evidence is not shown."""

COLOUR = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}
_KIND_OF = {
    content.BUCKETS["compute"]: "compute",
    **{content.BUCKETS[each]: "only copies" for each in ("exposed_h2d", "exposed_d2h", "exposed_other_copy")},
    content.BUCKETS["exposed_communication"]: "only communication",
    content.BUCKETS["accelerator"]: "DLA",
    content.BUCKETS["other_work"]: "other work",
}
_METRIC = 40
"""Columns of a measurement's name."""
_ONE_LINE = 60
"""Columns from which on what is said of a measurement stands on one line, else on two."""
_INDENT = 3


def render(reports: Sequence[TraceReport], context: Context = PLAIN) -> str:
    """The reports as one page, each a section of its own, in lines of at most `look.width` columns."""
    page = Page(context.look)
    for report in page.parted(reports):
        _section(page, report)
    return str(page)


def _section(page: Page, report: TraceReport) -> None:
    _head(page, report)
    _bar(page, report)
    page.rows([[page.text(fact, "dim", limit=600)] for fact in report.measured])
    _list(page, report)
    _parts(page, report)
    _layers(page, report)
    limits.add(page, report.summary)
    _findings(page, report)
    not_judged(page, "Could not be judged", report.unjudged())
    _clear(page, report)
    if page.look.everything:
        _not_applicable(page, report)
    if page.look.everything or not report.buckets():
        _time(page, report)
    page.heading("The run")
    page.rows([[page.text(fact, limit=600)] for fact in report.about])
    if page.look.everything and any(finding.evidence for finding in report.findings):
        page.blank()
        page.line(page.text(content.EVIDENCE_NOTE, "dim"))
    if not page.look.everything and (left_out := _left_out(report)):
        page.blank()
        page.line(page.text(f"Left out: {left_out}. --all shows it.", "dim"))


def _head(page: Page, report: TraceReport) -> None:
    page.line(page.fitted(report.name, page.width))
    page.line(page.text(f"{report.verdict}.", f"bold {_mood(report)}".strip(), limit=1200))
    for finding in report.spoilers:
        page.line(page.text(f"Read first ({finding.code}): ", "bold red"), page.text(finding.message))
    if report.how:
        page.line(page.text("How: ", "bold"), page.text(f"{report.how}.", limit=1200))


def _mood(report: TraceReport) -> str:
    severities = {finding.severity for finding in report.findings}
    if severities:
        return next({"error": "red", "warning": "yellow", "info": "cyan"}[s] for s in SEVERITIES if s in severities)
    return "green" if report.with_status(Status.CLEAR) else "yellow"


def _time(page: Page, report: TraceReport) -> None:
    kinds = [row for row in report.summary.time if row.busy_ns or row.count]
    if not kinds:
        return
    gpus = len(report.summary.gpus)
    where = f"share of {units.duration(report.window_ns)} {WINDOW}{' on every GPU' if gpus > 1 else ''}"
    page.heading("Time by kind", f"{where}; kinds can overlap")
    unit, busy = units.column([row.busy_ns for row in kinds])
    head = [page.text(title, "dim") for title in ("", "", f"busy, {unit}", "share", "")]
    rows = [
        [
            page.text(content.KINDS.get(row.kind, row.kind)),
            page.text("" if row.count is None else f"{row.count:,}"),
            page.text(cell),
            page.text(units.share(row.share)),
            page.bar(row.share, style="bright_black" if row.kind == "idle" else "cyan"),
        ]
        for row, cell in zip(kinds, busy, strict=True)
    ]
    page.rows([head, *rows], right=(1, 2, 3))


def _bar(page: Page, report: TraceReport) -> None:
    """The median inference as one bar, and what it takes: the time that the parts below it are of."""
    times = report.summary.times
    if times is None or not (buckets := report.buckets()):
        return
    untraced = f"; {units.duration(report.untraced_wall_ns[1])} without the profiler" if report.untraced_wall_ns else ""
    period = f"; {units.duration(times.period_ns)} from one to the next" if times.period_ns else ""
    page.heading("Time of an inference", f"median {units.duration(times.wall_median_ns)}, as traced{untraced}{period}")
    page.stack([(_KIND_OF.get(each.label, "no GPU work"), each.median) for each in buckets])


def _parts(page: Page, report: TraceReport) -> None:
    times = report.summary.times
    if times is None or not (buckets := report.buckets()):
        return
    medians = [*(bucket.median for bucket in buckets), times.wall_median_ns]
    tails = [*(bucket.p99 for bucket in buckets), times.wall_p99_ns]
    spans = [*(bucket.untraced_ns for bucket in buckets), report.untraced_wall_ns]
    unit, cells = units.column([*medians, *tails, *(end for span in spans for end in span or [None] * 3)])
    points = [cells[at : at + 3] for at in range(2 * len(medians), len(cells), 3)]
    room = max(len(point) for _, point, _ in points)
    untraced = [_span(low, point, high, room) for low, point, high in points]
    page.heading("The parts of that time", f"in {unit}; {content.PARTS_NOTE}")
    roomy = page.width >= ROOMY
    last = ("without the profiler" if roomy else "no profiler") if report.tracing_lengthens else ""
    bars = ("",) if roomy else ()
    rows = [[page.text(title, "dim") for title in ("", "median", report.tail, "share", *bars, last)]]
    for at, bucket in enumerate([*buckets, None]):
        style = "" if bucket else "bold"
        colour = "green" if bucket and bucket.label == "compute" else "yellow"
        rows.append(
            [
                page.text(bucket.label if bucket else "from first to last event", style),
                page.text(cells[at], style),
                page.text(cells[len(medians) + at], style),
                page.text(units.share(bucket.share) if bucket else ""),
                *(page.bar(bucket.share if bucket else 0, colour, most=8) for _ in bars),
                page.text(untraced[at] if roomy else _point(untraced[at]), style or "dim"),
            ]
        )
    page.rows(rows, right=(1, 2, 3))
    notes = (report.beside, report.observer(intervals=roomy))
    page.rows([[page.text(note, "dim")] for note in notes if note])


def _span(low: str, point: str, high: str, room: int) -> str:
    """`0.309 (0.258 to 0.446)`, the point to the right of so many columns; alone where both ends are written alike."""
    return point.rjust(room) if low == point == high else f"{point.rjust(room)} ({low} to {high})"


def _point(estimate: str) -> str:
    """`0.309 (0.258 to 0.446)` without its interval, for a narrow page."""
    return estimate.partition(" (")[0]


def _layers(page: Page, report: TraceReport) -> None:
    """What layers take by TensorRT's own profiler, beside the trace: where asked for, or where nothing else is told."""
    profiled = report.summary.layer_times
    if profiled is None or not (page.look.everything or not report.buckets()):
        return
    layers = layer_times.largest(profiled)
    shown = layers if page.look.everything else layers[: layer_times.ROWS]
    count = f"the {len(shown)} largest of {len(layers):,}" if len(shown) < len(layers) else f"all {len(layers):,}"
    sources = ", and by the trace" if profiled.traced_ns else ""
    page.heading("Layers", f"{count}; medians of an inference by TensorRT's own profiler{sources}")
    unit, cells = units.column([*(layer.profiler_ns for layer in shown), *(layer.traced_ns for layer in shown)])
    head = (
        "",
        f"profiler, {unit}",
        f"traced, {unit}" if profiled.traced_ns else "",
        "share",
        "type" if any(layer.type for layer in shown) else "",
    )
    page.rows(
        [
            [page.text(column, "dim") for column in head],
            *(
                [
                    page.fitted(layer.name, page.width // 2),
                    page.text(cells[at]),
                    page.text(cells[len(shown) + at]),
                    page.text(units.share(layer_times.share(layer, profiled))),
                    page.text(layer.type, "dim"),
                ]
                for at, layer in enumerate(shown)
            ),
        ],
        right=(1, 2, 3),
    )


def _findings(page: Page, report: TraceReport) -> None:
    """Each finding with what was seen, why, and what to do about it."""
    if not (findings := report.findings):
        return
    page.heading("The findings one by one" if len(findings) > 1 else "The finding")
    said: dict[str, int] = {}
    for number, finding in enumerate(findings, 1):
        if number > 1:
            page.blank()
        _finding(page, report, finding, number, said)


def _list(page: Page, report: TraceReport) -> None:
    """A line for each finding: what to change, what it is worth, its code; and what they give together."""
    if not (findings := report.findings):
        return
    page.heading("Findings", report.tally)
    each_gives = [finding.recoverable_ns_per_inference for finding in findings]
    in_all = not any(each_gives)
    gives = [finding.recoverable_ns for finding in findings] if in_all else each_gives
    # In the unit of the time that it is of, which the lines above name.
    unit, cells = units.column([*gives, None if in_all or not any(gives) else report.one_takes_ns])
    worth = f"worth{' in all' if in_all else ''}, {unit}" if any(gives) else ""
    rows = [[page.text(head, "dim") for head in ("", "", worth, "share" if any(gives) else "", "")]]
    for number, (finding, cell) in enumerate(zip(findings, cells, strict=False), 1):
        share = report.share(finding)
        gain = cell if gives[number - 1] else ""
        if not cell and finding.recoverable_ns:
            gain = f"{units.duration(finding.recoverable_ns)} in all"
        gain = f"≤ {gain}" if gain and claim(finding) == "at most" else gain
        rows.append(
            [
                page.text(f"{number}.", "dim"),
                page.text(units.sentence(report.act(finding)), "green"),
                page.text(gain, "bold"),
                page.text(units.share(share) if share else ""),
                page.text(f"{finding.code} {finding.severity.value}", COLOUR[finding.severity]),
            ]
        )
    page.rows(rows, indent=0, right=(0, 2, 3))
    _together(page, report)


def _together(page: Page, report: TraceReport) -> None:
    """What the changes give one after the other, and what counts the same time twice."""
    steps = "; ".join(report.steps) or ("" if report.plan_leads else report.together)
    notes = (
        f"One after the other: {steps}." if report.steps else f"{report.of_these}: {steps}." if steps else "",
        report.beside_the_sum,
        content.OVERLAP_NOTE if len(report.findings) > 1 else "",
    )
    if rows := [[page.text(note, "dim", limit=1200)] for note in notes if note]:
        page.rows(rows)


def _finding(page: Page, report: TraceReport, finding: Finding, number: int, said: dict[str, int]) -> None:
    """Print a finding; `said` holds which one said a text first, so that none is said twice."""
    page.rows([[page.text(f"{number}.", "dim"), page.text(units.sentence(finding.message), "bold")]], indent=0)
    whole = _is_shown_whole(page, finding)
    everything = page.look.everything
    worth = report.worth(finding) or ("no time to recover is claimed" if whole else "")
    claims = (
        ("Worth", f"{worth}; confidence {finding.confidence.value}" if worth else ""),
        ("Known by", finding.bound if everything else ""),
        ("Cause", finding.cause if whole or report.worth_ns(finding) <= 0 else ""),
        ("Change", finding.recommendation),
    )
    rows: list[tuple[str, Text]] = []
    for label, text in claims:
        before = number if everything else said.setdefault(f"{label} {text}", number)
        again = label != "Worth" and before != number
        style = "green" if label == "Change" else ""
        rows.append((label, page.text(f"as in {before}." if again and text else text, style, limit=1200)))
    rows += [
        ("Also", page.text(f"{f.message} ({f.code} {f.severity.value})", limit=600)) for f in report.following(finding)
    ]
    if not everything:
        rows.append(("Look at", page.text(", ".join(_moments(finding)))))
    page.labelled([row for row in rows if row[1].plain], indent=_INDENT)
    if everything:
        _evidence(page, finding.evidence)


def _is_shown_whole(page: Page, finding: Finding) -> bool:
    return page.look.everything or finding.severity is not Severity.INFO


def _moments(finding: Finding) -> list[str]:
    starts = [evidence.start_ns for evidence in finding.evidence if evidence.start_ns is not None]
    return [units.moment(start) for start in starts[:EXAMPLES_NAMED]]


def _evidence(page: Page, evidence: Sequence[Evidence]) -> None:
    metrics = [page.fitted(measurement.metric, _METRIC) for measurement in evidence]
    values = [page.text(units.quantity(measurement.value, measurement.unit), limit=120) for measurement in evidence]
    taken = sum(max((cell.cell_len for cell in cells), default=0) + 2 for cells in (metrics, values))
    left = page.width - _INDENT - LABEL - 1 - taken
    room = left if left >= _ONE_LINE else 2 * left - _ONE_LINE // 4
    rows = [
        [
            page.text("Evidence".ljust(LABEL - 1) if at == 0 else "", "dim"),
            metric,
            value,
            page.fitted(where(measurement), room),
        ]
        for at, (measurement, metric, value) in enumerate(zip(evidence, metrics, values, strict=True))
    ]
    page.rows(rows, indent=_INDENT, right=(2,))


def not_judged(page: Page, title: str, groups: Sequence[tuple[str, Sequence[Outcome]]]) -> None:
    """What could not be judged, by what would tell; with everything each by itself, and why."""
    if not groups:
        return
    if page.look.everything:
        page.heading(title)
        alone = sorted((outcome for _, outcomes in groups for outcome in outcomes), key=lambda outcome: outcome.code)
        page.rows([page.text(e.code, "yellow"), page.text(f"{e.summary}: {e.reason}", limit=600)] for e in alone)
        return
    page.heading(title, "what would tell, and about what")
    for remedy, outcomes in groups:
        page.rows([[page.text(units.sentence(remedy), limit=600)]])
        codes = ", ".join(outcome.code for outcome in outcomes)
        page.rows([[page.text(f"{unjudged.told(outcomes)} ({codes})", "dim", limit=2000)]], indent=5)


def _clear(page: Page, report: TraceReport) -> None:
    if clear := report.with_status(Status.CLEAR):
        page.heading("Clear", "looked for: not found, too small to matter, or part of another finding")
        page.rows([[page.text(", ".join(o.code for o in clear), "green", limit=2000)]])


def _not_applicable(page: Page, report: TraceReport) -> None:
    if nothing := report.with_status(Status.NOT_APPLICABLE):
        page.heading("Not applicable", "nothing of the kind in this trace")
        page.rows([[page.text(", ".join(o.code for o in nothing), "dim", limit=2000)]])


def _left_out(report: TraceReport) -> str:
    """What of the report the short page does not say."""
    measured = sum(len(finding.evidence) for finding in report.findings)
    grouped = sum(len(outcomes) for _, outcomes in report.unjudged())
    parts = [
        f"{measured:,} measurement{'s' if measured > 1 else ''} behind the findings" if measured else "",
        f"why each of {grouped} could not be judged" if grouped > 1 else "",
        "why it is not known what limits the layers"
        if report.summary.limits_notes and not report.summary.limits
        else "",
        "time by kind of GPU work" if report.buckets() and report.summary.time else "",
    ]
    return ", ".join(part for part in parts if part)
