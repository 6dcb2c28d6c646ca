"""API calls that allocate, free, pin or unpin memory."""

from __future__ import annotations

import re

_ARGS = r"(_pt[ds][sz])?"
POOLED = re.compile(
    r"cu(da)?(Malloc|Free|MemAlloc|MemFree)(FromPool)?Async" + _ARGS + "|cudaMallocFromPoolAsync" + _ARGS
)
_ALLOCATES = re.compile(
    r"cuda(Malloc(3D|3DArray|Array|Host|Managed|MipmappedArray|Pitch)?|Free(Array|Host|MipmappedArray)?|HostAlloc|"
    r"Host(Register|Unregister))|"
    r"cuMem(Alloc(Host|Managed|Pitch)?|Free(Host)?|HostAlloc|Host(Register|Unregister)|Create|Release|Map|Unmap|"
    r"SetAccess|Address(Reserve|Free))|cu(Mipmapped)?Array3?D?(Create|Destroy)"
)


def allocates(name: str) -> bool:
    """Whether an API call allocates, frees, pins or unpins memory: directly, or in a stream's order from a pool."""
    return bool(_ALLOCATES.fullmatch(name) or POOLED.fullmatch(name))
