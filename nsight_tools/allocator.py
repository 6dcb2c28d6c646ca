"""Arrow's memory: from the system's allocator, where Arrow is not loaded yet.

Its own allocators keep what was freed for later, some 60 MB in an import. Arrow chooses once, when it is loaded, by an
environment variable, which is put back: programs that are started from here choose for themselves.
"""

from __future__ import annotations

import os

_CHOICE = "ARROW_DEFAULT_MEMORY_POOL"

_before = os.environ.get(_CHOICE)
os.environ.setdefault(_CHOICE, "system")
import pyarrow as pa  # noqa: E402 (it is loaded under that choice)

pa.default_memory_pool()
if _before is None:
    del os.environ[_CHOICE]
