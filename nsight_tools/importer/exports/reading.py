"""What every export can do, whatever its kind.

An export is read in chunks of rows, each an independent piece of work that any thread may do. Column types come from
the caller, never from the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.importer.dialects import Listing

CHUNK_ROWS = 1 << 15
INT, FLOAT, STRING = pa.int64(), pa.float64(), pa.string()
EXPORT_AGAIN = "export the report again with 'nsys export --type=sqlite'"


@dataclass(frozen=True)
class Raw:
    """A column to read: the first non-null of `names` in each row, as `type`."""

    names: tuple[str, ...]
    type: pa.DataType


Chunk = Callable[[], pa.Table]
"""Reads some rows of one table, when called."""


class Export(Protocol):
    """An export that can be read."""

    path: Path

    @property
    def tables(self) -> Mapping[str, frozenset[str]]:
        """The export's tables, each with its columns."""

    def rows(self, table: str) -> int:
        """How many rows `table` has at most."""

    def chunks(self, table: str, columns: Mapping[str, Raw]) -> list[Chunk]:
        """The whole of `table` in pieces of at most CHUNK_ROWS rows, in the order in which they stand there.

        Each piece has the columns' keys as names and their types; a column of which no name exists is null.
        """

    def rows_with(self, table: str, columns: Mapping[str, Raw], name: str, value: int) -> pa.Table:
        """The rows of `table` whose column `name` has this value, which are to be few; as `chunks` gives them."""


def raw(listing: Listing) -> dict[str, Raw]:
    """The columns of a listing, as they are to be read."""
    kinds = ((listing.integers, INT), (listing.reals, FLOAT), (listing.texts, STRING))
    return {name: Raw(names, kind) for columns, kind in kinds for name, names in columns.items()}


def read(export: Export, listing: Listing) -> pa.Table:
    """The whole of a short table at once; no rows where the export lacks it."""
    return read_columns(export, listing.table, raw(listing))


def read_columns(export: Export, table: str, columns: Mapping[str, Raw]) -> pa.Table:
    """These columns of a table at once; no rows where the export lacks it."""
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    if table not in export.tables:
        return schema.empty_table()
    return pa.concat_tables([schema.empty_table(), *(chunk() for chunk in export.chunks(table, columns))])


def typed(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """`column` as `wanted`: bytes become text, what is not UTF-8 in them U+FFFD; integers stay exact."""
    if wanted != STRING:
        # Identifiers are unsigned in some exports: the same 64 bits, read as signed.
        return column.cast(wanted, safe=not pa.types.is_uint64(column.type))
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return column.cast(pa.binary()).cast(STRING)
    except pa.ArrowInvalid:
        return pa.chunked_array([_replaced(chunk.cast(pa.binary())) for chunk in column.chunks], STRING)


def _replaced(values: Sequence[pa.Scalar]) -> pa.Array:
    return pa.array([None if (v := value.as_py()) is None else v.decode(errors="replace") for value in values], STRING)
