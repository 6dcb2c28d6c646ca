"""The contract of an analysis: a function of a trace that yields findings, its registry, and its run.

An analysis is one function, decorated with its code, the tables that it needs, and what it says of itself::

    @analysis("PCI001", needs={"memory_ops", "api_calls"}, topic="pageable copies", bucket=COPIES)
    def pageable_async_copies(trace: Trace) -> Iterator[Finding]:
        \"\"\"Asynchronous copies use pageable host memory.

        Measures: …
        Why it matters: …
        Remedy: …
        Blind spots: …
        \"\"\"

Nothing outside of its file knows an analysis by its code: reports, comparisons and other analyses go by what it
declares. Modules of analyses are found through the entry-point group `nsight_tools.analyses`, of a package all that
are in it; the built-in ones come in through the same door as anybody's.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from nsight_tools.changes import done
from nsight_tools.errors import AnalysisError, ArgumentError, CouldNotRun, NotApplicable, meant
from nsight_tools.findings import SEVERITIES, Change, follows
from nsight_tools.shown import Shown
from nsight_tools.trace import as_trace
from nsight_tools.units import within
from nsight_tools.worth.promises import priced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike
    from types import ModuleType

    from nsight_tools.errors import NsightToolsError
    from nsight_tools.findings import Finding
    from nsight_tools.trace import Trace

ENTRY_POINT_GROUP = "nsight_tools.analyses"
SECTIONS = ("Measures", "Why it matters", "Remedy", "Blind spots")
_CODE = re.compile(r"[A-Z]{3}[0-9]{3}")

COPIES = ("exposed_h2d", "exposed_d2h", "exposed_other_copy", "launch", "sync")
"""A copy that holds the host up shows in its calls where nothing runs on the GPU."""
HOST = ("launch", "sync", "host", "unattributed")
COMPUTE = ("compute",)
ALL = ("wall",)
MEAN = ("mean",)
"""What single slow inferences cost shows in the mean of the wall, not in the typical inference."""


WARNS_FROM = 0.1
"""Share of what is judged from which on a loss is worth changing a deployment for."""


class Status(str, Enum):
    """The four ends of an analysis, never confused with one another.

    Example:
        >>> from nsight_tools import Status
        >>> [status.value for status in Status]
        ['findings', 'clear', 'could_not_run', 'not_applicable']
    """

    FINDINGS = "findings"
    CLEAR = "clear"
    COULD_NOT_RUN = "could_not_run"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Analysis:
    """One registered analysis: its code, what it needs, what it says of itself, and its documentation.

    Example:
        >>> from nsight_tools import registry
        >>> analysis = registry()["PCI001"]
        >>> analysis.name, analysis.topic, sorted(analysis.needs)
        ('pageable async copies', 'pageable copies', ['api_calls', 'memory_ops'])
        >>> analysis.change
        (Change(option='pageable', value=False),)
    """

    code: str
    function: Callable[[Trace], Iterable[Finding]]
    needs: frozenset[str]
    family: str = ""
    topic: str = ""
    bucket: tuple[str, ...] = ALL
    picture: str = ""
    change: tuple[Change, ...] = ()
    warns_from: float = WARNS_FROM

    def __repr__(self) -> str:
        return f"<Analysis {self.code}: {self.name}>"

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
        """Run on `trace`; whatever ends it becomes the outcome, but for errors in the analysis itself.

        Example:
            >>> from nsight_tools import open_trace, registry
            >>> registry()["PCI001"].run(open_trace("sample_traces/detector_pageable.sqlite"))
            <Outcome PCI001 findings, 1>
        """
        trace = as_trace(trace, f"{self.code}.run")
        for table in sorted(self.needs):
            if (lacking := trace.lacking(table)) is not None:
                return self._ended(Status.COULD_NOT_RUN, lacking)
        try:
            findings = tuple(self.function(trace))
        except CouldNotRun as error:
            return self._ended(Status.COULD_NOT_RUN, error)
        except NotApplicable as error:
            return self._ended(Status.NOT_APPLICABLE, error)
        changes = [each if each.change else replace(each, change=self.change) for each in findings]
        worth = [priced(trace, each, self.warns_from) for each in changes]
        found = tuple(each for each in worth if each is not None)
        return self._ended(Status.FINDINGS if found else Status.CLEAR, findings=found)

    def _ended(
        self, status: Status, error: NsightToolsError | None = None, findings: tuple[Finding, ...] = ()
    ) -> Outcome:
        reason, remedy = (str(error), error.hint) if error else ("", "")
        declared = self.topic, self.bucket, self.picture
        return Outcome(self.code, self.summary, status, reason, findings, *declared, remedy)


@dataclass(frozen=True)
class Outcome(Shown):
    """How one analysis ended. `reason` is set where it could not run or has nothing to look for.

    It ends with `remedy`, what would let it run, where that is known.
    `findings` are set where it found something; `topic`, `bucket` and `picture` are what the analysis declares.

    Example:
        >>> from nsight_tools import analyze
        >>> [outcome] = analyze("sample_traces/detector_pageable.sqlite", select="PCI001")
        >>> outcome
        <Outcome PCI001 findings, 1>
        >>> outcome.findings[0].code
        'PCI001'
    """

    code: str
    summary: str
    status: Status
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    topic: str = ""
    bucket: tuple[str, ...] = ALL
    picture: str = ""
    remedy: str = ""

    def __repr__(self) -> str:
        found = f", {len(self.findings)}" if self.findings else ""
        return f"<Outcome {self.code} {self.status.value}{found}>"

    def act(self, finding: Finding) -> str:
        """What to do about one of its findings, in a few words: its changes, its own words, else what was looked for.

        Where that found several things, each by what its own message begins with: no two are called the same.

        Example:
            >>> from nsight_tools import analyze
            >>> [outcome] = analyze("sample_traces/detector_pageable.sqlite", select="PCI001")
            >>> outcome.act(outcome.findings[0])
            "pin the host's buffers"
        """
        if finding.change:
            return " and ".join(map(done, finding.change))
        if finding.act or not self.summary:
            return finding.act or finding.message
        several = sum(not (each.change or each.act) for each in self.findings) > 1
        return finding.message.partition(": ")[0] if several else within(self.summary)


def analysis(
    code: str,
    *,
    needs: Iterable[str] = (),
    family: str = "",
    topic: str = "",
    bucket: tuple[str, ...] = (),
    picture: str = "",
    change: Change | tuple[Change, ...] | None = None,
    warns_from: float = WARNS_FROM,
) -> Callable[[Callable[[Trace], Iterator[Finding]]], Analysis]:
    """Declare a function to be the analysis `code`, which needs the tables `needs` to have been collected.

    `family` is what it stands with in the catalogue: the name of its module's folder, unless given. `topic` is what it
    is about, by which findings of other analyses say that its own follow from them (`Finding.explains`). `bucket` are
    the parts of an inference's accounting that what it recovers is taken from: the whole wall, unless given. `picture`
    names the figure of the report that shows what it finds. `change` is what to do about it, as options of our own
    `capture`. A finding with a loss is a warning from a share of `warns_from` on, and an info below.

    Raises AnalysisError where the code is not three capitals and three digits, or where the docstring lacks one
    of the sections Measures, Why it matters, Remedy, Blind spots.

    Example:
        >>> from nsight_tools.analysis import analysis
        >>> @analysis("LCH900", needs={"api_calls"})
        ... def calls_that_are_many(trace):
        ...     '''There are many calls.
        ...
        ...     Measures: rows of `api_calls`.
        ...
        ...     Why it matters: each takes time.
        ...
        ...     Remedy: a CUDA graph.
        ...
        ...     Blind spots: calls that were not traced.
        ...     '''
        ...     return iter(())
        >>> calls_that_are_many.code, calls_that_are_many.summary
        ('LCH900', 'There are many calls')
    """
    if not _CODE.fullmatch(code):
        raise AnalysisError(f"'{code}' is no analysis code", hint="use three capitals and three digits, as in PCI001")
    changes = (change,) if isinstance(change, Change) else change or ()

    def register(function: Callable[[Trace], Iterator[Finding]]) -> Analysis:
        folder = family or _folder(function.__module__)
        declared = Analysis(
            code, function, frozenset(needs), folder, topic, bucket or ALL, picture, changes, warns_from
        )
        missing = [section for section in SECTIONS if f"\n{section}:" not in declared.doc]
        if missing:
            raise AnalysisError(f"the docstring of {code} has no section {', '.join(missing)}")
        return declared

    return register


def _folder(module: str) -> str:
    """The folder that a module of a package stands in; empty where that is the package itself."""
    parts = module.split(".")
    return parts[-2] if len(parts) > 2 else ""


def collect(modules: Iterable[ModuleType]) -> dict[str, Analysis]:
    """The analyses that `modules` define, by code in order; raises AnalysisError where two share a code.

    Example:
        >>> from nsight_analyses.transfers import pci001_pageable_async_copies
        >>> from nsight_tools.analysis import collect
        >>> collect([pci001_pageable_async_copies]).keys()
        dict_keys(['PCI001'])
    """
    by_code: dict[str, Analysis] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Analysis) and by_code.setdefault(value.code, value) is not value:
                raise AnalysisError(
                    f"two analyses have the code {value.code}", hint=f"rename the one in {module.__name__}"
                )
    return dict(sorted(by_code.items()))


def registry() -> dict[str, Analysis]:
    """Every installed analysis, by code in order.

    Raises AnalysisError where none is installed, a module does not load, or two analyses share a code.

    Example:
        >>> from nsight_tools import registry
        >>> registry()["PCI001"].summary
        'Asynchronous copies use pageable host memory'
    """
    modules: list[ModuleType] = []
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            modules += _within(entry_point.load())
        except Exception as error:
            raise AnalysisError(
                f"the analyses '{entry_point.value}' do not load: {error}", hint="repair or uninstall their package"
            ) from error
    analyses = collect(modules)
    if not analyses:
        raise AnalysisError(
            "no analyses are installed", hint="reinstall nsight-tools: pip install --force-reinstall nsight-tools"
        )
    return analyses


def _within(module: ModuleType) -> Iterator[ModuleType]:
    """The module, and where it is a package all modules in it."""
    yield module
    for _, name, _ in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}.", _fail):
        if not name.endswith(".__main__"):
            yield import_module(name)


def _fail(_name: str) -> None:
    raise  # noqa: PLE0704 (what walk_packages is about to pass over)


def select(
    analyses: dict[str, Analysis], chosen: str | Iterable[str] = (), ignored: str | Iterable[str] = ()
) -> dict[str, Analysis]:
    """`analyses` whose code starts with one of `chosen` (all, where empty) and with none of `ignored`.

    Raises AnalysisError where a code or prefix names no analysis, ArgumentError where something is no code.

    Example:
        >>> from nsight_tools import registry, select
        >>> list(select(registry(), ["PCI", "MEM"], "PCI00"))
        ['MEM001', 'MEM002']
    """
    if not isinstance(analyses, Mapping):
        raise ArgumentError("select takes analyses by code", analyses, hint="registry() gives them")
    chosen, ignored = _codes(chosen), _codes(ignored)
    for prefix in (*chosen, *ignored):
        if not any(code.startswith(prefix) for code in analyses):
            families = dict.fromkeys(code[:3] for code in analyses)
            hint = meant(prefix.upper(), (*analyses, *families)) or f"the codes are {', '.join(analyses)}"
            raise AnalysisError(f"no analysis has the code '{prefix}'", hint=hint)
    return {
        code: value
        for code, value in analyses.items()
        if (not chosen or code.startswith(chosen)) and not (ignored and code.startswith(ignored))
    }


def _codes(given: str | Iterable[str]) -> tuple[str, ...]:
    codes = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    for code in codes:
        if not isinstance(code, str):
            raise ArgumentError("analyses are chosen by code, as 'PCI001', or by several", code)
    return codes


_selected = select


def analyze(
    trace: Trace | PathLike[str] | str,
    analyses: Iterable[Analysis] | Mapping[str, Analysis] | None = None,
    *,
    select: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
) -> list[Outcome]:
    """Run `analyses` (every installed one, where None) on `trace`: one outcome for each, in the order given.

    `trace` may be the path of a report, which is opened. `select` and `ignore` are codes or beginnings of codes, one
    or several, of all installed: `analyze("report.sqlite", select="PCI")`.

    What findings explain is said by the codes of those that ran, and a finding that others follow from is as severe
    as the most severe of them.

    Raises ArgumentError where `trace` is neither, or `analyses` holds something else; AnalysisError where a code names
    no analysis; and what `open_trace` raises.

    Example:
        >>> from nsight_tools import analyze
        >>> for outcome in analyze("sample_traces/detector_pageable.sqlite", select=["PCI001", "PCI005", "PCI007"]):
        ...     print(outcome.code, outcome.status.value)
        PCI001 findings
        PCI005 could_not_run
        PCI007 not_applicable
    """
    opened = as_trace(trace, "analyze")
    chosen = registry() if analyses is None else analyses
    if select or ignore:
        by_code = chosen if isinstance(chosen, Mapping) else {each.code: each for each in chosen}
        chosen = _selected(dict(by_code), select, ignore)
    if not isinstance(chosen, Iterable):
        raise ArgumentError("analyze takes analyses", chosen, hint="to choose by code, give select='PCI'")
    ran = [_checked(each).run(opened) for each in (chosen.values() if isinstance(chosen, Mapping) else chosen)]
    return _weighed(_resolved(ran))


def _checked(given: Analysis) -> Analysis:
    if not hasattr(given, "run"):
        raise ArgumentError("analyze takes analyses", given, hint="to choose by code, give select='PCI'")
    return given


def _resolved(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, with codes for the topics that their findings explain; a topic that none is about is left out."""
    about: dict[str, list[str]] = {}
    for outcome in outcomes:
        about.setdefault(outcome.topic, []).append(outcome.code)

    def codes(finding: Finding) -> Finding:
        named = [[each] if _CODE.fullmatch(each) else about.get(each, []) for each in finding.explains]
        return replace(finding, explains=tuple(code for each in named for code in each))

    return [replace(each, findings=tuple(map(codes, each.findings))) for each in outcomes]


def _weighed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, their findings as severe as the most severe one that follows from them, through however many."""
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    worst = [finding.severity for finding in findings]
    links = [
        (at, to) for at, cause in enumerate(findings) for to, finding in enumerate(findings) if follows(finding, cause)
    ]
    changed = True
    while changed:
        changed = False
        for at, to in links:
            if SEVERITIES.index(worst[to]) < SEVERITIES.index(worst[at]):
                worst[at], changed = worst[to], True
    severity = iter(worst)
    return [
        replace(each, findings=tuple(replace(finding, severity=next(severity)) for finding in each.findings))
        for each in outcomes
    ]
