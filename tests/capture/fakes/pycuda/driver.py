"""PyCUDA's driver module, as far as the runner uses it."""

import threading

import fake_gpu as gpu
import numpy as np


class Error(Exception):
    pass


class MemoryError(Error):  # noqa: A001 (PyCUDA's own name)
    pass


class LogicError(Error):
    pass


class event_flags:
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING = 0, 1, 2


_current = threading.local()


def init():
    pass


def get_driver_version():
    return 13000


class Context:
    def push(self):
        _current.depth = getattr(_current, "depth", 0) + 1

    @staticmethod
    def pop():
        _current.depth -= 1

    @staticmethod
    def synchronize():
        gpu.note("context_synchronize")


def _needs_context():
    if not getattr(_current, "depth", 0):
        raise LogicError("cuCall failed: invalid device context")


class Device:
    def __init__(self, number):
        self.number = number

    @staticmethod
    def count():
        return 1

    def name(self):
        return "Fake GPU"

    def pci_bus_id(self):
        return "0000:18:00.0"

    def compute_capability(self):
        return (9, 0)

    def total_memory(self):
        return gpu.MEMORY_BYTES

    def retain_primary_context(self):
        return Context()


class Stream:
    def __init__(self, flags=0):
        _needs_context()
        self.handle = len(gpu.QUEUES)
        self.queue = gpu.QUEUES[self.handle] = gpu.Queue(f"stream {self.handle}")
        gpu.note("stream_create", flags)

    def synchronize(self):
        gpu.note("stream_synchronize", self.handle)
        gpu.sleep_until(self.queue.until)

    def wait_for_event(self, event):
        gpu.note("stream_wait", self.handle)
        self.queue.until = max(self.queue.until, event.time)


def _queue(stream):
    return gpu.DEFAULT if stream is None else stream.queue


class Event:
    def __init__(self, flags=0):
        _needs_context()
        self.flags, self.time = flags, None
        gpu.note("event_create", flags)

    def record(self, stream=None):
        _needs_context()
        self.time = _queue(stream).now()
        gpu.note("event_record", 0 if stream is None else stream.handle)
        return self

    def synchronize(self):
        gpu.note("event_synchronize", self.flags)
        gpu.sleep_until(self.time)
        return self

    def time_till(self, other):
        gpu.note("event_elapsed")
        return (other.time - self.time) / 1e6


class DeviceAllocation:
    addresses = 0x1000

    def __init__(self, size):
        self._size = size
        self.address = DeviceAllocation.addresses
        DeviceAllocation.addresses += size

    def __int__(self):
        return self.address

    def free(self):
        gpu.give(self._size)
        self._size = 0
        gpu.note("mem_free")

    def __del__(self):
        gpu.give(self._size)


def mem_alloc(size):
    _needs_context()
    gpu.note("mem_alloc", size)
    if gpu.allocated + size > gpu.MEMORY_BYTES:
        raise MemoryError("cuMemAlloc failed: out of memory")
    gpu.take(size)
    return DeviceAllocation(size)


def mem_get_info():
    _needs_context()
    return gpu.MEMORY_BYTES - gpu.allocated, gpu.MEMORY_BYTES


def pagelocked_empty(shape, dtype):
    gpu.note("pagelocked_empty")
    return np.empty(shape, dtype)


def memcpy_htod_async(dest, src, stream=None):
    assert isinstance(dest, int)
    assert src[:64].any(), "zeros are no input"
    gpu.note("h2d", dest)
    gpu.CONTENTS[dest] = src
    _queue(stream).work(gpu.copy_ns(src.nbytes))


def memcpy_dtoh_async(dest, src, stream=None):
    assert isinstance(src, int)
    gpu.note("d2h", src)
    content = gpu.CONTENTS.get(src)
    if content is not None:
        dest[: content.size] = content
    _queue(stream).work(gpu.copy_ns(dest.nbytes))


def start_profiler():
    gpu.note("profiler_start")


def stop_profiler():
    gpu.note("profiler_stop")
