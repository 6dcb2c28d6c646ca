"""The loop: trace the best, try the most promising change, keep it where it is faster, and again.

All that was done stands in the ledger, and what is done next follows from it alone: whatever ends the loop, it goes on
from there.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nsight_tools import changes, units
from nsight_tools.capture.benchmark import OutOfTimeError
from nsight_tools.tune import judging
from nsight_tools.tune.ledger import Found, Ledger, Run, Step
from nsight_tools.tune.measuring import Failed, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsight_tools.tune.candidates import Chooser
    from nsight_tools.tune.measuring import Measurement, Measurer
    from nsight_tools.tune.settings import Setting

LEAST_RUNS = 3 + 2 * judging.LOOKS[0]
"""The start, its capture, a look at the outputs, and A B A B: before all of that nothing is known of any change."""


class Tracer(Protocol):
    """Captures a setting, and says what its findings promise."""

    def trace(self, setting: Setting, number: int) -> Found:
        """Do it; `number` tells this capture from the tuning's others. Raises NsightToolsError."""
        ...


class Gate(Protocol):
    """Compares what a setting computes with what it should."""

    def begin(self, start: Setting) -> dict[str, Any] | None:
        """Keep what the start computes; what came of comparing it, None where there is nothing to compare it with.

        Raises NsightToolsError where the start itself does not pass.
        """
        ...

    def check(self, setting: Setting) -> dict[str, Any]:
        """What became of the outputs: `passed` (None where they cannot be compared), and `failures` or `reason`.

        Raises Failed where it cannot be run at all.
        """
        ...


@dataclass(frozen=True)
class Budget:
    """What all of a tuning may take; None for as much as it takes."""

    seconds: float | None = None
    runs: int | None = None
    """Runs without the profiler, and captures."""

    def spent(self, ledger: Ledger) -> bool:
        return (self.seconds is not None and ledger.seconds >= self.seconds) or (
            self.runs is not None and ledger.runs >= self.runs
        )


@dataclass
class Loop:
    """A tuning under way."""

    ledger: Ledger
    measurer: Measurer
    tracer: Tracer
    chooser: Chooser
    keep: Callable[[Ledger], None]
    """Writes the ledger, whole."""
    say: Callable[[str], None]
    gate: Gate | None = None
    budget: Budget = field(default_factory=Budget)
    retried: int = 0
    """So many steps, from the first, are tried again where they failed."""
    clock: Callable[[], float] = time.monotonic
    _began: float = 0.0

    def left_s(self) -> float:
        """Seconds of the budget that are left; infinite where it has none."""
        if self.budget.seconds is None:
            return math.inf
        return self.budget.seconds - self.ledger.seconds - (self.clock() - self._began)

    def run(self) -> Ledger:
        """Go on until nothing is left, or the budget is spent.

        Raises Failed or OutOfTimeError where the start itself cannot be measured; anything else that ends it leaves the
        ledger as it was last written.
        """
        ledger = self.ledger
        if ledger.ended == "nothing left" and not any(step.failed for step in ledger.steps[: self.retried]):
            return ledger
        ledger.ended = ""
        while not ledger.ended:
            if self.budget.spent(ledger):
                self._end("budget")
                continue
            self._began = self.clock()
            try:
                self._one()
            except OutOfTimeError as error:  # what it was for stays open, for a larger budget
                if ledger.first is None:
                    raise
                self.say(f"  {error.message}")
                ledger.ended = "budget"
            finally:
                ledger.seconds += self.clock() - self._began
            self.keep(ledger)
        return ledger

    def _one(self) -> None:
        """Do the next thing that the ledger lacks."""
        ledger, best = self.ledger, self.ledger.best
        if ledger.first is None:
            self.say(f"measuring the start: {ledger.start}")
            if self.gate is not None:
                ledger.accuracy = self.gate.begin(ledger.start)
            ledger.first = self._measured(ledger.start)
        elif (step := ledger.open_step) is not None:
            if self.gate is not None and step.accuracy is None:
                self._check(step, self.gate)
            else:
                self._measure(step)
            if step.outcome:
                self.say(f"  {step.said}; {'kept' if step.kept else 'not kept'}")
        elif (captured := ledger.found(best)) is None:
            self.say(f"tracing {best}")
            ledger.captures.append(self.tracer.trace(best, len(ledger.captures)))
            ledger.runs += 1
            self._tell(ledger.captures[-1])
        else:
            steps = (step for at, step in enumerate(ledger.steps) if at >= self.retried or not step.failed)
            tried = [(step.setting, step.changes) for step in steps]
            candidate = self.chooser.next(best, captured.promises, [(ledger.start, ()), *tried])
            if candidate is None:
                self._end("nothing left")
                return
            ledger.steps.append(Step(best, candidate.changes, candidate.why, candidate.promise))
            self.say(f"step {len(ledger.steps)}: {title(ledger.steps[-1])}: {candidate.why}")
            if candidate.promise is not None:
                self.say(f"  {candidate.promise.said} ({candidate.promise.how})")

    def _measured(self, setting: Setting) -> Measurement:
        self.ledger.runs += 1
        return self.measurer.measure(setting)

    def _check(self, step: Step, gate: Gate) -> None:
        """See whether it still computes the same; a step that does not ends before it is measured."""
        self.ledger.runs += 1
        try:
            step.accuracy = gate.check(step.setting)
        except Failed as failed:
            step.outcome, step.said = failed.why.value, f"{failed.why.value}: {failed}"
            return
        if step.accuracy["passed"] is False:
            lost = Why.ACCURACY.value
            step.outcome, step.said = lost, f"{lost}: {'; '.join(step.accuracy['failures'])}"

    def _measure(self, step: Step) -> None:
        """Make one run of a step, and judge it where that is enough; a step that fails ends as that."""
        candidate = len(step.runs) % 2 == 1
        try:
            step.runs.append(Run(candidate, self._measured(step.setting if candidate else step.start)))
        except Failed as failed:
            if not candidate:  # the best so far ran before: this is no fault of the change
                raise
            step.outcome, step.said = failed.why.value, f"{failed.why.value}: {failed}"
        else:
            self._judge(step)

    def _judge(self, step: Step) -> None:
        sides = [run.candidate for run in step.runs]
        if sum(sides) < judging.LOOKS[0] or 2 * sum(sides) != len(sides):
            return
        batch = step.start.get("batch") or 1
        series = {
            "throughput": [batch * 1e9 / run.measurement.throughput_per_s for run in step.runs],
            "latency": [float(run.measurement.p50_ns) for run in step.runs],
        }
        step.throughput, step.latency = (judging.times(sides, series[name]) for name in ("throughput", "latency"))
        step.outcome = judging.verdict(sides, series[self.ledger.goal])
        step.said = said(self.ledger, step)
        if not step.outcome and sum(sides) in judging.LOOKS:
            self.say(f"  {step.said}: more rounds are made")

    def _tell(self, found: Found) -> None:
        if found.headline:
            self.say(f"  {found.headline}")

    def _end(self, why: str) -> None:
        self.ledger.ended = why
        self.keep(self.ledger)


def title(step: Step) -> str:
    """What a step does, in a few words."""
    return " and ".join(changes.done(each) for each in step.changes)


def said(ledger: Ledger, step: Step) -> str:
    """What was measured of a step, in a sentence: never faster, where that may be chance."""
    times = ledger.of_goal(step)
    if times is None:
        return ""
    what = "time of an input" if ledger.goal == "throughput" else "median latency"
    sure = f"{_percent(times.low)} to {_percent(times.high)}"
    rounds = f"{sum(run.candidate for run in step.runs)} rounds"
    if not step.outcome:
        return f"so far the {what} changed by {_percent(times.share)} in {rounds}"
    if step.outcome == "noise":
        return f"noise: the {what} differs by {sure} in {rounds}"
    return f"{step.outcome}: the {what} changed by {_percent(times.share)} ({sure}) in {rounds}"


def _percent(share: float) -> str:
    sign = "+" if share > 0 else ""
    return f"{sign}{units.share(share)}"


def unspent(ledger: Ledger) -> Sequence[str]:
    """Changes that were named and not tried, as a tuning that ran out of budget leaves them."""
    captured = ledger.found(ledger.best)
    tried = {change for step in ledger.steps for change in step.changes}
    left = (change for promise in (captured.promises if captured else ()) for change in promise.changes)
    return [changes.done(each) for each in dict.fromkeys(left) if each not in tried and not ledger.best.has(each)]
