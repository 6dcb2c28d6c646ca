"""Putting a folder in the place of another one, so that whoever looks finds the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux 3.15 and later, on most file systems


def put_in_place(new: Path, target: Path) -> None:
    """Make `new` the folder `target`, and remove what was there. Both must be on one file system.

    Where the system can exchange two names, there is no moment without `target`; elsewhere it is gone between two
    renames, and comes back if the second one fails. Raises OSError where nothing could be renamed.
    """
    if not os.path.lexists(target):
        new.rename(target)
        return
    if _exchanged(new, target):
        shutil.rmtree(new, ignore_errors=True)
        return
    old = new.with_name(f"{new.name}.old.partial")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError, AttributeError):  # no such function in this C library
        rename = ctypes.CDLL(None).renameat2
        return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
    return False
