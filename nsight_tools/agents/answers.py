"""What an agent is answered: the pages of the command line, and tables, each line marked as quoted.

Names in a report are whatever a program chose to write, and an agent reads them beside its own instructions. So every
line of an answer about a report begins with `MARK`; no name can begin a line of its own, since line ends in it become
spaces, and what is hidden or would be obeyed by a terminal becomes a visible escape (`report.safe`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools import analyze, compare, open_trace, registry, select, units
from nsight_tools.errors import InputError, QueryError, meant
from nsight_tools.report import explained, safe, tops, windows
from nsight_tools.report.content import TraceReport
from nsight_tools.report.context import Context
from nsight_tools.report.formats.text import comparison as compared_text
from nsight_tools.report.formats.text import trace as text
from nsight_tools.report.look import Look
from nsight_tools.report.terminal import Page
from nsight_tools.tables import TABLES, WORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.report.tops import Top
    from nsight_tools.tables import Column
    from nsight_tools.trace import Trace

MARK = "| "
"""Begins each line that quotes a report."""
WIDTH = 100
MOST_LINES = 160
"""Lines of an answer: the short page of a trace with many findings has some 90."""
ROWS, MOST_ROWS = 40, 500
"""Rows of a query's result, unless more are asked for, and at most."""
SECONDS = 20.0
"""How long a query may take; all rows of a trace of a million kernels are grouped in less than one."""
CELL = 200
"""Characters of a cell of a query's result."""
PLACES = 6
"""Places to look at of one finding."""
KEPT = 4
"""Traces that are held open, with what was found in them."""


@dataclass
class Reports:
    """The reports that may be read: any, or those in `folders`; what was opened last is held open."""

    folders: Sequence[Path] = ()
    nsys: Path | None = None
    _open: dict[tuple[str, int], Trace] = field(default_factory=dict)

    def open(self, path: str) -> Trace:
        """The trace at `path`.

        Raises InputError where it may not be read, and what `open_trace` raises.
        """
        file = Path(path).expanduser()
        self._check(file)
        key = str(file.absolute()), file.stat().st_mtime_ns if file.exists() else 0
        trace = self._open.pop(key, None) or open_trace(file, nsys=self.nsys)
        self._open[key] = trace  # the last one stands at the end
        while len(self._open) > KEPT:
            del self._open[next(iter(self._open))]
        return trace

    def _check(self, path: Path) -> None:
        # Resolved, so that neither `..` nor a link leads out of a folder.
        within = [folder.resolve() for folder in self.folders]
        if within and not any(path.resolve().is_relative_to(folder) for folder in within):
            there = ", ".join(map(str, self.folders))
            raise InputError(path, "is in none of the folders that may be read", hint=f"these are {there}")


def findings(reports: Reports, path: str, codes: str = "", *, everything: bool = False) -> str:
    """What `nsight-tools analyze` prints of a report, by all analyses or those of `codes` (as PCI001,STR)."""
    trace = reports.open(path)
    return quoted(text.render([_report(path, trace, codes)], Context(Look(WIDTH, everything=everything))))


def explanation(word: str = "") -> str:
    """What `nsight-tools explain` prints: this is the tool's own text, and not quoted."""
    return explained.render(registry(), word or None, Look(WIDTH))


def comparison(reports: Reports, before: str, after: str, *, everything: bool = False) -> str:
    """What `nsight-tools compare` prints of two reports."""
    first, two = reports.open(before), reports.open(after)
    compared = compare(first, two, names=(before, after), outcomes=(analyze(first), analyze(two)))
    return quoted(compared_text.render([compared], Context(Look(WIDTH, everything=everything))))


def layers(reports: Reports, path: str, rows: int = tops.ROWS) -> str:
    """The layers and the kernels that take the most time; with GPU metrics, what limits each layer."""
    trace, page = reports.open(path), Page(Look(WIDTH))
    rows = max(1, min(rows, MOST_ROWS))
    for what, (found, all_of_them) in (("layers", tops.layers(trace, rows)), ("kernels", tops.kernels(trace, rows))):
        if not found:
            page.line(page.text(f"No {what} are known: {trace.missing(what) or 'none ran as part of one'}."))
            continue
        page.line(page.text(f"{len(found)} of {units.plural(all_of_them, what[:-1])}, those that take the most time"))
        page.rows(_tops(page, found), right=(0, 1, 2))
    return quoted(str(page))


def _tops(page: Page, tops: Sequence[Top]) -> Iterable[list[Any]]:
    unit, totals = units.column([top.total_ns for top in tops])
    yield [page.text(head) for head in (f"total, {unit}", "share", "runs", "", "")]
    for top, total in zip(tops, totals, strict=True):
        about = ", ".join(filter(None, (top.detail, top.limit)))
        cells = (total, units.share(top.share), f"{top.count:,}")
        yield [*map(page.text, cells), page.fitted(top.name, WIDTH // 2), page.text(about)]


def places(reports: Reports, path: str, codes: str = "") -> str:
    """Where on the timeline each finding can be seen: nanoseconds, as in the tables, and as Nsight Systems has them."""
    trace, page = reports.open(path), Page(Look(WIDTH))
    rows_found = list(windows.rows(_report(path, trace, codes)))
    for row in rows_found:
        page.line(page.text(f"{row.number}. {row.label}"))
        cells = [
            [page.text(cell) for cell in (window.start_ns, window.end_ns or "", units.moment(window.start_ns or 0))]
            + [page.text(windows.place(window))]
            for window in row.evidence[:PLACES]
        ]
        head = [[page.text(title) for title in ("start_ns", "end_ns", "in Nsight Systems", "what")]] if cells else []
        page.rows([*head, *cells], right=(0, 1))
        if not cells:
            page.rows([[page.text("of the whole trace, with no place to look at")]])
    if not rows_found:
        page.line(page.text("There are no findings."))
    return quoted(str(page))


def query(reports: Reports, path: str, sql: str = "", rows: int = ROWS) -> str:
    """The rows of one query as JSON arrays, column names first; without one, the tables, or a table's columns.

    Raises QueryError where it is no single query that reads, fails, or takes more than `SECONDS`.
    """
    trace = reports.open(path)
    asked = sql.strip().rstrip(";").strip()
    if not asked:
        return quoted("\n".join(f"{name}: {_about(trace, name)}" for name in TABLES))
    if asked.isidentifier():
        return quoted(_columns(asked))
    _reads_only(asked)
    rows = max(1, min(rows, MOST_ROWS))
    result = trace.sql(asked, rows=rows + 1, seconds=SECONDS)
    columns = [column.slice(0, rows).to_pylist() for column in result.columns]
    lines = [result.column_names, *zip(*columns, strict=True)]
    more = result.num_rows > rows
    count = f"the first {units.plural(rows, 'row')}; there are more" if more else units.plural(result.num_rows, "row")
    return quoted("\n".join([*(json.dumps([_cell(cell) for cell in line]) for line in lines), count]), MOST_ROWS + 2)


def quoted(page: str, most: int = MOST_LINES) -> str:
    """Each line behind `MARK`, at most so many, and how many are left out."""
    lines = page.splitlines()
    quoted_lines = [f"{MARK}{line}".rstrip() for line in lines[:most]]
    if len(lines) > most:
        quoted_lines.append(f"{MARK}[{len(lines) - most:,} more lines are left out: ask for fewer codes]")
    return "\n".join(quoted_lines)


def _report(path: str, trace: Trace, codes: str) -> TraceReport:
    chosen = [code.strip().upper() for code in codes.split(",") if code.strip()]
    return TraceReport.of(path, trace, select(registry(), chosen).values())


def _about(trace: Trace, name: str) -> str:
    if trace.rows(name):
        return f"{units.plural(trace.rows(name), 'row')}. {TABLES[name].meaning}"
    why = trace.missing(name)
    return f"no rows: {why}" if why else "no rows"


def _columns(name: str) -> str:
    if name not in TABLES:
        hint = meant(name, TABLES) or "ask without a query for all"
        raise QueryError(f"there is no table {name}", hint=hint)
    columns = TABLES[name].columns
    return "\n".join(
        [
            f"{name}: {TABLES[name].meaning}",
            *(f"  {column.name} ({_kind(column)}): {column.meaning}" for column in columns),
        ]
    )


def _kind(column: Column) -> str:
    """A column's type as a query sees it: a word is a string, however it is stored."""
    return "string" if column.type == WORD else str(column.type)


def _reads_only(sql: str) -> None:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(f"the query failed: {error}") from error
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise QueryError("only one query that reads is run", hint="begin it with SELECT or WITH")


def _cell(value: Any) -> Any:
    if isinstance(value, Decimal):  # what a sum of 64-bit numbers is
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, str):
        return safe.visible(value, CELL)
    return value if isinstance(value, (int, float, bool, type(None))) else safe.visible(value, CELL)
