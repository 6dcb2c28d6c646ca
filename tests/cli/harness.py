"""The command line on traces that never ran and analyses that say what a test wants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import Result
from report import fakes

from nsight_tools.analysis import analysis
from nsight_tools.errors import CouldNotRun, InputError
from nsight_tools.findings import Finding, Severity
from nsight_tools.summary import Summary
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa
    from click.testing import Result

    Run = Callable[..., Result]


class FakeTrace:
    """What the command line asks of a trace."""

    def __init__(self, path: Path) -> None:
        self.path, self._empty = path, Trace.from_tables({})

    def once(self, make: Callable[[Any], Any]) -> Any:
        """What is made of a trace once: of this one, its summary is made up."""
        made = self._empty.once(make)
        return replace(fakes.SUMMARY, source=self.path.name) if isinstance(made, Summary) else made

    def missing(self, _table: str) -> str | None:
        return None

    def lacking(self, _table: str) -> CouldNotRun | None:
        return None

    def table(self, name: str, columns: Iterable[str] | None = None) -> pa.Table:
        empty = TABLES[name].schema.empty_table()
        return empty.select(list(columns)) if columns else empty


def fake_open(path: Path | str, **_options: object) -> FakeTrace:
    path = Path(path)
    if path.stem == "broken":
        raise InputError(path, "is no SQLite database", hint="export the report again")
    if path.stem == "crash":
        raise ZeroDivisionError("a bug\nof two lines")
    if path.stem == "interrupted":
        raise KeyboardInterrupt
    return FakeTrace(path)


@analysis("PCI001", needs={"memory_ops"})
def pageable(trace: Any) -> Iterator[Finding]:
    """Asynchronous copies use pageable host memory.

    Measures: copies whose `src_memory` is pageable,
    over all copies.

    Why it matters: they block.
    Remedy: * cudaHostAlloc
        * pagelocked_empty
    Blind spots: none.
    """
    if severity := {"warm": Severity.WARNING, "hot": Severity.ERROR, "mild": Severity.INFO}.get(trace.path.stem):
        yield fakes.finding(severity=severity)


@analysis("PCI003")
def blocking(_trace: Any) -> Iterator[Finding]:
    """Copies block the host.

    Measures: a.
    Why it matters: b.
    Remedy: c.
    Blind spots: d.
    """
    yield from ()


@analysis("THR001")
def clocks(_trace: Any) -> Iterator[Finding]:
    """The GPU clock drops while it is busy.

    Measures: a.
    Why it matters: b.
    Remedy: c.
    Blind spots: d.
    """
    yield from ()
    raise CouldNotRun("no GPU metrics were collected")


ANALYSES = {each.code: each for each in (pageable, blocking, clocks)}
