"""Makes this process one in which no extra of nsight-tools is installed; as a program, runs the command line in it."""

from __future__ import annotations

import sys
from typing import Any

from nsight_tools.errors import EXTRAS

ABSENT = {package for packages in EXTRAS.values() for package in packages} | {"dask"}


class Without:
    """A finder of modules that knows none of those that are absent."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in ABSENT else self._finder.find_spec(name, path, target)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

if __name__ == "__main__":
    from nsight_tools.cli import main

    main()
