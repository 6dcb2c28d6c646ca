"""Entry: `PYTHON …/nsight_tools/capture/runner TASK.json`; exit code 0 done, 2 failed, 130 interrupted."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def _run() -> int:
    if __package__:
        main = importlib.import_module(".main", __package__)
    else:  # Python was given the folder: import it as a package by itself
        folder = Path(__file__).resolve().parent
        sys.path[0] = str(folder.parent)
        importlib.import_module(folder.name)
        del sys.path[0]  # what lies beside this package must hide no other module
        main = importlib.import_module(f"{folder.name}.main")
    return int(main.main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(_run())
