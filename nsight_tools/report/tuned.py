"""What a tuning did, in words: from first to last, what was promised of each step and what came, what to paste."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.tune import settings
from nsight_tools.tune.loop import title, unspent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.tune.judging import Times
    from nsight_tools.tune.ledger import Ledger, Step

WHAT = {"throughput": "an input takes", "latency": "the median inference takes"}
NOTHING = "-"
"""In a cell, of a step that is not judged."""
_HELD = {True: "the promise held", False: "the promise did not hold", None: ""}


@dataclass(frozen=True)
class Line:
    """A step as the cells of a table."""

    step: Step
    title: str
    promised: str
    came: str
    """With its interval."""
    outcome: str
    held: str


def headline(ledger: Ledger) -> str:
    """What became of it, in a sentence."""
    kept = len(ledger.gained())
    measured = sum(bool(step.outcome) for step in ledger.steps)
    why = {"nothing left": "nothing is left to try", "budget": "the budget is spent"}.get(ledger.ended, "not ended")
    if not kept:
        none = "the one step that was tried" if measured == 1 else f"none of the {measured} steps that were tried"
        tried = f"{none} {'did not make' if measured == 1 else 'made'} it faster" if measured else "no step was tried"
        return f"{tried}: {ledger.start} stays the best; {why}"
    first = start_ns(ledger)
    steps = f"{kept} of {measured} steps kept"
    times = f"{units.duration(first)} → {units.duration(first * ledger.left_over())}"
    return f"{units.number(1 / ledger.left_over())} times as fast: {WHAT[ledger.goal]} {times}; {steps}; {why}"


def start_ns(ledger: Ledger) -> float:
    """The time of the start, in ns: of an input, or of the median inference where that is the goal.

    As the first step that was judged measured it, else as it was measured alone; 0 where neither is there.
    """
    inputs = 1 if ledger.goal == "latency" else ledger.start.get("batch") or 1
    for step in ledger.steps:
        if (times := ledger.of_goal(step)) is not None and step.start == ledger.start:
            return times.before_ns / inputs
    if ledger.first is None:
        return 0.0
    return float(ledger.first.p50_ns) if ledger.goal == "latency" else 1e9 / ledger.first.throughput_per_s


def lines(ledger: Ledger) -> list[Line]:
    """All steps, in their order."""
    return [
        Line(
            step,
            title(step),
            step.promise.said if step.promise else "no promise",
            _came(ledger.of_goal(step)),
            ("kept: " if step.kept else "") + (step.outcome or "not judged yet"),
            _HELD[step.held],
        )
        for step in ledger.steps
    ]


def _came(times: Times | None) -> str:
    if times is None:
        return NOTHING
    return f"{_signed(times.share)} ({_signed(times.low)} to {_signed(times.high)})"


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else ''}{units.share(share)}"


def to_paste(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """The best: for `capture`, for trtexec, and what a program calls."""
    model, given = ledger.about["model"]["name"], ledger.about["given"]
    best = ledger.best
    yield "capture", settings.capture_command(model, best, given)
    yield "trtexec", ledger.trtexec
    for at, call in enumerate(settings.of_api(best)):
        yield ("" if at else "in a program"), call


def text(ledger: Ledger) -> Iterator[str]:
    """All of it, line by line."""
    yield f"{ledger.about['model']['name']}: {headline(ledger)}"
    for number, line in enumerate(lines(ledger), 1):
        so = f"; {line.held}" if line.held else ""
        came = f", {line.came}" if line.came != NOTHING else ""
        yield f"  {number}. {line.title}: {line.outcome}{came}; {line.promised}{so}"
        if line.step.came is None and line.step.said:
            yield f"     {line.step.said}"
    held, judged = ledger.promised
    if judged:
        yield f"{held} of {judged} promises held"
    if ledger.ended == "budget" and (left := unspent(ledger)):
        yield f"not tried: {', '.join(left)}"
    for label, words in to_paste(ledger):
        yield f"{label:>12}  {words}"
