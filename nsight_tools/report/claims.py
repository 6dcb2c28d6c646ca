"""What a finding could give back, in words: as a bound or as an estimate, of an inference or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units

if TYPE_CHECKING:
    from nsight_tools.findings import Finding

WINDOW = "from the first GPU work to the last"


def claim(finding: Finding) -> str:
    """How what is recoverable is meant: as a bound or as an estimate."""
    return "at most" if finding.recoverable_between_ns is None else "about"


def claimed(finding: Finding, worth: str, whole_ns: int | None) -> str:
    """`at most 1.20 of 3.85 ms …`, or `about 1.20 of 3.85 ms …, between 0.900 and 1.50 ms`."""
    between = finding.recoverable_between_ns
    ends = f", between {units.between(*between, 'and', whole_ns)}" if between else ""
    return f"{claim(finding)} {worth}{ends}"


def in_all(part_ns: int, window_ns: int | None) -> str:
    """`0.0012 of 4.00 s from the first GPU work to the last (0.03 %)`."""
    where = WINDOW if is_part(part_ns, window_ns) else "in all"
    return f"{part_of(part_ns, window_ns)} {where}{share_of(part_ns, window_ns)}"


def part_of(part_ns: int, whole_ns: int | None) -> str:
    """`1.20 of 4.00 ms`; the part alone where no whole is known, and where the part lies above it."""
    return units.part(part_ns, whole_ns) if whole_ns and is_part(part_ns, whole_ns) else units.duration(part_ns)


def share_of(part_ns: int, whole_ns: int | None) -> str:
    """`(30 %)` behind a space, or nothing, as with `part_of`."""
    return f" ({units.share(part_ns / whole_ns)})" if whole_ns and is_part(part_ns, whole_ns) else ""


def is_part(part_ns: int, whole_ns: int | None) -> bool:
    """Whether there is such a whole, and the part does not lie above it."""
    return bool(whole_ns) and part_ns <= (whole_ns or 0)
