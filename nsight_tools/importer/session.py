"""What an export says of its session: versions, duration, machine, capture options. Nothing private."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsight_tools.importer import dialects
from nsight_tools.importer.exports.reading import read

if TYPE_CHECKING:
    from nsight_tools.importer.exports.reading import Export


@dataclass(frozen=True)
class Session:
    """The session of an export, read once; times are nanoseconds, and what the export does not tell is None."""

    product_version: str | None
    schema_text: str | None
    duration_ns: int | None
    utc_epoch_ns: int | None
    system: dict[str, str | None]
    capture: dict[str, str | None]

    @classmethod
    def of(cls, export: Export) -> Session:
        """The session of `export`. Raises InputError where one of its tables is damaged."""
        meta: dict[str, str] = {}
        for table in dialects.META_TABLES:
            meta |= _pairs(export, table)
        capture = _pairs(export, dialects.CAPTURE_TABLE)
        capture = {re.sub(r"^PROCESS_\d+:", "", name): value for name, value in capture.items()}
        system = _pairs(export, dialects.SYSTEM_TABLE)
        durations = read(export, dialects.SESSION_TIMES)["duration"].to_pylist()
        starts = read(export, dialects.SESSION_START)["utc"].to_pylist()
        system_facts = {ours: _clean(system.get(theirs)) for ours, theirs in dialects.SYSTEM_FACTS.items()}
        return cls(
            meta.get("EXPORT_PRODUCT_VERSION"),
            meta.get("EXPORT_SCHEMA_VERSION"),
            durations[0] if durations else None,
            starts[0] if starts else None,
            {**system_facts, "driver": _driver(system_facts["driver"]), "cuda": _cuda(system_facts["cuda"])},
            {
                ours: next((_clean(capture[key]) for key in keys if key in capture), None)
                for ours, keys in dialects.CAPTURE_OPTIONS.items()
            },
        )

    @property
    def schema(self) -> tuple[int, int]:
        """Major and minor of the export's schema; (0, 0) where it records none, as up to 2021.3."""
        match = re.match(r"(\d+)\.(\d+)", self.schema_text or "")
        return (int(match[1]), int(match[2])) if match else (0, 0)

    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "nsys": {"version": self.product_version, "schema_version": self.schema_text},
            "session": {"duration_ns": self.duration_ns, "utc_epoch_ns": self.utc_epoch_ns},
            "system": self.system,
            "capture": self.capture,
        }


def _pairs(export: Export, table: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in read(export, dialects.pairs(table)).to_pylist():
        values.setdefault(row["name"] or "", row["value"] or "")
    return values


def _clean(value: str | None) -> str | None:
    return value or None


_DRIVER_NUMBER = re.compile(r"(\d{3})(\d{2,3})(\d{2,3})")
"""4952905 is 495.29.05, 47014103 is 470.141.03, 580159004 is 580.159.04: the middle part takes a third digit first."""


def _driver(value: str | None) -> str | None:
    """580.159.04 as it is, and as what some exports have in its place: one number of 7 to 9 digits."""
    if value is None or not value.strip("0"):
        return None  # 0: no driver was there
    parts = _DRIVER_NUMBER.fullmatch(value)
    return f"{parts[1]}.{int(parts[2]):02d}.{int(parts[3]):02d}" if parts else value


def _cuda(value: str | None) -> str | None:
    """13000 -> 13.0; 0, where there is no driver, -> None."""
    if value == "0":
        return None
    return f"{int(value) // 1000}.{int(value) % 1000 // 10}" if value is not None and value.isdigit() else value
