"""What two builds of one model did to each other's regions, in words that every format shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.comparison.notes import signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.result import Builds, Built, Difference, Rebuilt

TITLE = "Two builds of one model"
SHARE = 0.1
"""What makes less of the whole difference is not named in the answer: it is in the table."""
NOTE = "kernel time of the typical inference, by what the build changed"
REGIONS = "Regions that were built otherwise"
REGIONS_NOTE = "the layers of both builds that read and write the same tensors"


def answer(builds: Builds) -> str:
    """Why the kernels take more or less: how much of it lies where, the largest first."""
    *kinds, _, reformats = builds.totals
    whole = sum(difference.difference or 0.0 for difference in (*kinds, builds.totals[-2]))
    count = units.plural(builds.rebuilt + builds.alike, "region")
    parts = [f"{builds.rebuilt:,} of {count} were built otherwise: the kernels' time changes by {signed(whole, 'ns')}"]
    parts += [f"{signed(kind.difference, 'ns')} where {_differs(kind.name)}" for kind in _leading(kinds, whole)]
    before, after = builds.reformats
    if abs(reformats.difference or 0.0) >= SHARE * abs(whole) and _real(reformats):
        moved = f"{before:,} → {after:,} layers" if before != after else units.plural(before, "layer")
        parts.append(f"of all that, {signed(reformats.difference, 'ns')} are in reformats ({moved})")
    return "; ".join(parts)


def _leading(kinds: Sequence[Difference], whole: float) -> list[Difference]:
    return [kind for kind in kinds if _real(kind) and abs(kind.difference or 0.0) >= SHARE * abs(whole)]


def _real(difference: Difference) -> bool:
    return difference.change.value in {"more", "less"}


def _differs(kind: str) -> str:
    *some, last = kind.split(", ")
    what = f"{', '.join(some)} and {last}" if some else last
    return f"{what} {'differ' if some or last == 'reformats' else 'differs'}"


def name(region: Rebuilt) -> str:
    """A region by what it writes."""
    return ", ".join(region.writes) or "what is read by nobody"


def changed(region: Rebuilt) -> str:
    """What its builds made otherwise."""
    return ", ".join(region.changed)


def built(side: Built) -> str:
    """`FP16, FP32 · 2 layers, 3 reformats: Conv@1 + Relu@0, Mul@1 · sm80_xmma_…`."""
    count = [units.plural(len(side.layers), "layer")] if side.layers else []
    count += [units.plural(side.reformats, "reformat")] if side.reformats else []
    layers = f"{', '.join(count) or 'nothing'}: {', '.join(side.layers)}" if side.layers else ", ".join(count)
    return " · ".join(text for text in (side.precision, layers or "nothing", ", ".join(side.tactics)) if text)


def time(took_ns: float | None) -> str:
    """`26.8 µs`."""
    return units.quantity(took_ns, "ns")


def times(region: Rebuilt) -> str:
    """`26.8 µs → 47.0 µs`."""
    return f"{time(region.time.before)} → {time(region.time.after)}"


def unshown(builds: Builds, rows: int) -> str:
    """What of the regions a page does not show that shows so many."""
    more = builds.rebuilt - min(rows, len(builds.regions))
    parts = [f"{more:,} more were built otherwise"] if more > 0 else []
    return "; ".join([*parts, f"{builds.alike:,} were built alike"] if builds.alike else parts)
