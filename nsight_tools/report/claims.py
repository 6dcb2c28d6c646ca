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


def claimed(finding: Finding, worth: str) -> str:
    """`at most 1.20 ms of …`, or `about 1.20 ms of …, between 0.90 ms and 1.50 ms`."""
    between = finding.recoverable_between_ns
    ends = f", between {units.duration(between[0])} and {units.duration(between[1])}" if between else ""
    return f"{claim(finding)} {worth}{ends}"


def in_all(part_ns: int, window_ns: int | None) -> str:
    """`1.20 ms of 4.00 s from the first GPU work to the last (0.03 %)`."""
    if not (whole := of_whole(part_ns, window_ns)):
        return f"{units.duration(part_ns)} in all"
    return f"{units.duration(part_ns)}{whole} {WINDOW}{share_of(part_ns, window_ns)}"


def of_whole(part_ns: int, whole_ns: int | None) -> str:
    """`of 4.00 ms` behind a space; nothing where no whole is known, and where the part lies above it."""
    return f" of {units.duration(whole_ns)}" if whole_ns and part_ns <= whole_ns else ""


def share_of(part_ns: int, whole_ns: int | None) -> str:
    """`(30 %)` behind a space, or nothing, as with `of_whole`."""
    return f" ({units.share(part_ns / whole_ns)})" if whole_ns and part_ns <= whole_ns else ""
