"""NVTX ranges for your own program, by which nsight-tools tells its inferences and their phases apart.

    for image in images:
        with nsight_tools.inference() as one:
            with one.phase("h2d"):
                ...

Outside of a profiler they cost less than a microsecond: NVTX's injection library is looked for once, and without it no
range is made. Ranges are per thread: an inference belongs to the thread that entered it.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from typing_extensions import Self

DOMAIN = "nsight_tools"
INFERENCE = "inference"

_NOTHING: AbstractContextManager[Any] = nullcontext()
_numbers = count()


@lru_cache(maxsize=1)
def _nvtx() -> Any:
    """The module `nvtx`, where a profiler has put its injection library into this process and it is installed."""
    if not os.environ.get("NVTX_INJECTION64_PATH"):
        return None
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx


class _Inference:
    """An inference under way: a context manager; `phase` marks a part of it."""

    __slots__ = ("_range",)

    def __init__(self, around: AbstractContextManager[Any]) -> None:
        self._range = around

    def __enter__(self) -> Self:
        self._range.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._range.__exit__(None, None, None)

    @staticmethod
    def phase(name: str) -> AbstractContextManager[Any]:
        """A part of the inference by name: h2d, enqueue, d2h, synchronize, or any of your own."""
        return phase(name)


_OUTSIDE = _Inference(_NOTHING)


def inference(number: int | None = None) -> _Inference:
    """Mark one inference: everything that this thread does and launches within the `with` block.

    `number` becomes the range's payload; by default inferences are counted from 0.
    """
    nvtx = _nvtx()
    if nvtx is None:
        return _OUTSIDE
    payload = next(_numbers) if number is None else number
    return _Inference(nvtx.annotate(INFERENCE, domain=DOMAIN, payload=payload))


@lru_cache(maxsize=64)
def phase(name: str) -> AbstractContextManager[Any]:
    """Mark a part of the inference under way on this thread; as `inference().phase`."""
    nvtx = _nvtx()
    return _NOTHING if nvtx is None else nvtx.annotate(name, domain=DOMAIN)
