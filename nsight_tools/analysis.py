"""The contract of an analysis: a function of a trace that yields findings, its registry, and its run.

An analysis is one function, decorated with its code and the tables that it needs::

    @analysis("PCI001", needs={"memory_ops", "api_calls"})
    def pageable_async_copies(trace: Trace) -> Iterator[Finding]:
        \"\"\"Asynchronous copies use pageable host memory.

        Measures: …
        Why it matters: …
        Remedy: …
        Blind spots: …
        \"\"\"

Modules of analyses are found through the entry-point group `nsight_tools.analyses`; the built-in ones come in
through the same door as anybody's.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from typing import TYPE_CHECKING

from nsight_tools.errors import AnalysisError, CouldNotRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from nsight_tools.findings import Finding
    from nsight_tools.trace import Trace

ENTRY_POINT_GROUP = "nsight_tools.analyses"
SECTIONS = ("Measures", "Why it matters", "Remedy", "Blind spots")
_CODE = re.compile(r"[A-Z]{3}[0-9]{3}")


class Status(str, Enum):
    """The three ends of an analysis, never confused with one another."""

    FINDINGS = "findings"
    CLEAR = "clear"
    COULD_NOT_RUN = "could_not_run"


@dataclass(frozen=True)
class Analysis:
    """One registered analysis: its code, what it needs, and its documentation."""

    code: str
    function: Callable[[Trace], Iterable[Finding]]
    needs: frozenset[str]

    @property
    def name(self) -> str:
        """The function's name with spaces: "pageable async copies"."""
        return self.function.__name__.replace("_", " ")

    @property
    def doc(self) -> str:
        """The docstring, dedented: the analysis' whole documentation."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.partition("\n")[0].rstrip(".")

    def run(self, trace: Trace) -> Outcome:
        """Run on `trace`; whatever ends it becomes the outcome, but for errors in the analysis itself."""
        for table in sorted(self.needs):
            if (reason := trace.missing(table)) is not None:
                return Outcome(self.code, self.summary, Status.COULD_NOT_RUN, reason)
        try:
            findings = tuple(self.function(trace))
        except CouldNotRun as error:
            return Outcome(self.code, self.summary, Status.COULD_NOT_RUN, str(error))
        return Outcome(self.code, self.summary, Status.FINDINGS if findings else Status.CLEAR, "", findings)


@dataclass(frozen=True)
class Outcome:
    """How one analysis ended. `reason` is set where it could not run, `findings` where it found something."""

    code: str
    summary: str
    status: Status
    reason: str = ""
    findings: tuple[Finding, ...] = ()


def analysis(code: str, *, needs: Iterable[str] = ()) -> Callable[[Callable[[Trace], Iterator[Finding]]], Analysis]:
    """Declare a function to be the analysis `code`, which needs the tables `needs` to have been collected.

    Raises AnalysisError where the code is not three capitals and three digits, or where the docstring lacks one
    of the sections Measures, Why it matters, Remedy, Blind spots.
    """
    if not _CODE.fullmatch(code):
        raise AnalysisError(f"'{code}' is no analysis code", hint="use three capitals and three digits, as in PCI001")

    def register(function: Callable[[Trace], Iterator[Finding]]) -> Analysis:
        declared = Analysis(code, function, frozenset(needs))
        missing = [section for section in SECTIONS if f"\n{section}:" not in declared.doc]
        if missing:
            raise AnalysisError(f"the docstring of {code} has no section {', '.join(missing)}")
        return declared

    return register


def collect(modules: Iterable[ModuleType]) -> dict[str, Analysis]:
    """The analyses that `modules` define, by code in order; raises AnalysisError where two share a code."""
    found: dict[str, Analysis] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Analysis) and found.setdefault(value.code, value) is not value:
                raise AnalysisError(
                    f"two analyses have the code {value.code}", hint=f"rename the one in {module.__name__}"
                )
    return dict(sorted(found.items()))


def registry() -> dict[str, Analysis]:
    """Every installed analysis, by code in order.

    Raises AnalysisError where none is installed, a module does not load, or two analyses share a code.
    """
    modules = []
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            modules.append(entry_point.load())
        except Exception as error:
            raise AnalysisError(
                f"the analyses '{entry_point.value}' do not load: {error}", hint="repair or uninstall their package"
            ) from error
    found = collect(modules)
    if not found:
        raise AnalysisError(
            "no analyses are installed", hint="reinstall nsight-tools: pip install --force-reinstall nsight-tools"
        )
    return found


def select(
    analyses: dict[str, Analysis], chosen: Iterable[str] = (), ignored: Iterable[str] = ()
) -> dict[str, Analysis]:
    """`analyses` whose code starts with one of `chosen` (all, where empty) and with none of `ignored`.

    Raises AnalysisError where a code or prefix names no analysis.
    """
    chosen, ignored = tuple(chosen), tuple(ignored)
    for prefix in (*chosen, *ignored):
        if not any(code.startswith(prefix) for code in analyses):
            raise AnalysisError(f"no analysis has the code '{prefix}'", hint=f"the codes are {', '.join(analyses)}")
    return {
        code: value
        for code, value in analyses.items()
        if (not chosen or code.startswith(chosen)) and not (ignored and code.startswith(ignored))
    }


def analyze(trace: Trace, analyses: Iterable[Analysis] | None = None) -> list[Outcome]:
    """Run `analyses` (every installed one, where None) on `trace`: one outcome for each, in the order given."""
    return [each.run(trace) for each in (registry().values() if analyses is None else analyses)]
