"""A GPU that is only a clock: work takes time, in order on each stream; every call on it is written down.

The journal is a list of [call, thread, detail]; it is written to $FAKE_JOURNAL when the process ends.
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


def sleep_until(moment):
    time.sleep(max(moment - time.perf_counter_ns(), 0) / 1e9)


@atexit.register
def _write():
    if os.environ.get("FAKE_JOURNAL"):
        Path(os.environ["FAKE_JOURNAL"]).write_text(json.dumps(JOURNAL), "utf-8")
