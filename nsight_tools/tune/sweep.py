"""Many settings, each measured without the profiler, and which of them nobody else beats."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.tune.measuring import Failed, Measurement, Measurer, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsight_tools.tune.settings import Setting


def left(settings: Sequence[Setting], rows: Sequence[Row], times: int) -> list[Setting]:
    """What is still to be measured so that each setting was, `times` times; all once before any again.

    What failed is not tried again, unless its row is taken out (`without_failed`).
    """
    failed = {row.setting for row in rows if row.measurement is None}
    made = [row.setting for row in rows]
    rounds = {setting: made.count(setting) for setting in settings if setting not in failed}
    return [setting for number in range(times) for setting, count in rounds.items() if count <= number]


def without_failed(settings: Sequence[Setting], rows: Sequence[Row]) -> list[Row]:
    """The rows but for those that say that one of these settings failed."""
    return [row for row in rows if row.measurement is not None or row.setting not in settings]


def measured(
    settings: Sequence[Setting], times: int, measurer: Measurer, rows: list[Row], keep: Callable[[list[Row]], None]
) -> Iterator[Row]:
    """Measure what is left, in turn: each row is added to `rows`, kept by `keep`, then given."""
    while todo := left(settings, rows, times):
        setting = todo[0]
        try:
            row = Row(setting, measurer.measure(setting))
        except Failed as failed:
            row = Row(setting, None, failed.why, str(failed))
        rows.append(row)
        keep(rows)
        yield row


@dataclass(frozen=True)
class Point:
    """A setting with all its runs: their medians, and by which share of it their throughput differs."""

    setting: Setting
    middle: Measurement
    runs: int = 1
    spread: float = 0.0


def points(rows: Sequence[Row], settings: Sequence[Setting] | None = None) -> list[Point]:
    """The settings that were measured, in their order; None for all there are."""
    by_setting: dict[Setting, list[Measurement]] = {}
    for row in rows:
        if row.measurement is not None:
            by_setting.setdefault(row.setting, []).append(row.measurement)
    wanted = by_setting if settings is None else [setting for setting in settings if setting in by_setting]
    return [_point(setting, by_setting[setting]) for setting in wanted]


def _point(setting: Setting, runs: list[Measurement]) -> Point:
    rates = [run.throughput_per_s for run in runs]
    middle: dict[str, float | int | None] = {}
    for field in fields(Measurement):
        known = [value for run in runs if (value := getattr(run, field.name)) is not None]
        median = float(np.median(known)) if known else None
        whole = median is not None and all(isinstance(value, int) for value in known)
        middle[field.name] = round(median) if whole and median is not None else median
    spread = (max(rates) - min(rates)) / float(np.median(rates)) if float(np.median(rates)) else 0.0
    return Point(setting, Measurement(**middle), len(runs), spread)  # type: ignore[arg-type]


def front(found: Sequence[Point]) -> list[Point]:
    """Pareto's front of throughput against p99, the least p99 first: no other has as much of both.

    Where several have the same of both, the first of them.
    """
    best, kept = 0.0, []
    for point in sorted(found, key=lambda each: (each.middle.p99_ns, -each.middle.throughput_per_s)):
        if point.middle.throughput_per_s > best:
            best = point.middle.throughput_per_s
            kept.append(point)
    return kept


def knee(of_front: Sequence[Point]) -> Point | None:
    """Where a front bends most: from there on, more throughput costs more p99 than before.

    The point farthest above the line between the front's ends, both axes from 0 to 1 (Satopaa and others, 2011:
    "Finding a Kneedle in a Haystack"). None of a front of fewer than three points, or where none is above that line.
    """
    if len(of_front) < 3:
        return None
    rate = np.array([point.middle.throughput_per_s for point in of_front])
    tail = np.array([point.middle.p99_ns for point in of_front], np.float64)
    above = (rate - rate[0]) / (rate[-1] - rate[0]) - (tail - tail[0]) / (tail[-1] - tail[0])
    at = int(np.argmax(above))
    return of_front[at] if above[at] > 0 else None


def best_within(found: Sequence[Point], p99_ns: float) -> Point | None:
    """The setting of the highest throughput whose p99 is no more than so many ns; None where none keeps it."""
    kept = [point for point in found if point.middle.p99_ns <= p99_ns]
    return max(kept, key=lambda point: point.middle.throughput_per_s) if kept else None
