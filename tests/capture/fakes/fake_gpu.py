"""A GPU that is only a clock: work takes time, in order on each stream; every call on it is written down.

The journal is a list of [call, thread, detail]; it is written to $FAKE_JOURNAL when the process ends. With $FAKE_CLOCK
the program's clock is made, too: it passes while the GPU is waited for, and by a microsecond each time it is read. So
nothing that a program of one thread measures depends on the machine.
"""

import atexit
import json
import os
import threading
import time
from pathlib import Path

COPY_NS_PER_BYTE = 1
SMALLEST_COPY_NS = 2000
JOURNAL = []
MEMORY_BYTES = int(os.environ.get("FAKE_GPU_MEMORY", "1000000000"))
allocated = 0
CONTENTS = {}
"""What lies at an address, as bytes of NumPy: what was copied there, or what an enqueue put there."""


def take(size):
    global allocated
    allocated += size


def give(size):
    take(-size)


def note(call, detail=None):
    JOURNAL.append((call, threading.current_thread().name, detail))


class Queue:
    """A stream: `until` is when its last work ends."""

    def __init__(self, name):
        self.name, self.until, self.capturing = name, 0, None

    def work(self, nanoseconds):
        if self.capturing is not None:
            self.capturing.append(nanoseconds)
            return
        self.until = max(self.until, time.perf_counter_ns()) + int(nanoseconds)

    def now(self):
        return max(self.until, time.perf_counter_ns())


DEFAULT = Queue("default")
QUEUES = {0: DEFAULT}


def copy_ns(size):
    return max(size * COPY_NS_PER_BYTE, SMALLEST_COPY_NS)


class Clock:
    """A made clock of the whole process, which begins at the real one's time."""

    def __init__(self):
        self.now_ns = time.perf_counter_ns()
        time.perf_counter_ns, time.perf_counter = self.read, lambda: self.read() / 1e9

    def read(self):
        self.now_ns += 1000
        return self.now_ns

    def sleep_until(self, moment):
        self.now_ns = max(self.now_ns, moment)


def _sleep_until(moment):
    time.sleep(max(moment - time.perf_counter_ns(), 0) / 1e9)


sleep_until = Clock().sleep_until if os.environ.get("FAKE_CLOCK") else _sleep_until


def begun():
    """Makes the file $FAKE_BEGUN: who waits for it knows that work which takes long is under way."""
    if os.environ.get("FAKE_BEGUN"):
        Path(os.environ["FAKE_BEGUN"]).touch()


@atexit.register
def _write():
    if os.environ.get("FAKE_JOURNAL"):
        Path(os.environ["FAKE_JOURNAL"]).write_text(json.dumps(JOURNAL), "utf-8")
