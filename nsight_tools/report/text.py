"""The report for a terminal: the verdict first, then where the time went, then what to change.

What would not change a decision is left out unless `Look.everything` asks for it, and the last line says what that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.findings import SEVERITIES, Evidence, Finding, Severity
from nsight_tools.report import content, layer_times, limits
from nsight_tools.report.terminal import LABEL, ROOMY, Look, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from nsight_tools.report.content import Bucket, TraceReport

EVIDENCE_SHOWN = 8
"""Measurements of one finding that a page shows unless it shows everything; JSON has all."""
EXAMPLES_NAMED = 3
"""Places to look at of a finding whose evidence is not shown."""

COLOUR = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}
_METRIC = 40
"""Columns of a measurement's name."""
_ONE_LINE = 60
"""Columns from which on what is said of a measurement stands on one line, else on two."""
_INDENT = 3


def render(reports: Sequence[TraceReport], look: Look | None = None) -> str:
    """The reports as one page, each a section of its own, in lines of at most `look.width` columns."""
    page = Page(look or Look())
    for position, report in enumerate(reports):
        if position:
            page.rule()
        _section(page, report)
    return str(page)


def _section(page: Page, report: TraceReport) -> None:
    _head(page, report)
    if page.look.everything or not report.buckets():
        _time(page, report)
    _inference(page, report)
    _layers(page, report)
    limits.add(page, report.summary)
    _findings(page, report)
    _unjudged(page, report)
    _clear(page, report)
    if page.look.everything:
        _not_applicable(page, report)
    if any(_is_shown_whole(page, finding) and finding.evidence for finding in report.findings):
        page.blank()
        page.line(page.text(content.EVIDENCE_NOTE, "dim"))
    if not page.look.everything and (left_out := _left_out(report)):
        page.blank()
        page.line(page.text(f"Left out: {left_out}. --all shows it.", "dim"))


def _head(page: Page, report: TraceReport) -> None:
    page.line(page.text(f"{report.name}: ", "bold"), page.text(report.verdict, f"bold {_mood(report)}".strip()))
    for finding in report.spoilers:
        page.line(page.text(f"Read first: {finding.code} ", "bold red"), page.text(finding.message))
    page.rows([[page.text(fact, "dim", limit=600)] for fact in report.facts])


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
    where = f"share of {units.duration(report.window_ns)} {content.WINDOW}{' on every GPU' if gpus > 1 else ''}"
    page.heading("Time by kind", f"{where}; kinds can overlap")
    page.rows(
        (
            [
                page.text(content.KINDS.get(row.kind, row.kind)),
                page.text("" if row.count is None else f"{row.count:,}"),
                page.text(units.duration(row.busy_ns)),
                page.text(units.share(row.share)),
                page.bar(row.share, style="bright_black" if row.kind == "idle" else "cyan"),
            ]
            for row in kinds
        ),
        right=(1, 2, 3),
    )


def _inference(page: Page, report: TraceReport) -> None:
    times = report.summary.times
    if times is None or not (buckets := report.buckets()):
        return
    page.heading("Time of an inference", f"medians and {report.tail} each by itself; share of the median")
    roomy = page.width >= ROOMY
    columns = (
        "median",
        report.tail,
        "share",
        *([""] if roomy else []),
        "without the profiler" if report.tracing_lengthens else "",
    )
    head = [page.text(column, "dim") for column in ("", *columns)]
    walls = (units.duration(each) for each in (times.wall_median_ns, times.wall_p99_ns))
    whole = [page.text(each, "bold") for each in ("from first to last event", *walls, "", *([""] if roomy else []))]
    untraced = page.text(report.untraced_wall if roomy else _point(report.untraced_wall), "bold")
    page.rows([head, *(_bucket(page, each, roomy=roomy) for each in buckets), [*whole, untraced]], right=(1, 2, 3))
    page.rows([[page.text(note, "dim")] for note in (report.beside, report.observer_note) if note])


def _bucket(page: Page, bucket: Bucket, *, roomy: bool) -> list[Text]:
    bar = page.bar(bucket.share, style="green" if bucket.label == "compute" else "yellow", most=8)
    return [
        page.text(bucket.label),
        page.text(units.duration(bucket.median)),
        page.text(units.duration(bucket.p99)),
        page.text(units.share(bucket.share)),
        *([bar] if roomy else []),
        page.text(bucket.untraced if roomy else _point(bucket.untraced), "dim"),
    ]


def _point(estimate: str) -> str:
    """`309 µs (258 µs to 446 µs)` without its interval, for a narrow page."""
    return estimate.partition(" (")[0]


def _layers(page: Page, report: TraceReport) -> None:
    """What layers take by TensorRT's own profiler, beside the trace: where asked for, or where nothing else is told."""
    found = report.summary.layer_times
    if found is None or not (page.look.everything or not report.buckets()):
        return
    layers = layer_times.largest(found)
    shown = layers if page.look.everything else layers[: layer_times.ROWS]
    count = f"the {len(shown)} largest of {len(layers):,}" if len(shown) < len(layers) else f"all {len(layers):,}"
    beside = ", and by the trace" if found.traced_ns else ""
    page.heading("Layers", f"{count}; medians of an inference by TensorRT's own profiler{beside}")
    head = (
        "",
        "profiler",
        "traced" if found.traced_ns else "",
        "share",
        "type" if any(each.type for each in shown) else "",
    )
    page.rows(
        [
            [page.text(column, "dim") for column in head],
            *(
                [
                    page.fitted(each.name, page.width // 2),
                    page.text("" if each.profiler_ns is None else units.duration(each.profiler_ns)),
                    page.text("" if each.traced_ns is None else units.duration(each.traced_ns)),
                    page.text(units.share(layer_times.share(each, found))),
                    page.text(each.type, "dim"),
                ]
                for each in shown
            ),
        ],
        right=(1, 2, 3),
    )


def _findings(page: Page, report: TraceReport) -> None:
    if not (findings := report.findings):
        return
    page.heading(
        "Findings", "largest recoverable time first" + (f". {content.OVERLAP_NOTE}" if len(findings) > 1 else "")
    )
    _together(page, report)
    said: dict[str, int] = {}
    for number, finding in enumerate(findings, 1):
        if number > 1:
            page.blank()
        _finding(page, report, finding, number, said)


def _together(page: Page, report: TraceReport) -> None:
    """What the changes give one after the other; where one change says it all, the verdict has said so."""
    if report.plan is None:
        return
    steps = report.steps or ([] if report.plan_leads else [report.together])
    page.rows([[page.text(f"{at}.", "dim"), page.text(step, "green")] for at, step in enumerate(steps, 1)], indent=0)
    page.rows([[page.text(note, "dim")] for note in (report.beside_the_sum,) if note], indent=0)
    if steps or report.beside_the_sum:
        page.blank()


def _finding(page: Page, report: TraceReport, finding: Finding, number: int, said: dict[str, int]) -> None:
    """Print a finding; `said` holds which one said a text first, so that none is said twice."""
    head = page.text(f"{number}. ", "dim")
    head.append_text(page.text(f"{finding.code} {finding.severity.value}", COLOUR[finding.severity]))
    page.rows([[head, page.text(finding.message, "bold")]], indent=0)
    whole = _is_shown_whole(page, finding)
    worth = report.worth(finding) or ("no time to recover is claimed" if whole else "")
    recoverable = report.worth_ns(finding) > 0
    claims = (
        ("Worth", f"{worth}; confidence {finding.confidence.value}" if worth else ""),
        ("Bound by", finding.bound if whole and (recoverable or page.look.everything) else ""),
        ("Cause", finding.cause if whole or not recoverable else ""),
        ("Change", finding.recommendation),
    )
    rows: list[tuple[str, Text]] = []
    for label, text in claims:
        before = number if page.look.everything else said.setdefault(f"{label} {text}", number)
        again = label != "Worth" and before != number
        style = "green" if label == "Change" else ""
        rows.append((label, page.text(f"as in {before}." if again and text else text, style, limit=1200)))
    rows += [
        ("Hence also", page.text(f"{f.code} {f.severity.value}: {f.message}", limit=600))
        for f in report.following(finding)
    ]
    if not whole:
        rows.append(("Look at", page.text(", ".join(_moments(finding)))))
    page.labelled([row for row in rows if row[1].plain], indent=_INDENT)
    if whole:
        _evidence(page, finding.evidence)


def _is_shown_whole(page: Page, finding: Finding) -> bool:
    return page.look.everything or finding.severity is not Severity.INFO


def _moments(finding: Finding) -> list[str]:
    starts = [each.start_ns for each in finding.evidence if each.start_ns is not None]
    return [units.moment(start) for start in starts[:EXAMPLES_NAMED]]


def _evidence(page: Page, evidence: Sequence[Evidence]) -> None:
    shown = evidence if page.look.everything else evidence[:EVIDENCE_SHOWN]
    metrics = [page.fitted(each.metric, _METRIC) for each in shown]
    values = [page.text(units.quantity(each.value, each.unit), limit=120) for each in shown]
    taken = sum(max((cell.cell_len for cell in cells), default=0) + 2 for cells in (metrics, values))
    left = page.width - _INDENT - LABEL - 1 - taken
    room = left if left >= _ONE_LINE else 2 * left - _ONE_LINE // 4
    rows = [
        [page.text("Evidence".ljust(LABEL - 1) if at == 0 else "", "dim"), metric, value, page.fitted(where(one), room)]
        for at, (one, metric, value) in enumerate(zip(shown, metrics, values, strict=True))
    ]
    page.rows(rows, indent=_INDENT, right=(2,))


def where(evidence: Evidence) -> str:
    """Where to jump to, and what is said of it."""
    return "; ".join(part for part in (window(evidence), evidence.detail) if part)


def window(evidence: Evidence) -> str:
    """Where to jump to in Nsight Systems' window: "at 1.234567s for 12.3 µs"."""
    if evidence.start_ns is None:
        return ""
    at = f"at {units.moment(evidence.start_ns)}"
    length = 0 if evidence.end_ns is None else evidence.end_ns - evidence.start_ns
    said = length == evidence.value and evidence.unit == "ns"
    return f"{at} for {units.duration(length)}" if length > 0 and not said else at


def _unjudged(page: Page, report: TraceReport) -> None:
    if not (groups := report.unjudged()):
        return
    page.heading("Could not be judged")
    if page.look.everything:
        alone = [(reason, [each]) for reason, outcomes in groups for each in outcomes]
        groups = sorted(alone, key=lambda group: group[1][0].code)
    page.rows(
        [page.text(outcomes[0].code, "yellow"), page.text(f"{outcomes[0].summary}: {reason}")]
        if len(outcomes) == 1
        else [
            page.text(f"{len(outcomes)} of {len(report.outcomes)}", "yellow"),
            page.text(f"{reason}: {', '.join(each.code for each in outcomes)}", limit=2000),
        ]
        for reason, outcomes in groups
    )


def _clear(page: Page, report: TraceReport) -> None:
    if clear := report.with_status(Status.CLEAR):
        page.heading("Clear", "looked for: not here, too little to change anything, or told by another finding")
        page.rows([[page.text(", ".join(o.code for o in clear), "green", limit=2000)]])


def _not_applicable(page: Page, report: TraceReport) -> None:
    if nothing := report.with_status(Status.NOT_APPLICABLE):
        page.heading("Not applicable", "nothing of the kind in this trace")
        page.rows([[page.text(", ".join(o.code for o in nothing), "dim", limit=2000)]])


def _left_out(report: TraceReport) -> str:
    """What of the report the short page does not say."""
    short = [f for f in report.findings if f.severity is Severity.INFO]
    cut = sum(max(len(f.evidence) - EVIDENCE_SHOWN, 0) for f in report.findings if f not in short)
    grouped = sum(len(outcomes) for _, outcomes in report.unjudged() if len(outcomes) > 1)
    parts = [
        f"bound and evidence of the info findings ({len(short)})" if short else "",
        f"{cut} more measurements" if cut else "",
        f"what {grouped} analyses look for" if grouped else "",
        "time by kind of GPU work" if report.buckets() and report.summary.time else "",
    ]
    return ", ".join(part for part in parts if part)
