"""What a reader has to know to put the numbers down to the right cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsight_tools import units
from nsight_tools.comparison.conditions import SM_CLOCK
from nsight_tools.comparison.result import Change, Effect
from nsight_tools.comparison.unmarked import PACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.comparison.result import Comparison, Difference

REAL = frozenset({Change.LESS, Change.MORE})
STILL = 0.03
"""Calls of a kernel that differ by less than this have not changed in kind."""


def notes(comparison: Comparison) -> tuple[str, ...]:
    """In the order in which they matter."""
    every = (_repeats, _clock, _several, _tail, _calls, _builds)
    return tuple(note for tell in every for note in tell(comparison))


def _repeats(comparison: Comparison) -> Iterator[str]:
    """By how much each side differs from itself."""
    for label, side in (("BEFORE", comparison.before), ("AFTER", comparison.after)):
        measured = side.summary.measured
        if spreads := measured.spreads():
            differs = (
                f"{units.share(spreads['throughput_per_s'])} in throughput and {units.share(spreads['p50_ns'])} in p50"
            )
            yield f"{label} was measured {len(measured.repeats)} times, and differs from itself by up to {differs}."


def _clock(comparison: Comparison) -> Iterator[str]:
    """Whether the kernels' time changed by what the clock explains."""
    clock = next((condition for condition in comparison.conditions if condition.name == SM_CLOCK), None)
    compute = next((bucket for bucket in comparison.buckets if bucket.name == "compute"), None)
    if clock is None or compute is None or clock.change not in {Change.LESS, Change.MORE}:
        return
    slowed, grown = clock.relative(clock.difference), compute.relative(compute.difference)
    if slowed is None or grown is None or abs(slowed) < 0.01:
        return
    alone = 1 / (1 + slowed) - 1
    inside = min(0.0, alone) - 0.01 <= grown <= max(0.0, alone) + 0.01
    yield (
        f"Kernels take {percent(grown)} time, and the SM clock is {units.share(abs(slowed))} "
        f"{'higher' if slowed > 0 else 'lower'}, which alone makes up to {percent(alone)}: "
        + ("the clock explains it." if inside else "the clock does not explain all of it.")
    )


def _several(comparison: Comparison) -> Iterator[str]:
    changes = [difference.aspect for difference in comparison.setup if difference.effect is Effect.CHANGE]
    if len(changes) > 1:
        named = ", ".join(changes)
        yield f"Several things changed at once ({named}): what each of them did cannot be told from two traces."


def _tail(comparison: Comparison) -> Iterator[str]:
    """A tail that changed where the typical inference did not, or the other way round."""
    wall = comparison.traced_wall
    tail = next((wall for wall in comparison.walls if wall.name == "99th percentile"), None)
    if wall is None or tail is None:
        return
    if tail.change in REAL and tail.change is not wall.change:
        change = signed(tail.difference, "ns")
        yield f"The slowest inferences did not change as the typical one did: 99th percentile {change}."


def _calls(comparison: Comparison) -> Iterator[str]:
    """Without inferences: did the kernels change, or what lies between them?"""
    if comparison.wall is not None or not comparison.kernels:
        return
    apart = [abs(kernel.relative(kernel.difference) or 0) for kernel in comparison.kernels]
    pairs = zip(comparison.kernels, apart, strict=True)
    still = [kernel for kernel, share in pairs if kernel.change is Change.NOISE or share < STILL]
    idle, pace = (
        next((work for work in comparison.work if work.name.endswith(name)), None) for name in (": idle", PACE)
    )
    same = f"{len(still)} of the {len(comparison.kernels)} kernels with the most time take as long a call as before"
    yield f"{same} (within {units.share(STILL)}, or noise)" + _between(idle, pace, all_still=len(still) == len(apart))


def _builds(comparison: Comparison) -> Iterator[str]:
    """How long the two engines took to build, and whether the builder chose the same, where captures say so."""
    builds = [_part(side.summary.run or {}, "build") for side in (comparison.before, comparison.after)]
    phases = [_numbers(_part(build, "phases_s")) for build in builds]
    if all(phases):
        before, after = phases
        parts = (
            f"{name.replace('_', ' ')} {units.duration(1e9 * was)} → {units.duration(1e9 * after[name])}"
            for name, was in before.items()
            if name in after
        )
        totals = [units.duration(1e9 * sum(phase.values())) for phase in phases]
        yield f"The build took {totals[0]} before and {totals[1]} after, once each: {', '.join(parts)}."
    chosen = [_part(build, "tactics").get("sha256") for build in builds]
    if all(chosen):
        yield f"The two builds chose {'the same' if chosen[0] == chosen[1] else 'other'} tactics."


def _part(run: dict[str, Any], name: str) -> dict[str, Any]:
    value = run.get(name)
    return value if isinstance(value, dict) else {}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, (int, float)) and value >= 0}


def _between(idle: Difference | None, pace: Difference | None, *, all_still: bool) -> str:
    sentence = ""
    if pace is not None and pace.after is not None:
        sentence += f"; they are called {percent(pace.after - 1)} often in a second"
    if idle is not None and idle.before is not None and idle.after is not None:
        sentence += (
            f", and the GPUs idle for {units.share(idle.after)} of the time, where it was {units.share(idle.before)}"
        )
    lies = "in what runs between the kernels: the host, communication, other kernels"
    return sentence + (f". What changed lies {lies}." if all_still else ".")


def signed(value: float | None, unit: str) -> str:
    """A difference with its sign."""
    if value is None:
        return units.quantity(None, unit)
    if unit == "points":
        value, unit = 100 * value, "points"
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{units.quantity(abs(value), unit)}"  # noqa: RUF001 (a minus)


def percent(ratio: float) -> str:
    """A relative difference in words: "5.9 % more"."""
    return f"{units.share(abs(ratio))} {'more' if ratio >= 0 else 'less'}"
