"""CUDA events on a stream that a program hands over, through the driver's library that the program has loaded already.

That library is the one beneath PyCUDA, cuda-bindings, PyTorch and CuPy: a stream of any of them is a stream of it.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBRARY = "libcuda.so.1"
_NOT_READY = 600
_NS_PER_MS = 1e6
_HANDLES = ("cuda_stream", "handle", "ptr")
"""What PyTorch, PyCUDA (and cuda.core), and CuPy call the stream's own number."""


class NoEventsError(Exception):
    """No CUDA event can be made or recorded; the message says why."""


def handle_of(stream: object) -> int:
    """The driver's number of a stream: of an integer, or of a stream of PyCUDA, cuda-bindings, PyTorch or CuPy.

    Raises NoEventsError where the object has none.
    """
    told: Any = getattr(stream, "__cuda_stream__", None)
    if told is not None:
        return int((told() if callable(told) else told)[1])
    found: Any = next((getattr(stream, name) for name in _HANDLES if hasattr(stream, name)), stream)
    try:
        return int(found)
    except (TypeError, ValueError) as error:
        raise NoEventsError(f"a stream of type {type(stream).__name__} has no handle") from error


class Events:
    """Events of one process. Each is the driver's number; the time between two is read later."""

    def __init__(self, library: Any) -> None:
        self._cuda = library
        self._context: ctypes.c_void_p | None = None

    @classmethod
    def of_process(cls) -> Events:
        """Those of the library that this process has loaded. Raises NoEventsError where it has loaded none."""
        try:
            return cls(ctypes.CDLL(LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_LAZY))
        except OSError as error:
            raise NoEventsError("the program has not loaded CUDA") from error

    def record(self, stream: int) -> int:
        """Record a new event on a stream. Raises NoEventsError where the driver refuses."""
        if self._context is None:
            context = ctypes.c_void_p()
            self._asked("cuCtxGetCurrent", ctypes.byref(context))
            self._context = context
        event = ctypes.c_void_p()
        self._asked("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        self._asked("cuEventRecord", event, ctypes.c_void_p(stream))
        return event.value or 0

    def busy(self, stream: int) -> bool:
        """Whether the stream has work that is not done."""
        return bool(self._cuda.cuStreamQuery(ctypes.c_void_p(stream)) == _NOT_READY)

    def between(self, first: int, second: int) -> int | None:
        """Nanoseconds from one event to another, and None where the driver does not say; waits for the second."""
        took = ctypes.c_float()
        if self._cuda.cuEventSynchronize(ctypes.c_void_p(second)):
            return None
        code = self._cuda.cuEventElapsedTime(ctypes.byref(took), ctypes.c_void_p(first), ctypes.c_void_p(second))
        return None if code else round(took.value * _NS_PER_MS)

    def enter(self) -> None:
        """Make the context of the events this thread's, so that their times can be read."""
        if self._context:
            self._cuda.cuCtxPushCurrent_v2(self._context)

    def _asked(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._cuda, name)(*arguments):
            raise NoEventsError(f"{name} failed with CUDA's error {code}")
