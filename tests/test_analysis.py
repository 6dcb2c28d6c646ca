"""The contract of an analysis: its declaration, its four ends, its registry and its selection."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import nsight_analyses
import pytest

import nsight_tools
from nsight_tools.analysis import (
    ENTRY_POINT_GROUP,
    SECTIONS,
    Analysis,
    Status,
    analysis,
    analyze,
    collect,
    registry,
    select,
)
from nsight_tools.cli.capture import command as capture
from nsight_tools.errors import AnalysisError, CouldNotRun, NotApplicable
from nsight_tools.findings import Change, Confidence, Finding, Severity
from nsight_tools.report.formats.html.pages import _PICTURES
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(nsight_analyses.__file__).parent
RULES = [path for path in FOLDER.rglob("*.py") if re.match(r"[a-z]{3}\d{3}_", path.name)]
SAID = ("code", "severity", "confidence", "message", "cause", "recommendation")
"""What a finding says in words: its first fields."""
CODES = sorted(path.name[:6].upper() for path in RULES)

FULL = """Kernels are there.

    Measures: rows of `kernels`.

    Why it matters: it is a test.

    Remedy: none.

    Blind spots: all.
    """


def finding(code: str, *explains: str, severity: Severity = Severity.INFO, change: tuple[Change, ...] = ()) -> Finding:
    return Finding(code, severity, Confidence.LOW, "seen", "because", "do that", explains=explains, change=change)


def declare(
    code: str, *, needs: tuple[str, ...] = (), run: Callable[[Trace], Iterator[Finding]] | None = None, **more: Any
) -> Analysis:
    def some_test_analysis(trace: Trace) -> Iterator[Finding]:
        yield from run(trace) if run else ()

    some_test_analysis.__doc__ = FULL
    return analysis(code, needs=needs, **more)(some_test_analysis)


def finds(*found: Finding, **more: Any) -> Analysis:
    return declare(found[0].code, run=lambda _: iter(found), **more)


class TestDeclaration:
    def test_what_it_knows_of_itself(self) -> None:
        declared = declare("TST001", needs=("kernels",))
        assert (declared.code, declared.needs) == ("TST001", {"kernels"})
        assert declared.name == "some test analysis"
        assert declared.summary == "Kernels are there"
        assert declared.doc.splitlines()[2] == "Measures: rows of `kernels`."

    def test_what_it_does_not_say_stays_open(self) -> None:
        declared = declare("TST001")
        assert (declared.topic, declared.bucket, declared.picture, declared.change) == ("", ("wall",), "", ())

    @pytest.mark.parametrize(
        ("module", "family"),
        [("rules", ""), ("my_package.rules", ""), ("my_package.memory.tst001_some", "memory")],
    )
    def test_its_family_is_its_folder(self, module: str, family: str) -> None:
        def some(_trace: Trace) -> Iterator[Finding]:
            yield from ()

        some.__doc__, some.__module__ = FULL, module
        assert analysis("TST001")(some).family == family
        assert analysis("TST001", family="own")(some).family == "own"

    @pytest.mark.parametrize("code", ["", "PCI", "PCI1", "pci001", "PCI0001", "XPCI001", "PCI001 ", "PC1001"])
    def test_a_code_is_three_capitals_and_three_digits(self, code: str) -> None:
        with pytest.raises(AnalysisError, match="is no analysis code") as raised:
            declare(code)
        assert f"'{code}'" in str(raised.value)
        assert "PCI001" in raised.value.hint

    @pytest.mark.parametrize("section", SECTIONS)
    def test_each_section_must_be_there(self, section: str) -> None:
        def lacking(_trace: Trace) -> Iterator[Finding]:
            yield from ()

        lacking.__doc__ = FULL.replace(f"{section}:", f"{section} ")
        with pytest.raises(AnalysisError, match=f"the docstring of TST001 has no section {section}$"):
            analysis("TST001")(lacking)

    def test_without_a_docstring_all_are_named(self) -> None:
        with pytest.raises(AnalysisError, match=", ".join(SECTIONS)):
            analysis("TST001")(lambda _trace: iter(()))


class TestOutcomes:
    def test_findings(self) -> None:
        outcome = declare("TST001", run=lambda _: iter([finding("TST001")])).run(Trace.from_tables({}))
        assert (outcome.code, outcome.summary) == ("TST001", "Kernels are there")
        assert (outcome.status, outcome.reason, outcome.findings) == (Status.FINDINGS, "", (finding("TST001"),))

    def test_clear(self) -> None:
        outcome = declare("TST001", needs=("kernels",)).run(Trace.from_tables({"kernels": TABLES["kernels"].empty()}))
        assert (outcome.status, outcome.reason, outcome.findings) == (Status.CLEAR, "", ())

    def test_could_not_run_for_a_table_that_was_not_collected(self) -> None:
        def must_not_run(_trace: Trace) -> Iterator[Finding]:
            raise AssertionError

        trace = Trace.from_tables({}, missing={"kernels": "no kernels here", "gpu_metrics": "no metrics here"})
        outcome = declare("TST001", needs=("gpus", "kernels"), run=must_not_run).run(trace)
        assert (outcome.status, outcome.reason, outcome.findings) == (Status.COULD_NOT_RUN, "no kernels here", ())

    def test_could_not_run_as_the_analysis_finds_after_a_first_finding(self) -> None:
        def gives_up(_trace: Trace) -> Iterator[Finding]:
            yield finding("TST001")
            raise CouldNotRun("too few samples")

        outcome = declare("TST001", run=gives_up).run(Trace.from_tables({}))
        assert (outcome.status, outcome.reason, outcome.findings) == (Status.COULD_NOT_RUN, "too few samples", ())

    def test_not_applicable_where_there_is_nothing_to_look_for(self) -> None:
        def nothing(_trace: Trace) -> Iterator[Finding]:
            raise NotApplicable("no copies")
            yield

        outcome = declare("TST001", run=nothing).run(Trace.from_tables({}))
        assert (outcome.status, outcome.reason, outcome.findings) == (Status.NOT_APPLICABLE, "no copies", ())

    def test_a_finding_without_a_change_has_its_analysis_one(self) -> None:
        graph, batch = Change("use_cuda_graph"), Change("batch", 8)
        outcome = finds(finding("TST001"), finding("TST001", change=(batch,)), change=graph).run(Trace.from_tables({}))
        assert [each.change for each in outcome.findings] == [(graph,), (batch,)]

    def test_an_error_in_the_analysis_is_no_outcome(self) -> None:
        def broken(_trace: Trace) -> Iterator[Finding]:
            raise ZeroDivisionError
            yield

        with pytest.raises(ZeroDivisionError):
            declare("TST001", run=broken).run(Trace.from_tables({}))

    def test_a_need_that_is_no_table_fails_loudly(self) -> None:
        with pytest.raises(Exception, match="there is no table kernel"):
            declare("TST001", needs=("kernel",)).run(Trace.from_tables({}))

    def test_analyze_gives_one_outcome_each_in_the_order_given(self) -> None:
        two = [declare("TST002"), declare("TST001", run=lambda _: iter([finding("TST001")]))]
        outcomes = analyze(Trace.from_tables({}), two)
        assert [(o.code, o.status) for o in outcomes] == [("TST002", Status.CLEAR), ("TST001", Status.FINDINGS)]

    def test_what_findings_explain_is_said_by_codes_of_those_that_ran(self) -> None:
        cause = finds(finding("TST001", "gaps", "nothing that ran", "ABC001"))
        outcomes = analyze(Trace.from_tables({}), [cause, declare("TST002", topic="gaps"), declare("TST003", topic="")])
        assert outcomes[0].findings[0].explains == ("TST002", "ABC001")

    def test_a_cause_is_as_severe_as_what_follows_from_it(self) -> None:
        chain = [
            finds(finding("TST001", "b")),
            finds(finding("TST002", "c"), topic="b"),
            finds(finding("TST003", severity=Severity.WARNING), topic="c"),
            finds(finding("TST004", "b")),
            finds(finding("TST005")),
        ]
        outcomes = analyze(Trace.from_tables({}), chain)
        assert [each.findings[0].severity.value for each in outcomes] == ["warning"] * 4 + ["info"]

    def test_errors_follow_from_nothing_nor_does_what_explains_each_other(self) -> None:
        pair = [finds(finding("TST001", "b"), topic="a"), finds(finding("TST002", severity=Severity.ERROR), topic="b")]
        assert analyze(Trace.from_tables({}), pair)[0].findings[0].severity is Severity.INFO
        pair[1] = finds(finding("TST002", "a", severity=Severity.WARNING), topic="b")
        assert analyze(Trace.from_tables({}), pair)[0].findings[0].severity is Severity.INFO

    def test_analyze_runs_all_that_are_installed(self) -> None:
        reasons = dict.fromkeys(TABLES, "nothing was collected")
        outcomes = analyze(Trace.from_tables({}, missing=reasons))
        assert [o.code for o in outcomes] == CODES
        judged = {o.code for o in outcomes if o.status != Status.COULD_NOT_RUN}
        assert judged == {"CAP001"}, "nothing else can be said of a report that holds nothing"
        assert {o.reason for o in outcomes if o.code not in judged} == {"nothing was collected"}


class FakeEntryPoint:
    """An entry point whose module is given, or raises when it loads."""

    def __init__(self, value: str, module: ModuleType | Exception) -> None:
        self.value, self._module = value, module

    def load(self) -> ModuleType:
        if isinstance(self._module, Exception):
            raise self._module
        return self._module


def module(name: str, *analyses: Analysis) -> ModuleType:
    made = ModuleType(name)
    for at, each in enumerate(analyses):
        setattr(made, f"analysis_{at}", each)
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces what is installed, for the group that the registry must ask for."""

    def replace(*entry_points: FakeEntryPoint) -> None:
        def of_group(*, group: str) -> tuple[FakeEntryPoint, ...]:
            assert group == "nsight_tools.analyses"
            return entry_points

        monkeypatch.setattr(metadata, "entry_points", of_group)

    return replace


OURS = [each for each in registry().values() if each.function.__module__.startswith("nsight_analyses.")]
RULE = f'''
from nsight_tools.analysis import analysis

@analysis("TST001")
def some(trace):
    """{FULL}"""
    yield from ()
'''


def package(folder: Path, name: str) -> Path:
    """A package with an empty one in it."""
    inner = folder / name / "inner"
    inner.mkdir(parents=True)
    for each in (inner.parent, inner):
        (each / "__init__.py").touch()
    return inner


class TestRegistry:
    def test_finds_all_that_are_installed(self) -> None:
        assert list(registry()) == CODES
        assert all(code == each.code for code, each in registry().items())

    def test_one_entry_point_is_all_of_ours(self) -> None:
        values = [point.value for point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
        assert [value for value in values if value.startswith("nsight_analyses")] == ["nsight_analyses"]

    def test_a_rule_is_a_file_named_by_its_code_and_subject_in_its_familys_folder(self) -> None:
        for each in OURS:
            *_, family, name = each.function.__module__.split(".")
            assert (family, name) == (each.family, f"{each.code.lower()}_{each.function.__name__}")
        assert {path.stem for path in RULES} == {each.function.__module__.rpartition(".")[2] for each in OURS}

    def test_nothing_outside_of_a_rules_file_knows_its_code(self) -> None:
        code = re.compile(rf"(?<!explain )\b({'|'.join(CODES)})\b")
        for path in [*FOLDER.rglob("*.py"), *Path(nsight_tools.__file__).parent.rglob("*.py")]:
            if path.parts[-2:] in {("nsight_tools", "analysis.py"), ("cli", "analyze.py"), ("cli", "report.py")}:
                continue  # examples of what a code looks like
            own = {path.name[:6].upper()} if path in RULES else set()
            lines = path.read_text("utf-8").splitlines()
            said = "\n".join(
                line for line in lines if not line.lstrip().startswith((">>>", "...")) and "as PCI001" not in line
            )
            assert set(code.findall(said)) <= own, path

    def test_no_rule_imports_another(self) -> None:
        for path in FOLDER.rglob("*.py"):
            assert not re.search(r"import.*\b[a-z]{3}\d{3}_|from .*\.[a-z]{3}\d{3}_", path.read_text("utf-8")), path

    @pytest.mark.parametrize("code", CODES)
    def test_what_a_rule_declares_is_known(self, code: str) -> None:
        declared = registry()[code]
        assert {f"{each}_ns" for each in declared.bucket} <= {*TABLES["inferences"].names, "mean_ns"}
        assert declared.picture in {"", *_PICTURES}
        options = {name for option in capture.params for name in (*option.opts, *option.secondary_opts)}
        assert {f"--{each.option.replace('_', '-')}" for each in declared.change} <= options
        assert declared.topic
        assert sum(declared.topic == other.topic for other in OURS) == 1

    def test_what_findings_explain_are_topics(self) -> None:
        topics = {each.topic for each in OURS}
        said = [re.findall(r"explains=\((.*)\)", path.read_text("utf-8")) for path in FOLDER.rglob("*.py")]
        named = {topic for each in said for line in each for topic in re.findall(r'"([^"]+)"', line)}
        assert named
        assert named <= topics

    def test_a_package_is_walked(
        self, installed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inner = package(tmp_path, "their_rules_walked")
        (inner / "tst001_some.py").write_text(RULE, "utf-8")
        (inner / "__main__.py").write_text("raise SystemExit('never run')", "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        installed(FakeEntryPoint("their_rules_walked", import_module("their_rules_walked")))
        assert [(each.code, each.family) for each in registry().values()] == [("TST001", "inner")]

    @pytest.mark.parametrize("file", ["tst001_some.py", "__init__.py"])
    @pytest.mark.parametrize("error", ["import torch_of_nowhere", "1 / 0"])
    def test_a_module_of_a_package_that_does_not_load_is_an_error(
        self, file: str, error: str, installed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"their_rules_{abs(hash((file, error)))}"
        (package(tmp_path, name) / file).write_text(error, "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        installed(FakeEntryPoint(name, import_module(name)))
        with pytest.raises(AnalysisError, match=f"'{name}' do not load: (No module named|division by zero)"):
            registry()

    @pytest.mark.parametrize("code", CODES)
    def test_needs_are_tables_and_findings_carry_the_code(self, code: str) -> None:
        declared = registry()[code]
        assert declared.needs <= TABLES.keys()
        assert f'"{code}"' in inspect.getsource(inspect.getmodule(declared.function))  # type: ignore[arg-type]
        assert declared.summary
        assert "\n" not in declared.summary

    def test_anybodys_analyses_come_in_by_the_same_door(self, installed: Callable[..., None]) -> None:
        theirs, ours = declare("ABC001"), declare("TST001")
        installed(
            FakeEntryPoint("tests.ours", module("ours", ours)), FakeEntryPoint("theirs", module("theirs", theirs))
        )
        assert registry() == {"ABC001": theirs, "TST001": ours}
        assert list(registry()) == ["ABC001", "TST001"]

    def test_one_that_does_not_load_is_named(self, installed: Callable[..., None]) -> None:
        good = FakeEntryPoint("good", module("good", declare("TST001")))
        installed(good, FakeEntryPoint("broken.package", ImportError("No module named 'torch'")))
        with pytest.raises(AnalysisError, match=r"'broken\.package' do not load: No module named 'torch'") as raised:
            registry()
        assert raised.value.hint

    def test_one_that_is_not_declared_properly_is_named(self, installed: Callable[..., None]) -> None:
        installed(FakeEntryPoint("careless", AnalysisError("the docstring of TST001 has no section Remedy")))
        with pytest.raises(
            AnalysisError, match="'careless' do not load: the docstring of TST001 has no section Remedy"
        ):
            registry()

    @pytest.mark.parametrize(
        "points", [(), (FakeEntryPoint("empty", ModuleType("empty")),)], ids=["none", "empty module"]
    )
    def test_none_at_all_is_an_error(self, installed: Callable[..., None], points: tuple[FakeEntryPoint, ...]) -> None:
        installed(*points)
        with pytest.raises(AnalysisError, match="no analyses are installed") as raised:
            registry()
        assert "pip install" in raised.value.hint

    def test_two_with_one_code_are_an_error(self, installed: Callable[..., None]) -> None:
        one, other = declare("TST001"), declare("TST001")
        installed(FakeEntryPoint("one", module("one", one)), FakeEntryPoint("other", module("other", other)))
        with pytest.raises(AnalysisError, match="two analyses have the code TST001; rename the one in other"):
            registry()

    def test_the_same_analysis_imported_into_two_modules_is_one(self) -> None:
        one = declare("TST001")
        assert collect([module("here", one), module("there", one)]) == {"TST001": one}


SOME = ["CAP001", "FUS001", "FUS002", "PCI001", "PCI002", "PCI003", "STR001", "THR001"]


class TestSelect:
    ALL = {code: declare(code) for code in SOME}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("chosen", "ignored", "expected"),
        [
            ((), (), SOME),
            (("PCI",), (), ["PCI001", "PCI002", "PCI003"]),
            (("PCI002", "STR"), (), ["PCI002", "STR001"]),
            ((), ("FUS", "PCI"), ["CAP001", "STR001", "THR001"]),
            (("PCI",), ("PCI002",), ["PCI001", "PCI003"]),
            (("PCI002",), ("PCI",), []),
        ],
    )
    def test_by_prefixes(self, chosen: tuple[str, ...], ignored: tuple[str, ...], expected: list[str]) -> None:
        assert list(select(self.ALL, chosen, ignored)) == expected

    @pytest.mark.parametrize(("chosen", "ignored"), [(("PCI", "XYZ"), ()), ((), ("XYZ",)), (("XYZ",), ("XYZ",))])
    def test_unknown_codes_are_named_with_those_that_there_are(
        self, chosen: tuple[str, ...], ignored: tuple[str, ...]
    ) -> None:
        with pytest.raises(AnalysisError, match="no analysis has the code 'XYZ'") as raised:
            select(self.ALL, chosen, ignored)
        assert ", ".join(SOME) in raised.value.hint


def test_no_installed_rule_prices_what_it_finds() -> None:
    """A rule gives the loss that it saw; `worth` alone says what comes back of it."""
    priced = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                given = [keyword.arg for keyword in node.keywords if (keyword.arg or "").startswith("recoverable")]
                priced += [path.name] * bool(given or len(node.args) > len(SAID))
    assert priced == []
