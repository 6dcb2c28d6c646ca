"""The tuning of a program that only its author can change: it names the next change, and judges what comes of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nsight_tools.comparison.setup import CAPTURE
from nsight_tools.errors import InputError
from nsight_tools.findings import NOISE_SHARE, Severity
from nsight_tools.tune import kept
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nsight_tools.analysis import Outcome
    from nsight_tools.findings import Finding

VERSION = 1
"""Of the ledger: `program-ledger-schema-1.json` of the reports describes it."""
KEPT = "faster"


@dataclass(frozen=True)
class Named:
    """A change that its author is to make: a finding, and what it promises."""

    code: str
    message: str
    recommendation: str
    share: float | None
    """Of an inference, that may come back; None where the finding promises no time."""
    bound: bool = True
    """Whether that is the most that can be."""


@dataclass(frozen=True)
class Seen:
    """A capture, what was found in it, and the changes that it asks for, the most promising first."""

    capture: str
    headline: str
    named: tuple[Named, ...]
    limits: tuple[str, ...] = ()
    """Why the capture tells no more, and what to do about that: nothing that its author is to change."""


@dataclass(frozen=True)
class Judged:
    """A change that was made: what `compare` says of the capture behind it beside the best before."""

    named: Named | None
    """What was asked for; None where nothing was."""
    before: str
    after: str
    verdict: str
    """As `compare` has it: faster, slower, noise, undecided, not_comparable, cannot_tell."""
    said: str

    @property
    def kept(self) -> bool:
        return self.verdict == KEPT


@dataclass
class Program:
    """All of the tuning of a program."""

    command: list[str]
    seen: list[Seen] = field(default_factory=list)
    steps: list[Judged] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    """How it is captured and judged, by option, where that was asked for: each capture is as the first."""

    @property
    def best(self) -> Seen:
        """The last capture that was kept, or the first one."""
        kept = next((step.after for step in reversed(self.steps) if step.kept), self.seen[0].capture)
        return next(each for each in self.seen if each.capture == kept)

    @property
    def next(self) -> Named | None:
        """The next change of the best capture; one that did not help there is not named again. None: nothing left."""
        best = self.best
        made = {step.named.code for step in self.steps if step.named and step.before == best.capture and not step.kept}
        return next((each for each in best.named if each.code not in made), None)

    @property
    def capture(self) -> str:
        """What the next capture is called."""
        return f"{len(self.seen)}.capture"


class Watcher(Protocol):
    """Captures a program, and compares two of its captures."""

    def capture(self, command: Sequence[str], name: str) -> Seen:
        """Capture it into a folder of this name, and analyze it. Raises NsightToolsError."""
        ...

    def compare(self, before: str, after: str) -> tuple[str, str]:
        """The verdict on two captures by name, and a sentence."""
        ...


def begin(command: Sequence[str], watcher: Watcher) -> Program:
    """Capture a program for the first time."""
    program = Program(list(command))
    program.seen.append(watcher.capture(program.command, program.capture))
    return program


def go_on(program: Program, watcher: Watcher, command: Sequence[str] = ()) -> Judged:
    """Capture it after a change, by its command or another one, and judge that against the best before."""
    best, named = program.best, program.next
    program.command = list(command) or program.command
    seen = watcher.capture(program.command, program.capture)
    judged = Judged(named, best.capture, seen.capture, *watcher.compare(best.capture, seen.capture))
    program.seen.append(seen)
    program.steps.append(judged)
    return judged


def named(findings: Sequence[Finding], whole_ns: float | None) -> tuple[Named, ...]:
    """What these findings, the most promising first, ask for; those that promise noise, or are no loss, are left out.

    `whole_ns` is the time of an inference, where a finding does not say what its time is a part of.
    """
    changes = []
    for finding in findings:
        whole = finding.of_ns or whole_ns
        part = finding.recoverable_ns_per_inference
        share = part / whole if part is not None and whole else None
        asks = finding.severity is not Severity.INFO if share is None else share >= NOISE_SHARE
        if asks and finding.recommendation:
            bound = finding.recoverable_between_ns is None
            changes.append(Named(finding.code, finding.message, finding.recommendation, share, bound))
    return tuple(changes)


def limiting(outcomes: Iterable[Outcome]) -> list[Finding]:
    """Findings that are of the capture, and no change of the program; an error is the program's own."""
    of_capture = (finding for outcome in outcomes if outcome.topic == CAPTURE for finding in outcome.findings)
    return [finding for finding in of_capture if finding.severity is Severity.WARNING]


def as_json(program: Program) -> dict[str, Any]:
    """As the ledger's schema has it."""
    return {
        "version": VERSION,
        "tool": {"name": "nsight-tools", "version": __version__},
        "command": program.command,
        "options": program.options,
        "captures": [asdict(seen) | {"named": [asdict(change) for change in seen.named]} for seen in program.seen],
        "steps": [asdict(step) | {"kept": step.kept} for step in program.steps],
        "best": program.best.capture,
        "next": asdict(program.next) if program.next else None,
    }


def write(path: Path, program: Program) -> None:
    """Write it, whole. Raises OutputError where it cannot be written."""
    kept.put(path, as_json(program))


def read(path: Path) -> Program:
    """Read what `write` wrote. Raises InputError where it is no ledger of a program."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        seen = [
            Seen(
                each["capture"],
                each["headline"],
                tuple(Named(**change) for change in each["named"]),
                tuple(map(str, each.get("limits", ()))),  # ledgers of before have none
            )
            for each in data["captures"]
        ]
        steps = [
            Judged(
                Named(**each["named"]) if each["named"] else None,
                *(str(each[name]) for name in ("before", "after", "verdict", "said")),
            )
            for each in data["steps"]
        ]
        program = Program([str(word) for word in data["command"]], seen, steps, dict(data["options"]))
        program.best  # noqa: B018 (raises where the captures are not those of the steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
        hint = "name the folder of a tuning that began with: nsight-tools tune -- COMMAND"
        raise InputError(path, "is no ledger of a program's tuning", hint=hint) from error
    return program
