"""What every format says of a comparison: the headline, what a prediction came to, numbers in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.comparison.notes import signed
from nsight_tools.comparison.result import Change, Effect, Verdict
from nsight_tools.report.content import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.result import Comparison, Difference, Prediction, SetupDifference

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
NOT_PUT_DOWN = "not comparable: nothing here is put down to a finding"
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
    """The line that a hurried reader reads."""
    if comparison.verdict is Verdict.CANNOT_TELL:
        blocked = f"not comparable ({_aspects(comparison.blocking)}); " if comparison.blocking else ""
        return f"{blocked}cannot tell {comparison.untold[0]}"
    measured = _measured(comparison)
    if comparison.verdict is Verdict.NOT_COMPARABLE:
        return (
            f"not comparable ({_aspects(comparison.blocking)}): not to be put down to a change. As measured {measured}"
        )
    return measured


def _aspects(found: Sequence[SetupDifference]) -> str:
    # Several codes of one family are one reason here; each of them follows in full.
    return ", ".join(dict.fromkeys(each.aspect.partition(" (")[0].partition(", ")[0] for each in found))


def _measured(comparison: Comparison) -> str:
    wall = comparison.wall
    assert wall is not None
    times = f"{units.duration(wall.before)} → {units.duration(wall.after)} per inference"
    if comparison.measured is Verdict.NOISE:
        return f"noise: {times} ({source(comparison)}); {_why_noise(wall)}"
    known = f"{source(comparison)}; 99 % interval {relative_interval(wall)}"
    said = f"{comparison.measured.value}: {times}, {change(wall)} ({known})"
    bounds = comparison.untraced
    if bounds and bounds[0] < 0 < bounds[1]:
        said += "; all of it may be the profiler's own"
    return said


def _why_noise(wall: Difference) -> str:
    if wall.change is Change.SAME:
        return "no difference at all"
    if wall.low is not None and wall.high is not None and wall.low <= 0 <= wall.high:
        return f"the difference of {change(wall)} is within chance: 99 % interval {interval(wall)}"
    if wall.detail:  # of its repeats
        return f"the difference of {change(wall)} is no larger than that of the same: {wall.detail}"
    return f"the difference of {change(wall)} is no larger than one run's own drift, {units.duration(wall.drift)}"


def where(comparison: Comparison) -> str:
    """The parts of an inference that changed most, or why none is named."""
    if comparison.wall is None:
        return next(iter(comparison.notes), "nothing that both have often enough could be compared").removesuffix(".")
    most = sorted(changed(comparison.buckets), key=lambda each: -abs(each.difference or 0))[:MOST_PARTS]
    if not most:
        return "no part of an inference changed beyond noise"
    said = ", ".join(f"{label(each)} {signed(each.difference, each.unit)}" for each in most)
    return said if comparison.wall_source == "trace" else f"as traced, {said}"


def source(comparison: Comparison) -> str:
    """Where the wall that is judged comes from."""
    return "untraced benchmark" if comparison.wall_source == "benchmark" else "as traced"


def apart(comparison: Comparison) -> str:
    """What differs in set-up, in one line: what weighs most, by name."""
    if not comparison.setup:
        return "nothing else that both traces record differs"
    grouped = [(effect, [each for each in comparison.setup if each.effect is effect]) for effect in EFFECTS]
    said = (f"{EFFECTS[effect]}: {_aspects(found)}" for effect, found in grouped if found)
    return "; ".join(said)


def counted(comparison: Comparison) -> str:
    """How many inferences are compared, and how large the effect is."""
    sides = (("BEFORE", comparison.before), ("AFTER", comparison.after))
    said = [
        f"{label} {side.inferences:,} inferences" + (f" ({side.left_out:,} left out: warm-up)" if side.left_out else "")
        for label, side in sides
    ]
    wall = f"; {words}" if comparison.wall and (words := effect(comparison.wall)) else ""
    return ", ".join(said) + wall


def named(difference: Difference) -> str:
    """A layer or kernel by its name, and what the numbers do not say of it."""
    return "; ".join(part for part in (difference.name, difference.detail) if part)


def change(difference: Difference) -> str:
    """`+2.29 ms (+214 %)`."""
    said = signed(difference.difference, difference.unit)
    return f"{said} ({part})" if (part := relative(difference)) else said


def relative(difference: Difference) -> str:
    """The difference as a share of what was before, `+214 %`; nothing where there was none."""
    part = difference.relative(difference.difference)
    return "" if part is None else signed(part, "ratio")


def interval(difference: Difference) -> str:
    """`+2.28 to +2.30 ms`; nothing where there is none."""
    if difference.low is None or difference.high is None:
        return ""
    if difference.low == difference.high:
        return "exact"
    low, high = (signed(value, difference.unit) for value in (difference.low, difference.high))
    unit = high.rpartition(" ")[2]
    return f"{low.removesuffix(f' {unit}') if ' ' in high else low} to {high}"


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
    """The wall by every measure, each with its name."""
    rows = [("wall, untraced benchmark", comparison.wall)] if comparison.wall_source == "benchmark" else []
    rows.append(("wall, as traced", comparison.traced_wall))
    rows += [(each.name if "next" in each.name else f"wall, {each.name}", each) for each in comparison.walls]
    return [(name, each) for name, each in rows if each is not None]


def label(difference: Difference) -> str:
    """A bucket in words; any other quantity by its own name."""
    return BUCKETS.get(difference.name, difference.name)


def shown(differences: Sequence[Difference]) -> list[Difference]:
    """Those that are not nothing on both sides."""
    return [each for each in differences if each.before or each.after]


def changed(differences: Sequence[Difference]) -> list[Difference]:
    """Those that are more or less than before, beyond noise."""
    return [each for each in differences if each.change in {Change.LESS, Change.MORE}]


def unshown(differences: Sequence[Difference], rows: int = ROWS_SHOWN) -> str:
    """What a page that shows so many rows leaves out of layers or kernels, in words."""
    real = changed(differences)
    quiet = len(differences) - len(real)
    more = max(0, len(real) - rows)
    parts = [f"{more:,} more changed" if more else "", f"{quiet:,} did not change beyond noise" if quiet else ""]
    return "; ".join(part for part in parts if part)


def effect(wall: Difference) -> str:
    """The effect size in words; thresholds for Cliff's delta by Romano and others, 2006."""
    if wall.effect is None:
        return ""
    size = abs(wall.effect)
    words = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"), (1.0, "large"))
    word = next(word for most, word in words if size <= most)
    return f"effect size {word}: Cliff's delta {wall.effect:+.2f}"


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
    if comparison.verdict is Verdict.NOT_COMPARABLE:
        return ""
    if prediction.status in {"unjudged", "still_there"}:
        unjudged = "AFTER does not record enough to say whether it is gone"
        said = unjudged if prediction.status == "unjudged" else "not acted on, or without effect"
        return f"{said}; {where} became less for other reasons" if _less(came) else said
    if came is None or came.difference is None or not _less(came):
        became = "became more" if came is not None and came.change is Change.MORE else "did not change beyond noise"
        return f"but the time did not come back: {where} {became}"
    gained = -came.difference / prediction.promised_ns
    said = f"{units.share(gained)} of the promise came back, in {where}"
    if gained > 1:
        said = f"the promise came back, and more: something else made {where} less too"
    if prediction.shared_with:
        said += f"; shared with {', '.join(prediction.shared_with)}, which promised from the same time"
    return said


def _less(came: Difference | None) -> bool:
    return came is not None and came.change is Change.LESS


def _where(prediction: Prediction) -> str:
    names = {
        "wall": "the whole inference",
        "mean": "the mean of the wall",
        "period": "the time from one inference to the next",
    }
    words = [names.get(bucket, bucket.replace("_", " ")) for bucket in prediction.buckets]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
