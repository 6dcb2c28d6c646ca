"""Depth and parent of NVTX ranges, told while they are written."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.columns import Ints, ints, words
from nsight_tools.timeline.attribution import joint_key, parents

_FOREVER = np.iinfo(np.int64).max


class Nesting:
    """Fills `depth` and `parent` of NVTX ranges that come in order, keeping only the ranges that are still open."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._start, self._end, self._thread, self._row, self._depth = (empty,) * 5
        self._rows = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        kind = words(rows["kind"])
        nested = kind.among("push_pop")
        start, thread = ints(rows["start_ns"]), joint_key(ints(rows["pid"]), ints(rows["tid"]))
        end = pc.fill_null(rows["end_ns"], _FOREVER).to_numpy()
        number = self._rows + np.arange(rows.num_rows)
        before = len(self._start)
        all_start = np.concatenate([self._start, start[nested]])
        all_end = np.concatenate([self._end, end[nested]])
        all_thread = np.concatenate([self._thread, thread[nested]])
        all_row = np.concatenate([self._row, number[nested]])
        above = parents(all_start, all_end, all_thread)
        # By the parents' depth: what is open knows its own, which is deeper than it looks once its parents are gone.
        all_depth = np.concatenate([self._depth, np.zeros(nested.sum(), np.int64)])
        all_depth[before:] = _depths(above, all_depth, before)
        parent = np.where(above[before:] >= 0, all_row[above[before:]], -1)
        self._rows += rows.num_rows
        still = all_end > (start[-1] if len(start) else 0)
        self._start, self._end, self._thread = all_start[still], all_end[still], all_thread[still]
        self._row, self._depth = all_row[still], all_depth[still]
        return _with(
            rows,
            {
                "depth": _scattered(nested, all_depth[before:]),
                "parent": _scattered(nested, parent),
            },
        )


def _depths(above: Ints, depth: Ints, known: int) -> Ints:
    """Depth of the rows from `known` on, by rounds: a row's is settled one round after its parent's."""
    result = depth.copy()
    unsettled = np.arange(known, len(above))
    result[unsettled[above[unsettled] < 0]] = 0
    settled = np.ones(len(above), bool)
    settled[unsettled[above[unsettled] >= 0]] = False
    rest = np.flatnonzero(~settled)
    while rest.size:
        ready = settled[above[rest]]
        now = rest[ready]
        result[now] = result[above[now]] + 1
        settled[now] = True
        rest = rest[~ready]
    return result[known:]


def _scattered(where: npt.NDArray[np.bool_], values: Ints) -> pa.Array:
    full = np.full(len(where), -1, np.int64)
    full[where] = values
    return pa.array(full, mask=full < 0)


def _with(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values.cast(rows.schema.field(at).type))
    return rows
