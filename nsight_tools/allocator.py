"""How Arrow is loaded: with memory from the system's allocator, and in a process of ours without pandas.

Its own allocators keep what was freed for later, some 60 MB in an import. Arrow chooses once, when it is loaded, by an
environment variable, which is put back: programs that are started from here choose for themselves.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_CHOICE = "ARROW_DEFAULT_MEMORY_POOL"

_before = os.environ.get(_CHOICE)
os.environ.setdefault(_CHOICE, "system")
import pyarrow as pa  # noqa: E402 (it is loaded under that choice)

pa.default_memory_pool()
if _before is None:
    del os.environ[_CHOICE]


class _Hidden:
    """A finder of modules that finds no pandas."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
        return None


@cache
def without_pandas() -> None:
    """Have Arrow do without pandas, which it loads with the first list that it converts, for a quarter of a second.

    It asks once whether there is any. Where it is to make a frame it asks again, and finds pandas.
    """
    sys.meta_path.insert(0, _Hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_Hidden)
