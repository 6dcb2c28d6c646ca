"""What a sweep found, in words and lines: each setting in one, and which to take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nsight_tools import units
from nsight_tools.tune import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nsight_tools.tune.measuring import Measurement, Row
    from nsight_tools.tune.sweep import Point

HEAD = ("inputs/s", "p50", "p99", "memory", "energy")
_WIDTHS = (10, 9, 9, 9, 9)


@dataclass(frozen=True)
class Swept:
    """A sweep for every format to show: what was measured, of what, and the limit on latency that was asked for."""

    about: Mapping[str, Any]
    points: Sequence[Point]
    failed: Sequence[Row] = ()
    limit_ns: float | None = None
    left: int = 0
    """Runs that are still to be made."""
    files: Sequence[str] = field(default_factory=tuple)

    @property
    def front(self) -> list[Point]:
        return sweep.front(self.points)

    @property
    def knee(self) -> Point | None:
        return sweep.knee(self.front)

    @property
    def within(self) -> Point | None:
        """The best that keeps the limit."""
        return None if self.limit_ns is None else sweep.best_within(self.points, self.limit_ns)


def cells(measurement: Measurement) -> tuple[str, ...]:
    """A measurement under `HEAD`."""
    memory = "-" if measurement.memory_bytes is None else units.size(measurement.memory_bytes)
    energy = "-" if measurement.energy_j is None else units.energy(measurement.energy_j)
    times = (units.duration(measurement.p50_ns), units.duration(measurement.p99_ns))
    return (units.number(measurement.throughput_per_s), *times, memory, energy)


def head() -> str:
    """The line above the others."""
    return _line(HEAD, "setting")


def line(row: Row) -> str:
    """A run in one line."""
    if row.measurement is None:
        why = row.why.value if row.why else "failed"
        return f"{why}: {row.said}  [{row.setting}]"
    return _line(cells(row.measurement), str(row.setting))


def _line(values: Sequence[str], setting: str) -> str:
    return " ".join(value.rjust(width) for value, width in zip(values, _WIDTHS, strict=True)) + f"  {setting}"


def answers(sweep: Swept) -> Iterator[str]:
    """Which settings to take, a sentence each."""
    front = sweep.front
    if not front:
        return
    fastest, quickest = front[-1], front[0]
    yield f"most throughput: {_said(fastest)}"
    if quickest is not fastest:
        yield f"least p99: {_said(quickest)}"
    if (knee := sweep.knee) is not None and knee not in {fastest, quickest}:
        yield f"the knee, from where more throughput costs more p99: {_said(knee)}"
    if sweep.limit_ns is not None:
        limit = units.duration(sweep.limit_ns)
        best = sweep.within
        least = quickest.middle.p99_ns
        more = units.duration(least - sweep.limit_ns)
        yield (
            f"best within a p99 of {limit}: {_said(best)}"
            if best
            else f"no setting keeps a p99 of {limit}: the least is {units.duration(least)}, {more} more"
        )
    if (spread := max(point.spread for point in sweep.points)) > 0:
        yield f"runs of one setting differ in throughput by up to {units.share(spread)}"


def _said(point: Point) -> str:
    middle = point.middle
    rate, tail = units.number(middle.throughput_per_s), units.duration(middle.p99_ns)
    return f"{rate} inputs/s, p99 {tail}: {point.setting}"
