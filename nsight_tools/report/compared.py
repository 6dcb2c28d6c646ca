"""What every format says of a comparison: the headline, what a prediction came to, numbers in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.comparison.notes import signed
from nsight_tools.comparison.result import Change, Effect, Metric, Verdict, as_comparison
from nsight_tools.report.content import BUCKETS
from nsight_tools.run.flow import SEVERAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.result import Comparison, Difference, Judgement, Prediction, SetupDifference

ROWS_SHOWN = 10
"""Layers and kernels that a page shows unless it shows everything; JSON has all."""
MOST_PARTS = 3
"""Parts of an inference that one line names."""

EFFECTS = {
    Effect.BLOCKS: "not comparable",
    Effect.CONFOUNDS: "may explain it",
    Effect.CHANGE: "may be the change",
}
CHANGES = {Change.LESS: "less", Change.MORE: "more", Change.NOISE: "noise", Change.SAME: "same", Change.UNKNOWN: "?"}
TYPICAL = "the typical inference: mean of the middle half by wall, with 99 % intervals"
NO_INTERVAL = "no interval: what these vary by is not known"
CALLS = "median call of the same kernel and grid, with 99 % intervals"
NOT_PUT_DOWN = "not comparable: none of this shows what a finding gave"
_STATUS = {
    "gone": "gone",
    "smaller": "smaller",
    "still_there": "still there",
    "unjudged": "not judged",
}


def title(comparison: Comparison) -> str:
    """Which two are compared."""
    return f"{comparison.after.name} against {comparison.before.name}"


def headline(comparison: Comparison) -> str:
    """The line that a hurried reader reads: the leading verdict. Raises ArgumentError where it is no comparison.

    Example:
        >>> from nsight_tools import compare, headline
        >>> both = compare("sample_traces/classifier_sync.sqlite", "sample_traces/classifier_cuda_graph.sqlite")
        >>> headline(both).partition(",")[0]
        'faster in latency: 561 µs → 444 µs per inference'
    """
    return verdicts(as_comparison(comparison, "headline"))[0]


def verdicts(comparison: Comparison) -> list[str]:
    """Both verdicts in a sentence each, the leading one first; one sentence where neither can be told."""
    if all(judgement.verdict is Verdict.CANNOT_TELL for judgement in comparison.judgements):
        blocked = f"not comparable ({_aspects(comparison.blocking)}); " if comparison.blocking else ""
        return [f"{blocked}cannot tell {comparison.untold[0]}"]
    return [said(judgement) for judgement in comparison.judgements]


def said(judgement: Judgement) -> str:
    """One verdict in a sentence."""
    what = judgement.metric.value
    if judgement.difference is None:
        return f"{what} cannot be told: {judgement.why}"
    if judgement.verdict is Verdict.NOT_COMPARABLE:
        names = ", ".join(dict.fromkeys(_short(aspect) for aspect in judgement.why.split(", ")))
        return (
            f"{what} not comparable ({names}): no change can be named as the cause. As measured {_measured(judgement)}"
        )
    return _measured(judgement)


def _aspects(differences: Sequence[SetupDifference]) -> str:
    # Several codes of one family are one reason here; each of them follows in full.
    return ", ".join(dict.fromkeys(_short(difference.aspect) for difference in differences))


def _short(aspect: str) -> str:
    return aspect.partition(" (")[0].partition(", ")[0]


def _measured(judgement: Judgement) -> str:
    difference = judgement.difference
    assert difference is not None
    per = "input" if judgement.metric is Metric.THROUGHPUT else "inference"
    times = f"{units.duration(difference.before)} → {units.duration(difference.after)} per {per}"
    start = f"{judgement.measured.value} in {judgement.metric.value}: {times}"
    if judgement.measured is Verdict.NOISE:
        return f"{start} ({source(judgement)}); {_why_noise(judgement, difference)}"
    known = f"{source(judgement)}; {_level(judgement)} interval {relative_interval(difference)}"
    told = f"{start}, {change(difference)} ({known})"
    return f"{told}; {judgement.why}" if judgement.verdict is Verdict.UNDECIDED else told


def _level(judgement: Judgement) -> str:
    return f"{100 * (judgement.level or 0.0):.0f} %"


def _why_noise(judgement: Judgement, difference: Difference) -> str:
    if difference.change is Change.SAME:
        return "no difference at all"
    the_difference = f"the difference of {change(difference)}"
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return f"{the_difference} is within chance: {_level(judgement)} interval {interval(difference)}"
    if difference.detail:  # of its repeats
        return f"{the_difference} is no larger than that of the same: {difference.detail}"
    return f"{the_difference} is no larger than one run's own drift, {units.duration(difference.drift)}"


def where(comparison: Comparison) -> str:
    """The parts of an inference that changed most, or why none is named."""
    if comparison.wall is None:
        return next(iter(comparison.notes), "nothing that both have often enough could be compared").removesuffix(".")
    most = sorted(changed(comparison.buckets), key=lambda bucket: -abs(bucket.difference or 0))[:MOST_PARTS]
    if not most:
        return "no part of an inference changed beyond noise"
    parts = ", ".join(f"{label(bucket)} {signed(bucket.difference, bucket.unit)}" for bucket in most)
    return parts if comparison.latency.source == "trace" else f"as traced, {parts}"


def source(judgement: Judgement) -> str:
    """Where the times that are judged come from."""
    means = judgement.difference.detail if judgement.difference and max(judgement.repeats) > 1 else ""
    return {
        "untraced": f"untraced runs, {means}" if means else "untraced runs",
        "trace": "untraced, as estimated from the traces",
        "mixed": "one side untraced, the other estimated from its trace",
    }[judgement.source]


def drawn_wall(comparison: Comparison) -> tuple[Difference | None, str]:
    """The difference of the walls that figures draw, and where those come from: an estimated wall is no run's."""
    if comparison.latency.source == "untraced":
        return comparison.wall, "without the profiler"
    return comparison.traced_wall, "as traced"


def in_flight(comparison: Comparison) -> str:
    """How many inferences are under way, and what they carry, where either is not one; else nothing."""
    sides = comparison.before, comparison.after
    parts = []
    if max(side.in_flight for side in sides) >= SEVERAL:
        parts.append("inferences in flight " + " → ".join(f"{side.in_flight:.2g}" for side in sides))
    if any(side.inputs != 1 for side in sides):
        parts.append("inputs of an inference " + " → ".join(units.number(side.inputs) for side in sides))
    return ", ".join(parts)


def populations(comparison: Comparison) -> list[tuple[str, str, list[str]]]:
    """Of each kind of inference its name, how many there are, and its verdicts in a sentence each."""
    lead = comparison.leads
    return [
        (
            population.name,
            f"{population.before:,} inferences before and {population.after:,} after",
            [
                said(judgement)
                for judgement in sorted(
                    (population.throughput, population.latency), key=lambda judgement: judgement.metric is not lead
                )
            ],
        )
        for population in comparison.populations
    ]


def effect_of(difference: SetupDifference) -> str:
    """What a difference in set-up means, in words: which verdict it takes, where that is one."""
    if difference.effect is Effect.BLOCKS and len(difference.blocks) == 1:
        return f"no verdict on {difference.blocks[0].value}"
    return EFFECTS[difference.effect]


def apart(comparison: Comparison) -> str:
    """What differs in set-up, in one line: what weighs most, by name."""
    if not comparison.setup:
        return "nothing else that both traces record differs"
    grouped = [
        (effect, [difference for difference in comparison.setup if difference.effect is effect]) for effect in EFFECTS
    ]
    by_effect = (f"{EFFECTS[effect]}: {_aspects(differences)}" for effect, differences in grouped if differences)
    return "; ".join(by_effect)


def counted(comparison: Comparison) -> str:
    """How many inferences are compared, and how large the effect is."""
    sides = (("BEFORE", comparison.before), ("AFTER", comparison.after))
    counts = [
        f"{label} {side.inferences:,} inferences" + (f" ({side.left_out:,} left out: warm-up)" if side.left_out else "")
        for label, side in sides
    ]
    flight = f"; {words}" if (words := in_flight(comparison)) else ""
    wall = f"; {words}" if comparison.traced_wall and (words := effect(comparison.traced_wall)) else ""
    return ", ".join(counts) + flight + wall


def named(difference: Difference) -> str:
    """A layer or kernel by its name, and what the numbers do not say of it."""
    return "; ".join(text for text in (difference.name, difference.detail) if text)


def change(difference: Difference) -> str:
    """`+2.29 ms (+214 %)`."""
    absolute = signed(difference.difference, difference.unit)
    return f"{absolute} ({share})" if (share := relative(difference)) else absolute


def relative(difference: Difference) -> str:
    """The difference as a share of what was before, `+214 %`; nothing where there was none."""
    ratio = difference.relative(difference.difference)
    return "" if ratio is None else signed(ratio, "ratio")


def interval(difference: Difference) -> str:
    """`+2.28 to +2.30 ms`; nothing where there is none."""
    if difference.low is None or difference.high is None:
        return ""
    if difference.low == difference.high:
        return "exact"
    low, high = (signed(value, difference.unit) for value in (difference.low, difference.high))
    unit = high.rpartition(" ")[2]
    return f"{low.removesuffix(f' {unit}') if ' ' in high else low} to {high}"


@dataclass(frozen=True)
class Cells:
    """A difference of times as a table with one unit shows it."""

    before: str
    after: str
    difference: str
    interval: str


def in_one_unit(differences: Sequence[Difference]) -> tuple[str, list[Cells]]:
    """Differences of times, nanoseconds, in the unit of the longest, points under each other: the unit, and each."""
    ends = [
        (difference.before, difference.after, difference.difference, difference.low, difference.high)
        for difference in differences
    ]
    unit, cells = units.column([None if end is None else abs(end) for ends_of in ends for end in ends_of])
    rows = []
    for at, (_, _, difference, low, high) in enumerate(ends):
        before, after, apart, least, most = cells[5 * at : 5 * at + 5]
        between = f"{_signed(low, least)} to {_signed(high, most)}" if low is not None and high is not None else ""
        between = "exact" if between and low == high else between
        rows.append(Cells(before or "unknown", after or "unknown", _signed(difference, apart) or "unknown", between))
    return unit, rows


def _signed(value: float | None, written: str) -> str:
    """A number that is written without its sign, with it."""
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{written}" if value is not None else ""  # noqa: RUF001


def relative_interval(difference: Difference) -> str:
    """The interval in shares of what was before, `+213 to +214 %`."""
    low, high = (difference.relative(value) for value in (difference.low, difference.high))
    if low is None or high is None:
        return interval(difference)
    return f"{signed(low, 'ratio').removesuffix(' %')} to {signed(high, 'ratio')}"


def signed_value(difference: Difference) -> str:
    """The difference with its sign; that of a share in points of it."""
    if not difference.difference:
        return ""
    unit = "points" if difference.unit == "ratio" else difference.unit
    return signed(difference.difference, unit)


def known(difference: Difference) -> str:
    """What became of it, where that is known: nothing of what has no interval, and is no noise."""
    told = difference.low is not None or difference.change is Change.NOISE
    return CHANGES[difference.change] if told else ""


def part(bucket: Difference) -> str:
    """A bucket's part of the wall's difference, where it has one beyond noise."""
    if bucket.share is None or bucket.change not in {Change.LESS, Change.MORE}:
        return ""
    return units.share(bucket.share).replace("-", "−")  # noqa: RUF001 (a minus)


def walls(comparison: Comparison) -> list[tuple[str, Difference]]:
    """What is judged, and the same as traced, each with its name; then the traced wall by other measures."""
    rows: list[tuple[str, Difference | None]] = []
    for judgement in comparison.judgements:
        name = "time per input" if judgement.metric is Metric.THROUGHPUT else "wall"
        known = "untraced" if judgement.source == "untraced" else f"estimated, {_level(judgement)}"
        rows += [(f"{name}, {known}", judgement.difference), (f"{name}, as traced", judgement.traced)]
    rows += [(f"wall, {wall.name}", wall) for wall in comparison.walls]
    return [(name, difference) for name, difference in rows if difference is not None]


def label(difference: Difference) -> str:
    """A bucket in words; any other quantity by its own name."""
    return BUCKETS.get(difference.name, difference.name)


def shown(differences: Sequence[Difference]) -> list[Difference]:
    """Those that are not nothing on both sides."""
    return [difference for difference in differences if difference.before or difference.after]


def changed(differences: Sequence[Difference]) -> list[Difference]:
    """Those that are more or less than before, beyond noise."""
    return [difference for difference in differences if difference.change in {Change.LESS, Change.MORE}]


def unshown(differences: Sequence[Difference], rows: int = ROWS_SHOWN) -> str:
    """What a page that shows so many rows leaves out of layers or kernels, in words."""
    real = changed(differences)
    quiet = len(differences) - len(real)
    more = max(0, len(real) - rows)
    parts = [f"{more:,} more changed" if more else "", f"{quiet:,} did not change beyond noise" if quiet else ""]
    return "; ".join(text for text in parts if text)


def effect(wall: Difference) -> str:
    """The effect size of traced walls in words, where they differ by more than noise.

    Thresholds for Cliff's delta are by Romano and others, 2006.
    """
    if wall.effect is None or wall.change not in {Change.LESS, Change.MORE}:
        return ""
    size = abs(wall.effect)
    words = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"), (1.0, "large"))
    word = next(word for most, word in words if size <= most)
    return f"as traced the effect is {word}: Cliff's delta {wall.effect:+.2f}"


def promise(prediction: Prediction) -> tuple[str, str, str]:
    """Status, promise, and what came of it."""
    return (
        _STATUS[prediction.status],
        f"{'about' if prediction.estimate else 'at most'} {units.duration(prediction.promised_ns)}",
        "nothing to compare with" if prediction.came is None else signed(prediction.came.difference, "ns"),
    )


def outcome(comparison: Comparison, prediction: Prediction) -> str:
    """What a prediction came to, honest about what cannot be put down to it."""
    came = prediction.came
    where = _where(prediction)
    if not_put_down(comparison):
        return ""
    if prediction.status in {"unjudged", "still_there"}:
        unjudged = "AFTER does not record enough to say whether it is gone"
        status = unjudged if prediction.status == "unjudged" else "not acted on, or without effect"
        return f"{status}; {where} became less for other reasons" if _less(came) else status
    if came is not None and came.change is Change.UNKNOWN:
        return f"whether the time came back is undecided, in {where}"
    if came is None or came.difference is None or not _less(came):
        became = "became more" if came is not None and came.change is Change.MORE else "did not change beyond noise"
        return f"but the time did not come back: {where} {became}"
    gained = -came.difference / prediction.promised_ns
    came_back = f"{units.share(gained)} of the promise came back, in {where}"
    if gained > 1:
        came_back = f"the promise came back, and more: something else shortened {where} too"
    if prediction.shared_with:
        others = [each for each in comparison.predictions if each.code in prediction.shared_with]
        named = ", ".join(f"'{each.act}' ({each.code})" for each in others)
        came_back += f"; shared with {named}, which promised from the same time"
    return came_back


def not_put_down(comparison: Comparison) -> bool:
    """Whether the times of an inference are not comparable, so that none of them is put down to a finding."""
    return comparison.latency.verdict is Verdict.NOT_COMPARABLE


def _less(came: Difference | None) -> bool:
    return came is not None and came.change is Change.LESS


def _where(prediction: Prediction) -> str:
    names = {
        "wall": "the whole inference",
        "mean": "the mean of the wall",
        "period": "the time per input",
    }
    labels = {bucket: label.partition(": ")[2] or label for bucket, label in BUCKETS.items()}
    words = [(names | labels).get(bucket, bucket) for bucket in prediction.buckets]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
