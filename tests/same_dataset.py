"""Two datasets side by side: what one report gives by way of two exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

EXPORTED = ("nsys", "source")
"""Parts of a manifest that are about the export itself."""


def differing(one: Trace, other: Trace) -> dict[str, Any]:
    """Tables, and parts of the manifest, that are not the same in both, and where they begin to differ."""
    found: dict[str, Any] = {}
    for part in (one.manifest.keys() | other.manifest.keys()) - {*EXPORTED, "tables"}:
        a, b = (trace.manifest.get(part) for trace in (one, other))
        if a != b:
            found[part] = (a, b)
    for table in TABLES:
        if one.missing(table) != other.missing(table):
            found[table] = (one.missing(table), other.missing(table))
        elif (rows := (one.rows(table), other.rows(table)))[0] != rows[1]:
            found[table] = rows
        else:
            found |= _columns(table, one, other)
    return found


def _columns(table: str, one: Trace, other: Trace) -> dict[str, Any]:
    for column in TABLES[table].names:
        a, b = (trace.table(table, [column]).column(column).to_pylist() for trace in (one, other))
        if a != b:
            return {table: next((column, row, x, y) for row, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)}
    return {}
