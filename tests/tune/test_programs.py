"""A program that only its author can change: what is named next, what is judged, and what the ledger keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from nsight_tools.analysis import Outcome, Status
from nsight_tools.cli import tune_program
from nsight_tools.cli.tune import command as tune
from nsight_tools.errors import InputError, NsightToolsError
from nsight_tools.findings import Confidence, Finding, Severity
from nsight_tools.tune import programs
from nsight_tools.tune.programs import Named, Program, Seen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = json.loads(resources.files("nsight_tools.report").joinpath("program-ledger-schema-1.json").read_text("utf-8"))
PINNED = Named("PCI001", "pageable", "pin the buffers", 0.3, bound=False)
GRAPH = Named("LCH001", "launches", "use a graph", 0.2, bound=False)


class Watcher:
    """Sees what it is given, capture by capture, and says of each pair what it is given."""

    def __init__(self, seen: Sequence[tuple[Named, ...]], verdicts: Sequence[str] = ()) -> None:
        self._seen, self._verdicts = iter(seen), iter(verdicts)
        self.commands: list[list[str]] = []

    def capture(self, command: Sequence[str], name: str) -> Seen:
        self.commands.append(list(command))
        return Seen(name, "drawn", next(self._seen))

    def compare(self, before: str, after: str) -> tuple[str, str]:
        return next(self._verdicts), f"{after} beside {before}"


def valid(program: Program) -> Program:
    data = json.loads(json.dumps(programs.as_json(program), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(data)
    return program


def test_a_change_that_helps_is_kept_and_the_next_one_is_of_the_new_capture() -> None:
    watcher = Watcher([(PINNED, GRAPH), (GRAPH,), ()], ["faster", "faster"])
    program = programs.begin(["serve"], watcher)
    assert valid(program).next == PINNED
    judged = programs.go_on(program, watcher)
    assert (judged.named, judged.before, judged.after, judged.kept) == (PINNED, "0.capture", "1.capture", True)
    assert (program.best.capture, program.next) == ("1.capture", GRAPH)
    programs.go_on(program, watcher)
    assert valid(program).next is None
    assert watcher.commands == [["serve"]] * 3


@pytest.mark.parametrize("verdict", ["noise", "slower", "undecided", "not_comparable", "cannot_tell"])
def test_a_change_that_does_not_is_named_no_more(verdict: str) -> None:
    watcher = Watcher([(PINNED, GRAPH), (PINNED,), ()], [verdict, verdict])
    program = programs.begin(["serve"], watcher)
    programs.go_on(program, watcher)
    assert (program.best.capture, program.next) == ("0.capture", GRAPH)
    programs.go_on(program, watcher, ["serve", "--other"])
    assert (program.steps[-1].before, program.next) == ("0.capture", None)
    assert valid(program).command == ["serve", "--other"]


def test_what_did_not_help_may_be_named_again_behind_something_that_did() -> None:
    watcher = Watcher([(PINNED, GRAPH), (), (PINNED,)], ["noise", "faster"])
    program = programs.begin(["serve"], watcher)
    programs.go_on(program, watcher)
    programs.go_on(program, watcher)
    assert program.next == PINNED


def test_a_capture_that_fails_changes_nothing(tmp_path: Path) -> None:
    class Failing(Watcher):
        def capture(self, command: Sequence[str], name: str) -> Seen:
            raise NsightToolsError(f"{name}: {command[0]} crashed")

    program = programs.begin(["serve"], Watcher([(PINNED,)]))
    programs.write(tmp_path / "ledger.json", program)
    with pytest.raises(NsightToolsError, match=r"1\.capture: serve crashed"):
        programs.go_on(program, Failing([]))
    assert programs.as_json(programs.read(tmp_path / "ledger.json"))["next"]["code"] == "PCI001"
    assert program.steps == []


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    watcher = Watcher([(PINNED, GRAPH), (GRAPH,)], ["faster"])
    program = programs.begin(["serve"], watcher)
    programs.go_on(program, watcher)
    programs.write(tmp_path / "ledger.json", program)
    assert programs.read(tmp_path / "ledger.json") == program


@pytest.mark.parametrize("text", ["", "{}", '{"command": ["x"], "captures": [], "steps": []}'])
def test_what_is_no_ledger(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="is no ledger of a program's tuning"):
        programs.read(tmp_path / "ledger.json")


def finding(code: str, severity: Severity, saves: int | None, recommendation: str = "do it") -> Finding:
    return Finding(
        code, severity, Confidence.HIGH, "seen", "because", recommendation, recoverable_ns_per_inference=saves
    )


def test_noise_and_what_asks_for_nothing_are_not_named() -> None:
    findings = [
        finding("CAP001", Severity.ERROR, None),
        finding("PCI001", Severity.WARNING, 300),
        finding("LCH006", Severity.INFO, 10),
        finding("GPU001", Severity.INFO, None),
        finding("LCH001", Severity.WARNING, 200, recommendation=""),
    ]
    assert [(each.code, each.share) for each in programs.named(findings, 1000.0)] == [("CAP001", None), ("PCI001", 0.3)]


def test_what_limits_the_capture_is_no_change_of_the_program() -> None:
    """Warnings are told beside what is named; an error, as of an enqueue that failed, is the program's own."""
    ofs = [finding("CAP001", each, None, recommendation="loop") for each in Severity]
    capture = Outcome("CAP001", "fit", Status.FINDINGS, findings=tuple(ofs), topic="capture")
    other = Outcome("PCI001", "copies", Status.FINDINGS, findings=(finding("PCI001", Severity.WARNING, 300),))
    assert programs.limiting([other, capture]) == [ofs[1]]
    assert ofs[1].severity is Severity.WARNING


def test_limits_are_told_and_kept(tmp_path: Path) -> None:
    class Limited(Watcher):
        def capture(self, command: Sequence[str], name: str) -> Seen:
            return replace(super().capture(command, name), limits=("too few; loop",))

    program = programs.begin(["serve"], Limited([(PINNED,)]))
    programs.write(tmp_path / "ledger.json", valid(program))
    assert programs.read(tmp_path / "ledger.json") == program
    lines = list(tune_program._lines(program, tmp_path))
    assert lines[:3] == ["drawn", "not told: too few; loop", "next: pin the buffers"]
    assert lines[-1].startswith("make this change, then: nsight-tools tune --continue ")


class Recorded(Watcher):
    """In place of the one that has a GPU: keeps the options that it is given, and leaves a capture."""

    asked: ClassVar[list[dict[str, Any]]] = []
    crashes = False

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__([(PINNED,)], ["noise"])
        self._folder = folder
        self.asked.append(options)

    def capture(self, command: Sequence[str], name: str) -> Seen:
        if self.crashes:
            raise NsightToolsError("crashed")
        (self._folder / name).mkdir()
        return super().capture(command, name)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(tune_program, "_Watcher", Recorded)
    monkeypatch.setattr(Recorded, "asked", [])
    return Recorded


def tuned(*arguments: str) -> None:
    CliRunner().invoke(tune, arguments, catch_exceptions=False)


def test_it_goes_on_as_it_was_begun(tmp_path: Path, recorded: type[Recorded]) -> None:
    folder = str(tmp_path / "serve.tune")
    ranges = ("--inference-range", "step *", "--nsys-arg", "--trace=cuda", "--no-untraced")
    tuned("-o", folder, "--goal", "latency", *ranges, "--", "serve", "--streams", "3")
    tuned("--continue", folder)
    tuned("--continue", folder, "--goal", "throughput", "--telemetry-hz", "5")
    tuned("--continue", folder)
    names = ("goal", "inference_range", "untraced", "telemetry_hz")
    seen = [tuple(options[name] for name in names) for options in recorded.asked]
    begun, otherwise = ("latency", "step *", False, 50.0), ("throughput", "step *", False, 5.0)
    assert seen == [begun, begun, otherwise, otherwise]
    assert [list(options["nsys_args"]) for options in recorded.asked] == [["--trace=cuda"]] * 4
    assert valid(programs.read(tmp_path / "serve.tune" / "ledger.json")).command == ["serve", "--streams", "3"]


def test_one_that_is_begun_anew_leaves_no_ledger_of_captures_that_are_gone(
    tmp_path: Path, recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "serve.tune"
    tuned("-o", str(folder), "--", "serve")
    tuned("--continue", str(folder))
    tuned("-o", str(folder), "--force", "--", "other")
    assert sorted(path.name for path in folder.iterdir()) == ["0.capture", "ledger.json"]
    monkeypatch.setattr(recorded, "crashes", True)
    with pytest.raises(NsightToolsError, match="crashed"):
        tuned("-o", str(folder), "--force", "--", "other")
    assert list(folder.iterdir()) == []
