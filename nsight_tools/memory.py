"""How much memory may be used: told before it is taken where that can be, and a fence around the process else."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.75
"""Of the machine's memory, or the container's: what may be used by default."""
LEAST = 256 << 20
"""Bytes without which nothing runs."""
RESERVED = 1536 << 20
"""Address space that Arrow's allocator reserves at once and does not use: measured with 1.1 GiB."""
STACK = 8 << 20
ALLOW_MORE = "allow more with --max-memory"

_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_limit: int | None = None
_fenced = False


def parsed(text: str) -> int:
    """Bytes of a size as 500M, 8G or 1.5GiB: powers of 1024. Raises ValueError where it is none, or below LEAST."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"'{text}' is no size, as 500M or 8G")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size < LEAST:
        raise ValueError(f"'{text}' is less than {units.size(LEAST)}, without which nothing runs")
    return size


@functools.cache  # asked for at every chunk that is read
def of_machine() -> int:
    """Bytes of memory that this process could use at most: the machine's, or its container's, as it was at first."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            most = min(most, int(Path(name).read_text(encoding="ascii")))
    return most


def limit() -> int:
    """Bytes that may be used."""
    return _limit if _limit is not None else max(LEAST, int(SHARE * of_machine()))


def too_much(size: int) -> str | None:
    """What an error says of so many bytes where they are more than may be used; None where they are not."""
    return (
        f"takes about {units.size(size)} of memory, and {units.size(limit())} may be used" if size > limit() else None
    )


def exceeded() -> NsightToolsError:
    """The error that a MemoryError is for the user."""
    what = f"it takes more memory than the {units.size(limit())} that may be used"
    return NsightToolsError(what, hint=f"{ALLOW_MORE}, or trace for a shorter time")


def asked() -> int | None:
    """The limit that was asked for; None where the default stands."""
    return _limit


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Set `limit`; None is the default."""
    global _limit  # noqa: PLW0603 (of the process, as the fence is)
    before, _limit = _limit, size
    try:
        yield
    finally:
        _limit = before


@contextlib.contextmanager
def fenced() -> Iterator[None]:
    """Have every allocation of this process fail, as MemoryError, that goes far beyond `limit`.

    The kernel counts what could be written (RLIMIT_DATA), used or not, so that the fence stands RESERVED and the stacks
    of threads further out than the limit, from what the process has already. Where it begins, `allocator` is loaded,
    as nothing that uses Arrow is yet, and Arrow has to do without pandas.
    """
    global _fenced  # noqa: PLW0603 (of the process, as the fence is)
    from nsight_tools import allocator  # before anything that loads Arrow

    allocator.without_pandas()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _taken() + limit() + RESERVED + 4 * STACK * (os.cpu_count() or 1)
    _set_fence(min(fence for fence in (wanted, soft, hard) if fence != resource.RLIM_INFINITY), hard)
    before, _fenced = _fenced, True
    try:
        yield
    finally:
        _fenced = before
        _set_fence(soft, hard)


def is_fenced() -> bool:
    """Whether the process is the command line's own: in somebody else's nothing of this is done."""
    return _fenced


def _taken() -> int:
    """Bytes that the kernel counts of this process now."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return sum(int(kilobytes) << 10 for kilobytes in re.findall(r"VmData:\s+(\d+) kB", status))
    return 0


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """No fence, for what is started meanwhile: Nsight Systems takes what it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    _set_fence(hard, hard)
    try:
        yield
    finally:
        _set_fence(soft, hard)


def _set_fence(soft: int, hard: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
