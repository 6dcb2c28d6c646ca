"""A report's clock and the system's: what has to be taken off a time in UTC to get the report's own.

A mark `clock` of the domain nsight_tools has time.time_ns() as its payload, read just before the mark was made. So each
mark shows the difference of the clocks less the time between the two, and the largest of them is nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

DOMAIN, MARK = "nsight_tools", "clock"
MARK_NS = 100_000
"""From reading the clock to the mark's own time: 20 to 80 µs in Python, under nsys 2023.4 and 2024.2."""
START_NS = 1_000_000
"""How well nsys notes when a session started: to 35 µs in those; allowing for others."""
SLEW = 500e-6
"""How much faster or slower Linux makes its clock to set it right, at most (man 2 adjtimex); nsys' clock is not set."""
FOREIGN_NS = 3600 * 1_000_000_000
"""A mark this far from the session's start is no time of this machine's clock."""


def align(dataset: Path, session: Mapping[str, Any]) -> dict[str, Any] | None:
    """How times in UTC become times of the report whose tables stand in `dataset`: `time_ns = utc_ns - offset_ns`.

    By marks where the report has them, else by the session's start; None where it has neither. `error_ns` holds from
    the first to the last mark, else for the whole session, unless somebody set the clock meanwhile. `drift_ns` is how
    much the difference of the clocks grew between the first and the last mark (None with fewer than two).
    """
    started = session["utc_epoch_ns"]
    time, utc = _marks(dataset)
    offsets = utc - time
    if started is not None:
        offsets = offsets[np.abs(offsets - started) < FOREIGN_NS]
    if len(offsets):
        return {
            "source": "marks",
            "marks": len(offsets),
            "offset_ns": int(offsets.max()),
            "error_ns": int(offsets.max() - offsets.min()) + MARK_NS,
            "drift_ns": int(offsets[-1] - offsets[0]) if len(offsets) > 1 else None,
        }
    if started is None:
        return None
    error = START_NS + round(SLEW * (session["duration_ns"] or 0))
    return {"source": "session_start", "marks": 0, "offset_ns": int(started), "error_ns": error, "drift_ns": None}


def _marks(dataset: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Times and payloads of the marks, in order, shape (n,) each."""
    path = dataset / "nvtx_ranges.parquet"
    none = np.empty(0, np.int64)
    if not path.exists():
        return none, none
    # Few ranges are marks: the rows' statistics tell where.
    file = pq.ParquetFile(path)
    kind = file.schema_arrow.get_field_index("kind")
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    spans = [group.column(kind).statistics for group in groups]
    there = [at for at, span in enumerate(spans) if not (span and span.has_min_max) or span.min <= "mark" <= span.max]
    rows = file.read_row_groups(there, ["start_ns", "payload", "kind", "name", "domain"])
    chosen = pc.is_valid(rows["payload"])
    for column, word in (("kind", "mark"), ("name", MARK), ("domain", DOMAIN)):
        chosen = pc.and_(chosen, pc.equal(rows[column], word))
    rows = rows.filter(chosen)
    return rows["start_ns"].to_numpy(), rows["payload"].to_numpy()
