"""From a report or an export to a dataset: once, whole or not at all, and again only when the report has changed."""

from __future__ import annotations

from nsight_tools import allocator as _allocator  # noqa: F401 (before anything that loads Arrow)
from nsight_tools.importer.cache import cache_folder
from nsight_tools.importer.importing import import_report
from nsight_tools.importer.inputs import LAYERS_SUFFIX, REPORTS
from nsight_tools.importer.manifest import MANIFEST, read_manifest

__all__ = ["LAYERS_SUFFIX", "MANIFEST", "REPORTS", "cache_folder", "import_report", "read_manifest"]
