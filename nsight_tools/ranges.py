"""NVTX ranges for your own program, by which nsight-tools tells its inferences and their phases apart.

    for image in images:
        with nsight_tools.inference() as one:
            with one.phase("h2d"):
                ...

Outside of a profiler they cost less than a microsecond: NVTX's injection library is looked for once, and without it no
range is made. Ranges are per thread: an inference belongs to the thread that entered it. Where the environment asks for
it, they time themselves (`self_timing`).
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from nsight_tools.self_timing import Timed, recorder, under_way

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


def _marked(name: str, payload: int | None) -> AbstractContextManager[Any]:
    """A range with a payload, which is used once; nothing without a profiler."""
    if payload is None:
        return _phase(name)
    nvtx = _nvtx()
    return _NOTHING if nvtx is None else nvtx.annotate(name, domain=DOMAIN, payload=payload)


def _phase(name: str) -> AbstractContextManager[Any]:
    """A range without a payload, which may be used again."""
    if not isinstance(name, str):
        _wrong("phase takes the name of a phase, as 'h2d'", name)
    return _named(name)


@lru_cache(maxsize=64)
def _named(name: str) -> AbstractContextManager[Any]:
    nvtx = _nvtx()
    return _NOTHING if nvtx is None else nvtx.annotate(name, domain=DOMAIN)


def _wrong(what: str, given: object) -> NoReturn:
    from nsight_tools.errors import ArgumentError  # a program that gives what is asked for goes without its import

    raise ArgumentError(what, given)


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
        """A part of the inference by name: h2d, enqueue, d2h, synchronize, or any of your own; as `phase`."""
        return _phase(name)


_OUTSIDE = _Inference(_NOTHING)


def inference(number: int | None = None, *, stream: object | None = None) -> _Inference | Timed:
    """Mark one inference: everything that this thread does and launches within the `with` block.

    `number` becomes the range's payload; by default inferences are counted from 0. `stream` is the CUDA stream that it
    runs on, as its number or as an object of PyCUDA, cuda-bindings, PyTorch or CuPy: a run that times itself then
    records CUDA events on it. The block should wait for the result: what it does not wait for is in no time of it,
    unless it has a stream.

    Raises ArgumentError where `number` is no integer.

    Example:
        >>> import nsight_tools
        >>> with nsight_tools.inference() as one:
        ...     with one.phase("h2d"):
        ...         print("copy")
        copy
    """
    if number is not None and not hasattr(number, "__index__"):
        _wrong("inference takes the number of an inference, or nothing to have them counted", number)
    times = recorder()
    if times is not None and not times.full:
        return Timed(_marked, INFERENCE, next(_numbers) if number is None else number, times, stream)
    if _nvtx() is None:
        return _OUTSIDE
    return _Inference(_marked(INFERENCE, next(_numbers) if number is None else number))


def phase(name: str) -> AbstractContextManager[Any]:
    """Mark a part of the inference under way on this thread; as `inference().phase`.

    Raises ArgumentError where `name` is no text.

    Example:
        >>> import nsight_tools
        >>> with nsight_tools.inference(), nsight_tools.phase("d2h"):
        ...     print("copy back")
        copy back
    """
    timed = under_way()
    return _phase(name) if timed is None else timed.phase(name)
