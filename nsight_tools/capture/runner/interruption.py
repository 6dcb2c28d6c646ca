"""SIGINT and SIGTERM: a measured run stops after the inference under way, everything else ends at once.

Python runs a signal's handler between two bytecodes of its main thread, which may sit in TensorRT's builder for
minutes. So the handler does nothing; the byte that the interpreter's own C handler writes wakes a thread, which
decides.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .outcome import Failure, Result, remove_unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_INTERRUPTED = 130
INTERRUPTED = Failure("interrupted", hint="run it again; what was measured so far is kept")


class Interruption:
    """`requested` turns true at the first signal; the loop looks at it before every inference."""

    def __init__(self, result: Result) -> None:
        self.requested = False
        self._result = result
        self._running = False
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()

    @contextmanager
    def stops_the_loop(self) -> Iterator[None]:
        """Within, the first signal only sets `requested`; a second one ends the process all the same."""
        self._running = True
        try:
            yield
        finally:
            self._running = False

    def _watch(self, reader: int) -> None:
        while os.read(reader, 1):
            if self.requested or not self._running:
                self._end()
            self.requested = True

    def _end(self) -> None:
        remove_unfinished()
        try:
            self._result.write("interrupted", INTERRUPTED)
        finally:
            os._exit(EXIT_INTERRUPTED)
