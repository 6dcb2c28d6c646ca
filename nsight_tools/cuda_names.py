"""What names say: what a call of CUDA's API does for its thread, and which kernels communicate.

The answers stand in the dataset (`api_calls.does`, `kernels.communicates`), so that nobody asks a name again.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class CallKind(IntEnum):
    """What a host thread is inside of, as the accounting tells it apart."""

    OTHER = 0
    LAUNCH = 1
    GRAPH_LAUNCH = 2
    COPY = 3
    SYNC = 4


_VARIANT = r"(_pt[ds][sz])?$"  # the variants for per-thread default streams
_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (word, re.compile(pattern))
    for word, pattern in (
        ("launch", r"cu(da)?(Launch((Cooperative)?Kernel(Ex|ExC|MultiDevice)?)?|LaunchGrid(Async)?)" + _VARIANT),
        ("graph_launch", r"cu(da)?GraphLaunch" + _VARIANT),
        ("wait", r"cu(da)?(Stream|Ctx|Device|Event|Thread)Synchronize" + _VARIANT),
        ("stream_wait", r"cu(da)?StreamWait(Event|Value)"),
        ("callback", r"cu(da)?(LaunchHostFunc|StreamAddCallback|StreamBatchMemOp|WaitExternalSemaphores)"),
        ("record", r"cu(da)?EventRecord"),
        ("query", r"cu(da)?(Stream|Event)Query"),
        ("build_graph", r"cu(da)?Stream(Begin|End|Update)Capture"),
        ("build_graph", r"cu(da)?Graph(Instantiate|Upload|Exec|Destroy|Create|Clone|Add\w*Node|KernelNodeSet)"),
        ("prefetch", r"cu(da)?Mem(Prefetch|Advise)"),
        ("load_module", r"cu(da)?(Module(Load|Get|Unload)|Library(Load|Get|Unload)|Kernel(GetFunction|SetAttr)|Link)"),
        ("allocate_pooled", r"cu(da)?(Malloc|MemAlloc)(FromPool)?Async" + _VARIANT),
        ("free_pooled", r"cu(da)?(Free|MemFree)Async" + _VARIANT),
        ("pin", r"cuda(MallocHost|HostAlloc|HostRegister)|cuMem(AllocHost|HostAlloc|HostRegister)"),
        ("unpin", r"cuda(FreeHost|HostUnregister)|cuMem(FreeHost|HostUnregister)"),
        ("allocate", r"cudaMalloc(3D|3DArray|Array|Managed|MipmappedArray|Pitch)?$"),
        ("allocate", r"cuMem(Alloc(Managed|Pitch)?|Create|Map|SetAccess|AddressReserve)|cu(Mipmapped)?Array3?D?Create"),
        ("free", r"cudaFree(Array|MipmappedArray)?$"),
        ("free", r"cuMem(Free|Release|Unmap|AddressFree)|cu(Mipmapped)?Array\w*Destroy"),
        ("copy", r"cu\w*Memcpy\w*Async"),
        ("blocking_copy", r"(?!cu(da)?Graph)cu\w*Memcpy"),  # cudaGraphAddMemcpyNode copies nothing
        ("set", r"(?!cu(da)?Graph)cu\w*Memset"),
    )
)
WORDS = (*dict.fromkeys(word for word, _ in _NAMES), "other")
"""The vocabulary of `api_calls.does`. A `stream_wait` makes a stream wait, and not the host; `allocate_pooled` and
`free_pooled` are ordered in a stream, and wait for nothing while their pool holds memory."""

MEMORY = frozenset({"allocate", "free", "pin", "unpin", "allocate_pooled", "free_pooled"})
"""What manages memory."""
STALLS = frozenset({"allocate", "free", "pin", "unpin", "load_module", "build_graph"})
"""What is done once, before serving, and stops a thread for long where it is not."""
WAITS = frozenset({"wait", "blocking_copy"})
"""What the host waits in until the GPU has done something."""

_KINDS = {
    "launch": CallKind.LAUNCH,
    "graph_launch": CallKind.GRAPH_LAUNCH,
    "copy": CallKind.COPY,
    "blocking_copy": CallKind.COPY,
    "set": CallKind.COPY,
    "wait": CallKind.SYNC,
}


def does(name: str) -> str:
    """What a call does, by its name without version suffix: one of `WORDS`."""
    return next((word for word, pattern in _NAMES if pattern.match(name)), "other")


def call_kinds(words: Sequence[str]) -> NDArray[np.int8]:
    """`CallKind` of each word of `does`, shape (n,); for a dictionary's words, not for each row."""
    return np.array([_KINDS.get(word, CallKind.OTHER) for word in words], np.int8)


_COMMUNICATES = re.compile(
    r"nccl(Dev)?Kernel|^nccl|nvshmem|msccl|(one|two)_?shot_?all_?reduce|cross_device_reduce|userbuffers|"
    r"(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all)\w*kernel",
    re.IGNORECASE,
)


def communicates(kernel: str) -> bool:
    """Whether a kernel moves data between GPUs, by its name: NCCL's, NVSHMEM's, TensorRT's and others' collectives."""
    return _COMMUNICATES.search(kernel) is not None
