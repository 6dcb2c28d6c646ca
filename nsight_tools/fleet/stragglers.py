"""Which report of a fleet is slower than the others, what explains it, and since when.

Only reports that do the same are laid side by side: the same GPU, kernels, grids, transfers, threads. Of each group
the centre is the median over its reports, and the spread the scaled median absolute deviation, no less than what a run
drifts by itself. A report stands out where its excess is both large, 5 % of the typical inference, and more deviations
than chance would give any of so many equal reports once in a hundred fleets. For few reports that is many: four need
35, eight 13, sixteen 8 (the deviation itself is then known badly); fewer than four are not judged.

What differs in one bucket while the wall does not is said too: ranks that wait for each other all take as long as the
slowest one, whose compute is long while the others' waits are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.comparison.inputs import WORK_SHARE
from nsight_tools.comparison.resampling import ENOUGH, Floats
from nsight_tools.fleet.numbers import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nsight_tools.fleet.numbers import Numbers

FEWEST = 4
"""Of three reports one that differs may as well be the only one that is as it should be."""
SHARE = 0.05
"""Of the typical inference: an excess below it changes nothing that anybody runs."""
LEVEL = 0.99
"""Of fleets of equal reports, in which none is called."""
MOST = 64
"""Reports for which the bound is simulated; for more it hardly changes."""
DRAWS = 40_000
SCALE = 1.4826
"""Median absolute deviation to standard deviation, of a normal distribution."""
SETTLED = 0.05
"""Of a run's steps that may be as the others' are, in one that was slow from its start."""
UNSETTLED = 0.15
"""Of a run's steps on the wrong side of the best change: with more, it is on and off."""


IMPLIED_BY = {"grids of the kernels": "kernels", "tracing of CUDA graphs": "launches"}
"""What is another anyhow where that is."""


@dataclass(frozen=True)
class Group:
    """Reports that can be laid side by side, by label; and how the first one differs from the largest group's."""

    labels: tuple[str, ...]
    differs: tuple[tuple[str, str, str], ...] = ()
    """What is another, here and in the largest group."""
    judged: bool = False


@dataclass(frozen=True)
class Since:
    """When it began: `how` is start, since, or on_and_off; the inference's number, and nanoseconds of its session."""

    how: str
    inference: int
    time_ns: int
    utc_ns: int | None


@dataclass(frozen=True)
class Straggler:
    """A report that stands out in one quantity, `wall` or a bucket; typical times in nanoseconds.

    `explained` has the buckets that make up the wall's excess, the largest first, each with its excess.
    """

    label: str
    quantity: str
    value_ns: float
    others_ns: float
    deviations: float
    late: bool
    """Only the last quarter of its inferences stands out."""
    explained: tuple[tuple[str, float], ...]
    since: Since

    @property
    def excess_ns(self) -> float:
        return self.value_ns - self.others_ns


def groups(numbers: Mapping[str, Numbers]) -> list[Group]:
    """The reports that do the same, the largest group first."""
    grouped: list[list[str]] = []
    for label, of_report in numbers.items():
        mine = next((group for group in grouped if not _differences(of_report, numbers[group[0]])), None)
        if mine is None:
            grouped.append([label])
        else:
            mine.append(label)
    grouped.sort(key=lambda group: -len(group))
    return [
        Group(
            tuple(group),
            tuple(_differences(numbers[group[0]], numbers[grouped[0][0]])),
            sum(numbers[label].inferences >= ENOUGH for label in group) >= FEWEST,
        )
        for group in grouped
    ]


def _differences(one: Numbers, other: Numbers) -> list[tuple[str, str, str]]:
    differences = [(name, value, other.setup[name]) for name, value in one.setup.items() if value != other.setup[name]]
    names = {name for name, _, _ in differences}
    differences = [difference for difference in differences if IMPLIED_BY.get(difference[0]) not in names]
    sides = zip(("bytes copied to the GPU", "bytes copied to the host"), one.copied, other.copied, strict=True)
    return differences + [
        (name, f"{a:,.0f}", f"{b:,.0f}") for name, a, b in sides if abs(a - b) > WORK_SHARE * max(a, b)
    ]


def stragglers(group: Group, numbers: Mapping[str, Numbers]) -> list[Straggler]:
    """Those of a group, the largest excess first; each report once, by its wall if that stands out."""
    labels = [label for label in group.labels if numbers[label].inferences >= ENOUGH]
    if len(labels) < FEWEST:
        return []
    those = [numbers[label] for label in labels]
    whole, last = (np.array([getattr(number, stretch) for number in those]) for stretch in ("typical", "last"))
    columns = [(whole, False, 0), (last, True, 0), *((whole, False, at) for at in range(1, len(QUANTITIES)))]
    by_label: dict[str, Straggler] = {}
    for values, late, column in columns:
        for straggler in _standing_out(values, column, labels, those, late=late):
            by_label.setdefault(straggler.label, straggler)
    return sorted(by_label.values(), key=lambda straggler: (straggler.quantity != "wall", -straggler.excess_ns))


def _standing_out(
    values: Floats, column: int, labels: Sequence[str], those: Sequence[Numbers], *, late: bool
) -> Iterator[Straggler]:
    """Those that stand out in one quantity, a `column` of `values`, shape (reports, quantities), ns."""
    drift = float(np.median([number.drift for number in those]))
    centre = float(np.median(values[:, column]))
    away = values[:, column] - centre
    deviations = away / max(SCALE * float(np.median(np.abs(away))), drift, 1.0)
    out = (away >= SHARE * np.median(values[:, 0])) & (deviations > bound(len(labels)))
    for at in np.flatnonzero(out).tolist():
        excess = values[at] - np.median(values, axis=0)
        yield Straggler(
            labels[at],
            QUANTITIES[column],
            float(values[at, column]),
            centre,
            float(deviations[at]),
            late,
            _explained(excess) if column == 0 else (),
            _since(those[at], column, centre + away[at] / 2),
        )


def _explained(excess: Floats) -> tuple[tuple[str, float], ...]:
    """The buckets with the largest part of the wall's excess; a tenth of it at least, or none."""
    order = 1 + np.argsort(-excess[1:], kind="stable")
    return tuple((QUANTITIES[at], float(excess[at])) for at in order.tolist() if excess[at] >= 0.1 * excess[0])


def _since(numbers: Numbers, column: int, line: float) -> Since:
    """From which step on the quantity lies above the line, as far as it does: the change with the fewest exceptions."""
    above = numbers.steps[:, column] > line
    wrong = np.append(0, np.cumsum(above)) + np.append(np.cumsum(~above[::-1])[::-1], 0)
    at = 0 if wrong[0] <= SETTLED * len(above) else int(np.argmin(wrong))
    begins = "start" if at == 0 else "since"
    how = begins if at < len(above) and wrong[at] <= UNSETTLED * len(above) else "on_and_off"
    at = at if how != "on_and_off" else int(np.argmax(above))
    time = int(numbers.start_ns[at])
    utc = None if numbers.began_utc_ns is None else numbers.began_utc_ns + time
    return Since(how, int(numbers.first[at]), time, utc)


@lru_cache
def bound(reports: int) -> float:
    """Deviations above which chance puts any of so many equal, normal reports, in any quantity, once in 100 fleets.

    Simulated: with few reports the deviation is itself so uncertain that tables for the normal distribution mislead.
    """
    reports = min(reports, MOST)
    drawn = np.random.default_rng(reports).standard_normal((DRAWS, reports))
    drawn -= np.median(drawn, axis=1, keepdims=True)
    largest = drawn.max(axis=1) / (SCALE * np.median(np.abs(drawn), axis=1))
    tests = len(QUANTITIES) + 1  # the wall's last quarter, too
    return float(np.quantile(largest, 1 - (1 - LEVEL) / tests))
