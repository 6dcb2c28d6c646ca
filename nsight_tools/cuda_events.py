"""CUDA events on a stream that a program hands over, through the driver's library that the program has loaded already.

That library is the one beneath PyCUDA, cuda-bindings, PyTorch and CuPy: a stream of any of them is a stream of it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

LIBRARY = "libcuda.so.1"
_NOT_READY = 600
_NS_PER_MS = 1e6
_HANDLES = ("cuda_stream", "handle", "ptr")
"""What PyTorch, PyCUDA (and cuda.core), and CuPy call the stream's own number."""
AHEAD = 8
"""Events that are made before an inference begins: for three phases and the whole."""
_POINTER = ctypes.c_void_p
_ARGUMENTS = {
    "cuCtxGetCurrent": (_POINTER,),
    "cuCtxPushCurrent_v2": (_POINTER,),
    "cuEventCreate": (_POINTER, ctypes.c_uint),
    "cuEventRecord": (_POINTER, _POINTER),
    "cuStreamQuery": (_POINTER,),
    "cuEventSynchronize": (_POINTER,),
    "cuEventElapsedTime": (_POINTER, _POINTER, _POINTER),
}


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


class _Free(threading.local):
    def __init__(self) -> None:
        self.events: list[int] = []


class Events:
    """Events of one process. Each is the driver's number; the time between two is read later."""

    def __init__(self, library: Any) -> None:
        self._cuda, self._context = library, ctypes.c_void_p()
        self._free = _Free()  # a thread's context is its own, and an event is of a context
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments  # with them a call takes half as long

    @classmethod
    def of_process(cls) -> Events:
        """Those of the library that this process has loaded. Raises NoEventsError where it has loaded none."""
        try:
            return cls(ctypes.CDLL(LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_LAZY))
        except OSError as error:
            raise NoEventsError("the program has not loaded CUDA") from error

    def prepare(self) -> None:
        """Make events that are then only to be recorded. Raises NoEventsError where the driver refuses."""
        if not self._context:
            self._asked("cuCtxGetCurrent", ctypes.byref(self._context))
        while len(self._free.events) < AHEAD:
            event = ctypes.c_void_p()
            self._asked("cuEventCreate", ctypes.byref(event), 0)
            self._free.events.append(event.value or 0)

    def record(self, stream: int) -> int:
        """Record an event on a stream, with an H200 in 1.3 to 3.5 µs. Raises NoEventsError where the driver refuses."""
        if not self._free.events:
            self.prepare()
        event = self._free.events.pop()
        self._asked("cuEventRecord", event, stream)
        return event

    def busy(self, stream: int) -> bool:
        """Whether the stream has work that is not done."""
        return bool(self._cuda.cuStreamQuery(stream) == _NOT_READY)

    def between(self, first: int, second: int) -> int | None:
        """Nanoseconds from one event to another, and None where the driver does not say; waits for the second."""
        took = ctypes.c_float()
        if self._cuda.cuEventSynchronize(second):
            return None
        code = self._cuda.cuEventElapsedTime(ctypes.byref(took), first, second)
        return None if code else round(took.value * _NS_PER_MS)

    def enter(self) -> None:
        """Make the context of the events this thread's, so that their times can be read."""
        if self._context:
            self._cuda.cuCtxPushCurrent_v2(self._context)

    def _asked(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._cuda, name)(*arguments):
            raise NoEventsError(f"{name} failed with CUDA's error {code}")
