"""Writing under another name, and putting it in place when it is whole: whoever looks finds the old or the new one.

What is not whole ends in `.partial`, and is locked for as long as the process lives that writes it. One that is not
locked was left by a process that was killed, and goes when its target is written the next time.

Beside that, what tells a file from others: its content.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL = ".partial"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux 3.15 and later, on most file systems


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """A new folder `<target>.….partial` beside `target`, gone at the end; those that were left go first.

    Raises OSError where none can be made.
    """
    remove_left(target)
    lock = None
    while lock is None:  # somebody who looks between the two lines takes it for one that was left
        folder = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=PARTIAL, dir=target.parent))
        lock = held(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def scratch() -> contextlib.AbstractContextManager[Path]:
    """A new folder for what one run of an engine leaves, gone at the end."""
    return partial_folder(Path(tempfile.gettempdir()) / "nsight-tools-engine")


def blocks(path: Path) -> Iterator[bytes]:
    """The content of a file, piece by piece. Raises OSError."""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def described(path: Path) -> dict[str, Any]:
    """What tells a file from others: its name, its size, and its content's SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return {"name": path.name, "sha256": digest.hexdigest(), "size_bytes": path.stat().st_size}


def held(path: Path) -> int | None:
    """A descriptor that holds `path` for this process; None where another one does, or where it is gone.

    Where the file system knows no locks, everything can be held.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def remove_left(target: Path) -> None:
    """Remove what killed processes left of `target`: `<target>.….partial`, files or folders that nobody holds."""
    left = re.compile(rf"{re.escape(target.name)}\.[^.]+(\{PARTIAL}\.old)?\{PARTIAL}")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if left.fullmatch(path.name):
                remove_unless_held(path)


def remove_unless_held(path: Path) -> bool:
    """Remove a partial, if nobody holds it; returns whether it is gone."""
    lock = held(path)
    if lock is not None or path.is_symlink():
        _remove(path)
    if lock is not None:
        os.close(lock)
    return not os.path.lexists(path)


def _remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def write(path: Path, content: str | bytes) -> None:
    """Make `path` a file of this content; text is UTF-8. Whoever looks finds the old one or the new one, whole.

    Raises OSError where it cannot be written.
    """
    remove_left(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(new: Path, target: Path) -> None:
    """Make `new` the folder `target`, and remove what was there. Both must be on one file system.

    Where the system can exchange two names, there is no moment without `target`; elsewhere it is gone between two
    renames, and comes back if the second one fails. Raises OSError where nothing could be renamed.
    """
    if not os.path.lexists(target):
        new.rename(target)
        return
    if _exchanged(new, target):
        _remove(new)
        return
    old = new.with_name(f"{new.name}.old{PARTIAL}")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            old.rename(target)
        raise
    _remove(old)


def _exchanged(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError, AttributeError):  # no such function in this C library
        rename = ctypes.CDLL(None).renameat2
        return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
    return False
