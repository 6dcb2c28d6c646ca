"""Reading an export column-wise: an SQLite file, or the folder of Parquet files that `--type=parquetdir` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.errors import InputError
from nsight_tools.importer import dialects
from nsight_tools.importer.exports.parquet import ParquetExport
from nsight_tools.importer.exports.sqlite import SqliteExport

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.importer.exports.reading import Export


def open_export(path: Path) -> Export:
    """Open `path`, an SQLite export or a parquetdir folder.

    Raises InputError where it is neither, or holds nothing of Nsight Systems.
    """
    export: Export = ParquetExport(path) if path.is_dir() else SqliteExport(path)
    if not dialects.of_nsight_systems(export.tables):
        raise InputError(path, "holds no table of Nsight Systems", hint="give an export made by 'nsys export'")
    return export
