"""Where what a finding rests on is to be seen, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units

if TYPE_CHECKING:
    from nsight_tools.findings import Evidence

SHOWN = 8
"""Measurements of one finding that a page shows unless it shows everything; JSON has all."""


def where(evidence: Evidence) -> str:
    """Where to jump to, and what is said of it."""
    return "; ".join(text for text in (window(evidence), evidence.detail) if text)


def window(evidence: Evidence) -> str:
    """Where to jump to in Nsight Systems' window: "at 1.234567s for 12.3 µs"."""
    if evidence.start_ns is None:
        return ""
    at = f"at {units.moment(evidence.start_ns)}"
    length = 0 if evidence.end_ns is None else evidence.end_ns - evidence.start_ns
    is_value = length == evidence.value and evidence.unit == "ns"
    return f"{at} for {units.duration(length)}" if length > 0 and not is_value else at
