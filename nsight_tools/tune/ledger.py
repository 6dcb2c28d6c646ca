"""What a tuning found, tried, measured and kept: data, from which a tuning that was interrupted goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nsight_tools import changes as words
from nsight_tools.errors import InputError
from nsight_tools.findings import Change
from nsight_tools.tune import kept, settings
from nsight_tools.tune.judging import Times
from nsight_tools.tune.measuring import FAILED, Measurement, Why
from nsight_tools.tune.promises import Promise
from nsight_tools.tune.settings import Setting
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LEDGER = "ledger.json"
VERSION = 1
"""Of the ledger: `ledger-schema-1.json` of the reports describes it."""


@dataclass
class Run:
    """One run of a step: of the best so far, or of what is tried."""

    candidate: bool
    measurement: Measurement


@dataclass
class Step:
    """A change that is tried, and what came of it; `outcome` is empty while it is measured."""

    start: Setting
    """The best so far, which it is measured against."""
    changes: tuple[Change, ...]
    why: str
    promise: Promise | None = None
    runs: list[Run] = field(default_factory=list)
    outcome: str = ""
    """faster, slower, noise, or in the words of `Why` for what reason it could not be measured."""
    said: str = ""
    """Why it was kept or not."""
    accuracy: dict[str, Any] | None = None
    """What became of the outputs, as `run.json` has it; None where they were not compared."""
    throughput: Times | None = None
    """The time from one completion to the next, of an inference with all inputs of its batch, as findings promise."""
    latency: Times | None = None
    """The wall of the median inference."""

    @property
    def setting(self) -> Setting:
        return self.start.changed(*self.changes)

    @property
    def kept(self) -> bool:
        return self.outcome == "faster"

    @property
    def failed(self) -> bool:
        """Whether it could not be measured."""
        return self.outcome in FAILED

    @property
    def came(self) -> Times | None:
        """What was measured of what was promised."""
        per = self.promise.per if self.promise else ""
        return self.latency if per == "wall" else self.throughput

    @property
    def held(self) -> bool | None:
        """Whether the promise held; None where nothing was promised, or measured."""
        return self.promise.held(self.came) if self.promise and self.came else None


@dataclass
class Found:
    """A capture of a setting, and what its findings promise."""

    setting: Setting
    capture: str
    """The run directory's name; empty where there is none."""
    promises: tuple[Promise, ...]
    headline: str = ""
    engine: str = ""
    """The engine that ran, from the tuning's folder or by the model's own name; empty where that is not known."""
    shapes: Mapping[str, Sequence[int]] | None = None
    """Of the dynamic inputs, by name; None where that is not known."""


@dataclass
class Ledger:
    """All of a tuning."""

    about: Mapping[str, Any]
    goal: str
    start: Setting
    captures: list[Found] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    first: Measurement | None = None
    """The start, measured before anything else."""
    runs: int = 0
    """Runs without the profiler, and captures, that were made."""
    seconds: float = 0.0
    """That all of it took, interruptions left out."""
    ended: str = ""
    """Why it ended: nothing left, budget; empty while it does not."""
    reference: str | None = None
    """What outputs are compared with; None where they are not."""
    accuracy: dict[str, Any] | None = None
    """What became of the start's outputs beside it."""

    @property
    def best(self) -> Setting:
        """The last setting that was kept."""
        return next((step.setting for step in reversed(self.steps) if step.kept), self.start)

    @property
    def open_step(self) -> Step | None:
        """The step that is being measured."""
        return self.steps[-1] if self.steps and not self.steps[-1].outcome else None

    def found(self, setting: Setting) -> Found | None:
        """The capture of a setting; None where it was not traced."""
        return next((each for each in reversed(self.captures) if each.setting == setting), None)

    @property
    def trtexec(self) -> str:
        """The trtexec that runs the best. Batch and shapes are the same in all settings: any capture tells them."""
        about = self.about
        shapes = next((each.shapes for each in self.captures if each.shapes is not None), None)
        return settings.trtexec_command(
            about["model"]["name"], self.best, about["given"], about.get("tensorrt"), shapes
        )

    @property
    def measured(self) -> list[Setting]:
        """The settings that were measured, the start first, each once."""
        tried = [step.setting for step in self.steps if step.runs]
        return list(dict.fromkeys([*([self.start] if self.first else []), *tried]))

    @property
    def promised(self) -> tuple[int, int]:
        """How many of the promises held that were measured, and how many were."""
        judged = [step.held for step in self.steps if step.held is not None]
        return sum(judged), len(judged)

    def gained(self) -> list[tuple[Step, float]]:
        """The steps that were kept, each with what it left of the time of before, as a share: 0.7 is 30 % less."""
        kept = [step for step in self.steps if step.kept]
        return [(step, 1 + times.share) for step in kept if (times := self.of_goal(step)) is not None]

    def of_goal(self, step: Step) -> Times | None:
        """What came of the step, of what the tuning is for."""
        return step.latency if self.goal == "latency" else step.throughput

    def left_over(self) -> float:
        """What all that was kept left of the start's time, as a share of it."""
        left = 1.0
        for _, share in self.gained():
            left *= share
        return left


def write(path: Path, ledger: Ledger) -> None:
    """Write it, whole. Raises OutputError where it cannot be written."""
    kept.put(path, as_json(ledger))


def read(path: Path) -> Ledger:
    """Read what `write` wrote. Raises InputError where it is no ledger."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise InputError(path, f"is a ledger of version {data['version']}, not {VERSION}")
        return _ledger(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"is no ledger: {error}", hint="start over with --force") from error


def as_json(ledger: Ledger) -> dict[str, Any]:
    """As the ledger's schema has it."""
    held, judged = ledger.promised
    return {
        "version": VERSION,
        "tool": {"name": "nsight-tools", "version": __version__},
        "about": dict(ledger.about),
        "goal": ledger.goal,
        "start": ledger.start.as_json(),
        "reference": ledger.reference,
        "accuracy": ledger.accuracy,
        "first": ledger.first.as_json() if ledger.first else None,
        "captures": [
            {
                "setting": each.setting.as_json(),
                "capture": each.capture or None,
                "headline": each.headline,
                "engine": each.engine or None,
                "shapes": None if each.shapes is None else {name: list(shape) for name, shape in each.shapes.items()},
                "promises": [promise.as_json() for promise in each.promises],
            }
            for each in ledger.captures
        ],
        "steps": [_step_as_json(step) for step in ledger.steps],
        "best": _best(ledger),
        "left_of_the_time": ledger.left_over(),
        "promises": {"held": held, "judged": judged},
        "runs": ledger.runs,
        "seconds": round(ledger.seconds, 1),
        "ended": ledger.ended or None,
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    return {
        "start": step.start.as_json(),
        "changes": [_change(each) for each in step.changes],
        "setting": step.setting.as_json(),
        "why": step.why,
        "promise": step.promise.as_json() if step.promise else None,
        "runs": [{"candidate": run.candidate, **run.measurement.as_json()} for run in step.runs],
        "throughput": _times_as_json(step.throughput),
        "latency": _times_as_json(step.latency),
        "accuracy": step.accuracy,
        "outcome": step.outcome or None,
        "kept": step.kept,
        "held": step.held,
        "said": step.said,
    }


def _best(ledger: Ledger) -> dict[str, Any]:
    """The best setting, and how it is made: by `capture`, by trtexec, and by what a program calls."""
    best, found = ledger.best, ledger.found(ledger.best)
    model, given = ledger.about["model"]["name"], ledger.about["given"]
    return {
        "setting": best.as_json(),
        "capture": (found.capture if found else "") or None,
        "engine": (found.engine if found else "") or None,
        "commands": {
            "capture": settings.capture_command(model, best, given),
            "trtexec": ledger.trtexec,
        },
        "api": list(settings.of_api(best)),
    }


def _change(change: Change) -> dict[str, Any]:
    said = words.said(change)
    told = {"trtexec": said.trtexec or None, "api": said.api or None}
    return {"option": change.option, "value": change.value, **told}


def _times_as_json(times: Times | None) -> dict[str, float] | None:
    if times is None:
        return None
    return {"before_ns": times.before_ns, "share": times.share, "low": times.low, "high": times.high}


def _ledger(data: dict[str, Any]) -> Ledger:
    return Ledger(
        about=data["about"],
        goal=data["goal"],
        start=Setting.of(data["start"]),
        captures=[
            Found(
                Setting.of(each["setting"]),
                each["capture"] or "",
                tuple(Promise.of_json(promise) for promise in each["promises"]),
                each["headline"],
                each["engine"] or "",
                each.get("shapes"),  # ledgers of before have none
            )
            for each in data["captures"]
        ],
        steps=[_step(each) for each in data["steps"]],
        first=Measurement(**data["first"]) if data["first"] else None,
        runs=data["runs"],
        seconds=data["seconds"],
        ended=data["ended"] or "",
        reference=data["reference"],
        accuracy=data["accuracy"],
    )


def _step(data: dict[str, Any]) -> Step:
    runs = [{**each} for each in data["runs"]]
    outcome = data["outcome"] or ""
    if outcome not in {"", "faster", "slower", "noise", *(why.value for why in Why)}:
        raise ValueError(f"there is no outcome {outcome}")
    return Step(
        start=Setting.of(data["start"]),
        changes=tuple(Change(each["option"], each["value"]) for each in data["changes"]),
        why=data["why"],
        promise=Promise.of_json(data["promise"]) if data["promise"] else None,
        runs=[Run(each.pop("candidate"), Measurement(**each)) for each in runs],
        outcome=outcome,
        said=data["said"],
        accuracy=data["accuracy"],
        throughput=Times(**data["throughput"]) if data["throughput"] else None,
        latency=Times(**data["latency"]) if data["latency"] else None,
    )
