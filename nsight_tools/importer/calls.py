"""What the API calls of a dataset tell of the tables that are written after them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nsight_tools.importer import dialects
from nsight_tools.importer.stored_columns import StoredTables
from nsight_tools.timeline.attribution import joint_key, match_calls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsight_tools.columns import Ints


def sync_kinds(dataset: Path, schema: tuple[int, int]) -> Callable[[Ints, Ints, Ints], pa.Array]:
    """What decodes synchronizations: by the name of the API call, read from `api_calls`, else by the export's type."""
    by_call = dict(dialects.SYNC_BY_CALL)
    vocabulary = sorted(
        {*by_call.values(), "unknown"} | {w for _, kinds in dialects.SYNC_BY_TYPE for w in kinds.values()}
    )
    tables = StoredTables(dataset)
    names = tables.words("api_calls", "name")
    kind_of_name = np.array([_sync_word(name, vocabulary) for name in names.dictionary] + [-1], np.int64)
    kind = kind_of_name[names.codes]
    synchronizing = kind >= 0
    pid, correlation = (tables.column("api_calls", name)[synchronizing] for name in ("pid", "correlation_id"))
    kind = kind[synchronizing]
    meaning = next(kinds for since, kinds in dialects.SYNC_BY_TYPE if schema >= since)

    def decode(their_pid: Ints, their_correlation: Ints, raw: Ints) -> pa.Array:
        call = match_calls(their_pid, their_correlation, pid, correlation)
        label = np.array([vocabulary.index(meaning.get(int(value), "unknown")) for value in raw], np.int64)
        codes = np.where(call >= 0, kind[call] if kind.size else label, label)
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(vocabulary))

    return decode


def record_times(dataset: Path) -> Callable[[Ints, Ints], pa.Array]:
    """What decodes when events were recorded, by process and correlation id: when the API call in `api_calls` started.

    Null where there is no such call. Nothing is read before it is asked for the first time.
    """

    @cache
    def calls() -> tuple[Ints, Ints]:
        tables = StoredTables(dataset)
        records = tables.words("api_calls", "does").among("record")
        pid, correlation, start = (tables.column("api_calls", name) for name in ("pid", "correlation_id", "start_ns"))
        records &= correlation >= 0
        key = joint_key(pid[records], correlation[records])
        order = np.argsort(key, kind="stable")  # a runtime call before the driver call in it
        return key[order], start[records][order]

    def decode(their_pid: Ints, their_correlation: Ints) -> pa.Array:
        key, start = calls()
        wanted = joint_key(their_pid, their_correlation)
        if not key.size:
            return pa.nulls(wanted.size, pa.int64())
        at = np.minimum(np.searchsorted(key, wanted), key.size - 1)
        return pa.array(start[at], mask=key[at] != wanted)

    return decode


def _sync_word(name: str, vocabulary: list[str]) -> int:
    return next((vocabulary.index(word) for ending, word in dialects.SYNC_BY_CALL if name.endswith(ending)), -1)


def calls_that(dataset: Path, *does: str) -> int:
    """How many API calls of a dataset do one of these."""
    return int(StoredTables(dataset).words("api_calls", "does").among(*does).sum())
