"""The tables that may be long, from the export into the dataset: read, decoded and written chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nsight_tools import memory
from nsight_tools.columns import ints, words
from nsight_tools.errors import InputError
from nsight_tools.importer import calls, dialects, samples
from nsight_tools.importer.forking import FORK_ROWS, forked
from nsight_tools.importer.nesting import Nesting
from nsight_tools.importer.writer import SortedWriter
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nsight_tools.importer.decode import Decoder
    from nsight_tools.importer.dialects import Source
    from nsight_tools.importer.exports.reading import Chunk, Export
    from nsight_tools.importer.session import Session

Progress = Callable[[str, float | None], None]
AHEAD = 4
"""Chunks that are being read, or wait to be written. One thread reads: two would need Python's lock by turns."""


EVENT_BYTES = 200
"""Of memory that deriving takes for each kernel, copy, API call and NVTX range."""


def check_memory(export: Export) -> None:
    """Raise InputError where deriving what the dataset adds would take more memory than may be used."""
    events = _events(export, dialects.STREAMED)
    if (problem := memory.too_much(events * EVENT_BYTES)) is not None:
        raise InputError(export.path, f"has up to {events:,} events: it {problem}", hint=memory.ALLOW_MORE)


def _events(export: Export, names: Iterable[str]) -> int:
    """Rows of the export that these tables are made of, at most."""
    tables = {source.table for name in names for source in dialects.STREAMED[name]}
    return sum(export.rows(table) for table in tables & export.tables.keys())


def stream(
    export: Export, session: Session, decoder: Decoder, to: Path, progress: Progress
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the tables that come chunk by chunk; their rows, and when each payload of layer ranges was first seen."""
    others = [name for name in dialects.STREAMED if name not in ("nvtx_ranges", *dialects.BY_CALLS)]
    events = [_events(export, names) for names in (["nvtx_ranges"], others)]
    rows: dict[str, int] = {}

    def ranges() -> tuple[dict[str, int], dict[str, int]]:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: decoder.domain_names)  # before the first range asks for it
            return _stream_tables(["nvtx_ranges"], export, decoder, to, _silent, pool)

    progress("reading nvtx_ranges", 0.0)
    # Ranges are about half of all there is, and no other table needs them. Whoever shows progress may have threads.
    with forked(ranges, worthwhile=min(events) >= FORK_ROWS) as ranges_written:
        with ThreadPoolExecutor(1) as pool:
            rows |= _stream_tables(others, export, decoder, to, progress, pool)[0]
            # What a call synchronized is told by its name, and when an event was recorded by the call's start.
            decoder.sync_kinds = calls.sync_kinds(to, session.schema)
            decoder.record_times = calls.record_times(to)
            rows |= _stream_tables(dialects.BY_CALLS, export, decoder, to, progress, pool)[0]
        ranges_rows, payloads = ranges_written()
    rows |= ranges_rows
    with SortedWriter(to / "gpu_metrics.parquet", TABLES["gpu_metrics"]) as writer:
        for samples_read in samples.gpu_metrics(export):
            writer.add(samples_read)
    rows["gpu_metrics"] = writer.rows
    return rows, payloads


def _stream_tables(
    names: Sequence[str],
    export: Export,
    decoder: Decoder,
    to: Path,
    progress: Progress,
    pool: ThreadPoolExecutor,
) -> tuple[dict[str, int], dict[str, int]]:
    """Write these tables one after the other, while the next chunks are read, be they of the next table.

    Returns their rows, and when each payload of layer ranges was first seen.
    """
    rows = dict.fromkeys(names, 0)
    payloads: dict[str, int] = {}

    def decode(source: Source, name: str, chunk: Chunk) -> pa.Table:
        return decoder.decode(source, TABLES[name], chunk())

    def pieces() -> Iterator[Piece]:
        for name in names:
            for source_table in dialects.STREAMED[name]:
                if source_table.table not in export.tables:
                    continue
                for chunk in export.chunks(source_table.table, decoder.raw(source_table)):
                    yield name, partial(decode, source_table, name, chunk)

    for name, parts in groupby(_in_turn(pool, pieces()), key=itemgetter(0)):
        progress(f"reading {name}", list(dialects.STREAMED).index(name) / len(TABLES))
        rows[name] = _write(to, name, (piece for _, piece in parts), payloads)
    return rows, payloads


def _write(to: Path, name: str, pieces: Iterable[pa.Table], payloads: dict[str, int]) -> int:
    """Write a table; returns its rows. Payloads of layer ranges are kept in `payloads`."""
    finish = Nesting if name == "nvtx_ranges" else lambda: _as_it_is
    with SortedWriter(to / f"{name}.parquet", TABLES[name], finish) as writer:
        for piece in pieces:
            if "json" in piece.column_names:
                _collect(payloads, piece)
            writer.add(piece)
    return writer.rows


Piece = tuple[str, Callable[[], pa.Table]]
"""A table, and what reads and decodes some of its rows when called."""


def _silent(_what: str, _share: float | None) -> None:
    return


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def _in_turn(pool: ThreadPoolExecutor, pieces: Iterable[Piece]) -> Iterator[tuple[str, pa.Table]]:
    """Tables' rows in their order, AHEAD pieces of them under way at a time."""
    waiting = iter(pieces)
    under_way = deque((name, pool.submit(work)) for name, work in islice(waiting, AHEAD))
    try:
        while under_way:
            name, future = under_way.popleft()
            piece = future.result()
            under_way += [(name, pool.submit(work)) for name, work in islice(waiting, 1)]
            yield name, piece
    finally:
        for _, future in under_way:
            future.cancel()


def _collect(payloads: dict[str, int], piece: pa.Table) -> None:
    """Keep each payload that layer ranges carry with the time at which it was first seen."""
    json = words(piece["json"])
    first = np.full(len(json.dictionary) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, json.codes, ints(piece["start_ns"]))  # nulls, -1, are the last
    for word, start in zip(json.dictionary, first.tolist(), strict=False):
        payloads[word] = min(start, payloads.get(word, start))
